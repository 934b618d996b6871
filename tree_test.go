package pollsse

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/pollsse/caddy-poll-sse/internal/upstream"
)

// legacy is an application behind a tree: what it answers a poll with and a
// client that reaches it through the next handler. Polls carry no User-Agent of a
// client's.
type legacy struct {
	*rig
	logs   *observer.ObservedLogs
	mu     sync.Mutex      // held while it answers
	handed []*http.Request // what the next handler got
	bodies []string        // of those
	answer func(r *http.Request) *http.Response
}

// newLegacy makes a tree in front of an application that answers polls and
// clients with answer; isPoll tells the two apart.
func newLegacy(t *testing.T, h *Handler, answer func(r *http.Request) *http.Response) *legacy {
	t.Helper()
	h.Tree, h.Upstream = true, "http://legacy.test/base/"
	l := &legacy{rig: newRig(t, h), answer: answer}
	core, logs := observer.New(zap.InfoLevel)
	l.logs, l.logger = logs, zap.New(core)
	l.claim.environment = environment{l.up, l.logger, l.claim.generation.number}
	l.up.answer(func(r *http.Request) (*http.Response, error) {
		polled := r.Clone(r.Context())
		polled.URL.Path = strings.TrimPrefix(r.URL.Path, "/base")
		l.mu.Lock()
		defer l.mu.Unlock()
		return answer(polled), nil
	})
	return l
}

// change changes what the application answers from.
func (l *legacy) change(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

// isPoll reports whether a request is a poll, not one of a client's.
func isPoll(r *http.Request) bool {
	return strings.HasPrefix(r.Header.Get("User-Agent"), "caddy-poll-sse")
}

// send serves one request; what the next handler answers carries X-Handed.
func (l *legacy) send(method, target, body string, fields ...string) *httptest.ResponseRecorder {
	l.t.Helper()
	w := httptest.NewRecorder()
	r := request(context.Background(), method, target, fields...)
	if body != "" {
		r.Body, r.ContentLength = io.NopCloser(strings.NewReader(body)), int64(len(body))
	}
	next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
		l.handed = append(l.handed, r)
		got, err := io.ReadAll(r.Body)
		if err != nil {
			l.t.Errorf("the next handler reads the body: %v", err)
		}
		l.bodies = append(l.bodies, string(got))
		l.mu.Lock()
		resp := l.answer(r)
		l.mu.Unlock()
		for name, values := range resp.Header {
			w.Header()[name] = values
		}
		w.Header().Set("X-Handed", "yes")
		w.WriteHeader(resp.StatusCode)
		_, err = io.Copy(w, resp.Body)
		return err
	})
	if err := l.ServeHTTP(w, r, next); err != nil {
		he, ok := err.(caddyhttp.HandlerError)
		if !ok {
			l.t.Errorf("%s %s: not a handler error: %v", method, target, err)
		}
		w.Code = he.StatusCode
	}
	return w
}

// expect sends a GET and checks whether it was handed on, and the body.
func (l *legacy) expect(handed bool, body, target string, fields ...string) *httptest.ResponseRecorder {
	l.t.Helper()
	w := l.send("GET", target, "", fields...)
	if got := w.Header().Get("X-Handed") != ""; got != handed || w.Body.String() != body {
		l.t.Fatalf("GET %s %q: handed on %t with %d %q, want %t with %q", target, fields, got, w.Code, w.Body, handed, body)
	}
	return w
}

// advice returns what the log says to write.
func (l *legacy) advice() []string {
	var all []string
	for _, line := range l.logs.FilterMessage("requests go to the next handler").All() {
		all = append(all, fmt.Sprint(line.ContextMap()["error"]))
	}
	return all
}

// jsonAt answers with JSON that names what was asked for.
func jsonAt(r *http.Request) *http.Response {
	return reply(200, fmt.Sprintf(`{"url":%q}`, r.URL.RequestURI()), "Content-Type", "application/json")
}

func TestTreeIsPolledOnceReadAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newLegacy(t, new(Handler), jsonAt)
		const a, b = `{"url":"/api/a?x=1"}`, `{"url":"/api/b"}`
		l.expect(true, a, "/api/a?x=1")
		l.expect(true, b, "/api/b")
		time.Sleep(29 * time.Second)
		if n := l.up.count(); n != 0 {
			t.Fatalf("%d polls of what was read once", n)
		}
		w := l.expect(false, a, "/api/a?x=1")
		if w.Code != 200 || w.Header().Get("ETag") == "" || w.Header().Get("Cache-Control") != "no-cache" {
			t.Errorf("%d %v", w.Code, w.Header())
		}
		if got := l.up.last().URL.String(); got != "http://legacy.test/base/api/a?x=1" {
			t.Errorf("polls %s", got)
		}
		time.Sleep(2 * time.Second)
		l.expect(true, b, "/api/b") // 31 s after the first: it is the first again
		l.expect(false, a, "/api/a?x=1")
		if w := l.send("HEAD", "/api/a?x=1", ""); w.Header().Get("X-Handed") != "" || w.Code != 200 || w.Header().Get("ETag") == "" {
			t.Errorf("HEAD of a document: %d %v", w.Code, w.Header())
		}
		if w := l.send("HEAD", "/api/c", ""); w.Header().Get("X-Handed") == "" {
			t.Errorf("HEAD of what is no document: %d %v", w.Code, w.Header())
		}
		polls := l.up.count()
		time.Sleep(29 * time.Second)
		if n := l.up.count() - polls; n < 5 || n > 6 {
			t.Errorf("%d polls in 29 s without a reader, want 5 or 6", n)
		}
		time.Sleep(time.Minute)
		polls = l.up.count()
		l.expect(true, a, "/api/a?x=1") // it has ended
		if n := l.up.count(); n != polls {
			t.Errorf("%d polls after linger", n-polls)
		}
		if names := len(l.engine.pool.endpoints); names != 1 {
			t.Errorf("%d names, want the directive's", names)
		}
	})
}

