package jsondiff

import "bytes"

// kind is what a value is. Containers sort before scalars.
type kind = uint32

const (
	kindObject kind = iota
	kindArray
	kindString
	kindNumber
	kindLiteral // true, false, null
)

// tape lists the values of a document in the order of the text, a container
// before what it holds. A value is known by the index of its first word, which
// for most is the only one:
//
//	28 bits  offset of its text
//	13       length of its text
//	 9       words from here to the next value, with all that it holds
//	 8       distance back to the opening quote of its name, 0 without one,
//	         farName if the text has to be searched for it
//	 1       distinct: an object known to have no name twice
//	 3       kind
//	 1       wide
//	 1       0
//
// A longer value, or one that holds more words, is wide: the words to the next
// value have the bits of length and distance as well, a last word behind
// everything in it has the length, and the name has to be searched for. Its
// highest bit tells a last word from a first one.
type tape []word

type word uint64

const (
	offMask = 1<<28 - 1

	lenShift   = 28
	lenMask    = 1<<13 - 1
	wordsShift = 41
	wordsMask  = 1<<9 - 1
	backShift  = 50
	farName    = 1<<8 - 1

	wideShift = 28
	wideMask  = 1<<30 - 1

	distinctFlag = 1 << 58
	kindShift    = 59
	scalarBits   = 6 << kindShift // not both 0 if it is no container
	wideFlag     = 1 << 62
	lastFlag     = 1 << 63
)

// firstWord is that of a value whose end is not known yet.
func firstWord(off, back int) word {
	return word(off) | word(min(back, farName))<<backShift
}

func (t tape) kind(i int32) kind { return kind(t[i]>>kindShift) & 7 }
func (t tape) off(i int32) int   { return int(t[i] & offMask) }
func (t tape) end(i int32) int   { return t.off(i) + t.len(i) }

func (t tape) len(i int32) int {
	w := t[i]
	if w&wideFlag == 0 {
		return int(w >> lenShift & lenMask)
	}
	return int(uint32(t[i+int32(w>>wideShift&wideMask)-1]))
}

// next is the index after the value and all that it holds.
func (t tape) next(i int32) int32 {
	w := t[i]
	if w&wideFlag == 0 {
		return i + int32(w>>wordsShift&wordsMask)
	}
	return i + int32(w>>wideShift&wideMask)
}

// before passes the values from one on that end before an offset. It returns the
// next one, where the last of them ended, and how many they are.
func (t tape) before(i, stop int32, off int) (next int32, end, count int) {
	for i < stop {
		w := t[i]
		e, n := int(w&offMask+w>>lenShift&lenMask), i+1
		switch {
		case w&wideFlag != 0:
			e, n = t.end(i), t.next(i)
		case w&scalarBits == 0: // of a scalar one need not wait for w to know n
			n = i + int32(w>>wordsShift&wordsMask)
		}
		if e >= off {
			break
		}
		i, end = n, e
		count++
	}
	return i, end, count
}

// inside and stop are where the values begin and end that a container holds.
func (t tape) inside(i int32) int32 { return i + 1 }
func (t tape) stop(i int32) int32   { return t.next(i) - int32(t[i]>>62) }

func (t tape) distinct(i int32) bool { return t[i]&distinctFlag != 0 }
func (t tape) setDistinct(i int32)   { t[i] |= distinctFlag }

// close completes the value at i. words is how many there are from it on.
func (t tape) close(i int32, k kind, length, words int) tape {
	t[i] |= word(k) << kindShift
	if length <= lenMask && words <= wordsMask {
		t[i] |= word(length)<<lenShift | word(words)<<wordsShift
		return t
	}
	t[i] = t[i]&^(farName<<backShift) | word(words+1)<<wideShift | wideFlag
	return append(t, lastFlag|word(length))
}

// shifted is a word of a value whose text stands shifted. A last word has no
// offset. The sum carries into no other field, as the offset stays within its
// own.
func (w word) shifted(by word) word { return w + by&^word(int64(w)>>63) }

// source is a valid text with its tape.
type source struct {
	text []byte
	tape tape
	// escaped: some member's name holds an escape, so that names that differ
	// in bytes can be the same. spaced: there is white space outside strings.
	// Both may be true without need, never false.
	escaped, spaced bool
}

