package jsondiff

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"unicode/utf8"
)

// ErrDepth is a document nested deeper than the limit.
var ErrDepth = errors.New("nested too deep")

// ErrSize is a document, or what would become one, over the limit.
var ErrSize = errors.New("too large")

const (
	defaultDepth = 1000
	defaultSize  = 1 << 29 // bytes; an entry's count of entries has 29 bits
)

// SyntaxError says where a text is not JSON (RFC 8259).
type SyntaxError struct {
	Offset       int // in bytes
	Line, Column int // from 1; columns count characters
	Expected     string
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("line %d, column %d: expected %s", e.Line, e.Column, e.Expected)
}

// source is a valid text and its tape: one entry for each value, in the order
// of their first bytes, so that a container's content follows it.
type source struct {
	text []byte
	tape []entry
}

type entry struct {
	off, len uint32
	sk       uint32 // kind, and in the lower 29 bits the entries of the value, itself included
	nameOff  uint32 // offset of a member's name, with its quote
}

const (
	kindObject = iota
	kindArray
	kindString
	kindNumber
	kindLiteral
)

func (e entry) kind() uint32 { return e.sk >> 29 }
func (e entry) skip() int32  { return int32(e.sk & (1<<29 - 1)) }

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

// quotedName is a member's name as written, with its quotes. It ends before the
// colon, which nothing but white space keeps from the value.
func (s source) quotedName(i int32) []byte {
	e := &s.tape[i]
	end := e.off - 1
	for s.text[end] != '"' {
		end--
	}
	return s.text[e.nameOff : end+1]
}

// nameStart is the offset of a member's name, its quote included.
func (s source) nameStart(i int32) int { return int(s.tape[i].nameOff) }

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

// parse accepts exactly RFC 8259 in UTF-8.
func parse(text []byte) (source, error) {
	if len(text) > defaultSize {
		return source{}, fmt.Errorf("%w: %d bytes, at most %d", ErrSize, len(text), defaultSize)
	}
	p := parser{text: text, tape: make([]entry, 0, len(text)/12+8)}
	i := p.value(p.space(0), 0, 0)
	if p.err == nil {
		if i = p.space(i); i < len(text) {
			p.fail(i, "the end of the document")
		}
	}
	return source{text, p.tape}, p.err
}

type parser struct {
	text []byte
	tape []entry
	err  error
}

// fail notes the first error and gives an offset at which everything stops.
func (p *parser) fail(at int, expected string) int {
	if p.err == nil {
		at = min(at, len(p.text))
		line, from := 1, 0
		for i, c := range p.text[:at] {
			if c == '\n' {
				line, from = line+1, i+1
			}
		}
		p.err = &SyntaxError{at, line, utf8.RuneCount(p.text[from:at]) + 1, expected}
	}
	return len(p.text)
}

func (p *parser) space(i int) int {
	for i < len(p.text) {
		if c := p.text[i]; c > ' ' || c != ' ' && c != '\n' && c != '\t' && c != '\r' {
			break
		}
		i++
	}
	return i
}

// value reads the value at i, where there is no white space, and gives its end.
func (p *parser) value(i, name, depth int) int {
	if i >= len(p.text) {
		return p.fail(i, "a value")
	}
	t := len(p.tape)
	p.tape = append(p.tape, entry{off: uint32(i), nameOff: uint32(name)})
	end, kind := 0, uint32(kindLiteral)
	switch p.text[i] {
	case '{':
		end, kind = p.object(i+1, depth+1), kindObject
	case '[':
		end, kind = p.array(i+1, depth+1), kindArray
	case '"':
		end, kind = p.string(i), kindString
	case 't':
		end = p.word(i, "true")
	case 'f':
		end = p.word(i, "false")
	case 'n':
		end = p.word(i, "null")
	default:
		end, kind = p.number(i), kindNumber
	}
	e := &p.tape[t]
	e.len = uint32(end - i)
	e.sk = kind<<29 | uint32(len(p.tape)-t)
	return end
}

