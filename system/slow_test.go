package system_test

import (
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

var slowReaders = flag.Int("slow-readers", 0, "how many readers TestSlowReaders adds, one a second")

// TestSlowReaders measures the cost of readers that take only 64 KiB in 30
// seconds of a document of 5 MB in which one counter changes. A reader that has
// begun a block holds it until it has taken it all, and 64 KiB in 30 seconds
// are enough to stay.
func TestSlowReaders(t *testing.T) {
	if *slowReaders == 0 {
		t.Skip("a measurement, of minutes: go test ./system -run SlowReaders -slow-readers 51 -v")
	}
	const size = 5 << 20
	var rows strings.Builder
	for i := 0; rows.Len() < size; i++ {
		fmt.Fprintf(&rows, `,{"id":%d,"text":"a row that does not change"}`, i)
	}
	k := &ticker{}
	u := newUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, `{"counter":%d,"rows":[%s]}`, k.step.Add(1), rows.String()[1:])
	})
	s := start(t, site{noTLS: true, directives: "poll_sse /doc " + u.url("/doc") + " {\n\tinterval 1s\n\ttimeout 30s\n\tcompress off\n\tmax_age 1h\n}"})
	client, base := s.client(http1)
	f := newFollower(t, "quick", client, base+"/doc")
	f.run().await("changes", func() bool { return f.patches > 5 })
	before := s.residentBytes()
	t.Logf("with one quick reader: %d MB", before/1e6)

	var group sync.WaitGroup
	done := make(chan struct{})
	var mu sync.Mutex
	open, ended := 0, 0
	defer func() { close(done); group.Wait() }()
	for n := range *slowReaders {
		c, err := net.Dial("tcp", s.plain)
		if err != nil {
			t.Fatal(err)
		}
		_ = c.(*net.TCPConn).SetReadBuffer(4 << 10)
		if _, err := io.WriteString(c, "GET /doc HTTP/1.1\r\nHost: "+s.plain+"\r\nAccept: text/event-stream\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		open++
		group.Go(func() {
			defer c.Close()
			piece := make([]byte, 96<<10/60)
			for {
				if _, err := io.ReadFull(c, piece); err != nil {
					mu.Lock()
					ended++
					mu.Unlock()
					return
				}
				select {
				case <-done:
					return
				case <-time.After(500 * time.Millisecond):
				}
			}
		})
		<-time.After(time.Second)
		if n%10 == 9 || n == *slowReaders-1 {
			mu.Lock()
			t.Logf("with %d slow readers, %d of whom were ended: %d MB", open, ended, s.residentBytes()/1e6)
			mu.Unlock()
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	t.Logf("the quick reader had %d patches and %d snapshots", f.patches, f.snapshots)
}
