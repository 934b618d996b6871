// Package feed is the history of one document and what its readers are sent: a
// bounded log of changes, and renditions of it, blocks of bytes that are made
// once for all streams that want the same format.
package feed

import (
	"context"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Log is the bounded history of one source: the current document, its state,
// and the changes that lead to it. The source's goroutine is its only writer;
// any number of streams read it.
//
// Every publication has a position, one higher than the last. The log is bounded
// twice: by a number of changes, and by the size of the document, since a
// client that would need more bytes of patches than that is better off with a
// snapshot.
type Log struct {
	// Sent counts what is written to readers. It may be shared, and is set
	// before the first Join; nil: nothing is counted.
	Sent *Sent

	history      int          // changes kept at most
	mergeReaders atomic.Int32 // streams that read merge patches

	mu        sync.Mutex
	wake      chan struct{} // closed at the next publication; nil if nobody waits
	newest    uint64        // position of the newest publication; a fresh cursor is 0
	doc       *Document     // nil before the first good poll, and once denied
	status    Status
	statusPos uint64      // position at which status last changed
	validated time.Time   // when the upstream last confirmed doc
	noStore   bool        // it said then that doc must not be stored
	fields    http.Header // of its answer then
	handOn    bool        // its last answer is for each client to see for itself
	polled    bool        // the first poll has ended
	late      time.Time   // when a live document is late; zero: never
	lateness  *time.Timer
	denial    *Denial // set at the end: streams write what is left and end
	// superseded means that another source has taken the place of this one:
	// streams are to end soon and to resume there.
	superseded bool
	closed     bool // nothing more is published

	// changes lead from the document of version baseID, first published at
	// base, to doc.
	base       uint64
	baseID     string
	changes    []Change
	changeSize int

	renditions []*Rendition // one for each key that somebody reads
}

// New makes a log that waits for its first document and keeps at most so many
// changes for clients that return.
func New(history int, now time.Time) *Log {
	return &Log{
		history:   history,
		newest:    1,
		statusPos: 1,
		status:    Status{State: Waiting, Since: now},
	}
}

// Stop ends the log's timer: the source has ended, and the streams are told
// nothing more.
func (l *Log) Stop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expect(time.Time{})
}

// Publish appends p and wakes the streams if there is anything to tell them.
func (l *Log) Publish(p Publication) {
	var few [4]chan struct{}
	l.mu.Lock()
	all := l.record(few[:0], p)
	l.mu.Unlock()
	for _, woken := range all {
		close(woken) // without the lock: thousands may wait for it
	}
}

// record appends p to the log and to each of its renditions. It appends to woken
// the channels to close once the lock, which is held here, is released.
func (l *Log) record(woken []chan struct{}, p Publication) []chan struct{} {
	if l.closed {
		return woken
	}
	if p.Past != nil {
		l.inherit(p.Past)
	}
	news := !l.polled // a request that waits for the first poll must know in any case
	l.polled = true
	pos := l.newest + 1
	if p.Validated {
		l.validated, l.noStore, l.fields = either(p.Confirmed, p.At), p.NoStore, p.Fields
	}
	if p.State != l.status.State || p.Reason != l.status.Reason {
		since := either(p.Since, p.At)
		if p.State == l.status.State && p.Since.IsZero() {
			since = l.status.Since
		}
		l.status = Status{State: p.State, Reason: p.Reason, Since: since}
		if p.State == Stale {
			l.status.Validated = l.validated
		}
		l.statusPos = pos
		news = true
	}
	if p.State != Live {
		p.Late = time.Time{}
	}
	l.expect(p.Late)
	l.handOn = l.handOn && !p.Validated || p.HandOn
	if p.Document != nil {
		l.append(pos, p.Document, p.Change)
		news = true
	}
	if p.Denial != nil {
		l.doc, l.changes, l.changeSize, l.baseID = nil, nil, 0, ""
		l.denial = p.Denial
	}
	if !news {
		return woken
	}
	l.newest = pos
	if l.wake != nil {
		woken = append(woken, l.wake)
		l.wake = nil
	}
	for _, r := range l.renditions {
		woken = append(woken, r.advance())
	}
	return woken
}

