// Package member makes one of several nodes poll each document, and the others
// show what it has published. It runs on an engine of package cluster. How a
// document is polled and shown is the job of a Source.
//
// Each document has one owner at a time, elected by compare-and-set. The
// owner's node says that it is there, once each beat for all that it owns, in
// messages that nobody stores. Content has no order, so a node that has polled
// for itself takes nothing from an owner until that one has polled again:
// otherwise it could go back.
package member

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"iter"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/pollsse/caddy-poll-sse/cluster"
)

// Settings are what all nodes of a cluster have to agree on, WhenAlone aside.
type Settings struct {
	// Lease is how long an owner may be silent before another node takes its
	// documents over. A node says that it is there three times in a lease.
	Lease time.Duration
	// Secret encrypts what is written to the engine; nil: nothing is.
	Secret []byte
	// StaleAlone makes a node that cannot reach the engine show what it has as
	// stale, instead of polling for itself.
	StaleAlone bool
}

const (
	beatsPerLease = 3
	// beatEntries is how many of a node's own documents one beat names; the
	// next one goes on with others.
	beatEntries = 250
	// callsInFlight bounds what a node asks of the engine at the same time.
	callsInFlight = 64
	// callTime bounds one read or swap, putTime one write of a document.
	callTime = time.Second
	putTime  = 2 * time.Second
	// politePolls is about how many polls an interval the upstream gets from
	// nodes that are all alone.
	politePolls = 4
	// maxPeers bounds the other nodes that a node knows of.
	maxPeers = 10_000
)

// Node is this process as one of the nodes that share an engine. It outlives
// configurations.
type Node struct {
	Settings
	id     string
	engine cluster.Engine
	log    *slog.Logger
	topic  cluster.Topic
	seal   seal
	packer packer
	calls  chan struct{} // holds one for each call in flight
	cancel context.CancelFunc
	done   chan struct{}

	mu       sync.Mutex
	members  map[string][]*Member // by subject
	rotation []*Member            // what this round of beats has yet to name
	round    uint64
	beats    uint64
	sent     map[uint64]time.Time // beats that have not come back
	renewed  time.Time            // when the last beat was sent that came back
	heard    time.Time            // since when beats come back without a break; zero: they do not
	lapses   uint64               // how often they have not come back for a lease
	self     peer
	peers    map[string]*peer // without this node
	hosts    map[string]int   // documents that it polls, by host, as of the last beat
	others   map[string]int   // those that all peers have told of
	takeover time.Time
	started  time.Time
	answered time.Time // when the engine last answered a call
	warned   time.Time // when the log last said that a document is alone
}

// peer is another node.
type peer struct {
	heard time.Time
	round uint64
	hosts map[string]int
}

// beat is what a node says about itself in an envelope.
type beat struct {
	Beat  uint64 `json:"beat,omitempty"`
	Round uint64 `json:"round,omitempty"`
	Bye   bool   `json:"bye,omitempty"` // it goes, and owns nothing more
	// Hosts are how many documents it polls, by host, if that is more than one.
	Hosts map[string]int `json:"hosts,omitempty"`
}

// nodesKey is the key of the subject that all nodes share.
const nodesKey = "nodes"

