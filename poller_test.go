package pollsse

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"

	"github.com/pollsse/caddy-poll-sse/internal/upstream"
)

func TestPollingStartsWithTheFirstSubscriber(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		r := newRig(t, &Handler{Schedule: Schedule{Interval: caddy.Duration(time.Second), Linger: caddy.Duration(10 * time.Second)}})
		time.Sleep(time.Minute)
		if n := r.up.count(); n != 0 {
			t.Fatalf("%d polls without a subscriber, want none", n)
		}
		c := r.stream()
		c.expect(`status {"state":"live"…`, `snapshot {"n":1}`)
		d := r.stream()
		d.expect(`status {"state":"live"…`, `snapshot {"n":1}`)
		time.Sleep(5*time.Second + 500*time.Millisecond)
		synctest.Wait()
		if n := r.up.count(); n != 6 {
			t.Fatalf("%d polls in 5.5s at an interval of 1s, want 6", n)
		}
		r.up.mu.Lock()
		for i := 1; i < len(r.up.times); i++ {
			if d := r.up.times[i].Sub(r.up.times[i-1]); d != time.Second {
				t.Errorf("poll %d came %s after the one before, want 1s", i, d)
			}
		}
		r.up.mu.Unlock()
	})
}

func TestPollingLingersAfterTheLastSubscriber(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		r := newRig(t, &Handler{Schedule: Schedule{Interval: caddy.Duration(time.Second), Linger: caddy.Duration(5 * time.Second)}})
		c := r.stream()
		time.Sleep(1500 * time.Millisecond)
		c.close()
		time.Sleep(3 * time.Second) // 4.5s: within linger
		d := r.stream()             // the source is the same: no new poll
		if n := r.up.count(); n != 5 {
			t.Fatalf("%d polls at 4.5s, want 5: one each second, none for the newcomer", n)
		}
		d.close()
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := r.up.count(); n != 10 {
			t.Fatalf("%d polls, want 10: the last at 9s, 5s of linger after 4.5s", n)
		}
		if n := poolSize(t); n != 0 {
			t.Fatalf("%d sources after linger, want none", n)
		}
		r.stream().expect(`status {"state":"live"…`, `snapshot …`)
		if n := r.up.count(); n != 11 {
			t.Fatalf("%d polls, want 11: a newcomer after linger is a new start", n)
		}
	})
}

// poolSize is the number of sources.
func poolSize(t *testing.T) int {
	testEngine(t).pool.mu.Lock()
	defer testEngine(t).pool.mu.Unlock()
	return len(testEngine(t).pool.entries)
}

func TestOneRequestInFlight(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		r := newRig(t, &Handler{Schedule: Schedule{Interval: caddy.Duration(100 * time.Millisecond), Timeout: caddy.Duration(10 * time.Second), MaxLoad: 100}})
		r.up.answer(func(*http.Request) (*http.Response, error) {
			time.Sleep(time.Second)
			return reply(200, `[1]`), nil
		})
		for range 5 {
			r.open("/api")
		}
		time.Sleep(3500 * time.Millisecond)
		synctest.Wait()
		if r.up.most != 1 || r.up.count() < 2 || r.up.count() > 4 {
			t.Fatalf("%d polls, %d together; want 2 to 4, each 1s long and one after the other", r.up.count(), r.up.most)
		}
	})
}

