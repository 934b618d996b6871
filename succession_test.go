package pollsse

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
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

// beside makes a rig for a newer configuration with the same upstream, while this one
// goes on.
func (r *rig) beside(h *Handler) *rig {
	r.t.Helper()
	h.Upstream, h.Name = r.Upstream, r.Name
	next := newRig(r.t, h)
	next.up, next.claim.environment.transport = r.up, r.up
	return next
}

// reload makes a rig for a newer configuration with the same upstream, and ends
// this one.
func (r *rig) reload(h *Handler) *rig {
	r.t.Helper()
	next := r.beside(h)
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

// TestOldConfigurationUsesTheSuccessorAtOnce: that is so as soon as the new
// configuration has a request. Its servers answer before its app has started.
func TestOldConfigurationUsesTheSuccessorAtOnce(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		old := newRig(t, &Handler{Schedule: Schedule{Interval: 10 * second}, Streaming: Streaming{StreamCloseDelay: second}})
		testEngine(t).started.Store(old.claim.generation)
		counting(old.up, 0)
		c := old.stream()
		next := old.reload(&Handler{Schedule: Schedule{Interval: 10 * second}, Reading: Reading{MaxBody: 1 << 20}})
		d := next.stream()
		wait(5 * time.Second)
		c.next()
		d.next()
		before, after := &replica{t: t}, &replica{t: t}
		late := old.stream()
		testEngine(t).started.Store(next.claim.generation)
		then := next.stream()
		was, is := numbers(t, before, late.next()), numbers(t, after, then.next())
		if !slices.Equal(was, is) || len(is) != 1 || poolSize(t) != 1 {
			t.Errorf("the old configuration shows %v, the new one %v after that, from %d sources", was, is, poolSize(t))
		}
	})
}

// TestOldConfigurationGetsNoOtherPart: a request that reaches the old configuration
// gets the part of the document that its handler selects, not that of another
// handler of the same name.
func TestOldConfigurationGetsNoOtherPart(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		a := newRig(t, &Handler{Name: "n", Reading: Reading{Select: "/a"}})
		b := newRig(t, &Handler{Name: "n", Reading: Reading{Select: "/b"}})
		sameConfiguration(a, b)
		a.up.set(`{"a":"A","b":"B"}`)
		a2 := a.reload(&Handler{Reading: Reading{Select: "/a", MaxBody: 1 << 20}}) // changed
		b2 := b.reload(&Handler{Reading: Reading{Select: "/b"}})                   // the same
		sameConfiguration(a2, b2)
		testEngine(t).started.Store(a2.claim.generation)
		b2.stream()
		if got := a.get(); got.Body.String() != `"A"` {
			t.Errorf("the handler that selects /a answers %d %s", got.Code, got.Body)
		}
		a2.stream()
		if got := a.get(); got.Body.String() != `"A"` {
			t.Errorf("with a successor, the handler that selects /a answers %d %s", got.Code, got.Body)
		}
	})
}

// TestOldConfigurationStillOmits: a request that reaches the old configuration is
// shown nothing that this one leaves out, whatever the new one shows.
func TestOldConfigurationStillOmits(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		open := newRig(t, &Handler{Reading: Reading{Omit: []string{"/secret"}}})
		open.up.set(`{"n":1,"secret":"s3cret"}`)
		behindLogin := open.reload(&Handler{})
		testEngine(t).started.Store(behindLogin.claim.generation)
		behindLogin.stream()
		if got := open.get(); got.Code != 200 || strings.Contains(got.Body.String(), "s3cret") {
			t.Errorf("a request to the old configuration, which omits /secret, gets %d %s", got.Code, got.Body)
		}
		for _, e := range open.stream().next() {
			if strings.Contains(e.data, "s3cret") {
				t.Errorf("a stream of the old configuration gets %s", e.data)
			}
		}
	})
}

// TestSuccessorThatOmitsHasNoOldHistory: a client that resumes after a reload is sent
// no old change of what the new configuration leaves out.
func TestSuccessorThatOmitsHasNoOldHistory(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		old := newRig(t, &Handler{Schedule: Schedule{Interval: second}})
		pad := strings.Repeat("x", 500)
		old.up.set(`{"n":1,"pad":"` + pad + `","secret":"one"}`)
		was, stays := old.stream(), old.stream()
		was.next()
		was.close()
		old.up.set(`{"n":1,"pad":"` + pad + `","secret":"s3cret"}`)
		wait(2 * time.Second)
		stays.next()
		next := old.reload(&Handler{Schedule: Schedule{Interval: second}, Reading: Reading{Omit: []string{"/secret"}}})
		c := next.stream("Last-Event-ID", was.parser.lastID)
		wait(2 * time.Second)
		documents := 0
		for _, e := range c.next() {
			if e.name != feed.KindStatus {
				documents++
			}
			if strings.Contains(e.data, "s3cret") {
				t.Errorf("the new configuration, which omits /secret, sends %s %s", e.name, e.data)
			}
		}
		if documents == 0 {
			t.Error("the new configuration sends nothing")
		}
	})
}

