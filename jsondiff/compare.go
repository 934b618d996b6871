package jsondiff

import "bytes"

// walk compares the retained document with a new one. What the lock-step walk
// cannot follow is tokenised and compared here, tape against tape.
type walk struct {
	old      source
	new      parser
	patch    patchWriter
	identify []Identity
	byValue  bool // numbers

	work  int  // left of the budget for the search
	cut   bool // there is none left: from now on nothing is searched
	spent int  // counted for tests: everything that was looked at

	lock     lockState
	equal    lockState // the same between tapes
	splices  []splice
	spliced  int32 // words in splices
	twice    bool  // a name was found twice where the walk cannot cope with it
	spare    tape  // memory
	names    hashTable
	few      []fewName
	members  []memberPair // a stack: each object's pairs above its caller's
	pending  []int32      // a stack of old members passed over, likewise
	extra    []int32      // and of new ones without a counterpart yet
	hashes   []memberHash // likewise, while content is hashed
	arrays   []*alignment // one for each depth of arrays
	array    int          // how many of them are in use
	pairs    pairing
	byPlace  bool // an array is tried by place
	script   editScript
	olds     []int32 // elements that are about to be aligned
	news     []int32
	blanks   blankTable
	measured int // bytes whose white space was counted without the table
}

// start sets the walk on an old document; the new one was loaded.
func (w *walk) start(old source, o *Options) {
	w.old = old
	w.new.escaped, w.new.spaced = false, false
	w.patch.reset(o.Ignore, o.Tests)
	w.identify, w.byValue = o.Identify, o.NumbersByValue
	w.work, w.cut, w.spent = o.Limits.work(len(old.text), len(w.new.text)), false, 0
	w.lock, w.equal = lockState{eq: -1}, lockState{from: -1, eq: -1}
	w.splices, w.spliced, w.twice = w.splices[:0], 0, false
	w.members, w.pending, w.extra, w.hashes, w.array = w.members[:0], w.pending[:0], w.extra[:0], w.hashes[:0], 0
	w.blanks.ready, w.measured, w.byPlace = false, 0, false
}

// charge takes units from the work that is left, and tells whether there is
// none. A unit is what it takes to look at one value.
func (w *walk) charge(units int) bool {
	w.spent += units
	w.work -= units
	if w.work < 0 {
		w.cut = true
	}
	return w.cut
}

// How many bytes cost a unit: to compare them, or to read them.
const (
	comparedBytes = 256
	readBytes     = 8
)

// equalRaw compares two values byte by byte. What it finds equal it remembers,
// so that the values inside are not compared again.
func (w *walk) equalRaw(o, n int32) bool {
	size := w.old.tape.len(o)
	if size != w.new.tape.len(n) {
		return false
	}
	off := w.old.tape.off(o)
	at := w.new.tape.off(n)
	if size < 64 {
		return string(w.old.text[off:off+size]) == string(w.new.text[at:at+size])
	}
	l := &w.equal
	if at-off != l.shift || off < l.from || off > l.eq || off == l.eq && l.eq == l.end {
		w.charge(1 + size/comparedBytes)
		*l = lockState{shift: at - off, from: off, end: off + size}
		l.eq = off + commonPrefix(w.old.text[off:off+size], w.new.text[at:at+size])
	}
	return off+size <= l.eq
}

// sameScalar compares two scalars of a kind as documents do.
func (w *walk) sameScalar(k kind, o, n int32) bool {
	x, y := w.old.raw(o), w.new.raw(n)
	switch {
	case k == kindString:
		return sameName(x, y)
	case k == kindNumber && w.byValue:
		return equalNumber(x, y)
	}
	return bytes.Equal(x, y)
}