func (p *parser) object(i, depth int) int {
	if depth > defaultDepth {
		return p.tooDeep(i)
	}
	i = p.space(i)
	if i < len(p.text) && p.text[i] == '}' {
		return i + 1
	}
	expected := `a member's name or "}"`
	for {
		if i >= len(p.text) || p.text[i] != '"' {
			return p.fail(i, expected)
		}
		name := i
		i = p.space(p.string(i))
		if i >= len(p.text) || p.text[i] != ':' {
			return p.fail(i, `":"`)
		}
		i = p.space(p.value(p.space(i+1), name, depth))
		switch {
		case p.err != nil:
			return i
		case i < len(p.text) && p.text[i] == ',':
			i = p.space(i + 1)
			expected = "a member's name"
		case i < len(p.text) && p.text[i] == '}':
			return i + 1
		default:
			return p.fail(i, `"," or "}"`)
		}
	}
}

func (p *parser) array(i, depth int) int {
	if depth > defaultDepth {
		return p.tooDeep(i)
	}
	i = p.space(i)
	if i < len(p.text) && p.text[i] == ']' {
		return i + 1
	}
	for {
		i = p.space(p.value(i, 0, depth))
		switch {
		case p.err != nil:
			return i
		case i < len(p.text) && p.text[i] == ',':
			i = p.space(i + 1)
		case i < len(p.text) && p.text[i] == ']':
			return i + 1
		default:
			return p.fail(i, `"," or "]"`)
		}
	}
}

func (p *parser) tooDeep(i int) int {
	if p.err == nil {
		p.err = fmt.Errorf("%w: more than %d levels at offset %d", ErrDepth, defaultDepth, i-1)
	}
	return len(p.text)
}

func (p *parser) word(i int, word string) int {
	if end := i + len(word); end <= len(p.text) && string(p.text[i:end]) == word {
		return end
	}
	return p.fail(i, "a value")
}

func (p *parser) number(i int) int {
	text := p.text
	digits := func(expected string) {
		from := i
		for i < len(text) && text[i]-'0' <= 9 {
			i++
		}
		if i == from {
			i = p.fail(i, expected)
		}
	}
	first := "a value"
	if text[i] == '-' {
		i++
		first = "a digit"
	}
	if i < len(text) && text[i] == '0' {
		i++
	} else {
		digits(first)
	}
	if i < len(text) && text[i] == '.' {
		i++
		digits("a digit")
	}
	if i < len(text) && text[i]|0x20 == 'e' {
		i++
		if i < len(text) && (text[i] == '+' || text[i] == '-') {
			i++
		}
		digits("a digit")
	}
	return i
}

// string reads the string whose first quote is at i, eight bytes at a time.
func (p *parser) string(i int) int {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	text, from := p.text, i+1
	var seen uint64
	i++
	for {
		for i+8 <= len(text) {
			x := binary.LittleEndian.Uint64(text[i:])
			quote, slash := x^ones*'"', x^ones*'\\'
			// The lowest bit set is exact; those above it need not be.
			stop := ((quote-ones)&^quote | (slash-ones)&^slash | (x-ones*' ')&^x) & highs
			if stop != 0 {
				n := bits.TrailingZeros64(stop) >> 3
				seen |= x & (1<<(8*n) - 1)
				i += n
				break
			}
			seen |= x
			i += 8
		}
		if i >= len(text) {
			return p.fail(i, `'"'`)
		}
		switch c := text[i]; {
		case c == '"':
			if seen&highs != 0 && !utf8.Valid(text[from:i]) {
				for from < i {
					r, n := utf8.DecodeRune(text[from:i])
					if r == utf8.RuneError && n == 1 {
						break
					}
					from += n
				}
				return p.fail(from, "UTF-8")
			}
			return i + 1
		case c == '\\':
			if i+1 >= len(text) {
				return p.fail(i+1, "the rest of an escape")
			}
			switch text[i+1] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
				i += 2
			case 'u':
				for k := i + 2; k < i+6; k++ {
					if k >= len(text) || !isHex(text[k]) {
						return p.fail(k, "four hexadecimal digits")
					}
				}
				i += 6
			default:
				return p.fail(i+1, "an escape")
			}
		case c < ' ':
			return p.fail(i, "no control character in a string")
		default:
			seen |= uint64(c)
			i++
		}
	}
}

func isHex(c byte) bool {
	return c-'0' <= 9 || c|0x20-'a' <= 5
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
