package delivery

import (
	"slices"
	"sync"
	"time"

	"github.com/pollsse/caddy-poll-sse/internal/feed"
)

const (
	// mostRetained bounds the blocks of the process that are no longer the
	// newest and that slow streams have begun, in bytes.
	mostRetained = 64 << 20
	// mostRetainedEach bounds those of one rendition. One block is always
	// allowed.
	mostRetainedEach = 16 << 20
)

// retained knows the blocks that slow streams have begun. Each publication makes
// new blocks, so slow readers could retain one version of the document each.
// Beyond its bounds it ends the streams that have begun the newest of the old
// blocks: older ones are nearer to their end. If the bound of the process is
// reached, that happens in the rendition that retains most.
//
// Only a mailbox's mutex may be locked while this one is held, and never the
// other way round.
type retained struct {
	most, mostEach int

	mu   sync.Mutex
	of   map[*feed.Rendition][]*retainedBlock // the oldest first
	size int                                  // of all of them, the newest included
}

func newRetained() *retained { return &retained{most: mostRetained, mostEach: mostRetainedEach} }

// retainedBlock is a block that streams have begun.
type retainedBlock struct {
	rendition *feed.Rendition
	end       *byte       // its last byte, which tells it from others
	cursor    feed.Cursor // of a stream that has read it
	size      int
	since     time.Duration // when the first stream began it, on the clock of now
	over      bool          // the streams that hold it are told to end
	holders   map[holder]struct{}
}

// holder is a stream that has begun a block.
type holder interface {
	// giveUp makes the stream end if it still holds b.
	giveUp(b *retainedBlock)
}

// hold notes that a stream has begun a block: rest is what it has not sent of it,
// and cursor what the stream has once it has read it. Each hold must be followed
// by one release.
func (rs *retained) hold(r *feed.Rendition, cursor feed.Cursor, rest []byte, size int, h holder) *retainedBlock {
	var over []*retainedBlock
	rs.mu.Lock()
	end := &rest[len(rest)-1]
	var b *retainedBlock
	for _, other := range slices.Backward(rs.of[r]) {
		if other.end == end {
			b = other
			break
		}
	}
	if b == nil {
		b = &retainedBlock{rendition: r, end: end, cursor: cursor, size: size, since: now(), holders: make(map[holder]struct{})}
		if rs.of == nil {
			rs.of = make(map[*feed.Rendition][]*retainedBlock)
		}
		rs.of[r] = append(rs.of[r], b)
		rs.size += size
		over = rs.enforce(r)
	}
	b.holders[h] = struct{}{}
	if b.over {
		over = append(over, b)
	}
	type victim struct {
		holder
		block *retainedBlock
	}
	var victims []victim
	for _, b := range over {
		for h := range b.holders {
			victims = append(victims, victim{h, b})
		}
	}
	rs.mu.Unlock()
	for _, v := range victims {
		v.giveUp(v.block)
	}
	return b
}

// release notes that a stream has sent all of a block, or has ended.
func (rs *retained) release(b *retainedBlock, h holder) {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if delete(b.holders, h); len(b.holders) > 0 {
		return
	}
	rs.size -= b.size
	blocks := rs.of[b.rendition]
	i := slices.Index(blocks, b)
	if blocks = slices.Delete(blocks, i, i+1); len(blocks) == 0 {
		delete(rs.of, b.rendition)
		return
	}
	rs.of[b.rendition] = blocks
}

// enforce returns the blocks that are too many now that there is one more of r.
// The mutex is held.
func (rs *retained) enforce(r *feed.Rendition) (over []*retainedBlock) {
	for n, size := old(rs.of[r]); n > 1 && size > rs.mostEach; n, size = old(rs.of[r]) {
		over = append(over, giveUpNewest(rs.of[r]))
	}
	if rs.size <= rs.most {
		return over
	}
	for {
		count, size := 0, 0
		var largest *feed.Rendition
		largestSize := 0
		for r, blocks := range rs.of {
			n, s := old(blocks)
			if count, size = count+n, size+s; s > largestSize {
				largest, largestSize = r, s
			}
		}
		if count <= 1 || size <= rs.most {
			return over
		}
		over = append(over, giveUpNewest(rs.of[largest]))
	}
}

// old counts the blocks that are neither their rendition's newest nor given up,
// and their bytes.
func old(blocks []*retainedBlock) (n, size int) {
	for _, b := range blocks {
		if b.isOld() {
			n++
			size += b.size
		}
	}
	return n, size
}

func (b *retainedBlock) isOld() bool { return !b.over && !b.rendition.IsNewest(b.cursor) }

// giveUpNewest gives up the newest of the old blocks, of which there is one.
func giveUpNewest(blocks []*retainedBlock) *retainedBlock {
	for _, b := range slices.Backward(blocks) {
		if b.isOld() {
			b.over = true
			return b
		}
	}
	panic("BUG: no old block")
}
