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

// back drops the splices made since then.
func (w *walk) back(m mark) {
	w.splices, w.spliced = w.splices[:m.splices], m.spliced
}

// unfold copies the splices since then, that the new tape is whole from a word
// on.
func (w *walk) unfold(from int32, since mark) {
	t := w.new.tape
	w.spare = w.assemble(w.spare[:0], from, w.splices[since.splices:])
	w.new.tape = append(t[:from], w.spare...)
	w.back(since)
}

// assemble appends the new tape from a word on, which splices lie in.
func (w *walk) assemble(dst tape, from int32, splices []splice) tape {
	for _, s := range splices {
		dst = append(dst, w.new.tape[from:s.at]...)
		n := len(dst)
		dst = append(dst, w.old.tape[s.from:s.to]...)
		dst[n:].shift(int(s.shift))
		from = s.at
	}
	return append(dst, w.new.tape[from:]...)
}

// commit gives the new tape, in the memory of the old one where it can: what
// stays where it is, which most of it does, is not touched then. The old tape is
// gone after that.
func (w *walk) commit() tape {
	t, size := w.old.tape, len(w.new.tape)+int(w.spliced)
	if size > cap(t) || cap(t) > size+tapeRoom(size) || !w.inOrder() {
		if cap(w.spare) < size || cap(w.spare) > size+tapeRoom(size) {
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
		if to += s.to - s.from; s.at+to < s.to {
			copy(t[s.at+to-(s.to-s.from):], t[s.from:s.to])
		}
	}
	end := int32(len(w.new.tape))
	for i := len(w.splices) - 1; i >= 0; i-- {
		s := w.splices[i]
		at := s.at + to
		copy(t[at:], w.new.tape[s.at:end])
		end = s.at
		if to -= s.to - s.from; at > s.to {
			copy(t[s.at+to:], t[s.from:s.to])
		}
		t[s.at+to : at].shift(int(s.shift))
	}
	copy(t, w.new.tape[:end])
	return t[:size]
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

// tapeRoom is how many words a tape may have beside those that it needs.
func tapeRoom(size int) int { return size/8 + 32 }
