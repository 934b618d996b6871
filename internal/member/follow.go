package member

import (
	"context"
	"errors"
	"time"

	"github.com/pollsse/caddy-poll-sse/cluster"
)

const (
	// askAgain is the pause between two questions that nobody answers.
	askAgain = 200 * time.Millisecond
	// answerTime is how long a node that has just joined waits for the owner
	// before it shows what is stored.
	answerTime = 300 * time.Millisecond
	// retryTime is the pause after a call that has failed, or that another node
	// won.
	retryTime = 100 * time.Millisecond
	// fetchPause is the longest pause between two reads of a text that is not
	// there yet.
	fetchPause = 2 * time.Second
	// unsentPause is how long a node polls for itself what cannot be sent to
	// it, before it asks again.
	unsentPause = 10 * time.Minute
)

// following is what a member has to do while it follows, and when. A zero time
// means never.
type following struct {
	*Member
	read    time.Time // the owner's record
	take    time.Time // the document over
	lost    bool      // that is because its owner is silent
	asked   time.Time // since when the owner has not answered
	ask     time.Time // again
	asks    int
	text    bool      // the text, too
	fetch   time.Time // the text of wanted
	tries   int       // to fetch it
	wanted  State
	lacks   time.Time // since when it has lacked the text of what the owner shows
	base    State     // what is stored, and its text: to be shown once the owner says so
	under   []byte
	show    time.Time // base, as stale
	silent  time.Time // look at whether the owner is
	hope    time.Time // the last sign that there is an owner, or may be
	failing bool      // the engine does not answer
	owned   bool      // somebody owns the document
	learned time.Time // who that is
	told    bool      // an owner has said how the document is
	poked   time.Time // when a poke was last sent to an owner
}

// follow shows what the owner publishes, until this node takes over or is
// alone. Nothing was polled since it last followed.
func (m *Member) follow(ctx context.Context) {
	m.stopPolling()
	m.notBefore = time.Time{}
	m.node.mu.Lock()
	m.polled = false
	m.node.mu.Unlock()
	now := time.Now()
	f := &following{Member: m, read: now, hope: now.Add(-m.node.away())}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for ctx.Err() == nil && !m.ended && (m.role == Joins || m.role == Follows) {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-m.noticed:
		case <-m.poke:
			f.pass()
		case message := <-m.topic.Messages():
			if message.Resync {
				f.read = time.Now()
			} else if e := m.receive(message); e != nil {
				f.hear(e)
			}
		}
		timer.Reset(f.act(ctx))
	}
}

// pass sends a poke to the owner. If there is none, the next one gets it.
func (f *following) pass() {
	f.poked, f.unpolled = time.Now(), !f.owned
	_ = f.send(&envelope{Kind: kindPoke})
}

// away returns for how long the engine could not be used when a member joins: a
// node that knows that it is alone does not wait again for each document.
func (n *Node) away() time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.freshLocked() || n.renewed.IsZero() && time.Since(n.started) < n.Lease {
		return 0
	}
	return n.Lease
}

// act does what is due, and returns when to act again.
func (f *following) act(ctx context.Context) time.Duration {
	f.audit()
	due := func(t *time.Time) bool {
		if t.IsZero() || t.After(time.Now()) || f.ended {
			return false
		}
		*t = time.Time{}
		return true
	}
	if due(&f.read) {
		f.readOwner(ctx)
	}
	if due(&f.ask) {
		_ = f.send(&envelope{Kind: kindAsk, WantText: f.text})
		f.ask = time.Now().Add(min(askAgain<<min(f.asks, 10), f.node.Lease))
		f.asks++
	}
	if due(&f.fetch) {
		f.fetchText(ctx)
	}
	if due(&f.show) && f.under != nil {
		f.display(unconfirmed(f.base), f.under)
	}
	if due(&f.take) {
		f.takeOver(ctx)
	}
	if f.failing && time.Since(f.hope) >= f.node.Lease && f.role != Owns {
		f.node.warnAlone(f.seal.subject)
		f.handover = Handover{Next: f.last.due(f.hope.Add(f.node.Lease / beatsPerLease))}
		if shown, _ := f.source.Document(); shown != "" && shown == f.last.ID {
			f.handover.Resume = f.last.Resume
		}
		f.become(Alone)
	}
	next := time.Now().Add(time.Minute)
	for _, t := range []time.Time{f.read, f.ask, f.fetch, f.show, f.silent, f.take} {
		if !t.IsZero() && t.Before(next) {
			next = t
		}
	}
	return max(0, time.Until(next))
}

