package system_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/pollsse/caddy-poll-sse/internal/judge"
	"github.com/pollsse/caddy-poll-sse/internal/recording"
)

// readRecording reads the first versions of a recorded API, in order.
func readRecording(t *testing.T, name string, most int) (versions [][]byte) {
	t.Helper()
	for text := range recording.Versions(t, name) {
		if versions = append(versions, text); len(versions) == most {
			break
		}
	}
	return versions
}

// replay is an upstream that moves to the next version with each poll, and the
// judge of all clients that follow it.
type replay struct {
	t        *testing.T
	versions [][]byte
	over     chan struct{} // closed when the last version has been served

	mu      sync.Mutex
	next    int // the version of the next poll
	readers []*reader
}

// reader is the place of one client: its document is that of version at, the
// earliest that it can be after what it had before.
type reader struct {
	*follower
	at   int
	last chan struct{} // closed when its document is that of the last version
	done bool
}

func (p *replay) serve(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	text := p.versions[min(p.next, len(p.versions)-1)]
	if p.next < len(p.versions) {
		p.next++
		if p.next == len(p.versions) {
			close(p.over)
		}
	}
	p.mu.Unlock()
	writeJSON(w, r, text)
}

// add makes a client of the replay.
func (p *replay) add(f *follower) *reader {
	r := &reader{follower: f, last: make(chan struct{})}
	p.readers = append(p.readers, r)
	f.check = func(f *follower) error { return p.judge(r) }
	return r
}

// judge compares a client's document with the versions from its place on.
func (p *replay) judge(r *reader) error {
	p.mu.Lock()
	served := p.next
	p.mu.Unlock()
	for i := r.at; i < served; i++ {
		if p.is(r, i) {
			p.mu.Lock()
			r.at = i
			p.mu.Unlock()
			if served == len(p.versions) && !r.done && (i == served-1 || p.is(r, served-1)) {
				r.done = true
				close(r.last)
			}
			return nil
		}
	}
	for i := range r.at {
		if p.is(r, i) {
			return fmt.Errorf("%s went back from version %d to version %d", r.name, r.at, i)
		}
	}
	return fmt.Errorf("%s: document is none of the %d versions served; it was at version %d", r.name, served, r.at)
}

func (p *replay) is(r *reader, i int) bool {
	return len(bytes.TrimSpace(p.versions[i])) > 0 && r.has(p.versions[i])
}

// has reports whether the client's document equals a text.
func (r *reader) has(text []byte) bool {
	if raw, ok := r.page.Doc.(json.RawMessage); ok {
		return judge.SameText(raw, text)
	}
	return judge.Matches(r.page.Doc, text)
}

// slowly reads as a bad connection does: 400 kB in a second at most, in small
// pieces.
type slowly struct{ r io.Reader }

func (s slowly) Read(b []byte) (int, error) {
	n, err := s.r.Read(b[:min(len(b), 4<<10)])
	<-time.After(time.Duration(n) * time.Second / 400_000)
	return n, err
}

// narrow is a client whose socket takes little at a time.
func narrow(t testing.TB, buffer int) *http.Client {
	d := &net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		_ = c.Control(func(fd uintptr) { err = syscall.SetsockoptInt(int(fd), syscall.SOL_SOCKET, syscall.SO_RCVBUF, buffer) })
		return err
	}}
	tr := &http.Transport{DialContext: d.DialContext, DisableCompression: true}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// raced reports whether the race detector watches.
var raced bool

// TestRecordings replays the answers of real APIs, version after version.
func TestRecordings(t *testing.T) {
	for _, name := range []string{"ca-fires", "pge-outages"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			most := 1 << 30
			switch {
			case testing.Short():
				most = 40
			case raced && name == "pge-outages":
				// Documents of a megabyte take the race detector minutes.
				most = 50
			}
			p := &replay{t: t, versions: readRecording(t, name, most), over: make(chan struct{})}
			for len(bytes.TrimSpace(p.versions[len(p.versions)-1])) == 0 {
				p.versions = p.versions[:len(p.versions)-1]
			}
			// The upstream waits until the clients are there.
			first := &replay{t: t, versions: p.versions[:1], over: make(chan struct{})}
			u := newUpstream(t, first.serve)
			s := start(t, site{directives: formats(u.url("/"), "interval 100ms\ntimeout 30s\nretry 100ms")})

			for i, format := range []string{"patch", "merge", "snapshot"} {
				client, base := s.client(wires[i])
				f := newFollower(t, format, client, base+"/"+format)
				f.raw = format == "snapshot" // a tree is never needed, and costs
				p.add(f)
			}
			client, base := s.client(http1)
			again := p.add(newFollower(t, "reconnecting", client, base+"/patch"))
			events := 0
			again.hangUp = func(f *follower) bool {
				events++
				return events%7 == 0
			}
			for _, format := range []string{"patch", "snapshot"} {
				slow := p.add(newFollower(t, "slow "+format, narrow(t, 32<<10), base+"/"+format))
				slow.read = func(r io.Reader) io.Reader { return slowly{r} }
				slow.raw = format == "snapshot"
			}

			p.next = 1
			for _, r := range p.readers {
				r.run()
				r.await("the first version", func() bool { return r.page.Doc != nil })
			}
			begun := time.Now()
			u.set(p.serve)
			select {
			case <-p.over:
			case <-time.After(5 * time.Minute):
				t.Fatalf("the upstream was asked for %d of %d versions only", p.next, len(p.versions))
			}
			// The last version may equal an earlier one: a client that has that
			// one gets no event for it.
			final := p.versions[len(p.versions)-1]
			for _, r := range p.readers {
				r.await("the last version", func() bool { return r.done || r.has(final) })
				r.close()
				if r.err != nil || !r.has(final) {
					t.Errorf("%s: does not end with the last version: %v", r.name, r.err)
				}
				if len(r.broken) > 0 {
					t.Errorf("%s: broken streams: %q", r.name, r.broken)
				}
				t.Logf("%s: %d streams, %d snapshots, %d patches, %d merge patches, %d statuses, bytes of data %v",
					r.name, r.connections, r.snapshots, r.patches, r.merges, len(r.statuses), r.dataBytes)
			}
			document := p.readers[2].dataBytes["snapshot"]
			for _, r := range p.readers[:2] {
				sent := r.dataBytes["snapshot"] + r.dataBytes["patch"] + r.dataBytes["merge"]
				t.Logf("%s: %d versions in %s; %s took %d bytes of events for %d bytes of documents: %.2f %%",
					name, len(p.versions), time.Since(begun).Round(time.Millisecond), r.name, sent, document, 100*float64(sent)/float64(document))
			}
			if slow := p.readers[len(p.readers)-1]; len(p.versions) > 100 && slow.snapshots >= p.readers[2].snapshots {
				t.Errorf("slow: had all %d snapshots, was never moved forward", slow.snapshots)
			}
			if again.connections < 3 {
				t.Errorf("reconnecting: only %d streams", again.connections)
			}
		})
	}
}
