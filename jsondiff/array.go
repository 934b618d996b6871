package jsondiff

import (
	"hash/maphash"
	"sort"
)

// element is an array's element that has no counterpart yet.
type element struct {
	at    int32 // on its tape
	index int32 // in its array
}

// arrayWalk is what is known of two arrays: which old elements are gone and
// which new ones were born. All others are anchors: they pair up in order.
//
// The operations that change the array's structure are written first, so that
// edits inside its elements can name them by their final index, which is known
// while the new text is read.
type arrayWalk struct {
	gone, born []element

	mate   []int32 // for each born one, the index in gone it stems from, or -1
	stays  []bool  // for each born one, whether its mate is in order with the anchors
	taken  []int32 // for each gone one, 1 + the index in born that took it, or 0
	chain  []int32 // for each gone one, the next with the same content
	tails  []int32 // longest increasing subsequence, see inOrder
	prev   []int32
	movers []int32 // indices in gone, in their order
	rank   []int32 // for each gone one, how many elements that stay come before it
	tree   []int32 // Fenwick tree over movers that were not moved yet
	// strangers: no element had a mate but for its place.
	strangers bool

	kept []int32 // the final index of each element that stays
}

// openArray and closeArray take and give back one arrayWalk for each depth.
func (w *walk) openArray() *arrayWalk {
	if w.array == len(w.arrays) {
		w.arrays = append(w.arrays, &arrayWalk{})
	}
	a := w.arrays[w.array]
	w.array++
	a.gone, a.born = a.gone[:0], a.born[:0]
	return a
}

func (w *walk) closeArray() { w.array-- }

// compareArrays writes the difference of two arrays that are both on tapes.
func (w *walk) compareArrays(o, n int32, f frame) (muted bool) {
	a := w.openArray()
	defer w.closeArray()
	ot, nt := w.old.tape, w.new.tape
	oEnd, nEnd := ot.stop(o), nt.stop(n)
	oc, nc := ot.inside(o), nt.inside(n)
	index := int32(0)
	for oc < oEnd && nc < nEnd && w.equalRaw(oc, nc) {
		oc = ot.next(oc)
		nc = nt.next(nc)
		index++
	}
	oi, ni := index, index
	for ; oc < oEnd; oc = ot.next(oc) {
		a.gone = append(a.gone, element{oc, oi})
		oi++
	}
	for ; nc < nEnd; nc = nt.next(nc) {
		a.born = append(a.born, element{nc, ni})
		ni++
	}
	for len(a.gone) > 0 && len(a.born) > 0 {
		x, y := len(a.gone)-1, len(a.born)-1
		if !w.equalRaw(a.gone[x].at, a.born[y].at) {
			break
		}
		a.gone, a.born = a.gone[:x], a.born[:y]
	}
	return w.alignArray(a, f, nt.len(n), int(ni))
}

// alignArray pairs what is gone with what was born and writes the operations.
// f is where the array's operations begin, size and count are the new array's
// bytes and elements.
func (w *walk) alignArray(a *arrayWalk, f frame, size, count int) (muted bool) {
	if len(a.gone) == 0 && len(a.born) == 0 || w.patch.idle() {
		return false
	}
	w.pairElements(a)
	a.findMovers()
	middle := len(w.patch.out)
	// A move is no smaller than this: do not work one out for nothing.
	const moveCost = 34
	if (len(a.movers))*moveCost > size+len(w.patch.path)+opCost {
		w.patch.note()
		if w.patch.muted == 0 {
			w.patch.muted++
			muted = true
		}
		if w.patch.idle() {
			return muted
		}
	}
	muted = w.writeStructure(a, f, size, count, muted)
	if w.patch.muted == 0 {
		w.patch.rotate(f.start, middle)
	}
	edits, read := len(w.patch.out), 0
	for j, i := range a.mate {
		if a.strangers && count == len(a.born) && !muted && w.patch.muted == 0 {
			// No element was found again, and the first ones have nothing in
			// common: the rest is not worth a look.
			if j >= strangersToTry && len(w.patch.out)-edits > read {
				w.patch.muted++
				muted = true
				if w.patch.idle() {
					break
				}
			}
			read += w.new.tape.len(a.born[j].at)
		}
		if i < 0 || w.equalRaw(a.gone[i].at, a.born[j].at) {
			continue
		}
		at := w.patch.enterIndex(int(a.born[j].index))
		w.compare(a.gone[i].at, a.born[j].at)
		w.patch.leave(at)
		muted = muted || w.giveUp(f, size)
		if w.patch.idle() {
			break
		}
	}
	return muted
}

