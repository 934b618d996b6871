package jsondiff

import (
	"sort"
)

// lockState is where the lock-step walk stands: old.text[x] equals
// new.text[x+shift] for every x in [from, eq).
//
// The walk follows the retained tape. If the new bytes equal the old ones,
// the tape is spliced instead of parsed: what was valid there still is, because
// the parser would meet the same bytes in the same state. Only what differs is
// read anew.
type lockState struct {
	shift, from, eq int
	end             int // between tapes: how far was looked
}

// sync measures how far both texts are equal from the old offset on.
func (w *walk) sync(old, shift int) {
	w.lock = lockState{shift: shift, from: old, eq: old}
	if n := old + shift; n < len(w.new.text) {
		w.lock.eq += commonPrefix(w.old.text[old:], w.new.text[n:])
		w.spent += (w.lock.eq - old) / comparedBytes
	}
}

// meet sets the walk on an old offset and the new one of its counterpart.
func (w *walk) meet(off, n int) {
	if l := &w.lock; n-off != l.shift || off < l.from || off > l.eq {
		w.sync(off, n-off)
	}
}

// splice takes values of the old tape over whose text stands shifted in the
// new. They are not copied: until commit, the new tape is what was read anew,
// with the splices between.
func (w *walk) splice(from, to int32) {
	if from >= to {
		return
	}
	w.spliced += to - from
	at, shift := int32(len(w.new.tape)), int32(w.lock.shift)
	if n := len(w.splices); n > 0 {
		if last := &w.splices[n-1]; last.at == at && last.to == from && last.shift == shift {
			last.to = to
			return
		}
	}
	w.splices = append(double(w.splices, 1), splice{at, from, to, shift})
}

// repeat takes one value over, whose name may be farther away in the new text.
func (w *walk) repeat(o int32, back int) {
	t := w.old.tape
	first := firstWord(t.off(o)+w.lock.shift, back) | t[o]&^(offMask|farName<<backShift)
	if t[o]&wideFlag != 0 || first-word(w.lock.shift) == t[o] {
		w.splice(o, t.next(o))
		return
	}
	w.new.push(first, t.off(o)+w.lock.shift)
	w.splice(o+1, t.next(o))
}

// equalHere tells whether the old value stands unchanged where the walk is.
func (w *walk) equalHere(o int32) bool {
	t := w.old.tape
	end := t.end(o)
	return end <= w.lock.eq &&
		(t.kind(o) != kindNumber || end < w.lock.eq || !continuesNumber(w.new.b[end+w.lock.shift]))
}

// run reads the new document and compares it with the old one.
func (w *walk) run() {
	p := &w.new
	p.spaced, p.escaped = w.old.spaced, w.old.escaped
	i := p.space(0)
	i = w.follow(0, i, 0)
	if w.twice && p.err == nil {
		i = w.restart()
	}
	if i >= 0 {
		p.end(i)
	}
}

// restart reads the whole new document and compares it tape against tape. That
// is for documents with a name twice in an object: what the walk has matched so
// far may be the wrong one of them.
func (w *walk) restart() int {
	p := &w.new
	p.depth, p.tape = 0, p.tape[:0]
	w.splices, w.spliced = w.splices[:0], 0
	w.pending, w.extra, w.members, w.array = w.pending[:0], w.extra[:0], w.members[:0], 0
	w.patch.reset(w.patch.ignore, w.patch.tests)
	end := p.value(p.space(0), 0)
	if end >= 0 {
		w.compare(0, 0)
	}
	return end
}

// follow compares the old value with the new one at n, puts that on the tape
// and returns the offset after it, or a negative one on an error.
func (w *walk) follow(o int32, n, back int) int {
	ot := w.old.tape
	w.meet(ot.off(o), n)
	if w.equalHere(o) {
		w.repeat(o, back)
		return ot.end(o) + w.lock.shift
	}
	p := &w.new
	at := int32(len(p.tape))
	k := ot.kind(o)
	w.spent++
	if w.patch.idle() || !(k == kindObject && p.b[n] == '{' || k == kindArray && p.b[n] == '[') {
		end := w.read(n, back)
		if end >= 0 {
			w.compare(o, at)
		}
		return end
	}
	if !p.enter(n) {
		return -1
	}
	since := w.mark()
	p.push(firstWord(n, back), n)
	f := w.patch.open()
	var end int
	var muted bool
	if k == kindObject {
		end, muted = w.followObject(o, n, at, f, since)
	} else {
		end, muted = w.followArray(o, n, at, f, since)
	}
	if end < 0 {
		return end
	}
	p.leave()
	w.settle(f, o, n, end, int(p.tape.next(at)-at), muted)
	return end
}

