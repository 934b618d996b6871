package jsondiff

import (
	"bytes"
	"hash/maphash"
)

// hashSeed keeps a hostile upstream from choosing names that collide.
var hashSeed = maphash.MakeSeed()

// hashText hashes the characters of a name, or of a string's inside, so that
// spellings of the same string have the same hash.
func hashText(s []byte) uint64 {
	if bytes.IndexByte(s, '\\') >= 0 {
		s = unescape(s)
	}
	return maphash.Bytes(hashSeed, s)
}

// table finds int32 keys by hash and a comparison the caller makes: the same
// hash is never taken for the same thing. It is reused to save its memory.
type table struct {
	slots []slot
	mask  uint64
	used  int
}

type slot struct {
	hash uint64
	key  int32 // counted from 1, 0 is free
	next int32 // for the caller
}

// reset empties the table and makes room for n keys.
func (t *table) reset(n int) {
	size := 8
	for size < 2*n {
		size *= 2
	}
	if cap(t.slots) < size {
		t.slots = make([]slot, size)
	} else {
		t.slots = t.slots[:size]
		clear(t.slots)
	}
	t.mask = uint64(size - 1)
	t.used = 0
}

// first and after walk the slots that can hold a hash: those with it, then a
// free one, whose key is 0.
func (t *table) first(hash uint64) (*slot, uint64) {
	return t.after(hash, hash)
}

func (t *table) after(hash, at uint64) (*slot, uint64) {
	for ; ; at++ {
		s := &t.slots[at&t.mask]
		if s.key == 0 || s.hash == hash {
			return s, at + 1
		}
	}
}
