package jsondiff

import (
	"sort"
)

// lockState is where the lock-step walk stands: old.text[x] equals
// new.text[x+shift] for every x in [from, eq).
//
// The walk follows the retained tape. Where the new bytes equal the old ones,
// the tape is spliced instead of parsed: what was valid there still is, because
// the parser would meet the same bytes in the same state. Only what differs is
// read anew.
type lockState struct {
	shift, from, eq int
}

// sync measures how far both texts are equal from the old offset on.
func (w *walk) sync(old, shift int) {
	w.lock = lockState{shift: shift, from: old, eq: old}
	if n := old + shift; n < len(w.new.text) {
		w.lock.eq += commonPrefix(w.old.text[old:], w.new.text[n:])
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
	w.splices = append(w.splices, splice{at, from, to, shift})
}

// repeat takes one value over, whose name may be farther away in the new text.
func (w *walk) repeat(o int32, back int) {
	t := w.old.tape
	first := firstWord(t.off(o)+w.lock.shift, back) | t[o]&^(offMask|farName<<backShift)
	if t[o]&wideFlag != 0 || first-word(w.lock.shift) == t[o] {
		w.splice(o, t.next(o))
		return
	}
	w.new.tape = append(w.new.tape, first)
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
	root := w.old.tape.off(0)
	w.sync(root, i-root)
	if i = w.follow(0, i, 0); i >= 0 {
		p.end(i)
	}
}

// follow compares the old value with the new one at n, puts that on the tape
// and gives the offset after it, or a negative one on an error.
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
	if w.patch.idle() || !(k == kindObject && p.b[n] == '{' || k == kindArray && p.b[n] == '[') {
		end := p.value(n, back)
		if end >= 0 {
			w.compare(o, at)
		}
		return end
	}
	if !p.enter() {
		return -1
	}
	since := w.mark()
	p.tape = append(p.tape, firstWord(n, back))
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
	w.patch.settle(f, p.text[n:end], p.spaced, muted)
	return end
}

// lookAhead is how many old members or elements are looked at for the one that
// stands next in the new text.
const lookAhead = 32

// followObject walks the members of the object at n, whose tape entry is at at.
//
// Old members that are passed over wait in w.pending, new ones that no old one
// was found for in w.extra. At the closing brace they are paired by name, and
// what is left over then was removed or added.
func (w *walk) followObject(o int32, n int, at int32, f frame, since mark) (end int, muted bool) {
	ot, p := w.old.tape, &w.new
	oEnd, oldEnd := ot.stop(o), ot.end(o)
	pendingBase, extraBase := len(w.pending), len(w.extra)
	seen, ignored := w.patch.seen, w.patch.ignored
	distinct := ot.distinct(o)
	c := ot.inside(o)
	after := n + 1 // the new offset after the last member
	inStep := true // w.lock covers what follows there and before c
	first := true
	for {
		run := c
		for inStep && c < oEnd && ot.end(c) < w.lock.eq { // with the comma or brace after it
			after = ot.end(c) + w.lock.shift
			c = ot.next(c)
			first = false
		}
		w.splice(run, c)
		if inStep && c == oEnd && oldEnd <= w.lock.eq {
			end = oldEnd + w.lock.shift
			break
		}
		if !distinct {
			if distinct = w.distinctOld(o); !distinct {
				return w.rewriteObject(o, n, at, f, since, false)
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
		}
		first = false
		if m < 0 {
			w.extra = append(w.extra, int32(len(p.tape)))
			if after = p.value(value, back); after < 0 {
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
			w.pending, w.extra, w.members = w.pending[:pendingBase], w.extra[:extraBase], w.members[:base]
			w.patch.seen, w.patch.ignored = seen, ignored
			return w.rewriteObject(o, n, at, f, since, muted)
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

// findMember looks for an old member by name: a few from c on, then a few of
// those last passed over, which it takes off the list. -1 is not found, which
// says nothing about the ones it did not look at.
func (w *walk) findMember(c, end int32, pendingBase int, name []byte) int32 {
	for k := 0; c < end && k < lookAhead; k++ {
		if w.sameName(w.old.name(c), name) {
			return c
		}
		c = w.old.tape.next(c)
	}
	for k := len(w.pending) - 1; k >= max(pendingBase, len(w.pending)-lookAhead); k-- {
		if m := w.pending[k]; w.sameName(w.old.name(m), name) {
			w.pending = append(w.pending[:k], w.pending[k+1:]...)
			return m
		}
	}
	return -1
}

// pairLeft pairs what findMember did not see and pushes it, with what has no
// counterpart, to w.members. It answers false where the new object has a name
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
		w.indexNames(&w.old, w.old.tape.inside(o), oEnd)
	}
	alone := 0 // extra members without any counterpart
	for _, x := range extra {
		m := int32(-1)
		if len(extra) > 4 {
			if at := w.findName(&w.old, s.name(x)); at != nil {
				m = at.key - 1
			}
		} else {
			for c := w.old.tape.inside(o); c < oEnd; c = w.old.tape.next(c) {
				if w.sameName(w.old.name(c), s.name(x)) {
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
		if w.addName(s, x) {
			return false
		}
		w.members = append(w.members, memberPair{-1, x})
	}
	return true
}

// rewriteObject reads the object at n anew and compares it as a whole, for
// objects with a name more than once.
func (w *walk) rewriteObject(o int32, n int, at int32, f frame, since mark, muted bool) (int, bool) {
	p := &w.new
	if muted {
		w.patch.muted--
	}
	w.patch.out = w.patch.out[:f.start]
	w.drop(since)
	p.tape = p.tape[:at+1]
	p.tape[at] &^= distinctFlag
	p.leave()
	end := p.object(n)
	if end < 0 || !p.enter() {
		return -1, false
	}
	w.close(at, kindObject, end-n, since)
	return end, w.compareObjects(o, at, f)
}