// raw is the text of a value.
func (s *source) raw(i int32) []byte {
	off := s.tape.off(i)
	return s.text[off : off+s.tape.len(i)]
}

// span is where a value stands in the text.
func (s *source) span(i int32) span {
	off := s.tape.off(i)
	return span{int32(off), int32(off + s.tape.len(i))}
}

// elements lists the values from one on, up to an end.
func (s *source) elements(list []int32, from, end int32) []int32 {
	count := 0
	for c := from; c < end; c = s.tape.next(c) {
		count++
	}
	if cap(list) < count {
		list = make([]int32, 0, count)
	}
	for c := from; c < end; c = s.tape.next(c) {
		list = append(list, c)
	}
	return list
}

// nameStart is the offset of a member's name, its quote included.
func (s *source) nameStart(i int32) int {
	w, off := s.tape[i], s.tape.off(i)
	if back := int(w >> backShift & farName); w&wideFlag == 0 && back < farName {
		return off - back
	}
	return openingQuote(s.text, nameEnd(s.text, off)-1)
}

// quotedName is a member's name as written, with its quotes.
func (s *source) quotedName(i int32) []byte {
	return s.text[s.nameStart(i):nameEnd(s.text, s.tape.off(i))]
}

// name is a member's name as written, without its quotes.
func (s *source) name(i int32) []byte {
	w := s.tape[i]
	off, back := int(w&offMask), int(w>>backShift&farName)
	if w&wideFlag == 0 && back < farName && s.text[off-1] == ':' && s.text[off-2] == '"' { // as nearly always
		return s.text[off-back+1 : off-2]
	}
	return unquote(s.quotedName(i))
}

// named tells whether a member's name is written so.
func (s *source) named(i int32, name []byte) bool {
	from := s.nameStart(i) + 1
	to := from + len(name)
	return to < len(s.text) && s.text[to] == '"' && string(s.text[from:to]) == string(name)
}

// unquote takes the quotes off, nothing else.
func unquote(s []byte) []byte { return s[1 : len(s)-1] }

// nameEnd is the offset after the name of the member whose value is at an
// offset: a colon, and seldom white space, lie between.
func nameEnd(text []byte, value int) int {
	value--
	for text[value] != ':' {
		value--
	}
	for text[value-1] != '"' {
		value--
	}
	return value
}

// openingQuote finds the quote that opens the string that closes at an offset:
// the first one on the way back that no backslash escapes.
func openingQuote(text []byte, closing int) int {
	for {
		closing = bytes.LastIndexByte(text[:closing], '"')
		slashes := 0
		for text[closing-1-slashes] == '\\' {
			slashes++
		}
		if slashes%2 == 0 {
			return closing
		}
	}
}

// depth is the nesting of the value at i: 0 for a scalar, 1 for [].
func (s *source) depth(i int32) int {
	deepest := 0
	var ends []int32
	for end := s.tape.next(i); i < end; i++ {
		if s.tape[i]&lastFlag != 0 || s.tape.kind(i) > kindArray {
			continue
		}
		for len(ends) > 0 && ends[len(ends)-1] <= i {
			ends = ends[:len(ends)-1]
		}
		ends = append(ends, s.tape.next(i))
		deepest = max(deepest, len(ends))
	}
	return deepest
}

// appendPart appends a part of the text without the white space in it.
func (s *source) appendPart(dst []byte, from, to int32) []byte {
	if s.spaced {
		return appendCompact(dst, s.text[from:to])
	}
	return append(dst, s.text[from:to]...)
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
	n, _ := countCompact(text, len(text)+1)
	return n
}

// countCompact counts bytes that appendCompact would add until they are enough,
// and tells how far it looked.
func countCompact(text []byte, enough int) (n, looked int) {
	i := 0
	for ; i < len(text) && n < enough; i++ {
		switch c := text[i]; {
		case c == '"':
			from := i
			for i++; text[i] != '"'; i++ {
				if text[i] == '\\' {
					i++
				}
			}
			n += i + 1 - from
		case c > ' ':
			n++
		}
	}
	return n, i
}