// audit finds out whether the owner is still there, and whether it has said
// anything that was not heard.
func (f *following) audit() {
	n, now := f.node, time.Now()
	f.silent = time.Time{}
	n.mu.Lock()
	owner, seen, listed, missing := f.owner, f.seen, f.heardEntry, f.missing
	f.heardEntry, f.missing = entry{}, false
	n.mu.Unlock()
	if !f.owned {
		if !n.fresh() {
			f.fail(now)
		}
		return
	}
	switch {
	case listed.revision == 0:
	case listed.revision != seen.revision:
		f.read = now // a lower one, too: an engine that has forgotten all may count anew
	case listed.sequence == seen.sequence:
		f.last.Next, f.last.Every = listed.next, listed.every
		if shown, _ := f.source.Document(); f.told && shown == f.last.ID && listed.validated.After(f.last.Validated) {
			f.last.Validated = listed.validated
			f.display(f.last, nil)
		}
	case f.asked.IsZero():
		f.question(false)
	}
	if missing {
		f.read = now
	}
	switch p, heard := n.presence(owner, f.learned); p {
	case present:
		f.failing, f.silent = false, heard.Add(n.Lease)
		if f.lost {
			f.lost, f.take = false, time.Time{} // it is back
		}
		if heard.After(f.hope) {
			f.hope = heard
		}
		if !f.asked.IsZero() && now.Sub(f.asked) >= n.Lease && f.take.IsZero() {
			f.take = now // its node is there, but nobody there has the document
		}
	case gone:
		f.unpolled = f.unpolled || f.poked.After(heard)
		if f.take.IsZero() {
			f.lost, f.take = true, now.Add(f.turn(f.last.due(heard).Sub(heard)))
		}
	case unknown:
		if f.silent = heard.Add(n.Lease); !n.hears() {
			f.fail(now)
		}
	}
}

// fail tries the engine again if nothing is heard of it.
func (f *following) fail(now time.Time) {
	f.silent = time.Time{}
	if f.failing = f.failing || !f.node.engine.Up(); f.read.IsZero() {
		f.read = now.Add(2 * retryTime)
	}
}

// question asks the owner for the state of the document.
func (f *following) question(text bool) {
	f.asked, f.ask, f.text, f.asks = time.Now(), time.Now(), text, 0
}

// readOwner reads who the owner is.
func (f *following) readOwner(ctx context.Context) {
	r, err := f.Member.readOwner(ctx)
	if err != nil {
		f.failing = f.failing || !errors.Is(err, errBusy)
		f.read = time.Now().Add(retryTime)
		return
	}
	f.failing = false
	f.know(r)
	if _, text := f.source.Document(); text == nil && f.under == nil {
		if f.base, f.under, err = f.readDocument(ctx); err == nil && f.under != nil {
			f.show = time.Now().Add(answerTime)
		}
	}
}

// know notes who the owner is.
func (f *following) know(r record) {
	n := f.node
	if r.from == f.from {
		// Its own swap, of which nothing was heard.
		f.revision = r.revision
		f.begin("")
		return
	}
	if r.node == "" {
		f.revision, f.owned = r.revision, false
		f.asked, f.ask = time.Time{}, time.Time{}
		if r.stored && !r.state.Since.IsZero() {
			f.last = r.state
		}
		n.mu.Lock()
		f.owner = ""
		n.mu.Unlock()
		f.take = time.Now()
		return
	}
	n.mu.Lock()
	known := f.owner == r.node && f.revision == r.revision
	if !known {
		f.owner, f.seen, f.heardEntry, f.missing = r.node, mark{revision: r.revision}, entry{}, false
		f.listed = 0
		if p := n.peer(r.node); p != nil {
			f.listed = p.round
		}
	}
	n.mu.Unlock()
	f.revision, f.owned = r.revision, true
	if !known {
		f.take, f.learned = time.Time{}, time.Now()
		f.question(false)
		if f.unpolled {
			f.pass()
		}
	} else if f.asked.IsZero() {
		f.question(false)
	}
	if f.role == Joins {
		f.become(Follows)
	}
}

