package pollsse

import (
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyevents"
	"go.uber.org/zap"
)

// Events for Caddy's events app. They report changes of state, not every
// failure.
const (
	// eventDown says that an upstream no longer has a document. Data: name,
	// reason, since.
	eventDown = "poll_sse.down"
	// eventUp says that it has one again. Data: name, after (in seconds).
	eventUp = "poll_sse.up"
	// eventRefusing says that newcomers are refused, at most once a minute for
	// each name and reason. Data: name, reason.
	eventRefusing = "poll_sse.refusing"
)

const (
	// keptEvents is how many events may wait while the handlers of earlier ones
	// run: Emit returns only when every handler has. Further events are
	// dropped, and the log says how many.
	keptEvents = 64
	// eventsEnd is how long a configuration that ends waits for a handler.
	eventsEnd = 5 * time.Second
	// refusingFor is the time in which the same refusal makes only one event.
	refusingFor = time.Minute
)

type event struct {
	name string
	data map[string]any
}

// eventQueue passes events to the events app of one configuration. start begins
// its goroutine, stop ends it.
type eventQueue struct {
	events  chan event
	dropped atomic.Int64
	quit    chan struct{}
	done    chan struct{}
}

func newEventQueue() *eventQueue {
	return &eventQueue{events: make(chan event, keptEvents), quit: make(chan struct{}), done: make(chan struct{})}
}

// start emits the events that are put into the queue, until stop is called.
func (q *eventQueue) start(emit func(event), logger *zap.Logger) {
	go func() {
		defer close(q.done)
		for {
			select {
			case <-q.quit:
				return
			case e := <-q.events:
				if n := q.dropped.Swap(0); n > 0 {
					logger.Warn("events were dropped, as their handlers take too long", zap.Int64("events", n))
				}
				emit(e)
			}
		}
	}()
}

// stop ends the goroutine. A handler that does not return is left behind.
func (q *eventQueue) stop(logger *zap.Logger) {
	close(q.quit)
	select {
	case <-q.done:
	case <-time.After(eventsEnd):
		logger.Warn("a handler of events does not return")
	}
}

// put queues an event; nil drops it.
func (q *eventQueue) put(name string, data map[string]any) {
	if q == nil {
		return
	}
	select {
	case q.events <- event{name, data}:
	default:
		q.dropped.Add(1)
	}
}

// emitTo returns a function that sends an event to a configuration's events
// app.
func emitTo(ctx caddy.Context) (func(event), error) {
	app, err := ctx.App("events")
	if err != nil {
		return nil, err
	}
	events := app.(*caddyevents.App)
	return func(e event) { events.Emit(ctx, e.name, e.data) }, nil
}
