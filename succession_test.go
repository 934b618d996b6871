package pollsse

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/pollsse/caddy-poll-sse/internal/feed"
)

// sameConfiguration makes the handler of one rig part of the configuration of
// another, and lets it poll the same upstream.
func sameConfiguration(a, b *rig) {
	delete(b.claim.generation.uses, b.claim.use)
	b.claim.generation = a.claim.generation
	b.claim.generation.uses[b.claim.use] = struct{}{}
	b.claim.environment = a.claim.environment
	b.up = a.up
}

// endless is a stream_close_delay with which a reload ends a stream at some
// moment of a day, and so never during a test.
const endless = caddy.Duration(24 * time.Hour)

// reload makes a rig for a newer configuration with the same upstream.
func (r *rig) reload(h *Handler) *rig {
	r.t.Helper()
	h.Upstream, h.Name = r.Upstream, r.Name
	next := newRig(r.t, h)
	next.up, next.claim.environment.transport = r.up, r.up
	close(r.old)
	return next
}

// TestScheduleIsNoPartOfTheKey: a reload that changes when a document is polled
// and what is kept of it goes on with the same source, at once.
func TestScheduleIsNoPartOfTheKey(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		slow := newRig(t, &Handler{Schedule: Schedule{Interval: 60 * second, Linger: second, History: new(1)}})
		slow.up.set(doc(0))
		a := slow.stream()
		a.expect(`status {"state":"live"…`, "snapshot …")
		time.Sleep(10 * time.Second)
		quick := slow.reload(&Handler{Schedule: Schedule{Interval: 2 * second, Linger: 20 * second, History: new(7), Timeout: 5 * second, HostPolls: 3}})
		b := quick.stream("Last-Event-ID", a.parser.lastID)
		b.expect(`status {"state":"live"…`)
		if n := slow.up.count(); n != 2 || poolSize(t) != 1 {
			t.Fatalf("%d polls and %d sources when the interval has become 2s after 10s, want 2 and 1", n, poolSize(t))
		}
		for n := range 2 {
			slow.up.set(doc(n + 1))
			time.Sleep(3500 * time.Millisecond)
		}
		if n := slow.up.count(); n != 5 {
			t.Errorf("%d polls 7s later, want 5", n)
		}
		back := quick.stream("Last-Event-ID", a.parser.lastID)
		back.expect(`status {"state":"live"…`, `patch [{…"value":1},{…"value":2}]`) // more than the old history
		back.close()
		for _, n := range testEngine(t).pool.entries {
			if u := *n.source.upkeep.Load(); u.history != 7 || u.linger != 20*time.Second || u.schedule.timeout != 5*time.Second || u.schedule.hostPolls != 3 {
				t.Errorf("kept as %+v, want what the newest configuration says", u)
			}
		}
		b.close()
		slow.stream("Last-Event-ID", a.parser.lastID).next() // a request that the old configuration still has
		if n := slow.up.count(); n != 5 {
			t.Errorf("%d polls, want 5", n)
		}
		time.Sleep(3500 * time.Millisecond)
		if n := slow.up.count(); n != 7 {
			t.Errorf("%d polls with the old configuration's streams alone, want 7: it stays at 2s", n)
		}
		a.next()
		audit(t)
	})
}

