package pollsse

import (
	"slices"
	"time"

	"github.com/pollsse/caddy-poll-sse/internal/feed"
)

// succession is how a source takes the place of others that a reload has
// changed: those of the same name and upstream request, with other settings.
// It shows nothing until a poll of its own has begun after they last confirmed a
// document: their readers come here next, and must not go back to an older one.
type succession struct {
	pool   *pool
	own    *entry
	before []*entry
	yields bool // they have been asked to yield
}

// take ends the others and returns the history to go on from. It returns
// false if the poll that began at begun may be older than what they have shown;
// they then show nothing until yield(false). It also returns false if this source
// is to end.
func (s *succession) take(begun time.Time) (feed.Past, bool) {
	s.yield(true)
	for _, n := range s.before {
		n.source.settle()
	}
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	if s.pool.removed(s.own) {
		return feed.Past{}, false // its poller is about to end
	}
	// A still newer configuration may have gone back to one of them. Then that one
	// has this one's place.
	overtaken := slices.ContainsFunc(s.before, func(n *entry) bool {
		return !s.pool.removed(n) && n.generation > s.own.generation
	})
	if overtaken && !s.pool.supersede(s.own) {
		return feed.Past{}, false
	}
	for _, n := range s.before {
		if n.source.log.ConfirmedAfter(begun) {
			return feed.Past{}, false
		}
	}
	var from feed.Past
	var newest time.Time
	for _, n := range s.before {
		if n.source.claim.part != s.own.source.claim.part {
			continue // its changes may tell what this one leaves out
		}
		if v := n.source.log.View(); v.Document != nil && !v.Validated.Before(newest) {
			from, newest = n.source.log.Past(), v.Validated
		}
	}
	for _, n := range s.before {
		if !s.pool.removed(n) && n.generation < s.own.generation {
			s.pool.supersede(n)
		}
	}
	s.yield(false)
	return from, true
}

// yield asks the others to show nothing new for now, or no longer to.
func (s *succession) yield(on bool) {
	if s == nil || s.yields == on {
		return
	}
	s.yields = on
	by := int32(1)
	if !on {
		by = -1
	}
	for _, n := range s.before {
		n.source.yields.Add(by)
	}
}

// supersede tells the streams of a source that another one has taken its place. It
// returns false if the source ends; it goes on for streams that stay with it. The
// mutex is held.
func (p *pool) supersede(n *entry) bool {
	if !n.stays() {
		n.source.log.Supersede(true)
		p.remove(n)
		return false
	}
	if !n.superseded {
		n.superseded = true
		n.source.log.Supersede(false)
	}
	return true
}

// successor returns the source that has the place of the one that a request to an
// older configuration asks for: another one beside it could be ahead of it, and the
// client would go back with its next request. It returns nil if there is none. One
// that shows another part of the upstream's document does not count: it may be
// another handler's, or show what the older configuration leaves out. The pool's
// mutex is held.
func (p *pool) successor(at admission) *entry {
	if !at.claim.generation.olderThan(p.newest) || p.newest.has(at.claim.use) {
		return nil
	}
	for _, n := range slices.Backward(p.byRequest[at.request]) {
		if _, named := n.names[at.claim.name]; named && p.newest.reads(n) && n.source.claim.part == at.claim.part {
			return n
		}
	}
	return nil
}

// stays reports whether there are streams that stay with the source when another
// one has taken its place; the pool's mutex is held.
func (n *entry) stays() bool {
	for c := range n.claims {
		if c.stays {
			return true
		}
	}
	return false
}

// predecessors returns the sources whose place a new one takes, made for a claim
// and a configuration: those of the same name and request whose settings the
// configuration no longer has. The mutex is held.
func (p *pool) predecessors(c *claim, g *generation, request [32]byte) []*entry {
	if g.failed {
		return nil // the configuration before it runs on
	}
	var before []*entry
	for _, n := range p.byRequest[request] {
		if _, named := n.names[c.name]; named && n.generation < g.number && !g.reads(n) && sameHandler(n.source.claim, c, g) {
			before = append(before, n)
		}
	}
	return before
}

// sameHandler reports whether a handler of a configuration, with the claim now, is the
// one that a source was made for before a reload, with the claim was. Several handlers
// of one name can read parts of one document: if the part has changed, nothing tells
// which handler it was, unless there is only one.
func sameHandler(was, now *claim, g *generation) bool {
	return was.part == now.part || was.generation.readsOneWay(now.name) && g.readsOneWay(now.name)
}

// has reports whether a configuration has a use.
func (g *generation) has(u use) bool {
	_, ok := g.uses[u]
	return ok
}

// reads reports whether a configuration reads a source under any of its names; the
// pool's mutex is held.
func (g *generation) reads(n *entry) bool {
	for name := range n.names {
		if g.has(use{name, n.reading}) {
			return true
		}
	}
	return false
}
