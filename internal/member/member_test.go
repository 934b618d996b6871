package member

import (
	"bytes"
	"context"
	"flag"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pollsse/caddy-poll-sse/cluster"
	"github.com/pollsse/caddy-poll-sse/cluster/clustertest"
)

func leaveAll(places ...*place) {
	for _, p := range places {
		p.leave()
	}
}

func TestOnePollerForAll(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, u := clustertest.NewServer(), &upstream{}
		a := join(t, s, u, "a")
		time.Sleep(500 * time.Millisecond)
		b, c := join(t, s, u, "b"), join(t, s, u, "c")
		defer leaveAll(a, b, c)
		time.Sleep(2 * answerPause)
		if id, _ := b.Document(); id != "1" || b.now().State != live {
			t.Errorf("100ms after it joined, b shows %q %s; want the document of the engine", id, b.now().State)
		}
		time.Sleep(time.Minute)
		if owner := only(t, a, b, c); owner != a {
			t.Errorf("%s owns the document, want the first, a", owner.name)
		}
		steady(t, u, time.Time{}, testInterval)
		for _, p := range []*place{b, c} {
			if went := p.went(); len(went) != 1 || !p.now().Since.Equal(a.now().Since) {
				t.Errorf("%s went through %v, live since %s; the owner since %s", p.name, p.went(), p.now().Since, a.now().Since)
			}
			if age := time.Since(p.now().Validated); age > testInterval+testLease/beatsPerLease {
				t.Errorf("%s says the document is %s old", p.name, age)
			}
		}
	})
}

// TestUnchanged: followers know how old a document is, even if it does not
// change.
func TestUnchanged(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, u := clustertest.NewServer(), &upstream{steady: true, value: 1}
		a := join(t, s, u, "a")
		b := join(t, s, u, "b")
		defer leaveAll(a, b)
		time.Sleep(5 * time.Minute)
		only(t, a, b)
		_, before := s.Counts()
		time.Sleep(time.Minute)
		_, after := s.Counts()
		if rate := float64(after-before) / 60; rate > 2.2 {
			t.Errorf("%.1f messages a second of two idle nodes, want a beat of each", rate)
		}
		for _, p := range []*place{a, b} {
			if age := time.Since(p.now().Validated); age > testInterval+testLease/beatsPerLease {
				t.Errorf("%s says the document is %s old", p.name, age)
			}
		}
	})
}

func TestOwnerKilled(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, u := clustertest.NewServer(), &upstream{}
		a := join(t, s, u, "a")
		time.Sleep(100 * time.Millisecond)
		b, c := join(t, s, u, "b"), join(t, s, u, "c")
		time.Sleep(10 * time.Second)
		killed := time.Now()
		a.kill()
		time.Sleep(20 * time.Second)
		defer leaveAll(b, c)
		only(t, b, c)
		least, most := gaps(u.since(killed.Add(-testInterval)))
		if least < testInterval {
			t.Errorf("two polls are %s apart", least)
		}
		if most > testLease+testInterval {
			t.Errorf("nobody polls for %s", most)
		}
		t.Logf("longest pause %s", most)
		steady(t, u, killed.Add(testLease+testInterval), testInterval)
	})
}

// TestLongInterval: a node that takes over knows when the previous owner has
// polled.
func TestLongInterval(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, u := clustertest.NewServer(), &upstream{steady: true, value: 1, interval: time.Minute}
		a := join(t, s, u, "a")
		time.Sleep(time.Second)
		b := join(t, s, u, "b")
		time.Sleep(unsentPause + 20*time.Second)
		a.kill()
		time.Sleep(10 * time.Minute)
		steady(t, u, time.Time{}, time.Minute)
		only(t, b)
		b.leave()
	})
}

func TestOwnerLeaves(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, u := clustertest.NewServer(), &upstream{took: 40 * time.Millisecond}
		var places []*place
		for range 3 {
			places = append(places, join(t, s, u, string(rune('a'+len(places)))))
		}
		time.Sleep(5 * time.Second)
		for i := range 20 {
			time.Sleep(4*time.Second + rand.N(time.Second)) // also while a poll is in flight
			o := slices.IndexFunc(places, func(p *place) bool { return p.member.Role() == Owns })
			if o < 0 {
				t.Fatalf("round %d: nobody owns the document", i)
			}
			owner := places[o]
			places = append(slices.Delete(places, o, o+1), join(t, s, u, string(rune('d'+i))))
			owner.leave()
		}
		time.Sleep(3 * time.Second)
		only(t, places...)
		polls := u.since(time.Time{})
		least, most := gaps(polls)
		if least < testInterval || most > testInterval+50*time.Millisecond {
			for i := 1; i < len(polls); i++ {
				if d := polls[i].at.Sub(polls[i-1].at); d < testInterval || d > testInterval+50*time.Millisecond {
					t.Logf("%s to %s at %s: %s", polls[i-1].node, polls[i].node, polls[i].at, d)
				}
			}
			t.Errorf("polls are %s to %s apart, want %s", least, most, testInterval)
		}
		t.Logf("%d polls, %s to %s apart", len(u.since(time.Time{})), least, most)
		leaveAll(places...)
	})
}