// TestHandlersOfOneConfigurationAgree: each handler that reads a document gets
// what it asks for.
func TestHandlersOfOneConfigurationAgree(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		a := newRig(t, &Handler{Schedule: Schedule{Interval: 10 * second, MaxLoad: 20, StaleAfter: 5 * second, Honor: new(false)}})
		b := newRig(t, &Handler{Schedule: Schedule{Interval: second, Timeout: 20 * second, History: new(1000), Linger: 60 * second, HostPolls: 2}, Name: "b"})
		sameConfiguration(a, b)
		a.stream()
		kept := func() upkeep {
			for _, n := range testEngine(t).pool.entries {
				return *n.source.upkeep.Load()
			}
			return upkeep{}
		}
		alone := kept()
		if alone != a.claim.upkeep {
			t.Errorf("kept as %+v for one handler that asks for %+v", alone, a.claim.upkeep)
		}
		c := b.stream()
		got := kept()
		want := upkeep{
			schedule: schedule{interval: time.Second, quiet: time.Second, longest: time.Minute, timeout: 20 * time.Second, load: 20, hostPolls: 2, stale: 0},
			history:  1000, linger: time.Minute,
		}
		if got != want || poolSize(t) != 1 {
			t.Errorf("kept as %+v for both, want %+v", got, want)
		}
		time.Sleep(3500 * time.Millisecond)
		if n := a.up.count(); n != 4 {
			t.Errorf("%d polls in 3.5s, want 4", n)
		}
		c.close()
		if kept() != alone {
			t.Errorf("kept as %+v after the other has left, want %+v", kept(), alone)
		}
	})
}

// TestFailedConfigurationLeavesNothing: the settings of a configuration that
// was never in use are forgotten.
func TestFailedConfigurationLeavesNothing(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		r := newRig(t, &Handler{Schedule: Schedule{Interval: 10 * second}})
		r.stream()
		h := &Handler{Upstream: r.Upstream, Name: r.Name, Schedule: Schedule{Interval: second}, AlwaysOn: true}
		h.setDefaults()
		h.prepare(caddy.NewReplacer(), testEngine(t).newGeneration())
		h.claim.environment = environment{&fakeUpstream{}, r.logger, h.claim.generation.number}
		app := &App{engine: testEngine(t), generation: h.claim.generation, handlers: []*Handler{h}}
		if err := app.Start(); err != nil {
			t.Fatal(err)
		}
		_ = app.Stop()
		for _, n := range testEngine(t).pool.entries {
			if n.generation != r.claim.generation.number || *n.source.upkeep.Load() != r.claim.upkeep || n.source.environment.Load().transport != r.up {
				t.Errorf("generation %d, kept as %+v: want what is in use", n.generation, *n.source.upkeep.Load())
			}
		}
	})
}

// counting makes an upstream whose document is a number that grows with time,
// in tenths of a second, and some padding. It takes some time to answer with
// the number that was true when it was asked.
func counting(up *fakeUpstream, takes time.Duration) {
	start := time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) // of every bubble
	up.answer(func(q *http.Request) (*http.Response, error) {
		body := fmt.Sprintf(`{"n":%d,"pad":"%s"}`, time.Since(start)/(100*time.Millisecond), strings.Repeat("x", 200))
		time.Sleep(takes)
		return reply(200, body), nil
	})
}

// numbers returns the numbers that a page sees.
func numbers(t *testing.T, r *replica, events []sseEvent) (all []int) {
	for _, e := range events {
		if e.name == feed.KindStatus {
			continue
		}
		r.apply(e)
		n, err := strconv.Atoi(fmt.Sprint(r.doc.(map[string]any)["n"]))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, n)
	}
	return all
}

