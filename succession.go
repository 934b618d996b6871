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
// they then show nothing until yield(false).
func (s *succession) take(begun time.Time) (feed.Past, bool) {
	s.yield(true)
	for _, n := range s.before {
		n.source.settle()
	}
	s.pool.mu.Lock()
	defer s.pool.mu.Unlock()
	for _, n := range s.before {
		if s.pool.entries[n.key] == n && n.generation > s.own.generation {
			// A still newer configuration has gone back to it.
			if s.pool.entries[s.own.key] == s.own {
				s.own.source.log.Supersede(true)
				s.pool.remove(s.own)
			}
			return feed.Past{}, false
		}
	}
	for _, n := range s.before {
		if n.source.log.ConfirmedAfter(begun) {
			return feed.Past{}, false
		}
	}
	var from feed.Past
	var newest time.Time
	for _, n := range s.before {
		if v := n.source.log.View(); v.Document != nil && !v.Validated.Before(newest) {
			from, newest = n.source.log.Past(), v.Validated
		}
	}
	for _, n := range s.before {
		switch {
		case s.pool.entries[n.key] != n || n.generation == s.own.generation:
		case n.stays():
			n.superseded = true
			n.source.log.Supersede(false)
		default:
			n.source.log.Supersede(true)
			s.pool.remove(n)
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

// successor returns the source that has the place of the one that a request to an
// older configuration asks for: another one beside it could be ahead of it, and the
// client would go back with its next request. It returns nil if there is none. The
// pool's mutex is held.
func (p *pool) successor(at admission) *entry {
	if !at.claim.generation.olderThan(at.running) {
		return nil
	}
	if _, unchanged := at.running.uses[at.claim.use]; unchanged {
		return nil
	}
	for _, n := range slices.Backward(p.byRequest[at.request]) {
		if _, named := n.names[at.claim.name]; named && at.running.has(n) {
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

// predecessors returns the sources whose place a new one takes: those of the
// same name and request whose settings the newest configuration no longer has.
// The mutex is held.
func (p *pool) predecessors(c *claim, request [32]byte) []*entry {
	var before []*entry
	for _, n := range p.byRequest[request] {
		if _, named := n.names[c.name]; named && n.generation < c.generation.number && !c.generation.has(n) {
			before = append(before, n)
		}
	}
	return before
}

// has reports whether a configuration has a source under any of its names; the
// pool's mutex is held.
func (g *generation) has(n *entry) bool {
	for name := range n.names {
		if _, ok := g.uses[use{name, n.reading}]; ok {
			return true
		}
	}
	return false
}