func TestConditionalRequests(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		r := newRig(t, &Handler{Schedule: Schedule{Interval: caddy.Duration(time.Second)}})
		r.up.answer(func(q *http.Request) (*http.Response, error) {
			if tag := q.Header.Get("If-None-Match"); tag != "" {
				return reply(304, ""), nil
			}
			return reply(200, `{"a":1}`, "ETag", `W/"x"`, "Last-Modified", "Tue, 01 Jan 2030 00:00:00 GMT"), nil
		})
		c := r.stream()
		c.expect("status …", `snapshot {"a":1}`)
		if q := r.up.last(); q.Header.Get("If-None-Match") != "" || q.Header.Get("If-Modified-Since") != "" {
			t.Fatalf("the first poll is conditional: %v", q.Header)
		}
		time.Sleep(2500 * time.Millisecond)
		c.expect()
		q := r.up.last()
		if q.Header.Get("If-None-Match") != `W/"x"` || q.Header.Get("If-Modified-Since") != "Tue, 01 Jan 2030 00:00:00 GMT" {
			t.Fatalf("the third poll does not carry the validators: %v", q.Header)
		}
		if age := r.get().Header().Get("Age"); age != "0" {
			t.Errorf("Age %s half a second after a 304, want 0: a 304 validates", age)
		}
		// A body that is refused must not leave its validators behind.
		r.up.answer(func(*http.Request) (*http.Response, error) { return reply(200, `<html>`, "ETag", `"bad"`), nil })
		time.Sleep(time.Second)
		c.expect(`status {"state":"stale",…"reason":"not_json"}`)
		r.up.answer(func(q *http.Request) (*http.Response, error) {
			if q.Header.Get("If-None-Match") == `"bad"` {
				return reply(304, ""), nil
			}
			return reply(200, `{"a":2}`), nil
		})
		time.Sleep(5 * time.Second)
		got := c.next()
		if len(got) != 2 || !strings.Contains(got[0].data, `"live"`) {
			t.Fatalf("after recovery: %q, want live and a change", got)
		}
	})
}

// TestValidatorsBelongToTheirURL: if a redirect leads elsewhere than before, it
// is followed without the validators of the old place: entity tags are valid
// only there.
func TestValidatorsBelongToTheirURL(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		r := newRig(t, &Handler{Upstream: "http://upstream.test/current", Schedule: Schedule{Interval: caddy.Duration(time.Second)}})
		release := func(target, body string) {
			r.up.answer(func(q *http.Request) (*http.Response, error) {
				conditional := isConditional(q.Header)
				switch {
				case q.URL.Path == "/current" && target != "/current":
					if conditional {
						return reply(304, ""), nil // an own entity tag, as little as the target's
					}
					return reply(302, "", "Location", target, "ETag", `"1"`), nil
				case conditional:
					return reply(304, ""), nil
				}
				return reply(200, body, "ETag", `"1"`, "Last-Modified", "Tue, 01 Jan 2030 00:00:00 GMT"), nil
			})
		}
		release("/release-a", `"a"`)
		c := r.stream()
		c.expect("status …", `snapshot "a"`)
		time.Sleep(1500 * time.Millisecond)
		c.expect()
		if q := r.up.last(); q.URL.Path != "/release-a" || !isConditional(q.Header) {
			t.Errorf("the poll of the same place ends with %s %v, want a condition on /release-a", q.URL, q.Header)
		}
		release("/release-b", `"b"`)
		time.Sleep(time.Second)
		c.expect(`snapshot "b"`)
		release("/current", `"c"`) // no redirect any more
		time.Sleep(time.Second)
		c.expect(`snapshot "c"`)
		release("/release-a", `"a"`) // /current is asked with its own validators, and confirms
		time.Sleep(time.Second)
		c.expect()
	})
}

// TestSpurious304: an upstream that answers 304 to an unconditional request has
// sent no document.
func TestSpurious304(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		r := newRig(t, &Handler{})
		r.up.answer(func(*http.Request) (*http.Response, error) { return reply(304, ""), nil })
		r.stream().expect(`status {"state":"waiting",…"reason":"status"}`)
	})
}

func zipped(body string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write([]byte(body))
	_ = z.Close()
	return b.String()
}

// zeros is an endless body that counts what is read of it.
type zeros struct {
	read, closed *atomic.Int64
	fill         byte
}

func (z zeros) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = z.fill
	}
	z.read.Add(int64(len(b)))
	return len(b), nil
}

