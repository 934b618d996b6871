package jsondiff

import (
	"bytes"
	"math"
)

// arrayStep is where the lock-step walk stands in two arrays.
type arrayStep struct {
	begins int // offset in the new text
	oldLen int

	c, end  int32 // the next old element, and where they end
	oldEnd  int   // in the old text
	oi, ni  int32 // index of the next old and new element
	after   int   // offset after the last new element
	inStep  bool  // w.lock covers what follows there and before c
	shifted bool  // some new element is not at the index of its old one
	key     []byte
	guessed bool // key was looked for
	muted   bool

	a *alignment
	f frame
}

// followArray walks the elements of the array at n.
//
// While elements are equal or changed in place the walk goes on in step. Where
// they differ it looks a little ahead for a place to step on again, and takes
// what lies before as gone or born. If it finds none, it reads all the rest
// and aligns that.
func (w *walk) followArray(o int32, n int, self int32, f frame, since mark) (end int, muted bool) {
	a := w.openArray()
	defer w.closeArray()
	first := int32(len(w.new.tape))
	x := arrayStep{
		begins: n, oldLen: w.old.tape.len(o), a: a, f: f,
		c: w.old.tape.inside(o), end: w.old.tape.stop(o), oldEnd: w.old.tape.end(o),
		after: n + 1, inStep: true, key: w.configuredKey(),
	}
	x.guessed = x.key != nil
	end = w.stepElements(&x)
	if end >= 0 {
		size := x.oldLen + end - n
		w.takeGone(&x, end)
		if w.crossing(&x, since) {
			w.alignAll(&x, o, first, since)
		}
		x.muted = w.writeAlignment(a, f, size, int(x.ni), x.muted)
		oc := w.old.tape.inside(o)
		if words := len(w.new.tape) - int(first) + int(w.spliced-since.spliced) + int(x.end-oc); w.worthByPlace(a, oc, x.end, int(x.ni), words, x.muted) {
			w.unfold(first, since)
			x.muted = w.tryByPlace(oc, x.end, first, int32(len(w.new.tape)), f, size, x.muted)
		}
	}
	if x.shifted {
		w.patch.shifted--
	}
	if end >= 0 {
		w.close(self, kindArray, end-n, since)
	}
	return end, x.muted
}

// stepElements reads the elements and returns the offset after the array.
func (w *walk) stepElements(x *arrayStep) int {
	ot, p := w.old.tape, &w.new
	for {
		if x.inStep {
			if c, end, count := ot.before(x.c, x.end, w.lock.eq); count > 0 {
				w.splice(x.c, c)
				x.c, x.after = c, end+w.lock.shift
				x.oi += int32(count)
				x.ni += int32(count)
			}
		}
		if x.inStep && x.c == x.end && x.oldEnd <= w.lock.eq {
			return x.oldEnd + w.lock.shift
		}
		i := p.space(x.after)
		if p.b[i] == ']' {
			return i + 1
		}
		if x.ni > 0 {
			if p.b[i] != ',' {
				return p.fail(i, `"," or "]"`)
			}
			i = p.space(i + 1)
		}
		if x.c == x.end {
			if x.after = w.readTail(x, i); x.after < 0 {
				return x.after
			}
			continue
		}
		if done := w.stepOne(x, i); done != 0 {
			return done
		}
	}
}

// stepOne goes on by at least one element, of which the new one is at i. It
// returns 0, or the offset after the array, or a negative one on an error.
func (w *walk) stepOne(x *arrayStep, i int) int {
	w.meet(w.old.tape.off(x.c), i)
	if !x.guessed {
		x.guessed = true
		x.key = likelyKey(&w.old, x.c)
	}
	if w.cut || w.patch.idle() || w.equalHere(x.c) || w.surelySame(x.c, x.key) {
		return w.stepInto(x, i)
	}
	p := &w.new
	at := int32(len(p.tape))
	after := w.read(i, 0)
	if after < 0 {
		return after
	}
	w.charge(1 + (after-i)/readBytes)
	value := w.keyRaw(at, x.key)
	if w.hasKey(x.c, x.key, value) {
		w.compareElement(x.c, at, int(x.ni))
		x.after = after
		w.stepped(x, x.c, 1)
		return 0
	}
	step, gone, born := w.findStep(x, at, after, value)
	if p.err != nil {
		return -1
	}
	if step != 1 && !x.shifted && (w.same(x.c, at) || w.cut) {
		// The same content at the same index: the array may be the same as a
		// whole, so its elements are not taken for others.
		step, gone, born = 1, 0, 0
	}
	switch {
	case step == 1:
		w.compareStep(x, at, 1)
	case gone > 0:
		p.tape = p.tape[:at] // read again, as the counterpart of a later one
		x.shift(w)
		for range gone {
			x.goPast(w)
		}
		return w.stepInto(x, i)
	case born > 0:
		x.shift(w)
		for range born {
			x.a.born = append(x.a.born, bornElement{at: at, index: x.ni})
			x.after = p.tape.end(at)
			at = p.tape.next(at)
			x.ni++
		}
		p.tape = p.tape[:at]
		x.inStep = false
	case step > 1:
		w.compareStep(x, at, step)
	default:
		p.tape = p.tape[:at]
		x.shift(w)
		return w.readRest(x, i)
	}
	return 0
}