// TestTreeStream: a stream needs no second request, and pages share its document.
func TestTreeStream(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := 1
		l := newLegacy(t, new(Handler), func(*http.Request) *http.Response {
			return reply(200, fmt.Sprintf(`{"n":%d,"filler":"filler filler filler filler filler filler"}`, n), "Content-Type", "application/vnd.legacy+json; charset=utf-8")
		})
		c := l.open("/api/a", "Sec-Fetch-Dest", "empty")
		c.expect(`status {"state":"live"…`, `snapshot {"n":1,…`)
		l.change(func() { n = 2 })
		time.Sleep(5 * time.Second)
		c.expect(`patch [{"op":"replace","path":"/n","value":2}]`)
		w := l.expect(false, `{"n":2,"filler":"filler filler filler filler filler filler"}`, "/api/a")
		if got := w.Header().Get("Content-Type"); got != "application/vnd.legacy+json; charset=utf-8" {
			t.Errorf("Content-Type %q", got)
		}
		again := l.open("/api/a?last_event_id=" + c.parser.lastID)
		again.expect(`status {"state":"live"…`)
		if sources := len(l.engine.pool.entries); sources != 1 {
			t.Errorf("%d sources: last_event_id is part of the key", sources)
		}
	})
}

// TestTreeHandsStraightOn: a request that does not read a document never
// reaches the poller, however often it comes.
func TestTreeHandsStraightOn(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newLegacy(t, &Handler{Except: []string{"/api/export/*"}}, jsonAt)
		for _, fields := range [][]string{
			{"Sec-Fetch-Dest", "document"}, {"Sec-Fetch-Dest", "image"}, {"Range", "bytes=0-1"}, {"If-Range", `"x"`}, {"If-Match", `"x"`},
			{"If-Unmodified-Since", "Thu, 26 Nov 2026 12:00:00 GMT"}, {"X-HTTP-Method-Override", "DELETE"}, {"X-HTTP-Method", "DELETE"}, {"X-Method-Override", "DELETE"},
			{"Connection", "keep-alive, Upgrade", "Upgrade", "websocket"},
		} {
			for range 3 {
				l.expect(true, `{"url":"/api/a"}`, "/api/a", fields...)
			}
		}
		for range 3 {
			l.expect(true, `{"url":"/api/export/a"}`, "/api/export/a")
			l.expect(true, `{"url":"/api/%65xport/a"}`, "/api/%65xport/a")
			l.expect(true, `{"url":"/api/export/a"}`, "/api/export/a", "Accept", "text/event-stream")
			l.send("OPTIONS", "/api/a", "")
		}
		if n := l.up.count(); n != 0 || len(l.engine.pool.entries) != 0 {
			t.Errorf("%d polls, %d sources", n, len(l.engine.pool.entries))
		}
		// None of these counts as the first read of its URL.
		l.expect(true, `{"url":"/api/a"}`, "/api/a")
	})
}