func (z zeros) Close() error { z.closed.Add(1); return nil }

// failures are the ways in which an upstream can fail to return a document.
var failures = []struct {
	name, reason string
	do           func(*http.Request) (*http.Response, error)
}{
	{"HTML with 200", "not_json", answers(200, `<!DOCTYPE html><html>`, "Content-Type", "text/html")},
	{"plain text", "not_json", answers(200, `Service Temporarily Unavailable`)},
	{"two documents", "not_json", answers(200, `{} {}`)},
	{"truncated JSON", "not_json", answers(200, `{"a":[1,2`)},
	{"invalid UTF-8", "not_json", answers(200, "\"\xff\"")},
	{"raw newline in a string", "not_json", answers(200, "\"a\nb\"")},
	{"empty", "empty", answers(200, ``)},
	{"white space", "empty", answers(200, " \n\t")},
	{"204", "empty", answers(204, ``)},
	{"206", "status", answers(206, `{}`)},
	{"201", "status", answers(201, `{}`)},
	{"truncated body", "truncated", func(*http.Request) (*http.Response, error) {
		resp := reply(200, "")
		resp.Body = io.NopCloser(io.MultiReader(strings.NewReader(`{"a":`), errReader{io.ErrUnexpectedEOF}))
		resp.ContentLength = 100
		return resp, nil
	}},
	{"connection broken in the body", "unreachable", func(*http.Request) (*http.Response, error) {
		resp := reply(200, "")
		resp.Body = io.NopCloser(io.MultiReader(strings.NewReader(`{"a":`), errReader{errors.New("connection reset")}))
		return resp, nil
	}},
	{"brotli", "encoding", answers(200, `{}`, "Content-Encoding", "br")},
	{"gzip that is none", "encoding", answers(200, `{"a":1,"b":2}`, "Content-Encoding", "gzip")},
	{"gzip, empty", "empty", answers(200, ``, "Content-Encoding", "gzip")},
	{"gzip of nothing", "empty", answers(200, zipped(""), "Content-Encoding", "gzip")},
	{"gzip, truncated", "truncated", answers(200, zipped(`{"a":"` + strings.Repeat("x", 500) + `"}`)[:20], "Content-Encoding", "gzip")},
	{"gzip without a coding named", "not_json", answers(200, zipped(`{}`))},
	{"gzip bomb", "too_large", answers(200, zipped(`"`+strings.Repeat("x", 1<<20)+`"`), "Content-Encoding", "gzip")},
	{"Content-Length over max_body", "too_large", answers(200, `"`+strings.Repeat("x", 70_000)+`"`)},
	{"401", "unauthorized", answers(401, `{}`)},
	{"403", "forbidden", answers(403, `{}`)},
	{"404", "status", answers(404, `{"error":"no"}`)},
	{"429", "rate_limited", answers(429, `{}`)},
	{"500", "status", answers(500, `{"error":"no"}`)},
	{"redirect to another host", "redirect", answers(302, ``, "Location", "http://other.test/")},
	{"redirect to another port", "redirect", answers(302, ``, "Location", "http://upstream.test:81/")},
	{"redirect to another scheme", "redirect", answers(301, ``, "Location", "https://upstream.test/doc.json")},
	{"redirect to a file", "redirect", answers(302, ``, "Location", "file:///etc/passwd")},
	{"redirect loop", "redirect", answers(307, ``, "Location", "/doc.json")},
	{"redirect without a place", "status", answers(302, ``)},
	{"refused connection", "unreachable", func(*http.Request) (*http.Response, error) {
		return nil, &net.OpError{Op: "dial", Net: "tcp", Err: errors.New("connection refused")}
	}},
	{"bad certificate", "tls", func(*http.Request) (*http.Response, error) {
		return nil, &tls.CertificateVerificationError{Err: x509.UnknownAuthorityError{}}
	}},
	{"no header in time", "timeout", func(q *http.Request) (*http.Response, error) {
		<-q.Context().Done()
		return nil, q.Context().Err()
	}},
	{"no body in time", "timeout", func(q *http.Request) (*http.Response, error) {
		resp := reply(200, "")
		resp.Body = hang{q.Context()}
		return resp, nil
	}},
	{"no gzip body in time", "timeout", func(q *http.Request) (*http.Response, error) {
		resp := reply(200, "", "Content-Encoding", "gzip")
		resp.Body = hang{q.Context()}
		return resp, nil
	}},
}

