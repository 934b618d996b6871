// Package process is for tests that run programs: where they can listen, and
// what they write.
package process

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"
)

// FreePort finds a port of 127.0.0.1 that is free for TCP and UDP.
func FreePort() (int, error) {
	for range 100 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return 0, err
		}
		port := l.Addr().(*net.TCPAddr).Port
		p, err := net.ListenPacket("udp", "127.0.0.1:"+strconv.Itoa(port))
		_ = l.Close()
		if err == nil {
			return port, p.Close()
		}
	}
	return 0, errors.New("no port is free for TCP and UDP")
}

// Transcript keeps what a process writes. The zero value is empty.
type Transcript struct {
	mu   sync.Mutex
	text []byte
	more chan struct{} // closed at the next write; nil if nobody waits
}

// Write implements io.Writer.
func (t *Transcript) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, b...)
	if t.more != nil {
		close(t.more)
		t.more = nil
	}
	return len(b), nil
}

// String returns all of it.
func (t *Transcript) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.text)
}

// Await waits until a text was written. The error says whether ended was closed
// first or the time is over, and what was written at the end.
func (t *Transcript) Await(text string, ended <-chan struct{}, within time.Duration) error {
	for over := time.After(within); ; {
		found, more := t.find(text)
		if found {
			return nil
		}
		select {
		case <-more:
		case <-ended:
			if found, _ := t.find(text); found {
				return nil
			}
			return fmt.Errorf("the process ended before it wrote %q; it wrote:\n%s", text, End(t.String()))
		case <-over:
			return fmt.Errorf("the process did not write %q within %s; it wrote:\n%s", text, within, End(t.String()))
		}
	}
}

func (t *Transcript) find(text string) (found bool, more <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.more == nil {
		t.more = make(chan struct{})
	}
	return bytes.Contains(t.text, []byte(text)), t.more
}

// End returns the last 3,000 bytes of a text.
func End(text string) string {
	if len(text) > 3000 {
		return "…" + text[len(text)-3000:]
	}
	return text
}
