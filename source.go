package pollsse

import (
	"context"
	"sync/atomic"
	"time"
)

// settings are what decides a source beside the request itself. Two handlers
// with the same settings share sources; a reload that changes any makes new
// ones. It is hashed as a whole, so it holds plain values only.
type settings struct {
	Schedule  schedule
	MaxBody   int64
	Format    string // of the upstream's body
	Pages     pagination
	Since     []sinceParam
	Append    appended
	Filter    filterSettings
	History   int
	Linger    time.Duration
	Transport string // the transport's JSON
}

// source is one upstream resource as published: its poller, its document and
// its history. It polls from its first subscriber until the pool closes it,
// and does not notice a reload.
type source struct {
	key     [32]byte
	display string
	private bool
	linger  time.Duration
	log     *log

	link   atomic.Pointer[link]
	poke   chan struct{} // holds at most one request to poll now
	cancel context.CancelFunc
	done   chan struct{} // closed when the poller has stopped

	// The rest belongs to the pool.
	endpoint    *endpoint
	client      string              // the address that made it
	subscribers int                 // and holders
	holders     int                 // handlers that are always on
	names       map[string]struct{} // under which it was joined
	idle        *time.Timer         // runs while there are no subscribers
	idleSince   time.Time
}

// newSource makes a source and starts its poller.
func newSource(key [32]byte, req upstreamRequest, set settings, lk link, total *counters) *source {
	s := &source{
		key:     key,
		display: req.display,
		private: req.private,
		linger:  set.Linger,
		log:     newLog(set.History, time.Now()),
		poke:    make(chan struct{}, 1),
		done:    make(chan struct{}),
		names:   make(map[string]struct{}),
	}
	s.link.Store(&lk)
	var ids []byte
	if req.private {
		requestKey := req.key(nil) // not the settings: a reload must not change ids
		ids = requestKey[:]
	}
	p := &poller{
		request:  req,
		maxBody:  set.MaxBody,
		format:   set.Format,
		schedule: set.Schedule,
		pages:    set.Pages,
		since:    set.Since,
		append:   set.Append,
		link:     func() link { return *s.link.Load() },
		total:    total,
	}
	filter, _ := set.Filter.parse() // Validate has seen it
	ctx, cancel := context.WithCancel(context.Background())
	s.cancel = cancel
	go func() {
		defer close(s.done)
		p.run(ctx, newDiffer(ids, filter), s.log, s.poke)
	}()
	return s
}

// adopt lets a newer configuration's transport and logger take over.
func (s *source) adopt(lk link) {
	for {
		old := s.link.Load()
		if old.generation >= lk.generation {
			return
		}
		if s.link.CompareAndSwap(old, &lk) {
			old.retire()
			return
		}
	}
}

// pollNow has the upstream asked again as soon as no poll is in flight: one
// that is does not count, as it may have read the old state.
func (s *source) pollNow() {
	select {
	case s.poke <- struct{}{}:
	default:
	}
}

// close stops the poller and waits for it.
func (s *source) close() {
	s.cancel()
	<-s.done
}