// pairElements finds each born element's mate: by key, else by content, and
// what is left over by place, because to edit or replace an element costs less
// than to remove one and add another.
func (w *walk) pairElements(a *arrayWalk) {
	a.separate()
	a.strangers = false
	if len(a.gone) == 0 || len(a.born) == 0 {
		return
	}
	keyed := w.pairByKey(a)
	if !keyed {
		w.pairByContent(a)
	}
	a.inOrder()
	if !keyed {
		// Where the element is short, to write it anew is shorter than to move it.
		for j, i := range a.mate {
			if i >= 0 && !a.stays[j] && w.new.tape.len(a.born[j].at) < 16+len(w.patch.path) {
				a.mate[j] = -1
				a.taken[i] = 0
			}
		}
	}
	a.strangers = true
	for _, i := range a.mate {
		if i >= 0 {
			a.strangers = false
			break
		}
	}
	a.pairByPlace()
}

// separate leaves every element without a mate.
func (a *arrayWalk) separate() {
	a.mate = grow(a.mate, len(a.born))
	a.stays = grow(a.stays, len(a.born))
	a.taken = grow(a.taken, len(a.gone))
	clear(a.stays)
	clear(a.taken)
	for j := range a.mate {
		a.mate[j] = -1
	}
}

// strangersToTry is how many pairs tell what the others will be like.
const strangersToTry = 16

// pairByContent pairs elements with the same bytes, the first with the first.
func (w *walk) pairByContent(a *arrayWalk) {
	t := &w.names
	t.reset(len(a.gone))
	a.chain = grow(a.chain, len(a.gone))
	for i := len(a.gone) - 1; i >= 0; i-- {
		raw := w.old.raw(a.gone[i].at)
		w.charge(len(raw))
		hash := maphash.Bytes(hashSeed, raw)
		at, next := t.first(hash)
		for at.key != 0 && string(w.old.raw(a.gone[at.key-1].at)) != string(raw) {
			at, next = t.after(hash, next)
		}
		a.chain[i] = at.key - 1
		*at = slot{hash: hash, key: int32(i + 1)}
	}
	// A slot keeps its key as the proof of its content; next counts on from
	// there once the first one is taken.
	for j := range a.born {
		raw := w.new.raw(a.born[j].at)
		w.charge(len(raw))
		hash := maphash.Bytes(hashSeed, raw)
		at, next := t.first(hash)
		for at.key != 0 && string(w.old.raw(a.gone[at.key-1].at)) != string(raw) {
			at, next = t.after(hash, next)
		}
		if at.key == 0 {
			continue
		}
		i := at.key - 1
		if at.next != 0 {
			i = at.next - 2
		}
		if i >= 0 {
			a.mate[j] = i
			a.taken[i] = int32(j + 1)
			at.next = a.chain[i] + 2
		}
	}
}

// gap is how many anchors come before the element number i of a list: gone and
// born ones with the same gap lie between the same two anchors.
func gap(list []element, i int) int32 { return list[i].index - int32(i) }

// inOrder chooses the mates that stay where they are: a longest subsequence
// that increases, of those that lie between the same anchors.
func (a *arrayWalk) inOrder() {
	a.tails = a.tails[:0]
	a.prev = grow(a.prev, len(a.born))
	for j, i := range a.mate {
		if i < 0 || gap(a.gone, int(i)) != gap(a.born, j) {
			continue
		}
		k := len(a.tails)
		if k > 0 && a.mate[a.tails[k-1]] > i {
			k = sort.Search(k, func(k int) bool { return a.mate[a.tails[k]] >= i })
		}
		a.prev[j] = -1
		if k > 0 {
			a.prev[j] = a.tails[k-1]
		}
		if k == len(a.tails) {
			a.tails = append(a.tails, int32(j))
		} else {
			a.tails[k] = int32(j)
		}
	}
	if k := len(a.tails); k > 0 {
		for j := a.tails[k-1]; j >= 0; j = a.prev[j] {
			a.stays[j] = true
		}
	}
}

