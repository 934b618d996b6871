// Package judge holds what the module sends against what it should have sent:
// JSON, JSON Patch, JSON Merge Patch and event streams as a client that knows
// nothing of the module would implement them. It is for tests, imports the
// standard library only and shares nothing with the code that it judges.
package judge

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/big"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Parse reads one JSON text (RFC 8259) and nothing after it, as
// [json.Decoder.UseNumber] would: numbers stay as they were written, and of
// members with equal names the last counts. Other than encoding/json it refuses
// what is not UTF-8 and tells lone surrogates apart: "\ud800" becomes the
// three bytes that UTF-8 would have for it.
func Parse(text []byte) (any, error) {
	if !utf8.Valid(text) {
		return nil, errors.New("not UTF-8")
	}
	var valid json.RawMessage
	if err := json.Unmarshal(text, &valid); err != nil {
		return nil, err
	}
	v, _ := build(skipSpace(text))
	return v, nil
}

// build reads the value that b begins with. The text is known to be valid.
func build(b []byte) (any, []byte) {
	switch b[0] {
	case '{':
		object := map[string]any{}
		for b = skipSpace(b[1:]); b[0] != '}'; b = skipComma(b) {
			name, rest := cutString(b)
			rest = skipSpace(rest) // at the colon
			object[name], b = build(skipSpace(rest[1:]))
		}
		return object, b[1:]
	case '[':
		array := []any{}
		for b = skipSpace(b[1:]); b[0] != ']'; b = skipComma(b) {
			var item any
			item, b = build(b)
			array = append(array, item)
		}
		return array, b[1:]
	case '"':
		return cutString(b)
	}
	word, rest := cutWord(b)
	switch word {
	case "true", "false":
		return word == "true", rest
	case "null":
		return nil, rest
	}
	return json.Number(word), rest
}

// Equal reports whether two values are the same; numbers as they were written,
// so that 1.0 is not 1.
func Equal(a, b any) bool {
	return equal(a, b, func(a, b json.Number) bool { return a == b })
}

// SameValue is Equal but for numbers, which are compared by their value, as
// RFC 6902 section 4.6 asks for.
func SameValue(a, b any) bool { return equal(a, b, sameNumber) }

func equal(a, b any, same func(a, b json.Number) bool) bool {
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for name, v := range a {
			if w, ok := b[name]; !ok || !equal(v, w, same) {
				return false
			}
		}
		return true
	case []any:
		b, ok := b.([]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for i := range a {
			if !equal(a[i], b[i], same) {
				return false
			}
		}
		return true
	case json.Number:
		b, ok := b.(json.Number)
		return ok && same(a, b)
	case string, bool, nil:
		return a == b
	}
	return false
}

// sameNumber compares two JSON numbers by value, of any size and exactly.
func sameNumber(a, b json.Number) bool {
	if a == b {
		return true
	}
	x, y := decompose(string(a)), decompose(string(b))
	return x.negative == y.negative && x.digits == y.digits && x.exponent == y.exponent
}

// decimal is 0.digits * 10^exponent. Digits neither begin nor end with a 0;
// zero has none.
type decimal struct {
	negative bool
	digits   string
	exponent string // an integer of any size
}

func decompose(number string) decimal {
	mantissa, exponent := number, new(big.Int)
	if i := strings.IndexAny(number, "eE"); i >= 0 {
		mantissa = number[:i]
		exponent.SetString(number[i+1:], 10)
	}
	var d decimal
	mantissa, d.negative = strings.CutPrefix(mantissa, "-")
	whole, fraction, _ := strings.Cut(mantissa, ".")
	digits := strings.TrimLeft(whole+fraction, "0")
	point := len(whole) - (len(whole+fraction) - len(digits))
	d.digits = strings.TrimRight(digits, "0")
	if d.digits == "" {
		return decimal{}
	}
	d.exponent = exponent.Add(exponent, big.NewInt(int64(point))).String()
	return d
}

// Clone copies a value, so that changing the copy leaves the original.
func Clone(v any) any {
	switch v := v.(type) {
	case map[string]any:
		c := make(map[string]any, len(v))
		for name, w := range v {
			c[name] = Clone(w)
		}
		return c
	case []any:
		c := make([]any, len(v))
		for i, w := range v {
			c[i] = Clone(w)
		}
		return c
	}
	return v
}

