package jsondiff

// differs tells whether there is a difference that counts.
func (w *walk) differs() bool {
	if !w.patch.doubtful || w.patch.seen {
		return w.patch.seen
	}
	// Elements were matched that do not stand in the same place, so where the
	// operations go does not say what differs.
	w.unfold(0, mark{})
	w.patch.path = w.patch.path[:0]
	return !w.sameBut(0, 0)
}

// sameBut tells whether two values at the path are the same document but for
// what is ignored. It takes one look at each of their values, and so needs no
// bound.
func (w *walk) sameBut(o, n int32) bool {
	k := w.old.tape.kind(o)
	switch {
	case w.patch.covered():
		return true
	case k != w.new.tape.kind(n):
		return false
	case k >= kindString:
		return w.sameScalar(k, o, n)
	case !w.cut && w.equalRaw(o, n):
		return true
	case k == kindArray:
		return w.sameElementsBut(o, n)
	}
	base := len(w.members)
	w.pair(o, n)
	end := len(w.members)
	same := true
	for i := base; i < end && same; i++ {
		m := w.members[i]
		name := w.old.name
		at := m.old
		if at < 0 {
			name, at = w.new.name, m.new
		}
		level := w.patch.enterName(name(at))
		if m.old < 0 || m.new < 0 {
			same = w.patch.covered()
		} else {
			same = w.sameBut(m.old, m.new)
		}
		w.patch.leave(level)
	}
	w.members = w.members[:base]
	return same
}

func (w *walk) sameElementsBut(o, n int32) bool {
	ot, nt := w.old.tape, w.new.tape
	oEnd, nEnd := ot.stop(o), nt.stop(n)
	oc, nc := ot.inside(o), nt.inside(n)
	for i := 0; oc < oEnd || nc < nEnd; i++ {
		level := w.patch.enterIndex(i)
		same := false
		if oc < oEnd && nc < nEnd {
			same = w.sameBut(oc, nc)
		} else {
			same = w.patch.covered()
		}
		w.patch.leave(level)
		if !same {
			return false
		}
		if oc < oEnd {
			oc = ot.next(oc)
		}
		if nc < nEnd {
			nc = nt.next(nc)
		}
	}
	return true
}
