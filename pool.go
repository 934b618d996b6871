package pollsse

import (
	"context"
	"crypto/rand"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/pollsse/caddy-poll-sse/internal/upstream"
)

// Errors that refuse a newcomer.
var (
	errSubscribers = errors.New("max_subscribers is reached")
	errSources     = errors.New("max_sources is reached")
	errClient      = errors.New("max_streams_per_client is reached")
)

// deniedFor is how long a denial is remembered, so that a page with a stale
// login costs its upstream one request in that time.
const deniedFor = 5 * time.Second

// failedFor is how long a source is kept that has no document and no readers.
// Without it, each request for a document that cannot be had would make one to
// the upstream, without any pause.
const failedFor = 5 * time.Second

// clientShare is the part of max_sources that one client address may hold:
// random queries or cookies from one place leave room for everybody else.
const clientShare = 8

// pool holds every source of the process. It outlives configurations: that is
// how a source survives a reload.
type pool struct {
	mu        sync.Mutex
	entries   map[[32]byte]*entry
	byRequest map[[32]byte][]*entry // all of them
	endpoints map[string]*endpoint
	newest    *generation    // the newest configuration in use so far; nil: there was none
	closing   sync.WaitGroup // sources on their way out
	metrics   *metrics
	others    *counters                  // of the names beyond maxNames
	events    atomic.Pointer[eventQueue] // of the newest configuration; nil: nobody is told

	// What its sources share, each with a mutex of its own.
	hosts  *hostTable
	tokens *upstream.Tokens
	traces traces
	// clusters has this process's part in each.
	clusters *clusterTable
}

func newPool() *pool {
	m := newMetrics()
	return &pool{
		entries: make(map[[32]byte]*entry), byRequest: make(map[[32]byte][]*entry), endpoints: make(map[string]*endpoint),
		metrics: m, others: newCounters(m, otherNames), hosts: newHostTable(), tokens: new(upstream.Tokens), clusters: newClusterTable(),
	}
}

// entry is one source and what the pool knows about it.
type entry struct {
	source      *source
	key         [32]byte
	id          string   // in the admin API; of its first key, as a superseded source gets another one
	request     [32]byte // upstream.Request.Key without settings
	reading     [32]byte
	endpoint    *endpoint           // under whose name it was made and counts
	client      netip.Addr          // that made it
	subscribers int                 // and holders
	holders     int                 // handlers that are always on
	names       map[string]struct{} // under which it was subscribed to
	idle        *time.Timer         // runs while there are no subscribers
	idleSince   time.Time

	// claims counts subscribers and holders by the claim of their handler.
	// Only claims of the newest configuration so far have a say.
	claims     map[*claim]int
	generation uint64
	superseded bool // goes on for streams that stay
}

// endpoint counts what belongs to one name in the configuration, across
// reloads. There are as many as there were names.
type endpoint struct {
	name        string
	counters    *counters
	limits      limits // of the newest configuration that has started
	urls        urls   // below its trees
	sources     int
	subscribers int
	streams     int    // among them
	told        causes // refusals that there was an event about
	clients     map[netip.Addr]tally

	// Places for streams that the server itself has ended and expects back,
	// all kept for the same time.
	places map[placeKey][]*place
	oldest []*place
	kept   int
}

// tally is what one client address has under a name.
type tally struct{ sources, subscribers, kept int }

// placeKey says for whom and for which document a place is kept. The event id
// that a client returns with proves nothing, as anybody can make one up.
type placeKey struct {
	client  netip.Addr
	request [32]byte
}

type place struct {
	placeKey
	until time.Time
	taken bool
}

// admission is what one subscriber asks of the pool.
type admission struct {
	claim          *claim      // of its handler
	client         netip.Addr  // its address; the invalid one stands for all that have none
	request        [32]byte    // upstream.Request.Key without settings
	returning      bool        // presents the id of a stream that ended
	running        *generation // the newest configuration that runs; nil: there is none
	shared         bool        // clients decide no part of the upstream request
	stream         bool        // not a request for the document
	uncounted      bool        // the address stands for many clients: maxPerClient does not count
	maxSources     int
	maxSubscribers int
	maxPerClient   int
}

// subscription is one subscriber's, or holder's, part in a source.
type subscription struct {
	source   *source
	pool     *pool
	entry    *entry
	endpoint *endpoint // under which it was made
	claim    *claim
	client   netip.Addr
	holds    bool
	stream   bool
}

