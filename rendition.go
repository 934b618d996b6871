package pollsse

import (
	"slices"
	"sync/atomic"
	"time"
)

// renditionKey is what decides the bytes that a stream is sent: streams with
// the same key share every one of them but their own first and last.
type renditionKey struct {
	enc       encoding
	heartbeat time.Duration
	gzip      bool
}

// rendition is a source's log in one encoding: a sequence of blocks, each made
// once, when it is published, and written by every stream as it is. A comment
// that breaks a silence is a block like any other, so that no stream has a
// timer of its own.
//
// A stream that has read all blocks but the newest takes that one, without a
// lock. Any other is moved forward by a block that is made from the log, once
// for each place from which streams come.
type rendition struct {
	key  renditionKey
	log  *log
	tail atomic.Pointer[tail]

	// The rest is guarded by log.mu.
	readers int
	groups  []*group // of streams that are written directly, to be woken
	silence *time.Timer
	spoken  time.Time // when the newest block was made
	epochs  *epochs   // nil where blocks share no compressor

	// Blocks that move readers to the tail, by where these stand.
	forward     map[stance]block
	forwardSize int
}

// tail is the newest block. It is never changed.
type tail struct {
	seq   uint64
	pos   uint64        // in the log, of whoever has read it
	epoch uint64        // that the block belongs to; see epochs
	next  uint64        // epoch of the block that follows
	block block         // takes a reader from seq-1 to seq
	ended bool          // nothing follows: streams end here
	wake  chan struct{} // closed when there is a newer one
}

// stance is where a reader stands that is to be moved forward.
type stance struct {
	from       uint64
	withStatus bool
	joins      bool // is new, and so can read an epoch from its beginning
}

// cursor is how far one stream has read a rendition.
type cursor struct {
	seq   uint64 // of the last block; 0: nothing yet
	pos   uint64 // in the log
	epoch uint64 // whose blocks it has read; 0: none
	// resume is the version a returning client has. It waits here until
	// there is a document to hold it against.
	resume string
}

// firstSeq is the sequence number of a rendition's first tail: nobody who
// has read nothing is one block behind it.
const firstSeq = 2

// join returns the log's rendition for a key. Each join must be followed by
// one leave.
func (l *log) join(key renditionKey) *rendition {
	l.mu.Lock()
	defer l.mu.Unlock()
	var r *rendition
	if i := slices.IndexFunc(l.renditions, func(r *rendition) bool { return r.key == key }); i >= 0 {
		r = l.renditions[i]
	} else {
		r = &rendition{key: key, log: l, spoken: time.Now()}
		t := &tail{seq: firstSeq, pos: l.head, ended: l.denial != nil, wake: make(chan struct{})}
		if key.gzip {
			r.epochs = newEpochs()
		}
		t.next = r.beginEpoch(firstSeq)
		r.tail.Store(t)
		r.silence = time.AfterFunc(key.heartbeat, r.beat)
		l.renditions = append(l.renditions, r)
	}
	r.readers++
	if key.enc.format == formatMerge {
		l.mergeReaders.Add(1)
	}
	return r
}

// leave ends one join. The last one stops the rendition.
func (r *rendition) leave() {
	l := r.log
	l.mu.Lock()
	defer l.mu.Unlock()
	if r.key.enc.format == formatMerge {
		// A little later: a client that returns is to find merge patches
		// for what it missed, also if it was the only one.
		time.AfterFunc(keepPlace, func() { l.mergeReaders.Add(-1) })
	}
	if r.readers--; r.readers == 0 {
		r.silence.Stop()
		r.epochs.close()
		i := slices.Index(l.renditions, r)
		l.renditions = slices.Delete(l.renditions, i, i+1)
	}
}

// advance makes the block for what the log has just taken in. The log's lock
// is held. It returns the channel to close once it is released.
func (r *rendition) advance() chan struct{} {
	pos, l := r.tail.Load().pos, r.log
	return r.push(l.encode(nil, pos, l.statusPos > pos, r.key.enc))
}