// read reads the new value at n, as far as it goes.
func (w *walk) read(n, back int) int {
	end := w.new.value(n, back)
	w.spent += max(0, end-n) / readBytes
	return end
}

// followObject walks the members of the object at n, whose tape entry is at at.
//
// Old members that are passed over wait in w.pending, new ones that no old one
// was found for in w.extra. At the closing brace they are paired by name, and
// what is left over then was removed or added.
func (w *walk) followObject(o int32, n int, at int32, f frame, since mark) (end int, muted bool) {
	ot, p := w.old.tape, &w.new
	oEnd, oldEnd := ot.stop(o), ot.end(o)
	pendingBase, extraBase := len(w.pending), len(w.extra)
	distinct := ot.distinct(o)
	seen, doubtful := w.patch.seen, w.patch.doubtful
	c := ot.inside(o)
	after := n + 1 // the new offset after the last member
	inStep := true // w.lock covers what follows there and before c
	first := true
	for {
		if inStep {
			if next, end, count := ot.before(c, oEnd, w.lock.eq); count > 0 { // with the comma or brace after it
				w.splice(c, next)
				c, after = next, end+w.lock.shift
				first = false
			}
		}
		if inStep && c == oEnd && oldEnd <= w.lock.eq {
			end = oldEnd + w.lock.shift
			break
		}
		if !distinct {
			if distinct = w.distinctOld(o); !distinct {
				w.twice = true
				return -1, false
			}
		}
		var m int32
		var value, back int
		if inStep && c < oEnd && (ot.off(c) < w.lock.eq || ot.off(c) == w.lock.eq && p.b[w.lock.eq+w.lock.shift] > ' ') {
			// The name is the same, only the value differs.
			m, value, back = c, ot.off(c)+w.lock.shift, ot.off(c)-w.old.nameStart(c)
		} else {
			i := p.space(after)
			if p.b[i] == '}' {
				end = i + 1
				break
			}
			expected := firstName
			if !first {
				if p.b[i] != ',' {
					return p.fail(i, `"," or "}"`), false
				}
				i = p.space(i + 1)
				expected = nextName
			}
			if value, back = p.memberName(i, expected); value < 0 {
				return value, false
			}
			m = w.findMember(c, oEnd, pendingBase, unquote(p.b[value-back:nameEnd(p.b, value)]))
			if m >= 0 && m != c && (m < c || m != ot.next(c)) && !muted && w.worthReading(o) {
				w.pending, w.extra = w.pending[:pendingBase], w.extra[:extraBase]
				w.patch.seen, w.patch.doubtful = seen, doubtful
				return w.rereadObject(o, n, at, f, since)
			}
		}
		first = false
		if m < 0 {
			w.extra = append(w.extra, int32(len(p.tape)))
			if after = w.read(value, back); after < 0 {
				return after, false
			}
			inStep = false
			continue
		}
		level := w.patch.enterName(unquote(p.b[value-back : nameEnd(p.b, value)]))
		after = w.follow(m, value, back)
		w.patch.leave(level)
		if after < 0 {
			return after, false
		}
		muted = muted || w.giveUp(f, ot.len(o)+after-n)
		if inStep = m >= c; inStep {
			for ; c < m; c = ot.next(c) {
				w.pending = append(w.pending, c)
			}
			c = ot.next(c)
			w.meet(ot.end(m), after)
		}
	}
	for ; c < oEnd; c = ot.next(c) {
		w.pending = append(w.pending, c)
	}
	if distinct {
		p.tape.setDistinct(at)
	}
	base := len(w.members)
	if len(w.pending) > pendingBase || len(w.extra) > extraBase {
		if !w.pairLeft(o, w.pending[pendingBase:], w.extra[extraBase:]) {
			w.twice = true
			return -1, false
		}
		w.pending, w.extra = w.pending[:pendingBase], w.extra[:extraBase]
		for i := base; i < len(w.members); i++ {
			muted = w.compareMember(w.members[i], f, ot.len(o)+end-n, muted)
		}
		w.members = w.members[:base]
	}
	w.close(at, kindObject, end-n, since)
	return end, muted
}

