package pollsse

import (
	"bytes"
	"net/http"
	"os"
	"sync"
	"time"
)

// pipeWriter is a response writer in memory. It can block, as if its client
// read nothing.
type pipeWriter struct {
	mu      sync.Mutex
	header  http.Header
	code    int
	buf     bytes.Buffer
	flushed int // bytes of buf that a client can see
	gate    chan struct{}
	cut     chan struct{} // closed by a deadline that has passed
	writes  int
}

func newPipeWriter() *pipeWriter {
	return &pipeWriter{header: make(http.Header), cut: make(chan struct{})}
}

func (w *pipeWriter) Header() http.Header { return w.header }

func (w *pipeWriter) WriteHeader(code int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.code == 0 {
		w.code = code
	}
}

func (w *pipeWriter) status() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.code
}

// block makes writes wait until unblock.
func (w *pipeWriter) block() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gate = make(chan struct{})
}

func (w *pipeWriter) unblock() {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.gate)
	w.gate = nil
}

func (w *pipeWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	gate, cut := w.gate, w.cut
	w.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-cut:
			return 0, os.ErrDeadlineExceeded
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.code == 0 {
		w.code = 200
	}
	w.writes++
	return w.buf.Write(b)
}

func (w *pipeWriter) SetWriteDeadline(t time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	late := false
	select {
	case <-w.cut:
		late = true
	default:
	}
	switch {
	case t.IsZero() && late:
		w.cut = make(chan struct{})
	case t.IsZero() || late:
	case time.Until(t) > 0:
		panic("BUG: a deadline is set that has not passed")
	default:
		close(w.cut)
	}
	return nil
}

func (w *pipeWriter) FlushError() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.flushed = w.buf.Len()
	return nil
}

// take removes and returns what was flushed.
func (w *pipeWriter) take() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	b := bytes.Clone(w.buf.Next(w.flushed))
	w.flushed = 0
	return b
}