// TestTreeNotADocument: a page gets the upstream's own answer to each request, and
// the upstream gets no other.
func TestTreeNotADocument(t *testing.T) {
	for name, resp := range map[string]func() *http.Response{
		"a page":     func() *http.Response { return reply(200, "<p>", "Content-Type", "text/html") },
		"no type":    func() *http.Response { return reply(200, "{}") },
		"204":        func() *http.Response { return reply(204, "") },
		"404":        func() *http.Response { return reply(404, "{}", "Content-Type", "application/json") },
		"a redirect": func() *http.Response { return reply(302, "", "Location", "/login") },
		"401": func() *http.Response {
			return reply(401, "{}", "Content-Type", "application/json", "WWW-Authenticate", "Basic")
		},
		"403": func() *http.Response { return reply(403, "{}", "Content-Type", "application/json") },
		"a cookie": func() *http.Response {
			return reply(200, "{}", "Content-Type", "application/json", "Set-Cookie", "sid=1")
		},
		"private": func() *http.Response {
			return reply(200, "{}", "Content-Type", "application/json", "Cache-Control", "max-age=1, Private")
		},
		"Vary: *":        func() *http.Response { return reply(200, "{}", "Content-Type", "application/json", "Vary", "*") },
		"its own stream": func() *http.Response { return reply(200, "data: 1\n\n", "Content-Type", "text/event-stream") },
		"huge fields": func() *http.Response {
			return reply(200, "{}", "Content-Type", "application/json", "X-A", strings.Repeat("x", 16<<10))
		},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				l := newLegacy(t, new(Handler), func(*http.Request) *http.Response { return resp() })
				body, _ := io.ReadAll(resp().Body)
				for range 10 {
					if w := l.expect(true, string(body), "/api/a"); w.Code != resp().StatusCode {
						t.Fatalf("%d, want the upstream's %d", w.Code, resp().StatusCode)
					}
					time.Sleep(time.Second)
				}
				if n := l.up.count(); n != 0 {
					t.Errorf("%d polls", n)
				}
				// The operator sees why.
				if rows := l.engine.pool.listTree(""); len(rows) != 1 || rows[0].Path != "/api/a" || rows[0].Reason == "" || rows[0].HandedOn == nil {
					t.Errorf("listed %+v", rows)
				}
			})
		})
	}
}

// TestTreeLooksLikeADocument: if only the poll shows that a URL is no document,
// the client's request has had its own answer.
func TestTreeLooksLikeADocument(t *testing.T) {
	for name, resp := range map[string]func() *http.Response{
		"another type": func() *http.Response { return reply(200, "<p>", "Content-Type", "text/html") },
		"401":          func() *http.Response { return reply(401, "{}", "Content-Type", "application/json") },
		"a redirect":   func() *http.Response { return reply(303, "", "Location", "/login") },
		"a cookie": func() *http.Response {
			return reply(200, "{}", "Content-Type", "application/json", "Set-Cookie", "sid=1")
		},
		"no JSON": func() *http.Response { return reply(200, "{", "Content-Type", "application/json") },
		"a guard": func() *http.Response { return reply(200, ")]}'\n{}", "Content-Type", "application/json") },
		"nothing": func() *http.Response { return reply(200, "", "Content-Type", "application/json") },
		"much": func() *http.Response {
			return reply(200, `"`+strings.Repeat("x", 100)+`"`, "Content-Type", "application/json")
		},
		"much, not begun": func() *http.Response {
			return reply(200, `{}`, "Content-Type", "text/html", "Content-Length", "1000000")
		},
	} {
		t.Run(strings.ReplaceAll(name, " ", "-"), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				l := newLegacy(t, &Handler{Reading: Reading{MaxBody: 100}}, func(r *http.Request) *http.Response {
					if isPoll(r) {
						return resp()
					}
					return jsonAt(r)
				})
				const body = `{"url":"/api/a"}`
				for range 20 {
					l.expect(true, body, "/api/a")
					time.Sleep(time.Second)
				}
				if n := l.up.count(); n != 1 {
					t.Errorf("%d polls in 20 s, want 1", n)
				}
				time.Sleep(41 * time.Second) // a minute after the poll
				l.expect(true, body, "/api/a")
				l.expect(true, body, "/api/a")
				if n := l.up.count(); n != 2 {
					t.Errorf("%d polls in a minute, want 2", n)
				}
			})
		})
	}
}

// TestTreeStreamOfNoDocument: 406 says why, before a byte of a stream, and the
// upstream is not asked again for a minute.
func TestTreeStreamOfNoDocument(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newLegacy(t, new(Handler), func(r *http.Request) *http.Response {
			if strings.HasPrefix(r.URL.Path, "/api/s") {
				return reply(200, "data: 1\n\n", "Content-Type", "text/event-stream")
			}
			return reply(404, "no", "Content-Type", "text/plain")
		})
		for i := range 12 {
			w := l.send("GET", "/api/a", "", "Accept", "text/event-stream")
			var p problem
			if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || w.Code != 406 || w.Header().Get("Content-Type") != "application/problem+json" || p.Status != 406 || p.Reason != "status" || p.Detail == "" {
				t.Fatalf("%d %v %s: %v", w.Code, w.Header(), w.Body, err)
			}
			if n := l.up.count(); n != 1 {
				t.Fatalf("%d polls after %d s", n, 5*i)
			}
			time.Sleep(4900 * time.Millisecond)
		}
		if len(l.handed) != 0 {
			t.Errorf("%d streams were handed on", len(l.handed))
		}
		time.Sleep(2 * time.Second)
		l.send("GET", "/api/a", "", "Accept", "text/event-stream")
		if n := l.up.count(); n != 2 {
			t.Errorf("%d polls after a minute, want 2", n)
		}
		// A stream of the upstream's own is left to the next handler.
		l.expect(true, "data: 1\n\n", "/api/s", "Accept", "text/event-stream")
		l.expect(true, "data: 1\n\n", "/api/s", "Accept", "text/event-stream")
		if n := l.up.count(); n != 3 {
			t.Errorf("%d polls, want 3", n)
		}
	})
}

