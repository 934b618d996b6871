package pollsse

import (
	"context"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/pollsse/caddy-poll-sse/internal/feed"
	"github.com/pollsse/caddy-poll-sse/internal/upstream"
)

// source is one upstream resource as published: its poller, its document and
// its history. It polls from its first subscriber until the pool closes it,
// and goes on through a reload.
type source struct {
	display string
	claimed string // the name under which it was made
	private bool
	log     *feed.Log
	poller  *poller
	differ  *differ
	claim   *claim // of the handler that it was made for
	origin  origin // from start on

	// The pool sets these.
	upkeep      atomic.Pointer[upkeep]
	environment atomic.Pointer[environment]
	account     atomic.Pointer[account] // whom polls are charged to
	changed     chan struct{}           // holds at most one note that upkeep has changed
	// yields counts the sources that are about to take the place of this one.
	// While there are any, it shows nothing new. It is read and what follows from
	// it shown while showing, which has room for one, is full.
	yields  atomic.Int32
	showing chan struct{}

	readers atomic.Int64 // open streams
	paused  atomic.Bool  // by the admin API
	records records

	poke    chan struct{} // holds at most one request to poll now
	parents parents       // of those that asked for it
	cancel  context.CancelFunc
	done    chan struct{} // closed when the poller has stopped
}

// newSource makes a source. start starts its poller.
func newSource(req *upstream.Request, reading Reading, c *claim, total *counters) *source {
	s := &source{
		display: req.Display(),
		claimed: c.name,
		private: req.Private(),
		log:     feed.New(c.history, time.Now()),
		changed: make(chan struct{}, 1),
		poke:    make(chan struct{}, 1),
		showing: make(chan struct{}, 1),
		claim:   c,
		done:    make(chan struct{}),
	}
	s.log.Sent = &total.sent
	s.upkeep.Store(&c.upkeep)
	s.environment.Store(&c.environment)
	s.account.Store(new(account))
	var ids []byte
	if req.Private() {
		requestKey := req.Key(nil) // not what is read from it: a reload must not change ids
		ids = requestKey[:]
	}
	s.poller = &poller{
		request: req,
		reading: upstream.Reading{MaxBody: reading.MaxBody, Format: reading.UpstreamFormat, Since: reading.Since, Append: reading.Append, Pages: reading.Paginate},
		source:  s,
		total:   total,
		// What is appended and where it ends are of the whole answers.
		raw: reading.Select == "" && len(reading.Omit) == 0,
	}
	filter, _ := reading.filter() // Validate has seen it
	s.differ = newDiffer(ids, filter)
	return s
}

// start runs the source's origin in a goroutine, with what the sources of a pool
// share. Each start must be followed by one close.
func (s *source) start(p *pool) {
	s.poller.hosts, s.poller.tokens, s.poller.events, s.poller.traces = p.hosts, p.tokens, &p.events, &p.traces
	// Nodes tell each other of documents, not of the header fields that decide
	// who may be given one below a tree.
	if s.origin = origin(local{s}); s.claim.cluster != nil && !s.poller.request.Tree() {
		s.origin = newShared(s, s.claim, p.clusters)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	go func() {
		defer close(s.done)
		s.origin.run(ctx)
	}()
}

// follow takes over what the newest configuration asks for. The pool's mutex
// is held.
func (s *source) follow(u upkeep, env environment) {
	if old := s.environment.Load(); old.generation != env.generation {
		s.environment.Store(&env)
		old.closeIdle()
	}
	if *s.upkeep.Load() == u {
		return
	}
	s.upkeep.Store(&u)
	s.log.SetHistory(u.history)
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// setPaused stops the polls, or lets them go on.
func (s *source) setPaused(paused bool) {
	if s.paused.Swap(paused) == paused {
		return
	}
	s.environment.Load().logger.Info("polls were paused or resumed by the admin API", zap.String("poll_sse", s.claimed), zap.String("upstream", s.display), zap.Bool("paused", paused))
	select {
	case s.changed <- struct{}{}:
	default:
	}
}

// pollNow makes the source poll at once. A poll that is in flight does not
// count, as it may have read the old state: another one follows it. The request
// of ctx has caused it.
func (s *source) pollNow(ctx context.Context) {
	s.parents.add(ctx)
	select {
	case s.poke <- struct{}{}:
	default:
	}
}

// settle waits until the source has shown what it is about to show.
func (s *source) settle() {
	s.showing <- struct{}{}
	<-s.showing
}

// close stops the poller and waits for it.
func (s *source) close() {
	s.cancel()
	<-s.done
}
