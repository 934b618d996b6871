package jsondiff

import (
	"bytes"
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

// pad is how many zero bytes follow a text that is scanned: no token can hold
// one, so the scanners need not look for the end, and can read words.
const pad = 16

// skipSpace returns the first offset at or after i without white space.
func skipSpace(b []byte, i int) int {
	for b[i] <= ' ' && (b[i] == ' ' || b[i] == '\n' || b[i] == '\r' || b[i] == '\t') {
		i++
	}
	return i
}

const (
	eachByte = 0x0101010101010101
	highBits = 0x8080808080808080
)

// scanString returns the offset after the string that opens at i, or ^offset of
// what is wrong with it.
func scanString(b []byte, i int) (end int, escaped bool) {
	i++
	start := i
	var high uint64
	for {
		// Eight bytes at a time until one is a quote, a backslash or a control
		// character: the test of each byte is "borrows when 1 is taken from it".
		for {
			x := binary.LittleEndian.Uint64(b[i:])
			quote := x ^ eachByte*'"'
			slash := x ^ eachByte*'\\'
			stop := ((quote - eachByte) & ^quote) | ((slash - eachByte) & ^slash) | ((x - eachByte*' ') & ^x)
			high |= x
			if stop &= highBits; stop != 0 {
				// The lowest set bit is right, higher ones can be borrows.
				i += bits.TrailingZeros64(stop) >> 3
				break
			}
			i += 8
		}
		switch b[i] {
		case '"':
			// high covers bytes after the quote too; that costs a check, no more.
			if high&highBits != 0 && !utf8.Valid(b[start:i]) {
				return ^(start + validPrefix(b[start:i])), escaped
			}
			return i + 1, escaped
		case '\\':
			escaped = true
			switch b[i+1] {
			case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
				i += 2
			case 'u':
				for k := 2; k < 6; k++ {
					if !isHex(b[i+k]) {
						return ^(i + k), escaped
					}
				}
				i += 6
			default:
				return ^(i + 1), escaped
			}
		default:
			return ^i, escaped
		}
	}
}

// validPrefix counts the bytes before the first that is not UTF-8.
func validPrefix(s []byte) int {
	n := 0
	for n < len(s) {
		r, size := utf8.DecodeRune(s[n:])
		if r == utf8.RuneError && size == 1 {
			break
		}
		n += size
	}
	return n
}

func isHex(c byte) bool {
	return c-'0' <= 9 || (c|0x20)-'a' <= 5
}

// scanNumber returns the offset after the number that begins at i, or ^offset of
// where a digit is missing.
func scanNumber(b []byte, i int) int {
	if b[i] == '-' {
		i++
	}
	switch {
	case b[i] == '0':
		i++
	case b[i]-'1' <= 8:
		for i++; b[i]-'0' <= 9; i++ {
		}
	default:
		return ^i
	}
	if b[i] == '.' {
		i++
		if b[i]-'0' > 9 {
			return ^i
		}
		for i++; b[i]-'0' <= 9; i++ {
		}
	}
	if b[i]|0x20 == 'e' {
		i++
		if b[i] == '+' || b[i] == '-' {
			i++
		}
		if b[i]-'0' > 9 {
			return ^i
		}
		for i++; b[i]-'0' <= 9; i++ {
		}
	}
	return i
}

// continuesNumber tells whether a number before c would be longer with it.
func continuesNumber(c byte) bool {
	return c-'0' <= 9 || c == '.' || c|0x20 == 'e' || c == '+' || c == '-'
}

// shortRun is after how many equal bytes commonPrefix expects many more.
const shortRun = 128

// commonPrefix counts the bytes that a and b begin with alike.
func commonPrefix(a, b []byte) int {
	n := min(len(a), len(b))
	a, b = a[:n], b[:n]
	i := 0
	if n >= shortRun {
		for ; i < shortRun; i += 8 {
			if x := binary.LittleEndian.Uint64(a[i:]) ^ binary.LittleEndian.Uint64(b[i:]); x != 0 {
				return i + bits.TrailingZeros64(x)>>3
			}
		}
		// To compare blocks takes more bytes at a time: longer ones while they
		// are equal, then shorter ones towards the difference.
		block := shortRun
		for i+block <= n && bytes.Equal(a[i:i+block], b[i:i+block]) {
			i += block
			if block < 8192 {
				block *= 2
			}
		}
		for ; block >= 64; block /= 2 {
			if i+block <= n && bytes.Equal(a[i:i+block], b[i:i+block]) {
				i += block
			}
		}
	}
	for ; i+8 <= n; i += 8 {
		if x := binary.LittleEndian.Uint64(a[i:]) ^ binary.LittleEndian.Uint64(b[i:]); x != 0 {
			return i + bits.TrailingZeros64(x)>>3
		}
	}
	for i < n && a[i] == b[i] {
		i++
	}
	return i
}