// TestTreeColdStream: a stream that is open when its URL turns out to be no
// document ends, and its client returns to the 406.
func TestTreeColdStream(t *testing.T) {
	bubble(t, func(t *testing.T) {
		polls := 0
		l := newLegacy(t, new(Handler), func(*http.Request) *http.Response {
			if polls++; polls == 1 {
				return reply(500, "")
			}
			return reply(200, "<p>", "Content-Type", "text/html")
		})
		c := l.open("/api/a")
		c.expect(`status {"state":"waiting",…"reason":"status"}`)
		time.Sleep(time.Minute)
		c.expect(`status {"state":"denied",…"reason":"not_json"}`)
		if !c.ended() || l.up.count() != 2 {
			t.Errorf("ended %t, %d polls", c.ended(), l.up.count())
		}
		if w := l.send("GET", "/api/a", "", "Accept", "text/event-stream"); w.Code != 406 {
			t.Errorf("%d, want 406", w.Code)
		}
	})
}

// TestTreeUpstreamFails: until there is a document, the next handler answers if
// the upstream is down. From then on the document stays.
func TestTreeUpstreamFails(t *testing.T) {
	bubble(t, func(t *testing.T) {
		status, kind := 503, "application/json"
		l := newLegacy(t, new(Handler), func(r *http.Request) *http.Response {
			if isPoll(r) && status != 200 {
				return reply(status, "poll", "Content-Type", kind)
			}
			return reply(200, `{"n":1}`, "Content-Type", kind)
		})
		for range 5 {
			l.expect(true, `{"n":1}`, "/api/a")
			time.Sleep(time.Second)
		}
		if n := l.up.count(); n != 1 {
			t.Errorf("%d polls, want 1", n)
		}
		time.Sleep(10 * time.Second) // a failure is no reason to wait for a minute
		l.change(func() { status = 200 })
		l.expect(false, `{"n":1}`, "/api/a")
		c := l.open("/api/a")
		c.expect(`status {"state":"live"…`, `snapshot {"n":1}`)
		for _, s := range []int{500, 429, 302, 400} {
			l.change(func() { status = s })
			time.Sleep(2 * time.Minute)
			w := l.expect(false, `{"n":1}`, "/api/a")
			if got := w.Header().Get("Cache-Status"); !strings.Contains(got, "detail=") {
				t.Errorf("%d: Cache-Status %q is not stale", s, got)
			}
		}
		for _, s := range []int{404, 410, 409, 401, 403} {
			l.change(func() { status = s })
			time.Sleep(2 * time.Minute)
			l.expect(true, `{"n":1}`, "/api/a") // what the client gets by itself
		}
		l.change(func() { status = 200 })
		time.Sleep(2 * time.Minute)
		l.expect(false, `{"n":1}`, "/api/a")
		events := c.next()
		if len(events) == 0 || c.ended() || !strings.Contains(events[len(events)-1].data, "live") {
			t.Errorf("the stream had %v, ended %t", events, c.ended())
		}
	})
}

func TestTreeAuthorization(t *testing.T) {
	users := func(r *http.Request) *http.Response {
		user := r.Header.Get("Authorization")
		if user == "" {
			return reply(401, "who?", "WWW-Authenticate", "Bearer")
		}
		return reply(200, fmt.Sprintf(`{"of":%q}`, user), "Content-Type", "application/json", "Cache-Control", "private")
	}
	t.Run("not-forwarded", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			l := newLegacy(t, new(Handler), users)
			for range 5 {
				l.expect(true, `{"of":"Bearer one"}`, "/api/a", "Authorization", "Bearer one")
				l.expect(true, `{"of":"Bearer two"}`, "/api/a", "Authorization", "Bearer two")
				l.expect(true, "who?", "/api/a")
			}
			if w := l.send("GET", "/api/a", "", "Authorization", "Bearer one", "Accept", "text/event-stream"); w.Code != 406 || !strings.Contains(w.Body.String(), `"not_forwarded"`) {
				t.Errorf("a stream: %d %s", w.Code, w.Body)
			}
			if n := l.up.count(); n != 0 {
				t.Errorf("%d polls", n)
			}
			if got := l.advice(); len(got) != 2 || !strings.Contains(got[0], "write forward Authorization") || !strings.Contains(got[1], "401 Unauthorized; write forward") {
				t.Errorf("the log says %q", got)
			}
		})
	})
	t.Run("forwarded", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			l := newLegacy(t, &Handler{Request: Request{Forward: []string{"Authorization"}}}, users)
			for _, user := range []string{"Bearer one", "Bearer two"} {
				l.expect(true, fmt.Sprintf(`{"of":%q}`, user), "/api/a", "Authorization", user)
			}
			for _, user := range []string{"Bearer one", "Bearer two", "Bearer one"} {
				w := l.expect(false, fmt.Sprintf(`{"of":%q}`, user), "/api/a", "Authorization", user)
				if got := w.Header().Get("Cache-Control"); got != "private, no-cache" {
					t.Errorf("Cache-Control %q", got)
				}
			}
			for range 3 {
				w := l.expect(true, "who?", "/api/a")
				if w.Code != 401 || w.Header().Get("WWW-Authenticate") != "Bearer" {
					t.Errorf("without a login: %d %v", w.Code, w.Header())
				}
			}
			if w := l.send("GET", "/api/a", "", "Accept", "text/event-stream"); w.Code != 401 {
				t.Errorf("a stream without a login: %d, want 401", w.Code)
			}
			if got := l.advice(); len(got) != 0 {
				t.Errorf("the log says %q", got)
			}
		})
	})
	t.Run("the-configurations", func(t *testing.T) {
		bubble(t, func(t *testing.T) {
			l := newLegacy(t, &Handler{Request: Request{BasicAuth: &upstream.BasicAuth{Username: "u", Password: "p"}}}, func(*http.Request) *http.Response {
				return reply(200, "{}", "Content-Type", "application/json")
			})
			l.expect(true, "{}", "/api/a", "Authorization", "Basic of-the-site")
			l.expect(false, "{}", "/api/a", "Authorization", "Basic of-the-site")
		})
	})
}

