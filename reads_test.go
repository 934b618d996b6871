package pollsse

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pollsse/caddy-poll-sse/internal/upstream"
)

// rpc answers JSON-RPC as an application does, with the id that it gets.
func rpc(l **legacy, n *int) func(r *http.Request) *http.Response {
	return func(r *http.Request) *http.Response {
		body := ""
		if isPoll(r) {
			b, _ := io.ReadAll(r.Body)
			body = string(b)
		} else {
			body = (*l).bodies[len((*l).bodies)-1]
		}
		id := "0"
		if _, rest, ok := strings.Cut(body, `"id":`); ok {
			id = strings.TrimRight(rest, "}")
		}
		return reply(200, fmt.Sprintf(`{"result":%d,"id":%s}`, *n, id), "Content-Type", "application/json-rpc+json", "X-Session", "s")
	}
}

func TestReads(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var l *legacy
		n := 1
		l = newLegacy(t, &Handler{Request: Request{Reads: &upstream.Reads{Method: "POST", Pointer: "/method", Values: []string{"get"}}, Echo: "/id"}}, nil)
		l.answer = rpc(&l, &n)
		l.up.answer(func(r *http.Request) (*http.Response, error) {
			l.mu.Lock()
			defer l.mu.Unlock()
			return l.answer(r), nil
		})
		post := func(handed bool, body, want string, fields ...string) *httptest.ResponseRecorder {
			t.Helper()
			was := len(l.handed)
			w := l.send("POST", "/rpc", body, append(fields, "Content-Type", "application/json")...)
			if got := w.Header().Get("X-Handed") != ""; got != handed || w.Body.String() != want {
				t.Fatalf("POST %s: handed on %t, %d %s; want %t %s", body, got, w.Code, w.Body, handed, want)
			}
			if handed && (len(l.handed) != was+1 || l.bodies[was] != body) {
				t.Fatalf("the next handler got %q, want %q", l.bodies[was:], body)
			}
			return w
		}
		post(true, `{"method":"get","id":7}`, `{"result":1,"id":7}`)
		w := post(false, `{"method":"get","id":8}`, `{"result":1,"id":8}`)
		if h := w.Header(); h.Get("Content-Type") != "application/json-rpc+json" || h.Get("X-Session") != "s" || h.Get("Cache-Control") != "no-store" || h.Get("ETag") != "" {
			t.Errorf("%v", h)
		}
		post(false, `{"method":"get","id":99999}`, `{"result":1,"id":99999}`)
		post(true, `{"method":"get","id":"a"}`, `{"result":1,"id":"a"}`) // "1" may be another thing to it than 1
		post(false, `{"method":"get","id":"b"}`, `{"result":1,"id":"b"}`)
		post(true, `{"method":"get", "id":7}`, `{"result":1,"id":7}`) // as it is written
		if n := l.up.count(); n != 2 {
			t.Errorf("%d polls, want 2", n)
		}
		if r := l.up.last(); r.Method != "POST" || r.Header.Get("Content-Type") != "application/json" || r.URL.String() != "http://legacy.test/base/rpc" || r.Header.Get("If-None-Match") != "" {
			t.Errorf("polls %s %s %v", r.Method, r.URL, r.Header)
		}
		polls := l.up.count()
		l.change(func() { n = 2 })
		// Neither a read nor a failed read pokes; a write does.
		post(false, `{"method":"get","id":8}`, `{"result":1,"id":8}`)
		if l.up.count() != polls {
			t.Error("a read has the document polled")
		}
		for _, write := range []string{`{"method":"set","id":8}`, `{"method":"get","method":"set","id":8}`, `[{"method":"get","id":8}]`, ``} {
			l.send("POST", "/rpc", write, "Content-Type", "application/json")
			if got := l.bodies[len(l.bodies)-1]; got != write {
				t.Errorf("the next handler got %q, want %q", got, write)
			}
		}
		time.Sleep(time.Second)
		if got := l.up.count() - polls; got == 0 || got > 12 {
			t.Errorf("%d polls after writes", got)
		}
		post(false, `{"method":"get","id":8}`, `{"result":2,"id":8}`)
		// Nobody looks into a form, a navigation or a body with a coding.
		for _, fields := range [][]string{{"Content-Type", "application/x-www-form-urlencoded"}, {"Content-Type", "application/json", "Sec-Fetch-Dest", "document"}, {"Content-Type", "application/json", "Content-Encoding", "gzip"}} {
			if w := l.send("POST", "/rpc", `{"method":"get","id":8}`, fields...); w.Header().Get("X-Handed") == "" {
				t.Errorf("%v: not handed on", fields)
			}
		}
	})
}