// hear handles an envelope of another member.
func (f *following) hear(e *envelope) {
	switch {
	case e.Kind == kindOwner && e.Revision > f.revision:
		r := record{revision: e.Revision, node: e.Node, stored: true}
		if e.Free {
			r.node = ""
			f.left(e)
		} else {
			f.node.met(e.Node)
		}
		f.hope = time.Now()
		f.know(r)
		if e.Free {
			f.take = f.hope.Add(f.precede(f.last.Next.Sub(f.hope), f.node.Lease/8, e.Node))
		}
	case e.Kind == kindOwner && e.Free && e.Revision == f.revision:
		// Its owner could not write that it has given it back.
		f.hope, f.take = time.Now(), time.Now()
		f.left(e)
	case e.Kind == kindState && e.Revision > f.revision:
		f.read = time.Now()
	case e.Kind == kindState && e.Revision == f.revision && f.owned && e.State != nil:
		f.update(e)
	}
}

// left notes in which state an owner has left the document.
func (f *following) left(e *envelope) {
	if e.State != nil {
		f.last, f.told = e.State.state(time.Now()), true
	}
}

// update takes over the state that the owner sends.
func (f *following) update(e *envelope) {
	now := time.Now()
	s := e.State.state(now)
	resume := f.last.Resume
	if f.last.ID != s.ID {
		resume = nil
	}
	if f.last = s; s.Resume == nil {
		f.last.Resume = resume
	}
	f.hope, f.failing, f.told = now, false, true
	f.asked, f.ask, f.take, f.show = time.Time{}, time.Time{}, time.Time{}, time.Time{}
	f.node.mu.Lock()
	f.seen = mark{e.Revision, e.Sequence}
	f.node.mu.Unlock()
	shown, text := f.source.Document()
	if e.Unpolled && shown != "" && s.ID != shown {
		return // its first poll shows which of them is newer
	}
	switch {
	case s.ID == "" || s.ID == shown || s.denied():
		f.fetch = time.Time{}
		f.display(s, nil)
		return
	case e.Text == full:
		text = nil
	case e.Text == delta && e.Base == shown && text != nil:
	case f.under != nil && f.base.ID == s.ID:
		f.display(s, f.under)
		return
	case e.Unsent:
		f.node.log.Info("polls for itself: the document may not be stored, and is too large to be sent", "subject", f.seal.subject)
		f.handover, f.unshared = Handover{}, now.Add(unsentPause)
		f.become(Alone)
		return
	default:
		f.want(s)
		return
	}
	text, err := f.node.packer.unpack(e.bytes, text, e.Size, f.source.MaxBody())
	if err != nil {
		f.node.log.Warn("an owner's document cannot be read", "error", err)
		f.want(s)
		return
	}
	f.display(s, text)
}

// want fetches the text of a state.
func (f *following) want(s State) {
	if f.wanted.ID != s.ID {
		f.tries = 0
	}
	f.wanted, f.fetch = s, time.Now()
	if f.lacks.IsZero() {
		f.lacks = f.fetch
	}
}