func isConditional(h http.Header) bool {
	return h.Get("If-None-Match") != "" || h.Get("If-Modified-Since") != ""
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

// TestFailures: whatever the upstream does, streams stay open and the last good
// document stays. The state says why, and when it is good again.
func TestFailures(t *testing.T) {
	for _, test := range failures {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, &Handler{Schedule: Schedule{Interval: caddy.Duration(time.Second), Timeout: caddy.Duration(2 * time.Second)}, Reading: Reading{MaxBody: 64 << 10}})
				r.up.set(`{"n":1,"filler":"0123456789012345678901234567890123456789012345678901234567890123456789"}`)
				c := r.stream()
				c.expect("status …", "snapshot …")
				r.up.answer(test.do)
				time.Sleep(20 * time.Second)
				c.expect(`status {"state":"stale","since":"…","reason":"` + test.reason + `"}`)
				if got := r.get(); got.Code != 200 || !strings.Contains(got.Body.String(), `"n":1`) {
					t.Errorf("GET while stale: %d %q, want the last good document", got.Code, got.Body)
				}
				d := r.stream()
				d.expect(`status {"state":"stale","since":"…","reason":"`+test.reason+`"}`, `snapshot {"n":1,…`)
				r.up.set(`{"n":2,"filler":"0123456789012345678901234567890123456789012345678901234567890123456789"}`)
				time.Sleep(2 * time.Minute)
				for _, c := range []*client{c, d} {
					c.expect(`status {"state":"live","since":"…"}`, `patch [{"op":"replace","path":"/n","value":2}]`)
				}
			})
			// The same with no document at all.
			bubble(t, func(t *testing.T) {
				r := newRig(t, &Handler{Schedule: Schedule{Interval: caddy.Duration(time.Second), Timeout: caddy.Duration(2 * time.Second)}, Reading: Reading{MaxBody: 64 << 10}})
				r.up.answer(test.do)
				c := r.stream()
				time.Sleep(10 * time.Second)
				c.expect(`status {"state":"waiting","since":"…","reason":"` + test.reason + `"}`)
				want := http.StatusBadGateway
				if test.reason == upstream.ReasonTimeout {
					want = http.StatusGatewayTimeout
				}
				if got := r.get(); got.Code != want {
					t.Errorf("GET without a document: %d, want %d", got.Code, want)
				}
				r.up.set(`{"n":2}`)
				time.Sleep(2 * time.Minute)
				c.expect(`status {"state":"live","since":"…"}`, `snapshot {"n":2}`)
			})
		})
	}
}

func TestBodyLimitWhileReading(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		for _, coding := range []string{"", "gzip"} {
			var read, closed atomic.Int64
			r := newRig(t, &Handler{Reading: Reading{MaxBody: 100_000}, Upstream: "http://upstream.test/endless" + coding})
			r.up.answer(func(*http.Request) (*http.Response, error) {
				resp := reply(200, "")
				resp.ContentLength = -1
				resp.Body = zeros{&read, &closed, ' '}
				if coding == "gzip" {
					// Each read returns a whole member that inflates to nothing
					// but white space, for ever.
					resp.Header.Set("Content-Encoding", "gzip")
					resp.Body = io.NopCloser(&repeating{text: zipped(strings.Repeat(" ", 10_000)), read: &read})
				}
				return resp, nil
			})
			c := r.stream()
			c.expect(`status {"state":"waiting",…"reason":"too_large"}`)
			if n := read.Load(); n > 400_000 {
				t.Errorf("coding %q: %d bytes read of an endless body with max_body 100000", coding, n)
			}
			if coding == "" && closed.Load() != 1 {
				t.Errorf("the body was closed %d times, want once", closed.Load())
			}
		}
	})
}