func TestEngineGone(t *testing.T) {
	for name, fault := range map[string]func(*clustertest.Server){
		"back with its data":    func(*clustertest.Server) {},
		"back without its data": (*clustertest.Server).Empty,
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s, u := clustertest.NewServer(), &upstream{took: 30 * time.Millisecond}
				a, b, c := join(t, s, u, "a"), join(t, s, u, "b"), join(t, s, u, "c")
				defer leaveAll(a, b, c)
				time.Sleep(10 * time.Second)
				gone := time.Now()
				s.Stop()
				time.Sleep(30 * time.Second)
				for _, p := range []*place{a, b, c} {
					if p.member.Role() != Alone {
						t.Errorf("%s %s, want it to be alone", p.name, p.member.Role())
					}
					var own []poll
					for _, q := range u.since(gone) {
						if q.node == p.name {
							own = append(own, q)
						}
					}
					if len(own) == 0 || own[0].at.Sub(gone) > testLease+2*testInterval {
						t.Errorf("%s polls %d times, late", p.name, len(own))
					}
					if least, _ := gaps(own); least < testInterval {
						t.Errorf("%s polls after %s", p.name, least)
					}
				}
				if _, most := gaps(u.since(gone.Add(-testInterval))); most > testInterval+testLease {
					t.Errorf("nobody polls for %s", most)
				}
				fault(s)
				s.Start()
				back := time.Now()
				time.Sleep(time.Minute)
				only(t, a, b, c)
				steady(t, u, back.Add(2*testInterval+time.Second), testInterval)
			})
		})
	}
}

func TestOwnerCutOff(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, u := clustertest.NewServer(), &upstream{took: 30 * time.Millisecond}
		a := join(t, s, u, "a")
		time.Sleep(time.Second)
		b, c := join(t, s, u, "b"), join(t, s, u, "c")
		defer leaveAll(a, b, c)
		time.Sleep(10 * time.Second)
		a.connection.Cut()
		cut := time.Now()
		time.Sleep(15 * time.Second)
		if a.member.Role() != Alone {
			t.Errorf("the owner that was cut off %s, want it to be alone", a.member.Role())
		}
		only(t, b, c)
		if n := len(u.since(cut.Add(8 * time.Second))); n > 15 {
			t.Errorf("%d polls in 7s, want two an interval", n)
		}
		a.connection.Heal()
		healed := time.Now()
		time.Sleep(20 * time.Second)
		if owner := only(t, a, b, c); owner == a {
			t.Error("the node that was cut off owns the document again")
		}
		steady(t, u, healed.Add(2*testInterval), testInterval)
	})
}

// TestNoWrites: an engine that stores nothing for a while, as without a leader.
func TestNoWrites(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, u := clustertest.NewServer(), &upstream{}
		a, b := join(t, s, u, "a"), join(t, s, u, "b")
		defer leaveAll(a, b)
		time.Sleep(5 * time.Second)
		s.StopWrites()
		for range 20 {
			time.Sleep(500 * time.Millisecond)
			only(t, a, b)
		}
		s.StartWrites()
		time.Sleep(5 * time.Second)
		only(t, a, b)
		steady(t, u, time.Time{}, testInterval)
	})
}

func TestManyAlone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, u := clustertest.NewServer(), &upstream{}
		var places []*place
		for i := range 12 {
			places = append(places, join(t, s, u, string(rune('a'+i))))
		}
		time.Sleep(10 * time.Second)
		s.Stop()
		time.Sleep(20 * time.Second)
		from := time.Now()
		time.Sleep(60 * time.Second)
		if n := len(u.since(from)); n > 60*politePolls+12 || n < 60 {
			t.Errorf("12 nodes that are alone poll %d times in 60 intervals, want about %d", n, 60*politePolls)
		}
		s.Start()
		back := time.Now()
		time.Sleep(30 * time.Second)
		only(t, places...)
		steady(t, u, back.Add(3*testInterval), testInterval)
		leaveAll(places...)
	})
}

func TestStaleAlone(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, u := clustertest.NewServer(), &upstream{}
		wait := func(s *Settings) { s.StaleAlone = true }
		a, b := join(t, s, u, "a", wait), join(t, s, u, "b", wait)
		defer leaveAll(a, b)
		time.Sleep(10 * time.Second)
		s.Stop()
		time.Sleep(testLease + 2*testInterval)
		from := time.Now()
		time.Sleep(30 * time.Second)
		if n := len(u.since(from)); n > 0 {
			t.Errorf("%d polls of nodes that are alone, want none", n)
		}
		for _, p := range []*place{a, b} {
			if p.now().State != stale || p.now().Reason != late {
				t.Errorf("%s shows %s %s, want stale, late", p.name, p.now().State, p.now().Reason)
			}
		}
		s.Start()
		time.Sleep(10 * time.Second)
		only(t, a, b)
	})
}