// fetchText reads the text that is wanted. It may not be stored yet, or never
// be, and then the owner is asked for it.
func (f *following) fetchText(ctx context.Context) {
	shown, _ := f.source.Document()
	if f.wanted.ID == "" || f.wanted.ID == shown {
		f.display(f.wanted, nil) // only the state was not shown
		return
	}
	s, text, err := f.readDocument(ctx)
	if err == nil && s.ID == f.wanted.ID && text != nil {
		if f.last.ID == s.ID {
			f.last.Resume = s.Resume
			f.wanted = f.last
		}
		f.display(f.wanted, text)
	} else {
		f.tries++
		if f.tries > 1 {
			f.question(true)
		}
		f.fetch = time.Now().Add(min(retryTime<<min(f.tries, 10), fetchPause))
	}
	if shown != "" && !f.lacks.IsZero() && time.Since(f.lacks) >= f.node.Lease {
		// The owner shows a newer one, and nobody knows when its text comes.
		old := unconfirmed(State{ID: shown})
		old.Since = f.lacks
		_ = f.source.Show(old, nil) // which has no text to be wrong
	}
}

// display shows a document.
func (f *following) display(s State, text []byte) {
	err := f.source.Show(s, text)
	if err != nil {
		if !errors.Is(err, ErrLater) {
			f.node.log.Warn("an owner's document cannot be shown", "error", err)
		}
		f.want(s)
		f.tries++
		f.fetch = f.fetch.Add(fetchPause)
		return
	}
	f.fetch, f.lacks, f.tries = time.Time{}, time.Time{}, 0
	if text != nil {
		f.base, f.under = State{}, nil
	}
	f.ended = s.denied()
}

// unconfirmed returns what is shown of a stored document while no owner
// confirms it.
func unconfirmed(s State) State {
	s.State, s.Reason, s.Since = stale, late, time.Now()
	return s
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// takeOver makes this node the owner if nobody else is faster.
func (f *following) takeOver(ctx context.Context) {
	n := f.node
	n.mu.Lock()
	before := f.owner
	n.mu.Unlock()
	err := f.swap(ctx, nil)
	if errors.Is(err, cluster.ErrConflict) {
		f.read = time.Now().Add(spread(retryTime))
		return
	}
	if err != nil {
		f.failing = f.failing || !errors.Is(err, errBusy)
		f.read = time.Now().Add(retryTime)
		return
	}
	_ = f.send(&envelope{Kind: kindOwner, Revision: f.revision})
	shown, _ := f.source.Document()
	if f.under == nil && (shown == "" || f.last.Resume == nil) {
		f.base, f.under, _ = f.readDocument(ctx) // without it, it starts afresh
	}
	f.begin(before)
}

// begin makes the member the owner that its record names, after another node or
// none.
func (f *following) begin(before string) {
	n := f.node
	shown, _ := f.source.Document()
	now := time.Now()
	if f.last.Since.IsZero() {
		f.last = f.base
	}
	if !f.told && f.last.State == live {
		// By the clocks of two nodes.
		f.last.Next = earlier(f.last.Next, now.Add(f.last.Every))
	}
	if shown == "" && f.under != nil {
		base := f.base
		if f.last.ID == base.ID && f.last.Next.After(now) && before == "" {
			f.display(f.last, f.under) // given back, and as new as its schedule makes it
		} else {
			f.display(unconfirmed(base), f.under)
		}
		f.base = base
		shown = base.ID
	}
	// Progress is of one document: with it, the upstream may answer that this
	// has not changed.
	switch {
	case shown == "":
		f.last.Resume = nil
	case f.last.ID == shown && f.last.Resume != nil:
	case f.base.ID == shown:
		f.last.Resume = f.base.Resume
	default:
		f.last.Resume = nil
	}
	f.handover = Handover{Next: f.last.Next, Resume: f.last.Resume}
	if before != "" {
		// It may have polled for as long as it was heard, and until the next
		// beat. What was due then, and maybe not polled, waits no longer than
		// a lease.
		_, heard := n.presence(before, f.learned)
		f.handover.Next = earlier(f.last.due(heard.Add(n.Lease/beatsPerLease)), f.last.due(heard).Add(n.Lease))
	}
	n.mu.Lock()
	n.takeover = time.Now()
	f.role, f.owner = Owns, ""
	f.verified, f.lapses = time.Now(), n.lapses
	n.mu.Unlock()
	n.log.Debug("owns a document", "subject", f.seal.subject, "before", before)
}