// NewNode joins the nodes that share an engine, which it closes at the end.
// Each must be followed by one Close.
func NewNode(engine cluster.Engine, s Settings, log *slog.Logger) (*Node, error) {
	n := &Node{
		Settings: s, started: time.Now(), id: rand.Text()[:16], engine: engine, log: log, calls: make(chan struct{}, callsInFlight), done: make(chan struct{}),
		members: make(map[string][]*Member), sent: make(map[uint64]time.Time), peers: make(map[string]*peer),
		hosts: make(map[string]int), others: make(map[string]int), packer: newPacker(),
	}
	n.seal = newSeal(s.Secret, subject(s.Secret, []byte(nodesKey)))
	var err error
	if n.topic, err = engine.Join(n.seal.subject); err != nil {
		engine.Close()
		return nil, err
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.cancel = cancel
	go n.run(ctx)
	return n, nil
}

// Close leaves the other nodes. Every Run must have returned.
func (n *Node) Close() {
	n.cancel()
	<-n.done
}

// ID names the node to the others. It is a new one with each process.
func (n *Node) ID() string { return n.id }

// Up reports whether the engine can be reached.
func (n *Node) Up() bool { return n.engine.Up() && n.fresh() }

// Takeover is when this node last took a document over from another one; zero:
// never.
func (n *Node) Takeover() time.Time {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.takeover
}

// Counts tells how many documents the node has in each role.
func (n *Node) Counts() (owns, follows, alone int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for m := range n.each() {
		switch m.role {
		case Owns:
			owns++
		case Follows:
			follows++
		case Alone:
			alone++
		}
	}
	return owns, follows, alone
}

// Nodes is how many nodes there are, as last known, this one included.
func (n *Node) Nodes() int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return 1 + len(n.peers)
}

func (n *Node) run(ctx context.Context) {
	defer close(n.done)
	defer n.engine.Close()
	defer n.topic.Close()
	beats := time.NewTicker(n.Lease / beatsPerLease)
	defer beats.Stop()
	watch := time.NewTicker(n.Lease / 12)
	defer watch.Stop()
	n.tell()
	var extra time.Time // when a Resync last had it tell more
	for {
		select {
		case <-ctx.Done():
			_ = n.topic.Send(n.seal.close(placeMessage, &envelope{Kind: kindBeat, Node: n.id, beat: beat{Bye: true}}))
			return
		case <-beats.C:
			n.tell()
		case <-watch.C:
			n.look()
		case m := <-n.topic.Messages():
			if m.Resync {
				// Nodes that have just come back need not wait for the next beat. But if
				// this one has missed beats because there were too many of them, and so
				// have all others, one more from each would make that last.
				if now := time.Now(); now.Sub(extra) >= n.Lease/beatsPerLease {
					extra = now
					n.tell()
				}
				continue
			}
			if e, err := n.seal.open(placeMessage, m.Data); err == nil && e.Kind == kindBeat {
				n.hear(e)
			}
		}
	}
}

// tell sends a beat.
func (n *Node) tell() {
	now := time.Now()
	n.mu.Lock()
	if len(n.rotation) == 0 {
		n.round++
		for m := range n.each() {
			if m.role == Owns {
				n.rotation = append(n.rotation, m)
			}
		}
	}
	var entries []byte
	told := min(beatEntries, len(n.rotation))
	for _, m := range n.rotation[:told] {
		if m.role == Owns {
			entries = m.entry.append(entries, m.seal.subject, now)
		}
	}
	n.rotation = n.rotation[told:]
	n.beats++
	n.sent[n.beats] = now
	delete(n.sent, n.beats-4*beatsPerLease)
	e := &envelope{Kind: kindBeat, Node: n.id, beat: beat{Beat: n.beats, Round: n.round, Hosts: n.countHosts()}, bytes: entries}
	n.mu.Unlock()
	_ = n.topic.Send(n.seal.close(placeMessage, e)) // that it does not come back is noticed
}

