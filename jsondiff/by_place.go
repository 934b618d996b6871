package jsondiff

// fewElements is how many elements both arrays have at most for their patch to
// be tried by place.
const fewElements = lookAhead

// fewArrays is how many arrays lie in one another at most where that is tried: it
// may double the time of each.
const fewArrays = 4

// worthByPlace tells whether to try that: elements came, went or moved, and there
// are few. words is how long both arrays are on their tapes.
func (w *walk) worthByPlace(a *alignment, oc, oEnd int32, count, words int, muted bool) bool {
	return len(a.gone)+len(a.born) > 0 && count <= fewElements && w.old.few(oc, oEnd) &&
		w.array <= fewArrays && !w.byPlace && (muted || !w.patch.idle()) && !w.charge(words/8)
}

// tryByPlace keeps the array's operations, from f on, only if they are smaller
// than those that edit each element in its place, and add or remove some at the
// end. Where little stays of an element, a move does not save what it costs. oc
// and nc are the first elements, which end at oEnd and nEnd.
func (w *walk) tryByPlace(oc, oEnd, nc, nEnd int32, f frame, size int, muted bool) bool {
	p := &w.patch
	w.byPlace = true // or each level of arrays would double the time of the next
	defer func() { w.byPlace = false }()
	limit := size
	if muted {
		p.drop(f)
		p.muted--
	} else {
		limit = p.written(f)
	}
	trial := p.open()
	if w.editByPlace(oc, oEnd, nc, nEnd, trial, limit) {
		p.keepLast(f, trial)
		return false
	}
	p.drop(trial)
	if muted {
		p.muted++
	}
	return muted
}

// editByPlace records the operations and tells whether they are smaller than
// limit. Beyond that it writes no more.
func (w *walk) editByPlace(oc, oEnd, nc, nEnd int32, f frame, limit int) bool {
	p := &w.patch
	index := 0
	for ; oc < oEnd && nc < nEnd; index++ {
		w.compareElement(oc, nc, index)
		if p.written(f) >= limit {
			return false
		}
		oc, nc = w.old.tape.next(oc), w.new.tape.next(nc)
	}
	for ; nc < nEnd; index++ {
		at := p.enterIndex(index)
		w.add(nc)
		p.leave(at)
		if p.written(f) >= limit {
			return false
		}
		nc = w.new.tape.next(nc)
	}
	gone := w.old.elements(w.olds[:0], oc, oEnd)
	w.olds = gone
	for i := len(gone) - 1; i >= 0; i-- {
		at := p.enterIndex(index + i)
		w.remove(gone[i])
		p.leave(at)
		if p.written(f) >= limit {
			return false
		}
	}
	return true
}

// few tells whether there are at most fewElements from one on.
func (s *source) few(c, end int32) bool {
	for range fewElements {
		if c >= end {
			return true
		}
		c = s.tape.next(c)
	}
	return c >= end
}
