package jsondiff

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"
)

// unescape returns the characters of a valid JSON string, or s itself if it
// has no escapes. A surrogate without its other half is kept as its three bytes
// (WTF-8): RFC 8259 allows it, and two names that differ must stay different.
func unescape(s []byte) []byte {
	if bytes.IndexByte(s, '\\') < 0 {
		return s
	}
	return appendUnescaped(make([]byte, 0, len(s)), s)
}

// appendUnescaped is unescape with memory of the caller's.
func appendUnescaped(dst, s []byte) []byte {
	for len(s) > 0 {
		i := bytes.IndexByte(s, '\\')
		if i < 0 {
			return append(dst, s...)
		}
		dst = append(dst, s[:i]...)
		dst, s = appendEscape(dst, s[i:])
	}
	return dst
}

// appendEscape appends the character of the escape that s begins with, and returns
// what follows it.
func appendEscape(dst, s []byte) (unescaped, rest []byte) {
	c := s[1]
	switch c {
	case 'b':
		c = '\b'
	case 'f':
		c = '\f'
	case 'n':
		c = '\n'
	case 'r':
		c = '\r'
	case 't':
		c = '\t'
	case 'u':
		r := hex4(s[2:])
		s = s[6:]
		if !utf16.IsSurrogate(r) {
			return utf8.AppendRune(dst, r), s
		}
		if len(s) >= 6 && s[0] == '\\' && s[1] == 'u' {
			if both := utf16.DecodeRune(r, hex4(s[2:])); both != utf8.RuneError {
				return utf8.AppendRune(dst, both), s[6:]
			}
		}
		return append(dst, 0xe0|byte(r>>12), 0x80|byte(r>>6)&0x3f, 0x80|byte(r)&0x3f), s
	}
	return append(dst, c), s[2:]
}

// sameName compares two names, or the insides of strings, by their characters.
func sameName(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	if bytes.IndexByte(a, '\\') < 0 && bytes.IndexByte(b, '\\') < 0 {
		return false
	}
	x, y := spelling{rest: a}, spelling{rest: b}
	for {
		p, q := x.piece(), y.piece()
		n := min(len(p), len(q))
		if n == 0 {
			return len(p) == len(q)
		}
		if !bytes.Equal(p[:n], q[:n]) {
			return false
		}
		x.skip(n)
		y.skip(n)
	}
}

// spelling reads the characters of a string, without memory for them.
type spelling struct {
	rest []byte
	char [utf8.UTFMax]byte // of the last escape
	at   int               // how much of it was read
	size int
}

// piece is some of the characters that come next, none at the end.
func (s *spelling) piece() []byte {
	if s.at == s.size && len(s.rest) > 0 && s.rest[0] == '\\' {
		c, rest := appendEscape(s.char[:0], s.rest)
		s.rest, s.at, s.size = rest, 0, len(c)
	}
	if s.at < s.size {
		return s.char[s.at:s.size]
	}
	if end := bytes.IndexByte(s.rest, '\\'); end >= 0 {
		return s.rest[:end]
	}
	return s.rest
}

func (s *spelling) skip(n int) {
	if s.at < s.size {
		s.at += n
	} else {
		s.rest = s.rest[n:]
	}
}

// hex4 reads the four digits of a \u escape.
func hex4(s []byte) rune {
	var r rune
	for _, c := range s[:4] {
		switch {
		case c <= '9':
			c -= '0'
		case c <= 'F':
			c -= 'A' - 10
		default:
			c -= 'a' - 10
		}
		r = r<<4 | rune(c)
	}
	return r
}

// appendQuoted writes characters as unescape gives them as a JSON string, with
// no more escapes than RFC 8259 section 7 asks for.
func appendQuoted(dst, s []byte) []byte {
	const digits = "0123456789abcdef"
	dst = append(dst, '"')
	for i, c := range s {
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c < ' ':
			switch c {
			case '\b':
				dst = append(dst, `\b`...)
			case '\f':
				dst = append(dst, `\f`...)
			case '\n':
				dst = append(dst, `\n`...)
			case '\r':
				dst = append(dst, `\r`...)
			case '\t':
				dst = append(dst, `\t`...)
			default:
				dst = append(dst, `\u00`...)
				dst = append(dst, digits[c>>4], digits[c&15])
			}
		case c == 0xed && s[i+1] >= 0xa0: // a lone surrogate, see unescape
			r := 0xd000 | int(s[i+1]&0x3f)<<6 | int(s[i+2]&0x3f)
			dst = append(dst, '\\', 'u', digits[r>>12], digits[r>>8&15], digits[r>>4&15], digits[r&15])
		case i >= 1 && s[i-1] == 0xed && c >= 0xa0 || i >= 2 && s[i-2] == 0xed && s[i-1] >= 0xa0:
			// the rest of it
		default:
			dst = append(dst, c)
		}
	}
	return append(dst, '"')
}
