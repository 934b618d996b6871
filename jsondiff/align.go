package jsondiff

import (
	"hash/maphash"
	"slices"
	"sort"
)

// alignment is what is known of two arrays: which old elements are gone and
// which new ones were born. All others are anchors: they pair up in order.
//
// The operations that change the array's structure stand before those inside
// its elements, which therefore name them by their final index. That is known
// while the new text is read.
type alignment struct {
	gone []goneElement
	born []bornElement
	// paired: every element that was listed so far has found its mate, if it
	// has one.
	paired bool
	// strangers: no element had a mate but for its place.
	strangers bool
	// hopeless: there are more elements without a counterpart than is worth
	// their memory.
	hopeless bool
}

// goneElement is an old element that has no counterpart yet.
type goneElement struct {
	at    int32 // on its tape
	index int32 // in its array
	taken int32 // 1 + the index in born of what stems from it, or 0
	rank  int32 // how many elements that stay come before it
}

// bornElement is a new element that has no counterpart yet.
type bornElement struct {
	at    int32 // on its tape
	index int32 // in its array
	mate  int32 // the index in gone of what it stems from, or -1
	stays bool  // the mate is in order with the anchors
}

// pairing is memory for one array at a time.
type pairing struct {
	table hashTable // of gone elements by content; to compare two needs the walk's own
	chain []int32   // for each gone element, the next with the same hash, counted from 1
	keys  []int32   // for each gone element, its key on its tape
	tails []int32   // longest increasing subsequence, see inOrder
	prev  []int32

	movers []int32 // indices in gone of elements that move, in their order
	strays []int32 // Fenwick tree over movers that were not moved yet
	kept   []int32 // the final index of each element that stays
}

// openArray and closeArray take and give back one alignment for each depth.
func (w *walk) openArray() *alignment {
	if w.array == len(w.arrays) {
		w.arrays = append(w.arrays, &alignment{})
	}
	a := w.arrays[w.array]
	w.array++
	a.gone, a.born, a.paired, a.hopeless = a.gone[:0], a.born[:0], false, false
	return a
}

func (w *walk) closeArray() { w.array-- }

// goneGap and bornGap are how many anchors come before an element: gone and
// born ones with the same gap lie between the same two anchors.
func (a *alignment) goneGap(i int) int32 { return a.gone[i].index - int32(i) }
func (a *alignment) bornGap(j int) int32 { return a.born[j].index - int32(j) }

// affordable tells whether so many elements may be remembered.
func (w *walk) affordable(count int) bool {
	return count <= 4096+(len(w.old.text)+len(w.new.text))/8
}

// compareArrays records the difference of two arrays that are both on tapes.
func (w *walk) compareArrays(o, n int32, f frame) (muted bool) {
	ot, nt := w.old.tape, w.new.tape
	oEnd, nEnd := ot.stop(o), nt.stop(n)
	oc, nc := ot.inside(o), nt.inside(n)
	index := int32(0)
	for oc < oEnd && nc < nEnd && (w.equalRaw(oc, nc) || w.same(oc, nc)) {
		oc, nc = ot.next(oc), nt.next(nc)
		index++
	}
	size := nt.len(n)
	for w.cut && oc < oEnd && nc < nEnd && !w.patch.idle() {
		// Nothing is searched any more: elements belong together by their place.
		at := w.patch.enterIndex(int(index))
		w.compare(oc, nc)
		w.patch.leave(at)
		muted = muted || w.giveUp(f, size)
		oc, nc = ot.next(oc), nt.next(nc)
		index++
	}
	if oc == oEnd && nc == nEnd || w.patch.idle() {
		return muted
	}
	a := w.openArray()
	defer w.closeArray()
	// Up to here an index is a place in both; behind it only at the arrays' end.
	shifted := 0
	keyed := false
	if oc < oEnd && nc < nEnd {
		shifted = 1
		keyed = w.configuredKey() != nil || likelyKey(&w.old, oc) != nil
	}
	w.olds, w.news = w.old.elements(w.olds[:0], oc, oEnd), w.new.elements(w.news[:0], nc, nEnd)
	if extra := max(len(w.olds)-len(w.news), len(w.news)-len(w.olds)); w.tooManyLeft(extra, size) {
		return true
	}
	count := int(index) + len(w.news)
	w.alignRun(a, index, index, keyed)
	w.patch.shifted += shifted
	muted = w.writeAlignment(a, f, size, count, muted)
	if oc, nc = ot.inside(o), nt.inside(n); w.worthByPlace(a, oc, oEnd, count, int(oEnd-oc+nEnd-nc), muted) {
		muted = w.tryByPlace(oc, oEnd, nc, nEnd, f, size, muted)
	}
	w.patch.shifted -= shifted
	return muted
}

