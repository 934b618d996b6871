package member

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"github.com/pollsse/caddy-poll-sse/cluster"
)

const (
	// maxNonces bounds the nodes that wait for the next poll.
	maxNonces = 1024
	// answerPause is the least time between two answers.
	answerPause = 50 * time.Millisecond
	// inlineResume is the size of the largest State.Resume in a message that
	// has no text; a larger one is in what is stored.
	inlineResume = 4 << 10
	// deltaText and deltaNodes say when a change is sent as a delta: if the
	// text has so many bytes, or there are so many nodes.
	deltaText  = 64 << 10
	deltaNodes = 10
	// pokeAhead is how far away the next poll may be for a node that waits for
	// one; else it polls at once.
	pokeAhead = 2 * time.Second
)

// owning is what a member that owns its document has to do.
type owning struct {
	*Member
	sequence uint32
	sent     State // the newest
	since    time.Time
	polled   bool   // sent is of a poll that began as the owner
	text     []byte // of sent
	unsent   string // the version that was too large to be sent
	nonces   map[string]time.Time
	answer   time.Time // when to send how the document is; zero: nobody asks
	withText bool
	answered time.Time

	dirty   bool // sent is not stored
	inline  bool // the others have its text
	put     chan error
	putting bool
	retry   time.Time // when to store; zero: at once
	refresh time.Time // when to write all again, so that the engine keeps it
}

// own polls for all nodes, until another one is the owner or the engine cannot
// be reached.
func (m *Member) own(ctx context.Context) {
	half := cluster.Retention / 2
	o := &owning{Member: m, since: time.Now(), nonces: make(map[string]time.Time), put: make(chan error, 1), refresh: time.Now().Add(half + rand.N(half/4))}
	n := m.node
	n.mu.Lock()
	running := m.polls != nil
	m.rival = false
	m.entry = entry{mark: mark{revision: m.revision}, next: m.latest.Next, every: m.latest.Every, validated: m.latest.Validated}
	if !running {
		m.latest, m.latestText = State{}, nil
		m.entry.next, m.entry.every, m.entry.validated = m.handover.Next, m.last.Every, m.last.Validated
	}
	n.mu.Unlock()
	if o.sent = m.last; o.sent.State == "" || o.sent.denied() {
		o.sent = State{State: waiting, Since: time.Now()}
	}
	o.sent.ID, o.text = m.source.Document()
	if running {
		m.tell() // it has polled alone
	}
	m.open(owned, 1, m.notBefore)
	m.notBefore = time.Time{}
	m.startPolling(ctx)
	if m.unpolled {
		m.unpolled = false
		m.pollNow()
	}
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for m.role == Owns && !m.ended {
		timer.Reset(o.wait())
		select {
		case <-ctx.Done():
			o.giveBack()
			return
		case <-m.polls.done:
			select {
			case <-m.told:
				o.publish(ctx)
			default:
			}
			if ctx.Err() == nil {
				m.ended = true // denied
			}
			o.giveBack()
			return
		case <-m.told:
			o.publish(ctx)
		case <-m.noticed:
			o.verify(ctx, false)
		case <-m.poke:
			m.pollNow()
		case err := <-o.put:
			o.stored(err)
		case message := <-m.topic.Messages():
			if message.Resync {
				o.verify(ctx, true)
			} else if e := m.receive(message); e != nil {
				o.hear(ctx, e)
			}
		case <-timer.C:
		}
		o.act(ctx)
	}
	o.settle()
}

func (m *Member) tell() {
	select {
	case m.told <- struct{}{}:
	default:
	}
}

// wait returns when there is something to do.
func (o *owning) wait() time.Duration {
	next := o.refresh
	if !o.answer.IsZero() && o.answer.Before(next) {
		next = o.answer
	}
	if o.dirty && !o.putting && o.retry.Before(next) {
		next = o.retry
	}
	return max(0, time.Until(next))
}

// act does what is due.
func (o *owning) act(ctx context.Context) {
	now := time.Now()
	if o.role != Owns || o.ended {
		return
	}
	if !o.answer.IsZero() && !o.answer.After(now) {
		o.say(nil, o.withText)
	}
	if !o.putting && !o.refresh.After(now) {
		o.renew(ctx)
	}
	if o.dirty && !o.putting && !o.retry.After(now) {
		o.store(ctx)
	}
}

