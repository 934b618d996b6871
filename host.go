package pollsse

import (
	"context"
	"math"
	"slices"
	"sync"
)

// hosts holds the upstream hosts that sources poll, across configurations.
var hosts = newHostTable()

type hostTable struct {
	mu     sync.Mutex
	byName map[string]*host
}

func newHostTable() *hostTable { return &hostTable{byName: make(map[string]*host)} }

// host bounds how many polls one upstream host gets at the same time, and
// spreads its sources over their interval.
type host struct {
	table *hostTable
	name  string

	// The table's mutex guards the rest.
	sources int
	entered int // sources ever, while there was any
	polls   int
	queue   []*waiter // first come, first served
}

// waiter is a poll that waits for others to end.
type waiter struct {
	limit int
	ready chan struct{}
}

// enter registers a source with its host and gives its phase: the part of the
// interval by which its polls move. The first source has phase 0; multiples of the golden ratio spread any number of others evenly. Each enter
// must be followed by one leave.
func (t *hostTable) enter(name string) (*host, float64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	h := t.byName[name]
	if h == nil {
		h = &host{table: t, name: name}
		t.byName[name] = h
	}
	_, phase := math.Modf(float64(h.entered) * (math.Phi - 1))
	h.entered++
	h.sources++
	return h, phase
}

func (h *host) leave() {
	h.table.mu.Lock()
	defer h.table.mu.Unlock()
	if h.sources--; h.sources == 0 {
		delete(h.table.byName, h.name)
	}
}

// acquire waits until the host has room for a poll: fewer than limit in
// flight, and nobody waiting for longer. It says false where ctx ended first.
// Each success must be followed by one release.
func (h *host) acquire(ctx context.Context, limit int) bool {
	h.table.mu.Lock()
	if limit <= 0 || len(h.queue) == 0 && h.polls < limit {
		h.polls++
		h.table.mu.Unlock()
		return ctx.Err() == nil || h.release()
	}
	t := &waiter{limit, make(chan struct{})}
	h.queue = append(h.queue, t)
	h.table.mu.Unlock()
	select {
	case <-t.ready:
		return true
	case <-ctx.Done():
	}
	h.table.mu.Lock()
	if i := slices.Index(h.queue, t); i >= 0 {
		h.queue = slices.Delete(h.queue, i, i+1)
		h.admit() // those behind may have a higher limit
		h.table.mu.Unlock()
		return false
	}
	h.table.mu.Unlock()
	return h.release() // its waiter came at the same moment
}

// release ends a poll. It returns false, for acquire.
func (h *host) release() bool {
	h.table.mu.Lock()
	defer h.table.mu.Unlock()
	h.polls--
	h.admit()
	return false
}

// admit lets those at the head of the queue go; the mutex is held.
func (h *host) admit() {
	for len(h.queue) > 0 && h.polls < h.queue[0].limit {
		close(h.queue[0].ready)
		h.queue = h.queue[1:]
		h.polls++
	}
}