// TestAllRestarted: what the engine has is shown as stale until the first poll.
func TestAllRestarted(t *testing.T) {
	for name, end := range map[string]func(*place){"killed": (*place).kill, "left": (*place).leave} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s, u := clustertest.NewServer(), &upstream{took: time.Second}
				a := join(t, s, u, "a")
				time.Sleep(10*time.Second + 100*time.Millisecond)
				had, _ := a.Document()
				end(a)
				u.set(func() { u.value += 100 })
				time.Sleep(time.Minute)
				b := join(t, s, u, "b")
				defer b.leave()
				time.Sleep(testLease)
				if id, _ := b.Document(); name == "killed" && (id != had || b.now().State != stale) {
					t.Errorf("before its first poll ends, it shows %q %s, want %q stale", id, b.now().State, had)
				}
				if age := time.Since(b.now().Validated); name == "killed" && age < time.Minute {
					t.Errorf("it says that was confirmed %s ago", age)
				}
				time.Sleep(10 * time.Second)
				if len(b.went()) != 2 || b.seen[0] != stale || b.seen[1] != live {
					t.Errorf("it went through %v, want stale, live", b.went())
				}
				only(t, b)
			})
		})
	}
}

func TestPokeAtFollower(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, u := clustertest.NewServer(), &upstream{interval: 20 * time.Second}
		a := join(t, s, u, "a")
		time.Sleep(time.Second)
		b := join(t, s, u, "b")
		defer leaveAll(a, b)
		time.Sleep(5 * time.Second)
		b.poke <- struct{}{}
		time.Sleep(10 * time.Millisecond)
		if id, _ := b.Document(); id != "2" {
			t.Errorf("after a poke it shows %q, want 2", id)
		}
		only(t, a, b)
	})
}

// TestState: all nodes show the owner's failures, also after another one has
// taken over.
func TestState(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, u := clustertest.NewServer(), &upstream{}
		a := join(t, s, u, "a")
		time.Sleep(time.Second)
		b := join(t, s, u, "b")
		defer func() { b.leave() }()
		time.Sleep(5 * time.Second)
		u.set(func() { u.fails = true })
		time.Sleep(5 * time.Second)
		only(t, a, b)
		if b.now().State != stale || !b.now().Since.Equal(a.now().Since) || !b.now().Validated.Equal(a.now().Validated) {
			t.Errorf("the follower is %s since %s, validated %s; the owner %s, %s, %s", b.now().State, b.now().Since, b.now().Validated, a.now().State, a.now().Since, a.now().Validated)
		}
		a.leave()
		time.Sleep(5 * time.Second)
		only(t, b)
		if !b.resumed() {
			t.Error("the new owner goes on from nothing")
		}
		u.set(func() { u.fails = false })
		time.Sleep(5 * time.Second)
		if b.now().State != live {
			t.Errorf("it is %s", b.now().State)
		}
	})
}

func TestLargeDocument(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, u := clustertest.NewServer(), &upstream{}
		a := join(t, s, u, "a")
		b := join(t, s, u, "b")
		defer leaveAll(a, b)
		time.Sleep(5 * time.Second)
		for _, pad := range []int{deltaText * 4, 3 << 20, 10} {
			u.set(func() { u.pad = pad })
			time.Sleep(5 * time.Second)
			only(t, a, b)
		}
	})
}

func TestDenied(t *testing.T) {
	secret := func(s *Settings) { s.Secret = []byte("a secret of the cluster") }
	bubble(t, func(t *testing.T) {
		s, u := clustertest.NewServer(), &upstream{pad: 60}
		a := join(t, s, u, "a", secret)
		time.Sleep(time.Second)
		b := join(t, s, u, "b", secret)
		time.Sleep(3 * time.Second)
		only(t, a, b)
		u.set(func() { u.denies = true })
		time.Sleep(2 * time.Second)
		for _, p := range []*place{a, b} {
			select {
			case <-p.done:
			default:
				t.Errorf("%s goes on after the denial", p.name)
			}
			if id, _ := p.Document(); id != "" || p.now().Status != 403 {
				t.Errorf("%s shows %q, %+v", p.name, id, p.now())
			}
		}
		leaveAll(a, b)
		// A login later, the document is there again.
		u.set(func() { u.denies = false })
		c := join(t, s, u, "c", secret)
		time.Sleep(2 * time.Second)
		only(t, c)
		c.leave()
		traffic := s.Traffic()
		if len(traffic) == 0 {
			t.Fatal("no traffic was recorded")
		}
		for _, clear := range []string{"00000000000000000000", "state", "kind", "denied", "a secret", "key", `"id"`} {
			if bytes.Contains(traffic, []byte(clear)) {
				t.Errorf("the engine has seen %q", clear)
			}
		}
	})
}

