package jsondiff

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

// window is how many old siblings are looked through for the place at which the
// texts meet again after a difference.
const window = 8

// align makes the new text at i and the old one at o the pair that is compared,
// and finds out how far they are equal.
func (s *scanner) align(i, o int) {
	if s.shift == i-o && s.from <= o && o <= s.same {
		return
	}
	s.shift, s.from = i-o, o
	s.same = o + commonPrefix(s.old.text[o:], s.text[i:])
}

// commonPrefix is the number of bytes that a and b share at their start.
func commonPrefix(a, b []byte) int {
	n := min(len(a), len(b))
	a, b = a[:n], b[:n]
	i := 0
	for i+8 <= n {
		if x := binary.LittleEndian.Uint64(a[i:]) ^ binary.LittleEndian.Uint64(b[i:]); x != 0 {
			return i + bits.TrailingZeros64(x)/8
		}
		if i += 8; i == 128 {
			// A long run: bytes.Equal compares faster than eight at a time.
			for block := 512; i+block <= n && bytes.Equal(a[i:i+block], b[i:i+block]); {
				i += block
				block = min(2*block, 16<<10)
			}
		}
	}
	for i < n && a[i] == b[i] {
		i++
	}
	return i
}

// take copies the tape of old entries [from, to) for the new text.
func (s *scanner) take(from, to int32) {
	n := len(s.tape)
	s.tape = append(s.tape, s.old.tape[from:to]...)
	if s.shift == 0 {
		return
	}
	shift := uint32(s.shift)
	taken := s.tape[n:]
	for i := range taken {
		taken[i].off += shift
		if taken[i].key != 0 {
			taken[i].key += shift
		}
	}
}

// follow reads the value at i as value does, guided by the old entry o.
func (s *scanner) follow(i, key int, o int32) int {
	e := &s.old.tape[o]
	s.align(i, int(e.off))
	// A value that ends where the texts part may go on in the new one: a
	// number by another digit. One more equal byte settles it.
	if e.end() < s.same {
		at := len(s.tape)
		s.take(o, o+e.skip())
		s.tape[at].key = uint32(key)
		return e.end() + s.shift
	}
	if kind := e.kind(); kind <= kindArray && s.text[i] == s.old.text[e.off] {
		at := len(s.tape)
		s.tape = append(s.tape, entry{off: uint32(i), key: uint32(key)})
		end := s.container(i, kind, o)
		if end >= 0 {
			t := &s.tape[at]
			t.len = uint32(end - i)
			t.size = kind<<kindShift | uint32(len(s.tape)-at)
		}
		return end
	}
	return s.value(i, key)
}

// followArray reads the array at i, guided by the old array o.
func (s *scanner) followArray(i int, o int32) int {
	tape := s.old.tape
	c, last := o+1, o+tape[o].skip() // the old element to compare with next
	settled := c                     // every old element before it has been met
	i = s.space(i + 1)
	if s.text[i] == ']' {
		return i + 1
	}
	for {
		// Elements that are equal, with the comma between them.
		if c < last {
			s.align(i, int(tape[c].off))
			run, end := c, 0
			for c < last && tape[c].end() < s.same {
				end = tape[c].end()
				c += tape[c].skip()
			}
			if c > run {
				s.take(run, c)
				settled = c
				if i = s.space(end + s.shift); s.text[i] != ',' {
					break
				}
				i = s.space(i + 1)
				continue
			}
		}
		if c < last {
			i = s.follow(i, 0, c)
		} else {
			i = s.value(i, 0)
		}
		if i < 0 {
			return i
		}
		if i = s.space(i); s.text[i] != ',' {
			break
		}
		i = s.space(i + 1)
		c, settled = s.meet(i, c, settled, last)
	}
	if s.text[i] != ']' {
		return s.fail(i, `"," or "]"`)
	}
	return i + 1
}

// meet chooses the old element to compare with the new one at i, where the one
// before it was compared with c and differed. First choice is an element that
// is equal: the next (c was edited), c itself (something was inserted), or one
// near, counted from c and from the last that was met. Else it is the one of
// the first two that begins more alike.
func (s *scanner) meet(i int, c, settled, last int32) (next, met int32) {
	tape := s.old.tape
	if c >= last {
		c = settled
		if c >= last {
			return last, settled
		}
	}
	after := c + tape[c].skip()
	if after < last && s.equalAt(after, i) {
		return after, after
	}
	if s.equalAt(c, i) {
		return c, c
	}
	for _, start := range [2]int32{after, settled} {
		x := start
		for k := 0; k < window && x < last; k++ {
			if x != c && s.equalAt(x, i) {
				return x, x
			}
			x += tape[x].skip()
		}
	}
	if after < last {
		alike := func(x int32) int {
			o := int(tape[x].off)
			return commonPrefix(s.old.text[o:min(o+64, len(s.old.text))], s.text[i:])
		}
		if alike(after) >= alike(c) {
			return after, settled
		}
	}
	return c, settled
}

// equalAt tells whether the old element x stands at i. Short ones stand
// anywhere; they must be followed by the same as well.
func (s *scanner) equalAt(x int32, i int) bool {
	e := &s.old.tape[x]
	o, n := int(e.off), int(e.len)
	if n < 24 {
		n = min(24, len(s.old.text)-o)
	}
	return i+n <= len(s.text) && s.text[i+n-1] == s.old.text[o+n-1] && bytes.Equal(s.text[i:i+n], s.old.text[o:o+n])
}

// followObject reads the object at i, guided by the old object o.
func (s *scanner) followObject(i int, o int32) int {
	tape := s.old.tape
	c, last := o+1, o+tape[o].skip() // the old member to compare with next
	i = s.space(i + 1)
	if s.text[i] == '}' {
		return i + 1
	}
	for {
		// Members that are equal, names and all.
		if c < last {
			s.align(i, int(tape[c].key))
			run, end := c, 0
			for c < last && tape[c].end() < s.same {
				end = tape[c].end()
				c += tape[c].skip()
			}
			if c > run {
				s.take(run, c)
				if i = s.space(end + s.shift); s.text[i] != ',' {
					break
				}
				i = s.space(i + 1)
				continue
			}
		}
		key := i
		if x := s.sameName(i, c, last); x >= 0 {
			i += len(s.old.quotedName(x))
			if i = s.space(i); s.text[i] != ':' {
				return s.fail(i, `":"`)
			}
			i = s.follow(s.space(i+1), key, x)
			c = x + tape[x].skip()
		} else if i = s.name(i); i >= 0 {
			i = s.value(i, key)
		}
		if i < 0 {
			return i
		}
		if i = s.space(i); s.text[i] != ',' {
			break
		}
		i = s.space(i + 1)
	}
	if s.text[i] != '}' {
		return s.fail(i, `"," or "}"`)
	}
	return i + 1
}

// sameName finds an old member near c with the name that stands at i.
func (s *scanner) sameName(i int, c, last int32) int32 {
	for k := 0; k < window && c < last; k++ {
		if bytes.HasPrefix(s.text[i:], s.old.quotedName(c)) {
			return c
		}
		c += s.old.tape[c].skip()
	}
	return -1
}