// hear takes in a beat, this node's own included.
func (n *Node) hear(e *envelope) {
	now := time.Now()
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.peers[e.Node]
	switch {
	case e.Node == n.id:
		at, ok := n.sent[e.Beat]
		if !ok {
			return
		}
		delete(n.sent, e.Beat)
		if n.heard.IsZero() || at.Sub(n.renewed) >= n.Lease {
			n.heard = now
			n.lapses++
			n.noticeAll(func(*Member) bool { return true })
		}
		if at.After(n.renewed) {
			n.renewed = at
		}
		p = &n.self
	case p == nil:
		p = n.add(e.Node)
	}
	p.heard = now
	if p == n.peers[e.Node] {
		n.recount(p, e.Hosts)
	}
	if e.Bye {
		p.heard = time.Time{}
		n.noticeAll(func(m *Member) bool { return m.owner == e.Node })
		delete(n.peers, e.Node)
		return
	}
	if e.Round > p.round {
		p.round = e.Round
		// One that was in neither of two whole rounds may not be owned.
		n.noticeAll(func(m *Member) bool {
			missing := m.role != Owns && m.owner == e.Node && m.listed+2 <= e.Round
			m.missing = m.missing || missing
			return missing
		})
	}
	for rest := e.bytes; len(rest) >= entrySize; rest = rest[entrySize:] {
		key, entry := parseEntry(rest, now)
		for _, m := range n.members[key] {
			if m.role == Owns && e.Node != n.id && entry.revision > m.entry.revision {
				m.rival = true
				m.notice()
			}
			if m.role != Owns && m.owner == e.Node {
				m.listed, m.heardEntry = e.Round, entry
				m.notice()
			}
		}
	}
}

// look notices that nothing is heard any more, and forgets nodes that are gone.
func (n *Node) look() {
	now := time.Now()
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.heard.IsZero() && now.Sub(n.renewed) >= n.Lease {
		n.heard = time.Time{}
		n.noticeAll(func(*Member) bool { return true })
	}
	if n.heard.IsZero() {
		return
	}
	if now.Sub(n.heard) >= 2*n.Lease {
		for id, p := range n.peers {
			if now.Sub(p.heard) >= 2*n.Lease {
				n.recount(p, nil)
				delete(n.peers, id)
			}
		}
	}
}

// noticeAll has members look at how things are; the mutex is held.
func (n *Node) noticeAll(which func(*Member) bool) {
	for m := range n.each() {
		if which(m) {
			m.notice()
		}
	}
}

// each goes through the members; the mutex is held.
func (n *Node) each() iter.Seq[*Member] {
	return func(yield func(*Member) bool) {
		for _, all := range n.members {
			for _, m := range all {
				if !yield(m) {
					return
				}
			}
		}
	}
}

// has reports whether a member of this node is there: the one that an owner's
// record names, perhaps.
func (n *Node) has(subject, from string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.ContainsFunc(n.members[subject], func(m *Member) bool { return m.from == from })
}

// peer is what is known of a node, nil if it was not heard yet; the mutex is
// held.
func (n *Node) peer(id string) *peer {
	if id == n.id {
		return &n.self
	}
	return n.peers[id]
}

// lastHeard is when a node was last heard, or would have been: while nothing
// is heard at all, nobody's silence says anything. The mutex is held.
func (n *Node) lastHeard(id string) time.Time {
	at := n.heard
	if p := n.peer(id); p != nil && p.heard.After(at) {
		at = p.heard
	}
	return at
}

// presence is what is known of an owner's node.
type presence int

const (
	unknown presence = iota // nothing has been heard for less than a lease
	present
	gone
)

// presence reports whether a node is there, and until when it may have been. The
// owner's record has named it since a certain time.
func (n *Node) presence(id string, since time.Time) (presence, time.Time) {
	now := time.Now()
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.peer(id)
	if p != nil && now.Sub(p.heard) < n.Lease {
		return present, p.heard
	}
	if n.heard.IsZero() {
		return unknown, n.renewed
	}
	at := n.lastHeard(id)
	if grace := since.Add(-n.Lease / 2); grace.After(at) {
		at = grace // it may be new, and its first beat on its way
	}
	if now.Sub(at) < n.Lease {
		return unknown, at
	}
	if p != nil {
		at = p.heard
	}
	return gone, at
}

// met notes that another node has said something.
func (n *Node) met(id string) {
	if id == n.id {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.peers[id]
	if p == nil {
		p = n.add(id)
	}
	p.heard = time.Now()
}

// add adds another node, unless there are too many. The mutex is held.
func (n *Node) add(id string) *peer {
	p := new(peer)
	if len(n.peers) < maxPeers {
		n.peers[id] = p
	}
	return p
}

// fresh reports whether the other nodes hear this one: its beats come back.
func (n *Node) fresh() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.freshLocked()
}