// TestOtherSecret: nodes without the secret and the others ignore each other.
func TestOtherSecret(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, u := clustertest.NewServer(), &upstream{}
		a := join(t, s, u, "a", func(s *Settings) { s.Secret = []byte("one") })
		b := join(t, s, u, "b", func(s *Settings) { s.Secret = []byte("other") })
		c := join(t, s, u, "c")
		defer leaveAll(a, b, c)
		time.Sleep(5 * time.Second)
		for _, p := range []*place{a, b, c} {
			if p.member.Role() != Owns {
				t.Errorf("%s %s, want it to own the document of its secret", p.name, p.member.Role())
			}
		}
	})
}

// TestFaultsAtRandom: whatever happens, nobody goes back, and at the end one
// node polls for all.
func TestFaultsAtRandom(t *testing.T) {
	for seed := range uint64(30) {
		bubble(t, func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 16))
			s, u := clustertest.NewServer(), &upstream{took: 20 * time.Millisecond}
			var places []*place
			count := 0
			add := func() {
				count++
				places = append(places, join(t, s, u, string(rune('a'+count))))
			}
			for range 4 {
				add()
			}
			for range 40 {
				time.Sleep(time.Duration(r.Int64N(int64(6 * time.Second))))
				i := r.IntN(len(places))
				p := places[i]
				switch r.IntN(10) {
				case 0:
					s.Stop()
				case 1:
					s.StopWrites()
				case 2:
					s.Empty()
				case 3, 4:
					p.connection.Cut()
				case 5:
					if len(places) > 2 {
						places = append(places[:i:i], places[i+1:]...)
						p.kill()
					}
				case 6:
					if len(places) > 2 {
						places = append(places[:i:i], places[i+1:]...)
						p.leave()
					}
				case 7:
					add()
				default:
					s.Start()
					s.StartWrites()
					for _, p := range places {
						p.connection.Heal()
					}
				}
			}
			s.Start()
			s.StartWrites()
			for _, p := range places {
				p.connection.Heal()
			}
			time.Sleep(20 * time.Second)
			synctest.Wait()
			from := time.Now()
			time.Sleep(10 * time.Second)
			only(t, places...)
			steady(t, u, from, testInterval)
			leaveAll(places...)
		})
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

// TestGate: a process that was frozen does not poll on waking before it has
// read that it is still the owner.
func TestGate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, u := clustertest.NewServer(), &upstream{}
		a := join(t, s, u, "a")
		defer a.leave()
		time.Sleep(5*time.Second + 500*time.Millisecond)
		synctest.Wait()
		may := func() bool {
			wait, _ := a.member.mayPoll()
			return wait == 0
		}
		if !may() {
			t.Fatal("an owner may not poll")
		}
		// Its goroutines do not run meanwhile.
		freeze := func() {
			synctest.Wait() // or one of them reads the record just after it
			a.node.mu.Lock()
			defer a.node.mu.Unlock()
			for _, at := range []*time.Time{&a.node.renewed, &a.member.verified} {
				*at = at.Add(-8 * time.Second)
			}
		}
		freeze()
		if may() {
			t.Error("it may poll though nobody has heard it for 8s")
		}
		time.Sleep(testInterval) // a beat comes back, and it has read the record
		if !may() {
			t.Error("it may not poll, though the record is its own")
		}
		a.connection.Cut() // or it reads the record as soon as the beat is heard
		freeze()
		// A beat comes back before the record was read.
		a.node.mu.Lock()
		a.node.beats++
		number := a.node.beats
		a.node.sent[number] = time.Now()
		a.node.mu.Unlock()
		a.node.hear(&envelope{Kind: kindBeat, Node: a.node.id, beat: beat{Beat: number}})
		if may() {
			t.Error("it may poll after a break, though it has not read the record since")
		}
	})
}

// TestOrphan: a document whose owner could not give it back, on a node that is
// still there.
func TestOrphan(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, u := clustertest.NewServer(), &upstream{}
		a := join(t, s, u, "a")
		time.Sleep(time.Second)
		b := join(t, s, u, "b")
		defer b.leave()
		time.Sleep(5 * time.Second)
		a.connection.Cut()
		a.stop()
		<-a.done
		a.connection.Heal()
		left := time.Now()
		time.Sleep(3 * testLease)
		only(t, b)
		if first := u.since(left); len(first) == 0 || first[0].at.Sub(left) > 2*testLease {
			t.Errorf("nobody has polled for two leases: %v", first)
		}
		a.node.Close()
	})
}

