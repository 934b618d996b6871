package jsondiff

import (
	"bytes"
	"strconv"
)

// equalNumber compares two JSON number literals by value, as a `test` operation
// must (RFC 6902 section 4.6). It never expands an exponent and never rounds:
// both literals are brought to digits × 10^exponent, with neither leading nor
// trailing zeros in the digits, in time linear in the literals.
func equalNumber(a, b []byte) bool {
	if bytes.Equal(a, b) {
		return true
	}
	x, y := readDecimal(a), readDecimal(b)
	if len(x.digits) == 0 || len(y.digits) == 0 {
		return len(x.digits) == len(y.digits) // -0 is 0, and so is 0e9
	}
	return x.negative == y.negative && equalDigits(x.digits, y.digits) && x.exponent() == y.exponent()
}

// decimal is a number literal taken apart, not copied.
type decimal struct {
	negative bool
	digits   []byte // without zeros at either end; may hold the decimal point; empty for zero
	shift    int    // exponent of the last digit, the literal's own exponent left out
	exp      []byte // the literal's own exponent: digits without leading zeros
	expNeg   bool
}

func readDecimal(s []byte) decimal {
	var d decimal
	if s[0] == '-' {
		d.negative, s = true, s[1:]
	}
	if e := bytes.IndexAny(s, "eE"); e >= 0 {
		exp := s[e+1:]
		if exp[0] == '+' || exp[0] == '-' {
			d.expNeg, exp = exp[0] == '-', exp[1:]
		}
		d.exp, s = bytes.TrimLeft(exp, "0"), s[:e]
	}
	last, point := bytes.TrimRight(s, "0."), bytes.IndexByte(s, '.')
	if point < 0 {
		point = len(s)
	}
	// How far the last digit that counts stands from the point's left side.
	if len(last) <= point {
		d.shift = point - len(last)
	} else {
		d.shift = point - len(last) + 1
	}
	d.digits = bytes.TrimLeft(last, "0.")
	return d
}

// equalDigits compares two runs of digits, skipping the points in them.
func equalDigits(a, b []byte) bool {
	i, j := 0, 0
	for {
		if i < len(a) && a[i] == '.' {
			i++
		}
		if j < len(b) && b[j] == '.' {
			j++
		}
		if i == len(a) || j == len(b) {
			return i == len(a) && j == len(b)
		}
		if a[i] != b[j] {
			return false
		}
		i++
		j++
	}
}

// exponent is the last digit's exponent in canonical decimal form. The
// literal's own may have any number of digits, so it is no integer type.
func (d decimal) exponent() string {
	if len(d.exp) < 18 {
		n := int64(0)
		for _, c := range d.exp {
			n = n*10 + int64(c-'0')
		}
		if d.expNeg {
			n = -n
		}
		return strconv.FormatInt(n+int64(d.shift), 10)
	}
	// Too long for an int, and so far larger than the shift that the sign stays:
	// add the shift to the magnitude digit by digit.
	carry := d.shift
	if d.expNeg {
		carry = -carry
	}
	sum := append([]byte{'0'}, d.exp...)
	for i := len(sum) - 1; carry != 0 && i >= 0; i-- {
		v := int(sum[i]-'0') + carry
		carry = v / 10
		if v %= 10; v < 0 {
			v += 10
			carry--
		}
		sum[i] = byte('0' + v)
	}
	sum = bytes.TrimLeft(sum, "0")
	if d.expNeg {
		return "-" + string(sum)
	}
	return string(sum)
}

// appendCanonicalNumber writes a literal so that two are the same text if they
// are the same number.
func appendCanonicalNumber(dst, literal []byte) []byte {
	d := readDecimal(literal)
	if len(d.digits) == 0 {
		return append(dst, '0')
	}
	if d.negative {
		dst = append(dst, '-')
	}
	for _, c := range d.digits {
		if c != '.' {
			dst = append(dst, c)
		}
	}
	return append(append(dst, 'e'), d.exponent()...)
}
