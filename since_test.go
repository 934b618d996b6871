package pollsse

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
)

func TestSinceAndAppend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var asked []string
		u := &fakeUpstream{}
		u.answer = func(n int, r *http.Request) *http.Response {
			u.mu.Lock()
			defer u.mu.Unlock()
			asked = append(asked, r.URL.RawQuery)
			after, _ := strconv.Atoi(r.URL.Query().Get("after"))
			switch n {
			case 1, 2: // two events each
				return respond(200, fmt.Sprintf(`{"seq":%d,"events":[{"id":%d,"v":1.0},{"id":%d}]}`, after+2, after+1, after+2))
			case 3: // nothing new, no cursor
				return respond(200, `{"events":[]}`)
			case 4: // a late change of an old event
				return respond(200, `{"seq":4,"events":[{"id":2,"late":true}]}`)
			}
			return respond(200, `{"seq":7,"events":[{"id":5},{"id":6},{"id":7}]}`)
		}
		s, _ := startSource(t, &Handler{
			Upstream: "http://since.test/events?limit=2", Interval: caddy.Duration(time.Second),
			Since: []sinceConfig{{"after", "/seq", "0"}}, Append: &appendConfig{List: "/events", Max: 5},
		}, u)
		for i, want := range []string{
			`{"seq":2,"events":[{"id":1,"v":1.0},{"id":2}]}`,
			`{"seq":4,"events":[{"id":1,"v":1.0},{"id":2},{"id":3,"v":1.0},{"id":4}]}`,
			`{"events":[{"id":1,"v":1.0},{"id":2},{"id":3,"v":1.0},{"id":4}]}`,
			`{"seq":4,"events":[{"id":1,"v":1.0},{"id":2,"late":true},{"id":3,"v":1.0},{"id":4}]}`,
			`{"seq":7,"events":[{"id":3,"v":1.0},{"id":4},{"id":5},{"id":6},{"id":7}]}`,
		} {
			wait(time.Millisecond)
			if got := string(s.log.view().doc.text); got != want {
				t.Errorf("poll %d: document %s, want %s", i+1, got, want)
			}
			wait(999 * time.Millisecond)
		}
		u.mu.Lock()
		defer u.mu.Unlock()
		if got, want := strings.Join(asked[:5], " "), "limit=2&after=0 limit=2&after=2 limit=2&after=4 limit=2&after=4 limit=2&after=4"; got != want {
			t.Errorf("asked %s, want %s", got, want)
		}
	})
}

func TestSinceLastSuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := &fakeUpstream{}
		u.answer = func(n int, r *http.Request) *http.Response {
			if n == 3 {
				return respond(500, "")
			}
			// This upstream's clock is an hour behind.
			return respond(200, fmt.Sprintf(`{"q":%q}`, r.URL.RawQuery), "Date: "+time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat))
		}
		s, _ := startSource(t, &Handler{
			Upstream: "http://success.test/?a={poll_sse.last_success}&b={poll_sse.last_success.unix}&c={poll_sse.last_success:2006-01-02 15h}",
			Interval: caddy.Duration(time.Minute), MaxInterval: caddy.Duration(time.Minute),
		}, u)
		for i, want := range []string{
			"a=1970-01-01T00%3A00%3A00Z&b=0&c=1970-01-01+00h",
			"a=1999-12-31T23%3A00%3A00Z&b=946681200&c=1999-12-31+23h",
			"a=1999-12-31T23%3A00%3A00Z&b=946681200&c=1999-12-31+23h", // failed
			"a=1999-12-31T23%3A01%3A00Z&b=946681260&c=1999-12-31+23h",
		} {
			wait(time.Millisecond)
			if got, want := string(s.log.view().doc.text), fmt.Sprintf(`{"q":%q}`, want); got != want {
				t.Errorf("poll %d: %s, want %s", i+1, got, want)
			}
			wait(time.Minute - time.Millisecond)
		}
	})
}

func TestLastSuccessRefused(t *testing.T) {
	for _, h := range []*Handler{
		{Upstream: "http://a.test/{poll_sse.last_success}"},
		{Upstream: "http://a.test/?q={poll_sse.last_success.nanoseconds}"},
		{Upstream: "http://a.test/?q={poll_sse.last_success:}"},
	} {
		h.setDefaults()
		h.prepare(caddy.NewReplacer())
		if err := h.Validate(); err == nil || !strings.Contains(err.Error(), "last_success") {
			t.Errorf("%s: error %v", h.Upstream, err)
		}
	}
}

func TestAppendWithoutAList(t *testing.T) {
	for body, want := range map[string]string{`{"a":1}`: reasonNoMatch, `{"list":{}}`: reasonNoMatch, `{"list":[`: reasonNotJSON} {
		synctest.Test(t, func(t *testing.T) {
			u := &fakeUpstream{answer: func(int, *http.Request) *http.Response { return respond(200, body) }}
			s, _ := startSource(t, &Handler{Append: &appendConfig{List: "/list"}}, u)
			wait(time.Second)
			if v := s.log.view(); v.status.reason != want {
				t.Errorf("%s: status %+v, want %s", body, v.status, want)
			}
		})
	}
}
