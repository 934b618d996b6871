package delivery

import (
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pollsse/caddy-poll-sse/internal/feed"
)

// group is the streams of one rendition that one writer serves.
type group struct {
	all     *groups
	mail    *mailbox
	stop    func() // being woken
	members int    // guarded by the mutex of all groups

	// The mailbox's mutex guards these.
	queued bool          // in the mailbox
	since  time.Duration // when it was queued

	// The rest belongs to the writer.
	streams []*direct
	at      int // the stream that is served next
	left    int // how many are still to be served in this round
	round   round
}

// round knows since when the streams of a group have had something to read. A
// publication begins a round if there is none, and else makes the one that there is
// longer; a document that changes faster than a round takes never ends it.
type round struct {
	first int           // streams for which begun counts
	begun time.Duration // when the oldest block was made that one of them lacks
	newer time.Duration // the same for all others
	more  bool          // there are others
}

// publish notes a block that was made at a time, for so many streams.
func (r *round) publish(at time.Duration, streams int) {
	switch {
	case r.first == 0:
		r.first, r.begun, r.more = streams, at, false
	case !r.more:
		r.newer, r.more = at, true
	}
}

// pass notes that it was the turn of so many streams, and left of the group are still
// to come.
func (r *round) pass(streams, left int) {
	if r.first -= streams; r.first > 0 && left > 0 {
		return
	}
	if r.first = left; r.more {
		r.begun, r.more = r.newer, false
	}
}

// wake makes the writer look at every stream of the group. It does not wait:
// the mutex that it takes is never held for longer than it takes to append.
func (g *group) wake() {
	m := g.mail
	m.mu.Lock()
	if !g.queued {
		g.queued, g.since = true, now()
		m.due = append(m.due, g)
	}
	m.mu.Unlock()
	m.ring()
}

// mailbox holds what other goroutines ask of a writer.
type mailbox struct {
	mu        sync.Mutex
	closed    bool
	due       []*group  // to look at
	newcomers []*direct // to take on
	over      []overdue // to end
	surveys   []*survey // to answer
	signal    chan struct{}
}

// overdue is a stream that is to end if it still holds the block.
type overdue struct {
	stream *direct
	block  *retainedBlock
}

// giveUp implements holder.
func (s *direct) giveUp(b *retainedBlock) {
	m := s.group.mail
	m.mu.Lock()
	m.over = append(m.over, overdue{s, b})
	m.mu.Unlock()
	m.ring()
}

// ring wakes the writer if it sleeps.
func (m *mailbox) ring() {
	select {
	case m.signal <- struct{}{}:
	default:
	}
}

// give hands a stream to the writer. It returns false if the writer has ended.
func (m *mailbox) give(s *direct) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false
	}
	m.newcomers = append(m.newcomers, s)
	m.ring()
	return true
}

// writers are the goroutines that write direct streams. They start with the first
// stream and end, and every stream with them, when exit is closed.
//
// There is one for every two cores. One for each core costs a third more processor
// time a delivery if the system is at its limit: the kernel has to carry what is
// written, too, and then every writer is preempted all the time.
type writers struct {
	exit     <-chan struct{}
	patience time.Duration // with a client that takes too little
	groups   groups
	retained *retained

	mu      sync.Mutex
	all     []*writer
	running sync.WaitGroup
}

// minGroup is how many streams of a rendition one writer takes before another gets
// any: few streams are woken with one wake-up.
const minGroup = 64

// adopt hands a stream to a writer. If it returns false, the stream and its
// descriptor are still the caller's.
func (ws *writers) adopt(s *direct) bool {
	all := ws.start()
	if len(all) == 0 {
		return false
	}
	s.group = ws.groups.join(s.rendition, all)
	if s.group.mail.give(s) {
		return true
	}
	s.group.leave(s.rendition)
	return false
}

// start starts the writers if they do not run. It returns none after the exit, nor
// on systems that lack what they need.
func (ws *writers) start() []*writer {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	select {
	case <-ws.exit:
		return nil
	default:
	}
	for len(ws.all) < (runtime.GOMAXPROCS(0)+1)/2 {
		w, err := newWriter(ws.patience, ws.retained)
		if err != nil {
			break // serve with what there is
		}
		ws.all = append(ws.all, w)
		ws.running.Go(func() { w.run(ws.exit) })
	}
	return ws.all
}

// wait waits until the writers have ended, which they do within exitTime of
// the exit.
func (ws *writers) wait() {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	ws.running.Wait()
	ws.all = nil
}

// exitTime bounds how long clients may take for the end of their streams when
// the process exits.
const exitTime = time.Second

// groups knows which writers serve the streams of each rendition. Its mutex is
// locked before a log's, and a log's before a mailbox's; never the other way
// round.
type groups struct {
	mu sync.Mutex
	of map[*feed.Rendition][]*group
}

// nextWriter spreads small renditions over the writers.
var nextWriter atomic.Uint32

// join finds the group for one more stream: the one with the fewest streams, once
// the first has minGroup.
func (gs *groups) join(r *feed.Rendition, all []*writer) *group {
	gs.mu.Lock()
	defer gs.mu.Unlock()
	var best *group
	for _, g := range gs.of[r] {
		if best == nil || g.members < best.members {
			best = g
		}
	}
	if best == nil || best.members >= minGroup && len(gs.of[r]) < len(all) {
		best = &group{all: gs, mail: gs.freeWriter(r, all)}
		best.stop = r.OnPublish(best.wake)
		if gs.of == nil {
			gs.of = make(map[*feed.Rendition][]*group)
		}
		gs.of[r] = append(gs.of[r], best)
	}
	best.members++
	return best
}

// freeWriter returns the mailbox of a writer that has no group of r.
func (gs *groups) freeWriter(r *feed.Rendition, all []*writer) *mailbox {
	n := int(nextWriter.Add(1))
	for i := range all {
		m := &all[(n+i)%len(all)].mail
		if !slices.ContainsFunc(gs.of[r], func(g *group) bool { return g.mail == m }) {
			return m
		}
	}
	panic("BUG: every writer has a group already")
}

// leave takes a stream of r out of its group's count. A group without streams is
// no longer woken.
func (g *group) leave(r *feed.Rendition) {
	g.all.mu.Lock()
	defer g.all.mu.Unlock()
	if g.members--; g.members > 0 {
		return
	}
	g.stop()
	of := slices.DeleteFunc(g.all.of[r], func(other *group) bool { return other == g })
	if len(of) == 0 {
		delete(g.all.of, r)
		return
	}
	g.all.of[r] = of
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
