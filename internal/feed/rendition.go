package feed

import (
	"slices"
	"sync/atomic"
	"time"
)

// Rendition is a source's log in one form: a sequence of blocks, each made once,
// when it is published, and written by every stream as it is. A comment that
// breaks a silence is a block like any other, so that no stream has a timer of
// its own.
//
// A stream that has read all blocks but the newest takes that one, without a
// lock. Any other catches up with one block that is made from the log, once for
// each place from which streams come.
type Rendition struct {
	key    Key
	log    *Log
	newest atomic.Pointer[Newest]
	sent   *Sent // the log's

	// The log's mutex guards the rest.
	readers int
	wakers  []*func() // called after each publication
	silence *time.Timer
	spoken  time.Time // when the newest block was made
	epochs  *epochs   // nil if blocks share no compressor

	// Blocks with which readers catch up, by their place.
	catchUps    map[catchUpKey]Block
	catchUpSize int // in bytes
}

// Began counts a block that a stream begins to write.
func (r *Rendition) Began(b Block) { r.sent.began(b) }

// Wrote counts bytes that were written to a stream.
func (r *Rendition) Wrote(n int) { r.sent.Wrote(n) }

// Waits counts streams that begin to wait for their clients, or with a negative n
// those that no longer do.
func (r *Rendition) Waits(n int) { r.sent.Waits(n) }

// Delivered counts streams that were written to, all of them so long after there
// was something to write.
func (r *Rendition) Delivered(streams int, late time.Duration) { r.sent.delivered(streams, late) }

// Key returns what the rendition was joined with.
func (r *Rendition) Key() Key { return r.key }

// Log returns the log that it is a rendition of.
func (r *Rendition) Log() *Log { return r.log }

// Newest is the newest block. Readers change nothing of it.
type Newest struct {
	seq   uint64
	pos   uint64 // in the log, of a reader that has read the block
	epoch uint64 // that the block belongs to; see epochs
	next  uint64 // epoch of the block that follows
	block Block  // takes a reader from seq-1 to seq

	// Ended says that nothing follows: streams end here.
	Ended bool
	// Superseded says that another source has taken the place of this one:
	// streams end soon.
	Superseded bool
	// Wake is closed when there is a newer block.
	Wake chan struct{}
	// replaced is when that was made; to be read only once Wake is closed.
	replaced time.Time
}

// Outdated returns for how long there has been a newer block; 0 if there is none.
func (n *Newest) Outdated() time.Duration {
	select {
	case <-n.Wake:
		return time.Since(n.replaced)
	default:
		return 0
	}
}

// catchUpKey is the place from which a reader catches up.
type catchUpKey struct {
	from       uint64
	withStatus bool
	joins      bool // is new, and so can read an epoch from its beginning
}

// Cursor is how far one stream has read a rendition. The zero Cursor has read
// nothing.
type Cursor struct {
	seq   uint64 // of the last block; 0: nothing yet
	pos   uint64 // in the log
	epoch uint64 // whose blocks it has read; 0: none

	// Resume is the version that a returning client has. It waits here until
	// there is a document to compare it with.
	Resume string
}

// mergeLinger is how long merge patches are still made after the last stream
// that reads them has ended.
const mergeLinger = 15 * time.Second

// firstSeq is the sequence number of a rendition's first block, so that a stream
// that has read nothing is never just one block behind.
const firstSeq = 2

// Join returns the log's rendition for a key. Each Join must be followed by one
// Leave.
func (l *Log) Join(key Key) *Rendition {
	l.tellLate() // the timer may not have run yet after a suspension
	l.mu.Lock()
	defer l.mu.Unlock()
	var r *Rendition
	if i := slices.IndexFunc(l.renditions, func(r *Rendition) bool { return r.key == key }); i >= 0 {
		r = l.renditions[i]
	} else {
		r = &Rendition{key: key, log: l, sent: l.Sent, spoken: time.Now()}
		first := &Newest{seq: firstSeq, pos: l.newest, Ended: l.denial != nil, Superseded: l.superseded, Wake: make(chan struct{})}
		if key.Gzip {
			r.epochs = newEpochs()
		}
		first.next = r.beginEpoch(firstSeq)
		r.newest.Store(first)
		r.silence = time.AfterFunc(key.Heartbeat, r.beat)
		l.renditions = append(l.renditions, r)
	}
	r.readers++
	if key.Format == FormatMerge {
		l.mergeReaders.Add(1)
	}
	return r
}

