package jsondiff

import (
	"bytes"
	"hash/maphash"
)

// array compares the elements of two arrays: what is equal at both ends is set
// aside, then what is left is matched by identity or by content.
func (d *aligner) array(o, n int32) {
	ot, nt := d.old.tape, d.new.tape
	oLast, nLast := o+ot[o].skip(), n+nt[n].skip()
	whole := o
	o, n = o+1, n+1
	first := 0
	for o < oLast && n < nLast && d.sameText(o, n) {
		o += ot[o].skip()
		n += nt[n].skip()
		first++
	}
	if o == oLast && n == nLast {
		return
	}
	base := len(d.ints)
	defer func() { d.ints = d.ints[:base] }()
	for x := o; x < oLast; x += ot[x].skip() {
		d.ints = append(d.ints, x)
	}
	middle := len(d.ints)
	for y := n; y < nLast; y += nt[y].skip() {
		d.ints = append(d.ints, y)
	}
	olds, news := d.ints[base:middle:middle], d.ints[middle:]
	for len(olds) > 0 && len(news) > 0 && d.sameText(olds[len(olds)-1], news[len(news)-1]) {
		olds, news = olds[:len(olds)-1], news[:len(news)-1]
	}
	d.elements(whole, olds, news, first)
}

// elements compares the elements olds and news, which stand at first and after
// in their arrays.
func (d *aligner) elements(whole int32, olds, news []int32, first int) {
	if len(olds) == 0 || len(news) == 0 {
		d.removeAll(len(olds), first)
		for j, y := range news {
			d.addAt(y, first+j)
		}
		return
	}
	if len(olds) == len(news) && d.inPlace(olds, news) {
		for j, y := range news {
			d.valueAt(olds[j], y, first+j)
		}
		return
	}
	a := alignment{olds: olds, news: news, from: make([]int32, len(news)), used: make([]bool, len(olds))}
	for j := range a.from {
		a.from[j] = -1
	}
	if member := d.identity(olds, news); member != "" {
		d.matchByMember(&a, member)
		a.keep = increasing(a.from)
	} else {
		d.matchByContent(&a)
	}
	d.write(&a, first)
}

func (d *aligner) removeAll(count, first int) {
	for i := count - 1; i >= 0; i-- {
		back := d.enterIndex(first + i)
		d.remove()
		d.leave(back)
	}
}

func (d *aligner) addAt(y int32, index int) {
	back := d.enterIndex(index)
	d.add(y)
	d.leave(back)
}

func (d *aligner) valueAt(x, y int32, index int) {
	if d.sameText(x, y) {
		return
	}
	back := d.enterIndex(index)
	d.value(x, y)
	d.leave(back)
}

// inPlace tells whether elements of equal number are best compared pair by
// pair: those that differ have the same identity, or, where none is to be seen,
// they stand alone among equal ones.
func (d *aligner) inPlace(olds, news []int32) bool {
	if len(olds) == 1 {
		return true
	}
	equal, run := 0, 0
	for j, y := range news {
		x := olds[j]
		if d.sameText(x, y) {
			equal++
			run = 0
			continue
		}
		member := d.quickIdentity(x)
		if member < 0 {
			if run++; run > 4 || d.old.tape[x].kind() > kindArray && run > 1 {
				return false
			}
			continue
		}
		other := d.find(d.new, y, d.old.name(member))
		if other < 0 || !bytes.Equal(d.old.raw(member), d.new.raw(other)) {
			return false
		}
		equal++
	}
	return 2*equal >= len(news)
}

// alignment pairs the elements of two arrays.
type alignment struct {
	olds, news []int32
	from       []int32 // for each new element the index of its old one, or -1
	used       []bool  // for each old element whether it has a new one
	keep       []bool  // for each new element whether its old one stays where it is
}

func (a *alignment) pair(i, j int) {
	a.from[j] = int32(i)
	a.used[i] = true
}

// idNames are the names that members with an identity mostly have, best first.
var idNames = []string{"id", "_id", "key", "uuid", "guid", "symbol", "slug", "code", "name"}

// quickIdentity is a member of the old element that looks like its identity, or
// negative.
func (d *aligner) quickIdentity(x int32) int32 {
	if len(d.options.Identify) > 0 {
		if name := d.configured(); name != "" {
			return d.find(d.old, x, []byte(name))
		}
	}
	if d.old.tape[x].kind() != kindObject {
		return -1
	}
	best, rank := int32(-1), len(idNames)
	last := x + d.old.tape[x].skip()
	for m, k := x+1, 0; m < last && k < 64; m, k = m+d.old.tape[m].skip(), k+1 {
		if kind := d.old.tape[m].kind(); kind != kindString && kind != kindNumber {
			continue
		}
		if r := idRank(d.old.name(m)); r < rank {
			best, rank = m, r
			if r == 0 {
				break
			}
		}
	}
	return best
}