// TestSuccessorIsNeverOlder: if a setting changes that decides the document,
// clients move to the new source without going back, although its first poll is
// slow and the old source goes on meanwhile. They resume with a patch.
func TestSuccessorIsNeverOlder(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		old := newRig(t, &Handler{Schedule: Schedule{Interval: second}, Streaming: Streaming{StreamCloseDelay: endless}})
		counting(old.up, 10*time.Millisecond)
		page := &replica{t: t}
		c := old.stream()
		time.Sleep(3500 * time.Millisecond)
		seen := numbers(t, page, c.next())
		// The new transport is slow.
		next := old.reload(&Handler{Schedule: Schedule{Interval: second, MaxLoad: 100}, Reading: Reading{MaxBody: 1 << 20}})
		behind := &fakeUpstream{}
		counting(behind, 3200*time.Millisecond)
		next.claim.environment.transport = behind
		d := next.stream("Last-Event-ID", page.id)
		time.Sleep(3 * time.Second)
		d.expect() // waiting
		moved := 0
		for range 40 {
			time.Sleep(250 * time.Millisecond)
			seen = append(seen, numbers(t, page, c.next())...)
			// As a page does that has lost its connection.
			e := next.stream("Last-Event-ID", page.id)
			events := e.next()
			e.close()
			back := *page
			back.doc = decodeJSON(t, canonical(page.doc))
			after := numbers(t, &back, events)
			if len(after) == 0 {
				continue
			}
			if after[0] < seen[len(seen)-1] {
				t.Fatalf("a page that has seen %v is shown %v by the new source", seen, after)
			}
			if moved++; moved > 1 {
				continue
			}
			for _, ev := range events {
				if ev.name == feed.KindSnapshot {
					t.Errorf("a page with the last version of the old source gets a snapshot, want a patch")
				}
			}
		}
		if moved == 0 {
			t.Error("the new source has never shown anything")
		}
		if len(seen) < 6 {
			t.Errorf("the old source showed %v while the new one had nothing", seen)
		}
		first := d.next()
		if len(first) == 0 {
			t.Error("who came to the new source first is shown nothing")
		}
		polls := old.up.count()
		time.Sleep(35 * time.Second)
		if n := old.up.count(); n != polls {
			t.Errorf("%d polls of the old source after the new one has taken over", n-polls)
		}
		c.next()
		if !c.ended() {
			t.Error("a stream of the old source goes on 30s after the new one has taken over")
		}
		if poolSize(t) != 1 {
			t.Errorf("%d sources", poolSize(t))
		}
		audit(t)
	})
}

// TestOldConfigurationUsesTheSuccessor: a request that reaches the old
// configuration, after a source of the new one has taken over, gets what that
// shows. If it had a source polled for itself, that could be ahead, and its
// client would go back with its next request.
func TestOldConfigurationUsesTheSuccessor(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		old := newRig(t, &Handler{Schedule: Schedule{Interval: 10 * second}, Streaming: Streaming{StreamCloseDelay: second}})
		counting(old.up, 0)
		c := old.stream()
		next := old.reload(&Handler{Schedule: Schedule{Interval: 10 * second}, Reading: Reading{MaxBody: 1 << 20}})
		testEngine(t).started.Store(next.claim.generation)
		d := next.stream()
		time.Sleep(5 * time.Second)
		c.next()
		d.next()
		if !c.ended() || poolSize(t) != 1 {
			t.Fatalf("ended %v, %d sources: want the new one alone", c.ended(), poolSize(t))
		}
		before, after := &replica{t: t}, &replica{t: t}
		late, then := old.stream(), next.stream()
		was, is := numbers(t, before, late.next()), numbers(t, after, then.next())
		if !slices.Equal(was, is) || len(is) != 1 || poolSize(t) != 1 {
			t.Errorf("the old configuration shows %v, the new one %v after that, from %d sources", was, is, poolSize(t))
		}
		d.close()
		late.close()
		then.close()
		wait(time.Minute)
		if poolSize(t) != 0 {
			t.Errorf("%d sources without readers", poolSize(t))
		}
	})
}

// TestUnchangedBesideASuccessor: a request that reaches the old configuration
// gets its own source, if the new configuration has that, too.
func TestUnchangedBesideASuccessor(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		a := newRig(t, &Handler{Name: "n", Schedule: Schedule{Interval: second}})
		b := newRig(t, &Handler{Name: "n", Schedule: Schedule{Interval: second}, Reading: Reading{MaxBody: 1 << 20}})
		sameConfiguration(a, b)
		a.up.set(doc(0))
		a2 := a.reload(&Handler{Schedule: Schedule{Interval: second}, Reading: Reading{MaxBody: 2 << 20}}) // changed
		b2 := b.reload(&Handler{Schedule: Schedule{Interval: second}, Reading: Reading{MaxBody: 1 << 20}}) // the same
		sameConfiguration(a2, b2)
		testEngine(t).started.Store(a2.claim.generation)
		a2.stream()
		b.stream().expect(`status {"state":"live"…`, "snapshot …")
		if poolSize(t) != 2 {
			t.Errorf("%d sources, want 2", poolSize(t))
		}
	})
}

