package pollsse

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
)

// freshPool gives the test's bubble a pool of its own.
func freshPool(t *testing.T) {
	before := sources
	sources = &pool{sources: make(map[[32]byte]*source), endpoints: make(map[string]*endpoint)}
	mine := sources
	t.Cleanup(func() {
		mine.closeAll()
		sources = before
	})
}

func TestAlwaysOnHandsOverBetweenConfigurations(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		freshPool(t)
		u := &fakeUpstream{answer: func(int, *http.Request) *http.Response { return respond(200, "1") }}
		app := func(h *Handler) *alwaysOn {
			h.Upstream, h.Name, h.AlwaysOn = "http://always.test/", "always", true
			h.Interval, h.Linger = caddy.Duration(time.Second), caddy.Duration(10*time.Second)
			h.setDefaults()
			h.prepare(caddy.NewReplacer())
			h.link = link{u, zap.NewNop(), generations.Add(1)}
			return &alwaysOn{handlers: []*Handler{h}}
		}
		start := func(a *alwaysOn) {
			if err := a.Start(); err != nil {
				t.Fatal(err)
			}
		}
		old, reloaded := app(&Handler{}), app(&Handler{Heartbeat: caddy.Duration(time.Minute)})
		start(old)
		wait(5500 * time.Millisecond)
		start(reloaded)
		_ = old.Stop()
		wait(5 * time.Second)
		if got := u.count(); got != 11 {
			t.Errorf("%d polls in 10.5s across a reload, want 11", got)
		}
		rows := sources.list()
		if len(rows) != 1 || !rows[0].AlwaysOn || rows[0].Subscribers != 0 {
			t.Errorf("listed %+v, want one that is always on, without subscribers", rows)
		}
		failed := app(&Handler{})
		start(failed) // another app of its configuration fails to start
		_ = failed.Stop()
		_ = failed.Stop()
		wait(time.Minute)
		if got := u.count(); got != 71 {
			t.Errorf("%d polls in 70.5s, want 71", got)
		}
		_ = reloaded.Stop()
		wait(time.Minute)
		if got := u.count(); got > 81 || len(sources.list()) != 0 {
			t.Errorf("%d polls and %d sources a minute after the end, want at most 81 and none", got, len(sources.list()))
		}
	})
}

func TestPokeReachesEverySourceOfAName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		freshPool(t)
		u := &fakeUpstream{answer: func(int, *http.Request) *http.Response { return respond(200, "1") }}
		h := &Handler{Upstream: "http://poke.test/", Interval: caddy.Duration(time.Hour)}
		h.setDefaults()
		h.prepare(caddy.NewReplacer())
		lk := link{u, zap.NewNop(), 1}
		for i, name := range []string{"a", "a", "b"} {
			sources.hold([32]byte{byte(i)}, name, func(total *counters) *source {
				req, _ := h.request.expand(nil, &http.Request{})
				return newSource([32]byte{byte(i)}, req, h.settings, lk, total)
			})
		}
		wait(time.Second)
		sources.poke("a")
		sources.poke("nobody")
		wait(time.Second)
		if got := u.count(); got != 3+2 {
			t.Errorf("%d polls, want 3 and then 2 that were poked", got)
		}
	})
}
