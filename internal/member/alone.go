package member

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"time"

	"github.com/pollsse/caddy-poll-sse/cluster"
)

// solitude is what a member does once it has polled for itself: it cannot tell
// which of two documents is newer, its own or the one that the engine has.
type solitude struct {
	*Member
	try   time.Time // when to look at the engine
	until time.Time // when to poll for itself again if the owner has not answered

	named uint64 // the revision of the record that was read last
	since time.Time

	// With an owner that is there: the nonce that it is asked with, empty
	// until this node's own last poll has ended.
	returns bool
	nonce   string
	ask     time.Time
	// held means that the owner's polls fail, too: as long as it is there, this
	// node makes none. It looks at until.
	held bool
}

// alone polls without an owner, until the engine is back: then this node is
// the owner, or follows one that has polled since this node last did.
func (m *Member) alone(ctx context.Context) {
	n := m.node
	now := time.Now()
	s := &solitude{Member: m, try: now}
	if m.unshared.After(now) {
		s.try = m.unshared
	}
	m.unshared = time.Time{}
	n.mu.Lock()
	lost := m.gate.rule == closed && m.polls != nil
	n.mu.Unlock()
	if !lost {
		s.poll(now)
	}
	if !n.StaleAlone {
		m.startPolling(ctx)
	}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for m.role == Alone && !m.ended {
		timer.Reset(s.wait())
		var ended <-chan struct{}
		if m.polls != nil {
			ended = m.polls.done
		}
		select {
		case <-ctx.Done():
			return
		case <-ended:
			m.ended = true // denied
			return
		case <-m.told:
		case <-m.noticed:
		case <-m.poke:
			if m.polls != nil {
				m.pollNow()
			}
		case message := <-m.topic.Messages():
			if message.Resync {
				s.try = time.Now().Add(spread(askAgain)) // not all nodes at once
				if s.held {
					s.repeat(s.try)
				}
			} else if e := m.receive(message); e != nil {
				s.hear(e)
			}
		case <-timer.C:
		}
		s.act(ctx)
	}
}

// poll lets polls begin. Nodes that have lost the engine together do not poll
// together.
func (s *solitude) poll(now time.Time) {
	s.returns, s.held, s.nonce = false, false, ""
	if s.node.StaleAlone {
		s.stopPolling()
		s.handover = Handover{}
		shown := unconfirmed(s.last)
		shown.ID, _ = s.source.Document()
		_ = s.source.Show(shown, nil) // which has no text to be wrong
		return
	}
	until := time.Time{}
	if s.polls == nil && s.last.Every > 0 {
		until = now.Add(spread(s.last.Every))
	}
	if s.notBefore.After(until) {
		until = s.notBefore
	}
	s.notBefore = time.Time{}
	s.open(free, s.node.stretch(), until)
}

// resume lets polls begin if the member had lost the document to another node,
// and cannot tell to which.
func (s *solitude) resume(now time.Time) {
	s.node.mu.Lock()
	stopped := s.gate.rule == closed
	s.node.mu.Unlock()
	if stopped && !s.node.StaleAlone {
		s.poll(now)
	}
}

var errAway = errors.New("the engine cannot be reached")

func (s *solitude) wait() time.Duration {
	next := s.try
	if s.returns {
		next = s.until
		if s.nonce != "" && !s.held && s.ask.Before(next) {
			next = s.ask
		}
	}
	return max(0, time.Until(next))
}

// act does what is due.
func (s *solitude) act(ctx context.Context) {
	now := time.Now()
	if s.role != Alone || s.ended {
		return
	}
	if s.held {
		s.attend(now)
	}
	if !s.returns {
		if !s.try.After(now) {
			s.look(ctx)
		}
		return
	}
	if !s.until.After(now) {
		// The owner says nothing, or its upstream nothing to it: one more poll
		// of its own.
		s.poll(now)
		s.try = now.Add(s.pause())
		return
	}
	s.node.mu.Lock()
	polling := s.gate.polling
	s.node.mu.Unlock()
	switch {
	case polling, s.held:
	case s.nonce == "":
		s.nonce = rand.Text()
		fallthrough
	case !s.ask.After(now):
		_ = s.send(&envelope{Kind: kindAsk, Nonce: s.nonce})
		s.ask = now.Add(askAgain)
	}
}

// hold has the member show its own document in the state that the owner tells
// of, whose polls fail. Nobody can tell which of the two documents is newer.
func (s *solitude) hold(e *envelope) {
	n, now := s.node, time.Now()
	s.held, s.until = true, now.Add(n.Lease)
	n.mu.Lock()
	s.seen, s.heardEntry, s.missing = mark{e.Revision, e.Sequence}, entry{}, false
	validated := s.latest.Validated
	n.mu.Unlock()
	shown := e.State.state(now)
	s.notBefore = shown.Next
	switch {
	case shown.denied():
		s.ended = s.source.Show(shown, nil) == nil
		return
	case shown.State == live:
		return // not for long, or an answer is on its way
	}
	shown.State, shown.Validated = stale, validated
	shown.ID, _ = s.source.Document()
	_ = s.source.Show(shown, nil) // which has no text to be wrong
}

