package jsondiff

import (
	"fmt"
	"math"
	"strings"
)

// Pointer is a JSON Pointer (RFC 6901) as its reference tokens, unescaped. The
// empty pointer, nil included, is the whole document.
type Pointer []string

// PointerError says where a text stops being a JSON Pointer, or not a Pattern.
type PointerError struct {
	Text   string // as given
	Offset int    // in bytes, of the first byte that does not belong
	Reason string
}

func (e *PointerError) Error() string {
	return fmt.Sprintf("jsondiff: pointer %q: %s at offset %d", e.Text, e.Reason, e.Offset)
}

// reason is the error without the pointer, for an error that names it already.
func (e *PointerError) reason() error { return fmt.Errorf("%s at offset %d", e.Reason, e.Offset) }

// ParsePointer reads the string form of RFC 6901 section 3. It is strict: every
// pointer but the empty one begins with a slash, and "~" stands only in "~0"
// and "~1".
func ParsePointer(s string) (Pointer, error) {
	if s == "" {
		return nil, nil
	}
	if s[0] != '/' {
		return nil, &PointerError{s, 0, `expected "/"`}
	}
	p := make(Pointer, 0, strings.Count(s, "/"))
	for from := 1; ; {
		end := len(s)
		if i := strings.IndexByte(s[from:], '/'); i >= 0 {
			end = from + i
		}
		token, bad := unescapeToken(s[from:end])
		if bad >= 0 {
			return nil, &PointerError{s, from + bad, `"~" without 0 or 1 after it`}
		}
		p = append(p, token)
		if end == len(s) {
			return p, nil
		}
		from = end + 1
	}
}

// unescapeToken turns "~1" into "/" and "~0" into "~", in one pass so that
// "~01" becomes "~1" (RFC 6901 section 4). bad is the offset of a "~" that
// escapes nothing, or -1.
func unescapeToken(s string) (token string, bad int) {
	i := strings.IndexByte(s, '~')
	if i < 0 {
		return s, -1
	}
	b := append(make([]byte, 0, len(s)), s[:i]...)
	for ; i < len(s); i++ {
		c := s[i]
		if c == '~' {
			if i+1 == len(s) || s[i+1] != '0' && s[i+1] != '1' {
				return "", i
			}
			i++
			c = '~'
			if s[i] == '1' {
				c = '/'
			}
		}
		b = append(b, c)
	}
	return string(b), -1
}

// String returns the form ParsePointer reads.
func (p Pointer) String() string {
	n := len(p)
	for _, token := range p {
		n += len(token)
	}
	b := make([]byte, 0, n)
	for _, token := range p {
		b = appendToken(append(b, '/'), token)
	}
	return string(b)
}

// appendToken escapes one reference token; the slash before it is the caller's.
func appendToken[T string | []byte](dst []byte, token T) []byte {
	for i := 0; i < len(token); i++ {
		switch c := token[i]; c {
		case '~':
			dst = append(dst, '~', '0')
		case '/':
			dst = append(dst, '~', '1')
		default:
			dst = append(dst, c)
		}
	}
	return dst
}

// index reads a token as an array index: digits without a leading zero (RFC
// 6901 section 4). An index that no array in memory can have is not one.
func index[T string | []byte](token T) (int, bool) {
	if len(token) == 0 || len(token) > len("2147483647") || token[0] == '0' && len(token) > 1 {
		return 0, false
	}
	n := int64(0)
	for i := 0; i < len(token); i++ {
		c := token[i]
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return int(n), n <= math.MaxInt32
}

// Pattern is a JSON Pointer in which a token "*" stands for any one token, a
// member name as well as an index. A member that is itself named "*" can
// therefore only be matched together with its siblings.
//
// A Pattern covers what it matches and everything below it. The zero Pattern is
// the empty pointer and covers the whole document.
type Pattern struct {
	tokens Pointer
}

// ParsePattern reads a pattern, as strictly as ParsePointer.
func ParsePattern(s string) (Pattern, error) {
	p, err := ParsePointer(s)
	return Pattern{p}, err
}

// String returns the form ParsePattern reads.
func (p Pattern) String() string { return p.tokens.String() }

// Len is the number of tokens.
func (p Pattern) Len() int { return len(p.tokens) }

// matchName tells whether token number i stands for an unescaped member name.
func (p Pattern) matchName(i int, name []byte) bool {
	return p.tokens[i] == "*" || p.tokens[i] == string(name)
}

// matchIndex is matchName for an array index.
func (p Pattern) matchIndex(i, n int) bool {
	if p.tokens[i] == "*" {
		return true
	}
	m, ok := index(p.tokens[i])
	return ok && m == n
}
