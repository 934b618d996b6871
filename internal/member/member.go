package member

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/pollsse/caddy-poll-sse/cluster"
)

// Role is a node's part in a document.
type Role string

// Roles.
const (
	Joins   Role = "joins"   // not known yet
	Owns    Role = "owns"    // it polls for all
	Follows Role = "follows" // it shows what the owner has published
	Alone   Role = "alone"   // it polls for itself
)

// Source is one document as a node has it: what polls it, and what shows it.
// Only the goroutine that runs the member calls its methods, and the one in
// which Poll runs.
type Source interface {
	// Poll polls until ctx ends, or until the upstream refuses the client's
	// credentials. It asks turn.May before each poll and tells turn.Tell of
	// each result, once it is shown.
	Poll(ctx context.Context, from Handover, turn *Turn)
	// Show shows what another node has published. The text is that of s.ID;
	// nil if s.ID is what is shown already, or if there is no document. An
	// error means that nothing was shown: the text is not what it should be, or
	// it is ErrLater.
	Show(s State, text []byte) error
	// Document is what is shown now, or what Show has taken and is to be shown
	// next: its version, and its text, which is never written again.
	Document() (id string, text []byte)
	// MaxBody is the size of the largest text, in bytes.
	MaxBody() int64
}

// ErrLater is what Show returns if the source can show nothing for a moment.
var ErrLater = errors.New("nothing can be shown for a moment")

// Handover is what the previous owner has left.
type Handover struct {
	Next   time.Time       // when the first poll may begin; zero: at once
	Resume json.RawMessage // State.Resume of the previous owner; nil: there is none
}

// Member is a node's part in one document.
type Member struct {
	node    *Node
	from    string // names it in envelopes
	host    string // stands for the upstream's
	source  Source
	poke    <-chan struct{}
	topic   cluster.Topic
	seal    seal
	told    chan struct{} // holds at most one note that latest is new
	noticed chan struct{} // holds at most one note that something has to be looked at

	// The node's mutex guards these.
	role       Role
	owner      string // the node that is followed
	seen       mark   // the owner's newest envelope
	listed     uint64 // the owner's last round of beats that named the document
	missing    bool   // it was in neither of two rounds
	heardEntry entry  // the owner's, of its last beat that named the document
	entry      entry  // this node's own, as the owner
	latest     State  // that was told
	latestText []byte
	gate       gate
	lapses     uint64    // of the node, when the record was last read
	verified   time.Time // that the record is this node's own
	rival      bool      // another node says that it owns the document, too, by a later record
	polled     bool      // for itself, since it last took anything from an owner

	// The goroutine that runs it owns these.
	revision uint64 // of the owner's record
	ended    bool   // the document was denied
	last     State  // of the owner that was followed last
	handover Handover
	unpolled bool   // it was poked, and maybe nobody has polled because of that
	polls    *polls // nil while it does not poll
	// unshared is until when it polls what the owner cannot send.
	unshared time.Time
	// notBefore is when an owner whose polls failed would have polled next.
	notBefore time.Time
}

// polls is a Poll that runs.
type polls struct {
	cancel context.CancelFunc
	done   chan struct{}
	poke   chan struct{}
}

var members atomic.Uint64

// Member makes the node's part in the document that key stands for. Members
// with the same key, secret and engine share the document. host is the
// upstream's, which takes only so many polls at the same time; see [Turn.Part].
// poke holds at most one request to have it polled at once.
func (n *Node) Member(key []byte, host string, source Source, poke <-chan struct{}) *Member {
	m := &Member{
		node: n, from: n.id + "/" + strconv.FormatUint(members.Add(1), 10), source: source, poke: poke,
		told: make(chan struct{}, 1), noticed: make(chan struct{}, 1), role: Joins,
	}
	m.seal = newSeal(n.Secret, subject(n.Secret, key))
	m.host = subject(n.Secret, []byte("host "+host))
	m.gate.changed = make(chan struct{})
	return m
}

// Role returns the node's present part in the document.
func (m *Member) Role() Role {
	m.node.mu.Lock()
	defer m.node.mu.Unlock()
	return m.role
}

// Run takes part until ctx ends or the document is denied. Then it gives the
// document back to the other nodes if it owns it, which takes a second at
// most.
func (m *Member) Run(ctx context.Context) {
	n := m.node
	var err error
	for m.topic, err = n.engine.Join(m.seal.subject); err != nil; m.topic, err = n.engine.Join(m.seal.subject) {
		n.log.Warn("cannot join a document", "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(n.Lease):
		}
	}
	defer m.topic.Close()
	n.mu.Lock()
	n.members[m.seal.subject] = append(n.members[m.seal.subject], m)
	n.mu.Unlock()
	defer func() {
		n.mu.Lock()
		defer n.mu.Unlock()
		rest := slices.DeleteFunc(n.members[m.seal.subject], func(o *Member) bool { return o == m })
		if n.members[m.seal.subject] = rest; len(rest) == 0 {
			delete(n.members, m.seal.subject)
		}
	}()
	for ctx.Err() == nil && !m.ended {
		switch m.role {
		case Owns:
			m.own(ctx)
		case Alone:
			m.alone(ctx)
		default:
			m.follow(ctx)
		}
	}
	m.stopPolling()
}