// repeating is text, again and again.
type repeating struct {
	text string
	at   int
	read *atomic.Int64
}

func (r *repeating) Read(b []byte) (int, error) {
	n := copy(b, r.text[r.at:])
	r.at = (r.at + n) % len(r.text)
	r.read.Add(int64(n))
	return n, nil
}

func TestBodyOfExactlyMaxBody(t *testing.T) {
	for _, test := range []struct {
		size int
		want string
	}{{1000, "snapshot …"}, {1001, `status {"state":"waiting",…"too_large"}`}} {
		bubble(t, func(t *testing.T) {
			r := newRig(t, &Handler{Reading: Reading{MaxBody: 1000}})
			body := `"` + strings.Repeat("x", test.size-2) + `"`
			for _, do := range []func(*http.Request) (*http.Response, error){
				answers(200, body), answers(200, zipped(body), "Content-Encoding", "gzip"),
			} {
				r.up.answer(do)
				got := r.stream().next()
				last := got[len(got)-1]
				if line := last.name + " " + last.data; !like(line, test.want) {
					t.Errorf("%d bytes with max_body 1000: %.100q, want %q", test.size, line, test.want)
				}
				testEngine(t).pool.closeAll()
			}
		})
	}
}

func TestGzipAndRedirectsOnTheSameHost(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		r := newRig(t, &Handler{Request: Request{HeaderUp: &headers.HeaderOps{Set: http.Header{"Authorization": {"Bearer key"}}}}})
		r.up.answer(func(q *http.Request) (*http.Response, error) {
			if q.URL.Path != "/5" {
				n, _ := strconv.Atoi(strings.Trim(q.URL.Path, "/"))
				return reply(302, "", "Location", "/"+strconv.Itoa(n+1)), nil
			}
			return reply(200, zipped(`{"at":5}`), "Content-Encoding", "gzip"), nil
		})
		r.stream().expect("status …", `snapshot {"at":5}`)
		q := r.up.last()
		if q.Header.Get("Accept-Encoding") != "gzip, deflate, zstd" || q.Header.Get("Accept") != "application/json" || q.Header.Get("Authorization") != "Bearer key" {
			t.Errorf("the upstream got %v", q.Header)
		}
	})
}

func TestBackoff(t *testing.T) {
	for _, interval := range []time.Duration{100 * time.Millisecond, time.Second, 45 * time.Second, time.Minute, time.Hour} {
		s := schedule{interval: interval}
		if got := s.backoff(0, 0.999); got != interval {
			t.Errorf("backoff(0) of interval %s is %s", interval, got)
		}
		for failed := 1; failed < 2000; failed = failed*3/2 + 1 {
			ceiling := max(interval, backoffCap)
			if d := interval << min(failed, 20); d < ceiling {
				ceiling = d
			}
			seen := map[time.Duration]bool{}
			for range 200 {
				got := s.backoff(failed, rand.Float64())
				if got < interval || got > ceiling {
					t.Fatalf("interval %s, %d failures: pause of %s, want %s to %s", interval, failed, got, interval, ceiling)
				}
				seen[got] = true
			}
			if ceiling > interval && len(seen) < 100 {
				t.Errorf("interval %s, %d failures: %d different pauses of 200: no jitter", interval, failed, len(seen))
			}
		}
	}
	bubble(t, func(t *testing.T) {
		r := newRig(t, &Handler{Schedule: Schedule{Interval: caddy.Duration(time.Second)}, Streaming: Streaming{MaxAge: caddy.Duration(24 * time.Hour)}})
		r.up.answer(answers(500, ""))
		c := r.stream()
		time.Sleep(time.Hour)
		n := r.up.count()
		if n < 60 || n > 250 {
			t.Errorf("%d polls of a dead upstream in an hour, want about one in 30s", n)
		}
		r.up.set(`[]`)
		time.Sleep(backoffCap + time.Second)
		c.expect("status …reason…", "status …live…", "snapshot []")
	})
}