// TestTwoMembersOfOneNode: of two members that a node has of one document, as
// while a source goes on that a reload has superseded, one owns it and the other
// follows, also after both were alone.
func TestTwoMembersOfOneNode(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, u, log := clustertest.NewServer(), &upstream{steady: true}, new(swapLog)
		n, err := NewNode(loggedEngine{s.Connect(), 0, log}, Settings{Lease: testLease}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(context.Background())
		var running sync.WaitGroup
		for _, name := range []string{"first", "second"} {
			m := n.Member([]byte("key"), "host", newShower(t, u, name), nil)
			running.Go(func() { m.Run(ctx) })
			time.Sleep(2 * time.Second)
		}
		s.Stop()
		time.Sleep(3 * testLease)
		if _, _, alone := n.Counts(); alone != 2 {
			t.Errorf("without the engine, %d of two members are alone", alone)
		}
		s.Start()
		returned := time.Now()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		if owns, follows, alone := n.Counts(); owns != 1 || follows != 1 {
			t.Errorf("%d members own the document, %d follow, %d are alone", owns, follows, alone)
		}
		if swaps := log.since(returned); len(swaps) > 2 {
			t.Errorf("there is another owner %d times in ten seconds", len(swaps))
		}
		stop()
		running.Wait()
		n.Close()
	})
}

// TestResyncsCauseFewBeats: however often a node has to read again, it sends one
// more beat in the time of one, so that nodes that miss beats because of many
// others do not answer with still more of them.
func TestResyncsCauseFewBeats(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s := clustertest.NewServer()
		c := s.Connect()
		n, err := NewNode(c, Settings{Lease: testLease}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(testLease + testLease/beatsPerLease/2) // between two beats
		synctest.Wait()
		_, before := s.Counts()
		for range 10 {
			c.Cut()
			c.Heal()
			synctest.Wait()
		}
		if _, after := s.Counts(); after-before != 1 {
			t.Errorf("%d beats at once, want 1", after-before)
		}
		n.Close()
	})
}

// partedEngine is one of two sides of an engine that are parted at times: nodes
// hear only their own side then, and the minority stores nothing. No connection
// is lost by that.
type partedEngine struct {
	cluster.Engine
	parted   *atomic.Bool
	minority bool
}

func (e partedEngine) Join(key string) (cluster.Topic, error) {
	joined, err := e.Engine.Join(key)
	t := partedTopic{joined, e, make(chan cluster.Message, 64), make(chan struct{})}
	go t.sort()
	return t, err
}

type partedTopic struct {
	cluster.Topic
	engine   partedEngine
	messages chan cluster.Message
	closed   chan struct{}
}

// sort drops what comes from the other side. The first byte of a message says
// from which side it is.
func (t partedTopic) sort() {
	for {
		select {
		case <-t.closed:
			return
		case m := <-t.Topic.Messages():
			if !m.Resync {
				if t.engine.parted.Load() && m.Data[0] != t.side() {
					continue
				}
				m.Data = m.Data[1:]
			}
			select {
			case t.messages <- m:
			case <-t.closed:
				return
			}
		}
	}
}

func (t partedTopic) side() byte {
	if t.engine.minority {
		return 'm'
	}
	return 'M'
}

func (t partedTopic) lost() bool { return t.engine.minority && t.engine.parted.Load() }

func (t partedTopic) Messages() <-chan cluster.Message { return t.messages }

func (t partedTopic) Send(message []byte) error {
	return t.Topic.Send(append([]byte{t.side()}, message...))
}

func (t partedTopic) Close() { close(t.closed); t.Topic.Close() }

func (t partedTopic) Owner(ctx context.Context) (uint64, []byte, error) {
	if t.lost() {
		return 0, nil, context.DeadlineExceeded
	}
	return t.Topic.Owner(ctx)
}

func (t partedTopic) Swap(ctx context.Context, revision uint64, record []byte) (uint64, error) {
	if t.lost() {
		return 0, context.DeadlineExceeded
	}
	return t.Topic.Swap(ctx, revision, record)
}

func (t partedTopic) Put(ctx context.Context, owner uint64, document []byte) error {
	if t.lost() {
		return context.DeadlineExceeded
	}
	return t.Topic.Put(ctx, owner, document)
}

// TestPartedServers: once servers that were parted have found each other, one
// owner is left of the two that there were, though nobody was told of anything
// and the document does not change.
func TestPartedServers(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, u := clustertest.NewServer(), &upstream{steady: true}
		var parted atomic.Bool
		a, leaveA := member(t, partedEngine{s.Connect(), &parted, true}, newShower(t, u, "a"))
		time.Sleep(3 * time.Second)
		b, leaveB := member(t, partedEngine{s.Connect(), &parted, false}, newShower(t, u, "b"))
		time.Sleep(3 * time.Second)
		parted.Store(true)
		time.Sleep(3 * testLease)
		synctest.Wait()
		if a.Role() != Owns || b.Role() != Owns {
			t.Errorf("while the servers are parted, one node %s the document, the other %s", a.Role(), b.Role())
		}
		parted.Store(false)
		time.Sleep(10 * testLease)
		synctest.Wait()
		if a.Role() != Follows || b.Role() != Owns {
			t.Errorf("after that, one node %s the document, the other %s; want the first to follow", a.Role(), b.Role())
		}
		leaveA()
		leaveB()
	})
}

