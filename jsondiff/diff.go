package jsondiff

import (
	"bytes"
	"slices"
	"strconv"
)

// aligner walks two tapes and writes the patch that leads from one to the
// other. Its slices are kept between runs.
type aligner struct {
	old, new source
	options  Options
	work     int // comparisons left

	out  []byte
	path []byte  // the pointer to the value at hand, as it stands in a JSON string
	at   Pointer // the same as tokens, kept only where options have patterns
	real bool    // an operation outside of ignored places was written
	// rewritten counts the bytes that were written and dropped again. When
	// there are too many, as under hostile nesting, no more are dropped.
	rewritten int

	ints []int32 // a stack of scratch
}

// diff returns the patch, and whether any of it lies outside of ignored places.
func (d *aligner) diff(old, new source, o Options, work int) ([]byte, bool) {
	d.old, d.new, d.options, d.work = old, new, o, work
	d.out, d.path, d.at = append(d.out[:0], '['), d.path[:0], d.at[:0]
	d.real, d.rewritten, d.ints = false, 0, d.ints[:0]
	d.value(0, 0)
	d.out = append(d.out, ']')
	patch := append(make([]byte, 0, len(d.out)), d.out...)
	if cap(d.out) > 1<<20 && cap(d.out) > 8*len(patch) {
		d.out = nil
	}
	d.old, d.new = source{}, source{}
	return patch, d.real
}

func (d *aligner) sameText(o, n int32) bool {
	return d.old.tape[o].len == d.new.tape[n].len && bytes.Equal(d.old.raw(o), d.new.raw(n))
}

// value compares one value.
func (d *aligner) value(o, n int32) {
	if d.sameText(o, n) {
		return
	}
	kind := d.old.tape[o].kind()
	if kind != d.new.tape[n].kind() {
		d.replace(n)
		return
	}
	start := len(d.out)
	switch kind {
	case kindObject:
		d.object(o, n)
	case kindArray:
		d.array(o, n)
	case kindString:
		a, b := d.old.raw(o), d.new.raw(n)
		if bytes.IndexByte(a, '\\') < 0 && bytes.IndexByte(b, '\\') < 0 || !bytes.Equal(unescape(a), unescape(b)) {
			d.replace(n)
		}
		return
	default:
		d.replace(n)
		return
	}
	// What is larger than the value itself is dropped for it.
	if written := len(d.out) - start; written > len(`,{"op":"replace","path":"","value":}`)+len(d.path)+int(d.new.tape[n].len) {
		if d.rewritten += written; d.rewritten <= 64<<10+4*len(d.new.text) || len(d.path) == 0 {
			d.out = d.out[:start]
			d.replace(n)
		}
	}
}

// object compares the members of two objects.
func (d *aligner) object(o, n int32) {
	oLast, nLast := o+d.old.tape[o].skip(), n+d.new.tape[n].skip()
	oFirst, nFirst := o+1, n+1
	o, n = oFirst, nFirst
	checked := false
	for o < oLast && n < nLast && bytes.Equal(d.old.quotedName(o), d.new.quotedName(n)) {
		if !d.sameText(o, n) {
			// The names so far are equal, and so are the repeated ones.
			if !checked {
				if checked = true; d.repeats(d.old, oFirst, oLast) || d.repeats(d.new, nFirst, nLast) {
					d.repeatedNames(oFirst, oLast, nFirst, nLast)
					return
				}
			}
			back := d.enter(d.old.name(o))
			d.value(o, n)
			d.leave(back)
		}
		o += d.old.tape[o].skip()
		n += d.new.tape[n].skip()
	}
	if o == oLast && n == nLast {
		return
	}
	if !checked && (d.repeats(d.old, oFirst, oLast) || d.repeats(d.new, nFirst, nLast)) {
		d.repeatedNames(oFirst, oLast, nFirst, nLast)
		return
	}
	d.members(o, oLast, n, nLast)
}

// members compares members of any order, none of which has its name twice.
func (d *aligner) members(o, oLast, n, nLast int32) {
	names := newTable(d.new.count(n, nLast))
	for x := n; x < nLast; x += d.new.tape[x].skip() {
		names.add(unescape(d.new.name(x)), x)
	}
	found := newMarks(int(nLast - n))
	for x := o; x < oLast; x += d.old.tape[x].skip() {
		name := d.old.name(x)
		plain := unescape(name)
		y, ok := names.find(plain, func(y int32) bool { return bytes.Equal(unescape(d.new.name(y)), plain) })
		back := d.enter(name)
		if ok {
			found.set(int(y - n))
			d.value(x, y)
		} else {
			d.remove()
		}
		d.leave(back)
	}
	for y := n; y < nLast; y += d.new.tape[y].skip() {
		if !found.has(int(y - n)) {
			back := d.enter(d.new.name(y))
			d.add(y)
			d.leave(back)
		}
	}
}