// either returns a time, or another one if it is zero.
func either(at, or time.Time) time.Time {
	if at.IsZero() {
		return or
	}
	return at
}

// expect notes when the document is late; zero: never. The lock is held.
func (l *Log) expect(late time.Time) {
	l.late = late
	switch {
	case late.IsZero() && l.lateness != nil:
		l.lateness.Stop()
	case late.IsZero():
	case l.lateness == nil:
		l.lateness = time.AfterFunc(time.Until(late), l.tellLate)
	default:
		l.lateness.Reset(time.Until(late))
	}
}

// tellLate tells the streams that the document is late, if it is. The timer runs
// it.
func (l *Log) tellLate() {
	l.mu.Lock()
	var all []chan struct{}
	if l.isLate(time.Now()) {
		all = l.record(nil, Publication{State: Stale, Reason: ReasonLate, At: l.late})
	}
	l.mu.Unlock()
	for _, woken := range all {
		close(woken)
	}
}

// isLate reports whether the document is live, but no poll has ended for longer
// than the schedule allows; the lock is held.
func (l *Log) isLate(now time.Time) bool {
	return l.status.State == Live && !l.late.IsZero() && Until(l.late, now) <= 0
}

// SetLate changes when a live document is late; zero: never.
func (l *Log) SetLate(late time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.status.State == Live {
		l.expect(late)
	}
}

// SetHistory changes how many changes are kept, from the next change on.
func (l *Log) SetHistory(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.history = n
}

// ConfirmedAfter reports whether the upstream has confirmed a document since t.
func (l *Log) ConfirmedAfter(t time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.validated.After(t)
}

// Supersede tells the streams that another source has taken the place of this
// one. With closed, nothing is published any more.
func (l *Log) Supersede(closed bool) {
	l.mu.Lock()
	l.superseded, l.closed = true, closed
	var all []chan struct{}
	if l.wake != nil {
		all = append(all, l.wake)
		l.wake = nil
	}
	for _, r := range l.renditions {
		all = append(all, r.push(comment, false, BlockHeartbeat))
	}
	l.mu.Unlock()
	for _, woken := range all {
		close(woken)
	}
}

// Past is the history of a log, for the log of a source that takes its place.
type Past struct {
	Document     *Document // to which it leads; nil if there is none
	newest, base uint64
	baseID       string
	changes      []Change
	changeSize   int
}

// Past returns the history so far.
func (l *Log) Past() Past {
	l.mu.Lock()
	defer l.mu.Unlock()
	return Past{l.doc, l.newest, l.base, l.baseID, slices.Clone(l.changes), l.changeSize}
}

// inherit takes over a history, so that the readers of another log can resume
// here. Streams that are here already are behind all of it and get a snapshot.
// The lock is held.
func (l *Log) inherit(from *Past) {
	for i := range from.changes {
		from.changes[i].pos += l.newest
	}
	l.base, l.baseID, l.changes, l.changeSize = from.base+l.newest, from.baseID, from.changes, from.changeSize
	l.newest += from.newest
}

// lastID returns the version to which the history leads.
func (l *Log) lastID() string {
	if n := len(l.changes); n > 0 {
		return l.changes[n-1].ID
	}
	return l.baseID
}

// append takes in a new document and how it follows from the last. The lock is
// held.
func (l *Log) append(pos uint64, doc *Document, c Change) {
	c.pos = pos
	if l.doc == nil && doc.ID == l.lastID() {
		l.doc = doc // what was inherited is still true
		return
	}
	l.doc = doc
	if c.Patch == nil {
		// Only a snapshot takes a client past this change.
		l.base, l.baseID, l.changes, l.changeSize = pos, doc.ID, nil, 0
		return
	}
	l.changes = append(l.changes, c)
	l.changeSize += len(c.Patch) + len(c.Merge)
	// The newest change always stays: streams that are open want it, even if
	// nothing is kept for clients that return.
	drop := 0
	for len(l.changes)-drop > max(1, l.history) || drop < len(l.changes) && l.changeSize > 2*len(doc.Text) {
		old := l.changes[drop]
		l.base, l.baseID = old.pos, old.ID
		l.changeSize -= len(old.Patch) + len(old.Merge)
		drop++
	}
	l.changes = slices.Delete(l.changes, 0, drop)
}