// idRank ranks a member's name as an identity: 0 is best, len(idNames) is none.
func idRank(name []byte) int {
	for r, n := range idNames {
		if string(name) == n {
			return r
		}
	}
	if n := len(name); n > 2 && (name[n-2] == 'I' || name[n-2] == 'i' && name[n-3] == '_') && name[n-1]|0x20 == 'd' {
		return 2
	}
	return len(idNames)
}

// configured is the member that options name for the array at hand.
func (d *aligner) configured() string {
	for _, id := range d.options.Identify {
		if id.Pattern.Match(d.at) {
			return id.Member
		}
	}
	return ""
}

// find is the member of element x with a name as it is written, or negative.
func (d *aligner) find(s source, x int32, name []byte) int32 {
	if s.tape[x].kind() != kindObject {
		return -1
	}
	for m, last := x+1, x+s.tape[x].skip(); m < last; m += s.tape[m].skip() {
		e := &s.tape[m]
		from := int(e.key) + 1
		if end := from + len(name); end < len(s.text) && s.text[end] == '"' && string(s.text[from:end]) == string(name) {
			return m
		}
	}
	return -1
}

// identity is the name of the member that tells the elements apart, or "". Every
// element has it, and its values are distinct scalars.
func (d *aligner) identity(olds, news []int32) string {
	if name := d.configured(); name != "" && d.distinct(d.old, olds, name) && d.distinct(d.new, news, name) {
		return name
	}
	x := olds[0]
	if d.old.tape[x].kind() != kindObject || d.new.tape[news[0]].kind() != kindObject {
		return ""
	}
	// The members that look like one first, then any other: a few of each.
	var tried []string
	try := func(name string) bool {
		tried = append(tried, name)
		return d.distinct(d.old, olds, name) && d.distinct(d.new, news, name)
	}
	last := x + d.old.tape[x].skip()
	for rank := 0; rank <= len(idNames); rank++ {
		for m := x + 1; m < last && len(tried) < 6; m += d.old.tape[m].skip() {
			kind := d.old.tape[m].kind()
			if name := d.old.name(m); (kind == kindString || kind == kindNumber) && idRank(name) == rank && bytes.IndexByte(name, '\\') < 0 {
				if try(string(name)) && (rank < len(idNames) || d.shares(olds, news, string(name))) {
					return string(name)
				}
			}
		}
	}
	return ""
}

// distinct tells whether every element has the member with a scalar value of
// its own.
func (d *aligner) distinct(s source, elements []int32, name string) bool {
	seen := newTable(len(elements))
	for _, x := range elements {
		m := d.find(s, x, []byte(name))
		if m < 0 || s.tape[m].kind() <= kindArray {
			return false
		}
		value := s.raw(m)
		hash := maphash.Bytes(hashSeed, value)
		if _, ok := seen.findHash(hash, func(y int32) bool { return bytes.Equal(s.raw(y), value) }); ok {
			return false
		}
		seen.addHash(hash, m)
	}
	return true
}

// shares tells whether at least half of the elements have their value of the
// member in both arrays: a time or a price may be distinct, too.
func (d *aligner) shares(olds, news []int32, name string) bool {
	a := alignment{olds: olds, news: news, from: make([]int32, len(news)), used: make([]bool, len(olds))}
	d.matchByMember(&a, name)
	shared := 0
	for _, used := range a.used {
		if used {
			shared++
		}
	}
	return 2*shared >= min(len(olds), len(news))
}

func (d *aligner) matchByMember(a *alignment, name string) {
	byID := newTable(len(a.olds))
	members := make([]int32, len(a.olds))
	for i, x := range a.olds {
		members[i] = d.find(d.old, x, []byte(name))
		byID.add(d.old.raw(members[i]), int32(i))
	}
	for j, y := range a.news {
		a.from[j] = -1
		value := d.new.raw(d.find(d.new, y, []byte(name)))
		if i, ok := byID.find(value, func(i int32) bool { return bytes.Equal(d.old.raw(members[i]), value) }); ok {
			a.pair(int(i), j)
		}
	}
}

// moveFrom is the size in bytes from which an element that is found elsewhere
// is moved; to write a smaller one again costs less than the disorder.
const moveFrom = 16

