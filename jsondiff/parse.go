package jsondiff

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"unicode/utf8"
)

// Limits bound what a text may cost. A zero field stands for its default, which
// is also the most for Size.
type Limits struct {
	// Depth is how deeply arrays and objects may be nested. Default 1,000.
	Depth int
	// Size is the length of a text in bytes. Default 1 GiB.
	Size int
	// Work bounds the search for a small patch, in comparisons beyond those
	// that a look at every value costs. What is not found within it is
	// replaced whole. Default 4 million.
	Work int
}

const (
	defaultDepth = 1000
	maxSize      = 1 << 30 // offsets have 32 bits
	defaultWork  = 4 << 20
)

func (l Limits) orDefaults() Limits {
	if l.Depth <= 0 {
		l.Depth = defaultDepth
	}
	if l.Size <= 0 || l.Size > maxSize {
		l.Size = maxSize
	}
	if l.Work <= 0 {
		l.Work = defaultWork
	}
	return l
}

// Bounds that a text can exceed. Errors that wrap them say by how much or where.
var (
	ErrDepth = errors.New("nested too deeply")
	ErrSize  = errors.New("text too large")
)

// SyntaxError tells where a text stops being JSON as RFC 8259 has it.
type SyntaxError struct {
	Offset   int // in bytes, from 0
	Line     int // from 1
	Column   int // in characters, from 1
	Expected string
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("line %d, column %d: expected %s", e.Line, e.Column, e.Expected)
}

// Kinds of values, containers first.
const (
	kindObject = iota
	kindArray
	kindString
	kindNumber
	kindLiteral // true, false, null
)

// entry is one value of a text. The entries of a text in the order of their
// values are its tape: a value is followed by what it contains, so that the
// next sibling is skip entries on.
type entry struct {
	off, len uint32 // of the value's text
	size     uint32 // kind and skip
	key      uint32 // offset of the opening quote of a member's name; 0: not a member
}

const kindShift = 29

func (e *entry) kind() uint32 { return e.size >> kindShift }
func (e *entry) skip() int32  { return int32(e.size & (1<<kindShift - 1)) }
func (e *entry) end() int     { return int(e.off + e.len) }

// padding follows every text that is scanned. It ends each scan without a check
// of the bound, as no JSON text holds a NUL.
const padding = 8

// padded copies text into a buffer that can be scanned.
func padded(text []byte) []byte {
	b := make([]byte, len(text)+padding)
	copy(b, text)
	return b[:len(text)]
}

// parse checks a text and makes its tape.
func parse(text []byte) (source, error) {
	return parseWithin(text, Limits{}.orDefaults())
}

func parseWithin(text []byte, limits Limits) (source, error) {
	if len(text) > limits.Size {
		return source{}, sizeError(len(text), limits.Size)
	}
	s := scanner{text: padded(text), depth: limits.Depth, tape: make([]entry, 0, len(text)/12+8)}
	if err := s.scan(nil); err != nil {
		return source{}, err
	}
	return source{text: s.text, tape: s.tape, spaced: s.spaced}, nil
}

// scanner makes the tape of a text. Where it knows the text of before, it
// compares first and takes over the tape of what is equal: whether a run of
// values is valid, and what it consists of, is decided by its bytes alone, so
// any place in the old text will do, however it was found.
type scanner struct {
	text   []byte // padding bytes of 0 follow within its capacity
	tape   []entry
	depth  int  // levels left
	spaced bool // there is white space outside of strings

	old *source // nil: nothing is known
	// old.text[from:same] equals text[from+shift:same+shift].
	from, same, shift int

	expected string // what was missing at failed
	failed   int
	tooDeep  bool
}

// scan reads the whole text, with the text of before for a guide if there is
// one.
func (s *scanner) scan(old *source) error {
	n := len(s.text)
	s.text = s.text[:n+padding]
	clear(s.text[n:])
	defer func() { s.text = s.text[:n] }()
	i := s.space(0)
	if old != nil {
		s.old = old
		s.spaced = s.spaced || old.spaced
		i = s.follow(i, 0, 0)
	} else {
		i = s.value(i, 0)
	}
	if i >= 0 {
		if i = s.space(i); i != n {
			s.fail(i, "the end of the document")
			i = -1
		}
	}
	if i >= 0 {
		return nil
	}
	if s.tooDeep {
		return fmt.Errorf("%w: at byte %d", ErrDepth, s.failed)
	}
	at := min(s.failed, n)
	line, column := 1, 1
	for _, c := range s.text[:at] {
		if utf8.RuneStart(c) {
			column++
		}
		if c == '\n' {
			line, column = line+1, 1
		}
	}
	return &SyntaxError{at, line, column, s.expected}
}

// fail notes what is wrong and returns the offset that says so.
func (s *scanner) fail(at int, expected string) int {
	s.failed, s.expected = at, expected
	return -1
}

// space is the offset of the next character that is not white space.
func (s *scanner) space(i int) int {
	b := s.text
	if b[i] > ' ' {
		return i
	}
	from := i
	for b[i] == ' ' || b[i] == '\n' || b[i] == '\t' || b[i] == '\r' {
		i++
	}
	s.spaced = s.spaced || i > from
	return i
}

