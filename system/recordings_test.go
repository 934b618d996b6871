package system_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

// readRecording reads the versions of a recorded API, in order.
func readRecording(t *testing.T, name string, most int) [][]byte {
	t.Helper()
	path := filepath.Join("..", "..", "shared", "recordings", name+".tar.zst")
	file, err := os.Open(path)
	if err != nil {
		t.Skipf("needs the recording %s.tar.zst in shared/recordings beside the repository", name)
	}
	defer file.Close()
	z, err := zstd.NewReader(file, zstd.WithDecoderMaxWindow(128<<20), zstd.WithDecoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	var versions [][]byte
	for r := tar.NewReader(z); len(versions) < most; {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%s: %v", path, err)
		}
		if header.Typeflag != tar.TypeReg {
			continue
		}
		text, err := io.ReadAll(r)
		if err != nil {
			t.Fatalf("%s: %s: %v", path, header.Name, err)
		}
		versions = append(versions, text)
	}
	return versions
}

// replay is an upstream that goes one version further with each poll, and the
// judge of everybody who follows it.
type replay struct {
	t        *testing.T
	versions [][]byte
	over     chan struct{} // closed when the last version has been served

	mu      sync.Mutex
	next    int // the version of the next poll
	readers []*reader
}

// reader is where one client stands: its document is that of version at, the
// earliest that it can be after all it has had before.
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

// judge holds a client's document against the versions from where it stood.
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

// has tells whether the client's document is that of a text.
func (r *reader) has(text []byte) bool {
	if raw, ok := r.doc.(json.RawMessage); ok {
		return sameText(raw, text)
	}
	return matches(r.doc, text)
}

// sameText tells whether two JSON texts differ in nothing but white space.
func sameText(a, b []byte) bool {
	inString := false
	for {
		if !inString {
			a, b = skipSpace(a), skipSpace(b)
		}
		if len(a) == 0 || len(b) == 0 {
			return len(a) == len(b)
		}
		n := 1
		if inString && a[0] == '\\' {
			n = 2
		}
		if len(a) < n || len(b) < n || a[0] != b[0] || a[n-1] != b[n-1] {
			return false
		}
		if a[0] == '"' {
			inString = !inString
		}
		a, b = a[n:], b[n:]
	}
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

// raced tells whether the race detector watches.
var raced bool

// TestRecordings replays real APIs, version after version.
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
				most = 100
			}
			p := &replay{t: t, versions: readRecording(t, name, most), over: make(chan struct{})}
			for len(bytes.TrimSpace(p.versions[len(p.versions)-1])) == 0 {
				p.versions = p.versions[:len(p.versions)-1]
			}
			// The upstream waits for the clients to be there.
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
				r.await("the first version", func() bool { return r.doc != nil })
			}
			begun := time.Now()
			u.set(p.serve)
			select {
			case <-p.over:
			case <-time.After(5 * time.Minute):
				t.Fatalf("the upstream was asked for %d of %d versions only", p.next, len(p.versions))
			}
			// The last version may have been there before: whoever stands on
			// an equal one gets no event for it.
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