// repeats tells whether any name stands twice among the members.
func (d *aligner) repeats(s source, x, last int32) bool {
	const few = 24
	var names [few][]byte
	count := 0
	for i := x; i < last; i += s.tape[i].skip() {
		name := s.name(i)
		if count == few || bytes.IndexByte(name, '\\') >= 0 {
			return repeatsMany(s, x, last)
		}
		for _, other := range names[:count] {
			if len(other) == len(name) && bytes.Equal(other, name) {
				return true
			}
		}
		names[count] = name
		count++
	}
	return false
}

func repeatsMany(s source, x, last int32) bool {
	names := newTable(s.count(x, last))
	for i := x; i < last; i += s.tape[i].skip() {
		name := unescape(s.name(i))
		if _, ok := names.find(name, func(y int32) bool { return bytes.Equal(unescape(s.name(y)), name) }); ok {
			return true
		}
		names.add(name, i)
	}
	return false
}

// repeatedNames compares members of which some have their name twice: only the
// last of each counts.
func (d *aligner) repeatedNames(o, oLast, n, nLast int32) {
	lasts := func(s source, x, last int32) (map[string]int32, []int32) {
		byName := make(map[string]int32)
		var order []int32
		for i := x; i < last; i += s.tape[i].skip() {
			byName[string(unescape(s.name(i)))] = i
			order = append(order, i)
		}
		return byName, order
	}
	olds, oldOrder := lasts(d.old, o, oLast)
	news, newOrder := lasts(d.new, n, nLast)
	for _, x := range oldOrder {
		name := string(unescape(d.old.name(x)))
		if olds[name] != x {
			continue
		}
		back := d.enter(d.old.name(x))
		if y, ok := news[name]; ok {
			d.value(x, y)
		} else {
			d.remove()
		}
		d.leave(back)
	}
	for _, y := range newOrder {
		name := string(unescape(d.new.name(y)))
		if _, ok := olds[name]; !ok && news[name] == y {
			back := d.enter(d.new.name(y))
			d.add(y)
			d.leave(back)
		}
	}
}

// enter goes down to a member; leave comes back.
func (d *aligner) enter(name []byte) int {
	back := len(d.path)
	d.path = append(d.path, '/')
	if bytes.IndexByte(name, '\\') < 0 {
		d.path = appendToken(d.path, name)
	} else {
		// Unescaped first: the token's ~ and / may be hidden in an escape.
		token := appendQuoted(nil, appendToken(nil, unescape(name)))
		d.path = append(d.path, token[1:len(token)-1]...)
	}
	if d.patterns() {
		d.at = append(d.at, string(unescape(name)))
	}
	return back
}

func (d *aligner) enterIndex(i int) int {
	back := len(d.path)
	d.path = append(d.path, '/')
	d.path = strconv.AppendInt(d.path, int64(i), 10)
	if d.patterns() {
		d.at = append(d.at, strconv.Itoa(i))
	}
	return back
}

func (d *aligner) leave(back int) {
	d.path = d.path[:back]
	if d.patterns() {
		d.at = d.at[:len(d.at)-1]
	}
}

func (d *aligner) patterns() bool { return len(d.options.Ignore)+len(d.options.Identify) > 0 }

// operation starts an operation at the current path and leaves it open.
func (d *aligner) operation(start string) {
	if !d.real {
		d.real = !slices.ContainsFunc(d.options.Ignore, func(p Pattern) bool { return p.Covers(d.at) })
	}
	if len(d.out) > 1 {
		d.out = append(d.out, ',')
	}
	d.out = append(d.out, start...)
	d.out = append(d.out, d.path...)
}

func (d *aligner) replace(n int32) {
	d.operation(`{"op":"replace","path":"`)
	d.valueText(n)
}

func (d *aligner) add(n int32) {
	d.operation(`{"op":"add","path":"`)
	d.valueText(n)
}

func (d *aligner) valueText(n int32) {
	d.out = append(d.out, `","value":`...)
	if kind := d.new.tape[n].kind(); d.new.spaced && kind <= kindArray {
		d.out = appendCompact(d.out, d.new.raw(n))
	} else {
		d.out = append(d.out, d.new.raw(n)...)
	}
	d.out = append(d.out, '}')
}

func (d *aligner) remove() {
	d.operation(`{"op":"remove","path":"`)
	d.out = append(d.out, `"}`...)
}

// move moves an element of the current array.
func (d *aligner) move(from, to int) {
	d.operation(`{"op":"move","from":"`)
	d.out = append(d.out, '/')
	d.out = strconv.AppendInt(d.out, int64(from), 10)
	d.out = append(append(d.out, `","path":"`...), d.path...)
	d.out = append(d.out, '/')
	d.out = strconv.AppendInt(d.out, int64(to), 10)
	d.out = append(d.out, `"}`...)
}
