package pollsse

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/pollsse/caddy-poll-sse/internal/delivery"
)

func init() {
	caddy.OnExit(func(context.Context) { process.close() })
}

// engine holds what all configurations share, so that sources and streams
// outlive a reload. The process has one; each test makes its own.
type engine struct {
	pool        *pool
	delivery    *delivery.Server
	names       nameTable
	generations atomic.Uint64              // how many have begun
	started     atomic.Pointer[generation] // the newest one that runs; a reload starts it before it stops the old one; nil: there was none
	app         atomic.Pointer[App]        // of the newest configuration that has started
	drained     atomic.Bool                // this node is to get no more readers
	warned      sync.Map                   // names about whose proxy the log has a warning

	exit    chan struct{} // closed when the process exits
	endOnce sync.Once
	watch   exitWatch
}

var process = newEngine()

func newEngine() *engine {
	exit := make(chan struct{})
	return &engine{pool: newPool(), delivery: delivery.NewServer(exit, transparent), exit: exit}
}

// end ends every stream of every configuration.
func (e *engine) end() { e.endOnce.Do(func() { close(e.exit) }) }

// close ends every stream and every source, and waits for them. Caddy does not
// wait for streams that are delivered directly: their connections are no longer
// its own.
func (e *engine) close() {
	e.end()
	e.delivery.Wait()
	e.pool.closeAll()
	e.pool.traces.stop()
}

// shutdown tells a configuration's streams that their server stops: at an exit
// they end at once, after a reload in their own time.
func (e *engine) shutdown(reload chan<- struct{}) {
	if caddy.Exiting() {
		e.end()
		return
	}
	close(reload)
	e.watchExit()
}

// exitWatch looks for the exit on behalf of streams that outlived their
// configuration: their own server's shutdown hook has fired already, and no
// other module is told in time.
type exitWatch struct {
	mu      sync.Mutex
	running bool
	until   time.Time // for streams that are only about to subscribe
}

// watchExit watches for the exit until there are no subscribers.
func (e *engine) watchExit() {
	w := &e.watch
	w.mu.Lock()
	defer w.mu.Unlock()
	w.until = time.Now().Add(5 * time.Second)
	if w.running {
		return
	}
	w.running = true
	go func() {
		for {
			time.Sleep(100 * time.Millisecond)
			if caddy.Exiting() {
				e.end()
				return
			}
			w.mu.Lock()
			if time.Now().After(w.until) && !e.pool.subscribed() {
				w.running = false
				w.mu.Unlock()
				return
			}
			w.mu.Unlock()
		}
	}()
}