// renumbered is an engine that has lost some revisions: once it is emptied, it
// counts from 1 again, as a NATS stream does that is made anew.
type renumbered struct {
	cluster.Engine
	lost *atomic.Uint64
}

func (e renumbered) Join(key string) (cluster.Topic, error) {
	t, err := e.Engine.Join(key)
	return renumberedTopic{t, e.lost}, err
}

type renumberedTopic struct {
	cluster.Topic
	lost *atomic.Uint64
}

func (t renumberedTopic) Owner(ctx context.Context) (uint64, []byte, error) {
	r, b, err := t.Topic.Owner(ctx)
	return r - min(r, t.lost.Load()), b, err
}

func (t renumberedTopic) Swap(ctx context.Context, r uint64, b []byte) (uint64, error) {
	if r != 0 {
		r += t.lost.Load()
	}
	r, err := t.Topic.Swap(ctx, r, b)
	return r - min(r, t.lost.Load()), err
}

func (t renumberedTopic) Put(ctx context.Context, r uint64, b []byte) error {
	return t.Topic.Put(ctx, r+t.lost.Load(), b)
}

// TestRevisionsBeginAnew: a node follows on if the owner's record has a lower
// revision than before, as in an engine that came back empty without anybody
// having lost a connection.
func TestRevisionsBeginAnew(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, u := clustertest.NewServer(), new(upstream)
		var lost atomic.Uint64
		_, leave := member(t, renumbered{s.Connect(), &lost}, newShower(t, u, "before"))
		time.Sleep(3 * time.Second)
		shows := []*shower{newShower(t, u, "a"), newShower(t, u, "b")}
		a, leaveA := member(t, renumbered{s.Connect(), &lost}, shows[0])
		time.Sleep(3 * time.Second)
		leave() // so that there have been some revisions
		time.Sleep(3 * time.Second)
		b, leaveB := member(t, renumbered{s.Connect(), &lost}, shows[1])
		time.Sleep(10 * time.Second)
		lost.Store(3)
		s.Empty()
		time.Sleep(5 * testLease)
		synctest.Wait()
		if a.Role() != Owns || b.Role() != Follows {
			t.Errorf("one node %s the document, the other %s", a.Role(), b.Role())
		}
		first, _ := shows[0].Document()
		if second, _ := shows[1].Document(); first != second {
			t.Errorf("the owner shows %s, the other node %s", first, second)
		}
		leaveA()
		leaveB()
	})
}

// slowPuts is an engine that takes time to store a document.
type slowPuts struct{ cluster.Engine }

func (e slowPuts) Join(key string) (cluster.Topic, error) {
	t, err := e.Engine.Join(key)
	return slowPutTopic{t}, err
}

type slowPutTopic struct{ cluster.Topic }

func (t slowPutTopic) Put(ctx context.Context, owner uint64, document []byte) error {
	select {
	case <-time.After(300 * time.Millisecond):
		return t.Topic.Put(ctx, owner, document)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// TestExitDuringPut: a node that ends while it stores a document has stored it
// all the same, so that the next one shows nothing older.
func TestExitDuringPut(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, u := clustertest.NewServer(), new(upstream)
		a := newShower(t, u, "a")
		_, leave := member(t, slowPuts{s.Connect()}, a)
		time.Sleep(5*testInterval + 100*time.Millisecond) // a put is in flight
		synctest.Wait()
		leave()
		u.set(func() { u.fails = true })
		b := join(t, s, u, "b")
		time.Sleep(time.Second)
		synctest.Wait()
		want, _ := a.Document()
		if got, _ := b.Document(); got != want {
			t.Errorf("after a node that has shown %s, the next one shows %q", want, got)
		}
		b.leave()
	})
}

// TestTextNeverComes: if the text of what the owner shows is nowhere to be had,
// others show theirs as stale until it is.
func TestTextNeverComes(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, u := clustertest.NewServer(), &upstream{dense: true, pad: 2 * clustertest.MaxMessage, interval: 5 * time.Second}
		a := join(t, s, u, "a")
		time.Sleep(2 * time.Second)
		b := join(t, s, u, "b")
		time.Sleep(10 * time.Second)
		only(t, a, b)
		s.StopWrites()
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := b.now(); got.State != stale || got.Reason != late {
			t.Errorf("while the owner shows others, an old document is %s %s", got.State, got.Reason)
		}
		s.StartWrites()
		u.set(func() { u.steady = true })
		time.Sleep(time.Minute)
		only(t, a, b)
		leaveAll(a, b)
	})
}

// hanging is a source whose polls do not end: after a while its document is late.
type hanging struct{ *shower }

