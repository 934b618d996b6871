package feed

import (
	"sync/atomic"
	"time"
)

// Sent counts what streams are sent, while they are open.
type Sent struct {
	Bytes   atomic.Int64             // as they are written: compressed, with HTTP/1.1's chunk framing if they go past net/http
	Blocks  [BlockKinds]atomic.Int64 // by kind
	Waiting atomic.Int64             // streams that are in the middle of a write now
	Delays  Delays
}

// Wrote counts bytes.
func (s *Sent) Wrote(n int) {
	if s != nil {
		s.Bytes.Add(int64(n))
	}
}

func (s *Sent) began(b Block) {
	if s != nil {
		s.Blocks[b.kind].Add(1)
	}
}

// Waits counts streams that begin to wait for their clients; with a negative n
// those that no longer do.
func (s *Sent) Waits(n int) {
	if s != nil {
		s.Waiting.Add(int64(n))
	}
}

func (s *Sent) delivered(streams int, late time.Duration) {
	if s != nil {
		s.Delays.add(int64(streams), late)
	}
}

// Delays counts deliveries by the time from the moment at which there was
// something to tell a stream to the moment at which it was written. It is a
// histogram of a few buckets, as a delivery must cost next to nothing.
type Delays struct {
	buckets [len(delayBounds) + 1]atomic.Int64
	sum     atomic.Int64 // in microseconds
}

// delayBounds are the upper bounds of the buckets but the last, which has none.
var delayBounds = [...]time.Duration{
	time.Millisecond, 5 * time.Millisecond, 25 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2500 * time.Millisecond, 10 * time.Second,
}

func (d *Delays) add(n int64, late time.Duration) {
	i := 0
	for i < len(delayBounds) && late > delayBounds[i] {
		i++
	}
	d.buckets[i].Add(n)
	d.sum.Add(n * late.Microseconds())
}

// Read returns how many deliveries there were, their delays together, and how many
// took no longer than each bound. Both are in seconds.
func (d *Delays) Read() (count uint64, sum float64, upTo map[float64]uint64) {
	upTo = make(map[float64]uint64, len(delayBounds))
	for i := range d.buckets {
		count += uint64(d.buckets[i].Load())
		if i < len(delayBounds) {
			upTo[delayBounds[i].Seconds()] = count
		}
	}
	return count, float64(d.sum.Load()) / 1e6, upTo
}