// stepInto follows the next old element into its counterpart at i.
func (w *walk) stepInto(x *arrayStep, i int) int {
	level := w.patch.enterIndex(int(x.ni))
	x.after = w.follow(x.c, i, 0)
	w.patch.leave(level)
	if x.after < 0 {
		return x.after
	}
	w.stepped(x, x.c, 1)
	return 0
}

// compareElement compares an element that was read already with an old one.
func (w *walk) compareElement(o, n int32, index int) {
	level := w.patch.enterIndex(index)
	w.compare(o, n)
	w.patch.leave(level)
}

// compareStep compares elements that were read already, from at on, each with
// the old one in its place.
func (w *walk) compareStep(x *arrayStep, at int32, step int) {
	p := &w.new
	c, last := x.c, x.c
	if step > 1 && x.key == nil && w.alignStep(x, at, step) {
		for range step {
			last, c = c, w.old.tape.next(c)
			x.after = p.tape.end(at)
			at = p.tape.next(at)
		}
	} else {
		for k := range step {
			if w.replaced(x, c, at) {
				x.shift(w)
				x.a.gone = append(x.a.gone, goneElement{at: c, index: x.oi + int32(k)})
				x.a.born = append(x.a.born, bornElement{at: at, index: x.ni + int32(k)})
			} else {
				w.compareElement(c, at, int(x.ni)+k)
			}
			last, c = c, w.old.tape.next(c)
			x.after = p.tape.end(at)
			at = p.tape.next(at)
		}
	}
	p.tape = p.tape[:at]
	w.stepped(x, last, step)
}

// replaced tells whether a new element has another key than the old one in its
// place, and other content: then either may have its counterpart elsewhere.
func (w *walk) replaced(x *arrayStep, c, at int32) bool {
	value := w.keyRaw(at, x.key)
	return value != nil && !w.cut && !w.hasKey(c, x.key, value) && !w.same(c, at) && !w.cut
}

// stepped goes on behind elements that were compared, the last of them last.
func (w *walk) stepped(x *arrayStep, last int32, step int) {
	x.c = w.old.tape.next(last)
	x.oi += int32(step)
	x.ni += int32(step)
	x.muted = x.muted || w.giveUp(x.f, x.oldLen+x.after-x.begins)
	x.inStep = true
	w.meet(w.old.tape.end(last), x.after)
}

// goPast takes the next old element as gone.
func (x *arrayStep) goPast(w *walk) {
	x.a.gone = append(x.a.gone, goneElement{at: x.c, index: x.oi})
	x.c = w.old.tape.next(x.c)
	x.oi++
}

// takeGone takes all old elements that are left as gone.
func (w *walk) takeGone(x *arrayStep, end int) {
	for x.c < x.end && !w.patch.idle() {
		x.goPast(w)
		x.muted = x.muted || w.tooManyLeft(len(x.a.gone)-len(x.a.born), end-x.begins)
	}
}

// readTail reads the new element at i, which no old one is left for.
func (w *walk) readTail(x *arrayStep, i int) int {
	if !w.patch.idle() {
		x.a.born = append(x.a.born, bornElement{at: int32(len(w.new.tape)), index: x.ni})
		x.muted = x.muted || w.tooManyLeft(len(x.a.born)-len(x.a.gone), x.oldLen)
	}
	x.ni++
	x.inStep = false
	return w.read(i, 0)
}

// tooManyLeft mutes an array if elements without a counterpart alone make the
// operations larger than size, the rest of it.
func (w *walk) tooManyLeft(count, size int) bool {
	if count > 16 && count > (size+len(w.patch.path)+opCost)/minOpSize {
		w.patch.mute()
		return true
	}
	return false
}

// minOpSize is the size of an operation besides its value, at the least.
const minOpSize = len(`{"op":"remove","path":"/0"},`)

// shift remembers that indices have stopped to tell which elements belong
// together.
func (x *arrayStep) shift(w *walk) {
	if !x.shifted {
		x.shifted = true
		w.patch.shifted++
	}
}

