package jsondiff

import "hash/maphash"

var hashSeed = maphash.MakeSeed()

// table finds values by a text. It holds numbers only: whoever looks something
// up compares the text itself, as equal hashes prove nothing.
type table struct {
	slots []slot
	mask  uint64
}

type slot struct {
	hash  uint64
	value int32 // plus one; 0 is an empty slot
}

// newTable makes a table for up to n values.
func newTable(n int) table {
	size := 8
	for size < 2*n {
		size *= 2
	}
	return table{make([]slot, size), uint64(size - 1)}
}

func (t *table) add(text []byte, value int32) { t.addHash(maphash.Bytes(hashSeed, text), value) }

func (t *table) addHash(hash uint64, value int32) {
	i := hash & t.mask
	for t.slots[i].value != 0 {
		i = (i + 1) & t.mask
	}
	t.slots[i] = slot{hash, value + 1}
}

// find returns the first value added under text for which equal is true.
func (t *table) find(text []byte, equal func(int32) bool) (int32, bool) {
	return t.findHash(maphash.Bytes(hashSeed, text), equal)
}

func (t *table) findHash(hash uint64, equal func(int32) bool) (int32, bool) {
	for i := hash & t.mask; t.slots[i].value != 0; i = (i + 1) & t.mask {
		if s := t.slots[i]; s.hash == hash && equal(s.value-1) {
			return s.value - 1, true
		}
	}
	return 0, false
}

// spent stands in a slot for a value that is used up.
const spent = -1

// at is the slot of a hash, or nil.
func (t *table) at(hash uint64) *slot {
	for i := hash & t.mask; t.slots[i].value != 0; i = (i + 1) & t.mask {
		if t.slots[i].hash == hash {
			return &t.slots[i]
		}
	}
	return nil
}

// marks is a set of small numbers.
type marks []uint64

func newMarks(n int) marks { return make(marks, (n+63)/64) }

func (m marks) set(i int)      { m[i/64] |= 1 << (i % 64) }
func (m marks) has(i int) bool { return m[i/64]>>(i%64)&1 != 0 }