// TestFailingUpstreamIsNotHammered: without a document, every request waits
// for the same polls as everybody else.
func TestFailingUpstreamIsNotHammered(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		r := newRig(t, &Handler{Schedule: Schedule{Interval: caddy.Duration(time.Second)}})
		r.up.answer(answers(500, ""))
		for range 1000 {
			if got := r.get(); got.Code != http.StatusBadGateway {
				t.Fatalf("GET: %d, want 502", got.Code)
			}
			time.Sleep(10 * time.Millisecond)
		}
		if n := r.up.count(); n > 11 {
			t.Errorf("%d polls in 10s at an interval of 1s for a page that polls a dead upstream", n)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := poolSize(t); n != 0 {
			t.Errorf("%d sources a minute after the last request for a document that never was", n)
		}
	})
}

func TestPoke(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		r := newRig(t, &Handler{Schedule: Schedule{Interval: caddy.Duration(time.Minute)}})
		c := r.stream()
		c.next()
		ok := caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error { w.WriteHeader(204); return nil })
		send := func(method string, next caddyhttp.HandlerFunc) {
			t.Helper()
			w := httptest.NewRecorder()
			_ = r.ServeHTTP(w, request(context.Background(), method, "/api"), next)
			if w.Header().Get("X-Content-Type-Options") != "" {
				t.Errorf("%s: the answer of the next handler was changed: %v", method, w.Header())
			}
		}
		want := 1
		polls := func(why string) {
			t.Helper()
			synctest.Wait()
			if n := r.up.count(); n != want {
				t.Fatalf("%d polls after %s, want %d", n, why, want)
			}
		}
		r.up.set(`{"n":2}`)
		send("POST", ok)
		want = 2
		polls("a POST")
		c.expect("snapshot …2…")
		for _, method := range []string{"PUT", "PATCH", "DELETE"} {
			send(method, ok)
			want++
			polls(method)
		}
		for _, method := range []string{"OPTIONS", "TRACE", "CONNECT"} {
			send(method, ok)
			polls(method)
		}
		for _, code := range []int{400, 403, 404, 500} {
			send("POST", func(w http.ResponseWriter, _ *http.Request) error { w.WriteHeader(code); return nil })
			polls("a POST that failed")
		}
		send("POST", func(http.ResponseWriter, *http.Request) error { return caddyhttp.Error(500, nil) })
		polls("a POST that failed with an error")
		send("POST", func(w http.ResponseWriter, _ *http.Request) error { w.WriteHeader(303); return nil })
		want++
		polls("a POST that redirects")

		// Pokes while a poll is in flight do not count for that poll, and
		// together make one more.
		gate := make(chan struct{})
		r.up.answer(func(*http.Request) (*http.Response, error) { <-gate; return reply(200, `{"n":3}`), nil })
		send("POST", ok)
		want++
		polls("a POST before a slow poll")
		for range 50 {
			send("POST", ok)
		}
		polls("50 POSTs during a slow poll")
		close(gate)
		want++
		polls("the end of a slow poll")
	})
}

