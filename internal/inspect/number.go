package inspect

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
)

// Number is a place in the document whose number changes when a page parses it.
type Number struct {
	Path    string `json:"path"`    // JSON Pointer, "*" for any item
	Example string `json:"example"` // as the API writes it
	Becomes string `json:"becomes"` // as JSON.parse reads it
}

// maxNumbers bounds how many places are listed.
const maxNumbers = 10

// numbers finds the numbers of a document that a double cannot hold, and adds
// the first of each place to those that were found before.
func numbers(found []Number, doc any) []Number {
	walk(doc, nil, func(path []string, value any) {
		literal, ok := value.(json.Number)
		if !ok || len(found) == maxNumbers {
			return
		}
		becomes, changed := asDouble(string(literal))
		if !changed {
			return
		}
		at := pattern(path)
		if !slices.ContainsFunc(found, func(n Number) bool { return n.Path == at }) {
			found = append(found, Number{at, clip(string(literal)), becomes})
		}
	})
	return found
}

// asDouble returns a JSON number as an IEEE 754 double, in the shortest decimal
// form that names it, and whether that is another number.
func asDouble(literal string) (becomes string, changed bool) {
	f, err := strconv.ParseFloat(literal, 64)
	if err != nil { // out of range; the value is an infinity
		return strconv.FormatFloat(f, 'g', -1, 64), true
	}
	becomes = strconv.FormatFloat(f, 'f', -1, 64)
	if len(becomes) > 24 {
		becomes = strconv.FormatFloat(f, 'e', -1, 64)
	}
	digits, exponent, ok := decimal(literal)
	was, at, _ := decimal(becomes)
	return becomes, !ok || digits != was || digits != "" && exponent != at
}

// decimal takes a number literal apart: its digits without zeros at either
// end, and the power of ten of the last one. It is not ok if the exponent is
// beyond any double's.
func decimal(literal string) (digits string, exponent int, ok bool) {
	mantissa, power, _ := strings.Cut(strings.ToLower(strings.TrimPrefix(literal, "-")), "e")
	if strings.Trim(mantissa, "0.") == "" {
		return "", 0, true
	}
	if power != "" {
		n, err := strconv.Atoi(power)
		if err != nil || n > 1<<20 || n < -1<<20 {
			return "", 0, false
		}
		exponent = n
	}
	whole, fraction, _ := strings.Cut(mantissa, ".")
	digits = whole + fraction
	exponent -= len(fraction)
	trimmed := strings.TrimRight(digits, "0")
	exponent += len(digits) - len(trimmed)
	return strings.TrimLeft(trimmed, "0"), exponent, true
}

// clip shortens a text for a report.
func clip(s string) string {
	if len(s) <= 40 {
		return s
	}
	return s[:40] + "…"
}
