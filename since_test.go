package pollsse

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/pollsse/caddy-poll-sse/internal/feed"
	"github.com/pollsse/caddy-poll-sse/internal/upstream"
)

// TestUnchangedBodyMovesOn: an unchanged body counts as an answer although it
// is not parsed.
func TestUnchangedBodyMovesOn(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var asked []string
		u := &fakeUpstream{}
		u.script = func(_ int, r *http.Request) *http.Response {
			asked = append(asked, r.URL.RawQuery)
			return reply(200, `{"items":[1],"next":7}`, "Date", time.Now().UTC().Format(http.TimeFormat))
		}
		s, _ := startSource(t, &Handler{
			Upstream: "http://moves.test/?at={poll_sse.last_success.unix}",
			Schedule: Schedule{Interval: caddy.Duration(time.Minute)},
			Reading:  Reading{Since: []upstream.Since{{Param: "from", Pointer: "/next"}}, Select: "/items"},
		}, u)
		wait(2*time.Minute + time.Second)
		if got, want := strings.Join(asked, " "), "at=0 at=946684800&from=7 at=946684860&from=7"; got != want {
			t.Errorf("asked %s, want %s", got, want)
		}
		if v := s.log.View(); time.Since(v.Validated) != time.Second || v.Status.State != feed.Live {
			t.Errorf("validated %s ago, %+v; want 1s and live", time.Since(v.Validated), v.Status)
		}
	})
}

// TestTimeInTheQueryIsNoCondition: caddy poll-sse inspect writes such a parameter for
// an API whose 304s are wrong. Each poll then asks another URL, and so without a
// condition.
func TestTimeInTheQueryIsNoCondition(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for target, want := range map[string]string{
			"http://wrong.test/?_={poll_sse.last_success.unix_ms}": `{"n":3}`,
			"http://wrong.test/": `{"n":1}`,
		} {
			u := &fakeUpstream{}
			u.script = func(n int, r *http.Request) *http.Response {
				if r.Header.Get("If-None-Match") != "" || r.Header.Get("If-Modified-Since") != "" {
					return reply(304, "")
				}
				now := time.Now().UTC().Format(http.TimeFormat)
				return reply(200, fmt.Sprintf(`{"n":%d}`, n), "Date", now, "ETag", `"always"`, "Last-Modified", now)
			}
			s, _ := startSource(t, &Handler{Upstream: target, Schedule: Schedule{Interval: caddy.Duration(time.Second)}}, u)
			wait(2*time.Second + 500*time.Millisecond)
			if got := string(s.log.View().Document.Text); got != want {
				t.Errorf("%s: after three polls %s, want %s", target, got, want)
			}
		}
	})
}

// TestBadAnswerKeepsTheProgress: an answer that was not published does not
// count as read.
func TestBadAnswerKeepsTheProgress(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		deep := strings.Repeat("[", 2000) + strings.Repeat("]", 2000)
		u := &fakeUpstream{}
		u.script = func(n int, r *http.Request) *http.Response {
			switch n {
			case 1:
				return reply(200, `{"next":"a","list":[1]}`)
			case 2: // told of something new, in a way that is refused
				return reply(200, `{"next":"b","list":[2],"deep":`+deep+`}`)
			case 3:
				return reply(200, `{"next":"c","list":[3]`)
			}
			return reply(200, fmt.Sprintf(`{"next":"d","list":[%q]}`, r.URL.RawQuery))
		}
		s, _ := startSource(t, &Handler{
			Schedule: Schedule{Interval: caddy.Duration(time.Minute), MaxInterval: caddy.Duration(time.Minute)},
			Reading:  Reading{Since: []upstream.Since{{Param: "from", Pointer: "/next"}}, Append: &upstream.Append{List: "/list"}},
		}, u)
		for i, want := range []string{`[1]`, `[1]`, `[1]`, `[1,"from=a"]`} {
			wait(time.Second)
			if got := string(s.log.View().Document.Text); !strings.Contains(got, `"list":`+want) {
				t.Errorf("poll %d: %s, want the list %s", i+1, got, want)
			}
			wait(59 * time.Second)
		}
	})
}

// TestRefusedBodyLeavesNothing: after a body that was refused, for any reason, the
// next poll is unconditional, and no 304 makes the source live.
func TestRefusedBodyLeavesNothing(t *testing.T) {
	deep := strings.Repeat("[", 2000) + strings.Repeat("]", 2000)
	tests := []struct {
		name, bad string
		handler   Handler
		fields    []string
	}{
		{"not JSON", `{"list":[`, Handler{}, nil},
		{"too deep", deep, Handler{}, nil},
		{"too large", `"` + strings.Repeat("x", 2000) + `"`, Handler{Reading: Reading{MaxBody: 1000}}, nil},
		{"broken coding", `{"list":[2]}`, Handler{}, []string{"Content-Encoding", "gzip"}},
		{"append without a list", `{"error":"busy"}`, Handler{Reading: Reading{Append: &upstream.Append{List: "/list"}}}, nil},
		{"append of no JSON", `{"list":[2]`, Handler{Reading: Reading{Append: &upstream.Append{List: "/list"}}}, nil},
		{"append of too much", `{"list":[2],"deep":` + deep + `}`, Handler{Reading: Reading{Append: &upstream.Append{List: "/list"}}}, nil},
		{"select nothing", `{"error":"busy"}`, Handler{Reading: Reading{Select: "/list"}}, nil},
	}
	for _, test := range tests {
		t.Run(strings.ReplaceAll(test.name, " ", "-"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				conditional := 0
				u := &fakeUpstream{}
				u.script = func(n int, r *http.Request) *http.Response {
					switch {
					case n == 1:
						return reply(200, `{"list":[1]}`, "ETag", `"good"`)
					case n == 2: // the published document is confirmed
						return reply(304, "")
					case n == 3:
						return reply(200, test.bad, append(test.fields, "ETag", `"bad"`, "Cache-Control", "max-age=3600")...)
					case isConditional(r.Header):
						conditional++
						return reply(304, "")
					case n < 6:
						return reply(500, "")
					}
					return reply(200, `{"list":[1,6]}`)
				}
				h := test.handler
				h.Interval, h.MaxInterval = caddy.Duration(time.Minute), caddy.Duration(time.Minute)
				s, _ := startSource(t, &h, u)
				wait(90 * time.Second)
				if v := s.log.View(); v.Status.State != feed.Live {
					t.Errorf("after a 304: %+v, want live", v.Status)
				}
				wait(3 * time.Minute)
				v := s.log.View()
				if v.Status.State != feed.Stale || !strings.Contains(string(v.Document.Text), "1") {
					t.Errorf("after a refused body: %+v %s, want stale and the last document", v.Status, v.Document.Text)
				}
				wait(time.Minute)
				if v := s.log.View(); v.Status.State != feed.Live || !strings.Contains(string(v.Document.Text), "6") {
					t.Errorf("after a good one: %+v %s, want live", v.Status, v.Document.Text)
				}
				if conditional > 0 {
					t.Errorf("%d requests with the validators of a refused body or before it", conditional)
				}
			})
		})
	}
}
