package pollsse

import (
	"net/http"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
)

func TestAlwaysOnHandsOverBetweenConfigurations(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := &fakeUpstream{script: func(int, *http.Request) *http.Response { return reply(200, "1") }}
		app := func(h *Handler) *App {
			h.Upstream, h.Name, h.AlwaysOn = "http://always.test/", "always", true
			h.Interval, h.Linger = caddy.Duration(time.Second), caddy.Duration(10*time.Second)
			h.setDefaults()
			h.prepare(caddy.NewReplacer(), testEngine(t).newGeneration())
			h.claim.environment = environment{u, zap.NewNop(), h.claim.generation.number}
			return &App{engine: testEngine(t), generation: h.claim.generation, handlers: []*Handler{h}}
		}
		start := func(a *App) {
			if err := a.Start(); err != nil {
				t.Fatal(err)
			}
		}
		old, reloaded := app(&Handler{}), app(&Handler{Streaming: Streaming{Heartbeat: caddy.Duration(time.Minute)}})
		start(old)
		wait(5500 * time.Millisecond)
		start(reloaded)
		_ = old.Stop()
		wait(5 * time.Second)
		if got := u.count(); got != 11 {
			t.Errorf("%d polls in 10.5s across a reload, want 11", got)
		}
		rows := listed(testEngine(t).pool)
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
		if got := u.count(); got > 81 || len(listed(testEngine(t).pool)) != 0 {
			t.Errorf("%d polls and %d sources a minute after the end, want at most 81 and none", got, len(listed(testEngine(t).pool)))
		}
	})
}

func TestPokeReachesEverySourceOfAName(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := &fakeUpstream{script: func(int, *http.Request) *http.Response { return reply(200, "1") }}
		h := &Handler{Upstream: "http://poke.test/", Schedule: Schedule{Interval: caddy.Duration(time.Hour)}}
		h.setDefaults()
		h.prepare(caddy.NewReplacer(), testEngine(t).newGeneration())
		for i, name := range []string{"a", "a", "b"} {
			c := *h.claim
			c.name, c.environment = name, environment{u, zap.NewNop(), c.generation.number}
			testEngine(t).pool.hold([32]byte{byte(i)}, [32]byte{}, &c, func(total *counters) *source {
				req, _ := h.request.Expand(nil, &http.Request{})
				return newSource(req, h.Reading, &c, total)
			})
		}
		wait(time.Second)
		testEngine(t).pool.poke(t.Context(), "a", pokedByWebhook)
		testEngine(t).pool.poke(t.Context(), "nobody", pokedByWebhook)
		wait(time.Second)
		if got := u.count(); got != 3+2 {
			t.Errorf("%d polls, want 3 and then 2 that were poked", got)
		}
	})
}

// TestPokeSecretInAccessLog: by default the secret is in Authorization, which
// Caddy's access log redacts. Any other field gets a warning.
func TestPokeSecretInAccessLog(t *testing.T) {
	const secret = "0123456789abcdef"
	t.Setenv("POKE_SECRET", secret)
	url, logs := serve(t, `poll_sse_poke /changed quotes {
	secret {env.POKE_SECRET}
}
poll_sse_poke /own quotes {
	secret {env.POKE_SECRET}
	header X-Poke-Secret
}`)
	req, _ := http.NewRequest("POST", url+"/changed", nil)
	req.Header.Set("Authorization", "Bearer "+secret)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 204 {
		t.Errorf("status %d, want 204", resp.StatusCode)
	}
	text, err := os.ReadFile(logs)
	if err != nil || !strings.Contains(string(text), `"uri":"/changed"`) || strings.Contains(string(text), secret) {
		t.Errorf("%v; want a line of the access log, without the secret:\n%s", err, text)
	}
	if n := strings.Count(string(text), `"field":"X-Poke-Secret"`); n != 1 {
		t.Errorf("%d warnings about X-Poke-Secret, want 1:\n%s", n, text)
	}
}