// pairByPlace pairs what has no mate yet, in order, within each run between
// elements that stay.
func (a *arrayWalk) pairByPlace() {
	i := 0
	for j := 0; j < len(a.born); j++ {
		switch {
		case a.stays[j]:
			i = int(a.mate[j]) + 1
			continue
		case a.mate[j] >= 0:
			continue
		}
		g := gap(a.born, j)
		for i < len(a.gone) && (gap(a.gone, i) < g || gap(a.gone, i) == g && a.taken[i] != 0 && !a.stays[a.taken[i]-1]) {
			i++
		}
		if i < len(a.gone) && gap(a.gone, i) == g && a.taken[i] == 0 {
			a.mate[j] = int32(i)
			a.taken[i] = int32(j + 1)
			a.stays[j] = true
			i++
		}
	}
}

// findMovers lists the elements that stay in the array but not in their place,
// and counts for each gone one how many that stay come before it.
func (a *arrayWalk) findMovers() {
	a.movers = a.movers[:0]
	a.rank = grow(a.rank, len(a.gone))
	staying := int32(0)
	for i := range a.gone {
		a.rank[i] = gap(a.gone, i) + staying
		switch j := a.taken[i] - 1; {
		case j < 0:
		case a.stays[j]:
			staying++
		default:
			a.movers = append(a.movers, int32(i))
		}
	}
}

// writeStructure writes the removals from the end, so that none shifts the
// next, then moves and additions from the front, each to its final place.
func (w *walk) writeStructure(a *arrayWalk, f frame, size, count int, muted bool) bool {
	p := &w.patch
	for i := len(a.gone) - 1; i >= 0; i-- {
		if a.taken[i] != 0 {
			continue
		}
		at := p.enterIndex(int(a.gone[i].index))
		p.remove()
		p.leave(at)
		if muted = muted || w.giveUp(f, size); p.idle() {
			return muted
		}
	}
	if len(a.movers) > 0 {
		a.listKept(count)
	}
	staying := int32(0) // born ones that stay, before j
	passed := 0         // movers that came before the last one that stays before j
	for j := range a.born {
		if a.stays[j] {
			staying++
			continue
		}
		to := int(a.born[j].index)
		rank := gap(a.born, j) + staying
		for passed < len(a.movers) && a.rank[a.movers[passed]] < rank {
			passed++
		}
		if i := a.mate[j]; i < 0 {
			if len(a.movers) > 0 {
				to += a.strays(passed)
			}
			at := p.enterIndex(to)
			p.add(w.new.raw(a.born[j].at), w.new.spaced)
			p.leave(at)
		} else {
			m := sort.Search(len(a.movers), func(m int) bool { return a.movers[m] >= i })
			a.unstray(m)
			// All elements up to to are final and lie before the mover, but
			// for those behind the next one that stays, if that is final too.
			from := a.strays(m)
			if r := a.rank[i]; r < rank {
				from += int(a.kept[r])
			} else {
				from += to + int(r-rank)
			}
			if to += a.strays(passed); from != to {
				p.move(from, to)
			}
		}
		if muted = muted || w.giveUp(f, size); p.idle() {
			return muted
		}
	}
	return muted
}

// listKept lists the final index of each element that stays, and counts every
// mover as one that strays.
func (a *arrayWalk) listKept(count int) {
	a.kept = a.kept[:0]
	j := 0
	for index := int32(0); int(index) < count; index++ {
		if j < len(a.born) && a.born[j].index == index {
			j++
			if !a.stays[j-1] {
				continue
			}
		}
		a.kept = append(a.kept, index)
	}
	a.tree = grow(a.tree, len(a.movers)+1)
	for m := range a.tree {
		a.tree[m] = int32(m & -m)
	}
}

// strays counts the movers before number m that were not moved yet.
func (a *arrayWalk) strays(m int) int {
	n := int32(0)
	for ; m > 0; m -= m & -m {
		n += a.tree[m]
	}
	return int(n)
}

func (a *arrayWalk) unstray(m int) {
	for m++; m < len(a.tree); m += m & -m {
		a.tree[m]--
	}
}

// grow gives a slice of n elements, whatever they hold.
func grow[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n, n+n/4)
	}
	return s[:n]
}
