package jsondiff

import (
	"bytes"
	"encoding/binary"
)

// walk compares the retained document with a new one. What the lock-step walk
// cannot follow is tokenised and compared here, tape against tape.
type walk struct {
	old      source
	new      parser
	patch    patch
	identify []Identity
	work     int // left of Limits.Work
	cut      bool

	lock    lockState
	splices []splice
	spliced int32 // words in splices
	spare   tape  // memory
	names   table
	few     []fewName
	members []memberPair // a stack: each object's pairs above its caller's
	pending []int32      // a stack of old members passed over, likewise
	extra   []int32      // and of new ones without a counterpart yet
	arrays  []*arrayWalk // one for each depth of arrays
	array   int          // how many of them are in use
}

// memberPair is a member of both documents, or of one: the other is -1.
type memberPair struct{ old, new int32 }

// start sets the walk on an old document; the new one was loaded.
func (w *walk) start(old source, o Options) {
	w.old = old
	w.new.escaped, w.new.spaced = false, false
	w.patch.reset(o.Ignore)
	w.identify = o.Identify
	w.work = o.Work + len(old.text)/16
	w.cut = false
	w.splices, w.spliced = w.splices[:0], 0
	w.members, w.pending, w.extra, w.array = w.members[:0], w.pending[:0], w.extra[:0], 0
}

// charge takes what looking at size bytes costs from the work that is left, and
// tells whether there is none.
func (w *walk) charge(size int) bool {
	w.work -= 1 + size>>6
	if w.work < 0 {
		w.cut = true
	}
	return w.cut
}

// equalRaw compares two values byte by byte.
func (w *walk) equalRaw(o, n int32) bool {
	return w.old.tape.len(o) == w.new.tape.len(n) && bytes.Equal(w.old.raw(o), w.new.raw(n))
}

// compare writes what turns the old value into the new one, both on tapes.
func (w *walk) compare(o, n int32) {
	if w.patch.idle() || w.equalRaw(o, n) {
		return
	}
	k := w.old.tape.kind(o)
	if k != w.new.tape.kind(n) {
		w.patch.replace(w.new.raw(n), w.new.spaced)
		return
	}
	if k < kindString && w.charge(w.old.tape.len(o)) {
		w.patch.replace(w.new.raw(n), w.new.spaced)
		return
	}
	f := w.patch.open()
	muted := false
	switch k {
	case kindObject:
		muted = w.compareObjects(o, n, f)
	case kindArray:
		muted = w.compareArrays(o, n, f)
	default:
		if k != kindString || !sameName(w.old.raw(o), w.new.raw(n)) {
			w.patch.replace(w.new.raw(n), w.new.spaced)
		}
		return
	}
	w.patch.settle(f, w.new.raw(n), w.new.spaced, muted)
}

// compareObjects compares the members of two objects in the order they have
// while that is the same, which is nearly always.
func (w *walk) compareObjects(o, n int32, f frame) (muted bool) {
	ot, nt := w.old.tape, w.new.tape
	oEnd, nEnd := ot.stop(o), nt.stop(n)
	size := nt.len(n)
	oc, nc := ot.inside(o), nt.inside(n)
	for oc < oEnd && nc < nEnd && w.sameMember(oc, nc) {
		oc = ot.next(oc)
		nc = nt.next(nc)
	}
	base := len(w.members)
	if oc == oEnd && nc == nEnd && w.distinctOld(o) {
		nt.setDistinct(n)
		for oc, nc = ot.inside(o), nt.inside(n); oc < oEnd; {
			muted = w.compareMember(memberPair{oc, nc}, f, size, muted)
			oc = ot.next(oc)
			nc = nt.next(nc)
		}
		return muted
	}
	if !w.pairFew(o, oEnd, n, nEnd) {
		w.pairMembers(ot.inside(o), oEnd, nt.inside(n), nEnd)
	}
	for i := base; i < len(w.members); i++ {
		muted = w.compareMember(w.members[i], f, size, muted)
	}
	w.members = w.members[:base]
	return muted
}

// compareMember writes the change of one member, and gives up on the container
// where its operations have become larger than itself.
func (w *walk) compareMember(m memberPair, f frame, size int, muted bool) bool {
	p := &w.patch
	switch {
	case m.new < 0:
		at := p.enterName(w.old.name(m.old))
		p.remove()
		p.leave(at)
	case m.old < 0:
		at := p.enterName(w.new.name(m.new))
		p.add(w.new.raw(m.new), w.new.spaced)
		p.leave(at)
	case w.equalRaw(m.old, m.new):
		return muted
	default:
		at := p.enterName(w.old.name(m.old))
		w.compare(m.old, m.new)
		p.leave(at)
	}
	return muted || w.giveUp(f, size)
}

// giveUp mutes a container whose operations have become larger than itself.
// That is what keeps their bytes in proportion to the document.
func (w *walk) giveUp(f frame, size int) bool {
	if w.patch.muted == 0 && w.patch.tooMuch(f, size) {
		w.patch.muted++
		return true
	}
	return false
}

func (w *walk) sameMember(o, n int32) bool {
	return w.sameName(w.old.name(o), w.new.name(n))
}

