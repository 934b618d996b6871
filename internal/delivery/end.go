package delivery

import (
	"math/rand/v2"
	"net/netip"
	"time"

	"github.com/pollsse/caddy-poll-sse/internal/feed"
)

// Reason is why a stream ended, as the access log has it.
type Reason string

const (
	endedClient Reason = "client"  // the client went away
	endedWrite  Reason = "write"   // the client took too little for too long
	endedMemory Reason = "memory"  // slow clients retain too much, and this one came last
	endedAge    Reason = "max_age" // it resumes at once, through authentication again
	endedReload Reason = "reload"  // its configuration was replaced
	endedExit   Reason = "exit"    // the server stops
	endedDenied Reason = "denied"  // the upstream refused the client
	// endedKept: a wrapper around the response keeps the answer until it ends.
	endedKept Reason = "kept"
)

// Returns reports whether a client is expected back after its stream ended for
// this reason.
func (r Reason) Returns() bool { return r == endedAge || r == endedReload }

// End is how a stream ended.
type End struct {
	Reason Reason
	Direct bool // it was written past net/http: its handler returned long ago
	Frames int64
	Bytes  int64
	Lasted time.Duration
	Client netip.AddrPort // of a direct stream
	Err    error          // why it could not be delivered at all
}

const (
	// quickRetry is the longest pause before a client returns if its stream has
	// reached its age or its configuration was replaced. It is jittered, so
	// that clients do not return together.
	quickRetry = time.Second
	// supersededSpread is the longest time over which a source's streams end
	// when another source has taken its place.
	supersededSpread = 30 * time.Second
)

// moveSpread returns the time over which a source's streams end when another
// source has taken its place.
func (o *Options) moveSpread() time.Duration { return min(o.CloseDelay, supersededSpread) }

// lifetime returns the age at which one stream ends.
func (o *Options) lifetime() time.Duration { return o.MaxAge - rand.N(o.MaxAge/10+1) }

// appendFarewell appends the last bytes of a stream that the server ends: the time
// after which the client is to return. After a reload and at its age that is at
// once. At an exit it is the normal time, spread over as much again: a proxy in
// front answers with an error until the server is back, and an EventSource that
// comes too early never tries again.
func (o *Options) appendFarewell(dst []byte, key feed.Key, why Reason) []byte {
	switch why {
	case endedAge, endedReload:
		return key.AppendFarewell(dst, 50*time.Millisecond+rand.N(quickRetry))
	case endedExit:
		return key.AppendFarewell(dst, Jitter(o.Retry))
	}
	return dst
}

// Jitter spreads d evenly over half of it to one and a half of it.
func Jitter(d time.Duration) time.Duration {
	return d/2 + rand.N(d+1)
}