// close completes a container that was followed.
func (w *walk) close(at int32, k kind, length int, since mark) {
	words := len(w.new.tape) - int(at) + int(w.spliced-since.spliced)
	w.new.tape = w.new.tape.close(at, k, length, words)
}

// worthReading tells whether an object whose members are in another order is so
// small that it is better read and compared as a whole.
func (w *walk) worthReading(o int32) bool {
	size := w.old.tape.len(o)
	return size <= 4096 && !w.cut && !w.charge(size/readBytes)
}

// rereadObject reads the object at n from its beginning, and compares it tape
// against tape.
func (w *walk) rereadObject(o int32, n int, at int32, f frame, since mark) (end int, muted bool) {
	p := &w.new
	w.patch.drop(f)
	w.drop(since)
	p.tape = p.tape[:at+1]
	p.leave()
	if end = p.object(n); end < 0 || !p.enter(n) {
		return -1, false
	}
	w.close(at, kindObject, end-n, since)
	return end, w.compareObjects(o, at, f)
}

// findMember looks for an old member by name: a few from c on, then a few of
// those last passed over, which it takes off the list. -1 is not found, which
// says nothing about the ones it did not look at.
func (w *walk) findMember(c, end int32, pendingBase int, name []byte) int32 {
	if c < end && w.named(&w.old, c, name) {
		return c
	}
	if w.cut {
		return -1
	}
	m, looked := w.findNear(c, end, pendingBase, name)
	if w.old.escaped || w.new.escaped {
		w.charge(looked * (2 + len(name)/(readBytes/2)))
	} else {
		w.charge(looked * (1 + len(name)/comparedBytes) / 4)
	}
	return m
}

// findNear looks behind c and among those passed over, and tells at how many.
func (w *walk) findNear(c, end int32, pendingBase int, name []byte) (m int32, looked int) {
	for c < end && looked < lookAhead-1 {
		if c = w.old.tape.next(c); c == end {
			break
		}
		looked++
		if w.named(&w.old, c, name) {
			return c, looked
		}
	}
	for k := len(w.pending) - 1; k >= max(pendingBase, len(w.pending)-lookAhead); k-- {
		looked++
		if m := w.pending[k]; w.named(&w.old, m, name) {
			w.pending = append(w.pending[:k], w.pending[k+1:]...)
			return m, looked
		}
	}
	return -1, looked
}

// pairLeft pairs what findMember did not see and pushes it, with what has no
// counterpart, to w.members. It answers false if the new object has a name
// twice: then what was matched so far may be the wrong one of them.
func (w *walk) pairLeft(o int32, pending, extra []int32) bool {
	s, t := &w.new.source, &w.names
	base := len(w.members)
	for _, c := range pending {
		w.members = append(w.members, memberPair{c, -1})
	}
	olds := w.members[base:]
	oEnd := w.old.tape.stop(o)
	if len(extra) > 4 {
		w.indexNames(&w.old, o)
	}
	alone := 0 // extra members without any counterpart
	for _, x := range extra {
		m := int32(-1)
		if len(extra) > 4 {
			if at := w.names.findMember(&w.old, s.name(x)); at != nil {
				m = at.index()
			}
		} else {
			for c := w.old.tape.inside(o); c < oEnd; c = w.old.tape.next(c) {
				if w.named(&w.old, c, s.name(x)) {
					m = c
					break
				}
			}
		}
		if m < 0 {
			extra[alone] = x
			alone++
			continue
		}
		k := sort.Search(len(olds), func(k int) bool { return olds[k].old >= m })
		if k == len(olds) || olds[k].old != m || olds[k].new >= 0 {
			return false
		}
		olds[k].new = x
	}
	extra = extra[:alone]
	t.reset(alone)
	for _, x := range extra {
		if t.addMember(s, x) {
			return false
		}
		w.members = append(w.members, memberPair{-1, x})
	}
	return true
}
