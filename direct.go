package pollsse

import (
	"cmp"
	"crypto/tls"
	"math/rand/v2"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"
)

// direct is one client's event stream that is written straight to its socket:
// a socket and a cursor, without goroutine, timer or buffer. It belongs to the
// writer that it was given to.
type direct struct {
	// What a delivery touches comes first and together, as it is seldom in the
	// processor's caches: 128 bytes.
	rendition *rendition
	socket
	rest    []byte // of the block that the socket has not taken yet
	cursor  cursor
	why     string // why it ends; empty while it goes on
	bytes   int64
	frames  uint32
	blocked bool
	drained bool // has been told of the reload

	slot       int32
	index      int32 // in its group
	group      *group
	source     *source
	terms      *terms
	client     netip.AddrPort
	next       string        // why it will end at the deadline
	taken      int           // bytes of the piece that the client is to take in time
	begun      time.Duration // these are on the clock of now
	deadline   time.Duration
	takenSince time.Duration
}

// socket is a connection that was taken over.
type socket struct {
	fd int32
	// sure is how much more of its buffer a socket with TLS may use up before
	// it is asked again how much is free.
	sure int32
	// tls encrypts what is written, and owns the descriptor; nil where there
	// is no TLS.
	tls *tls.Conn
}

// terms are what the streams of one configuration have in common.
type terms struct {
	key    renditionKey
	retry  time.Duration // before jitter
	age    time.Duration // at which a stream ends, before jitter
	drain  *drain
	pool   *pool
	name   string
	logger *zap.Logger
	// logged says that the end of a stream is worth a line at level info,
	// as the server has an access log; else it is debugging.
	logged bool
}

// started is when the process started; now counts from there.
var started = time.Now()

func now() time.Duration { return time.Since(started) }

// newDirect prepares the stream of a connection that was taken over. It takes
// over its subscription to src, and a rendition joined for it.
func newDirect(sock socket, r *rendition, src *source, t *terms, c cursor, client netip.AddrPort, announce bool) *direct {
	first := newBlock(func(dst []byte) []byte { return appendOpening(dst, t.key, t.retry, c.resume, announce) })
	s := &direct{socket: sock, rendition: r, source: src, terms: t, cursor: c, client: client, rest: first.framed, begun: now()}
	s.deadline = s.begun + t.age - rand.N(t.age/10+1)
	s.next = endedAge
	return s
}

// leave gives back what the stream held, when its descriptor is closed, and
// says so in the log.
func (s *direct) leave() {
	s.rendition.leave()
	keep := time.Duration(0)
	if returns(s.why) {
		keep = keepPlace
	}
	s.source.endpoint.counters.sentBytes.Add(s.bytes)
	s.terms.pool.leave(s.source, s.terms.name, keep)
	level := zap.DebugLevel
	if s.terms.logged {
		level = zap.InfoLevel
	}
	if entry := s.terms.logger.Check(level, "stream ended"); entry != nil {
		entry.Write(
			zap.String("poll_sse", s.terms.name),
			zap.String("remote_ip", s.client.Addr().String()),
			zap.Uint16("remote_port", s.client.Port()),
			zap.String("ended_by", s.why),
			zap.Uint32("frames", s.frames),
			zap.Int64("sent", s.bytes),
			zap.Duration("streamed", now()-s.begun),
		)
	}
}

// group is the streams of one rendition that one writer serves.
type group struct {
	mail    *mailbox
	members int // guarded by the lock of the rendition's log

	queued bool // in the mailbox, whose lock guards it

	// The rest belongs to the writer.
	streams []*direct
	at      int // whose turn it is
	left    int // how many turns this round still has
}

// wake has the writer look at every stream of the group. It waits for nothing:
// the lock that it takes is never held for longer than it takes to append.
func (g *group) wake() {
	m := g.mail
	m.mu.Lock()
	if !g.queued {
		g.queued = true
		m.due = append(m.due, g)
	}
	m.mu.Unlock()
	m.ring()
}

// mailbox is how everybody else talks to a writer.
type mailbox struct {
	mu        sync.Mutex
	closed    bool
	due       []*group  // to look at
	newcomers []*direct // to take on
	signal    chan struct{}
}

// ring wakes the writer if it sleeps.
func (m *mailbox) ring() {
	select {
	case m.signal <- struct{}{}:
	default:
	}
}

// give hands a stream to the writer. It is refused when the writer has ended.
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

// writers are the goroutines that write direct streams. They start with the
// first stream and end, and every stream with them, when exit is closed.
//
// There is one for every two cores. One for each costs a third more processor
// time a delivery where the system is at its limit: what is written has to be
// carried on too, and then every writer is switched away from all the time.
type writers struct {
	exit     <-chan struct{}
	patience time.Duration // with a client that takes nothing; 0: writeTimeout

	mu      sync.Mutex
	all     []*writer
	running sync.WaitGroup
}

// runLength is how many streams of a rendition one writer takes before
// another gets any: few streams are woken with one wake-up.
const runLength = 64

// adopt hands a stream to a writer. Where it says no, the stream and its
// descriptor are still the caller's.
func (ws *writers) adopt(s *direct) bool {
	all := ws.start()
	if len(all) == 0 {
		return false
	}
	s.group = s.rendition.seat(all)
	if s.group.mail.give(s) {
		return true
	}
	s.rendition.unseat(s.group)
	return false
}

// start starts the writers if they do not run. It returns none after the exit,
// and where the system has no means for them.
func (ws *writers) start() []*writer {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	select {
	case <-ws.exit:
		return nil
	default:
	}
	for len(ws.all) < (runtime.GOMAXPROCS(0)+1)/2 {
		w, err := newWriter(cmp.Or(ws.patience, writeTimeout))
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

// nextWriter spreads small renditions over the writers.
var nextWriter atomic.Uint32

// seat finds the group for one more stream: that of the fewest streams, once
// the first has a run of them.
func (r *rendition) seat(all []*writer) *group {
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	var best *group
	for _, g := range r.groups {
		if best == nil || g.members < best.members {
			best = g
		}
	}
	if best == nil || best.members >= runLength && len(r.groups) < len(all) {
		best = &group{mail: r.freeWriter(all)}
		r.groups = append(r.groups, best)
	}
	best.members++
	return best
}

// freeWriter returns the mailbox of a writer that has no group of r.
func (r *rendition) freeWriter(all []*writer) *mailbox {
	n := int(nextWriter.Add(1))
	for i := range all {
		m := &all[(n+i)%len(all)].mail
		used := false
		for _, g := range r.groups {
			used = used || g.mail == m
		}
		if !used {
			return m
		}
	}
	panic("BUG: every writer has a group already")
}

// unseat takes a stream out of its group's count. A group without streams is
// not woken any more.
func (r *rendition) unseat(g *group) {
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	if g.members--; g.members > 0 {
		return
	}
	for i := range r.groups {
		if r.groups[i] == g {
			r.groups = append(r.groups[:i], r.groups[i+1:]...)
			return
		}
	}
}
