package jsondiff

import (
	"bytes"
	"math"
)

// followArray walks the elements of the array at n.
//
// While elements are equal or changed in place the walk goes on in step. Where
// they differ it looks a little ahead for a place to step on again, and takes
// what lies before as gone or born. Where it finds none, all the rest is.
func (w *walk) followArray(o int32, n int, self int32, f frame, since mark) (end int, muted bool) {
	ot, p := w.old.tape, &w.new
	oEnd, oldEnd := ot.stop(o), ot.end(o)
	a := w.openArray()
	defer w.closeArray()
	firstNew := int32(len(p.tape))
	c, oi, ni := ot.inside(o), int32(0), int32(0)
	after := n + 1
	inStep := true
	key := w.configuredKey()
	guessed := key != nil
	for {
		run := c
		for inStep && c < oEnd && ot.end(c) < w.lock.eq {
			after = ot.end(c) + w.lock.shift
			c = ot.next(c)
			oi++
			ni++
		}
		w.splice(run, c)
		if inStep && c == oEnd && oldEnd <= w.lock.eq {
			end = oldEnd + w.lock.shift
			break
		}
		i := p.space(after)
		if p.b[i] == ']' {
			end = i + 1
			break
		}
		if ni > 0 {
			if p.b[i] != ',' {
				return p.fail(i, `"," or "]"`), false
			}
			i = p.space(i + 1)
		}
		if c == oEnd {
			a.born = append(a.born, element{int32(len(p.tape)), ni})
			if after = p.value(i, 0); after < 0 {
				return after, false
			}
			ni++
			inStep = false
			continue
		}
		w.meet(ot.off(c), i)
		if !guessed {
			guessed = true
			key = likelyKey(&w.old, c)
		}
		step := 1 // elements in place
		if w.equalHere(c) || w.patch.idle() || w.surelySame(c, key) {
			level := w.patch.enterIndex(int(ni))
			after = w.follow(c, i, 0)
			w.patch.leave(level)
		} else {
			at := int32(len(p.tape))
			if after = p.value(i, 0); after < 0 {
				return after, false
			}
			var gone, born int
			step, gone, born = w.findStep(c, oEnd, oldEnd, at, after, key)
			if p.err != nil {
				return -1, false
			}
			switch {
			case gone > 0:
				p.tape = p.tape[:at]
				after = i // read again, as the counterpart of a later one
				for range gone {
					a.gone = append(a.gone, element{c, oi})
					c = ot.next(c)
					oi++
				}
				level := w.patch.enterIndex(int(ni))
				after = w.follow(c, i, 0)
				w.patch.leave(level)
				step = 1
			case born > 0:
				for range born {
					a.born = append(a.born, element{at, ni})
					after = p.tape.end(at)
					at = p.tape.next(at)
					ni++
				}
				p.tape = p.tape[:at]
				inStep = false
				continue
			case step == 0:
				p.tape = p.tape[:at]
				if end = w.takeRest(a, c, oEnd, oi, i, &ni); end < 0 {
					return end, false
				}
				c = oEnd
			default:
				x := c
				for k := range step {
					level := w.patch.enterIndex(int(ni) + k)
					w.compare(x, at)
					w.patch.leave(level)
					x = ot.next(x)
					after = p.tape.end(at)
					at = p.tape.next(at)
				}
				p.tape = p.tape[:at]
			}
			if step == 0 {
				break
			}
		}
		if after < 0 {
			return after, false
		}
		last := c
		for range step {
			last = c
			c = ot.next(c)
			oi++
			ni++
		}
		muted = muted || w.giveUp(f, ot.len(o)+after-n)
		inStep = true
		w.meet(ot.end(last), after)
	}
	for ; c < oEnd; c = ot.next(c) {
		a.gone = append(a.gone, element{c, oi})
		oi++
	}
	size := ot.len(o) + end - n
	if len(a.gone) > 0 && len(a.born) > 0 && !muted && w.crossing(a, key) {
		// What looked like steps in place may be what others moved across: to
		// move the fewest, align all elements.
		w.patch.out = w.patch.out[:f.start]
		a.gone, a.born = a.gone[:0], a.born[:0]
		index := int32(0)
		for c = ot.inside(o); c < oEnd; c = ot.next(c) {
			a.gone = append(a.gone, element{c, index})
			index++
		}
		index = 0
		w.unfold(firstNew, since)
		for x := firstNew; int(x) < len(p.tape); x = p.tape.next(x) {
			a.born = append(a.born, element{x, index})
			index++
		}
	}
	if w.alignArray(a, f, size, int(ni)) {
		muted = true
	}
	w.close(self, kindArray, end-n, since)
	return end, muted
}