func (h hanging) Poll(ctx context.Context, _ Handover, turn *Turn) {
	turn.May(ctx)
	select {
	case <-ctx.Done():
		return
	case <-time.After(20 * time.Second):
	}
	id, text := h.Document()
	turn.Tell(State{ID: id, State: stale, Reason: late, Since: time.Now()}, text)
	<-ctx.Done()
}

// TestLateBeforeTheFirstPoll: all nodes show that a document is late whose new
// owner has not polled it yet.
func TestLateBeforeTheFirstPoll(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, u := clustertest.NewServer(), &upstream{steady: true}
		a := join(t, s, u, "a")
		time.Sleep(2 * time.Second)
		b, leave := member(t, s.Connect(), hanging{newShower(t, u, "b")})
		time.Sleep(3 * time.Second)
		a.leave() // b is its only heir
		time.Sleep(time.Second)
		c := join(t, s, u, "c")
		time.Sleep(time.Minute)
		synctest.Wait()
		if got := c.now(); got.State != stale || got.Reason != late {
			t.Errorf("one node %s the document, the other shows it as %s %s, want stale late", b.Role(), got.State, got.Reason)
		}
		c.leave()
		leave()
	})
}

// many is small by default, as the race detector now and then ends a process
// with many timers in bubbles (go.dev/issue/78156).
var many = flag.Int("documents", 50, "how many documents TestMany shares between three nodes")

// TestMany: what nodes send while nothing happens does not grow with the
// number of documents.
func TestMany(t *testing.T) {
	documents := *many
	bubble(t, func(t *testing.T) {
		s := clustertest.NewServer()
		var nodes []*Node
		var all sync.WaitGroup
		ctx, stop := context.WithCancel(t.Context())
		shown := make([]*shower, 0, 3*documents)
		counts := &upstream{steady: true}
		for i := range 3 {
			n, err := NewNode(s.Connect(), Settings{Lease: testLease}, slog.New(slog.DiscardHandler))
			if err != nil {
				t.Fatal(err)
			}
			nodes = append(nodes, n)
			for d := range documents {
				one := &shower{t: t, name: strconv.Itoa(i), upstream: counts, interval: time.Minute, state: State{State: waiting}}
				shown = append(shown, one)
				m := n.Member([]byte(strconv.Itoa(d)), "host", one, nil)
				all.Go(func() { m.Run(ctx) })
			}
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		owns := 0
		for _, n := range nodes {
			o, f, alone := n.Counts()
			if owns += o; f != documents-o || alone > 0 {
				t.Errorf("a node owns %d, follows %d, is alone for %d", o, f, alone)
			}
		}
		if owns != documents {
			t.Errorf("%d owners of %d documents", owns, documents)
		}
		stored, sent := s.Counts()
		time.Sleep(2 * time.Minute)
		storedThen, sentThen := s.Counts()
		rate := float64(storedThen-stored+sentThen-sent) / (2 * 60)
		t.Logf("%.1f messages a second", rate)
		if rate > 10 {
			t.Errorf("%.1f messages a second with %d documents, want at most 10", rate, documents)
		}
		for _, one := range shown {
			if id, _ := one.Document(); id != "0" || one.now().State != live {
				t.Fatalf("a node shows %q %s", id, one.now().State)
			}
		}
		if polls := len(counts.since(time.Time{})); polls < 4*documents || polls > 5*documents {
			t.Errorf("%d polls of %d documents in 4 intervals", polls, documents)
		}
		stop()
		all.Wait()
		for _, n := range nodes {
			n.Close()
		}
	})
}

// TestReturnWhileUpstreamFails: nodes that come back while the upstream fails
// do not poll it, too. What each of them shows stays, as nobody can tell which
// of their documents is newest, and goes on once the owner has got one.
func TestReturnWhileUpstreamFails(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, u := clustertest.NewServer(), &upstream{took: 30 * time.Millisecond}
		a, b, c := join(t, s, u, "a"), join(t, s, u, "b"), join(t, s, u, "c")
		defer leaveAll(a, b, c)
		time.Sleep(10 * time.Second)
		s.Stop()
		time.Sleep(20 * time.Second)
		u.set(func() { u.fails = true })
		time.Sleep(5 * time.Second)
		s.Start()
		time.Sleep(testLease + 2*testInterval)
		from := time.Now()
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		polls := u.since(from)
		pollers := make(map[string]int)
		for _, p := range polls {
			pollers[p.node]++
		}
		if len(pollers) != 1 {
			t.Errorf("an upstream that fails is polled by %v, want one node", pollers)
		}
		owners := 0
		for _, p := range []*place{a, b, c} {
			if p.member.Role() == Owns {
				owners++
			}
			if id, _ := p.Document(); id == "" || p.now().State != stale {
				t.Errorf("%s shows %q %s", p.name, id, p.now().State)
			}
			if age := time.Since(p.now().Validated); age < 2*time.Minute || age > 3*time.Minute {
				t.Errorf("%s shows a document that was confirmed %s ago", p.name, age)
			}
		}
		if owners != 1 {
			t.Errorf("%d owners", owners)
		}
		u.set(func() { u.fails = false })
		back := time.Now()
		time.Sleep(5 * time.Second)
		only(t, a, b, c)
		steady(t, u, back, testInterval)
	})
}

