package delivery

import (
	"net/http"
	"sync"
	"time"
)

const (
	// writeTimeout bounds how long a client may take for one piece.
	writeTimeout = 30 * time.Second
	// writePiece is how many bytes of a block a client must at least take
	// within writeTimeout, and writePieces how many pieces a large block has
	// at most: nobody retains one for longer than 5 minutes.
	writePiece  = 64 << 10
	writePieces = 10
	// lossTime bounds how long a client may leave what it was sent
	// unacknowledged.
	lossTime = 2 * writeTimeout
	// lossEvery is about how often it is looked for that.
	lossEvery = 10 * time.Second

	// exitGrace is how long a client may take, once the process exits, for
	// what its stream is writing at that moment.
	exitGrace = 500 * time.Millisecond
	// expireAgain is how often that is repeated for streams that have begun
	// since.
	expireAgain = 100 * time.Millisecond
	// expireFor bounds the repetition.
	expireFor = 10 * time.Second
)

// silence is since when a client has acknowledged nothing of what it was sent, in
// seconds on the clock of now, rounded up; 0: it has acknowledged all.
type silence int32

// lost takes whether the client owes an acknowledgement at a moment and how long
// ago its last one came, and reports whether its network has vanished. That the last
// one is old says nothing alone: nothing may have been sent for long, as while the
// process was suspended.
func (s *silence) lost(owes bool, ago, at time.Duration) bool {
	switch since := time.Duration(*s) * time.Second; {
	case !owes:
		*s = 0
	case since == 0 || ago < at-since:
		*s = silence((at + time.Second - 1) / time.Second)
	default:
		return at-since > lossTime-lossEvery
	}
	return false
}

// pieceOf returns how many bytes of a block of some size a client must take
// within writeTimeout.
func pieceOf(size int) int { return max(writePiece, (size+writePieces-1)/writePieces) }

// writeTimer ends the writes of one response that take too long. A deadline
// before each write would do as well, but HTTP/2 passes each one on to the
// goroutine of the connection, which costs more than what is written.
type writeTimer struct {
	of     *writeTimers
	stream *handled // nil while the header of a direct one is sent
	timer  *time.Timer

	mu sync.Mutex
	w  http.ResponseWriter // nil once its handler is about to return
}

// writeTimers are those of every stream that a goroutine writes, so that an exit
// need not wait for clients that read nothing: a blocked write cannot look for
// the exit itself.
type writeTimers struct {
	exit <-chan struct{}
	over chan struct{} // closed by wait

	mu      sync.Mutex
	all     map[*writeTimer]struct{} // nil before the first
	running sync.WaitGroup           // expireAtExit
}

// start makes a timer for the innermost writer of a response: wrappers keep
// deadlines in fields without a lock. The first write begins now. The timer must
// be released before the handler returns.
func (ts *writeTimers) start(w http.ResponseWriter, s *handled) *writeTimer {
	t := &writeTimer{of: ts, stream: s, w: w}
	t.timer = time.AfterFunc(writeTimeout, t.expire)
	ts.mu.Lock()
	defer ts.mu.Unlock()
	if ts.all == nil {
		ts.all = make(map[*writeTimer]struct{})
		if !isClosed(ts.over) {
			ts.running.Go(ts.expireAtExit)
		}
	}
	ts.all[t] = struct{}{}
	return t
}

// begin and end are called before and after each write.
func (t *writeTimer) begin() { t.timer.Reset(writeTimeout) }
func (t *writeTimer) end()   { t.timer.Stop() }

func (t *writeTimer) release() {
	t.timer.Stop()
	t.of.mu.Lock()
	delete(t.of.all, t)
	t.of.mu.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.w = nil
}

// expire ends what is being written, and every write from then on.
func (t *writeTimer) expire() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.w != nil {
		// An error means that the writer knows no deadlines.
		_ = http.NewResponseController(t.w).SetWriteDeadline(time.Now())
	}
}

// expireAtExit ends the writes of streams that have not ended by themselves in
// time after the exit began.
func (ts *writeTimers) expireAtExit() {
	select {
	case <-ts.exit:
	case <-ts.over:
		return
	}
	next := time.NewTimer(exitGrace)
	defer next.Stop()
	for begun := time.Now(); time.Since(begun) < expireFor; next.Reset(expireAgain) {
		select {
		case <-next.C:
		case <-ts.over:
			return
		}
		ts.mu.Lock()
		for t := range ts.all {
			t.expire()
		}
		ts.mu.Unlock()
	}
}

// wait ends expireAtExit.
func (ts *writeTimers) wait() {
	ts.mu.Lock()
	if !isClosed(ts.over) {
		close(ts.over)
	}
	ts.mu.Unlock()
	ts.running.Wait()
}