// TestTreeAdvice: the log says what to write, once.
func TestTreeAdvice(t *testing.T) {
	for want, fields := range map[string][]string{
		"the answer sets a cookie; write forward cookie:sid if":   {"Set-Cookie", "sid=secret; Path=/"},
		"the answer is private; write forward":                    {"Cache-Control", "private"},
		"answers depend on Cookie; write forward cookie:<name>":   {"Vary", "Cookie"},
		"answers depend on Accept-Language; write forward Accept": {"Vary", "accept, accept-language"},
		"answers depend on more than the request (Vary: *)":       {"Vary", "*"},
	} {
		bubble(t, func(t *testing.T) {
			l := newLegacy(t, new(Handler), func(*http.Request) *http.Response {
				return reply(200, "{}", append(fields, "Content-Type", "application/json")...)
			})
			for i := range 5 {
				l.expect(true, "{}", fmt.Sprintf("/api/%d", i%2), "Cookie", "sid=secret", "Accept-Language", "de")
			}
			if got := l.advice(); len(got) != 1 || !strings.HasPrefix(got[0], want) || strings.Contains(got[0], "secret") || l.up.count() != 0 {
				t.Errorf("the log says %q, want %q; %d polls", got, want, l.up.count())
			}
		})
	}
}

// TestTreeVary: a client that sends a field on which the answer depends gets its
// own answer; one that does not send it gets the document, which was asked for
// without it, too.
func TestTreeVary(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newLegacy(t, &Handler{Request: Request{Forward: []string{"cookie:sid", "X-Tenant"}}}, func(r *http.Request) *http.Response {
			return reply(200, fmt.Sprintf("%q", r.Header.Get("Origin")+r.Header.Get("X-Tenant")), "Content-Type", "application/json", "Vary", "accept, accept-encoding, origin, cookie", "Vary", "x-tenant")
		})
		for range 3 {
			l.expect(true, `"https://evil.example"`, "/api/a", "Origin", "https://evil.example")
		}
		l.expect(true, `""`, "/api/a", "Cookie", "other=1")
		w := l.expect(false, `""`, "/api/a", "Cookie", "other=2") // only the cookie sid counts
		if got := strings.ToLower(strings.Join(w.Header().Values("Vary"), ", ")); !strings.Contains(got, "origin") {
			t.Errorf("Vary %q", got)
		}
		l.expect(true, `"one"`, "/api/a", "X-Tenant", "one")
		l.expect(false, `"one"`, "/api/a", "X-Tenant", "one")
		l.expect(true, `"https://evil.example"`, "/api/a", "Origin", "https://evil.example")
		if w := l.send("GET", "/api/a", "", "Accept", "text/event-stream", "Origin", "https://evil.example"); w.Code != 406 || !strings.Contains(w.Body.String(), `"varies"`) {
			t.Errorf("a stream: %d %s", w.Code, w.Body)
		}
	})
}

