package pollsse

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/pollsse/caddy-poll-sse/internal/feed"
	"github.com/pollsse/caddy-poll-sse/internal/upstream"
)

func equalTimes(t *testing.T, got []time.Duration, seconds ...float64) {
	t.Helper()
	var want []time.Duration
	for _, s := range seconds {
		want = append(want, time.Duration(s*float64(time.Second)))
	}
	if !slices.Equal(got, want) {
		t.Errorf("polls at %v, want %v", got, want)
	}
}

func TestIntervalIsFixed(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := &fakeUpstream{script: func(int, *http.Request) *http.Response { return reply(200, `{"a":1}`) }}
		startSource(t, &Handler{Schedule: Schedule{Interval: caddy.Duration(2 * time.Second)}}, u)
		wait(6*time.Second + time.Millisecond)
		equalTimes(t, u.polls(), 0, 2, 4, 6)
	})
}

func TestIntervalAdapts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		doc := "1"
		u := &fakeUpstream{script: func(n int, r *http.Request) *http.Response {
			if n == 7 {
				doc = "2"
			}
			return reply(200, doc)
		}}
		startSource(t, &Handler{Schedule: Schedule{Interval: caddy.Duration(2 * time.Second), QuietInterval: caddy.Duration(8 * time.Second)}}, u)
		wait(36 * time.Second)
		// The seventh poll brings a change, after which it is quick again.
		equalTimes(t, u.polls(), 0, 2, 5, 9.5, 16.25, 24.25, 32.25, 34.25)
	})
}

func TestSlowUpstreamIsPolledLess(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := &fakeUpstream{script: func(n int, r *http.Request) *http.Response {
			time.Sleep(3 * time.Second)
			return reply(200, fmt.Sprint(n))
		}}
		startSource(t, &Handler{Schedule: Schedule{Interval: caddy.Duration(time.Second), MaxLoad: 25}}, u)
		wait(30 * time.Second)
		equalTimes(t, u.polls(), 0, 12, 24)
	})
}

func TestUpstreamsWishesLengthenTheInterval(t *testing.T) {
	date := "Mon, 05 Jan 2026 10:00:00 GMT"
	tests := []struct {
		name   string
		header []string
		off    bool
		want   float64 // the second poll, in seconds
	}{
		{"nothing", nil, false, 2},
		{"max-age", []string{"Cache-Control", "max-age=10"}, false, 10},
		{"max-age shorter", []string{"Cache-Control", "max-age=1"}, false, 2},
		{"max-age less Age", []string{"Cache-Control", "public, max-age=10", "Age", "4"}, false, 6},
		{"s-maxage wins", []string{"Cache-Control", "s-maxage=5, max-age=10"}, false, 5},
		{"s-maxage wins in any order", []string{"Cache-Control", "max-age=10", "Cache-Control", "s-maxage=5"}, false, 5},
		{"no-cache", []string{"Cache-Control", "max-age=10, no-cache"}, false, 2},
		{"huge", []string{"Cache-Control", "max-age=99999999999999999999"}, false, 2},
		{"capped", []string{"Cache-Control", "max-age=86400"}, false, 60},
		{"Expires", []string{"Date", date, "Expires", "Mon, 05 Jan 2026 10:00:07 GMT"}, false, 7},
		{"Expires after Cache-Control", []string{"Date", date, "Expires", "Mon, 05 Jan 2026 10:00:07 GMT", "Cache-Control", "max-age=3"}, false, 3},
		{"Expires 0", []string{"Date", date, "Expires", "0"}, false, 2},
		{"Expires past", []string{"Date", date, "Expires", "Mon, 05 Jan 2026 09:00:07 GMT"}, false, 2},
		{"X-Poll-Interval", []string{"X-Poll-Interval", "20", "Cache-Control", "private, max-age=6"}, false, 20},
		{"off", []string{"X-Poll-Interval", "20", "Cache-Control", "max-age=6"}, true, 2},
	}
	for _, test := range tests {
		t.Run(strings.ReplaceAll(test.name, " ", "-"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u := &fakeUpstream{script: func(int, *http.Request) *http.Response { return reply(200, "1", test.header...) }}
				h := &Handler{Schedule: Schedule{Interval: caddy.Duration(2 * time.Second)}}
				if test.off {
					h.Honor = new(false)
				}
				startSource(t, h, u)
				wait(70 * time.Second)
				equalTimes(t, u.polls()[:2], 0, test.want)
			})
		})
	}
}