// blocking is a log that stops whoever writes a certain line for a while.
type blocking struct {
	zapcore.LevelEnabler
	line string
	time.Duration
}

func (b blocking) With([]zapcore.Field) zapcore.Core { return b }
func (b blocking) Check(e zapcore.Entry, to *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	return to.AddCore(e, b)
}
func (b blocking) Write(e zapcore.Entry, _ []zapcore.Field) error {
	if strings.Contains(e.Message, b.line) {
		time.Sleep(b.Duration)
	}
	return nil
}
func (blocking) Sync() error { return nil }

// TestSuccessorWaitsForWhatIsAboutToBeShown: the old source has a newer document
// than the first one of the new source, and is about to show it.
func TestSuccessorWaitsForWhatIsAboutToBeShown(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		old := newRig(t, &Handler{Schedule: Schedule{Interval: second}, Streaming: Streaming{StreamCloseDelay: endless}})
		counting(old.up, 0)
		c, page := old.stream(), &replica{t: t}
		seen := numbers(t, page, c.next())
		old.up.set("not JSON")
		wait(3 * time.Second)
		// The next good poll has its source log that, which takes time.
		counting(old.up, 0)
		var source *source
		for _, n := range testEngine(t).pool.entries {
			source = n.source
		}
		env := *source.environment.Load()
		env.logger = zap.New(blocking{zapcore.InfoLevel, "is back", 2 * time.Second})
		source.environment.Store(&env)
		next := old.reload(&Handler{Schedule: Schedule{Interval: second}, Reading: Reading{MaxBody: 1 << 20}})
		behind := &fakeUpstream{}
		counting(behind, 1500*time.Millisecond)
		next.claim.environment.transport = behind
		d, moved := next.stream(), &replica{t: t}
		wait(100 * time.Millisecond)
		source.pollNow(t.Context())
		wait(1500 * time.Millisecond)
		seen = append(seen, numbers(t, page, c.next())...)
		for _, n := range numbers(t, moved, d.next()) {
			t.Errorf("the new source shows %d while the old one is about to show something newer; the old one has shown %v", n, seen)
		}
		wait(10 * time.Second)
		seen = append(seen, numbers(t, page, c.next())...)
		if is := numbers(t, moved, d.next()); len(is) == 0 || is[0] < seen[len(seen)-1] {
			t.Errorf("the new source shows %v after %v", is, seen)
		}
	})
}

// TestSuccessorThatFails: the old source goes on while the new one has nothing
// to show.
func TestSuccessorThatFails(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		old := newRig(t, &Handler{Schedule: Schedule{Interval: second}, Streaming: Streaming{StreamCloseDelay: endless}})
		counting(old.up, 0)
		c, page := old.stream(), &replica{t: t}
		next := old.reload(&Handler{Schedule: Schedule{Interval: second}, Reading: Reading{Select: "/missing"}})
		d := next.stream()
		before := numbers(t, page, c.next())
		time.Sleep(10500 * time.Millisecond)
		if got := numbers(t, page, c.next()); len(got) < 9 || c.ended() || poolSize(t) != 2 {
			t.Errorf("the old source showed %v and then %v in 10s", before, got)
		}
		for _, e := range d.next() {
			if e.name != feed.KindStatus {
				t.Errorf("the new source shows %v", e)
			}
		}
	})
}

// TestNegativeDelayKeepsTheSource: streams that stay have a source that goes on.
func TestNegativeDelayKeepsTheSource(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		old := newRig(t, &Handler{Schedule: Schedule{Interval: second}, Streaming: Streaming{StreamCloseDelay: -1 * second}})
		counting(old.up, 0)
		c, page := old.stream(), &replica{t: t}
		next := old.reload(&Handler{Schedule: Schedule{Interval: second}, Reading: Reading{MaxBody: 1 << 20}})
		d := next.stream()
		time.Sleep(2 * time.Minute)
		if got := numbers(t, page, c.next()); len(got) < 110 || c.ended() {
			t.Errorf("%d documents in 2 minutes, ended %v", len(got), c.ended())
		}
		d.next()
		c.close()
		time.Sleep(time.Minute)
		if poolSize(t) != 1 {
			t.Errorf("%d sources when the last has left", poolSize(t))
		}
	})
}

