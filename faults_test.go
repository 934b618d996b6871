package pollsse

import (
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/pollsse/caddy-poll-sse/internal/feed"
	"github.com/pollsse/caddy-poll-sse/internal/upstream"
)

// TestNamedFaults: each way in which an upstream fails is a state with a name,
// before and after there was a document, takes bounded time, and heals by
// itself.
func TestNamedFaults(t *testing.T) {
	tests := []struct {
		name   string
		answer func(r *http.Request) *http.Response
		want   string
	}{
		{"no connection", func(*http.Request) *http.Response { return nil }, upstream.ReasonUnreachable},
		{"500", func(*http.Request) *http.Response { return reply(500, "") }, upstream.ReasonStatus},
		{"401", func(*http.Request) *http.Response { return reply(401, "") }, upstream.ReasonUnauthorized},
		{"403", func(*http.Request) *http.Response { return reply(403, "") }, upstream.ReasonForbidden},
		{"429", func(*http.Request) *http.Response { return reply(429, "") }, upstream.ReasonRateLimited},
		{"204", func(*http.Request) *http.Response { return reply(204, "") }, upstream.ReasonEmpty},
		{"206", func(*http.Request) *http.Response { return reply(206, "[1]") }, upstream.ReasonStatus},
		{"hangs before the headers", func(r *http.Request) *http.Response { <-r.Context().Done(); return nil }, upstream.ReasonTimeout},
		{"hangs after the headers", func(r *http.Request) *http.Response {
			resp := reply(200, "")
			resp.ContentLength, resp.Body = 100, hang{r.Context()}
			return resp
		}, upstream.ReasonTimeout},
		{"a byte a second", func(r *http.Request) *http.Response {
			resp := reply(200, "")
			resp.ContentLength, resp.Body = -1, &drip{ctx: r.Context().Done(), piece: []byte("1"), every: time.Second}
			return resp
		}, upstream.ReasonTimeout},
		{"error page", func(*http.Request) *http.Response { return reply(200, "<!DOCTYPE html><title>Oops</title>") }, upstream.ReasonNotJSON},
		{"redirects to another host", func(*http.Request) *http.Response {
			return reply(302, "", "Location", "http://login.test/?secret=1")
		}, upstream.ReasonRedirect},
		{"redirects to another scheme", func(r *http.Request) *http.Response {
			return reply(302, "", "Location", "https://"+r.URL.Host+"/")
		}, upstream.ReasonRedirect},
		{"redirects to itself", func(*http.Request) *http.Response { return reply(302, "", "Location", "/doc") }, upstream.ReasonRedirect},
	}
	for _, test := range tests {
		t.Run(strings.ReplaceAll(test.name, " ", "-"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u := &fakeUpstream{}
				u.script = func(n int, r *http.Request) *http.Response {
					minute := int(time.Since(u.begun) / (5 * time.Minute))
					if minute%2 == 0 {
						return test.answer(r)
					}
					return reply(200, fmt.Sprint(minute))
				}
				s, logs := startSource(t, &Handler{Schedule: Schedule{Interval: caddy.Duration(2 * time.Second)}}, u)
				state := func(state, reason string) {
					t.Helper()
					wait(4 * time.Minute)
					if v := s.log.View(); v.Status.State != state || v.Status.Reason != reason || (v.Document == nil) != (state == feed.Waiting) {
						t.Errorf("status %+v, want %s %s", v.Status, state, reason)
					}
					wait(time.Minute)
				}
				state(feed.Waiting, test.want)
				state(feed.Live, "")
				state(feed.Stale, test.want)
				reader := s.log.Join(feed.Key{Format: feed.FormatPatch, Names: feed.Names{Status: "status"}, Heartbeat: time.Hour})
				b, _, _ := reader.After(feed.Cursor{})
				reader.Leave()
				event := string(b.Payload())
				if !strings.Contains(event, `"validated":"2000-01-01T00:09:`) {
					t.Errorf("the event does not tell the document's age: %s", event)
				}
				state(feed.Live, "")
				if logs.Len() != 4 {
					t.Errorf("%d log lines for two faults, want 4: %v", logs.Len(), logs.All())
				}
				for _, line := range logs.All() {
					if text := fmt.Sprint(line.Message, line.ContextMap()); strings.Contains(text, "secret") {
						t.Errorf("the log holds the upstream's URL: %s", text)
					}
				}
			})
		})
	}
}

func TestDeniedIsOneSourcesOwn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := &fakeUpstream{script: func(n int, r *http.Request) *http.Response {
			if r.Header.Get("Authorization") == "bad" && n > 2 {
				return reply(401, "", "WWW-Authenticate", "Basic")
			}
			return reply(200, "1")
		}}
		h := &Handler{Upstream: "http://denied.test/", Request: Request{Forward: []string{"Authorization"}}, Schedule: Schedule{Interval: caddy.Duration(time.Second)}}
		good, logs := startSource(t, h, u)
		req, err := h.request.Expand(nil, &http.Request{URL: &url.URL{}, Header: http.Header{"Authorization": {"bad"}}})
		if err != nil {
			t.Fatal(err)
		}
		bad := newSource(req, h.Reading, h.claim, newCounters(newMetrics(), "test"))
		bad.start(testEngine(t).pool)
		t.Cleanup(bad.close)
		wait(time.Minute)
		if v := bad.log.View(); v.Status.State != feed.Denied || v.Document != nil || v.Denial == nil || v.Denial.Status != 401 {
			t.Errorf("refused: %+v, want denied without a document", v)
		}
		if v := good.log.View(); v.Status.State != feed.Live || v.Document == nil {
			t.Errorf("the other: %+v, want live", v.Status)
		}
		if logs.Len() != 0 {
			t.Errorf("a client's bad credentials are logged: %v", logs.All())
		}
	})
}