// readRest reads the new elements from i on, and aligns them with the old ones
// that are left.
func (w *walk) readRest(x *arrayStep, i int) int {
	p := &w.new
	w.olds, w.news = w.old.elements(w.olds[:0], x.c, x.end), w.news[:0]
	if cap(w.news) < len(w.olds) {
		w.news = make([]int32, 0, len(w.olds)+len(w.olds)/8)
	}
	x.c = x.end
	for {
		w.news = append(w.news, int32(len(p.tape)))
		if i = w.read(i, 0); i < 0 {
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
	w.alignRun(x.a, x.oi, x.ni, x.key != nil)
	x.oi += int32(len(w.olds))
	x.ni += int32(len(w.news))
	return i + 1
}

// alignAll forgets what the steps have found and aligns all elements.
func (w *walk) alignAll(x *arrayStep, o, first int32, since mark) {
	w.patch.drop(x.f)
	x.a.gone, x.a.born = x.a.gone[:0], x.a.born[:0]
	w.unfold(first, since)
	w.olds = w.old.elements(w.olds[:0], w.old.tape.inside(o), x.end)
	w.news = w.new.elements(w.news[:0], first, int32(len(w.new.tape)))
	w.alignRun(x.a, 0, 0, x.key != nil)
}

// crossing tells whether more than one keyed element left its place, or, without
// a key, more elements than they passed on their way: then what looked like
// steps in place may be what others moved across, and to align all elements
// moves fewer.
func (w *walk) crossing(x *arrayStep, since mark) bool {
	a := x.a
	if len(a.gone) < 2 || len(a.born) < 2 || x.muted || w.patch.idle() || a.hopeless || !w.affordable(int(x.oi+x.ni)) ||
		w.charge((len(w.new.tape)+int(w.spliced-since.spliced))/8) {
		return false
	}
	if x.key != nil {
		w.pairElements(a)
		movers := 0
		for j := range a.born {
			if a.born[j].mate >= 0 && !a.born[j].stays {
				movers++
			}
		}
		return movers > 1
	}
	a.separate()
	w.pairByContent(a, true)
	left, first, last := int32(0), int32(math.MaxInt32), int32(0)
	for j := range a.born {
		i := a.born[j].mate
		if i < 0 {
			continue
		}
		if from, to := a.goneGap(int(i)), a.bornGap(j); from != to {
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
		return k >= 0 && t.end(k) < w.lock.eq
	}
	return t.kind(c) < kindString && t.len(c) > 4096 && w.lock.eq-t.off(c) > t.len(c)/2
}

// lookAhead is how many old members or elements are looked at for the one that
// stands next in the new text.
const lookAhead = 32

// findStep decides what became of the next old element, if the entry at at,
// which ends at after, is the next new one and has another key, with this value:
// step elements changed in place, or some old ones are gone, or some new ones were
// born, before the next two that belong together. All zero is: none found. New
// elements it read to find out stay on the tape behind at.
func (w *walk) findStep(x *arrayStep, at int32, after int, value []byte) (step, gone, born int) {
	ot, p := w.old.tape, &w.new
	c, key := x.c, x.key
	c2 := ot.next(c)
	next := w.nextElement(after)
	if c2 >= x.end && next < 0 || c2 < x.end && w.standsAt(c2, next, x.oldEnd) {
		return 1, 0, 0
	}
	if w.standsAt(c, next, x.oldEnd) {
		return 0, 0, 1
	}
	from := p.tape.off(at)
	limit := lookAhead
	for k, y := 1, c2; k <= lookAhead && y < x.end && !w.cut; k++ {
		if w.standsAt(y, from, x.oldEnd) || w.hasKey(y, key, value) {
			gone, limit = k, k-1
			break
		}
		y = ot.next(y)
	}
	y := c2
	for j := 1; j <= limit && next >= 0 && !w.cut; j++ {
		// j elements were read; the next one is the counterpart of c, or of
		// the old one as far on.
		if w.standsAt(c, next, x.oldEnd) {
			return 0, 0, j
		}
		if y < x.end && w.standsAt(y, next, x.oldEnd) {
			return j, 0, 0
		}
		e := int32(len(p.tape))
		if after = w.read(next, 0); after < 0 {
			return 0, 0, 0
		}
		w.charge(1 + (after-next)/readBytes)
		value := w.keyRaw(e, key)
		if w.hasKey(c, key, value) {
			return 0, 0, j
		}
		if y < x.end {
			if w.hasKey(y, key, value) {
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

// nextElement returns the offset of the element after the one that ended at i, or
// -1 if there is none.
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
	if n < 0 || n+to-from > len(text) {
		return false
	}
	if to-from > comparedBytes {
		w.charge((to - from) / comparedBytes)
	}
	if !bytes.Equal(w.old.text[from:to], text[n:n+to-from]) {
		return false
	}
	return t.kind(x) != kindNumber || !continuesNumber(w.new.b[n+t.len(x)])
}
