package pollsse

import (
	"context"
	"math/rand/v2"
	"net/http"
	"time"
)

// Why a stream ended, as the access log has it.
const (
	endedClient = "client"  // the client went away
	endedWrite  = "write"   // the client took nothing for writeTimeout
	endedAge    = "max_age" // it resumes at once, through authentication again
	endedReload = "reload"  // its configuration was replaced
	endedExit   = "exit"    // the server stops
	endedDenied = "denied"  // the upstream refused the forwarded credentials
)

const (
	// writeTimeout bounds how long a client may take for one piece.
	writeTimeout = 30 * time.Second
	// writePiece is how many bytes a client must take within writeTimeout.
	writePiece = 64 << 10
	// lossTime bounds how long a client may leave what it was sent
	// unacknowledged.
	lossTime = 2 * writeTimeout
	// quickRetry bounds the pause after which a client that the server has
	// sent away comes back; jitter keeps them from coming together.
	quickRetry = time.Second
	// refusedRetry is what a refused client waits, before jitter.
	refusedRetry = 30 * time.Second
	// keepPlace is how long the place of a client that the server has sent
	// away is kept.
	keepPlace = 15 * time.Second
)

// stream is one client's event stream: a cursor in a source's log, written to
// a response by the goroutine that serves the request.
type stream struct {
	w        http.ResponseWriter
	control  *http.ResponseController
	cutter   *cutter
	log      *log
	key      renditionKey
	cursor   cursor
	announce bool          // the id came in the query: tell it to the browser
	retry    time.Duration // before jitter
	age      time.Duration // at which the stream ends; 0: never
	drain    *drain

	frames, bytes int64
}

// drain tells the streams of one configuration when to end.
type drain struct {
	reload <-chan struct{} // closed when the configuration is replaced
	exit   <-chan struct{} // closed when the process exits
	spread time.Duration   // over which streams end after a reload; negative: they stay
}

// jitter spreads d evenly over half of it to one and a half of it.
func jitter(d time.Duration) time.Duration {
	return d/2 + rand.N(d+1)
}

// setStreamHeader sets what every event stream carries. X-Accel-Buffering and
// no-transform keep proxies, and Caddy's encode, from holding events back.
func setStreamHeader(h http.Header) {
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store, no-transform")
	h.Set("X-Accel-Buffering", "no")
}

// run writes the stream until something ends it and returns what did.
func (s *stream) run(ctx context.Context) string {
	r := s.log.join(s.key)
	defer r.leave()
	s.cutter = newCutter(innermost(s.w))
	defer s.cutter.release()
	// The cutter alone bounds writes. A write_timeout of the server's has been
	// taken for a bound of the stream's age.
	_ = s.control.SetWriteDeadline(time.Time{})
	inner, err := sendHeader(s.w)
	if err != nil {
		return s.gone(ctx)
	}
	if onlyCaddys(s.w) {
		// Each wrapper has its price for each event, above all the one that
		// has HTTP/2 note a deadline for every write and flush. What it set
		// for the header is no longer renewed.
		s.w, s.control = inner, http.NewResponseController(inner)
		_ = s.control.SetWriteDeadline(time.Time{})
	}
	if !s.write(appendOpening(nil, s.key, s.retry, s.cursor.resume, s.announce)) {
		return s.gone(ctx)
	}

	var age <-chan time.Time
	if s.age > 0 {
		t := time.NewTimer(s.age)
		defer t.Stop()
		age = t.C
	}
	reload := s.drain.reload
	if s.drain.spread < 0 {
		reload = nil
	}
	var drained <-chan time.Time
	for {
		b, next, tail := r.after(s.cursor)
		s.cursor = next
		if b.framed != nil {
			s.frames++
			if !s.write(b.payload()) {
				return s.gone(ctx)
			}
			continue // there may be more by now
		}
		if tail.ended {
			return endedDenied
		}
		select {
		case <-ctx.Done():
			return endedClient
		case <-s.drain.exit:
			return s.sendAway(endedExit)
		case <-drained:
			return s.sendAway(endedReload)
		case <-age:
			return s.sendAway(endedAge)
		case <-reload:
			reload = nil
			t := time.NewTimer(rand.N(s.drain.spread + 1))
			defer t.Stop()
			drained = t.C
		case <-tail.wake:
		}
	}
}

// appendOpening appends the first bytes of a stream, which are its own. An id
// that came in the query is told to the browser, so that its own reconnect
// carries it.
func appendOpening(dst []byte, key renditionKey, retry time.Duration, resume string, announce bool) []byte {
	own := append(appendRetry(nil, jitter(retry)), comment...)
	if announce {
		own = appendID(own, resume)
	}
	if key.gzip {
		return appendStored(append(dst, gzipHead...), own)
	}
	return append(dst, own...)
}

// appendFarewell appends the last bytes of a stream: those that bring the
// client back at once where the server has sent it away.
func appendFarewell(dst []byte, key renditionKey, why string) []byte {
	switch why {
	case endedAge, endedReload, endedExit:
		own := appendRetry(nil, 50*time.Millisecond+rand.N(quickRetry))
		if key.gzip {
			return appendStored(dst, own)
		}
		return append(dst, own...)
	}
	return dst
}

// sendAway ends the stream in a way that brings the client back at once.
func (s *stream) sendAway(why string) string {
	s.write(appendFarewell(nil, s.key, why))
	return why
}

// returns tells whether a stream that ended so is expected back.
func returns(why string) bool {
	return why == endedAge || why == endedReload
}

func (s *stream) gone(ctx context.Context) string {
	if ctx.Err() != nil {
		return endedClient
	}
	return endedWrite
}

// write sends b and reports whether the client took it. A slow client has
// writeTimeout for every piece: it may be slow, but it must move.
func (s *stream) write(b []byte) bool {
	for len(b) > 0 {
		piece := b[:min(len(b), writePiece)]
		s.cutter.begin()
		n, err := s.w.Write(piece)
		s.bytes += int64(n)
		if err != nil {
			return false
		}
		b = b[len(piece):]
	}
	err := s.control.Flush()
	s.cutter.end()
	return err == nil
}
