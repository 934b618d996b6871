package cluster

import (
	"errors"
	"net"
	"strings"
	"sync"
	"time"
)

const (
	// maxTroubles is how many different errors are news within troubleTime.
	maxTroubles = 8
	troubleTime = 10 * time.Minute
)

// Troubles tells which errors of an engine are news. An engine that is away
// fails several times a second, and not always with the same words. Its zero
// value is ready.
type Troubles struct {
	mu    sync.Mutex
	known map[string]time.Time // errors and when they were news
}

// News tells whether an error belongs into the log: the same one does not
// again for ten minutes, nor does any beyond eight of them.
func (t *Troubles) News(err error) bool {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	for text, at := range t.known {
		if now.Sub(at) >= troubleTime {
			delete(t.known, text)
		}
	}
	text := err.Error()
	if op, ok := errors.AsType[*net.OpError](err); ok && op.Source != nil {
		text = strings.ReplaceAll(text, op.Source.String(), "") // has another port each time
	}
	if _, known := t.known[text]; known || len(t.known) == maxTroubles {
		return false
	}
	if t.known == nil {
		t.known = make(map[string]time.Time)
	}
	t.known[text] = now
	return true
}

// Over has every error be news again: the engine is up.
func (t *Troubles) Over() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.known)
}