// subscribe subscribes to the source with this key and makes it first if it
// has to. Each success must be followed by one unsubscribe. Two names may share
// a source, and each has its own limits.
func (p *pool) subscribe(key [32]byte, at admission, make func(*counters) *source) (*subscription, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.endpoint(at.claim.name)
	p.note(at.running)
	p.note(at.claim.generation)
	now := time.Now()
	e.expire(now)
	spot := placeKey{at.client, at.request}
	returns := at.returning && len(e.places[spot]) > 0
	if err := e.full(at); err != nil && !returns {
		p.refused(e, refusalReason(err))
		return nil, err
	}
	n := p.find(key, at.claim)
	if n == nil {
		n = p.successor(at)
	}
	if n != nil && n.source.log.DeniedBefore(now.Add(-deniedFor)) {
		p.remove(n)
		n = nil
	}
	if n == nil {
		g := at.claim.generation
		if g.olderThan(p.newest) && p.newest.has(at.claim.use) {
			g = p.newest // its readers come to the same source
		}
		before := p.predecessors(at.claim, g, at.request)
		if !p.room(e, at, before) {
			p.refused(e, refusalReason(errSources))
			return nil, errSources
		}
		n = p.add(key, at, g, make(e.counters), before)
	} else {
		n.source.charge(at)
	}
	if returns {
		e.take(e.places[spot][0])
	}
	n.addClaim(at.claim)
	e.subscribers++
	if at.stream {
		e.streams++
		n.source.readers.Add(1)
	}
	e.count(at.client, tally{subscribers: 1})
	return &subscription{source: n.source, pool: p, entry: n, endpoint: e, claim: at.claim, client: at.client, stream: at.stream}, nil
}

// refused counts a newcomer that is refused. The mutex is held.
func (p *pool) refused(e *endpoint, reason string) {
	e.counters.refused.WithLabelValues(e.counters.name, reason).Inc()
	if e.told.news(reason, refusingFor) {
		p.events.Load().put(eventRefusing, map[string]any{"name": e.name, "reason": reason})
	}
}

// find returns the source with a key for a handler, nil if there is none. A newer
// configuration does not go back to one whose place was taken: that one goes on
// under another key, for the streams that stay with it. The mutex is held.
func (p *pool) find(key [32]byte, c *claim) *entry {
	n := p.entries[key]
	if n == nil || !n.superseded || n.generation >= c.generation.number {
		return n
	}
	delete(p.entries, key)
	_, _ = rand.Read(n.key[:]) // nobody's
	n.reading = n.key
	p.entries[n.key] = n
	return nil
}

// full returns the limit that leaves no room for a newcomer, nil if there is
// room. Places that are kept are not free.
func (e *endpoint) full(at admission) error {
	if e.subscribers+e.kept >= at.maxSubscribers {
		return errSubscribers
	}
	if t := e.clients[at.client]; !at.uncounted && t.subscribers+t.kept >= at.maxPerClient {
		return errClient
	}
	return nil
}

// account returns who pays for the polls of a source made for this subscriber.
func (at admission) account() account {
	switch {
	case at.shared:
		return account{}
	case at.client.IsValid():
		return account{client: at.client}
	}
	return account{name: at.claim.name}
}

// charge charges the polls of a source to its name once a second address reads
// it: otherwise its first reader could keep the others from it. Once the
// configuration itself reads it, it is the configuration's own. The pool's mutex
// is held.
func (s *source) charge(at admission) {
	was, now := *s.account.Load(), at.account()
	switch {
	case was == account{} || was == now:
		return
	case now != account{}:
		now = account{name: at.claim.name}
		if was.name != "" {
			return
		}
	}
	s.account.Store(&now)
}

// endpoint returns what belongs to a name; the mutex is held.
func (p *pool) endpoint(name string) *endpoint {
	e := p.endpoints[name]
	if e == nil {
		counts := p.others
		if len(p.endpoints) < maxNames && utf8.ValidString(name) { // Prometheus takes no other
			counts = newCounters(p.metrics, name)
		}
		e = newEndpoint(name, counts)
		p.endpoints[name] = e
	}
	return e
}

func newEndpoint(name string, counts *counters) *endpoint {
	return &endpoint{name: name, counters: counts, clients: make(map[netip.Addr]tally), places: make(map[placeKey][]*place)}
}

// count adds to what a client address has; the mutex is held.
func (e *endpoint) count(client netip.Addr, add tally) {
	t := e.clients[client]
	t = tally{t.sources + add.sources, t.subscribers + add.subscribers, t.kept + add.kept}
	if t == (tally{}) {
		delete(e.clients, client)
		return
	}
	e.clients[client] = t
}

