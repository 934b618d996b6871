package pollsse

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// TestEvents: a change of state is one event, and a slow handler holds nobody
// up.
func TestEvents(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, &Handler{Upstream: "http://h/events", Name: "events", Limits: Limits{MaxSubscribers: 1}})
		q := newEventQueue()
		var got []event
		q.start(func(e event) { got = append(got, e) }, zap.NewNop())
		r.engine.pool.events.Store(q)
		c := r.stream()
		c.next()
		r.up.answer(func(*http.Request) (*http.Response, error) { return reply(500, ""), nil })
		time.Sleep(5 * time.Minute)
		r.up.set(`{"n":2}`)
		time.Sleep(5 * time.Minute)
		for range 10 {
			if w := r.get(); w.Code != 503 {
				t.Fatalf("over a limit: %d", w.Code)
			}
		}
		synctest.Wait()
		q.stop(zap.NewNop())
		if len(got) != 3 || got[0].name != eventDown || got[0].data["reason"] != "status" || got[0].data["name"] != "events" ||
			got[1].name != eventUp || got[1].data["after"].(float64) < 250 || got[2].name != eventRefusing || got[2].data["reason"] != reasonSubscribers {
			t.Errorf("%+v", got)
		}

		// A handler that does not return.
		core, logs := observer.New(zapcore.WarnLevel)
		stuck, release := newEventQueue(), make(chan struct{})
		stuck.start(func(event) { <-release }, zap.New(core))
		synctest.Wait()
		for range keptEvents + 11 {
			stuck.put(eventDown, nil) // returns at once
			synctest.Wait()
		}
		if n := stuck.dropped.Load(); n != 10 {
			t.Errorf("%d events were dropped, want 10: one is being handled and %d wait", n, keptEvents)
		}
		begun := time.Now()
		stuck.stop(zap.New(core))
		if d := time.Since(begun); d != eventsEnd || logs.Len() != 1 {
			t.Errorf("stopped after %s, %d lines", d, logs.Len())
		}
		close(release)
	})
}