// become changes the role.
func (m *Member) become(r Role) {
	m.node.mu.Lock()
	defer m.node.mu.Unlock()
	m.role = r
}

// notice makes the member look for what has changed.
func (m *Member) notice() {
	select {
	case m.noticed <- struct{}{}:
	default:
	}
}

func (m *Member) startPolling(ctx context.Context) {
	if m.polls != nil {
		return
	}
	// Not by ctx: a poll in flight at the end is given a moment.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	p := &polls{cancel, make(chan struct{}), make(chan struct{}, 1)}
	m.polls = p
	from := m.handover
	go func() {
		defer close(p.done)
		m.source.Poll(ctx, from, &Turn{Poke: p.poke, m: m})
	}()
}

// stopPolling waits for the end of a poll in flight, which is cancelled.
func (m *Member) stopPolling() {
	m.open(closed, 1, time.Time{})
	if m.polls == nil {
		return
	}
	m.polls.cancel()
	<-m.polls.done
	m.polls = nil
	m.node.mu.Lock()
	defer m.node.mu.Unlock()
	m.gate.polling = false
}

// pollNow passes a poke on.
func (m *Member) pollNow() {
	select {
	case m.polls.poke <- struct{}{}:
	default:
	}
}

// send sends an envelope to the others.
func (m *Member) send(e *envelope) error {
	e.Node, e.From = m.node.id, m.from
	return m.topic.Send(m.seal.close(placeMessage, e))
}

// receive opens a message of another member. It returns nil if it is none.
func (m *Member) receive(message cluster.Message) *envelope {
	e, err := m.seal.open(placeMessage, message.Data)
	if err != nil || e.From == m.from {
		return nil // not of this cluster, or this node's own
	}
	return e
}

// record is who owns a document.
type record struct {
	revision uint64
	node     string // empty: nobody
	from     string // which of its members
	state    State  // when it was given back
	stored   bool   // there is one
}

// readOwner reads who owns the document.
func (m *Member) readOwner(ctx context.Context) (record, error) {
	var revision uint64
	var text []byte
	err := m.node.call(ctx, callTime, func(ctx context.Context) (err error) {
		revision, text, err = m.topic.Owner(ctx)
		return err
	})
	if err != nil || revision == 0 {
		return record{}, err
	}
	r := record{revision: revision, stored: true}
	// A record that cannot be read counts as none: it is replaced.
	if e, err := m.seal.open(placeRecord, text); err == nil && !e.Free {
		r.node, r.from = e.Node, e.From
	} else if err == nil && e.State != nil {
		r.state = e.State.stored(time.Now())
	}
	return r, nil
}

// stored returns the State that was written at w.At, by the clocks of both
// nodes.
func (w *wireState) stored(now time.Time) State {
	passed := now.UnixMilli() - w.At
	return w.state(now.Add(-milliseconds(max(0, passed))))
}

// swap makes this member the owner, or leaves the document without one and says
// in which state.
func (m *Member) swap(ctx context.Context, freed *State) error {
	e := &envelope{Kind: kindRecord, Node: m.node.id, From: m.from, Free: freed != nil}
	if freed != nil {
		e.State = freed.wire(time.Now())
		e.State.At = time.Now().UnixMilli()
	}
	return m.node.call(ctx, callTime, func(ctx context.Context) error {
		next, err := m.topic.Swap(ctx, m.revision, m.seal.close(placeRecord, e))
		if err == nil {
			m.revision = next
		}
		return err
	})
}

// readDocument reads what is stored: an empty State if there is nothing that
// can be read.
func (m *Member) readDocument(ctx context.Context) (State, []byte, error) {
	var b []byte
	err := m.node.call(ctx, putTime, func(ctx context.Context) (err error) {
		b, err = m.topic.Document(ctx)
		return err
	})
	if err != nil || b == nil {
		return State{}, nil, err
	}
	e, err := m.seal.open(placeDocument, b)
	if err != nil || e.State == nil || e.Text != full {
		return State{}, nil, nil // of no use, and replaced by the next that is put
	}
	text, err := m.node.packer.unpack(e.bytes, nil, e.Size, m.source.MaxBody())
	if err != nil {
		m.node.log.Warn("a stored document cannot be read", "error", err)
		return State{}, nil, nil
	}
	return e.State.stored(time.Now()), text, nil
}