// add takes in a source of a configuration and starts it. It is to take the place
// of those in before. The mutex is held.
func (p *pool) add(key [32]byte, at admission, g *generation, s *source, before []*entry) *entry {
	e := p.endpoint(at.claim.name)
	n := &entry{
		source: s, key: key, id: adminID(key), request: at.request, reading: at.claim.reading, endpoint: e, client: at.client,
		names: make(map[string]struct{}), claims: make(map[*claim]int), generation: g.number,
	}
	p.entries[key] = n
	p.byRequest[n.request] = append(p.byRequest[n.request], n)
	e.sources++
	e.count(at.client, tally{sources: 1})
	payer := at.account()
	s.account.Store(&payer)
	if len(before) > 0 {
		s.poller.succession = &succession{pool: p, own: n, before: before}
	}
	s.start(p)
	return n
}

// addClaim counts a subscriber or holder; the pool's mutex is held.
func (n *entry) addClaim(c *claim) {
	if n.idle != nil {
		n.idle.Stop()
		n.idle = nil
	}
	n.subscribers++
	n.names[c.name] = struct{}{}
	if n.claims[c]++; n.claims[c] == 1 {
		n.reckon()
	}
}

// removeClaim takes back addClaim; the pool's mutex is held.
func (n *entry) removeClaim(c *claim) {
	n.subscribers--
	if n.claims[c]--; n.claims[c] == 0 {
		delete(n.claims, c)
		n.reckon()
	}
}

// reckon works out when the source polls and what it keeps, as the handlers of
// the newest configuration ask for. If these have left for a moment, it does not
// go back to what older ones asked for; without any claims it goes on as it is.
// The pool's mutex is held.
func (n *entry) reckon() {
	for c := range n.claims {
		n.generation = max(n.generation, c.generation.number)
	}
	var all upkeep
	env := *n.source.environment.Load()
	found := false
	for c := range n.claims {
		if c.generation.number != n.generation {
			continue
		}
		if env.generation != n.generation {
			env = c.environment
		}
		if !found {
			all, found = c.upkeep, true
			continue
		}
		all = all.with(c.upkeep)
	}
	if found {
		n.source.follow(all, env)
	}
}

// retire forgets what a configuration that has ended asked for.
func (p *pool) retire(g *generation) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, n := range p.entries {
		if n.generation == g.number && len(n.claims) > 0 {
			n.generation = 0
			n.reckon()
		}
	}
}

// note notes a configuration that is in use, nil for none. While a new one starts,
// its servers may answer before its app runs. The mutex is held.
func (p *pool) note(g *generation) {
	if g != nil && !g.failed && (p.newest == nil || p.newest.olderThan(g)) {
		p.newest = g
	}
}

// isNewest reports whether a configuration is the newest one in use.
func (p *pool) isNewest(g *generation) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.newest == g
}

// abandon forgets what a configuration that could not start asked for, and ends the
// sources that were made for it: the one before it goes on.
func (p *pool) abandon(g *generation) {
	p.mu.Lock()
	defer p.mu.Unlock()
	g.failed = true
	if p.newest == g {
		p.newest = nil // the next request says which one runs
	}
	for _, n := range p.entries {
		switch {
		case n.source.claim.generation == g:
			n.source.log.Supersede(true)
			p.remove(n)
		case n.generation == g.number:
			n.generation = 0 // also without readers: those who come next decide
			n.reckon()
		}
	}
}

// hold keeps a source without subscribing to it: it is polled, and counts
// for no limit of subscribers. Nor is it refused over max_sources: it is
// the configuration's own. Each hold must be followed by one unsubscribe.
func (p *pool) hold(key, request [32]byte, c *claim, make func(*counters) *source) *subscription {
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.endpoint(c.name)
	p.note(c.generation)
	n := p.find(key, c)
	if n == nil {
		n = p.add(key, admission{claim: c, request: request, shared: true}, c.generation, make(e.counters), p.predecessors(c, c.generation, request))
	} else {
		n.source.account.Store(new(account))
	}
	n.addClaim(c)
	n.holders++
	return &subscription{source: n.source, pool: p, entry: n, endpoint: e, claim: c, holds: true}
}

// Where a request to poll now comes from.
const (
	pokedByWebhook   = "webhook"
	pokedByWrite     = "write" // through the handler
	pokedByAdmin     = "admin"
	pokedByInspector = "inspector"
)

// poke makes every source of a name poll at once, as the request of ctx asks. It
// makes no new source.
func (p *pool) poke(ctx context.Context, name, origin string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	c := p.endpoint(name).counters
	c.pokes.WithLabelValues(c.name, origin).Inc()
	for _, n := range p.entries {
		if _, ok := n.names[name]; ok {
			n.source.pollNow(ctx)
		}
	}
}