// compare records what turns the old value into the new one, both on tapes.
func (w *walk) compare(o, n int32) {
	if w.patch.idle() {
		return
	}
	k := w.old.tape.kind(o)
	switch {
	case k != w.new.tape.kind(n):
		w.replace(o, n)
		return
	case k >= kindString:
		if !w.sameScalar(k, o, n) {
			w.replace(o, n)
		}
		return
	}
	w.charge(1)
	if !w.cut && w.equalRaw(o, n) {
		return
	}
	f := w.patch.open()
	var muted bool
	if k == kindObject {
		muted = w.compareObjects(o, n, f)
	} else {
		muted = w.compareArrays(o, n, f)
	}
	w.settle(f, o, w.new.tape.off(n), w.new.tape.end(n), int(w.new.tape.next(n)-n), muted)
}

// giveUp mutes a container whose operations have become larger than itself.
// That is what keeps their number in proportion to the document.
func (w *walk) giveUp(f frame, size int) bool {
	if w.patch.muted == 0 && w.patch.tooMuch(f, size) {
		w.patch.mute()
		return true
	}
	return false
}

// same tells whether two values are the same document, whatever the order of
// members and the spelling of strings. Once there is no work left it says no.
func (w *walk) same(o, n int32) bool {
	k := w.old.tape.kind(o)
	if w.charge(1) || k != w.new.tape.kind(n) {
		return false
	}
	if k >= kindString {
		w.charge(w.old.tape.len(o) / comparedBytes)
		return w.sameScalar(k, o, n)
	}
	if w.equalRaw(o, n) {
		return true
	}
	ot, nt := w.old.tape, w.new.tape
	oEnd, nEnd := ot.stop(o), nt.stop(n)
	oc, nc := ot.inside(o), nt.inside(n)
	if k == kindArray {
		for oc < oEnd && nc < nEnd && w.same(oc, nc) {
			oc, nc = ot.next(oc), nt.next(nc)
		}
		return oc == oEnd && nc == nEnd
	}
	if w.sameNames(o, n) {
		for oc < oEnd && w.same(oc, nc) {
			oc, nc = ot.next(oc), nt.next(nc)
		}
		return oc == oEnd
	}
	base := len(w.members)
	w.pair(o, n)
	end := len(w.members)
	all := true
	for i := base; i < end && all; i++ {
		m := w.members[i]
		all = m.old >= 0 && m.new >= 0
	}
	for i := base; i < end && all; i++ {
		m := w.members[i]
		all = w.same(m.old, m.new)
	}
	w.members = w.members[:base]
	return all
}

// contentHash is the same for values that are the same document.
func (w *walk) contentHash(s *source, i int32) uint64 {
	t := s.tape
	w.charge(1)
	switch t.kind(i) {
	case kindString:
		raw := unquote(s.raw(i))
		w.charge(len(raw) / (comparedBytes / 8))
		return w.names.hashName(raw) + 1
	case kindNumber:
		if w.byValue {
			w.names.chars = appendCanonicalNumber(w.names.chars[:0], s.raw(i))
			return w.names.hashName(w.names.chars)
		}
		return w.names.hashName(s.raw(i))
	case kindLiteral:
		return w.names.hashName(s.raw(i))
	case kindArray:
		h := uint64(kindArray)
		for c, end := t.inside(i), t.stop(i); c < end; c = t.next(c) {
			h = mix(h, w.contentHash(s, c))
		}
		return h
	}
	base := len(w.hashes)
	for c, end := t.inside(i), t.stop(i); c < end; c = t.next(c) {
		name := w.names.hashName(s.name(c))
		value := w.contentHash(s, c)
		w.hashes = append(w.hashes, memberHash{name, value})
	}
	h := uint64(kindObject)
	list := w.hashes[base:]
	if !t.distinct(i) {
		w.charge(len(list))
		list = visible(list)
	}
	for _, m := range list {
		h += mix(m.name, m.value)
	}
	w.hashes = w.hashes[:base]
	return mix(h, 1)
}

func mix(a, b uint64) uint64 {
	h := (a ^ b<<32 ^ b>>32) * 0x9e3779b97f4a7c15
	h ^= h >> 29
	h = (h + b) * 0xbf58476d1ce4e5b9
	return h ^ h>>32
}