// matchByContent pairs elements that are equal, in order as far as possible,
// then what is left between them by position.
func (d *aligner) matchByContent(a *alignment) {
	hashes := make([]uint64, len(a.olds)+len(a.news))
	oldHash, newHash := hashes[:len(a.olds)], hashes[len(a.olds):]
	for i, x := range a.olds {
		oldHash[i] = maphash.Bytes(hashSeed, d.old.raw(x))
	}
	for j, y := range a.news {
		newHash[j] = maphash.Bytes(hashSeed, d.new.raw(y))
	}
	equal := func(i, j int) bool { return oldHash[i] == newHash[j] && d.sameText(a.olds[i], a.news[j]) }
	found := d.shortestEdit(len(a.olds), len(a.news), equal, a.pair)
	if !found {
		d.matchOccurrences(a, oldHash, newHash, 0)
		a.keep = increasing(a.from)
		for j, i := range a.from {
			if i >= 0 && !a.keep[j] && int(d.old.tape[a.olds[i]].len) < moveFrom {
				a.used[i], a.from[j] = false, -1
			}
		}
	} else {
		a.keep = make([]bool, len(a.news))
		for j := range a.from {
			a.keep[j] = a.from[j] >= 0
		}
		d.matchOccurrences(a, oldHash, newHash, moveFrom)
	}
	// Between the elements that stay, the rest is edited in place.
	i0, j0 := 0, 0
	for j := 0; j <= len(a.news); j++ {
		if j < len(a.news) && !a.keep[j] {
			continue
		}
		i1 := len(a.olds)
		if j < len(a.news) {
			i1 = int(a.from[j])
		}
		d.matchByPosition(a, i0, i1, j0, j)
		i0, j0 = i1+1, j+1
	}
}

// matchByPosition pairs what is left of olds [i, iEnd) and news [j, jEnd) one
// after the other, like with like.
func (d *aligner) matchByPosition(a *alignment, i, iEnd, j, jEnd int) {
	for ; j < jEnd; j++ {
		if a.from[j] >= 0 {
			continue
		}
		for i < iEnd && a.used[i] {
			i++
		}
		if i >= iEnd {
			return
		}
		if d.old.tape[a.olds[i]].kind() == d.new.tape[a.news[j]].kind() {
			a.pair(i, j)
			a.keep[j] = true
			i++
		}
	}
}

// matchOccurrences pairs the unpaired elements of at least least bytes that are
// equal, the first with the first.
func (d *aligner) matchOccurrences(a *alignment, oldHash, newHash []uint64, least int) {
	byText := newTable(len(a.olds))
	next := make([]int32, len(a.olds)) // the next of the same text
	for i := len(a.olds) - 1; i >= 0; i-- {
		if a.used[i] || int(d.old.tape[a.olds[i]].len) < least {
			continue
		}
		next[i] = -1
		if at := byText.at(oldHash[i]); at != nil {
			next[i] = at.value - 1
			at.value = int32(i) + 1
		} else {
			byText.addHash(oldHash[i], int32(i))
		}
	}
	for j, y := range a.news {
		if a.from[j] >= 0 {
			continue
		}
		at := byText.at(newHash[j])
		if at == nil || at.value == spent {
			continue
		}
		if i := int(at.value - 1); d.sameText(a.olds[i], y) {
			a.pair(i, j)
			if at.value = next[i] + 1; at.value == 0 {
				at.value = spent
			}
		}
	}
}

// write writes the operations of an alignment: removals from the end, then
// insertions and moves from the start, then the edits.
func (d *aligner) write(a *alignment, first int) {
	moves := 0
	for j, i := range a.from {
		if i >= 0 && !a.keep[j] {
			moves++
		}
	}
	for i := len(a.olds) - 1; i >= 0; i-- {
		if !a.used[i] {
			back := d.enterIndex(first + i)
			d.remove()
			d.leave(back)
		}
	}
	if moves == 0 {
		for j, y := range a.news {
			if a.from[j] < 0 {
				d.addAt(y, first+j)
			}
		}
	} else {
		d.writeMoves(a, first)
	}
	for j, y := range a.news {
		if i := a.from[j]; i >= 0 {
			d.valueAt(a.olds[i], y, first+j)
		}
	}
}

