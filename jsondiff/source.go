package jsondiff

// source is a valid text and its tape.
type source struct {
	text   []byte
	tape   []entry
	spaced bool // there may be white space outside of strings
}

// raw is the text of a value.
func (s source) raw(i int32) []byte {
	e := &s.tape[i]
	return s.text[e.off : e.off+e.len]
}

// name is a member's name as written, without its quotes.
func (s source) name(i int32) []byte {
	q := s.quotedName(i)
	return q[1 : len(q)-1]
}

// quotedName is a member's name as written, with its quotes. Between it and the
// value there is nothing but a colon and white space.
func (s source) quotedName(i int32) []byte {
	e := &s.tape[i]
	end := int(e.off) - 1
	for s.text[end-1] != '"' {
		end--
	}
	return s.text[e.key:end]
}

// nameStart is the offset of a member's name, its quote included.
func (s source) nameStart(i int32) int { return int(s.tape[i].key) }

// depth is the nesting of the value at i: 0 for a scalar, 1 for [].
func (s source) depth(i int32) int {
	deepest := 0
	var ends []int32
	for c, end := i, i+s.tape[i].skip(); c < end; c++ {
		for len(ends) > 0 && ends[len(ends)-1] <= c {
			ends = ends[:len(ends)-1]
		}
		if e := &s.tape[c]; e.kind() <= kindArray {
			ends = append(ends, c+e.skip())
			deepest = max(deepest, len(ends))
		}
	}
	return deepest
}

// count is the number of siblings from x up to last.
func (s source) count(x, last int32) int {
	n := 0
	for ; x < last; x += s.tape[x].skip() {
		n++
	}
	return n
}