// position returns where a version was last published. The lock is held.
func (l *Log) position(id string) (uint64, bool) {
	for i := len(l.changes) - 1; i >= 0; i-- {
		if l.changes[i].ID == id {
			return l.changes[i].pos, true
		}
	}
	return l.base, l.baseID == id && id != ""
}

// encode appends what takes a reader from a position to the newest publication:
// one event for all that it missed. A reader that has nothing yet is at 0. The
// lock is held.
func (l *Log) encode(dst []byte, from uint64, withStatus bool, k Key) []byte {
	if withStatus {
		dst = appendStatus(dst, k.Names.Status, l.status)
	}
	switch {
	case l.doc == nil:
	case from < l.base:
		dst = k.appendDocument(dst, l.doc)
	default:
		i := len(l.changes)
		for i > 0 && l.changes[i-1].pos > from {
			i--
		}
		if i < len(l.changes) {
			dst = k.appendChanges(dst, l.changes[i:], l.doc)
		}
	}
	return dst
}

// kindAfter returns the kind of a block that takes readers from a position to
// the newest publication. The lock is held.
func (l *Log) kindAfter(from uint64, k Key) BlockKind {
	n := len(l.changes)
	switch {
	case l.doc == nil:
		return BlockStatus
	case from < l.base || k.Format == FormatSnapshot && n > 0 && l.changes[n-1].pos > from:
		return BlockSnapshot
	case n == 0 || l.changes[n-1].pos <= from:
		return BlockStatus
	case k.Format == FormatPatch:
		return BlockPatch
	case l.changes[n-1].Merge == nil:
		return BlockSnapshot
	}
	return BlockMerge
}

// History returns how many changes are kept, and the bytes of their patches.
func (l *Log) History() (changes, size int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.changes), l.changeSize
}

// Has reports whether a client that has this version can be sent what it has
// missed.
func (l *Log) Has(id string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, ok := l.position(id)
	return ok
}

// View returns what the log shows now.
func (l *Log) View() View { return l.ViewAt(time.Now()) }

// ViewAt returns what the log shows at a time. It works out by itself whether
// the document is late: after a suspension the timer may not have run yet.
func (l *Log) ViewAt(now time.Time) View {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.wake == nil {
		l.wake = make(chan struct{})
	}
	s := l.status
	if l.isLate(now) {
		s = Status{State: Stale, Reason: ReasonLate, Since: l.late, Validated: l.validated}
	}
	return View{
		Document: l.doc, Status: s, Validated: l.validated, NoStore: l.noStore,
		Fields: l.fields, HandOn: l.handOn, Polled: l.polled, Denial: l.denial, Wake: l.wake, Superseded: l.superseded,
	}
}

// DeniedBefore reports whether the upstream refused the credentials before t.
func (l *Log) DeniedBefore(t time.Time) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.denial != nil && l.status.Since.Before(t)
}

// AwaitPoll waits until the first poll has ended, until timeout or until exit is
// closed, and returns what the log shows then. The error is that of ctx, if that
// ends first.
func (l *Log) AwaitPoll(ctx context.Context, timeout time.Duration, exit <-chan struct{}) (View, error) {
	v := l.View()
	if v.Polled {
		return v, nil
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	for !v.Polled {
		select {
		case <-ctx.Done():
			return v, ctx.Err()
		case <-timer.C:
			return l.View(), nil
		case <-exit:
			return l.View(), nil
		case <-v.Wake:
			v = l.View()
		}
	}
	return v, nil
}

// WantsMerge reports whether any stream reads merge patches, or did until a moment
// ago.
func (l *Log) WantsMerge() bool { return l.mergeReaders.Load() > 0 }

// Until returns how long it is until t, by the clock on which that is sooner. The
// monotonic clock stands still while a machine sleeps, and the wall clock can be
// set back.
func Until(t, now time.Time) time.Duration {
	return min(t.Sub(now), t.Round(0).Sub(now.Round(0)))
}
