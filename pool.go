package pollsse

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

// errSubscribers and errSources refuse a newcomer.
var (
	errSubscribers = errors.New("max_subscribers is reached")
	errSources     = errors.New("max_sources is reached")
)

// deniedFor is how long a denial is remembered, so that a page with a stale
// login costs its upstream one request in that time.
const deniedFor = 5 * time.Second

// failedFor is how long a source is kept that never had a document and that
// nobody reads: without it, every request for a document that cannot be had
// would cost the upstream one of its own, with no pause at all.
const failedFor = 5 * time.Second

// clientShare is the part of max_sources that one client address may hold:
// random queries or cookies from one place leave room for everybody else.
const clientShare = 8

// pool holds every source of the process. It outlives configurations: that is
// how a source survives a reload.
type pool struct {
	mu        sync.Mutex
	sources   map[[32]byte]*source
	endpoints map[string]*endpoint
	closing   sync.WaitGroup // sources on their way out
}

// endpoint counts what belongs to one name in the configuration, across
// reloads. There are as many as there were names.
type endpoint struct {
	name        string
	counters    counters
	sources     int
	subscribers int
	clients     map[string]int // sources made, by client address
	// returning holds when each place expires that is kept for a stream
	// that the server itself has ended and that is expected back.
	returning []time.Time
}

// counters are an endpoint's totals since the process started.
type counters struct {
	polls, failures, changes  atomic.Int64
	upstreamBytes, sentBytes  atomic.Int64 // bodies, decoded; events
	streams, answers, refused atomic.Int64
}

// seat is what one subscriber asks of the pool.
type seat struct {
	endpoint       string
	client         string // address, for its share of the sources
	returning      bool   // presents the id of a stream that ended
	shared         bool   // clients do not decide which source: no share
	maxSources     int
	maxSubscribers int
}

var sources = &pool{sources: make(map[[32]byte]*source), endpoints: make(map[string]*endpoint)}

// join subscribes to the source with this key and makes it first if it has
// to. Each success must be followed by one leave under the same name: two
// names may share a source, and each has its own limits.
func (p *pool) join(key [32]byte, at seat, make func(*counters) *source) (*source, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.endpoint(at.endpoint)
	now := time.Now()
	e.expire(now)
	kept := len(e.returning)
	if at.returning && kept > 0 {
		kept--
	}
	if e.subscribers+kept >= at.maxSubscribers {
		e.counters.refused.Add(1)
		return nil, errSubscribers
	}
	s := p.sources[key]
	if s != nil && s.log.deniedBefore(now.Add(-deniedFor)) {
		p.remove(s)
		s = nil
	}
	if s == nil {
		if !p.room(e, at) {
			e.counters.refused.Add(1)
			return nil, errSources
		}
		s = p.add(key, e, at.client, make)
	}
	if at.returning && len(e.returning) > 0 {
		e.returning = e.returning[1:]
	}
	s.enter(e)
	e.subscribers++
	return s, nil
}

// endpoint gives what belongs to a name; the mutex is held.
func (p *pool) endpoint(name string) *endpoint {
	e := p.endpoints[name]
	if e == nil {
		e = &endpoint{name: name, clients: map[string]int{}}
		p.endpoints[name] = e
	}
	return e
}

// add makes a source; the mutex is held.
func (p *pool) add(key [32]byte, e *endpoint, client string, make func(*counters) *source) *source {
	s := make(&e.counters)
	s.endpoint, s.client = e, client
	p.sources[key] = s
	e.sources++
	e.clients[client]++
	return s
}

// enter counts one who holds the source; the pool's mutex is held.
func (s *source) enter(e *endpoint) {
	if s.idle != nil {
		s.idle.Stop()
		s.idle = nil
	}
	s.subscribers++
	s.names[e.name] = struct{}{}
}

// hold keeps a source without subscribing to it: it is polled, and counts
// for no limit of subscribers. Nor is it refused over max_sources: it is
// the configuration's own. Each hold must be followed by one release.
func (p *pool) hold(key [32]byte, name string, make func(*counters) *source) *source {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.endpoint(name)
	s := p.sources[key]
	if s == nil {
		s = p.add(key, e, "", make)
	}
	s.enter(e)
	s.holders++
	return s
}

// release ends a hold.
func (p *pool) release(s *source) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.holders--
	p.part(s, 0)
}

// poke has every source of a name polled at once. It makes none.
func (p *pool) poke(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.sources {
		if _, ok := s.names[name]; ok {
			s.pollNow()
		}
	}
}

// room makes room for one more source: sources without subscribers give way,
// the longest idle first, those with subscribers never.
func (p *pool) room(e *endpoint, at seat) bool {
	share := max(1, at.maxSources/clientShare)
	if !at.shared && e.clients[at.client] >= share && !p.evict(e, func(s *source) bool { return s.client == at.client }) {
		return false
	}
	return e.sources < at.maxSources || p.evict(e, func(*source) bool { return true })
}

func (p *pool) evict(e *endpoint, eligible func(*source) bool) bool {
	var oldest *source
	for _, s := range p.sources {
		if s.endpoint == e && s.idle != nil && eligible(s) && (oldest == nil || s.idleSince.Before(oldest.idleSince)) {
			oldest = s
		}
	}
	if oldest == nil {
		return false
	}
	p.remove(oldest)
	return true
}

// leave ends one subscription. keep holds the place for that long, for a
// client that the server has sent away and expects back.
func (p *pool) leave(s *source, name string, keep time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.endpoints[name]
	e.subscribers--
	if keep > 0 {
		e.returning = append(e.returning, time.Now().Add(keep))
	}
	p.part(s, keep)
}

// part lets go of a source, which lingers after the last; the mutex is held.
func (p *pool) part(s *source, keep time.Duration) {
	s.subscribers--
	if s.subscribers > 0 || p.sources[s.key] != s {
		return
	}
	linger := max(s.linger, keep)
	switch v := s.log.view(); {
	case v.denial != nil:
		linger = deniedFor
	case v.polled && v.doc == nil && keep == 0:
		linger = min(linger, failedFor)
	}
	s.idleSince = time.Now()
	var idle *time.Timer
	idle = time.AfterFunc(linger, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if s.idle == idle {
			p.remove(s)
		}
	})
	s.idle = idle
}

// remove takes a source out and stops it without waiting: the pool's lock is
// held. wait does the waiting.
func (p *pool) remove(s *source) {
	if s.idle != nil {
		s.idle.Stop()
		s.idle = nil
	}
	delete(p.sources, s.key)
	e := s.endpoint
	e.sources--
	if e.clients[s.client]--; e.clients[s.client] == 0 {
		delete(e.clients, s.client)
	}
	p.closing.Go(s.close)
}

// lookup finds a source and makes none.
func (p *pool) lookup(key [32]byte) *source {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.sources[key]
}

// expire forgets the places of those that did not come back.
func (e *endpoint) expire(now time.Time) {
	i := 0
	for i < len(e.returning) && !e.returning[i].After(now) {
		i++
	}
	e.returning = e.returning[i:]
}

// closeAll stops every source and waits for all of them.
func (p *pool) closeAll() {
	p.mu.Lock()
	for _, s := range p.sources {
		p.remove(s)
	}
	p.mu.Unlock()
	p.closing.Wait()
}

// subscribed tells whether anybody reads anything.
func (p *pool) subscribed() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.endpoints {
		if e.subscribers > 0 {
			return true
		}
	}
	return false
}