// push makes plain the newest block.
func (r *rendition) push(plain []byte) chan struct{} {
	old := r.tail.Load()
	t := &tail{seq: old.seq + 1, pos: r.log.head, epoch: old.next, next: old.next, ended: r.log.denial != nil, wake: make(chan struct{})}
	if r.epochs == nil || len(plain) == 0 {
		t.block = r.alone(plain)
	} else {
		t.block = newBlock(func(dst []byte) []byte { return r.epochs.add(dst, plain) })
		if r.epochs.grown() {
			t.next = r.beginEpoch(t.seq)
		}
	}
	r.tail.Store(t)
	r.forward, r.forwardSize = nil, 0
	r.spoken = time.Now()
	for _, g := range r.groups {
		g.wake()
	}
	return old.wake
}

// beginEpoch begins an epoch behind the block seq, where there are any.
func (r *rendition) beginEpoch(seq uint64) uint64 {
	if r.epochs == nil {
		return 0
	}
	r.epochs.begin(seq, r.log.encode(nil, 0, true, r.key.enc))
	return seq
}

// alone makes a block that refers to no other.
func (r *rendition) alone(plain []byte) block {
	return newBlock(func(dst []byte) []byte {
		if r.key.gzip {
			return appendDeflated(dst, plain)
		}
		return append(dst, plain...)
	})
}

// beat breaks a silence that has lasted long enough. It is run by the timer.
func (r *rendition) beat() {
	l := r.log
	l.mu.Lock()
	if r.readers == 0 {
		l.mu.Unlock()
		return
	}
	var woken chan struct{}
	if left := r.key.heartbeat - time.Since(r.spoken); left > 0 {
		r.silence.Reset(left)
	} else {
		woken = r.push(comment)
		r.silence.Reset(r.key.heartbeat)
	}
	l.mu.Unlock()
	if woken != nil {
		close(woken)
	}
}

// after returns the block that takes a stream to the tail, the cursor that it
// has then, and the tail. Who has read everything gets its own cursor back.
func (r *rendition) after(c cursor) (block, cursor, *tail) {
	t := r.tail.Load()
	switch {
	case c.seq == t.seq:
		return block{}, c, t
	case c.seq+1 == t.seq && c.resume == "" && c.epoch == t.epoch:
		return t.block, cursor{seq: t.seq, pos: t.pos, epoch: t.next}, t
	}
	return r.moveForward(c)
}

// moveForward takes a stream that is new, that returns or that fell behind to
// the tail in one block, however much it has missed.
func (r *rendition) moveForward(c cursor) (block, cursor, *tail) {
	l := r.log
	l.mu.Lock()
	defer l.mu.Unlock()
	t := r.tail.Load()
	next := cursor{seq: t.seq, pos: t.pos, resume: c.resume}
	at := stance{from: c.pos, withStatus: l.statusPos > c.pos}
	switch {
	case c.resume != "" && l.doc != nil:
		at.from, next.resume = 0, ""
		if pos, ok := l.locate(c.resume); ok {
			at.from = pos
		}
	case c.seq == 0 && c.resume == "":
		at.joins = r.epochs != nil
	}
	switch {
	case at.joins:
		next.epoch = t.next
	case t.next == t.seq:
		next.epoch = t.next // it begins here, for everybody
	}
	if at == (stance{from: t.pos}) {
		return r.comment(), next, t // it has missed nothing else
	}
	b, made := r.forward[at]
	if !made && r.forwardSize > r.forwardBound() {
		// Streams that stand at ever different places would each keep a
		// block of their own alive for as long as they take to read it:
		// they share the snapshot.
		at.from = 0
		b, made = r.forward[at]
	}
	if !made {
		if at.joins {
			b = newBlock(r.epochs.appendPrefix)
		} else {
			b = r.alone(l.encode(nil, at.from, at.withStatus, r.key.enc))
		}
		if r.forward == nil {
			r.forward = make(map[stance]block)
		}
		r.forward[at] = b
		r.forwardSize += len(b.framed)
	}
	return b, next, t
}

// comment is a comment for readers who share no history.
func (r *rendition) comment() block {
	if r.key.gzip {
		return storedComment
	}
	return plainComment
}

var (
	plainComment  = newBlock(func(dst []byte) []byte { return append(dst, comment...) })
	storedComment = newBlock(func(dst []byte) []byte { return appendStored(dst, comment) })
)

// forwardBound bounds the blocks that are made for readers who are not at the
// tail, in bytes a publication, beside snapshots.
func (r *rendition) forwardBound() int {
	if r.log.doc == nil {
		return 64 << 10
	}
	return 64<<10 + 4*len(r.log.doc.text)
}
