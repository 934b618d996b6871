package pollsse

import (
	"errors"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/pollsse/caddy-poll-sse/internal/delivery"
)

// drainable ends the open streams of a handler, as a reload does, while
// newcomers stay.
type drainable struct {
	mu     sync.Mutex
	reload chan struct{} // closed: the streams with the newest options end
	ended  bool          // the configuration has been replaced

	newest atomic.Pointer[delivery.Options] // of new streams; nil: those of the configuration
}

// streamOptions returns the options of a new stream. Their Reload ends the
// streams that open from now on; the one in h.streams ends those that opened
// before the first drain.
func (h *Handler) streamOptions() *delivery.Options {
	if o := h.drains.newest.Load(); o != nil {
		return o
	}
	return h.streams
}

// last returns the channel that ends the newest streams when the configuration is
// replaced. Nothing is drained any more from then on.
func (d *drainable) last() chan<- struct{} {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.ended = true
	return d.reload
}

// drain ends the open streams evenly over a time, and each resumes at once. It
// returns false if the configuration lets them stay, or if they are ending
// already.
func (h *Handler) drain(over time.Duration) bool {
	d := h.drains
	d.mu.Lock()
	defer d.mu.Unlock()
	old := h.streamOptions()
	if d.ended || old.CloseDelay < 0 {
		return false
	}
	reload := make(chan struct{})
	o := *old
	o.Reload = reload
	d.newest.Store(&o)
	old.EndOver(over)
	close(d.reload)
	d.reload = reload
	return true
}

// Bounds of the time over which streams are drained.
const (
	minDrain     = time.Second
	maxDrain     = time.Hour
	defaultDrain = time.Minute
)

// drain answers POST /poll_sse/drain?name=…&over=…: the streams end evenly and
// resume elsewhere, for a planned stop of one node behind a balancer. Without a
// name it is for all, and poll_sse_ready answers 503 from then on, until another
// configuration has started; DELETE takes that back.
func (a adminAPI) drain(w http.ResponseWriter, r *http.Request) error {
	if r.Method == http.MethodDelete {
		a.engine.drained.Store(false)
		w.WriteHeader(http.StatusNoContent)
		return nil
	}
	if err := only(http.MethodPost, r); err != nil {
		return err
	}
	over, name := defaultDrain, r.URL.Query().Get("name")
	if text := r.URL.Query().Get("over"); text != "" {
		d, err := caddy.ParseDuration(text)
		if err != nil || d < minDrain || d > maxDrain {
			return caddy.APIError{HTTPStatus: http.StatusBadRequest, Err: fmt.Errorf("over: need a duration of %s to %s, as in over=5m", minDrain, maxDrain)}
		}
		over = d
	}
	app := a.engine.app.Load()
	if app == nil {
		return caddy.APIError{HTTPStatus: http.StatusNotFound, Err: errors.New("no configuration has a poll_sse")}
	}
	if name == "" {
		a.engine.drained.Store(true) // first, so that a balancer sends nobody back
	}
	var out struct {
		Over    float64 `json:"over_seconds"`
		Drained int     `json:"handlers"`
		Stay    int     `json:"handlers_that_stay,omitempty"` // stream_close_delay is negative
	}
	out.Over = over.Seconds()
	found := false
	for _, h := range app.all {
		if name != "" && h.Name != name {
			continue
		}
		found = true
		if h.drain(over) {
			out.Drained++
		} else {
			out.Stay++
		}
	}
	if !found && name != "" {
		return caddy.APIError{HTTPStatus: http.StatusNotFound, Err: errors.New("no poll_sse of the configuration has this name")}
	}
	app.logger.Info("streams are drained by the admin API", zap.String("poll_sse", name), zap.Duration("over", over))
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(http.StatusAccepted)
	return answerJSON(w, out)
}
