package pollsse

import (
	"net/http"
	"sync"
	"time"
)

const (
	// cutGrace is how long a client may take, once the process exits, for
	// what its stream is writing at that moment.
	cutGrace = 500 * time.Millisecond
	// cutAgain repeats the cut for streams that have begun since.
	cutAgain = 100 * time.Millisecond
	// cutFor bounds the repetition.
	cutFor = 10 * time.Second
)

// cutter ends the writes of one response that take too long. A deadline before
// each write would do as well, but HTTP/2 passes each one on to the goroutine
// of the connection, which costs more than what is written.
type cutter struct {
	late *time.Timer

	mu sync.Mutex
	w  http.ResponseWriter // nil once its handler is about to return
}

// cutters are those of every stream of the process that a goroutine writes, so
// that an exit need not wait for clients that read nothing: a blocked write
// cannot look for the exit itself.
var cutters = struct {
	mu  sync.Mutex
	all map[*cutter]struct{}
}{all: make(map[*cutter]struct{})}

// newCutter makes a cutter for the innermost writer of a response: wrappers keep
// deadlines in fields without a lock. The first write begins now. It must be
// released before the handler returns.
func newCutter(w http.ResponseWriter) *cutter {
	c := &cutter{w: w}
	c.late = time.AfterFunc(writeTimeout, c.cut)
	cutters.mu.Lock()
	defer cutters.mu.Unlock()
	cutters.all[c] = struct{}{}
	return c
}

// begin and end are called before and after each write.
func (c *cutter) begin() { c.late.Reset(writeTimeout) }
func (c *cutter) end()   { c.late.Stop() }

func (c *cutter) release() {
	c.late.Stop()
	cutters.mu.Lock()
	delete(cutters.all, c)
	cutters.mu.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.w = nil
}

// cut ends what is being written, and every write from then on.
func (c *cutter) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.w != nil {
		// An error means that the writer knows no deadlines.
		_ = http.NewResponseController(c.w).SetWriteDeadline(time.Now())
	}
}

// cutOff ends the writes of streams that have not ended by themselves in time
// after the exit began.
func cutOff() {
	begun := time.Now()
	for time.Sleep(cutGrace); time.Since(begun) < cutFor; time.Sleep(cutAgain) {
		cutters.mu.Lock()
		for c := range cutters.all {
			c.cut()
		}
		left := len(cutters.all)
		cutters.mu.Unlock()
		if left == 0 {
			return
		}
	}
}