// TestTreeFields: unmodified pages read header fields.
func TestTreeFields(t *testing.T) {
	bubble(t, func(t *testing.T) {
		total, changed := "1", false
		l := newLegacy(t, new(Handler), func(r *http.Request) *http.Response {
			if r.Header.Get("If-None-Match") != "" && !changed {
				return reply(304, "", "X-Total-Count", total, "Date", "Thu, 26 Nov 2026 12:00:00 GMT")
			}
			return reply(200, `{"a":1}`, "Content-Type", "application/json; charset=ISO-8859-1", "Link", `</a?p=2>; rel="next"`, "Link", `</a?p=9>; rel="last"`, "X-Total-Count", total,
				"Connection", "close, X-Hop", "X-Hop", "1", "Keep-Alive", "1", "ETag", `"u"`, "Last-Modified", "Thu, 26 Nov 2026 12:00:00 GMT", "Cache-Control", "max-age=60", "Expires", "0", "Age", "3",
				"Content-MD5", "x", "Accept-Ranges", "bytes", "Server", "legacy", "X-Content-Type-Options", "nosniff")
		})
		read := func() http.Header { return l.expect(false, `{"a":1}`, "/api/a").Header() }
		l.answer = func(*http.Request) *http.Response { return reply(200, `{"a":1}`, "Content-Type", "application/json") }
		l.expect(true, `{"a":1}`, "/api/a")
		h := read()
		for name, want := range map[string]string{"Link": `</a?p=2>; rel="next", </a?p=9>; rel="last"`, "X-Total-Count": "1", "Content-Type": "application/json", "Server": "legacy", "X-Content-Type-Options": "nosniff"} {
			if got := strings.Join(h.Values(name), ", "); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		for _, name := range []string{"Connection", "X-Hop", "Keep-Alive", "Last-Modified", "Expires", "Content-Md5", "Accept-Ranges", "Set-Cookie"} {
			if got := h.Values(name); len(got) > 0 {
				t.Errorf("%s: %q was kept", name, got)
			}
		}
		if h.Get("ETag") == `"u"` || h.Get("Cache-Control") != "no-cache" || h.Get("Age") != "0" {
			t.Errorf("validators or caching were kept: %v", h)
		}
		l.change(func() { total = "2" }) // only a field changes, with a 304
		time.Sleep(61 * time.Second)
		l.expect(true, `{"a":1}`, "/api/a")
		h = read()
		time.Sleep(time.Minute + time.Second)
		l.change(func() { total = "3" })
		for range 20 {
			time.Sleep(5 * time.Second)
			h = l.send("GET", "/api/a", "").Header()
		}
		if h.Get("X-Total-Count") != "3" || h.Get("Link") == "" || l.up.last().Header.Get("If-None-Match") != `"u"` {
			t.Errorf("after a 304: %v", h)
		}
	})
}

// TestTreeWrites: a write polls what its client reads, and nothing of anybody
// else's.
func TestTreeWrites(t *testing.T) {
	bubble(t, func(t *testing.T) {
		status := 200
		l := newLegacy(t, &Handler{Request: Request{Forward: []string{"cookie:sid"}}, Except: []string{"/api/x"}, Schedule: Schedule{Interval: caddy.Duration(time.Hour)}}, func(r *http.Request) *http.Response {
			if r.Method != "GET" {
				return reply(status, "")
			}
			return reply(200, fmt.Sprintf(`{"of":%q}`, r.URL.Path), "Content-Type", "application/json")
		})
		read := func(path, sid string) {
			for range 2 {
				l.send("GET", path, "", "Cookie", "sid="+sid)
			}
		}
		read("/api/a", "one")
		read("/api/b", "one")
		read("/api/a", "two")
		l.open("/api/c", "Cookie", "sid=one")
		synctest.Wait()
		polled := func(want ...string) {
			t.Helper()
			time.Sleep(2 * time.Second)
			l.up.mu.Lock()
			defer l.up.mu.Unlock()
			var got []string
			for _, r := range l.up.requests {
				got = append(got, r.URL.Path+" "+r.Header.Get("Cookie"))
			}
			slices.Sort(got)
			if !slices.Equal(got, want) {
				t.Errorf("polled %q, want %q", got, want)
			}
			l.up.requests = nil
		}
		polled("/base/api/a sid=one", "/base/api/a sid=two", "/base/api/b sid=one", "/base/api/c sid=one")
		l.send("DELETE", "/api/b/7", "", "Cookie", "sid=one")
		polled("/base/api/a sid=one", "/base/api/b sid=one", "/base/api/c sid=one")
		l.send("POST", "/api/a", "x", "Cookie", "sid=two")
		polled("/base/api/a sid=two")
		l.send("POST", "/api/a", "x", "Cookie", "sid=two", "client", "192.0.2.9") // another address with his cookie
		l.send("POST", "/api/x", "x", "Cookie", "sid=one")                        // excepted
		l.send("POST", "/api/../a", "x", "Cookie", "sid=one")
		l.change(func() { status = 500 })
		l.send("PUT", "/api/a", "x", "Cookie", "sid=one")
		polled()
	})
}

// TestTreePaths: a path that servers may read in another way is nobody's document.
func TestTreePaths(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newLegacy(t, new(Handler), jsonAt)
		send := func(target string) bool {
			t.Helper()
			u, err := url.ParseRequestURI(target)
			if err != nil {
				return true // net/http answers 400
			}
			handed := false
			for range 3 {
				w := httptest.NewRecorder()
				r := request(context.Background(), "GET", "/")
				r.URL = u
				err := l.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
					handed = true
					w.Header().Set("Content-Type", "application/json")
					_, err := w.Write([]byte("{}"))
					return err
				}))
				if err != nil {
					t.Errorf("%s: %v", target, err)
				}
			}
			return handed && l.up.count() == 0
		}
		for _, target := range []string{
			"/api/..", "/api/../admin", "/api/./a", "/api/.", "/api/%2e%2e/admin", "/api/%2E%2e%2fadmin", "/api/..%2fadmin", "/api/..%5cadmin", `/api/..\admin`, "/api/a%5cb", "/api//admin", "//api/a",
			"/api/..;/admin", "/api/..;x=1/admin", "/api/%2e%2e%3b/admin", "/api/;/admin", "/api/%00", "/api/a%00.json", "/api/%252e%252e/admin", "/api/%25252e%25252e/admin", "/api/%c0%ae%c0%ae/admin", "/api/%e0%80%ae/a", "/api/%ff",
			"/api/a?x#y", "api/a",
		} {
			if !send(target) {
				t.Errorf("%q reached the poller: %d polls", target, l.up.count())
				l.up.requests = nil
			}
		}
		for target, want := range map[string]string{
			"/api/queues/%2F/a%20b": "http://legacy.test/base/api/queues/%2F/a%20b",
			"/api/queues/%2f":       "http://legacy.test/base/api/queues/%2f",
			"/api/a/":               "http://legacy.test/base/api/a/",
			"/api/a;v=1":            "http://legacy.test/base/api/a;v=1",
			"/api/...":              "http://legacy.test/base/api/...",
			"/api/%C3%A4":           "http://legacy.test/base/api/%C3%A4",
			"/api/100%25":           "http://legacy.test/base/api/100%25",
			"/api/a?":               "http://legacy.test/base/api/a",
			"/api/a?x=%00&y=../..":  "http://legacy.test/base/api/a?x=%00&y=../..",
			"/":                     "http://legacy.test/base/",
		} {
			l.up.requests = nil
			if send(target); l.up.count() != 1 {
				t.Errorf("%q: %d polls", target, l.up.count())
			} else if got := l.up.last().URL.String(); got != want {
				t.Errorf("%q asks for %q, want %q", target, got, want)
			}
		}
	})
}