// Matches reports whether a JSON text says the value v, as Equal does, without
// building a value of its own. If the text has members with equal names, it
// does not match.
func Matches(v any, text []byte) bool {
	if !utf8.Valid(text) || !json.Valid(text) {
		return false
	}
	_, ok := match(v, skipSpace(text))
	return ok
}

// match compares v with the value that b begins with. The text is known to be
// valid.
func match(v any, b []byte) (rest []byte, ok bool) {
	switch b[0] {
	case '{':
		object, ok := v.(map[string]any)
		if !ok {
			return nil, false
		}
		n := 0
		for b = skipSpace(b[1:]); b[0] != '}'; b = skipComma(b) {
			name, rest := cutString(b)
			member, ok := object[name]
			if !ok {
				return nil, false
			}
			rest = skipSpace(rest) // at the colon
			if b, ok = match(member, skipSpace(rest[1:])); !ok {
				return nil, false
			}
			n++
		}
		return b[1:], n == len(object)
	case '[':
		array, ok := v.([]any)
		if !ok {
			return nil, false
		}
		n := 0
		for b = skipSpace(b[1:]); b[0] != ']'; b = skipComma(b) {
			if n == len(array) {
				return nil, false
			}
			if b, ok = match(array[n], b); !ok {
				return nil, false
			}
			n++
		}
		return b[1:], n == len(array)
	case '"':
		s, rest := cutString(b)
		return rest, v == s
	}
	word, rest := cutWord(b)
	switch v := v.(type) {
	case json.Number:
		return rest, word == string(v)
	case bool:
		return rest, word == strconv.FormatBool(v)
	case nil:
		return rest, word == "null"
	}
	return nil, false
}

// SameText reports whether two JSON texts differ in nothing but white space.
func SameText(a, b []byte) bool {
	inString := false
	for {
		if !inString {
			a, b = skipSpace(a), skipSpace(b)
		}
		if len(a) == 0 || len(b) == 0 {
			return len(a) == len(b)
		}
		n := 1
		if inString && a[0] == '\\' {
			n = 2
		}
		if len(a) < n || len(b) < n || a[0] != b[0] || a[n-1] != b[n-1] {
			return false
		}
		if a[0] == '"' {
			inString = !inString
		}
		a, b = a[n:], b[n:]
	}
}

func skipSpace(b []byte) []byte {
	i := 0
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\r' || b[i] == '\t') {
		i++
	}
	return b[i:]
}

// skipComma goes from the end of an item to the next, or to the bracket.
func skipComma(b []byte) []byte {
	if b = skipSpace(b); b[0] == ',' {
		b = skipSpace(b[1:])
	}
	return b
}

// cutWord takes a number, true, false or null off a valid text.
func cutWord(b []byte) (string, []byte) {
	i := bytes.IndexAny(b, " \n\r\t,]}")
	if i < 0 {
		i = len(b)
	}
	return string(b[:i]), b[i:]
}

// cutString takes a string off a valid text.
func cutString(b []byte) (string, []byte) {
	end := 1
	for b[end] != '"' {
		if b[end] == '\\' {
			end++
		}
		end++
	}
	return unescape(b[1:end]), b[end+1:]
}

var escapes = map[byte]byte{'"': '"', '\\': '\\', '/': '/', 'b': '\b', 'f': '\f', 'n': '\n', 'r': '\r', 't': '\t'}

func unescape(b []byte) string {
	if bytes.IndexByte(b, '\\') < 0 {
		return string(b)
	}
	out := make([]byte, 0, len(b))
	for len(b) > 0 {
		switch {
		case b[0] != '\\':
			out = append(out, b[0])
			b = b[1:]
		case b[1] != 'u':
			out = append(out, escapes[b[1]])
			b = b[2:]
		default:
			unit := hexUnit(b)
			b = b[6:]
			if utf16.IsSurrogate(unit) {
				if len(b) > 1 && b[0] == '\\' && b[1] == 'u' {
					if pair := utf16.DecodeRune(unit, hexUnit(b)); pair != utf8.RuneError {
						out = utf8.AppendRune(out, pair)
						b = b[6:]
						continue
					}
				}
				out = append(out, 0xe0|byte(unit>>12), 0x80|byte(unit>>6)&0x3f, 0x80|byte(unit)&0x3f)
				continue
			}
			out = utf8.AppendRune(out, unit)
		}
	}
	return string(out)
}

// hexUnit reads the UTF-16 unit of an escape \uXXXX.
func hexUnit(b []byte) rune {
	n, _ := strconv.ParseUint(string(b[2:6]), 16, 16)
	return rune(n)
}