// TestHeldTakeOver: one of them goes on when the owner would have polled next.
func TestHeldTakeOver(t *testing.T) {
	for name, lose := range map[string]func(*clustertest.Server, *place){
		"the owner is killed": func(_ *clustertest.Server, owner *place) { owner.kill() },
		"the owner leaves":    func(_ *clustertest.Server, owner *place) { owner.leave() },
		"the engine is gone":  func(s *clustertest.Server, _ *place) { s.Stop() },
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				const interval = 20 * time.Second
				s, u := clustertest.NewServer(), &upstream{interval: interval}
				places := []*place{join(t, s, u, "a"), join(t, s, u, "b"), join(t, s, u, "c")}
				time.Sleep(10*time.Second + 700*time.Millisecond)
				s.Stop()
				time.Sleep(2 * interval)
				u.set(func() { u.fails = true })
				s.Start()
				time.Sleep(3 * interval)
				owner := slices.IndexFunc(places, func(p *place) bool { return p.member.Role() == Owns })
				if owner < 0 {
					t.Fatal("nobody owns the document")
				}
				polls := u.since(time.Now().Add(-interval))
				last := polls[len(polls)-1]
				if len(polls) != 1 || last.node != places[owner].name {
					t.Fatalf("%v in the last interval, want one poll by %s", polls, places[owner].name)
				}
				time.Sleep(time.Until(last.at.Add(5 * time.Second)))
				lose(s, places[owner])
				left := places
				if name != "the engine is gone" {
					left = slices.Delete(slices.Clone(places), owner, owner+1)
				}
				time.Sleep(interval + testLease)
				next := u.since(last.at.Add(time.Millisecond))
				if len(next) == 0 || next[0].at.Sub(last.at) < interval || next[0].at.Sub(last.at) > interval+testLease {
					t.Errorf("after %v: %v, want one after an interval", last, next)
				}
				u.set(func() { u.fails = false })
				s.Start()
				time.Sleep(4 * interval)
				only(t, left...)
				leaveAll(left...)
			})
		})
	}
}

// TestUnsent: a document that may not be stored, and is too large to be sent,
// is polled by each node.
func TestUnsent(t *testing.T) {
	bubble(t, func(t *testing.T) {
		s, u := clustertest.NewServer(), &upstream{secret: true, pad: 3 * clustertest.MaxMessage, took: 10 * time.Millisecond}
		a := join(t, s, u, "a")
		time.Sleep(time.Second)
		b, c := join(t, s, u, "b"), join(t, s, u, "c")
		defer leaveAll(a, b, c)
		time.Sleep(time.Minute)
		synctest.Wait()
		for _, p := range []*place{a, b, c} {
			if id, _ := p.Document(); id == "" || p.now().State != live || time.Since(p.now().Validated) > 2*testInterval {
				t.Errorf("%s %s, and shows %q %s, validated %s", p.name, p.member.Role(), id, p.now().State, p.now().Validated)
			}
		}
		if n := len(u.since(time.Now().Add(-10 * time.Second))); n > 31 {
			t.Errorf("%d polls in ten intervals, want one of each node in each", n)
		}
		u.set(func() { u.pad = 100 }) // a small one is sent
		time.Sleep(unsentPause + 20*time.Second)
		only(t, a, b, c)
		from := time.Now()
		time.Sleep(20 * time.Second)
		steady(t, u, from, testInterval)
	})
}

// TestBusy: a call that waits in vain for its turn says whether the engine
// answered others meanwhile, as then nobody needs to be alone.
func TestBusy(t *testing.T) {
	for _, test := range []struct {
		name   string
		answer error
		want   error
	}{
		{"the engine answers", nil, errBusy},
		{"it hangs", context.DeadlineExceeded, context.DeadlineExceeded},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				n, err := NewNode(clustertest.NewServer().Connect(), Settings{Lease: testLease}, slog.New(slog.DiscardHandler))
				if err != nil {
					t.Fatal(err)
				}
				defer n.Close()
				var all sync.WaitGroup
				for range 2 * callsInFlight {
					all.Go(func() {
						_ = n.call(t.Context(), callTime, func(context.Context) error {
							time.Sleep(callTime * 9 / 10)
							return test.answer
						})
					})
				}
				synctest.Wait()
				if err := n.call(t.Context(), callTime, func(context.Context) error { return nil }); err != test.want {
					t.Errorf("%v, want %v", err, test.want)
				}
				all.Wait()
			})
		})
	}
}
