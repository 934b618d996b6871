package pollsse

import (
	"math"
	"slices"
	"sync"
	"time"
)

// pollRecord is one poll that has ended.
type pollRecord struct {
	At       time.Time
	Took     time.Duration
	Outcome  string // changed, unchanged, not_modified, or the reason of a failure
	Status   int    // of an answer without a document; 0 if there was none, and with a document
	Received int64  // bytes of bodies, as they were on the way
	Decoded  int    // bytes of the document
	Change   int    // bytes of the patch, or of the document if that is sent
}

// keptRecords is how many polls of a source are remembered.
const keptRecords = 20

// records are the last polls of a source, and what follows from all of them.
type records struct {
	mu       sync.Mutex
	last     []pollRecord // oldest first
	planned  time.Time    // of the next poll
	delayed  string       // what has put that off; empty: nothing
	failures int          // in a row
	changed  time.Time    // the last change
	changes  [60]uint16   // in each minute of the last hour
	minute   int64        // since 1970, of the newest of these
	etag     bool         // a poll was answered with 304
	saved    savings
}

// savings are what the readers of a source have not cost its upstream.
type savings struct {
	Requests float64 `json:"requests"`
	Bytes    float64 `json:"bytes"`
}

// add takes in a poll.
func (r *records) add(p pollRecord, readers int64, interval time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := len(r.last); n > 0 && readers > 0 {
		r.saved.Requests += float64(readers) * p.At.Sub(r.last[n-1].At).Seconds() / interval.Seconds()
	}
	if len(r.last) == keptRecords {
		r.last = slices.Delete(r.last, 0, 1)
	}
	r.last = append(r.last, p)
	switch p.Outcome {
	case outcomeChanged:
		r.changed = p.At
		r.expire(p.At)
		if n := &r.changes[r.minute%60]; *n < math.MaxUint16 {
			*n++
		}
		if readers > 0 {
			r.saved.Bytes += float64(readers * p.Received)
		}
		r.failures = 0
	case outcomeNotModified:
		r.etag = true
		r.failures = 0
	case outcomeUnchanged:
		r.failures = 0
	default:
		r.failures++
	}
}

// expire forgets the minutes that are more than an hour before now. The mutex is held.
func (r *records) expire(now time.Time) {
	minute := now.Unix() / 60
	for r.minute = max(r.minute, minute-60); r.minute < minute; {
		r.minute++
		r.changes[r.minute%60] = 0
	}
}

// plan notes when the next poll is due, and what has put it off.
func (r *records) plan(at time.Time, by string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.planned, r.delayed = at, by
}

// recorded is what records tell at one moment.
type recorded struct {
	last     []pollRecord
	planned  time.Time
	delayed  string
	failures int
	changes  int // in the last hour
	changed  time.Time
	etag     bool
	saved    savings
}

func (r *records) read(now time.Time) recorded {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.expire(now)
	out := recorded{last: slices.Clone(r.last), planned: r.planned, delayed: r.delayed, failures: r.failures, changed: r.changed, etag: r.etag, saved: r.saved}
	for _, n := range r.changes {
		out.changes += int(n)
	}
	return out
}