// attend looks at whether the owner is still there, and has said anything that
// was not heard.
func (s *solitude) attend(now time.Time) {
	n := s.node
	n.mu.Lock()
	owner, seen, listed, missing := s.owner, s.seen, s.heardEntry, s.missing
	s.heardEntry, s.missing = entry{}, false
	n.mu.Unlock()
	p, _ := n.presence(owner, s.since)
	switch {
	case p == gone, missing, !n.hears(), listed.revision > seen.revision:
		s.held, s.returns, s.try = false, false, now
	case listed.revision != 0 && listed.mark != seen:
		s.repeat(now)
	default:
		s.until = now.Add(n.Lease)
		if listed.revision != 0 {
			s.notBefore = listed.next
		}
	}
}

// repeat asks the owner again.
func (s *solitude) repeat(now time.Time) {
	s.held, s.ask, s.until = false, now, now.Add(s.pause())
}

// pause returns how long a member waits for an owner's next poll.
func (s *solitude) pause() time.Duration {
	s.node.mu.Lock()
	defer s.node.mu.Unlock()
	return 2*max(s.latest.Every, s.last.Every) + s.node.Lease
}

// look finds out whether the engine is back, and who owns the document.
func (s *solitude) look(ctx context.Context) {
	n := s.node
	now := time.Now()
	s.try = now.Add(n.Lease / beatsPerLease)
	var r record
	err := errAway
	if n.engine.Up() {
		r, err = s.readOwner(ctx)
	}
	if err != nil {
		s.resume(now)
		return
	}
	s.try = now.Add(retryTime)
	if r.from == s.from {
		s.revision = r.revision
		// Nobody has taken it over meanwhile. That is said once it is heard.
		if n.fresh() {
			s.own()
		}
		return
	}
	// Another member of this node may own it: a source that a reload has
	// superseded has one of its own, beside that of the source that has its
	// place. If there is none, the record is of one that could not give it back.
	left := r.node == n.id && !n.has(s.seal.subject, r.from)
	if r.node != "" && !left {
		switch p, _ := n.presence(r.node, s.learn(r)); p {
		case present:
			s.follow(r)
			return
		case unknown:
			return // its node may come back, too
		}
	}
	s.revision = r.revision
	switch err := s.swap(ctx, nil); {
	case err == nil:
		_ = s.send(&envelope{Kind: kindOwner, Revision: s.revision})
		s.own()
	case !errors.Is(err, cluster.ErrConflict):
		s.try = now.Add(n.Lease / beatsPerLease)
	}
}

// learn returns since when the record has named its owner, as far as is known.
func (s *solitude) learn(r record) time.Time {
	if s.named != r.revision {
		s.named, s.since = r.revision, time.Now()
	}
	return s.since
}

// own makes the member the owner of what it has polled.
func (s *solitude) own() {
	n := s.node
	n.mu.Lock()
	defer n.mu.Unlock()
	s.role, s.owner = Owns, ""
	s.verified, s.lapses = time.Now(), n.lapses
	n.takeover = time.Now()
	n.log.Info("owns a document, after it was alone", "subject", s.seal.subject)
}

// follow makes the member follow an owner, once that one has polled again.
func (s *solitude) follow(r record) {
	n := s.node
	s.revision = r.revision
	n.mu.Lock()
	s.owner, s.seen = r.node, mark{revision: r.revision}
	polled := s.polled
	if p := n.peer(r.node); p != nil {
		s.listed = p.round
	}
	s.heardEntry, s.missing = entry{}, false
	n.mu.Unlock()
	if shown, _ := s.source.Document(); !polled || shown == "" {
		s.become(Joins)
		return
	}
	s.open(closed, 1, time.Time{})
	s.returns, s.held, s.nonce, s.until = true, false, "", time.Now().Add(s.pause())
	s.act(context.Background())
}

// hear handles an envelope of another member.
func (s *solitude) hear(e *envelope) {
	switch {
	case e.Kind == kindOwner:
		s.try = time.Now()
		if s.held && e.Free && e.State != nil {
			s.notBefore = e.State.state(s.try).Next
		}
		s.returns = s.returns && e.Revision <= s.revision && !e.Free
		s.held = s.held && s.returns
	case !s.returns || s.nonce == "" || e.Kind != kindState || e.Revision != s.revision:
	case slices.Contains(e.Nonces, s.nonce):
		// The owner has polled since this node last did.
		s.node.log.Info("follows, after it was alone", "subject", s.seal.subject)
		s.become(Joins)
	case slices.Contains(e.Failing, s.nonce) && e.State != nil:
		s.hold(e)
	case s.held:
		s.repeat(time.Now()) // it knows nothing of the nonce
	}
}