// publish sends the others what was told last.
func (o *owning) publish(ctx context.Context) {
	n := o.node
	n.mu.Lock()
	s, text := o.latest, o.latestText
	n.mu.Unlock()
	if s.State == "" {
		return
	}
	if s.Begun.Before(o.since) && !s.denied() {
		// Of a time when it was alone: another node may have shown a newer one. Or
		// it has not polled yet, and is paused or late.
		news := s.State != o.sent.State || s.Reason != o.sent.Reason
		if o.sent, o.text = s, text; news {
			o.say(nil, false) // which tells that it has not polled
		}
		return
	}
	was := o.sent
	first := !o.polled
	o.polled = true
	newText := s.ID != was.ID || s.denied()
	news := newText || s.State != was.State || s.Reason != was.Reason || s.NoStore != was.NoStore || !s.Since.Equal(was.Since)
	var confirmed []string
	for nonce, asked := range o.nonces {
		switch {
		case !s.Begun.After(asked):
		case !s.failed():
			confirmed = append(confirmed, nonce)
			delete(o.nonces, nonce)
		case !was.Begun.After(asked):
			news = true // it knows by this that it need not poll, too
		}
	}
	before := o.text
	if o.sent = s; s.denied() {
		o.sent.ID, text = "", nil
	}
	o.text = text
	if newText || first {
		o.dirty, o.retry, o.inline = true, time.Time{}, !newText
	}
	if !news && !first && len(confirmed) == 0 {
		return
	}
	if !newText || before == nil || was.ID == "" || len(text) < deltaText && n.Nodes() <= deltaNodes {
		o.say(confirmed, newText)
		return
	}
	packed, err := n.packer.pack(text, before)
	if err != nil {
		o.say(confirmed, true)
		return
	}
	e := o.envelope(confirmed)
	e.Text, e.Base, e.Size, e.bytes = delta, was.ID, int64(len(text)), packed
	o.inline = o.send(e) == nil
}

// envelope returns the present state of the document.
func (o *owning) envelope(nonces []string) *envelope {
	o.sequence++
	n := o.node
	n.mu.Lock()
	o.entry.mark = mark{o.revision, o.sequence}
	// The newest schedule, even if nothing else is news.
	next, every, validated := o.entry.next, o.entry.every, o.entry.validated
	n.mu.Unlock()
	s := o.sent
	s.Next, s.Every = next, every
	if validated.After(s.Validated) {
		s.Validated = validated
	}
	if len(s.Resume) > inlineResume {
		s.Resume = nil
	}
	var failing []string
	for nonce, asked := range o.nonces {
		if o.sent.Begun.After(asked) && o.sent.failed() {
			failing = append(failing, nonce)
		}
	}
	return &envelope{Kind: kindState, Revision: o.revision, Sequence: o.sequence, State: s.wire(time.Now()), Nonces: nonces, Failing: failing, Unpolled: !o.polled,
		Unsent: o.sent.NoStore && o.sent.ID != "" && o.sent.ID == o.unsent}
}

// say sends the others the state of the document, with its text if they need
// it.
func (o *owning) say(nonces []string, text bool) {
	e := o.envelope(nonces)
	o.answer, o.withText, o.answered = time.Time{}, false, time.Now()
	if text && o.text != nil && !e.Unsent {
		packed, err := o.node.packer.pack(o.text, nil)
		if err == nil {
			e.Text, e.Size, e.bytes = full, int64(len(o.text)), packed
		}
		if err = o.send(e); err == nil {
			o.inline = true
			return
		}
		// Too large: they read it once it is stored.
		e.Text, e.Size, e.bytes = "", 0, nil
		if errors.Is(err, cluster.ErrTooLarge) && o.sent.NoStore {
			o.unsent, e.Unsent = o.sent.ID, true
		}
	}
	_ = o.send(e) // the next beat shows that it was missed
}

// store puts the document, in the background: an engine that is slow stops
// nothing else, and what comes meanwhile is stored as a whole.
func (o *owning) store(ctx context.Context) {
	s := o.sent
	packed, err := o.node.packer.pack(o.text, nil)
	if err != nil {
		return
	}
	w := s.wire(time.Now())
	w.At = time.Now().UnixMilli()
	e := &envelope{Kind: kindDocument, Node: o.node.id, State: w}
	if s.ID != "" && !s.NoStore {
		e.Text, e.Size, e.bytes = full, int64(len(o.text)), packed
	}
	b := o.seal.close(placeDocument, e)
	revision := o.revision
	o.dirty, o.putting = false, true
	go func() {
		o.put <- o.node.call(ctx, putTime, func(ctx context.Context) error { return o.topic.Put(ctx, revision, b) })
	}()
}

// stored handles the end of a put.
func (o *owning) stored(err error) {
	o.putting = false
	switch {
	case err == nil:
		if !o.inline && !o.dirty {
			o.say(nil, false) // they can read it now
		}
	case errors.Is(err, cluster.ErrConflict):
		o.lose()
	default:
		o.dirty, o.retry = true, time.Now().Add(callTime)
	}
}