// room makes room for one more source: sources without subscribers give way,
// the longest idle first, those with subscribers never.
//
// Sources whose place the new one takes do not count.
func (p *pool) room(e *endpoint, at admission, before []*entry) bool {
	all, own := e.sources, e.clients[at.client].sources
	for _, n := range before {
		if n.endpoint == e {
			all--
		}
		if n.endpoint == e && n.client == at.client {
			own--
		}
	}
	share := max(1, at.maxSources/clientShare)
	if !at.shared && own >= share && !p.evict(e, func(n *entry) bool { return n.client == at.client }) {
		return false
	}
	return all < at.maxSources || p.evict(e, func(*entry) bool { return true })
}

func (p *pool) evict(e *endpoint, eligible func(*entry) bool) bool {
	var oldest *entry
	for _, n := range p.entries {
		if n.endpoint == e && n.idle != nil && eligible(n) && (oldest == nil || n.idleSince.Before(oldest.idleSince)) {
			oldest = n
		}
	}
	if oldest == nil {
		return false
	}
	p.remove(oldest)
	return true
}

// unsubscribe ends the subscription. keep holds its place for that long, for a
// client that the server has sent away and expects back.
func (s *subscription) unsubscribe(keep time.Duration) {
	p, n, e := s.pool, s.entry, s.endpoint
	p.mu.Lock()
	defer p.mu.Unlock()
	if s.holds {
		n.holders--
	} else {
		e.subscribers--
		if s.stream {
			e.streams--
			n.source.readers.Add(-1)
		}
		e.count(s.client, tally{subscribers: -1})
	}
	if keep > 0 {
		e.keep(placeKey{s.client, n.request}, time.Now().Add(keep))
	}
	p.detach(n, s.claim, keep)
}

// detach lets go of a source. After its last subscriber the source lingers. The
// mutex is held.
func (p *pool) detach(n *entry, c *claim, keep time.Duration) {
	n.removeClaim(c)
	if n.subscribers > 0 || p.removed(n) {
		return
	}
	linger := max(n.source.upkeep.Load().linger, keep)
	switch v := n.source.log.View(); {
	case v.Denial != nil:
		linger = deniedFor
	case v.Polled && v.Document == nil && keep == 0:
		linger = min(linger, failedFor)
	}
	n.idleSince = time.Now()
	var idle *time.Timer
	idle = time.AfterFunc(linger, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		if n.idle == idle {
			p.remove(n)
		}
	})
	n.idle = idle
}

// remove takes a source out and stops it without waiting: the pool's lock is
// held. closing does the waiting.
func (p *pool) remove(n *entry) {
	if n.idle != nil {
		n.idle.Stop()
		n.idle = nil
	}
	delete(p.entries, n.key)
	same := p.byRequest[n.request]
	i := slices.Index(same, n)
	if same = slices.Delete(same, i, i+1); len(same) > 0 {
		p.byRequest[n.request] = same
	} else {
		delete(p.byRequest, n.request)
	}
	n.endpoint.sources--
	n.endpoint.count(n.client, tally{sources: -1})
	p.closing.Go(n.source.close)
}

// removed reports whether a source was taken out; the mutex is held.
func (p *pool) removed(n *entry) bool { return p.entries[n.key] != n }

// lookup returns the source with a key if there is one.
func (p *pool) lookup(key [32]byte) *source {
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := p.entries[key]; n != nil {
		return n.source
	}
	return nil
}

// keep keeps a place; the mutex is held.
func (e *endpoint) keep(k placeKey, until time.Time) {
	spot := &place{placeKey: k, until: until}
	e.places[k] = append(e.places[k], spot)
	e.oldest = append(e.oldest, spot)
	e.kept++
	e.count(k.client, tally{kept: 1})
}

// take frees a kept place: its client is back, or its time is over. The mutex is
// held.
func (e *endpoint) take(spot *place) {
	spot.taken = true
	all := e.places[spot.placeKey]
	i := slices.Index(all, spot)
	if all = slices.Delete(all, i, i+1); len(all) == 0 {
		delete(e.places, spot.placeKey)
	} else {
		e.places[spot.placeKey] = all
	}
	e.kept--
	e.count(spot.client, tally{kept: -1})
}

// expire forgets the places of those that did not come back.
func (e *endpoint) expire(now time.Time) {
	i := 0
	for ; i < len(e.oldest) && (e.oldest[i].taken || !e.oldest[i].until.After(now)); i++ {
		if !e.oldest[i].taken {
			e.take(e.oldest[i])
		}
	}
	e.oldest = slices.Delete(e.oldest, 0, i)
}

// closeAll stops every source and waits for all of them.
func (p *pool) closeAll() {
	p.mu.Lock()
	for _, n := range p.entries {
		p.remove(n)
	}
	p.mu.Unlock()
	p.closing.Wait()
}

// subscribed reports whether there are any subscribers.
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