func TestTreeQuery(t *testing.T) {
	for _, test := range []struct {
		names            []string
		query, want      string
		same, notTheSame string
	}{
		{nil, "b=2&a=1&b=3", "b=2&a=1&b=3", "b=2&a=1&b=3&last_event_id=x", "a=1&b=2&b=3"},
		{[]string{"!_", "!t"}, "b=2&_=17&a=1&t=x&t", "b=2&a=1", "b=2&a=1&%5F=9", "b=2&a=1&T=1"},
		{[]string{"a", "b c"}, "b+c=2&_=1&a=%20", "b+c=2&a=%20", "x=1&b+c=2&a=%20&y", "b%20c=2&a=%20"},
		{[]string{"a"}, "_=1", "", "", "a"},
		{[]string{"!*"}, "rid=1&mwxlf4u7", "", "rid=2&x", "&"},
	} {
		bubble(t, func(t *testing.T) {
			l := newLegacy(t, &Handler{Request: Request{Query: test.names}}, jsonAt)
			l.send("GET", "/api/a?"+test.query, "")
			if w := l.send("GET", "/api/a?"+test.same, ""); w.Header().Get("X-Handed") != "" {
				t.Errorf("%q: %q is another document", test.query, test.same)
			}
			if got := l.up.last().URL.RawQuery; got != test.want {
				t.Errorf("%q: polls with %q, want %q", test.query, got, test.want)
			}
			if w := l.send("GET", "/api/a?"+test.notTheSame, ""); test.notTheSame != "&" && w.Header().Get("X-Handed") == "" {
				t.Errorf("%q: %q is the same document", test.query, test.notTheSame)
			}
		})
	}
}

// TestTreeFieldsThatAreNotForwarded: requests that differ only in fields that
// do not reach the upstream share a document, and none can put anything into
// it.
func TestTreeFieldsThatAreNotForwarded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newLegacy(t, new(Handler), func(r *http.Request) *http.Response {
			if !isPoll(r) {
				return jsonAt(r)
			}
			b, _ := json.Marshal(r.Header)
			return reply(200, string(b), "Content-Type", "application/json")
		})
		l.send("GET", "/api/a", "")
		first := l.send("GET", "/api/a", "", "Cookie", "sid=1", "X-Forwarded-Host", "evil", "X-Original-URL", "/admin", "Host", "evil", "Accept-Language", "de").Body.String()
		for i := range 100 {
			w := l.send("GET", "/api/a", "", "Cookie", fmt.Sprint("sid=", i), "X-Forwarded-Host", fmt.Sprint(i), "User-Agent", fmt.Sprint(i), "client", fmt.Sprintf("192.0.2.%d", i))
			if w.Body.String() != first {
				t.Fatalf("%s, want %s", w.Body, first)
			}
		}
		if l.up.count() != 1 || len(l.engine.pool.entries) != 1 || strings.Contains(first, "evil") || strings.Contains(first, "sid") || strings.Contains(first, "admin") {
			t.Errorf("%d polls, %d sources: %s", l.up.count(), len(l.engine.pool.entries), first)
		}
	})
}

