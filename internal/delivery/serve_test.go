package delivery

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pollsse/caddy-poll-sse/internal/feed"
)

// A stream's end is told once, however it was delivered or why it was not, and so is
// each byte that it was sent.
func TestEndIsToldOnce(t *testing.T) {
	for _, test := range []struct {
		name   string
		direct bool                   // as configured
		before func(*httptest.Server) // it starts
		want   Reason
	}{
		{"handler", false, nil, endedClient},
		{"direct", true, nil, endedClient},
		{"exit", true, nil, endedExit},
		{"handler at exit", false, nil, endedExit},
		{"cannot be taken over", true, func(s *httptest.Server) {
			s.Listener = opaque{s.Listener}
			s.Config.ConnContext = func(ctx context.Context, c net.Conn) context.Context {
				return context.WithValue(ctx, connKey{}, c)
			}
		}, endedClient},
	} {
		t.Run(test.name, func(t *testing.T) {
			exit := make(chan struct{})
			stop := sync.OnceFunc(func() { close(exit) })
			srv := NewServer(exit, nil)
			l := feed.New(4, time.Now())
			l.Sent = new(feed.Sent)
			l.Publish(testPublication(0))
			ends := make(chan End, 9)
			told := make(chan bool, 1)
			rendition := make(chan *feed.Rendition, 1)
			s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				joined := l.Join(testKey)
				defer joined.Leave()
				rendition <- joined
				told <- srv.Serve(w, r, Stream{Log: l, Key: testKey, Ended: func(e End) { ends <- e },
					Options: &Options{Direct: test.direct, Retry: time.Second, MaxAge: time.Hour}})
			}))
			s.Config.ConnContext = ConnContext
			if test.before != nil {
				test.before(s)
			}
			s.Start()
			defer s.Close()
			response, err := http.Get(s.URL)
			if err == nil {
				// The first document comes before the connection is taken over,
				// what follows after it.
				l.Publish(testPublication(1))
				lines := bufio.NewScanner(response.Body)
				for lines.Scan() && !strings.Contains(lines.Text(), `"value":1`) && !strings.Contains(lines.Text(), `{"n":1`) {
				}
				if test.want == endedExit {
					stop()
					for lines.Scan() {
					}
				}
				err = lines.Err()
				response.Body.Close()
			}
			e := <-ends
			stop()
			srv.Wait()
			s.Close()
			if direct := <-told; e.Reason != test.want || direct != e.Direct || len(ends) > 0 {
				t.Errorf("ended as %+v and %d times more, direct: %v, error %v", e, len(ends), direct, err)
			}
			if failed := test.before != nil; failed != (e.Err != nil) || !failed && (e.Direct != test.direct || e.Frames < 1 || e.Bytes < 200 || e.Lasted <= 0) {
				t.Errorf("ended as %+v", e)
			}
			if counted := l.Sent.Bytes.Load(); e.Err == nil && counted != e.Bytes {
				t.Errorf("%d bytes are counted, the only stream was sent %d", counted, e.Bytes)
			}
			after := l.Join(testKey)
			defer after.Leave()
			if after == <-rendition {
				t.Error("the rendition is left")
			}
		})
	}
}

// TestHandledSlowReadersRetainLittle: streams that goroutines write count, too.
func TestHandledSlowReadersRetainLittle(t *testing.T) {
	exit := make(chan struct{})
	srv := NewServer(exit, nil)
	srv.writers.retained.mostEach = 0
	l := feed.New(4, time.Now())
	ends, opened := make(chan End, 9), make(chan int, 9)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := strconv.Atoi(r.URL.Query().Get("n"))
		srv.Serve(w, r, Stream{Log: l, Key: testKey, Options: &Options{Retry: time.Second, MaxAge: time.Hour}, Ended: func(e End) {
			ends <- e
			opened <- n
		}})
	}))
	defer s.Close()
	for n := range 3 {
		p := testPublication(n)
		p.Document.Text = fmt.Appendf(nil, `{"n":%d,"pad":"%s"}`, n, strings.Repeat("x", 16<<20)) // more than the system's buffers take
		p.Change.Patch = nil
		l.Publish(p)
		response, err := http.Get(s.URL + "?n=" + strconv.Itoa(n))
		if err != nil {
			t.Fatal(err)
		}
		defer response.Body.Close()
		if _, err := io.ReadFull(response.Body, make([]byte, 64<<10)); err != nil { // has begun the document
			t.Fatal(err)
		}
	}
	// The first is nearer to its end, and the third has the newest.
	if e, n := <-ends, <-opened; e.Reason != endedMemory || n != 1 {
		t.Errorf("stream %d ended as %+v", n, e)
	}
	begun := time.Now()
	close(exit)
	for range 2 {
		if e := <-ends; e.Reason == endedMemory {
			t.Errorf("ended as %+v", e)
		}
	}
	if d := time.Since(begun); d > writeTimeout/2 {
		t.Errorf("the exit took %s", d)
	}
	srv.Wait()
	if rs := srv.writers.retained; rs.size != 0 || len(rs.of) != 0 {
		t.Errorf("%d bytes are still counted", rs.size)
	}
}

// opaque listens for connections that do not show their descriptors.
type opaque struct{ net.Listener }

func (l opaque) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return struct{ net.Conn }{c}, err
}

var testKey = feed.Key{Format: feed.FormatPatch, Heartbeat: 15 * time.Second,
	Names: feed.Names{Snapshot: feed.KindSnapshot, Patch: feed.KindPatch, Merge: feed.KindMerge, Status: feed.KindStatus}}

// testPublication is version n of a document, as a poll would publish it.
func testPublication(n int) feed.Publication {
	text := fmt.Sprintf(`{"n":%d,"pad":"%s"}`, n, strings.Repeat("x", 200))
	p := feed.Publication{State: feed.Live, At: time.Now(), Validated: true}
	p.Document = &feed.Document{ID: feed.Version(nil, []byte(text)), Text: []byte(text)}
	p.Change = feed.Change{ID: p.Document.ID}
	if n > 0 {
		p.Change.Patch = fmt.Appendf(nil, `[{"op":"replace","path":"/n","value":%d}]`, n)
	}
	return p
}