func Test304KeepsTheLifetime(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := &fakeUpstream{script: func(n int, r *http.Request) *http.Response {
			if r.Header.Get("If-None-Match") == `"v1"` {
				return reply(304, "")
			}
			return reply(200, "1", "ETag", `"v1"`, "Cache-Control", "max-age=10")
		}}
		startSource(t, &Handler{Schedule: Schedule{Interval: caddy.Duration(2 * time.Second)}}, u)
		wait(25 * time.Second)
		equalTimes(t, u.polls(), 0, 10, 20)
	})
}

func TestRetryAfterIsObeyed(t *testing.T) {
	date := time.Date(2000, 1, 1, 0, 0, 30, 0, time.UTC) // a bubble begins at midnight
	tests := []struct {
		name, value string
		status      int
		least, most time.Duration
	}{
		{"seconds", "30", 429, 30 * time.Second, 31 * time.Second},
		{"date", date.Format(http.TimeFormat), 503, 30 * time.Second, 31 * time.Second},
		{"past", "Mon, 05 Jan 1998 10:00:00 GMT", 503, 2 * time.Second, 4 * time.Second},
		{"nonsense", "soon", 503, 2 * time.Second, 4 * time.Second},
		{"a year", "31536000", 429, time.Hour, time.Hour + time.Second},
	}
	for _, test := range tests {
		t.Run(strings.ReplaceAll(test.name, " ", "-"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u := &fakeUpstream{script: func(n int, r *http.Request) *http.Response {
					if n == 1 {
						return reply(test.status, "", "Retry-After", test.value)
					}
					return reply(200, "1")
				}}
				s, _ := startSource(t, &Handler{Schedule: Schedule{Interval: caddy.Duration(2 * time.Second)}}, u)
				wait(time.Second)
				if test.least > 10*time.Second {
					s.pollNow(t.Context()) // not even then
				}
				wait(test.most + 5*time.Second)
				got := u.polls()
				if got[1] < test.least || got[1] > test.most {
					t.Errorf("polled again after %v, want %v to %v", got[1], test.least, test.most)
				}
				if got[2]-got[1] != 2*time.Second {
					t.Errorf("after the recovery polled after %v, want 2s", got[2]-got[1])
				}
				if v := s.log.View(); v.Status.State != feed.Live {
					t.Errorf("state %s, want live", v.Status.State)
				}
			})
		})
	}
}

func TestDownForAnHour(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := &fakeUpstream{}
		u.script = func(n int, r *http.Request) *http.Response {
			if since := time.Since(u.begun); since > time.Second && since < time.Hour {
				return nil
			}
			return reply(200, "1")
		}
		s, logs := startSource(t, &Handler{Schedule: Schedule{Interval: caddy.Duration(2 * time.Second)}}, u)
		wait(30 * time.Minute)
		if v := s.log.View(); v.Status.State != feed.Stale || v.Status.Reason != upstream.ReasonUnreachable || v.Document == nil {
			t.Errorf("status %+v, want stale, unreachable, and the last document", v.Status)
		}
		wait(32 * time.Minute)
		if v := s.log.View(); v.Status.State != feed.Live {
			t.Errorf("status %+v, want live", v.Status)
		}
		during, last := 0, time.Duration(0)
		for _, at := range u.polls() {
			if at > time.Second && at < time.Hour {
				during++
			}
			if at-last > time.Minute+time.Second {
				t.Errorf("no poll from %v to %v", last, at)
			}
			last = at
		}
		// Full jitter: between 2s and a minute, half a minute on average.
		if during < 65 || during > 220 {
			t.Errorf("%d polls in an hour without an upstream, want about 120", during)
		}
		if got := logs.Len(); got != 2 {
			t.Errorf("%d log lines, want one for down and one for back: %v", got, logs.All())
		}
		if got := fmt.Sprint(logs.All()[0].ContextMap()["reason"]); got != upstream.ReasonUnreachable {
			t.Errorf("logged reason %s, want unreachable", got)
		}
	})
}

