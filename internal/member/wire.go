package member

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// State is what is known of a document besides its text: what one poll has
// brought, or a change of state between polls.
type State struct {
	ID     string // the version of the text; empty: there is no document
	State  string // waiting, live, stale or denied
	Reason string
	Since  time.Time // of State and Reason
	// Validated is when the upstream last confirmed the document; zero: never.
	Validated time.Time
	NoStore   bool // the upstream wants the document to be stored nowhere
	// Status and Challenge are the upstream's answer to a client's credentials
	// that it refuses: the document is dropped, and its streams end.
	Status    int
	Challenge string

	// Took is how long before Validated the poll began.
	Took time.Duration
	// Begun is when the poll began that has brought this; zero if none has.
	Begun time.Time
	// Next is when the next poll is to begin, and Every the time between those
	// after it, as long as nothing else happens.
	Next  time.Time
	Every time.Duration
	// Resume is what the next owner goes on from. It is the source's own.
	Resume json.RawMessage
}

func (s State) denied() bool { return s.Status != 0 }

// failed reports whether the poll that has brought this has failed.
func (s State) failed() bool { return s.Validated.Before(s.Begun) }

// due returns when to poll next, if everything that was planned until a certain
// time may have happened but nothing later has.
func (s State) due(until time.Time) time.Time {
	if s.Next.IsZero() || s.Next.After(until) || s.Every <= 0 {
		return s.Next
	}
	return s.Next.Add(until.Sub(s.Next)/s.Every*s.Every + s.Every)
}

// States that the package itself tells apart.
const (
	waiting = "waiting"
	live    = "live"
	stale   = "stale"
	denied  = "denied"
	// late is the reason of a document that nobody has confirmed lately.
	late = "late"
)

// wireState is a State as nodes send it. Times are durations from the moment of
// sending, in milliseconds: the clocks of two nodes need not agree.
type wireState struct {
	ID        string          `json:"id,omitempty"`
	State     string          `json:"state,omitempty"`
	At        int64           `json:"at,omitempty"` // of what is stored: the time of writing, Unix ms
	Reason    string          `json:"reason,omitempty"`
	Since     int64           `json:"since"` // ago
	Validated *int64          `json:"validated,omitempty"`
	Took      int64           `json:"took,omitempty"`
	NoStore   bool            `json:"no_store,omitempty"`
	Status    int             `json:"status,omitempty"`
	Challenge string          `json:"challenge,omitempty"`
	Next      *int64          `json:"next,omitempty"` // from now
	Every     int64           `json:"every,omitempty"`
	Resume    json.RawMessage `json:"resume,omitempty"`
}

func ago(now, t time.Time) *int64 {
	if t.IsZero() {
		return nil
	}
	ms := now.Sub(t).Milliseconds()
	return &ms
}

func (s State) wire(now time.Time) *wireState {
	w := &wireState{
		ID: s.ID, State: s.State, Reason: s.Reason, NoStore: s.NoStore, Status: s.Status, Challenge: s.Challenge,
		Took:  s.Took.Milliseconds(),
		Since: now.Sub(s.Since).Milliseconds(), Validated: ago(now, s.Validated), Every: s.Every.Milliseconds(), Resume: s.Resume,
	}
	if !s.Next.IsZero() {
		ms := inMilliseconds(s.Next.Sub(now))
		w.Next = &ms
	}
	return w
}

func (w *wireState) state(now time.Time) State {
	s := State{
		ID: w.ID, State: w.State, Reason: w.Reason, NoStore: w.NoStore, Status: w.Status, Challenge: w.Challenge,
		Took:  milliseconds(w.Took),
		Since: now.Add(-milliseconds(w.Since)), Every: milliseconds(w.Every), Resume: w.Resume,
	}
	if w.Validated != nil {
		s.Validated = now.Add(-milliseconds(*w.Validated))
	}
	if w.Next != nil {
		s.Next = now.Add(milliseconds(*w.Next))
	}
	return s
}

// inMilliseconds rounds the time until a poll up: rather too late than too early.
func inMilliseconds(d time.Duration) int64 {
	ms := d.Milliseconds()
	if d%time.Millisecond > 0 {
		ms++
	}
	return ms
}

// milliseconds bounds a number from another node to a year, so that no sum
// overflows.
func milliseconds(ms int64) time.Duration {
	const year = 366 * 24 * 3600 * 1000
	return time.Duration(max(-year, min(ms, year))) * time.Millisecond
}

