package jsondiff

// kind is what a value is. Containers sort before scalars.
type kind = uint32

const (
	kindObject kind = iota
	kindArray
	kindString
	kindNumber
	kindLiteral // true, false, null
)

// entry is one value of a document: 16 bytes, in the order of the text, a
// container before what it holds.
type entry struct {
	off, len uint32 // the value's text
	shape    uint32 // kind (3 bits), distinct (1), entries in the subtree (28)
	back     uint32 // from off back to the opening quote of the name; 0 without one
}

const (
	kindShift    = 29
	distinctFlag = 1 << 28 // an object known to have no name twice
	skipMask     = distinctFlag - 1
)

func (e *entry) kind() kind     { return e.shape >> kindShift }
func (e *entry) skip() int32    { return int32(e.shape & skipMask) }
func (e *entry) end() int       { return int(e.off + e.len) }
func (e *entry) distinct() bool { return e.shape&distinctFlag != 0 }

// source is a valid text with its tape.
type source struct {
	text []byte
	tape []entry
	// escaped: some member's name holds an escape, so that names that differ
	// in bytes can be the same. spaced: there is white space outside strings.
	// Both may be true without need, never false.
	escaped, spaced bool
}

// raw is the text of a value.
func (s *source) raw(i int32) []byte {
	e := &s.tape[i]
	return s.text[e.off : e.off+e.len]
}

// nameStart is the offset of a member's name, its quote included.
func (s *source) nameStart(i int32) int {
	e := &s.tape[i]
	return int(e.off - e.back)
}

// quotedName is a member's name as written, with its quotes.
func (s *source) quotedName(i int32) []byte {
	e := &s.tape[i]
	return nameBefore(s.text, int(e.off), int(e.back))
}

// name is a member's name as written, without its quotes.
func (s *source) name(i int32) []byte {
	return unquote(s.quotedName(i))
}

// unquote takes the quotes off, nothing else.
func unquote(s []byte) []byte { return s[1 : len(s)-1] }

// nameBefore is the name, with its quotes, of the member whose value is at an
// offset. Only its start is stored; a colon, and seldom white space, lie
// between its end and the value.
func nameBefore(text []byte, value, back int) []byte {
	to := value - 1
	for text[to] != ':' {
		to--
	}
	for text[to-1] != '"' {
		to--
	}
	return text[value-back : to]
}

// depth is the nesting of the value at i: 0 for a scalar, 1 for [].
func (s *source) depth(i int32) int {
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

// appendCompact copies valid JSON without the white space between its tokens.
func appendCompact(dst, text []byte) []byte {
	from := 0
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			for i++; text[i] != '"'; i++ {
				if text[i] == '\\' {
					i++
				}
			}
		case c <= ' ':
			dst = append(dst, text[from:i]...)
			from = i + 1
		}
	}
	return append(dst, text[from:]...)
}

// compactLen is the length appendCompact would add.
func compactLen(text []byte) int {
	n := len(text)
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"':
			for i++; text[i] != '"'; i++ {
				if text[i] == '\\' {
					i++
				}
			}
		case c <= ' ':
			n--
		}
	}
	return n
}