// TestTreeFlood: distinct paths make neither memory nor polls grow beyond the
// limits, from one client or many, and a page that was there goes on.
func TestTreeFlood(t *testing.T) {
	if testing.Short() {
		t.Skip("200,000 requests")
	}
	for _, clients := range []int{1, 1000} {
		t.Run(fmt.Sprint(clients), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				const most = 64
				l := newLegacy(t, &Handler{Limits: Limits{MaxSources: most}, Schedule: Schedule{Interval: caddy.Duration(time.Hour)}}, jsonAt)
				l.send("GET", "/api/page", "")
				l.expect(false, `{"url":"/api/page"}`, "/api/page")
				page := l.open("/api/page")
				page.next()
				for i := range 100_000 {
					client := fmt.Sprintf("198.51.%d.%d", i%clients/250, i%clients%250)
					path := fmt.Sprintf("/api/%d", i)
					l.send("GET", path, "", "client", client)
					if i%10 == 0 {
						l.send("GET", path, "", "client", client)
					}
					if i%100 == 0 {
						l.send("GET", path+"/s", "", "client", client, "Accept", "text/event-stream", "Sec-Fetch-Dest", "image")
					}
				}
				e := l.engine.pool.endpoints[l.Name]
				u := &e.urls
				share := urlsPerSource * most / clientShare
				for client, n := range u.clients {
					if n > share {
						t.Errorf("%s has %d URLs, want at most %d", client, n, share)
					}
				}
				if len(l.engine.pool.entries) > most || len(u.all) > urlsPerSource*most || u.oldest.Len() != len(u.all) || len(u.readers) > most || u.leastRead.Len() != len(u.readers) || len(u.handedOn) > maxHandedOn {
					t.Errorf("%d sources, %d URLs, %d readers, %d reasons", len(l.engine.pool.entries), len(u.all), len(u.readers), len(u.handedOn))
				}
				if own := e.clients[netip.MustParseAddr("198.51.0.0")].sources; clients == 1 && own > most/clientShare {
					t.Errorf("one client has %d sources", own)
				}
				if polls := l.up.count(); polls > 10_000+2 {
					t.Errorf("%d polls for 10,000 URLs that were read again", polls)
				}
				if len(l.engine.pool.endpoints) != 1 {
					t.Errorf("%d names", len(l.engine.pool.endpoints))
				}
				l.handed = nil
				l.expect(false, `{"url":"/api/page"}`, "/api/page", "client", "203.0.113.1")
				if page.ended() {
					t.Error("the page's stream has ended")
				}
			})
		})
	}
}

// TestTreeOverTheLimit: a page never sees a limit of ours; a stream does.
func TestTreeOverTheLimit(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newLegacy(t, &Handler{Limits: Limits{MaxSources: 1}}, jsonAt)
		l.open("/api/a", "client", "192.0.2.5")
		synctest.Wait()
		for range 3 {
			l.expect(true, `{"url":"/api/b"}`, "/api/b")
		}
		w := l.send("GET", "/api/b", "", "Accept", "text/event-stream")
		if w.Code != 200 || !strings.Contains(w.Body.String(), "too_many_documents") {
			t.Errorf("%d %s", w.Code, w.Body)
		}
	})
}

// TestTreeAdmin: the operator sees paths on request, without what may be secret in
// them.
func TestTreeAdmin(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newLegacy(t, &Handler{Request: Request{Forward: []string{"Authorization"}}}, func(r *http.Request) *http.Response {
			if strings.HasSuffix(r.URL.Path, "c") {
				return reply(200, "<p>", "Content-Type", "text/html")
			}
			return jsonAt(r)
		})
		l.open("/api/b?token=secret", "Authorization", "Bearer secret")
		l.send("GET", "/api/"+strings.Repeat("x", 1000)+"c?token=secret", "", "Authorization", "Bearer secret")
		synctest.Wait()
		var rows []treeStatus
		w := httptest.NewRecorder()
		if err := (adminTree{l.engine}).listTree(w, httptest.NewRequest("GET", "/poll_sse/tree", nil)); err != nil {
			t.Fatal(err)
		}
		text := w.Body.Bytes()
		if err := json.Unmarshal(text, &rows); err != nil || len(rows) != 2 || rows[1].Path != "/base/api/b" || rows[1].State != "live" || rows[1].Subscribers != 1 || rows[0].Reason != "not_json" || len(rows[0].Path) > 300 || strings.Contains(string(text), "secret") {
			t.Errorf("listed %s", text)
		}
	})
}

// TestTreeInACluster: nodes do not share what is below a tree, as they do not share
// the header fields that decide who may be given it.
func TestTreeInACluster(t *testing.T) {
	bubble(t, func(t *testing.T) {
		l := newLegacy(t, new(Handler), jsonAt)
		l.claim.cluster = new(clusterConfig) // there is nothing to dial
		l.expect(true, `{"url":"/api/a"}`, "/api/a")
		l.expect(false, `{"url":"/api/a"}`, "/api/a")
		for _, n := range l.engine.pool.entries {
			if _, alone := n.source.origin.(local); !alone {
				t.Errorf("the origin is a %T", n.source.origin)
			}
		}
	})
}