// writeMoves inserts and moves elements from the start on. Each goes right
// behind the one before it. The places of all of them are known in advance:
// behind each element that stays come the new and moved ones in their final
// order, then the old ones that wait to be moved away. So an index is a count of
// the places that are taken.
func (d *aligner) writeMoves(a *alignment, first int) {
	places := newCounts(len(a.olds) + len(a.news))
	newPlace := make([]int32, len(a.news))
	oldPlace := make([]int32, len(a.olds))
	staying := newMarks(len(a.olds))
	for j, i := range a.from {
		if i >= 0 && a.keep[j] {
			staying.set(int(i))
		}
	}
	place, i := int32(0), 0
	for j := 0; j < len(a.news) || i < len(a.olds); {
		for j < len(a.news) && !a.keep[j] {
			newPlace[j] = place
			place++
			j++
		}
		for i < len(a.olds) && !staying.has(i) {
			if a.used[i] {
				oldPlace[i] = place
				places.add(int(place), 1)
				place++
			}
			i++
		}
		if j < len(a.news) {
			newPlace[j] = place
			places.add(int(place), 1)
			place++
			i++
			j++
		}
	}
	for j, y := range a.news {
		if a.keep[j] {
			continue
		}
		at := int(newPlace[j])
		if a.from[j] < 0 {
			d.addAt(y, first+places.before(at))
		} else {
			gone := int(oldPlace[a.from[j]])
			from := places.before(gone)
			places.add(gone, -1)
			if to := places.before(at); from != to {
				d.move(first+from, first+to)
			}
		}
		places.add(at, 1)
	}
}

// counts is a Fenwick tree: it counts what lies before a place.
type counts []int32

func newCounts(n int) counts { return make(counts, n+1) }

func (c counts) add(at int, n int32) {
	for at++; at < len(c); at += at & -at {
		c[at] += n
	}
}

func (c counts) before(at int) int {
	n := int32(0)
	for ; at > 0; at -= at & -at {
		n += c[at]
	}
	return int(n)
}

// increasing marks the elements of a longest increasing subsequence of from,
// without the negative ones.
func increasing(from []int32) []bool {
	keep := make([]bool, len(from))
	ends := make([]int32, 0, 16) // ends[k] is the index at which the best run of length k+1 ends
	before := make([]int32, len(from))
	for j, i := range from {
		if i < 0 {
			continue
		}
		low, high := 0, len(ends)
		if high > 0 && from[ends[high-1]] < i {
			low = high
		}
		for low < high {
			if middle := (low + high) / 2; from[ends[middle]] < i {
				low = middle + 1
			} else {
				high = middle
			}
		}
		before[j] = -1
		if low > 0 {
			before[j] = ends[low-1]
		}
		if low == len(ends) {
			ends = append(ends, int32(j))
		} else {
			ends[low] = int32(j)
		}
	}
	if len(ends) > 0 {
		for j := ends[len(ends)-1]; j >= 0; j = before[j] {
			keep[j] = true
		}
	}
	return keep
}

// mostEdits bounds the insertions and removals that shortestEdit looks for; its
// memory is their square.
const mostEdits = 512

// shortestEdit finds a longest common subsequence of two sequences of n and m
// elements and reports its pairs: Myers, "An O(ND) Difference Algorithm and Its
// Variations", 1986. It gives up and reports nothing where they differ by more
// than mostEdits, or by more than the work that is left.
func (d *aligner) shortestEdit(n, m int, equal func(i, j int) bool, pair func(i, j int)) bool {
	if max(n-m, m-n) > mostEdits {
		return false
	}
	most := min(n+m, mostEdits)
	zero := most + 1
	reach := make([]int32, 2*most+3) // for each diagonal i-j how far i has come
	var trace [][]int32              // reach before each round, from diagonal -edits-1 on
	for edits := 0; edits <= most; edits++ {
		if d.work -= 2*edits + 1; d.work < 0 {
			return false
		}
		trace = append(trace, append([]int32(nil), reach[zero-edits-1:zero+edits+2]...))
		for k := -edits; k <= edits; k += 2 {
			i := furthest(reach, zero, k, edits)
			from := i
			for i < n && i-k < m && equal(i, i-k) {
				i++
			}
			d.work -= i - from
			reach[zero+k] = int32(i)
			if k == n-m && i >= n {
				backtrack(trace, n, m, pair)
				return true
			}
		}
	}
	return false
}

// furthest is where round edits starts on diagonal k: one removal beyond the
// diagonal below, or one insertion beyond the one above.
func furthest(reach []int32, zero, k, edits int) int {
	if edits == 0 {
		return 0
	}
	if k == -edits || k != edits && reach[zero+k-1] < reach[zero+k+1] {
		return int(reach[zero+k+1])
	}
	return int(reach[zero+k-1]) + 1
}

// backtrack reports the pairs on the path that the rounds have found.
func backtrack(trace [][]int32, i, j int, pair func(i, j int)) {
	for edits := len(trace) - 1; edits >= 0; edits-- {
		k := i - j
		from := furthest(trace[edits], edits+1, k, edits)
		for i > from {
			i--
			j--
			pair(i, j)
		}
		if edits > 0 {
			// The step that led here: from the diagonal above it was an
			// insertion, from the one below a removal.
			if reach := trace[edits]; k == -edits || k != edits && reach[edits+1+k-1] < reach[edits+1+k+1] {
				j--
			} else {
				i--
			}
		}
	}
}
