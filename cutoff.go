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
	// cutAgain repeats the cut: a writer that was between two pieces has set
	// a new deadline since.
	cutAgain = 100 * time.Millisecond
	// cutFor bounds the repetition.
	cutFor = 10 * time.Second
)

// responses holds the response of every stream of the process, so that an exit
// need not wait for clients that read nothing: a blocked write cannot look for
// the exit itself.
var responses = struct {
	mu  sync.Mutex
	all map[http.ResponseWriter]struct{}
}{all: make(map[http.ResponseWriter]struct{})}

// cuttable puts a response among those that an exit may cut off, until the
// returned function is called. That must be before its handler returns.
func cuttable(w http.ResponseWriter) func() {
	// The innermost writer alone takes a deadline from another goroutine:
	// Caddy's wrappers keep it in fields without a lock.
	for {
		outer, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			break
		}
		w = outer.Unwrap()
	}
	responses.mu.Lock()
	defer responses.mu.Unlock()
	responses.all[w] = struct{}{}
	return func() {
		responses.mu.Lock()
		defer responses.mu.Unlock()
		delete(responses.all, w)
	}
}

// cutOff ends the writes of streams that have not ended by themselves in time
// after the exit began.
func cutOff() {
	begun := time.Now()
	for time.Sleep(cutGrace); time.Since(begun) < cutFor; time.Sleep(cutAgain) {
		responses.mu.Lock()
		for w := range responses.all {
			// An error means that the writer knows no deadlines.
			_ = http.NewResponseController(w).SetWriteDeadline(time.Now())
		}
		left := len(responses.all)
		responses.mu.Unlock()
		if left == 0 {
			return
		}
	}
}
