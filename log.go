package pollsse

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// document is one published version of the upstream's answer: compact JSON on
// one line, never written again.
type document struct {
	id   string // the version; see version
	text []byte
}

// change takes the document of one version to the next.
type change struct {
	pos   uint64 // set by the log
	id    string // the version it leads to
	patch []byte // RFC 6902; nil where a snapshot is no larger
	merge []byte // RFC 7396; nil where nobody reads merge patches or none can say it
}

// States of a source, as status events name them.
const (
	stateWaiting = "waiting" // no document yet
	stateLive    = "live"    // the last poll succeeded
	stateStale   = "stale"   // the last poll failed; the document is the last good one
	stateDenied  = "denied"  // the upstream refused the forwarded credentials
	stateRefused = "refused" // over a limit; only ever sent by the handler
)

// status is the state of a source, since when, and why: one of the reasons
// that docs/protocol.md lists, never the upstream's text.
type status struct {
	state, reason string
	since         time.Time
	// validated is when the upstream last confirmed the document, where that
	// is before since: the age of a stale one. A live one is never older than
	// the schedule makes it.
	validated time.Time
}

// log is the bounded history of one source: the current document, its state,
// and the changes that lead to it. The source's goroutine is its only writer;
// any number of streams read it.
//
// Every publication has a position, one higher than the last. It is bounded
// twice: by a number of changes, and by the size of the document, since a
// client that would need more bytes of patches than that is better off with a
// snapshot.
type log struct {
	limit        int          // changes kept at most
	mergeReaders atomic.Int32 // streams that want merge patches

	mu        sync.Mutex
	wake      chan struct{} // closed at the next publication; nil where nobody waits
	head      uint64        // position of the newest publication; a fresh cursor is 0
	doc       *document     // nil before the first good poll, and once denied
	status    status
	statusPos uint64    // position at which status last changed
	validated time.Time // when the upstream last confirmed doc
	polled    bool      // the first poll has ended
	denial    *denial   // set at the end: streams write what is left and end

	// The document of version baseID, first published at base, followed by
	// changes, gives doc.
	base       uint64
	baseID     string
	changes    []change
	changeSize int

	renditions []*rendition // one for each encoding that somebody reads
}

func newLog(limit int, now time.Time) *log {
	return &log{
		limit:     limit,
		head:      1,
		statusPos: 1,
		status:    status{state: stateWaiting, since: now},
	}
}

// publication is what one poll adds to the log.
type publication struct {
	doc       *document // the new current document, nil where it has not changed
	change    change    // how doc follows from the one before it
	state     string
	reason    string
	at        time.Time // the end of the poll
	validated bool      // the upstream confirmed the current document
	denial    *denial   // drop the document and end every stream
}

// publish appends p and wakes the streams if there is anything to tell them.
func (l *log) publish(p publication) {
	var few [4]chan struct{}
	for _, woken := range l.record(few[:0], p) {
		close(woken) // without the lock: thousands may wait for it
	}
}

// record appends p to the log and to each of its renditions. It appends to woken
// what is to be closed so that the readers wake.
func (l *log) record(woken []chan struct{}, p publication) []chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	news := !l.polled // whoever waits for the first poll wants to know in any case
	l.polled = true
	pos := l.head + 1
	if p.state != l.status.state || p.reason != l.status.reason {
		since := p.at
		if p.state == l.status.state {
			since = l.status.since
		}
		l.status = status{state: p.state, reason: p.reason, since: since}
		if p.state == stateStale {
			l.status.validated = l.validated
		}
		l.statusPos = pos
		news = true
	}
	if p.validated {
		l.validated = p.at
	}
	if p.doc != nil {
		l.append(pos, p.doc, p.change)
		news = true
	}
	if p.denial != nil {
		l.doc, l.changes, l.changeSize, l.baseID = nil, nil, 0, ""
		l.denial = p.denial
	}
	if !news {
		return woken
	}
	l.head = pos
	if l.wake != nil {
		woken = append(woken, l.wake)
		l.wake = nil
	}
	for _, r := range l.renditions {
		woken = append(woken, r.advance())
	}
	return woken
}

func (l *log) append(pos uint64, doc *document, c change) {
	c.pos = pos
	l.doc = doc
	if c.patch == nil {
		// Nobody gets past this change but with a snapshot.
		l.base, l.baseID, l.changes, l.changeSize = pos, doc.id, nil, 0
		return
	}
	l.changes = append(l.changes, c)
	l.changeSize += len(c.patch) + len(c.merge)
	// The newest change always stays: those who are here want it, even where
	// nothing is kept for those who return.
	drop := 0
	for len(l.changes)-drop > max(1, l.limit) || drop < len(l.changes) && l.changeSize > 2*len(doc.text) {
		old := l.changes[drop]
		l.base, l.baseID = old.pos, old.id
		l.changeSize -= len(old.patch) + len(old.merge)
		drop++
	}
	l.changes = slices.Delete(l.changes, 0, drop)
}

// locate finds the position at which a version was last published.
func (l *log) locate(id string) (uint64, bool) {
	for i := len(l.changes) - 1; i >= 0; i-- {
		if l.changes[i].id == id {
			return l.changes[i].pos, true
		}
	}
	return l.base, l.baseID == id && id != ""
}

// encode appends what takes a reader from a position to the head, in an
// encoding: one event for all that it missed, whatever its length. A reader
// that has nothing yet stands at 0.
func (l *log) encode(dst []byte, from uint64, withStatus bool, enc encoding) []byte {
	if withStatus {
		dst = appendStatus(dst, enc.status, l.status)
	}
	switch {
	case l.doc == nil:
	case from < l.base:
		dst = appendDocument(dst, enc, l.doc)
	default:
		i := len(l.changes)
		for i > 0 && l.changes[i-1].pos > from {
			i--
		}
		if i < len(l.changes) {
			dst = appendChanges(dst, enc, l.changes[i:], l.doc)
		}
	}
	return dst
}

// view is what the log shows to those who read the document itself.
type view struct {
	doc       *document
	status    status
	validated time.Time
	polled    bool
	denial    *denial
	wake      <-chan struct{}
}

func (l *log) view() view {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.wake == nil {
		l.wake = make(chan struct{})
	}
	return view{l.doc, l.status, l.validated, l.polled, l.denial, l.wake}
}

// deniedBefore tells whether the upstream refused the credentials before t.
func (l *log) deniedBefore(t time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.denial != nil && l.status.since.Before(t)
}
