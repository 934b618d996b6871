package member

import (
	"context"
	"flag"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pollsse/caddy-poll-sse/cluster"
	"github.com/pollsse/caddy-poll-sse/cluster/clustertest"
)

var takeoverDocuments = flag.Int("takeover", 120, "the documents of a node that TestMassTakeover and TestMassHandback have go")

// swapLog is when which node tried to become an owner.
type swapLog struct {
	mu    sync.Mutex
	swaps []swap
}

type swap struct {
	at   time.Time
	node int
	lost bool
}

// loggedEngine logs the swaps of one node.
type loggedEngine struct {
	cluster.Engine
	node int
	log  *swapLog
}

func (e loggedEngine) Join(key string) (cluster.Topic, error) {
	t, err := e.Engine.Join(key)
	return loggedTopic{t, e}, err
}

type loggedTopic struct {
	cluster.Topic
	engine loggedEngine
}

func (t loggedTopic) Swap(ctx context.Context, revision uint64, record []byte) (uint64, error) {
	time.Sleep(time.Millisecond) // as far as the engine is
	next, err := t.Topic.Swap(ctx, revision, record)
	t.engine.log.mu.Lock()
	defer t.engine.log.mu.Unlock()
	t.engine.log.swaps = append(t.engine.log.swaps, swap{time.Now(), t.engine.node, err != nil})
	return next, err
}

// since are the swaps after a time.
func (l *swapLog) since(at time.Time) []swap {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := slices.IndexFunc(l.swaps, func(s swap) bool { return s.at.After(at) })
	if i < 0 {
		return nil
	}
	return slices.Clone(l.swaps[i:])
}

// crowd is several nodes that share many documents, which the first owns.
type crowd struct {
	server    *clustertest.Server
	log       *swapLog
	engines   []*clustertest.Connection
	nodes     []*Node
	stop      []context.CancelFunc
	running   []*sync.WaitGroup
	members   [][]*Member // by node
	documents []*upstream
}

// gather starts a crowd. Its documents are polled one after the other.
func gather(t *testing.T, nodes, documents int, interval time.Duration) *crowd {
	t.Helper()
	c := &crowd{server: clustertest.NewServer(), log: new(swapLog)}
	for range documents {
		c.documents = append(c.documents, &upstream{steady: true, interval: interval})
	}
	for i := range nodes {
		engine := c.server.Connect()
		n, err := NewNode(loggedEngine{engine, i, c.log}, Settings{Lease: testLease}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		running := new(sync.WaitGroup)
		c.engines, c.nodes, c.stop, c.running = append(c.engines, engine), append(c.nodes, n), append(c.stop, stop), append(c.running, running)
		c.members = append(c.members, nil)
		for d, u := range c.documents {
			m := n.Member([]byte(strconv.Itoa(d)), "host", &shower{t: t, name: strconv.Itoa(i), upstream: u, interval: interval, state: State{State: waiting}}, nil)
			c.members[i] = append(c.members[i], m)
			running.Go(func() { m.Run(ctx) })
			if i == 0 {
				time.Sleep(interval / time.Duration(documents))
			}
		}
		time.Sleep(testLease)
	}
	return c
}

// leave ends one node.
func (c *crowd) leave(node int) {
	c.stop[node]()
	c.running[node].Wait()
	c.nodes[node].Close()
}

// peak is the most of times within a span.
func peak(times []time.Time, span time.Duration) int {
	slices.SortFunc(times, time.Time.Compare)
	most, from := 0, 0
	for i, at := range times {
		for at.Sub(times[from]) >= span {
			from++
		}
		most = max(most, i-from+1)
	}
	return most
}

// taken checks how the first node's documents were taken over after it went:
// evenly, by one swap each, and none polled later than it may be.
func (c *crowd) taken(t *testing.T, went time.Time, late time.Duration) (swaps, polls []time.Time) {
	t.Helper()
	synctest.Wait()
	lost := 0
	for _, s := range c.log.since(went) {
		if s.node == 0 {
			continue
		}
		if s.lost {
			lost++
		}
		swaps = append(swaps, s.at)
	}
	var longest time.Duration
	early := 0
	for _, u := range c.documents {
		all := u.since(time.Time{})
		i := slices.IndexFunc(all, func(p poll) bool { return p.at.After(went) })
		if i < 1 {
			t.Fatalf("a document is not polled any more: %v", all)
		}
		polls = append(polls, all[i].at)
		pause := all[i].at.Sub(all[i-1].at) - c.documents[0].interval
		longest = max(longest, pause)
		if pause < 0 {
			early++
		}
	}
	if longest > late {
		t.Errorf("a document waits an interval and %s, want at most %s more", longest, late)
	}
	// Only one that was due between the owner's last beat and the next may have
	// been polled by it, too.
	interval := c.documents[0].interval
	if most := int(time.Duration(len(c.documents)) * (testLease / beatsPerLease) / interval); early > most+1 || interval <= testLease && early > 0 {
		t.Errorf("%d documents are polled early, want at most %d", early, most)
	}
	var shares []int
	for _, n := range c.nodes[1:] {
		owns, _, alone := n.Counts()
		shares = append(shares, owns)
		fair := len(c.documents) / (len(c.nodes) - 1)
		if owns < fair*2/5 || owns > fair*8/5 || alone > 0 {
			t.Errorf("a node owns %d documents, is alone for %d; a fair share is %d", owns, alone, fair)
		}
	}
	if lost > len(c.documents)/20 {
		t.Errorf("%d of %d swaps were lost to another node", lost, len(swaps))
	}
	t.Logf("%d documents: shares %v; %d swaps, %d lost, %d in the fullest 0.1s, over %s; first polls: %d in the fullest 0.1s; at most an interval and %s apart, %d early",
		len(c.documents), shares, len(swaps), lost, peak(swaps, 100*time.Millisecond), swaps[len(swaps)-1].Sub(swaps[0]), peak(polls, 100*time.Millisecond), longest, early)
	return swaps, polls
}

// TestMassTakeover: the documents of a node that is lost go to all others, and
// not all at once.
func TestMassTakeover(t *testing.T) {
	for _, interval := range []time.Duration{time.Second, 10 * time.Second, time.Minute} {
		t.Run(interval.String(), func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				c := gather(t, 4, *takeoverDocuments, interval)
				time.Sleep(interval + 300*time.Millisecond)
				killed := time.Now()
				c.engines[0].Cut()
				c.leave(0)
				time.Sleep(2*testLease + interval)
				swaps, polls := c.taken(t, killed, testLease+10*time.Millisecond) // the engine takes one, and more in a queue
				last := slices.MaxFunc(swaps, time.Time.Compare)
				if took := last.Sub(killed); took > 2*testLease {
					t.Errorf("it takes %s to take over all documents, want two leases", took)
				}
				// As many in a second as there are documents, or a second's share of
				// those that have a lease for it.
				most := len(c.documents) / int(min(interval, 2*testLease/3)/(100*time.Millisecond))
				if got := peak(swaps, 100*time.Millisecond); got > 2*most+10 {
					t.Errorf("%d swaps in 0.1s, want about %d", got, most)
				}
				if got := peak(polls, 100*time.Millisecond); got > 2*most+10 {
					t.Errorf("%d polls in 0.1s, want about %d", got, most)
				}
				for i := range c.nodes[1:] {
					c.leave(i + 1)
				}
			})
		})
	}
}

