package jsondiff

import "math"

// editScript finds the shortest way from one run of elements to another by
// removals and additions: E. Myers, "An O(ND) Difference Algorithm and Its
// Variations", 1986. It is for short elements, of which the same occurs often,
// so that an increasing subsequence of chance pairs is no good.
type editScript struct {
	gone, born []int32 // positions in the runs, from the last on
	furthest   []int32 // for each diagonal, how far it was followed
	trace      []int32 // furthest after each round; that of round d begins at d*d
}

// short tells whether elements are so short that what an operation costs counts
// more than they do.
func (w *walk) short(olds, news []int32) bool {
	if len(olds) == 0 || len(news) == 0 {
		return false
	}
	const average = 64
	ot, nt := w.old.tape, w.new.tape
	return ot.end(olds[len(olds)-1])-ot.off(olds[0]) <= average*len(olds) && nt.end(news[len(news)-1])-nt.off(news[0]) <= average*len(news)
}

// find tells whether there is a script short enough, and keeps it.
func (e *editScript) find(w *walk, olds, news []int32) bool {
	n, m := len(olds), len(news)
	size := w.new.tape.end(news[m-1]) - w.new.tape.off(news[0])
	// More removals and additions would be larger than the elements. What is
	// kept of all rounds stays in proportion to the documents.
	most := min(2*size/minOpSize+2, 12+int(math.Sqrt(float64(len(w.new.text)/8))), n+m)
	if n-m > most || m-n > most {
		return false
	}
	e.furthest = grow(e.furthest, 2*most+3)
	e.trace = e.trace[:0]
	v := func(k int) *int32 { return &e.furthest[k+most+1] }
	*v(1) = 0
	for d := 0; d <= most && !w.cut; d++ {
		for k := -d; k <= d; k += 2 {
			var x int
			if k == -d || k != d && *v(k - 1) < *v(k + 1) {
				x = int(*v(k + 1))
			} else {
				x = int(*v(k - 1)) + 1
			}
			y := x - k
			from := x
			for x < n && y < m && w.equalRaw(olds[x], news[y]) {
				x++
				y++
			}
			w.charge(1 + x - from)
			*v(k) = int32(x)
			if x >= n && y >= m {
				e.backtrack(d, n, m)
				return true
			}
		}
		e.trace = append(double(e.trace, 2*d+1), e.furthest[most+1-d:most+2+d]...)
	}
	return false
}

// backtrack lists what the way to the end, found in round d, removes and adds.
func (e *editScript) backtrack(d, n, m int) {
	e.gone, e.born = e.gone[:0], e.born[:0]
	x, y := n, m
	for ; d > 0; d-- {
		last := e.trace[(d-1)*(d-1) : d*d] // diagonals from -(d-1) to d-1
		v := func(k int) int {
			if k <= -d || k >= d {
				return -1
			}
			return int(last[k+d-1])
		}
		k := x - y
		if k == -d || k != d && v(k-1) < v(k+1) {
			x = v(k + 1)
			y = x - k - 1
			e.born = append(e.born, int32(y))
		} else {
			x = v(k - 1)
			y = x - k + 1
			e.gone = append(e.gone, int32(x))
		}
	}
}

// operations counts those that the script needs, in which an element that is gone
// and one that was born in its place are one replacement.
func (e *editScript) operations() int {
	count := 0
	i, j := len(e.gone)-1, len(e.born)-1
	for i >= 0 || j >= 0 {
		// How many elements of both runs that are neither come before.
		gap := int32(math.MaxInt32)
		if i >= 0 {
			gap = e.gone[i] - int32(len(e.gone)-1-i)
		}
		if j >= 0 {
			gap = min(gap, e.born[j]-int32(len(e.born)-1-j))
		}
		gone, born := 0, 0
		for ; i >= 0 && e.gone[i]-int32(len(e.gone)-1-i) == gap; i-- {
			gone++
		}
		for ; j >= 0 && e.born[j]-int32(len(e.born)-1-j) == gap; j-- {
			born++
		}
		count += max(gone, born)
	}
	return count
}

// alignStep looks whether elements that are in step again after some that are
// not, the new ones from at on, came there by removals and additions that are
// fewer than the elements that differ.
func (w *walk) alignStep(x *arrayStep, at int32, step int) bool {
	ot, nt := w.old.tape, w.new.tape
	w.olds, w.news = w.olds[:0], w.news[:0]
	differ := 0
	for c := x.c; len(w.olds) < step; c, at = ot.next(c), nt.next(at) {
		w.olds, w.news = append(w.olds, c), append(w.news, at)
		if !w.equalRaw(c, at) {
			differ++
		}
	}
	if differ < 2 || !w.short(w.olds, w.news) || !w.script.find(w, w.olds, w.news) || w.script.operations() >= differ {
		return false
	}
	x.shift(w)
	w.appendScript(x.a, w.olds, w.news, x.oi, x.ni)
	return true
}

// appendScript takes what the script removes and adds as gone and born. The runs
// begin at the indices oi and ni.
func (w *walk) appendScript(a *alignment, olds, news []int32, oi, ni int32) {
	for k := len(w.script.gone) - 1; k >= 0; k-- {
		i := w.script.gone[k]
		a.gone = append(a.gone, goneElement{at: olds[i], index: oi + i})
	}
	for k := len(w.script.born) - 1; k >= 0; k-- {
		j := w.script.born[k]
		a.born = append(a.born, bornElement{at: news[j], index: ni + j})
	}
}
