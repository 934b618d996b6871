package member

import (
	"context"
	"math/rand/v2"
	"time"
)

// Turn is what a Source that polls asks before each poll, and informs after it.
type Turn struct {
	// Poke asks for a poll at once. It holds at most one request.
	Poke <-chan struct{}

	m polled
}

// polled is the member. With its type in a Turn, which reflection can reach,
// all of it would be linked into every build; see Cluster.
type polled interface {
	may(ctx context.Context) bool
	stretched() int
	part(limit int) int
	take(s State, text []byte)
}

// rule says whether a member may poll.
type rule int

const (
	closed rule = iota
	owned       // as long as it owns the document
	free        // it is alone
)

// gate lets polls begin; the node's mutex guards it.
type gate struct {
	rule    rule
	until   time.Time // none begins before; zero: at once
	stretch int       // by how much intervals are longer
	polling bool      // a poll has begun and not told of its end
	begun   time.Time // the last poll
	changed chan struct{}
}

// set changes the rule.
func (m *Member) open(r rule, stretch int, until time.Time) {
	m.node.mu.Lock()
	defer m.node.mu.Unlock()
	m.gate.rule, m.gate.stretch, m.gate.until = r, stretch, until
	close(m.gate.changed)
	m.gate.changed = make(chan struct{})
}

// May waits until a poll may begin, and returns false if ctx ends first. It
// follows the end of the poll before.
func (t *Turn) May(ctx context.Context) bool { return t.m.may(ctx) }

func (m *Member) may(ctx context.Context) bool {
	for {
		wait, changed := m.mayPoll()
		if wait == 0 {
			return ctx.Err() == nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return false
		case <-changed:
		case <-timer.C:
		}
		timer.Stop()
	}
}

// mayPoll begins a poll if it may begin now; if not, it says when to ask again.
func (m *Member) mayPoll() (time.Duration, <-chan struct{}) {
	n := m.node
	n.mu.Lock()
	defer n.mu.Unlock()
	if m.gate.polling {
		m.gate.polling = false
		m.notice()
	}
	now := time.Now()
	switch {
	case m.gate.rule == closed:
		return time.Hour, m.gate.changed
	case m.gate.until.After(now):
		return m.gate.until.Sub(now), m.gate.changed
	case m.gate.rule == owned && !m.owns(now):
		m.notice() // it is to be looked at
		return n.Lease / 30, m.gate.changed
	}
	m.gate.polling, m.gate.begun = true, now
	m.polled = true
	return 0, nil
}

// owns reports whether nobody else can have become the owner: either the others
// hear this node, without a break since the record was last read, or it was
// read just now. The node's mutex is held.
func (m *Member) owns(now time.Time) bool {
	n := m.node
	return m.lapses == n.lapses && (n.freshLocked() || now.Sub(m.verified) < n.Lease/beatsPerLease)
}

// Stretch returns the factor by which intervals have to be longer than planned:
// 1 or more.
func (t *Turn) Stretch() int { return t.m.stretched() }

func (m *Member) stretched() int {
	m.node.mu.Lock()
	defer m.node.mu.Unlock()
	return max(1, m.gate.stretch)
}

// Tell passes on what a poll has brought, or a state that has changed between
// polls, after it was shown here. The text is that of s.ID, and never written
// again. It waits for nothing: what was not sent yet is replaced.
func (t *Turn) Tell(s State, text []byte) { t.m.take(s, text) }

func (m *Member) take(s State, text []byte) {
	m.node.mu.Lock()
	if s.Begun.IsZero() {
		s.Begun, s.Took = m.latest.Begun, m.latest.Took // of a poll that was told before, perhaps not sent yet
	} else {
		m.gate.polling = false
		s.Took = m.latest.Took
		if !s.Validated.Before(s.Begun) {
			s.Took = s.Validated.Sub(s.Begun)
		}
	}
	m.latest, m.latestText = s, text
	m.entry.next, m.entry.every, m.entry.validated = s.Next, s.Every, s.Validated
	m.node.mu.Unlock()
	select {
	case m.told <- struct{}{}:
	default:
	}
}

// stretch is how much longer intervals are when nodes are alone, so that the
// upstream sees no more polls than from a few.
func (n *Node) stretch() int { return (n.Nodes() + politePolls - 1) / politePolls }

// spread returns a random part of d.
func spread(d time.Duration) time.Duration {
	if d <= 0 {
		return 0
	}
	return rand.N(d)
}