// TestMassHandback: so do those of a node that ends, when their polls are due.
func TestMassHandback(t *testing.T) {
	bubble(t, func(t *testing.T) {
		c := gather(t, 4, *takeoverDocuments, 10*time.Second)
		time.Sleep(10 * time.Second)
		left := time.Now()
		c.leave(0)
		time.Sleep(20 * time.Second)
		// The node that goes asks the engine 64 things at a time.
		c.taken(t, left, 50*time.Millisecond+time.Duration(2*len(c.documents)/callsInFlight)*time.Millisecond)
		for i := range c.nodes[1:] {
			c.leave(i + 1)
		}
	})
}

// TestPokeOfTheLost: a poke that an owner no longer gets is the next one's.
func TestPokeOfTheLost(t *testing.T) {
	for name, count := range map[string]int{"at the next owner": 1, "at all followers": 3} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				s, u := clustertest.NewServer(), &upstream{interval: time.Minute}
				a := join(t, s, u, "a")
				time.Sleep(time.Second)
				var left []*place
				for i := range count {
					left = append(left, join(t, s, u, string(rune('b'+i))))
				}
				defer leaveAll(left...)
				time.Sleep(5 * time.Second)
				a.kill()
				time.Sleep(100 * time.Millisecond)
				poked := time.Now()
				for _, p := range left {
					p.poke <- struct{}{}
				}
				time.Sleep(2 * testLease)
				owner := only(t, left...)
				polls := u.since(poked)
				if len(polls) < 1 || len(polls) > count || polls[0].node != owner.name {
					t.Errorf("%v in two leases after a poke, want one poll", polls)
				}
			})
		})
	}
}

// TestHostParts: nodes divide what a host takes by what each polls there.
func TestHostParts(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const limit = 16
		c := gather(t, 3, 30, 10*time.Second)
		parts := func() (all []int) {
			synctest.Wait()
			for i, n := range c.nodes {
				if n == nil {
					continue
				}
				all = append(all, (&Turn{m: c.members[i][0]}).Part(limit))
			}
			return all
		}
		if got := parts(); !slices.Equal(got, []int{limit, 1, 1}) {
			t.Errorf("a node that polls everything has %v of %d polls", got, limit)
		}
		c.leave(0)
		c.nodes[0] = nil
		time.Sleep(2 * testLease)
		if got := parts(); got[0]+got[1] > limit || got[0]+got[1] < limit-1 || got[0] < 4 || got[1] < 4 {
			t.Errorf("two nodes that share what one has left have %v of %d polls", got, limit)
		}
		if got := (&Turn{m: c.members[1][0]}).Part(1); got != 1 {
			t.Errorf("a node has %d of 1 poll", got)
		}
		c.server.Stop()
		time.Sleep(2 * testLease)
		if got := parts(); !slices.Equal(got, []int{limit / 2, limit / 2}) {
			t.Errorf("two nodes that are alone have %v of %d polls", got, limit)
		}
		c.server.Start()
		time.Sleep(20 * time.Second)
		c.leave(1)
		c.nodes[1] = nil
		time.Sleep(2 * testLease)
		if got := parts(); got[0] != limit {
			t.Errorf("the last node has %v of %d polls", got, limit)
		}
		c.leave(2)
	})
}
