package jsondiff

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"slices"
)

// memberPair is a member of both documents, or of one: the other is -1.
type memberPair struct{ old, new int32 }

// compareObjects compares the members of two objects in the order they have
// while that is the same, which is nearly always.
func (w *walk) compareObjects(o, n int32, f frame) (muted bool) {
	ot, nt := w.old.tape, w.new.tape
	size := nt.len(n)
	if w.sameNames(o, n) {
		oc, nc := ot.inside(o), nt.inside(n)
		for end := ot.stop(o); oc < end; oc, nc = ot.next(oc), nt.next(nc) {
			muted = w.compareMember(memberPair{oc, nc}, f, size, muted)
		}
		return muted
	}
	base := len(w.members)
	w.pair(o, n)
	for i := base; i < len(w.members); i++ {
		muted = w.compareMember(w.members[i], f, size, muted)
	}
	w.members = w.members[:base]
	return muted
}

// sameNames tells whether two objects have the same names in the same order,
// none of them twice.
func (w *walk) sameNames(o, n int32) bool {
	ot, nt := w.old.tape, w.new.tape
	oEnd, nEnd := ot.stop(o), nt.stop(n)
	oc, nc := ot.inside(o), nt.inside(n)
	for oc < oEnd && nc < nEnd && (w.namedAlike(oc, nc) || w.sameName(w.old.name(oc), w.new.name(nc))) {
		oc = ot.next(oc)
		nc = nt.next(nc)
	}
	if oc < oEnd || nc < nEnd || !w.distinctOld(o) {
		return false
	}
	nt.setDistinct(n)
	return true
}

// compareMember records the change of one member, and gives up on the container
// if its operations have become larger than itself.
func (w *walk) compareMember(m memberPair, f frame, size int, muted bool) bool {
	p := &w.patch
	if p.idle() {
		return muted
	}
	switch {
	case m.new < 0:
		at := p.enterName(w.old.name(m.old))
		w.remove(m.old)
		p.leave(at)
	case m.old < 0:
		at := p.enterName(w.new.name(m.new))
		w.add(m.new)
		p.leave(at)
	case !w.cut && w.equalRaw(m.old, m.new):
		return muted
	default:
		at := p.enterName(w.old.name(m.old))
		w.compare(m.old, m.new)
		p.leave(at)
	}
	return muted || w.giveUp(f, size)
}

// named tells whether a member has this name.
func (w *walk) named(s *source, c int32, name []byte) bool {
	if w.old.escaped || w.new.escaped {
		return sameName(s.name(c), name)
	}
	return s.named(c, name)
}

// namedAlike tells at a glance, as nearly always, that two members have the same
// name: the same bytes stand there from its quote to the nearer of the two values.
// If it says no, they may have it all the same.
func (w *walk) namedAlike(o, n int32) bool {
	x, y := w.old.tape[o], w.new.tape[n]
	oBack, nBack := int(x>>backShift&farName), int(y>>backShift&farName)
	if (x|y)&wideFlag != 0 || max(oBack, nBack) == farName {
		return false
	}
	oName, nName := int(x&offMask)-oBack, int(y&offMask)-nBack
	length := min(oBack, nBack)
	return string(w.old.text[oName:oName+length]) == string(w.new.text[nName:nName+length])
}

func (w *walk) sameName(a, b []byte) bool {
	if w.old.escaped || w.new.escaped {
		return sameName(a, b)
	}
	return bytes.Equal(a, b)
}

// pair pushes the pairs of two objects' members that count, the last one of each
// name: old members first, in their order, then new ones.
func (w *walk) pair(o, n int32) {
	if !w.pairFew(o, n) {
		w.pairMany(o, n)
	}
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
	if n > len(few) && w.indexNames(&w.old, o) {
		return false
	}
	t.setDistinct(o)
	return true
}

// indexNames puts an object's members into the table of names, and tells whether
// a name is there more than once.
func (w *walk) indexNames(s *source, i int32) (twice bool) {
	count, twice := w.names.index(s, i)
	w.spent += count
	return twice
}

// fewMembers is up to how many names are compared with each other rather than
// hashed.
const fewMembers = 64

