package delivery

import (
	"net/netip"
	"time"

	"github.com/pollsse/caddy-poll-sse/internal/feed"
)

// direct is one client's event stream that is written straight to its socket: a
// socket and a cursor, without a goroutine, a timer or a buffer. It belongs to the
// writer that it was given to.
type direct struct {
	// What a delivery touches comes first and together, as it is seldom in the
	// processor's caches: 128 bytes.
	rendition *feed.Rendition
	socket
	rest       []byte // of the block that the socket has not taken yet
	cursor     feed.Cursor
	why        Reason // why it ends; empty while it goes on
	bytes      int64
	frames     uint32
	size       int32 // of the block that rest is a part of; 0: rest is its own
	blocked    bool
	reloaded   bool // has been told of the reload
	superseded bool // has been told that another source takes over
	sentAway   bool // the deadline is the reload's, not the age's

	slot       int32
	index      int32 // in its group
	silent     silence
	group      *group
	options    *Options
	ended      func(End)
	client     netip.AddrPort
	last       []byte         // its own last bytes, which follow rest
	held       *retainedBlock // while its socket is full
	taken      int            // bytes of the piece that the client is to take in time
	begun      time.Duration  // this and the rest are on the clock of now
	deadline   time.Duration
	takenSince time.Duration
}

// lastChunk ends a chunked body cleanly (RFC 9112, section 7.1).
const lastChunk = "0\r\n\r\n"

// started is when the process started; now counts from there.
var started = time.Now()

func now() time.Duration { return time.Since(started) }

// newDirect prepares a stream on a connection that was taken over, with a
// rendition joined for it. What it begins with has been sent.
func newDirect(sock socket, r *feed.Rendition, of Stream, client netip.AddrPort) *direct {
	s := &direct{
		socket: sock, rendition: r, options: of.Options, ended: of.Ended,
		client: client, begun: now(),
	}
	s.deadline = s.begun + of.Options.lifetime()
	return s
}

// reportEnd reports the end, once the descriptor is closed.
func (s *direct) reportEnd() {
	s.rendition.Leave()
	s.ended(End{Reason: s.why, Direct: true, Frames: int64(s.frames), Bytes: s.bytes, Lasted: now() - s.begun, Client: s.client})
}
