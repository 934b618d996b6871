// Package delivery writes a document, or the event stream of a log, to a client:
// through net/http, or past it, straight to the socket.
package delivery

import (
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/pollsse/caddy-poll-sse/internal/feed"
)

// Server delivers documents and streams. Make one with [NewServer].
type Server struct {
	exit        <-chan struct{}
	transparent func(http.ResponseWriter) bool

	writers     writers
	writeTimers writeTimers
}

// NewServer makes a server whose streams end when exit is closed. transparent
// reports whether events may go past a wrapper around a response, because it
// neither changes nor holds back a body that has the header of an event stream.
// It is not asked about net/http's own writers.
func NewServer(exit <-chan struct{}, transparent func(http.ResponseWriter) bool) *Server {
	return &Server{
		exit:        exit,
		transparent: transparent,
		writers:     writers{exit: exit, patience: writeTimeout, retained: newRetained()},
		writeTimers: writeTimers{exit: exit, over: make(chan struct{})},
	}
}

// Wait waits until direct streams have ended, after exit is closed. That takes a
// second at most.
func (srv *Server) Wait() {
	srv.writers.wait()
	srv.writeTimers.wait()
}

// Stream is one client's event stream, however it is delivered.
type Stream struct {
	Log *feed.Log
	// Key decides what is sent. With Gzip, that is compressed if the client
	// accepts it.
	Key      feed.Key
	Resume   string // the version that a returning client has
	Announce bool   // it came in the query: tell the browser
	Private  bool   // the document depends on more than the public URL
	Options  *Options
	Ended    func(End) // called exactly once, at the true end
}

// Options are what the streams of one configuration have in common.
type Options struct {
	// Name is what the streams are called in Server.Slowest.
	Name string
	// Direct means that streams are written past net/http if possible.
	Direct bool
	// Retry is the client's reconnection time, before jitter.
	Retry time.Duration
	// MaxAge is the age at which a stream ends, up to a tenth earlier.
	MaxAge time.Duration
	// Reload is closed when the configuration is replaced; nil: never.
	Reload <-chan struct{}
	// CloseDelay is the time over which streams end after a reload. If it is
	// negative, they stay.
	CloseDelay time.Duration

	over time.Duration // see EndOver; read only once Reload is closed
}

// EndOver makes the streams end over d, not CloseDelay, once Reload is closed.
// It must be called before that.
func (o *Options) EndOver(d time.Duration) { o.over = d }

// spread is the time over which streams end after Reload is closed.
func (o *Options) spread() time.Duration {
	if o.over > 0 {
		return o.over
	}
	return o.CloseDelay
}

// Serve answers a request with a stream, and reports whether the stream goes on
// past net/http when the handler returns. It sets the header fields that every
// stream has.
func (srv *Server) Serve(w http.ResponseWriter, r *http.Request, s Stream) (direct bool) {
	setStreamHeader(w.Header())
	if s.Key.Gzip = s.Key.Gzip && acceptsGzip(r.Header) && !srv.isWatched(w); s.Key.Gzip {
		w.Header().Set("Content-Encoding", "gzip")
	}
	if s.Options.Direct && srv.mayTakeOver(w, r) && len(srv.writers.start()) > 0 {
		e := srv.serveDirect(w, r, s)
		if e.Reason != "" {
			s.Ended(e)
		}
		return e.Reason == ""
	}
	conn, _ := r.Context().Value(connKey{}).(net.Conn)
	h := &handled{Stream: s, server: srv, w: w, conn: conn, control: http.NewResponseController(w), client: clientAddr(r), begun: time.Now()}
	reason := endedWrite // if a response writer panics
	defer func() {
		s.Ended(End{Reason: reason, Frames: h.frames, Bytes: h.bytes, Lasted: time.Since(h.begun)})
	}()
	reason = h.run(r.Context())
	return false
}

// serveDirect sends the header and what the stream begins with, and hands the
// connection to a writer. If the stream has ended instead, it returns how, with a
// reason.
func (srv *Server) serveDirect(w http.ResponseWriter, r *http.Request, s Stream) End {
	w.Header().Set("Connection", "close")
	rendition := s.Log.Join(s.Key)
	first, at, frames := s.begin(rendition)
	conn, err := srv.takeOver(w, r, first)
	if err != nil {
		rendition.Leave()
		return End{Reason: endedClient, Err: err}
	}
	sock, err := newSocket(conn)
	if err != nil {
		rendition.Leave()
		_ = conn.Close()
		return End{Reason: endedClient, Err: fmt.Errorf("taking the descriptor: %w", err)}
	}
	rendition.Wrote(len(first))
	d := newDirect(sock, rendition, s, clientAddr(r))
	d.cursor, d.frames, d.bytes = at, uint32(frames), int64(len(first))
	if srv.writers.adopt(d) {
		return End{}
	}
	rendition.Leave()
	endResponse(sock)
	return End{Reason: endedExit, Frames: frames, Bytes: int64(len(first))}
}

// setStreamHeader sets what every event stream carries. X-Accel-Buffering and
// no-transform keep proxies, and Caddy's encode, from holding events back.
func setStreamHeader(h http.Header) {
	h.Set("Content-Type", "text/event-stream")
	h.Set("Cache-Control", "no-store, no-transform")
	h.Set("X-Accel-Buffering", "no")
}

// Refuse answers with a stream that says only why there is none and when to
// return, with a line of advice. A browser's EventSource would give up for good
// on anything but a 200.
func Refuse(w http.ResponseWriter, key feed.Key, retry time.Duration, reason, advice string) {
	setStreamHeader(w.Header())
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(key.AppendRefusal(nil, retry, reason, advice, time.Now()))
	_ = http.NewResponseController(w).Flush()
}