// alignRun aligns the elements of w.olds and w.news, which begin at the indices
// oi and ni: those that no counterpart is found for are appended to a.
func (w *walk) alignRun(a *alignment, oi, ni int32, keyed bool) {
	a.paired = false
	olds, news := w.olds, w.news
	for len(olds) > 0 && len(news) > 0 && w.equalRaw(olds[len(olds)-1], news[len(news)-1]) {
		olds, news = olds[:len(olds)-1], news[:len(news)-1]
	}
	if !keyed && w.short(olds, news) && w.script.find(w, olds, news) {
		w.appendScript(a, olds, news, oi, ni)
		return
	}
	if !w.affordable(len(olds) + len(news)) {
		a.hopeless = true
		return
	}
	a.gone = slices.Grow(a.gone, len(olds))
	a.born = slices.Grow(a.born, len(news))
	for i, at := range olds {
		a.gone = append(a.gone, goneElement{at: at, index: oi + int32(i)})
	}
	for j, at := range news {
		a.born = append(a.born, bornElement{at: at, index: ni + int32(j)})
	}
}

// writeAlignment pairs what is gone with what was born and records the
// operations. f is where the array's operations begin, size and count are the
// new array's bytes and elements.
func (w *walk) writeAlignment(a *alignment, f frame, size, count int, muted bool) bool {
	p := &w.patch
	if len(a.gone) == 0 && len(a.born) == 0 && !a.hopeless || p.idle() {
		return muted
	}
	if !a.hopeless {
		w.pairElements(a)
		w.pairs.listMovers(a)
	}
	middle := p.open()
	// A move is no smaller than this: do not work one out for nothing.
	const moveCost = 34
	if a.hopeless || len(w.pairs.movers) > (size+len(p.path)+opCost)/moveCost {
		p.mute()
		return true
	}
	muted = w.writeStructure(a, f, size, count, muted)
	if p.idle() {
		return muted
	}
	if f.text < middle.text && middle.text < len(p.text) {
		if n := len(p.text) - f.text; n > 1<<14 && w.charge(n/comparedBytes) {
			p.mute()
			return true
		}
		p.rotate(f, middle)
	}
	edits, read := p.open(), 0
	for j := range a.born {
		e := &a.born[j]
		if a.strangers && count == len(a.born) {
			// No element was found again, and the first ones have nothing in
			// common: the rest is not worth a look.
			if j >= strangersToTry && p.written(edits) > read {
				p.mute()
				return true
			}
			read += w.new.tape.len(e.at)
		}
		if e.mate < 0 || !w.cut && w.equalRaw(a.gone[e.mate].at, e.at) {
			continue
		}
		at := p.enterIndex(int(e.index))
		w.compare(a.gone[e.mate].at, e.at)
		p.leave(at)
		if muted = muted || w.giveUp(f, size); p.idle() {
			break
		}
	}
	return muted
}

// strangersToTry is how many pairs tell what the others will be like.
const strangersToTry = 16

// pairElements finds each born element's mate: by key, else by content, and
// what is left over by place, because to edit or replace an element costs less
// than to remove one and add another.
func (w *walk) pairElements(a *alignment) {
	if a.paired {
		return
	}
	a.paired = true
	a.separate()
	a.strangers = false
	if len(a.gone) == 0 || len(a.born) == 0 {
		a.rankGone()
		return
	}
	keyed := !w.cut && w.pairByKey(a)
	if !keyed && len(a.gone)*len(a.born) <= 4 {
		w.pairAll(a)
	} else if !keyed && !w.cut {
		w.pairByContent(a, true)
		w.pairByContent(a, false)
	}
	w.pairs.inOrder(a)
	if !keyed {
		w.keepShort(a)
	}
	a.strangers = true
	for j := range a.born {
		if a.born[j].mate >= 0 {
			a.strangers = false
			break
		}
	}
	a.pairByPlace()
	a.rankGone()
}

// separate leaves every element without a mate.
func (a *alignment) separate() {
	for i := range a.gone {
		a.gone[i].taken = 0
	}
	for j := range a.born {
		a.born[j].mate, a.born[j].stays = -1, false
	}
}

func (a *alignment) marry(i, j int) {
	a.born[j].mate = int32(i)
	a.gone[i].taken = int32(j + 1)
}

// pairAll is pairByContent for very few elements.
func (w *walk) pairAll(a *alignment) {
	for j := range a.born {
		for i := range a.gone {
			if a.gone[i].taken == 0 && w.same(a.gone[i].at, a.born[j].at) {
				a.marry(i, j)
				break
			}
		}
	}
}

