package jsondiff

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"
)

// unescape gives the characters of a valid JSON string, or s itself where it
// has no escapes. A surrogate without its other half is kept as its three bytes
// (WTF-8): RFC 8259 allows it, and two names that differ must stay different.
func unescape(s []byte) []byte {
	i := bytes.IndexByte(s, '\\')
	if i < 0 {
		return s
	}
	b := append(make([]byte, 0, len(s)), s[:i]...)
	for i < len(s) {
		c := s[i]
		if c != '\\' {
			b = append(b, c)
			i++
			continue
		}
		switch c = s[i+1]; c {
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
			r := hex4(s[i+2:])
			i += 6
			if utf16.IsSurrogate(r) {
				if i+6 <= len(s) && s[i] == '\\' && s[i+1] == 'u' {
					if both := utf16.DecodeRune(r, hex4(s[i+2:])); both != utf8.RuneError {
						b = utf8.AppendRune(b, both)
						i += 6
						continue
					}
				}
				b = append(b, 0xe0|byte(r>>12), 0x80|byte(r>>6)&0x3f, 0x80|byte(r)&0x3f)
				continue
			}
			b = utf8.AppendRune(b, r)
			continue
		}
		b = append(b, c)
		i += 2
	}
	return b
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