// Leave ends one Join. The last one ends the rendition.
func (r *Rendition) Leave() {
	l := r.log
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.key.Format == FormatMerge {
		// A little later, so that a client that returns finds merge patches
		// for what it missed, even if it was the only one.
		time.AfterFunc(mergeLinger, func() { l.mergeReaders.Add(-1) })
	}
	if r.readers--; r.readers == 0 {
		r.silence.Stop()
		r.epochs.close()
		i := slices.Index(l.renditions, r)
		l.renditions = slices.Delete(l.renditions, i, i+1)
	}
}

// advance makes the block for what the log has just taken in. The log's lock is
// held. It returns the channel to close once that lock is released.
func (r *Rendition) advance() chan struct{} {
	pos, l := r.newest.Load().pos, r.log
	withStatus := l.statusPos > pos
	return r.push(l.encode(nil, pos, withStatus, r.key), withStatus, l.kindAfter(pos, r.key))
}

// push makes plain the newest block and returns the channel that wakes its
// readers. The log's lock is held.
func (r *Rendition) push(plain []byte, withStatus bool, kind BlockKind) chan struct{} {
	old := r.newest.Load()
	n := &Newest{
		seq: old.seq + 1, pos: r.log.newest, epoch: old.next, next: old.next,
		Ended: r.log.denial != nil, Superseded: r.log.superseded, Wake: make(chan struct{}),
	}
	if r.epochs == nil || len(plain) == 0 {
		n.block = r.alone(plain)
	} else {
		n.block = NewBlock(func(dst []byte) []byte { return r.epochs.add(dst, plain) })
		// A status begins an epoch, so that a client that joins later is not
		// told of states that are over.
		if withStatus || r.epochs.grown() {
			n.next = r.beginEpoch(n.seq)
		}
	}
	n.block.kind = kind
	r.newest.Store(n)
	r.catchUps, r.catchUpSize = nil, 0
	r.spoken = time.Now()
	old.replaced = r.spoken
	for _, wake := range r.wakers {
		(*wake)()
	}
	return old.Wake
}

// OnPublish calls wake for each new block until stop is called. The log's lock is
// held then, so wake must neither wait nor call the rendition.
func (r *Rendition) OnPublish(wake func()) (stop func()) {
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	own := &wake
	r.wakers = append(r.wakers, own)
	return func() {
		r.log.mu.Lock()
		defer r.log.mu.Unlock()
		i := slices.Index(r.wakers, own)
		r.wakers = slices.Delete(r.wakers, i, i+1)
	}
}

// beginEpoch begins an epoch after the block seq, if there are epochs. The log's
// lock is held.
func (r *Rendition) beginEpoch(seq uint64) uint64 {
	if r.epochs == nil {
		return 0
	}
	r.epochs.begin(seq, r.log.encode(nil, 0, true, r.key))
	return seq
}

// alone makes a block that refers to no other.
func (r *Rendition) alone(plain []byte) Block {
	return NewBlock(func(dst []byte) []byte {
		if r.key.Gzip {
			return appendDeflated(dst, plain)
		}
		return append(dst, plain...)
	})
}