// crossing tells whether more than one keyed element left its place, or, without
// a key, more elements than they passed on their way.
func (w *walk) crossing(a *arrayWalk, key []byte) bool {
	if len(a.gone) < 2 || len(a.born) < 2 {
		return false
	}
	if key != nil {
		w.pairElements(a)
		a.findMovers()
		return len(a.movers) > 1
	}
	a.separate()
	w.pairByContent(a)
	left, first, last := int32(0), int32(math.MaxInt32), int32(0)
	for j, i := range a.mate {
		if i < 0 {
			continue
		}
		if from, to := gap(a.gone, int(i)), gap(a.born, j); from != to {
			left++
			first, last = min(first, from, to), max(last, from, to)
		}
	}
	return left > 0 && left > last-first
}

// surelySame tells, before the new element is read, that it is the old one,
// changed in place: its key lies before the first difference. Without a key
// only a large element is taken on trust, if most of it is the same.
func (w *walk) surelySame(c int32, key []byte) bool {
	t := w.old.tape
	if key != nil {
		k := w.keyValue(&w.old, c, key)
		return k >= 0 && w.old.tape.end(k) < w.lock.eq
	}
	return t.kind(c) < kindString && t.len(c) > 4096 && w.lock.eq-t.off(c) > t.len(c)/2
}

// findStep decides what became of the old element c, whose new counterpart
// would be the entry at at and ends at after: step elements changed in place, or
// some old ones are gone, or some new ones were born, before the next two that
// belong together. All zero is: none found. New elements it read to find out
// stay on the tape behind at.
func (w *walk) findStep(c, oEnd int32, oldEnd int, at int32, after int, key []byte) (step, gone, born int) {
	ot, p := w.old.tape, &w.new
	if w.sameKey(c, at, key) {
		return 1, 0, 0
	}
	c2 := ot.next(c)
	next := w.nextElement(after)
	if c2 >= oEnd && next < 0 || c2 < oEnd && w.standsAt(c2, next, oldEnd) {
		return 1, 0, 0
	}
	if w.standsAt(c, next, oldEnd) {
		return 0, 0, 1
	}
	from := p.tape.off(at)
	limit := lookAhead
	for k, x := 1, c2; k <= lookAhead && x < oEnd; k++ {
		if w.standsAt(x, from, oldEnd) || w.sameKey(x, at, key) {
			gone, limit = k, k-1
			break
		}
		x = ot.next(x)
	}
	y := c2
	for j := 1; j <= limit && next >= 0; j++ {
		// j elements were read; the next one is the counterpart of c, or of
		// the old one as far on.
		if w.standsAt(c, next, oldEnd) {
			return 0, 0, j
		}
		if y < oEnd && w.standsAt(y, next, oldEnd) {
			return j, 0, 0
		}
		x := int32(len(p.tape))
		if after = p.value(next, 0); after < 0 {
			return 0, 0, 0
		}
		if w.sameKey(c, x, key) {
			return 0, 0, j
		}
		if y < oEnd {
			if w.sameKey(y, x, key) {
				return j, 0, 0
			}
			y = ot.next(y)
		} else if key == nil {
			break
		}
		next = w.nextElement(after)
	}
	return 0, gone, 0
}

// nextElement gives the offset of the element after the one that ended at i, or
// -1 where there is none.
func (w *walk) nextElement(i int) int {
	if i = w.new.space(i); w.new.b[i] != ',' {
		return -1
	}
	return w.new.space(i + 1)
}

// standsAt tells whether the old element stands at the new offset, byte by
// byte. A short one is only believed together with what follows it.
func (w *walk) standsAt(x int32, n, arrayEnd int) bool {
	t := w.old.tape
	from, to := t.off(x), t.end(x)
	if t.len(x) < 32 {
		to = max(to, min(from+96, arrayEnd))
	}
	text := w.new.text
	if n < 0 || n+to-from > len(text) || !bytes.Equal(w.old.text[from:to], text[n:n+to-from]) {
		return false
	}
	return t.kind(x) != kindNumber || !continuesNumber(w.new.b[n+t.len(x)])
}

// takeRest reads the new elements from i on: they and the old ones from c on
// are gone or born, but for those that are equal at the end.
func (w *walk) takeRest(a *arrayWalk, c, oEnd, oi int32, i int, ni *int32) int {
	ot, p := w.old.tape, &w.new
	goneBase, bornBase := len(a.gone), len(a.born)
	for ; c < oEnd; c = ot.next(c) {
		a.gone = append(a.gone, element{c, oi})
		oi++
	}
	for {
		a.born = append(a.born, element{int32(len(p.tape)), *ni})
		*ni++
		if i = p.value(i, 0); i < 0 {
			return i
		}
		if i = p.space(i); p.b[i] != ',' {
			break
		}
		i = p.space(i + 1)
	}
	if p.b[i] != ']' {
		return p.fail(i, `"," or "]"`)
	}
	for len(a.gone) > goneBase && len(a.born) > bornBase {
		x, y := len(a.gone)-1, len(a.born)-1
		if !w.equalRaw(a.gone[x].at, a.born[y].at) {
			break
		}
		a.gone, a.born = a.gone[:x], a.born[:y]
	}
	return i + 1
}
