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
)

// TestLate: a document that nobody has confirmed for longer than the schedule
// allows is not live, here because its host is busy.
func TestLate(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		r := newRig(t, &Handler{Upstream: "http://host.test/a", Schedule: Schedule{Interval: second, Timeout: 2 * second, HostPolls: 1}})
		slow := newRig(t, &Handler{Upstream: "http://host.test/slow", Schedule: Schedule{Timeout: 60 * second, HostPolls: 1}})
		slow.up.answer(func(*http.Request) (*http.Response, error) {
			time.Sleep(20 * time.Second)
			return reply(200, `{}`), nil
		})
		c := r.stream()
		c.expect(`status {"state":"live"…`, "snapshot …")
		time.Sleep(500 * time.Millisecond)
		slow.stream()
		time.Sleep(3499 * time.Millisecond)
		c.expect()
		if got := r.get().Header().Get("Cache-Status"); strings.Contains(got, "detail") {
			t.Errorf("Cache-Status %s 3.999s after a poll that is due after 1s and may take 2s", got)
		}
		time.Sleep(2 * time.Millisecond)
		c.expect(`status {"state":"stale","since":"2000-01-01T00:00:04.000Z","validated":"2000-01-01T00:00:00.000Z","reason":"late"}`)
		if got := r.get().Header().Get("Cache-Status"); !strings.Contains(got, "detail=late") {
			t.Errorf("Cache-Status %s, want detail=late", got)
		}
		for _, row := range listed(testEngine(t).pool) {
			if row.Upstream == "http://host.test/a" && (row.State != feed.Stale || row.Reason != feed.ReasonLate) {
				t.Errorf("the admin endpoint says %s %s, want stale late", row.State, row.Reason)
			}
		}
		time.Sleep(17 * time.Second)
		c.expect(`status {"state":"live"…`)
	})
}

// TestLateCountsFromThePlan: a pause that the upstream asks for, or that
// stale_after allows, does not make a document late.
func TestLateCountsFromThePlan(t *testing.T) {
	for _, test := range []struct {
		name   string
		h      *Handler
		answer *http.Response
		late   time.Duration
	}{
		{"interval", &Handler{Schedule: Schedule{Interval: 30 * second}}, reply(200, "1"), 61 * time.Second},
		{"timeout", &Handler{Schedule: Schedule{Interval: second}}, reply(200, "1"), 12 * time.Second},
		{"stale_after", &Handler{Schedule: Schedule{Interval: second, StaleAfter: 60 * second}}, reply(200, "1"), 62 * time.Second},
		{"honor", &Handler{Schedule: Schedule{Interval: second}}, reply(200, "1", "Cache-Control", "max-age=30"), 41 * time.Second},
		{"Retry-After", &Handler{Schedule: Schedule{Interval: second, StaleAfter: 3600 * second}}, reply(503, "", "Retry-After", "120"), 3722 * time.Second},
	} {
		synctest.Test(t, func(t *testing.T) {
			u := &fakeUpstream{script: func(n int, r *http.Request) *http.Response {
				if n == 1 && test.answer.StatusCode != 200 {
					return reply(200, "1")
				}
				return test.answer
			}}
			test.h.Upstream = "http://late.test/"
			s, _ := startSource(t, test.h, u)
			wait(0)
			if test.answer.StatusCode != 200 {
				wait(time.Second)
			}
			// As if no goroutine had run since.
			if v := s.log.ViewAt(u.begun.Add(test.late - time.Millisecond)); v.Status.State != feed.Live {
				t.Errorf("%s: %+v a moment before %s", test.name, v.Status, test.late)
			}
			if v := s.log.ViewAt(u.begun.Add(test.late + time.Second)); v.Status.State != feed.Stale || v.Status.Reason != feed.ReasonLate {
				t.Errorf("%s: %+v after %s, want late", test.name, v.Status, test.late)
			}
		})
	}
}

// TestSlowDocumentsAreNotLate: many documents that wait for each other keep
// their state.
func TestSlowDocumentsAreNotLate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := &fakeUpstream{script: func(int, *http.Request) *http.Response {
			time.Sleep(50 * time.Millisecond)
			return reply(200, "1")
		}}
		var all []*source
		for i := range 2000 {
			s, _ := startSource(t, &Handler{Upstream: fmt.Sprintf("http://slow.test/%d", i), Schedule: Schedule{Interval: caddy.Duration(time.Second)}}, u)
			all = append(all, s)
		}
		wait(10 * time.Second)
		for range 20 {
			wait(time.Second)
			for _, s := range all {
				if v := s.log.View(); v.Status.State != feed.Live || v.Status.Since.After(u.begun.Add(7*time.Second)) {
					t.Fatalf("%+v", v.Status)
				}
			}
		}
	})
}

// TestOversleptScheduleIsDue: if the process is suspended during a poll, the
// next pause is not as long as the suspension.
func TestOversleptScheduleIsDue(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := &fakeUpstream{script: func(n int, r *http.Request) *http.Response {
			if n == 2 {
				time.Sleep(40 * time.Second)
			}
			return reply(200, "1")
		}}
		startSource(t, &Handler{Schedule: Schedule{Interval: 2 * second}}, u)
		wait(45 * time.Second)
		equalTimes(t, u.polls(), 0, 2, 42, 44)
	})
}
