package jsondiff

import (
	"bytes"
	"hash/maphash"
)

// hashSeed keeps a hostile upstream from choosing names that collide.
var hashSeed = maphash.MakeSeed()

// hashTable finds int32 keys by hash and a comparison the caller makes: the same
// hash is never taken for the same thing. It is reused to save its memory.
type hashTable struct {
	slots []slot
	mask  uint32
	chars []byte // of a name whose hash is wanted
}

// slot is a free one if it is zero.
type slot struct {
	hash uint32
	key  int32 // counted from 1; below zero once it is taken
}

// index is the key, counted from 0.
func (s *slot) index() int32 { return max(s.key, -s.key) - 1 }

// take marks a key as one that has found its counterpart.
func (s *slot) take()       { s.key = -s.key }
func (s *slot) taken() bool { return s.key < 0 }

// reset empties the table and makes room for n keys.
func (t *hashTable) reset(n int) {
	size := 8
	for size < n+n/2 {
		size *= 2
	}
	if cap(t.slots) < size {
		t.slots = make([]slot, size)
	} else {
		t.slots = t.slots[:size]
		clear(t.slots)
	}
	t.mask = uint32(size - 1)
}

// first and after walk the slots that can hold a hash: those with it, then a
// free one, whose key is 0.
func (t *hashTable) first(hash uint32) (*slot, uint32) {
	return t.after(hash, hash)
}

func (t *hashTable) after(hash, at uint32) (*slot, uint32) {
	for ; ; at++ {
		s := &t.slots[at&t.mask]
		if s.key == 0 || s.hash == hash {
			return s, at + 1
		}
	}
}

// index empties the table and puts an object's members into it; of those with
// the same name the last one stays.
func (t *hashTable) index(s *source, i int32) (count int, twice bool) {
	end := s.tape.stop(i)
	for c := s.tape.inside(i); c < end; c = s.tape.next(c) {
		count++
	}
	t.reset(count)
	for c := s.tape.inside(i); c < end; c = s.tape.next(c) {
		twice = t.addMember(s, c) || twice
	}
	return count, twice
}

// addMember puts a member into the table, in the place of one with the same
// name.
func (t *hashTable) addMember(s *source, c int32) (twice bool) {
	name := s.name(c)
	hash := uint32(t.hashName(name))
	at, next := t.first(hash)
	for at.key != 0 && !sameName(s.name(at.index()), name) {
		at, next = t.after(hash, next)
	}
	twice = at.key != 0
	*at = slot{hash: hash, key: c + 1}
	return twice
}

// findMember returns the slot of a name as it is written in any text, nil if it
// is not there.
func (t *hashTable) findMember(s *source, name []byte) *slot {
	hash := uint32(t.hashName(name))
	for at, next := t.first(hash); at.key != 0; at, next = t.after(hash, next) {
		if sameName(s.name(at.index()), name) {
			return at
		}
	}
	return nil
}

// hashName hashes the characters of a name, or of a string's inside, so that
// spellings of the same string have the same hash.
func (t *hashTable) hashName(s []byte) uint64 {
	if bytes.IndexByte(s, '\\') >= 0 {
		t.chars = appendUnescaped(t.chars[:0], s)
		s = t.chars
	}
	return maphash.Bytes(hashSeed, s)
}