// hears reports whether beats come back at all.
func (n *Node) hears() bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return !n.heard.IsZero()
}

func (n *Node) freshLocked() bool { return !n.heard.IsZero() && time.Since(n.renewed) < n.Lease }

// silence is for how long beats have not come back.
func (n *Node) silence(since time.Time) time.Duration {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.renewed.After(since) {
		since = n.renewed
	}
	return time.Since(since)
}

// errBusy is the error of a call that has waited in vain for its turn, while the
// engine answered others.
var errBusy = errors.New("the node has too much to ask of the engine")

// call asks something of the engine, when it is this call's turn. Both may take
// as long as bound.
func (n *Node) call(ctx context.Context, bound time.Duration, do func(context.Context) error) error {
	begun := time.Now()
	turn := time.NewTimer(bound)
	defer turn.Stop()
	select {
	case n.calls <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	case <-turn.C:
		n.mu.Lock()
		defer n.mu.Unlock()
		if n.answered.After(begun) {
			return errBusy
		}
		return context.DeadlineExceeded
	}
	defer func() { <-n.calls }()
	ctx, cancel := context.WithTimeout(ctx, bound)
	defer cancel()
	err := do(ctx)
	if err == nil || errors.Is(err, cluster.ErrConflict) {
		n.mu.Lock()
		n.answered = time.Now()
		n.mu.Unlock()
	}
	return err
}

// warnAlone logs that a document is alone: once a minute, as thousands may be
// for one cause.
func (n *Node) warnAlone(subject string) {
	n.mu.Lock()
	now := time.Now()
	known := !n.warned.IsZero() && now.Sub(n.warned) < time.Minute
	if !known {
		n.warned = now
	}
	n.mu.Unlock()
	if !known { // outside the lock, as a log may be slow
		n.log.Warn("alone: the engine cannot be reached", "subject", subject)
	}
}

// mark says which of an owner's envelopes is its newest.
type mark struct {
	revision uint64
	sequence uint32
}

// entry is what a beat says about one document.
type entry struct {
	mark
	next      time.Time
	every     time.Duration
	validated time.Time // zero: never
}

const entrySize = 16 + 8 + 4 + 4 + 4 + 8

func (e entry) append(dst []byte, subject string, now time.Time) []byte {
	key, err := base64.RawURLEncoding.DecodeString(subject)
	if err != nil || len(key) != 16 {
		panic("BUG: subject " + subject)
	}
	dst = append(dst, key...)
	dst = binary.BigEndian.AppendUint64(dst, e.revision)
	dst = binary.BigEndian.AppendUint32(dst, e.sequence)
	dst = binary.BigEndian.AppendUint32(dst, uint32(int32(max(-1<<31, min(inMilliseconds(e.next.Sub(now)), 1<<31-1)))))
	dst = binary.BigEndian.AppendUint32(dst, uint32(max(0, min(e.every.Milliseconds(), 1<<32-1))))
	age := int64(-1)
	if !e.validated.IsZero() {
		age = max(0, now.Sub(e.validated).Milliseconds())
	}
	return binary.BigEndian.AppendUint64(dst, uint64(age))
}

func parseEntry(b []byte, now time.Time) (string, entry) {
	e := entry{mark: mark{binary.BigEndian.Uint64(b[16:]), binary.BigEndian.Uint32(b[24:])}}
	e.next = now.Add(milliseconds(int64(int32(binary.BigEndian.Uint32(b[28:])))))
	e.every = milliseconds(int64(binary.BigEndian.Uint32(b[32:])))
	if age := int64(binary.BigEndian.Uint64(b[36:])); age >= 0 {
		e.validated = now.Add(-milliseconds(age))
	}
	return base64.RawURLEncoding.EncodeToString(b[:16]), e
}