// TestOtherSettingsOfTheSameConfiguration: two handlers may read one upstream
// in two ways under one name, in the old and in the new configuration.
func TestOtherSettingsOfTheSameConfiguration(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		a := newRig(t, &Handler{Name: "n", Schedule: Schedule{Interval: second}, Streaming: Streaming{StreamCloseDelay: endless}})
		b := newRig(t, &Handler{Name: "n", Schedule: Schedule{Interval: second}, Reading: Reading{MaxBody: 1 << 20}, Streaming: Streaming{StreamCloseDelay: endless}})
		sameConfiguration(a, b)
		ca, cb := a.stream(), b.stream()
		a2 := a.reload(&Handler{Schedule: Schedule{Interval: second}, Reading: Reading{MaxBody: 2 << 20}}) // changed
		b2 := b.reload(&Handler{Schedule: Schedule{Interval: second}, Reading: Reading{MaxBody: 1 << 20}}) // the same
		sameConfiguration(a2, b2)
		d := a2.stream()
		time.Sleep(40 * time.Second)
		ca.next()
		if !ca.ended() {
			t.Error("the stream of the handler that has changed goes on")
		}
		cb.next()
		cb.expect()
		if poolSize(t) != 2 {
			t.Errorf("%d sources, want 2", poolSize(t))
		}
		d.next()
		b2.stream("Last-Event-ID", cb.parser.lastID).expect(`status {"state":"live"…`)
	})
}

// TestGoingBackBeforeTheSuccessorShows: a configuration that goes back to the
// old settings finds the old source.
func TestGoingBackBeforeTheSuccessorShows(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		old := newRig(t, &Handler{Schedule: Schedule{Interval: second}, Streaming: Streaming{StreamCloseDelay: 3600 * second}})
		counting(old.up, 0)
		c, page := old.stream(), &replica{t: t}
		next := old.reload(&Handler{Schedule: Schedule{Interval: second}, Reading: Reading{MaxBody: 1 << 20}})
		fails := &fakeUpstream{}
		fails.answer(answers(500, ""))
		next.claim.environment.transport = fails
		d := next.stream()
		back := next.reload(&Handler{Schedule: Schedule{Interval: second}})
		back.claim.environment.transport = old.up
		e := back.stream("Last-Event-ID", c.parser.lastID)
		time.Sleep(5 * time.Second)
		fails.answer(answers(200, `{"n":-1}`)) // older than everything
		time.Sleep(2 * time.Minute)
		// The reload may have ended it meanwhile, at any moment of an hour.
		if got := numbers(t, page, c.next()); len(got) < 100 && !c.ended() {
			t.Errorf("the old source shows %d documents in two minutes", len(got))
		}
		for _, ev := range d.next() {
			if ev.name != feed.KindStatus {
				t.Errorf("a source that is no longer configured shows %v", ev)
			}
		}
		e.next()
		if !d.ended() || e.ended() || poolSize(t) != 1 {
			t.Errorf("streams ended: %v of the middle one, %v of the last; %d sources", d.ended(), e.ended(), poolSize(t))
		}
		audit(t)
	})
}

// TestGoingBackToAKeptSource: a configuration with old settings does not go on
// with a source that only serves streams that stay.
func TestGoingBackToAKeptSource(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		old := newRig(t, &Handler{Schedule: Schedule{Interval: second}, Streaming: Streaming{StreamCloseDelay: -1 * second}})
		counting(old.up, 0)
		stays, page := old.stream(), &replica{t: t}
		next := old.reload(&Handler{Schedule: Schedule{Interval: second}, Reading: Reading{MaxBody: 1 << 20}})
		c := next.stream()
		time.Sleep(5 * time.Second)
		back := next.reload(&Handler{Schedule: Schedule{Interval: second}})
		c.next()
		d := back.stream("Last-Event-ID", c.parser.lastID)
		time.Sleep(2 * time.Minute)
		if got := numbers(t, page, stays.next()); len(got) < 110 || stays.ended() {
			t.Errorf("a stream that stays got %d documents in two minutes, ended %v", len(got), stays.ended())
		}
		c.next()
		if got := d.next(); len(got) < 110 || d.ended() || !c.ended() || poolSize(t) != 2 {
			t.Errorf("%d events in two minutes, ended %v, the one before %v; %d sources, want 2", len(got), d.ended(), c.ended(), poolSize(t))
		}
		audit(t)
	})
}