// pairByContent pairs elements of the same content that have no mate, the first
// with the first. raw: the content is the bytes, which is quicker to tell.
func (w *walk) pairByContent(a *alignment, raw bool) {
	goneLeft, bornLeft := 0, 0
	for i := range a.gone {
		if a.gone[i].taken == 0 {
			goneLeft++
		}
	}
	for j := range a.born {
		if a.born[j].mate < 0 {
			bornLeft++
		}
	}
	if goneLeft == 0 || bornLeft == 0 {
		return
	}
	hash := func(s *source, at int32) uint32 {
		if !raw {
			return uint32(w.contentHash(s, at))
		}
		content := s.raw(at)
		w.charge(1 + len(content)/comparedBytes)
		return uint32(maphash.Bytes(hashSeed, content))
	}
	t := &w.pairs.table
	t.reset(goneLeft)
	w.pairs.chain = grow(w.pairs.chain, len(a.gone))
	chain := w.pairs.chain
	for i := len(a.gone) - 1; i >= 0 && !w.cut; i-- {
		if a.gone[i].taken != 0 {
			continue
		}
		h := hash(&w.old, a.gone[i].at)
		at, _ := t.first(h)
		chain[i] = at.key
		*at = slot{hash: h, key: int32(i + 1)}
	}
	for j := range a.born {
		if a.born[j].mate >= 0 {
			continue
		}
		at, _ := t.first(hash(&w.new.source, a.born[j].at))
		if w.cut {
			return
		}
		// The first of the chain that was not taken stands in the slot.
		for at.key > 0 && a.gone[at.key-1].taken != 0 {
			if at.key = chain[at.key-1]; at.key == 0 {
				at.key = -1 // none left, but no free slot
			}
		}
		for k := at.key; k > 0; k = chain[k-1] {
			i := int(k - 1)
			if a.gone[i].taken != 0 {
				continue
			}
			if w.charge(1) {
				return
			}
			if raw && w.equalRaw(a.gone[i].at, a.born[j].at) || !raw && w.same(a.gone[i].at, a.born[j].at) {
				a.marry(i, j)
				break
			}
		}
	}
}

// inOrder chooses the mates that stay where they are: a longest subsequence
// that increases, of those that lie between the same anchors.
func (m *pairing) inOrder(a *alignment) {
	m.tails = m.tails[:0]
	m.prev = grow(m.prev, len(a.born))
	for j := range a.born {
		i := a.born[j].mate
		if i < 0 || a.goneGap(int(i)) != a.bornGap(j) {
			continue
		}
		k := len(m.tails)
		if k > 0 && a.born[m.tails[k-1]].mate > i {
			k = sort.Search(k, func(k int) bool { return a.born[m.tails[k]].mate >= i })
		}
		m.prev[j] = -1
		if k > 0 {
			m.prev[j] = m.tails[k-1]
		}
		if k == len(m.tails) {
			m.tails = append(m.tails, int32(j))
		} else {
			m.tails[k] = int32(j)
		}
	}
	if k := len(m.tails); k > 0 {
		for j := m.tails[k-1]; j >= 0; j = m.prev[j] {
			a.born[j].stays = true
		}
	}
}

// keepShort has short elements written anew rather than moved, if something
// else comes to where they were and something else was where they come to: two
// replacements are then shorter than a move and what it leaves.
func (w *walk) keepShort(a *alignment) {
	most := 16 + len(w.patch.path)
	short := false
	for j := range a.born {
		e := &a.born[j]
		short = short || e.mate >= 0 && !e.stays && w.new.tape.len(e.at) < most
	}
	if !short {
		return
	}
	w.pairs.balance(a)
	for j := range a.born {
		e := &a.born[j]
		if i := e.mate; i >= 0 && !e.stays && w.new.tape.len(e.at) < most && w.pairs.chain[i] <= 0 && w.pairs.prev[j] >= 0 {
			a.gone[i].taken = 0
			e.mate = -1
		}
	}
}

// balance counts, for each element that does not stay, how many more are gone
// than were born between the same two that stay: chain has it for what is gone,
// prev for what was born.
func (m *pairing) balance(a *alignment) {
	a.rankGone()
	m.chain, m.prev = grow(m.chain, len(a.gone)), grow(m.prev, len(a.born))
	i, j, staying := 0, 0, int32(0)
	for {
		for ; i < len(a.gone) && a.stays(i); i++ {
		}
		for ; j < len(a.born) && a.born[j].stays; j++ {
			staying++
		}
		var rank int32
		switch {
		case i < len(a.gone) && j < len(a.born):
			rank = min(a.gone[i].rank, a.bornGap(j)+staying)
		case i < len(a.gone):
			rank = a.gone[i].rank
		case j < len(a.born):
			rank = a.bornGap(j) + staying
		default:
			return
		}
		firstGone, firstBorn := i, j
		for ; i < len(a.gone) && !a.stays(i) && a.gone[i].rank == rank; i++ {
		}
		for ; j < len(a.born) && !a.born[j].stays && a.bornGap(j)+staying == rank; j++ {
		}
		more := int32(i - firstGone - (j - firstBorn))
		for k := firstGone; k < i; k++ {
			m.chain[k] = more
		}
		for k := firstBorn; k < j; k++ {
			m.prev[k] = more
		}
	}
}