func (w *walk) sameName(a, b []byte) bool {
	if w.old.escaped || w.new.escaped {
		return sameName(a, b)
	}
	return bytes.Equal(a, b)
}

// distinctOld tells whether no name of an old object stands there twice, and
// remembers it.
func (w *walk) distinctOld(o int32) bool {
	t := w.old.tape
	if t.distinct(o) {
		return true
	}
	end := t.stop(o)
	// A few names are compared with each other, more are hashed.
	var few [8]int32
	n := 0
	for c := t.inside(o); c < end; c = t.next(c) {
		if n == len(few) {
			n++
			break
		}
		name := w.old.name(c)
		for _, d := range few[:n] {
			if w.sameName(name, w.old.name(d)) {
				return false
			}
		}
		few[n] = c
		n++
	}
	if n > len(few) && w.indexNames(&w.old, t.inside(o), end) {
		return false
	}
	t.setDistinct(o)
	return true
}

// indexNames puts members into the table of names; of equal ones the last one
// stays. It tells whether there were any.
func (w *walk) indexNames(s *source, from, end int32) (twice bool) {
	count := 0
	for c := from; c < end; c = s.tape.next(c) {
		count++
	}
	w.names.reset(count)
	for c := from; c < end; c = s.tape.next(c) {
		twice = w.addName(s, c) || twice
	}
	return twice
}

// addName puts a member into the table, in the place of one with the same name.
func (w *walk) addName(s *source, c int32) (twice bool) {
	name := s.name(c)
	hash := hashText(name)
	at, next := w.names.first(hash)
	for at.key != 0 && !w.sameName(s.name(at.key-1), name) {
		at, next = w.names.after(hash, next)
	}
	twice = at.key != 0
	*at = slot{hash: hash, key: c + 1}
	return twice
}

// findName gives the slot of a name in the table, nil where it is not there.
func (w *walk) findName(s *source, name []byte) *slot {
	hash := hashText(name)
	for at, next := w.names.first(hash); at.key != 0; at, next = w.names.after(hash, next) {
		if w.sameName(s.name(at.key-1), name) {
			return at
		}
	}
	return nil
}

// fewMembers is up to how many names are compared with each other rather than
// hashed.
const fewMembers = 64

// fewName is a member of an object with few.
type fewName struct {
	head uint64 // the first bytes
	name []byte
	at   int32 // below zero once it is paired
}

// pairFew does for objects with few members what pairMembers does for any. It
// answers false, and has done nothing, where there are many, where a name is
// there more than once, and where names are escaped.
func (w *walk) pairFew(o, oEnd, n, nEnd int32) bool {
	if w.old.escaped || w.new.escaped || !w.distinctOld(o) {
		return false
	}
	few := w.few[:0]
	for c := w.new.tape.inside(n); c < nEnd; c = w.new.tape.next(c) {
		if len(few) == fewMembers {
			w.few = few
			return false
		}
		name := w.new.name(c)
		few = append(few, fewName{nameHead(name), name, c})
	}
	w.few = few
	base, alone, expected := len(w.members), len(few), 0
	for c := w.old.tape.inside(o); c < oEnd; c = w.old.tape.next(c) {
		pair := memberPair{c, -1}
		name := w.old.name(c)
		head := nameHead(name)
		for range few { // from where the last one was
			if expected == len(few) {
				expected = 0
			}
			f := &few[expected]
			expected++
			if f.head == head && f.at >= 0 && bytes.Equal(f.name, name) {
				pair.new, f.at = f.at, ^f.at
				alone--
				break
			}
		}
		w.members = append(w.members, pair)
	}
	for i := 0; alone > 0; i++ {
		if few[i].at < 0 {
			continue
		}
		alone--
		for j := range few {
			if j != i && bytes.Equal(few[j].name, few[i].name) {
				w.members = w.members[:base]
				return false
			}
		}
		w.members = append(w.members, memberPair{-1, few[i].at})
	}
	w.new.tape.setDistinct(n)
	return true
}

// nameHead gives a name's first eight bytes, of a shorter one what there is.
func nameHead(name []byte) uint64 {
	if len(name) >= 8 {
		return binary.LittleEndian.Uint64(name)
	}
	x := uint64(0)
	for _, c := range name {
		x = x<<8 | uint64(c)
	}
	return x
}

// pairMembers pushes the pairs of two objects' members that count: the last
// one of each name. Old members come first, in their order, then new ones.
func (w *walk) pairMembers(o, oEnd, n, nEnd int32) {
	base := len(w.members)
	w.indexNames(&w.old, o, oEnd)
	for c := o; c < oEnd; c = w.old.tape.next(c) {
		if w.findName(&w.old, w.old.name(c)).key == c+1 {
			w.members = append(w.members, memberPair{c, -1})
		}
	}
	olds := w.members[base:]
	w.indexNames(&w.new.source, n, nEnd)
	for i := range olds {
		if at := w.findName(&w.new.source, w.old.name(olds[i].old)); at != nil {
			olds[i].new = at.key - 1
			at.next = 1
		}
	}
	for c := n; c < nEnd; c = w.new.tape.next(c) {
		if at := w.findName(&w.new.source, w.new.name(c)); at.key == c+1 && at.next == 0 {
			w.members = append(w.members, memberPair{-1, c})
		}
	}
}