// TestWaitingRequestsMoveOver: a request that waits for a change is answered,
// and comes back to the new source.
func TestWaitingRequestsMoveOver(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		old := newRig(t, &Handler{Schedule: Schedule{Interval: second}})
		tag := old.get().Header().Get("ETag")
		done := make(chan int)
		go func() { done <- old.get("If-None-Match", tag, "Prefer", "wait=50").Code }()
		synctest.Wait()
		next := old.reload(&Handler{Schedule: Schedule{Interval: second}, Reading: Reading{MaxBody: 1 << 20}})
		begun := time.Now()
		next.get()
		if code := <-done; code != 304 || time.Since(begun) > time.Second {
			t.Errorf("%d after %s, want 304 at once", code, time.Since(begun))
		}
	})
}

// TestSuccessorFitsTheLimits: a source that takes another's place needs no room
// of its own.
func TestSuccessorFitsTheLimits(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		old := newRig(t, &Handler{Schedule: Schedule{Interval: second}, Limits: Limits{MaxSources: 1}})
		old.stream().expect(`status {"state":"live"…`, "snapshot …")
		next := old.reload(&Handler{Schedule: Schedule{Interval: second}, Limits: Limits{MaxSources: 1}, Reading: Reading{MaxBody: 1 << 20}})
		next.stream().expect(`status {"state":"live"…`, "snapshot …")
		audit(t)
	})
}

// TestReloadsAtRandom: whatever is changed, back and forth, no page goes back.
func TestReloadsAtRandom(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		seed := rand.Uint64()
		rng := rand.New(rand.NewPCG(seed, 0))
		t.Logf("seed %d", seed)
		start := time.Now()
		var mu sync.Mutex // of rng, for the upstream
		random := func(n int) int {
			mu.Lock()
			defer mu.Unlock()
			return rng.IntN(n)
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
		type page struct {
			replica
			c    *client
			last int
		}
		pages := make([]*page, 8)
		for i := range pages {
			pages[i] = &page{replica: replica{t: t}, c: now.stream(), last: -1}
		}
		reloads, resumed := 0, 0
		for range 600 {
			if random(12) == 0 {
				reloads++
				now = now.reload(&Handler{
					Schedule:  Schedule{Interval: caddy.Duration(random(3)+1) * second, Linger: 5 * second},
					Reading:   Reading{MaxBody: int64(random(2)+1) << 20},
					Streaming: Streaming{StreamCloseDelay: caddy.Duration(random(3)*20+1) * second},
				})
			}
			time.Sleep(time.Duration(random(1500)) * time.Millisecond)
			for _, p := range pages {
				events := p.c.next()
				for _, n := range numbers(t, &p.replica, events) {
					if n < p.last {
						t.Fatalf("a page is shown %d after %d, after %d reloads", n, p.last, reloads)
					}
					p.last = n
				}
				if p.c.ended() || random(40) == 0 {
					p.c.close()
					p.c = now.stream("Last-Event-ID", p.id)
					resumed++
				}
			}
			audit(t)
			if t.Failed() {
				return
			}
		}
		if reloads < 20 || resumed < 100 || pages[0].last < 1000 {
			t.Errorf("%d reloads, %d returns, the document %d: too few to tell", reloads, resumed, pages[0].last)
		}
		for _, p := range pages {
			p.c.close()
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := poolSize(t); n != 0 || len(testEngine(t).pool.byRequest) != 0 {
			t.Errorf("%d sources and %d requests when everybody has left", n, len(testEngine(t).pool.byRequest))
		}
	})
}