func (a *alignment) stays(i int) bool {
	j := a.gone[i].taken - 1
	return j >= 0 && a.born[j].stays
}

// pairByPlace pairs what has no mate yet, in order, within each run between
// elements that stay.
func (a *alignment) pairByPlace() {
	i := 0
	for j := range a.born {
		e := &a.born[j]
		switch {
		case e.stays:
			i = int(e.mate) + 1
			continue
		case e.mate >= 0:
			continue
		}
		g := a.bornGap(j)
		for i < len(a.gone) && (a.goneGap(i) < g || a.goneGap(i) == g && a.gone[i].taken != 0 && !a.stays(i)) {
			i++
		}
		if i < len(a.gone) && a.goneGap(i) == g && a.gone[i].taken == 0 {
			a.marry(i, j)
			e.stays = true
			i++
		}
	}
}

// rankGone counts for each gone element how many that stay come before it.
func (a *alignment) rankGone() {
	staying := int32(0)
	for i := range a.gone {
		a.gone[i].rank = a.goneGap(i) + staying
		if a.stays(i) {
			staying++
		}
	}
}

// listMovers lists the elements that stay in the array but not in their place.
func (m *pairing) listMovers(a *alignment) {
	m.movers = m.movers[:0]
	for i := range a.gone {
		if a.gone[i].taken != 0 && !a.stays(i) {
			m.movers = append(m.movers, int32(i))
		}
	}
}

// writeStructure records the removals from the end, so that none shifts the
// next, then moves and additions from the front, each to its final place.
func (w *walk) writeStructure(a *alignment, f frame, size, count int, muted bool) bool {
	p, m := &w.patch, &w.pairs
	for i := len(a.gone) - 1; i >= 0; i-- {
		if a.gone[i].taken != 0 {
			continue
		}
		at := p.enterIndex(int(a.gone[i].index))
		w.remove(a.gone[i].at)
		p.leave(at)
		if muted = muted || w.giveUp(f, size); p.idle() {
			return muted
		}
	}
	if len(m.movers) > 0 {
		m.listKept(a, count)
	}
	staying := int32(0) // born ones that stay, before j
	passed := 0         // movers that came before the last one that stays before j
	for j := range a.born {
		e := &a.born[j]
		if e.stays {
			staying++
			continue
		}
		to := int(e.index)
		rank := a.bornGap(j) + staying
		for passed < len(m.movers) && a.gone[m.movers[passed]].rank < rank {
			passed++
		}
		if e.mate < 0 {
			if len(m.movers) > 0 {
				to += m.straying(passed)
			}
			at := p.enterIndex(to)
			w.add(e.at)
			p.leave(at)
		} else {
			k := sort.Search(len(m.movers), func(k int) bool { return m.movers[k] >= e.mate })
			m.unstray(k)
			// All elements up to to are final and lie before the mover, but
			// for those behind the next one that stays, if that is final too.
			from := m.straying(k)
			if r := a.gone[e.mate].rank; r < rank {
				from += int(m.kept[r])
			} else {
				from += to + int(r-rank)
			}
			if to += m.straying(passed); from != to {
				w.move(from, to)
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
func (m *pairing) listKept(a *alignment, count int) {
	m.kept = m.kept[:0]
	j := 0
	for index := int32(0); int(index) < count; index++ {
		if j < len(a.born) && a.born[j].index == index {
			j++
			if !a.born[j-1].stays {
				continue
			}
		}
		m.kept = append(m.kept, index)
	}
	m.strays = grow(m.strays, len(m.movers)+1)
	for k := range m.strays {
		m.strays[k] = int32(k & -k)
	}
}

// straying counts the movers before number k that were not moved yet.
func (m *pairing) straying(k int) int {
	n := int32(0)
	for ; k > 0; k -= k & -k {
		n += m.strays[k]
	}
	return int(n)
}

func (m *pairing) unstray(k int) {
	for k++; k < len(m.strays); k += k & -k {
		m.strays[k]--
	}
}

// grow returns a slice of n elements, whatever they hold.
func grow[T any](s []T, n int) []T {
	if cap(s) < n {
		return make([]T, n)
	}
	return s[:n]
}

// double makes room for n more elements by doubling a slice, so that what is
// copied from one memory to the next is no more than it holds in the end.
func double[T any](s []T, n int) []T {
	if len(s)+n <= cap(s) {
		return s
	}
	return append(make([]T, 0, max(2*cap(s), len(s)+n, 16)), s...)
}
