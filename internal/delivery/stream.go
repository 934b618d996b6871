package delivery

import (
	"context"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pollsse/caddy-poll-sse/internal/feed"
)

// withHeader is the most that is sent with the header, in bytes: with it, it fits
// into the 4 KiB that net/http writes at once.
const withHeader = 3 << 10

// begin returns what the stream begins with: its opening and, if that is small,
// the first block of its rendition. It returns the cursor that the stream has
// then, and how many blocks there are.
func (s Stream) begin(r *feed.Rendition) (first []byte, at feed.Cursor, frames int64) {
	id := ""
	if s.Announce {
		id = s.Resume
	}
	first = s.Key.AppendOpening(nil, Jitter(s.Options.Retry), s.Private, id)
	at = feed.Cursor{Resume: s.Resume}
	if b, next, _ := r.After(at); b.Payload() != nil && len(first)+len(b.Payload()) <= withHeader {
		r.Began(b)
		return append(first, b.Payload()...), next, 1
	}
	return first, at, 0
}

// handled is a stream that the goroutine of its request writes.
type handled struct {
	Stream
	server  *Server
	w       http.ResponseWriter
	conn    net.Conn // that it is sent over, if known
	control *http.ResponseController
	timer   *writeTimer
	overdue atomic.Bool // it has been told to give up
	client  netip.AddrPort
	begun   time.Time

	mu            sync.Mutex // guards the rest, which only the stream's goroutine writes
	rendition     *feed.Rendition
	cursor        feed.Cursor
	frames, bytes int64
	left          int       // bytes of what is being written; 0: nothing is
	since         time.Time // the client has taken no piece of it
}

// run writes the stream until something ends it and returns what did.
func (s *handled) run(ctx context.Context) Reason {
	r := s.Log.Join(s.Key)
	defer r.Leave()
	s.rendition = r
	s.timer = s.server.writeTimers.start(innermost(s.w), s)
	defer s.timer.release()
	// The timer alone bounds writes. A write_timeout of the server's is taken
	// for a bound of the stream's age instead.
	_ = s.control.SetWriteDeadline(time.Time{})
	first, at, frames := s.begin(r)
	s.advance(at, frames)
	kept := false
	if s.server.mayBypass(s.w) {
		inner, err := sendHeader(s.w, first)
		if err != nil {
			return s.gone(ctx)
		}
		// Each wrapper costs time for each event, above all the one that has
		// HTTP/2 set a deadline for every write and flush. The one that it set
		// for the header is no longer renewed.
		s.w, s.control = inner, http.NewResponseController(inner)
		_ = s.control.SetWriteDeadline(time.Time{})
		s.took(len(first), 0)
		s.timer.end()
	} else {
		s.w.WriteHeader(http.StatusOK)
		kept = keeps(s.w)
		if !s.write(first) {
			return s.gone(ctx)
		}
	}

	age := time.NewTimer(s.Options.lifetime())
	defer age.Stop()
	reload := s.Options.Reload
	if s.Options.CloseDelay < 0 {
		reload = nil
	}
	var closing <-chan time.Time
	superseded := false
	var read *feed.Newest // what it has been up to date with last
	asked := s.begun      // when it was looked last whether the client is lost
	var silent silence
	for {
		b, next, newest := r.After(s.cursor)
		frames := int64(0)
		if b.Chunk() != nil {
			frames = 1
		}
		s.advance(next, frames)
		if b.Chunk() != nil {
			r.Began(b)
			if !s.writeBlock(r, b) {
				return s.gone(ctx)
			}
			if read != nil {
				r.Delivered(1, read.Outdated())
			}
			read = newest
			if at := time.Now(); at.Sub(asked) > lossEvery {
				if asked = at; closeLost(s.conn, &silent) {
					return endedWrite
				}
			}
			continue // there may be more by now
		}
		read = newest
		if newest.Ended {
			return endedDenied
		}
		if kept && s.Log.View().Polled {
			return endedKept
		}
		if newest.Superseded && !superseded && s.Options.CloseDelay >= 0 {
			superseded, reload = true, nil
			t := time.NewTimer(rand.N(s.Options.moveSpread() + 1))
			defer t.Stop()
			closing = t.C
		}
		select {
		case <-ctx.Done():
			return endedClient
		case <-s.server.exit:
			return s.sendAway(endedExit)
		case <-closing:
			return s.sendAway(endedReload)
		case <-age.C:
			return s.sendAway(endedAge)
		case <-reload:
			reload = nil
			t := time.NewTimer(rand.N(s.Options.spread() + 1))
			defer t.Stop()
			closing = t.C
		case <-newest.Wake:
		}
	}
}

// sendAway ends the stream and tells the client when to return.
func (s *handled) sendAway(why Reason) Reason {
	s.write(s.Options.appendFarewell(nil, s.Key, why))
	return why
}

// gone returns why a write failed.
func (s *handled) gone(ctx context.Context) Reason {
	if s.overdue.Load() {
		return endedMemory
	}
	if ctx.Err() != nil {
		return endedClient
	}
	return endedWrite
}

// writeBlock sends a block. It counts as retained for as long as that takes, but
// not if it is small: then it takes less memory than the goroutine.
func (s *handled) writeBlock(r *feed.Rendition, b feed.Block) bool {
	if chunk := b.Chunk(); len(chunk) > writePiece {
		held := s.server.writers.retained.hold(r, s.cursor, chunk, len(chunk), s)
		defer s.server.writers.retained.release(held, s)
	}
	return s.write(b.Payload())
}

// giveUp implements holder.
func (s *handled) giveUp(*retainedBlock) {
	s.overdue.Store(true)
	s.timer.expire()
}

// write sends b and reports whether the client took it. A slow client has
// writeTimeout for each piece.
func (s *handled) write(b []byte) bool {
	s.rendition.Waits(1)
	defer s.rendition.Waits(-1)
	s.took(0, len(b))
	size := pieceOf(len(b))
	for {
		piece := b[:min(len(b), size)]
		b = b[len(piece):]
		s.timer.begin()
		n, err := s.w.Write(piece)
		if err == nil && len(b) == 0 {
			err = s.control.Flush()
			s.timer.end()
		}
		s.took(n, len(b))
		if err != nil || len(b) == 0 {
			return err == nil
		}
	}
}

// advance notes how far the stream has read and how many blocks more it has begun.
func (s *handled) advance(to feed.Cursor, frames int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cursor = to
	s.frames += frames
}

// took counts bytes that were written, and notes how many of what is being written
// are left.
func (s *handled) took(n, left int) {
	if n > 0 {
		s.rendition.Wrote(n)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bytes += int64(n)
	if s.left = left; left > 0 {
		s.since = time.Now()
	}
}