// Kinds of envelopes.
const (
	kindState    = "state"    // the owner's: what the document is now
	kindAsk      = "ask"      // for a kindState
	kindPoke     = "poke"     // for a poll
	kindOwner    = "owner"    // the owner has changed
	kindRecord   = "record"   // stored: who the owner is
	kindDocument = "document" // stored: text and state
	kindBeat     = "beat"     // a node's: it is there
)

// envelope is everything that nodes write: a header in JSON, and bytes.
type envelope struct {
	Kind     string     `json:"kind"`
	Node     string     `json:"node"`
	From     string     `json:"from,omitempty"`     // which member of the node
	Revision uint64     `json:"revision,omitempty"` // of the owner
	Sequence uint32     `json:"sequence,omitempty"` // of the owner's envelopes
	State    *wireState `json:"state,omitempty"`

	// Nonces are those of kindAsk that are answered by a poll that began after
	// they were asked.
	Nonces []string `json:"nonces,omitempty"`
	// Failing are those after which only polls have begun that have failed.
	Failing []string `json:"failing,omitempty"`
	// Nonce asks for a poll that begins after it.
	Nonce string `json:"nonce,omitempty"`
	// WantText asks for the text, too.
	WantText bool `json:"want_text,omitempty"`
	// Unpolled says that the owner has not polled since it became the owner: it
	// may have missed what another node shows.
	Unpolled bool `json:"unpolled,omitempty"`
	// Unsent tells that the text may not be stored, and is larger than what the
	// engine takes as a message.
	Unsent bool `json:"unsent,omitempty"`
	// Free says that there is no owner any more.
	Free bool `json:"free,omitempty"`

	// Text is the form of the bytes: empty if there are none.
	Text string `json:"text,omitempty"`
	// Size is that of the text, unpacked.
	Size int64 `json:"size,omitempty"`
	// Base is the version that bytes of the form delta follow on.
	Base string `json:"base,omitempty"`

	beat
	bytes []byte
}

// Forms of a text.
const (
	full  = "zstd"       // compressed
	delta = "zstd delta" // compressed with the text of Base as dictionary
)

// formatVersion is the first byte of everything. Nodes of other versions have
// other keys, so it only ever differs by mistake.
const formatVersion = 1

func (e *envelope) encode() []byte {
	header, err := json.Marshal(e)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	b := make([]byte, 0, 5+len(header)+len(e.bytes))
	b = append(b, formatVersion)
	b = binary.BigEndian.AppendUint32(b, uint32(len(header)))
	return append(append(b, header...), e.bytes...)
}

func decode(b []byte) (*envelope, error) {
	if len(b) < 5 || b[0] != formatVersion {
		return nil, errors.New("not of a known version")
	}
	n := binary.BigEndian.Uint32(b[1:])
	if uint64(n) > uint64(len(b)-5) {
		return nil, errors.New("header is cut off")
	}
	e := new(envelope)
	if err := json.Unmarshal(b[5:5+n], e); err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	if err := e.check(); err != nil {
		return nil, fmt.Errorf("header: %w", err)
	}
	e.bytes = b[5+n:]
	return e, nil
}

// maxName bounds what names nodes, members and questions in an envelope: a
// node keeps them.
const maxName = 64

// check refuses what no node writes. State and reason become part of what
// clients get, and the status of an answer.
func (e *envelope) check() error {
	if len(e.Node) > maxName || len(e.From) > maxName || len(e.Nonce) > maxName {
		return errors.New("a name is too long")
	}
	if len(e.Hosts) > hostsTold {
		return errors.New("too many hosts")
	}
	for host, count := range e.Hosts {
		if len(host) > maxName || count < 0 || count > 1<<24 {
			return fmt.Errorf("%d documents of %.20q", count, host)
		}
	}
	s := e.State
	if s == nil {
		return nil
	}
	switch {
	case s.State != "" && s.State != waiting && s.State != live && s.State != stale && s.State != denied:
		return fmt.Errorf("no state is called %.20q", s.State)
	case !isWord(s.Reason):
		return fmt.Errorf("no reason is called %.20q", s.Reason)
	case s.Status != 0 && (s.Status < 400 || s.Status > 499):
		return fmt.Errorf("%d refuses no client", s.Status)
	case (s.State == denied) != (s.Status != 0):
		return fmt.Errorf("a document with status %d is not %s", s.Status, s.State)
	}
	return nil
}

// isWord reports whether text may be a reason: a short word, or nothing.
func isWord(text string) bool {
	for _, c := range []byte(text) {
		if (c < 'a' || c > 'z') && c != '_' {
			return false
		}
	}
	return len(text) <= maxName
}