// fewName is a member of an object with few.
type fewName struct {
	digest uint64
	at     int32 // below zero once it is paired
}

// pairFew does for objects with few members what pairMany does for any. It
// answers false, and has done nothing, if there are many, if a name is there
// more than once, and if names are escaped.
func (w *walk) pairFew(o, n int32) bool {
	if w.old.escaped || w.new.escaped || !w.distinctOld(o) {
		return false
	}
	ot, nt := w.old.tape, w.new.tape
	few := w.few[:0]
	for c, end := nt.inside(n), nt.stop(n); c < end; c = nt.next(c) {
		if len(few) == fewMembers {
			w.few = few
			return false
		}
		few = append(few, fewName{nameDigest(w.new.name(c)), c})
	}
	w.few = few
	base, alone, expected := len(w.members), len(few), 0
	for c, end := ot.inside(o), ot.stop(o); c < end; c = ot.next(c) {
		pair := memberPair{c, -1}
		name := w.old.name(c)
		digest := nameDigest(name)
		for range few { // from where the last one was
			if expected == len(few) {
				expected = 0
			}
			f := &few[expected]
			expected++
			if f.digest == digest && f.at >= 0 && (digest <= shortName || string(w.new.name(f.at)) == string(name)) {
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
		name := w.new.name(few[i].at)
		for j := range few {
			if j != i && few[j].digest == few[i].digest && w.new.named(max(few[j].at, ^few[j].at), name) {
				w.members = w.members[:base]
				return false
			}
		}
		w.members = append(w.members, memberPair{-1, few[i].at})
	}
	nt.setDistinct(n)
	return true
}

// shortName is the largest digest that is a whole name.
const shortName = 1<<63 - 1

// nameDigest tells names apart at a glance: of up to seven bytes it holds all
// and how many they are, of a longer name a mix of both ends.
func nameDigest(name []byte) uint64 {
	n := len(name)
	if n >= 8 {
		first, last := binary.LittleEndian.Uint64(name), binary.LittleEndian.Uint64(name[n-8:])
		return (first^bits.RotateLeft64(last, 29)+uint64(n))*0x9e3779b97f4a7c15 | (shortName + 1)
	}
	x := uint64(n) << 56
	for k, c := range name {
		x |= uint64(c) << (8 * k)
	}
	return x
}

// pairMany is pair for any two objects.
func (w *walk) pairMany(o, n int32) {
	ot, nt := w.old.tape, w.new.tape
	base := len(w.members)
	w.indexNames(&w.old, o)
	for c, end := ot.inside(o), ot.stop(o); c < end; c = ot.next(c) {
		if w.names.findMember(&w.old, w.old.name(c)).index() == c {
			w.members = append(w.members, memberPair{c, -1})
		}
	}
	olds := w.members[base:]
	w.indexNames(&w.new.source, n)
	for i := range olds {
		if at := w.names.findMember(&w.new.source, w.old.name(olds[i].old)); at != nil {
			olds[i].new = at.index()
			at.take()
		}
	}
	for c, end := nt.inside(n), nt.stop(n); c < end; c = nt.next(c) {
		if at := w.names.findMember(&w.new.source, w.new.name(c)); at.index() == c && !at.taken() {
			w.members = append(w.members, memberPair{-1, c})
		}
	}
}

// memberHash is a member of an object whose content is hashed.
type memberHash struct{ name, value uint64 }

// visible leaves out the members that a later one of the same name hides.
func visible(list []memberHash) []memberHash {
	if len(list) > 8 {
		slices.SortStableFunc(list, func(a, b memberHash) int {
			switch {
			case a.name < b.name:
				return -1
			case a.name > b.name:
				return 1
			}
			return 0
		})
		kept := 0
		for i, m := range list {
			if i+1 < len(list) && list[i+1].name == m.name {
				continue
			}
			list[kept] = m
			kept++
		}
		return list[:kept]
	}
	kept := 0
	for i, m := range list {
		hidden := false
		for _, later := range list[i+1:] {
			hidden = hidden || later.name == m.name
		}
		if !hidden {
			list[kept] = m
			kept++
		}
	}
	return list[:kept]
}