// beat breaks a silence that has lasted long enough. The timer runs it.
func (r *Rendition) beat() {
	l := r.log
	l.mu.Lock()
	if r.readers == 0 {
		l.mu.Unlock()
		return
	}
	var woken chan struct{}
	if left := r.key.Heartbeat - time.Since(r.spoken); left > 0 {
		r.silence.Reset(left)
	} else {
		woken = r.push(comment, false, BlockHeartbeat)
		r.silence.Reset(r.key.Heartbeat)
	}
	l.mu.Unlock()
	if woken != nil {
		close(woken)
	}
}

// After returns the block that brings a stream up to date, the cursor that it has
// then, and the newest block. A stream that has read everything gets an empty
// block and its own cursor back.
func (r *Rendition) After(c Cursor) (Block, Cursor, *Newest) {
	n := r.newest.Load()
	switch {
	case c.seq == n.seq:
		return Block{}, c, n
	case c.seq+1 == n.seq && c.Resume == "" && c.epoch == n.epoch:
		return n.block, Cursor{seq: n.seq, pos: n.pos, epoch: n.next}, n
	}
	return r.catchUp(c)
}

// IsNewest reports whether the block that led to c is still the newest, or one with
// which readers catch up with it.
func (r *Rendition) IsNewest(c Cursor) bool { return c.seq == r.newest.Load().seq }

// Missed returns how many blocks have been made since the one that led to c.
func (r *Rendition) Missed(c Cursor) int { return int(r.newest.Load().seq - max(c.seq, firstSeq-1)) }

// catchUp brings up to date a stream that is new, that returns or that fell
// behind: with one block, however much it has missed.
func (r *Rendition) catchUp(c Cursor) (Block, Cursor, *Newest) {
	l := r.log
	l.mu.Lock()
	defer l.mu.Unlock()
	n := r.newest.Load()
	next := Cursor{seq: n.seq, pos: n.pos, Resume: c.Resume}
	at := catchUpKey{from: c.pos, withStatus: l.statusPos > c.pos}
	switch {
	case c.Resume != "" && l.doc != nil:
		at.from, next.Resume = 0, ""
		if pos, ok := l.position(c.Resume); ok {
			at.from = pos
		}
	case c.seq == 0 && c.Resume == "":
		at.joins = r.epochs != nil
	}
	switch {
	case at.joins:
		next.epoch = n.next
	case n.next == n.seq:
		next.epoch = n.next // it begins here, for everybody
	}
	if at == (catchUpKey{from: n.pos}) {
		return r.comment(), next, n // it has missed nothing else
	}
	b, made := r.catchUps[at]
	if !made && r.catchUpSize > r.catchUpBound() {
		// Streams at many different places would each keep a block of their
		// own alive for as long as they take to read it. They share the
		// snapshot.
		at.from = 0
		b, made = r.catchUps[at]
	}
	if !made {
		if at.joins {
			b = NewBlock(r.epochs.appendPrefix)
		} else {
			b = r.alone(l.encode(nil, at.from, at.withStatus, r.key))
		}
		switch {
		case l.doc == nil:
			b.kind = BlockStatus
		case at.from < l.base:
			b.kind = BlockSnapshot
		default:
			b.kind = BlockCatchUp
		}
		if r.catchUps == nil {
			r.catchUps = make(map[catchUpKey]Block)
		}
		r.catchUps[at] = b
		r.catchUpSize += len(b.framed)
	}
	return b, next, n
}

// comment returns a comment for readers that share no compressor's history.
func (r *Rendition) comment() Block {
	if r.key.Gzip {
		return storedComment
	}
	return plainComment
}

var (
	plainComment  = NewBlock(func(dst []byte) []byte { return append(dst, comment...) }).as(BlockHeartbeat)
	storedComment = NewBlock(func(dst []byte) []byte { return appendStored(dst, comment) }).as(BlockHeartbeat)
)

// catchUpBound returns the most bytes of blocks, besides snapshots, with which
// readers catch up between two publications. The log's lock is held.
func (r *Rendition) catchUpBound() int {
	if r.log.doc == nil {
		return 64 << 10
	}
	return 64<<10 + 4*len(r.log.doc.Text)
}
