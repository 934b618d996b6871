package pollsse

import (
	"testing"
	"time"

	"go.uber.org/zap"
)

// app returns the app of the rig's configuration, which holds its handler's source.
func (r *rig) app() *App {
	return &App{engine: r.engine, generation: r.claim.generation, logger: zap.NewNop(), handlers: []*Handler{r.Handler}}
}

// mustStart starts an app, as Caddy does with a configuration.
func mustStart(t *testing.T, a *App) {
	t.Helper()
	if err := a.Start(); err != nil {
		t.Fatal(err)
	}
}

// mustStop stops an app: another one has started, or one beside it could not.
func mustStop(t *testing.T, a *App) {
	t.Helper()
	if err := a.Stop(); err != nil {
		t.Fatal(err)
	}
}

// TestFailedConfigurationLeavesNothing: the settings of a configuration that
// was never in use are forgotten.
func TestFailedConfigurationLeavesNothing(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		idle bool // the source has no readers
	}{{"read", false}, {"idle", true}} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, &Handler{Schedule: Schedule{Interval: 10 * second, Linger: 60 * second}})
				testEngine(t).started.Store(r.claim.generation)
				c := r.stream()
				if test.idle {
					c.close()
				}
				quick := r.beside(&Handler{Schedule: Schedule{Interval: second, Linger: 60 * second}})
				quick.claim.environment.transport = &fakeUpstream{}
				failed := quick.app()
				mustStart(t, failed)
				mustStop(t, failed)
				r.stream()
				for _, n := range testEngine(t).pool.entries {
					if n.generation != r.claim.generation.number || *n.source.upkeep.Load() != r.claim.upkeep || n.source.environment.Load().transport != r.up {
						t.Errorf("generation %d, kept as %+v: want what is in use", n.generation, *n.source.upkeep.Load())
					}
				}
			})
		})
	}
}

// TestFailedConfigurationTakesNothing: if a configuration cannot start, the one before
// it goes on with its streams and with what it holds, whatever has happened meanwhile.
func TestFailedConfigurationTakesNothing(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name string
		// fail has a newer configuration start in part, and fail.
		fail func(*rig)
	}{
		{"stopped", func(r *rig) {
			failed := r.app()
			mustStart(r.t, failed)
			mustStop(r.t, failed)
		}},
		{"never started", func(r *rig) {
			r.stream().close() // its server has
			if err := r.app().Cleanup(); err != nil {
				r.t.Fatal(err)
			}
		}},
		{"a request comes late", func(r *rig) {
			failed := r.app()
			mustStart(r.t, failed)
			mustStop(r.t, failed)
			r.stream()
		}},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				r := newRig(t, &Handler{Schedule: Schedule{Interval: second, Linger: 10 * second}})
				counting(r.up, 0)
				running := r.app()
				mustStart(t, running)
				defer mustStop(t, running)
				c := r.stream()
				wait(5 * time.Second)
				c.next()
				changed := r.beside(&Handler{Schedule: Schedule{Interval: second}, Reading: Reading{MaxBody: 1 << 20}})
				changed.up = &fakeUpstream{}
				counting(changed.up, 100*time.Millisecond)
				changed.claim.environment.transport = changed.up
				test.fail(changed)
				wait(2 * time.Minute)
				if c.next(); c.ended() {
					t.Error("a stream of the running configuration was ended")
				}
				c.close()
				polls := r.up.count()
				wait(time.Minute)
				held := 0
				for _, n := range testEngine(t).pool.entries {
					held += n.holders
				}
				if polls = r.up.count() - polls; polls < 55 || held != 1 {
					t.Errorf("what the running configuration holds was polled %d times in a minute; %d held", polls, held)
				}
			})
		})
	}
}

// TestFailedConfigurationGivesBack: if a configuration cannot start after its source
// has taken the place of what the one before it holds, that is held again.
func TestFailedConfigurationGivesBack(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		r := newRig(t, &Handler{Schedule: Schedule{Interval: second, Linger: second}})
		counting(r.up, 0)
		running := r.app()
		mustStart(t, running)
		defer mustStop(t, running)
		c := r.stream()
		changed := r.beside(&Handler{Schedule: Schedule{Interval: second}, Reading: Reading{MaxBody: 1 << 20}})
		failed := changed.app()
		mustStart(t, failed)
		wait(10 * time.Second)
		if poolSize(t) != 1 {
			t.Fatalf("%d sources, want that of the new configuration alone", poolSize(t))
		}
		mustStop(t, failed)
		wait(time.Minute)
		c.next()
		c.close()
		if all := listed(testEngine(t).pool); len(all) != 1 || !all[0].AlwaysOn || all[0].State != "live" {
			t.Errorf("sources: %+v", all)
		}
	})
}

// TestEndedConfigurationIsNotRestored: when the last configuration with poll_sse
// ends, nothing goes back to the one before it, which has ended.
func TestEndedConfigurationIsNotRestored(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		e := testEngine(t)
		first := &App{engine: e, generation: e.newGeneration(), logger: zap.NewNop()}
		last := &App{engine: e, generation: e.newGeneration(), logger: zap.NewNop()}
		mustStart(t, first)
		mustStart(t, last)
		mustStop(t, first)
		mustStop(t, last)
		if e.app.Load() != nil || e.started.Load() != nil {
			t.Errorf("the app of the first configuration is back: %v, and so is its generation: %v", e.app.Load() == first, e.started.Load() == first.generation)
		}
	})
}
