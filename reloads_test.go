package pollsse

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// TestReloadsAtRandom: whatever is changed, back and forth, paused and polled now, no
// page goes back, nor does a request after another one, also while some still reach
// the configuration before the last. In the end every page is up to date.
func TestReloadsAtRandom(t *testing.T) {
	t.Parallel()
	for range 2 {
		seed := rand.Uint64()
		t.Run(fmt.Sprint(seed), func(t *testing.T) { reloadAtRandom(t, seed) })
	}
}

// randomPage is a page that shows numbers which never get smaller.
type randomPage struct {
	replica
	c    *client
	last int
}

func reloadAtRandom(t *testing.T, seed uint64) {
	bubble(t, func(t *testing.T) {
		rng := rand.New(rand.NewPCG(seed, 0))
		start := time.Now()
		var mu sync.Mutex // of rng, for the upstream
		random := func(n int) int {
			mu.Lock()
			defer mu.Unlock()
			return rng.IntN(n)
		}
		var happened []string
		note := func(format string, a ...any) {
			happened = append(happened, fmt.Sprintf("%6.1f ", time.Since(start).Seconds())+fmt.Sprintf(format, a...))
		}
		fail := func(format string, a ...any) {
			t.Helper()
			t.Fatalf("%s, after\n%s", fmt.Sprintf(format, a...), strings.Join(happened[max(0, len(happened)-40):], "\n"))
		}
		now := newRig(t, &Handler{Schedule: Schedule{Interval: second, Linger: 5 * second}})
		now.up.answer(func(*http.Request) (*http.Response, error) {
			body := fmt.Sprintf(`{"n":%d,"pad":"%s"}`, time.Since(start)/(100*time.Millisecond), strings.Repeat("x", 200))
			time.Sleep(time.Duration(random(3000)) * time.Millisecond)
			if random(10) == 0 {
				return reply(500, ""), nil
			}
			return reply(200, body), nil
		})
		pool := testEngine(t).pool
		testEngine(t).started.Store(now.claim.generation)
		before := now
		either := func() *rig {
			if random(2) == 0 {
				return before
			}
			return now
		}
		pages := make([]*randomPage, 5)
		for i := range pages {
			pages[i] = &randomPage{replica: replica{t: t}, c: now.stream(), last: -1}
		}
		reloads, resumed, asked := 0, 0, -1
		for range 400 {
			switch random(16) {
			case 0:
				reloads++
				before, now = now, now.reload(&Handler{
					Schedule:  Schedule{Interval: caddy.Duration(random(3)+1) * second, Linger: 5 * second},
					Reading:   Reading{MaxBody: int64(random(2)+1) << 20},
					Streaming: Streaming{StreamCloseDelay: caddy.Duration(random(3)*20+1) * second},
				})
				testEngine(t).started.Store(now.claim.generation)
				note("reload %d: max_body %d MiB", now.claim.generation.number, now.MaxBody>>20)
			case 1:
				for _, n := range pool.all("") {
					paused := random(3) == 0
					n.source.setPaused(paused)
					note("a source of %d is paused: %v", n.source.claim.generation.number, paused)
				}
			case 2:
				for _, n := range pool.all("") {
					n.source.setPaused(false)
				}
				pool.poke(t.Context(), now.Name, pokedByWebhook)
				note("none is paused")
			case 3, 4, 5:
				r := either()
				w := r.get()
				note("a request to %d: %d %.20s; %d sources", r.claim.generation.number, w.Code, w.Body, poolSize(t))
				if w.Code == http.StatusOK {
					var n int
					if _, err := fmt.Sscanf(w.Body.String(), `{"n":%d`, &n); err != nil || n < asked {
						fail("a request gets %d after %d, %v", n, asked, err)
					}
					asked = n
				}
			}
			time.Sleep(time.Duration(random(1500)) * time.Millisecond)
			for i, p := range pages {
				for _, n := range numbers(t, &p.replica, p.c.next()) {
					note("page %d: %d", i, n)
					if n < p.last {
						fail("a page is shown %d after %d", n, p.last)
					}
					p.last = n
				}
				if p.c.ended() || random(40) == 0 {
					p.c.close()
					r := either()
					p.c = r.stream("Last-Event-ID", p.id)
					resumed++
					note("page %d resumes at %d", i, r.claim.generation.number)
				}
			}
			if audit(t); t.Failed() {
				return
			}
		}
		if reloads < 10 || resumed < 50 || asked < 1000 {
			t.Errorf("%d reloads, %d returns, the document %d: too few to tell", reloads, resumed, asked)
		}
		for _, n := range pool.all("") {
			n.source.setPaused(false)
		}
		wait(2 * time.Minute)
		for _, p := range pages {
			numbers(t, &p.replica, p.c.next())
			if p.c.ended() {
				p.c = now.stream("Last-Event-ID", p.id)
			}
		}
		wait(30 * time.Second)
		for i, p := range pages {
			if got := numbers(t, &p.replica, p.c.next()); len(got) < 3 {
				fail("page %d gets %v in 30s; %d sources", i, got, poolSize(t))
			}
			p.c.close()
		}
		wait(time.Minute)
		synctest.Wait()
		if n := poolSize(t); n != 0 || len(pool.byRequest) != 0 {
			fail("%d sources and %d requests when everybody has left", n, len(pool.byRequest))
		}
	})
}