// value reads the value at i, which is the member's whose name starts at key.
// It returns the offset after it, or a negative one.
func (s *scanner) value(i, key int) int {
	at := len(s.tape)
	s.tape = append(s.tape, entry{off: uint32(i), key: uint32(key)})
	b := s.text
	var end int
	var kind uint32
	switch c := b[i]; {
	case c == '"':
		end, kind = s.string(i), kindString
	case c == '{':
		end, kind = s.container(i, kindObject, -1), kindObject
	case c == '[':
		end, kind = s.container(i, kindArray, -1), kindArray
	case c == 't' && len(b) >= i+4 && string(b[i:i+4]) == "true", c == 'n' && len(b) >= i+4 && string(b[i:i+4]) == "null":
		end, kind = i+4, kindLiteral
	case c == 'f' && len(b) >= i+5 && string(b[i:i+5]) == "false":
		end, kind = i+5, kindLiteral
	case c == '-' || c-'0' <= 9:
		end, kind = s.number(i), kindNumber
	default:
		end = s.fail(i, "a value")
	}
	if end >= 0 {
		e := &s.tape[at]
		e.len = uint32(end - i)
		e.size = kind<<kindShift | uint32(len(s.tape)-at)
	}
	return end
}

// container reads the object or array at i. old is the entry of the old text to
// follow, or negative.
func (s *scanner) container(i int, kind uint32, old int32) (end int) {
	if s.depth == 0 {
		s.tooDeep = true
		return s.fail(i, "")
	}
	s.depth--
	switch {
	case kind == kindObject && old >= 0:
		end = s.followObject(i, old)
	case kind == kindObject:
		end = s.object(i)
	case old >= 0:
		end = s.followArray(i, old)
	default:
		end = s.array(i)
	}
	s.depth++
	return end
}

func (s *scanner) object(i int) int {
	i = s.space(i + 1)
	if s.text[i] == '}' {
		return i + 1
	}
	for {
		key := i
		if i = s.name(i); i < 0 {
			return i
		}
		if i = s.value(i, key); i < 0 {
			return i
		}
		if i = s.space(i); s.text[i] != ',' {
			break
		}
		i = s.space(i + 1)
	}
	if s.text[i] != '}' {
		return s.fail(i, `"," or "}"`)
	}
	return i + 1
}

// name reads a member's name and the colon, and returns the offset of the
// value.
func (s *scanner) name(i int) int {
	if s.text[i] != '"' {
		return s.fail(i, "a member's name")
	}
	if i = s.string(i); i < 0 {
		return i
	}
	if i = s.space(i); s.text[i] != ':' {
		return s.fail(i, `":"`)
	}
	return s.space(i + 1)
}

func (s *scanner) array(i int) int {
	i = s.space(i + 1)
	if s.text[i] == ']' {
		return i + 1
	}
	for {
		if i = s.value(i, 0); i < 0 {
			return i
		}
		if i = s.space(i); s.text[i] != ',' {
			break
		}
		i = s.space(i + 1)
	}
	if s.text[i] != ']' {
		return s.fail(i, `"," or "]"`)
	}
	return i + 1
}

const (
	everyByte = math.MaxUint64 / 0xff // 0x0101...
	highBits  = everyByte << 7
)

// special has the high bit of the first byte set that is a quote, a backslash
// or a control character, in memory order; bits after that mean nothing.
func special(x uint64) uint64 {
	quote, backslash := x^everyByte*'"', x^everyByte*'\\'
	return ((quote-everyByte)&^quote | (backslash-everyByte)&^backslash | (x-everyByte*' ')&^x) & highBits
}

// string reads the string whose opening quote is at i and returns the offset
// after the closing one.
func (s *scanner) string(i int) int {
	b := s.text
	from := i
	i++
	var high uint64
	for {
		for i+8 <= len(b) {
			x := binary.LittleEndian.Uint64(b[i:])
			high |= x
			if special(x) != 0 {
				break
			}
			i += 8
		}
		for b[i] >= ' ' && b[i] != '"' && b[i] != '\\' {
			high |= uint64(b[i])
			i++
		}
		switch b[i] {
		case '"':
			if high&highBits != 0 && !utf8.Valid(b[from+1:i]) {
				return s.fail(from+1+validPrefix(b[from+1:i]), "UTF-8")
			}
			return i + 1
		case '\\':
			switch b[i+1] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
				i += 2
			case 'u':
				for k := i + 2; k < i+6; k++ {
					if c := b[k] | 0x20; !(b[k]-'0' <= 9 || c >= 'a' && c <= 'f') {
						return s.fail(k, "a hexadecimal digit")
					}
				}
				i += 6
			default:
				return s.fail(i+1, "an escape")
			}
		default:
			return s.fail(i, "no control character in a string")
		}
	}
}

// validPrefix is the length of the part of b that is UTF-8.
func validPrefix(b []byte) int {
	i := 0
	for i < len(b) {
		r, n := utf8.DecodeRune(b[i:])
		if r == utf8.RuneError && n == 1 {
			break
		}
		i += n
	}
	return i
}

// number reads the number at i: RFC 8259, section 6.
func (s *scanner) number(i int) int {
	b := s.text
	if b[i] == '-' {
		i++
	}
	switch {
	case b[i] == '0':
		i++
	case b[i]-'0' <= 9:
		i = digits(b, i)
	default:
		return s.fail(i, "a digit")
	}
	if b[i] == '.' {
		if i++; b[i]-'0' > 9 {
			return s.fail(i, "a digit")
		}
		i = digits(b, i)
	}
	if b[i]|0x20 == 'e' {
		if i++; b[i] == '+' || b[i] == '-' {
			i++
		}
		if b[i]-'0' > 9 {
			return s.fail(i, "a digit")
		}
		i = digits(b, i)
	}
	return i
}

func digits(b []byte, i int) int {
	for b[i]-'0' <= 9 {
		i++
	}
	return i
}

func sizeError(size, most int) error {
	return fmt.Errorf("%w: %d bytes, at most %d", ErrSize, size, most)
}