// TestPokeOff: with poke off, a write that succeeds causes no poll, and its
// answer is not even recorded. The webhook goes on.
func TestPokeOff(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		r := newRig(t, &Handler{Schedule: Schedule{Interval: caddy.Duration(time.Minute)}, Poke: new(false)})
		c := r.stream()
		c.next()
		w := httptest.NewRecorder()
		err := r.ServeHTTP(w, request(context.Background(), "POST", "/api"), caddyhttp.HandlerFunc(func(inner http.ResponseWriter, _ *http.Request) error {
			if inner != http.ResponseWriter(w) {
				t.Errorf("the next handler writes to a %T", inner)
			}
			inner.WriteHeader(204)
			return nil
		}))
		synctest.Wait()
		if n := r.up.count(); err != nil || w.Code != 204 || n != 1 {
			t.Errorf("a POST with poke off: %v, %d, %d polls; want 204 and the first poll only", err, w.Code, n)
		}
		testEngine(t).pool.poke(t.Context(), r.Name, pokedByWebhook)
		synctest.Wait()
		if n := r.up.count(); n != 2 {
			t.Errorf("%d polls after the webhook, want 2", n)
		}
	})
}

// TestPokeMakesNoSource: a POST to a document that nobody reads polls nothing.
func TestPokeMakesNoSource(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		r := newRig(t, &Handler{})
		r.do("POST", "/api")
		synctest.Wait()
		if r.up.count() != 0 || poolSize(t) != 0 {
			t.Errorf("%d polls, %d sources after a POST without readers", r.up.count(), poolSize(t))
		}
	})
}

// TestUnchanged: white space, key order and escapes are no change.
func TestUnchanged(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		r := newRig(t, &Handler{Schedule: Schedule{Interval: caddy.Duration(time.Second)}})
		r.up.set(`{"a":1,"b":["x/y",2]}`)
		c := r.stream()
		c.next()
		for _, body := range []string{" { \"a\" : 1 ,\r\n \"b\":[\"x/y\",2]}\n", `{"b":["x\/y",2],"a":1}`, `{"\u0061":1,"b":["x/y",2]}`} {
			r.up.set(body)
			time.Sleep(time.Second)
			if got := c.next(); len(got) != 0 {
				t.Errorf("%q after the same document: events %q, want none", body, got)
			}
		}
		r.up.set(`{"a":1.0,"b":["x/y",2]}`)
		time.Sleep(time.Second)
		if got := c.next(); len(got) != 1 || !strings.Contains(got[0].data, "1.0") {
			t.Errorf("1.0 after 1: events %q, want one change with that literal", got)
		}
	})
}

func TestNumberLiteralsSurvive(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		r := newRig(t, &Handler{})
		const body = `[12345678901234567890,1.10,1E400,-0,0.1e-7]`
		r.up.set(body)
		r.stream().expect("status …", "snapshot "+body)
		if got := r.get().Body.String(); got != body {
			t.Errorf("GET %q, want %q", got, body)
		}
	})
}

// TestRefusedWalkLeavesNothing: after a document is refused, the next walk is
// not compared with its pages.
func TestRefusedWalkLeavesNothing(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, &Handler{Schedule: Schedule{Interval: second, MaxInterval: second, MaxLoad: 100}, Reading: Reading{Paginate: &upstream.Pages{Next: "/next", List: "/items"}}})
		pages := func(second, more string) {
			r.up.answer(func(q *http.Request) (*http.Response, error) {
				if q.URL.RawQuery == "" {
					return reply(200, `{"items":[1],"next":"?page=2"`+more+`}`), nil
				}
				return reply(200, `{"items":[`+second+`]}`), nil
			})
		}
		pages("2", "")
		c := r.stream()
		c.expect("status …", `snapshot {"items":[1,2],"next":"?page=2"}`)
		pages("2,3", `,"deep":`+strings.Repeat("[", 2000)+strings.Repeat("]", 2000))
		time.Sleep(1500 * time.Millisecond)
		c.expect(`status …"reason":"too_deep"}`)
		before := r.up.count()
		pages("2,3", "")
		time.Sleep(time.Second)
		if got := c.next(); r.up.count() != before+4 || len(got) != 2 {
			t.Errorf("%d requests and %v; want two walks of two pages, and the document", r.up.count()-before, got)
		}
	})
}
