package jsondiff

// splice is a run of words of the old tape that the new one takes over, behind
// at words that were read anew; the text stands shifted.
type splice struct{ at, from, to, shift int32 }

// mark is how far the splices had come.
type mark struct {
	splices int
	spliced int32
}

func (w *walk) mark() mark { return mark{len(w.splices), w.spliced} }

// drop forgets the splices made since then.
func (w *walk) drop(m mark) {
	w.splices, w.spliced = w.splices[:m.splices], m.spliced
}

// unfold carries out the splices since then, all of which lie behind a word:
// from there on the new tape can be read as the old one can.
func (w *walk) unfold(from int32, since mark) {
	t := w.new.tape
	size := len(t) - int(from) + int(w.spliced-since.spliced)
	w.spare = w.assemble(double(w.spare[:0], size), from, w.splices[since.splices:])
	w.new.tape = append(double(t[:from], size), w.spare...)
	w.drop(since)
}

// assemble appends the new tape from a word on, which splices lie in.
func (w *walk) assemble(dst tape, from int32, splices []splice) tape {
	for _, s := range splices {
		dst = append(dst, w.new.tape[from:s.at]...)
		for _, old := range w.old.tape[s.from:s.to] {
			dst = append(dst, old.shifted(word(s.shift)))
		}
		from = s.at
	}
	return append(dst, w.new.tape[from:]...)
}

// commit returns the new tape, in the memory of the old one if it can: what
// stays where it is, which most of it does, is not touched then. The old tape is
// gone after that.
func (w *walk) commit() tape {
	t, size := w.old.tape, len(w.new.tape)+int(w.spliced)
	if !t.fits(size) || !w.inOrder() {
		if !w.spare.fits(size) {
			w.spare = make(tape, 0, size+tapeRoom(size)/2)
		}
		w.spare, t = t, w.assemble(w.spare[:0], 0, w.splices)
		return t
	}
	t = t[:max(size, len(t))]
	// To the left in the order of the tape, then to the right from its end:
	// so nothing is written over before it has moved.
	to := int32(0)
	for _, s := range w.splices {
		if at := s.at + to; at < s.from || at == s.from && s.shift != 0 {
			t.move(at, s)
		}
		to += s.to - s.from
	}
	end := int32(len(w.new.tape))
	for i := len(w.splices) - 1; i >= 0; i-- {
		s := w.splices[i]
		copy(t[s.at+to:], w.new.tape[s.at:end])
		end = s.at
		to -= s.to - s.from
		if at := s.at + to; at > s.from {
			t.move(at, s)
		}
	}
	copy(t, w.new.tape[:end])
	return t[:size]
}

// move takes over a splice within the memory of the old tape.
func (t tape) move(at int32, s splice) {
	from, by := t[s.from:s.to], word(s.shift)
	to := t[at:][:len(from)]
	if at <= s.from {
		for i, old := range from {
			to[i] = old.shifted(by)
		}
		return
	}
	for i := len(from) - 1; i >= 0; i-- {
		to[i] = from[i].shifted(by)
	}
}

// inOrder tells whether the splices follow each other in the old tape, too.
func (w *walk) inOrder() bool {
	last := int32(0)
	for _, s := range w.splices {
		if s.from < last {
			return false
		}
		last = s.to
	}
	return true
}

// fits tells whether a tape's memory has room for so many words, and not for
// many more.
func (t tape) fits(size int) bool { return size <= cap(t) && cap(t) <= size+tapeRoom(size) }

// tapeRoom is how many words a tape may have besides those that it needs.
func tapeRoom(size int) int { return size/8 + 32 }