func TestChangingReasonsAreOneLine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := &fakeUpstream{script: func(n int, r *http.Request) *http.Response {
			return reply([]int{500, 502, 429, 404}[n%4], "")
		}}
		s, logs := startSource(t, &Handler{}, u)
		wait(10 * time.Minute)
		if logs.Len() != 1 {
			t.Errorf("%d log lines, want 1: %v", logs.Len(), logs.All())
		}
		if v := s.log.View(); v.Status.State != feed.Waiting || v.Document != nil {
			t.Errorf("status %+v, want waiting without a document", v.Status)
		}
	})
}

func TestManyPokesAreOnePoll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := &fakeUpstream{script: func(n int, r *http.Request) *http.Response {
			time.Sleep(10 * time.Millisecond)
			return reply(200, "1")
		}}
		s, _ := startSource(t, &Handler{Schedule: Schedule{Interval: caddy.Duration(time.Minute)}}, u)
		wait(5 * time.Second)
		for range 100 {
			for range 50 {
				s.pollNow(t.Context())
			}
			wait(100 * time.Millisecond) // 10s of it
		}
		wait(5 * time.Second)
		if got := u.count(); got < 1+pokeBurst+9 || got > 1+pokeBurst+11 {
			t.Errorf("%d polls for 100 pokes in 10s, want %d at once and one a second: %v", got, pokeBurst, u.polls())
		}
		if got := u.polls()[1]; got != 5*time.Second {
			t.Errorf("first poke polled at %v, want at once, at 5s", got)
		}
	})
}

func TestPokeDuringPollAsksAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := &fakeUpstream{script: func(n int, r *http.Request) *http.Response {
			time.Sleep(time.Second)
			return reply(200, "1")
		}}
		s, _ := startSource(t, &Handler{Schedule: Schedule{Interval: caddy.Duration(time.Minute)}}, u)
		wait(500 * time.Millisecond)
		s.pollNow(t.Context())
		wait(10 * time.Second)
		equalTimes(t, u.polls(), 0, 1)
	})
}

func TestStaleAfter(t *testing.T) {
	tests := []struct {
		name string
		bad  func(r *http.Request) *http.Response
	}{
		{"fails", func(*http.Request) *http.Response { return reply(500, "") }},
		{"hangs", func(r *http.Request) *http.Response { <-r.Context().Done(); return nil }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u := &fakeUpstream{}
				u.script = func(n int, r *http.Request) *http.Response {
					if since := time.Since(u.begun); since > time.Second && since < 5*time.Minute {
						return test.bad(r)
					}
					return reply(200, "1")
				}
				h := &Handler{Schedule: Schedule{Interval: caddy.Duration(2 * time.Second), StaleAfter: caddy.Duration(30 * time.Second), Timeout: caddy.Duration(45 * time.Second)}}
				s, _ := startSource(t, h, u)
				wait(31*time.Second + 900*time.Millisecond)
				if v := s.log.View(); v.Status.State != feed.Live {
					t.Errorf("status %+v after 30s of silence, want live", v.Status)
				}
				wait(200 * time.Millisecond)
				if v := s.log.View(); v.Status.State != feed.Stale || v.Status.Reason == "" || !v.Status.Since.Equal(u.begun.Add(32*time.Second)) {
					t.Errorf("status %+v, want stale since 32s", v.Status)
				}
				wait(8 * time.Minute)
				if v := s.log.View(); v.Status.State != feed.Live {
					t.Errorf("status %+v after the recovery, want live", v.Status)
				}
			})
		})
	}
}