// settle waits for a put in flight. At an exit that is cut off, and to be made
// again.
func (o *owning) settle() {
	if o.putting {
		o.putting = false
		if err := <-o.put; err != nil && !errors.Is(err, cluster.ErrConflict) {
			o.dirty = true
		}
	}
}

// renew writes the record again before the engine forgets it.
func (o *owning) renew(ctx context.Context) {
	o.refresh = time.Now().Add(cluster.Retention / 2)
	switch err := o.swap(ctx, nil); {
	case err == nil:
		_ = o.send(&envelope{Kind: kindOwner, Revision: o.revision})
		o.dirty, o.retry = true, time.Time{}
		o.say(nil, false)
	case errors.Is(err, cluster.ErrConflict):
		o.lose()
	default:
		o.refresh = time.Now().Add(time.Minute)
	}
}

// hear handles an envelope of another member.
func (o *owning) hear(ctx context.Context, e *envelope) {
	switch e.Kind {
	case kindPoke:
		o.pollNow()
	case kindAsk:
		now := time.Now()
		if e.Nonce == "" {
			o.withText = o.withText || e.WantText
			o.reply(now)
			return
		}
		asked, ok := o.nonces[e.Nonce]
		if ok && o.sent.Begun.After(asked) {
			o.reply(now) // it has failed, which was not heard
		}
		if ok || len(o.nonces) >= maxNonces {
			return
		}
		o.nonces[e.Nonce] = now
		o.node.mu.Lock()
		next := o.entry.next
		o.node.mu.Unlock()
		if next.Sub(now) > pokeAhead {
			o.pollNow()
		}
	case kindOwner, kindState:
		if e.Revision > o.revision {
			o.verify(ctx, true)
		}
	}
}

// reply plans an answer to everybody who asks.
func (o *owning) reply(now time.Time) {
	if !o.answer.IsZero() {
		return
	}
	o.answer = now
	if next := o.answered.Add(answerPause); next.After(now) {
		o.answer = next
	}
}

// verify finds out whether this node is still the owner, if there is any doubt.
func (o *owning) verify(ctx context.Context, doubt bool) {
	n, now := o.node, time.Now()
	n.mu.Lock()
	doubt = doubt || o.rival || !o.owns(now)
	o.rival = false
	read := o.verified
	fresh := n.freshLocked()
	n.mu.Unlock()
	if !doubt {
		return
	}
	r, err := o.readOwner(ctx)
	if ctx.Err() != nil {
		return
	}
	if err != nil {
		if !fresh && n.silence(read) >= n.Lease {
			n.warnAlone(o.seal.subject)
			o.become(Alone)
		}
		return
	}
	if r.from == o.from {
		o.revision = r.revision // a swap may have been written without an answer
	} else {
		o.lose()
		return
	}
	n.mu.Lock()
	o.verified, o.lapses = time.Now(), n.lapses
	close(o.gate.changed)
	o.gate.changed = make(chan struct{})
	n.mu.Unlock()
}

// lose notes that another node has become the owner, or that the engine has
// forgotten the record.
func (o *owning) lose() {
	o.node.log.Info("another node owns a document now", "subject", o.seal.subject)
	o.open(closed, 1, time.Time{})
	o.become(Alone)
}

// finish ends polling. A poll in flight is given a moment to end: another node
// would ask the same again. It returns true if it was cut off all the same.
func (o *owning) finish() bool {
	o.open(closed, 1, time.Time{})
	deadline := time.NewTimer(callTime)
	defer deadline.Stop()
	told := false
	for {
		o.node.mu.Lock()
		polling := o.gate.polling
		o.node.mu.Unlock()
		cut := false
		if polling {
			select {
			case <-o.told:
				told = true
				continue
			case <-o.noticed:
				continue
			case <-o.polls.done:
			case <-deadline.C:
				cut = true
			}
		}
		o.stopPolling()
		if told {
			o.tell() // giveBack sends it
		}
		return cut
	}
}

// giveBack lets the others take over at once.
func (o *owning) giveBack() {
	cut := o.finish()
	o.settle()
	ctx, cancel := context.WithTimeout(context.Background(), callTime)
	defer cancel()
	select {
	case <-o.told:
		o.publish(ctx)
	default:
	}
	if o.dirty && o.role == Owns {
		o.store(ctx)
		o.stored(<-o.put)
	}
	if o.role != Owns {
		return
	}
	o.node.mu.Lock()
	if cut {
		o.entry.next = o.gate.begun.Add(o.entry.every)
	}
	s := o.sent
	s.Next, s.Every = o.entry.next, o.entry.every
	o.node.mu.Unlock()
	e := o.envelope(nil)
	if o.swap(ctx, &s) == nil {
		e.Revision = o.revision
	}
	e.Kind, e.Free = kindOwner, true
	_ = o.send(e)
	o.become(Joins)
}