// TestLateRequestMakesTheNewestSource: a request that reaches a configuration before
// the last, whose settings are the newest one's again, makes the newest one's source:
// that takes the place of the last one's.
func TestLateRequestMakesTheNewestSource(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		first := newRig(t, &Handler{Schedule: Schedule{Interval: 10 * second, Linger: second}, Streaming: Streaming{StreamCloseDelay: second}})
		counting(first.up, 0)
		changed := first.reload(&Handler{Schedule: Schedule{Interval: second}, Reading: Reading{MaxBody: 1 << 20}, Streaming: Streaming{StreamCloseDelay: endless}})
		testEngine(t).started.Store(changed.claim.generation)
		c, page := changed.stream(), &replica{t: t}
		back := changed.reload(&Handler{Schedule: Schedule{Interval: 10 * second}})
		testEngine(t).started.Store(back.claim.generation)
		late := first.stream()
		wait(5 * time.Second)
		seen := numbers(t, page, c.next())
		c.close()
		// As a page does that has lost its connection.
		is := numbers(t, page, back.stream("Last-Event-ID", page.id).next())
		if len(is) > 0 && is[0] < seen[len(seen)-1] {
			t.Errorf("a page that has seen %v is shown %v by the newest configuration", seen, is)
		}
		late.next()
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

// TestChangeThatFailsBesideAnotherHandler: a change that does not work costs the old
// pages nothing, also if another handler of the same name has changed and works.
func TestChangeThatFailsBesideAnotherHandler(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		a := newRig(t, &Handler{Name: "n", Schedule: Schedule{Interval: second}, Reading: Reading{Select: "/a"}})
		b := newRig(t, &Handler{Name: "n", Schedule: Schedule{Interval: second}, Reading: Reading{Select: "/b"}, Streaming: Streaming{StreamCloseDelay: endless}})
		sameConfiguration(a, b)
		a.up.set(`{"a":"A","b":"B"}`)
		a.stream()
		c := b.stream()
		a2 := a.reload(&Handler{Schedule: Schedule{Interval: second}, Reading: Reading{Select: "/a", MaxBody: 1 << 20}})
		b2 := b.reload(&Handler{Schedule: Schedule{Interval: second}, Reading: Reading{Select: "/missing"}})
		sameConfiguration(a2, b2)
		testEngine(t).started.Store(a2.claim.generation)
		b2.stream()
		a2.stream()
		wait(time.Minute)
		if c.next(); c.ended() {
			t.Error("the other handler's source has ended the stream")
		}
		if got := b.get(); got.Body.String() != `"B"` {
			t.Errorf("the old handler that selects /b answers %d %s", got.Code, got.Body)
		}
	})
}

// TestPausedSuccessorHoldsUpNobody: the old source goes on if the new one is paused
// before it has shown anything.
func TestPausedSuccessorHoldsUpNobody(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		old := newRig(t, &Handler{Schedule: Schedule{Interval: second}, Streaming: Streaming{StreamCloseDelay: endless}})
		counting(old.up, 0)
		c, page := old.stream(), &replica{t: t}
		next := old.reload(&Handler{Schedule: Schedule{Interval: second}, Reading: Reading{MaxBody: 1 << 20}})
		behind := &fakeUpstream{}
		counting(behind, 3*time.Second)
		next.claim.environment.transport = behind
		next.stream()
		wait(2500 * time.Millisecond) // its first poll is in flight
		for _, n := range testEngine(t).pool.entries {
			if n.generation == next.claim.generation.number {
				n.source.setPaused(true)
			}
		}
		wait(time.Second)
		numbers(t, page, c.next())
		wait(10 * time.Minute)
		if got := numbers(t, page, c.next()); len(got) < 100 && !c.ended() {
			t.Errorf("the old source, which nobody has paused, showed %v in 10 minutes", got)
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

// TestGoingBackWithStreamsThatStay: streams that stay have a source that goes on, also
// if a newer configuration goes back before that has shown anything.
func TestGoingBackWithStreamsThatStay(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		old := newRig(t, &Handler{Schedule: Schedule{Interval: second}, Streaming: Streaming{StreamCloseDelay: endless}})
		counting(old.up, 0)
		old.stream()
		next := old.reload(&Handler{Schedule: Schedule{Interval: second}, Reading: Reading{MaxBody: 1 << 20}, Streaming: Streaming{StreamCloseDelay: -1 * second}})
		behind := &fakeUpstream{}
		counting(behind, 3*time.Second)
		next.claim.environment.transport = behind
		stays := next.stream()
		wait(time.Second)
		back := next.reload(&Handler{Schedule: Schedule{Interval: second}})
		back.claim.environment.transport = old.up
		c := back.stream()
		wait(10 * time.Minute)
		if got := stays.next(); len(got) < 100 || stays.ended() {
			t.Errorf("a stream that stays got %d events in 10 minutes, ended %v", len(got), stays.ended())
		}
		if got := c.next(); len(got) < 500 || c.ended() || poolSize(t) != 2 {
			t.Errorf("a stream of the newest configuration got %d events in 10 minutes, ended %v; %d sources, want 2", len(got), c.ended(), poolSize(t))
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