// TestReadsLong: a body that is too long reaches the next handler whole. If a
// body breaks off, the next handler sees that failure.
func TestReadsLong(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newLegacy(t, &Handler{Request: Request{Reads: &upstream.Reads{Method: "POST"}}}, jsonAt)
		long := `{"a":"` + strings.Repeat("x", 3*upstream.MaxRead) + `"}`
		for _, length := range []int64{int64(len(long)), -1} {
			r := request(context.Background(), "POST", "/rpc", "Content-Type", "application/json")
			r.Body, r.ContentLength = io.NopCloser(strings.NewReader(long)), length
			err := l.ServeHTTP(httptest.NewRecorder(), r, caddyhttp.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) error {
				got, err := io.ReadAll(r.Body)
				if string(got) != long || err != nil {
					t.Errorf("the next handler got %d bytes, %v; want %d", len(got), err, len(long))
				}
				return nil
			}))
			if err != nil {
				t.Error(err)
			}
		}
		broken := errors.New("broken off")
		r := request(context.Background(), "POST", "/rpc", "Content-Type", "application/json")
		r.Body, r.ContentLength = io.NopCloser(io.MultiReader(strings.NewReader(`{"a"`), failing{broken})), -1
		err := l.ServeHTTP(httptest.NewRecorder(), r, caddyhttp.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) error {
			got, err := io.ReadAll(r.Body)
			if string(got) != `{"a"` || err != broken {
				t.Errorf("the next handler got %q, %v", got, err)
			}
			return nil
		}))
		if err != nil {
			t.Error(err)
		}
	})
}

// TestReadsStream: a stream of what a POST reads, for clients that can ask for it.
func TestReadsStream(t *testing.T) {
	bubble(t, func(t *testing.T) {
		var l *legacy
		n := 1
		l = newLegacy(t, &Handler{Request: Request{Reads: &upstream.Reads{Method: "POST", Pointer: "/method", Values: []string{"get"}}, Echo: "/id"}}, nil)
		l.answer = rpc(&l, &n)
		l.up.answer(func(r *http.Request) (*http.Response, error) {
			l.mu.Lock()
			defer l.mu.Unlock()
			return l.answer(r), nil
		})
		ctx, cancel := context.WithCancel(context.Background())
		c := &client{t: t, w: newPipeWriter(), cancel: cancel, done: make(chan struct{})}
		r := request(ctx, "POST", "/rpc", "Accept", "text/event-stream", "Content-Type", "application/json")
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(`{"method":"get","id":7}`)), 23
		go func() {
			defer close(c.done)
			c.err = l.ServeHTTP(c.w, r, noNext)
		}()
		defer c.close()
		c.expect(`status {"state":"live"…`, `snapshot {"result":1,"id":1}`)
		l.change(func() { n = 2 })
		time.Sleep(5 * time.Second)
		c.expect(`…{"result":2,"id":1}`)
	})
}

// TestReadsWhatASessionHasEnded: Transmission's 409 reaches the page.
func TestReadsWhatASessionHasEnded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		session := "one"
		l := newLegacy(t, &Handler{Request: Request{Forward: []string{"X-Transmission-Session-Id"}, Reads: &upstream.Reads{Method: "POST"}}}, func(r *http.Request) *http.Response {
			if r.Header.Get("X-Transmission-Session-Id") != session {
				return reply(409, "", "X-Transmission-Session-Id", session)
			}
			return reply(200, `{"of":"`+session+`"}`, "Content-Type", "application/json")
		})
		post := func() *httptest.ResponseRecorder {
			return l.send("POST", "/rpc", `{}`, "Content-Type", "json", "X-Transmission-Session-Id", "one")
		}
		post()
		if w := post(); w.Header().Get("X-Handed") != "" || w.Body.String() != `{"of":"one"}` {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		l.change(func() { session = "two" })
		time.Sleep(10 * time.Second)
		if w := post(); w.Code != 409 || w.Header().Get("X-Transmission-Session-Id") != "two" {
			t.Errorf("%d %v, want the upstream's 409", w.Code, w.Header())
		}
	})
}