func TestSourcesSpreadOverTheInterval(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const n = 50
		u := &fakeUpstream{script: func(n int, r *http.Request) *http.Response { return reply(200, "1") }}
		for i := range n {
			startSource(t, &Handler{Upstream: fmt.Sprintf("http://spread.test/%d", i), Schedule: Schedule{Interval: caddy.Duration(10 * time.Second)}}, u)
		}
		wait(200 * time.Second)
		buckets := make(map[time.Duration]int)
		late := 0
		for _, at := range u.polls() {
			if at >= 150*time.Second && at < 160*time.Second {
				buckets[at/time.Second]++
				late++
			}
		}
		if late != n {
			t.Errorf("%d polls in one interval, want %d", late, n)
		}
		for second, count := range buckets {
			if count < 3 || count > 7 {
				t.Errorf("%d polls in second %d, want about 5", count, second)
			}
		}
	})
}

func TestHostPollsAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const limit = 3
		var mu sync.Mutex
		now, most := 0, 0
		u := &fakeUpstream{script: func(n int, r *http.Request) *http.Response {
			mu.Lock()
			now++
			most = max(most, now)
			mu.Unlock()
			time.Sleep(time.Second)
			mu.Lock()
			now--
			mu.Unlock()
			return reply(200, "1")
		}}
		var all []*source
		for i := range 20 {
			s, _ := startSource(t, &Handler{Upstream: fmt.Sprintf("http://host.test/%d", i), Schedule: Schedule{HostPolls: limit, Interval: caddy.Duration(time.Minute)}}, u)
			all = append(all, s)
		}
		wait(8 * time.Second)
		if most != limit {
			t.Errorf("%d polls at the same time, want %d", most, limit)
		}
		for i, s := range all {
			if s.log.View().Document == nil {
				t.Errorf("source %d has no document after 8s", i)
			}
		}
		all[0].pollNow(t.Context())
		for _, s := range all { // those that wait for their turn, too
			s.pollNow(t.Context())
			s.close()
		}
		if len(testEngine(t).pool.hosts.byName["http://host.test"].queueOrNil()) != 0 {
			t.Error("the queue outlives its sources")
		}
	})
}

// queueOrNil is the queue of a host that may have no sources any more.
func (h *host) queueOrNil() []*waiter {
	if h == nil {
		return nil
	}
	return h.own
}

func TestEndlessBodyEndsAtTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := &fakeUpstream{}
		u.script = func(n int, r *http.Request) *http.Response {
			resp := reply(200, "")
			resp.ContentLength = -1
			resp.Body = &drip{ctx: r.Context().Done(), piece: []byte("1"), every: time.Second}
			return resp
		}
		s, _ := startSource(t, &Handler{}, u)
		wait(11 * time.Second)
		if v := s.log.View(); v.Status.Reason != upstream.ReasonTimeout {
			t.Errorf("status %+v, want timeout", v.Status)
		}
	})
}

// drip is a body that sends a piece every so often and never ends.
type drip struct {
	ctx   <-chan struct{}
	piece []byte
	every time.Duration
}

func (d *drip) Read(b []byte) (int, error) {
	if d.every > 0 {
		select {
		case <-time.After(d.every):
		case <-d.ctx:
			return 0, errors.New("canceled")
		}
	}
	return copy(b, bytes.Repeat(d.piece, max(1, len(b)/len(d.piece)))[:min(len(b), max(len(d.piece), 1))]), nil
}

func (d *drip) Close() error { return nil }
