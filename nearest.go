package pollsse

import (
	"fmt"
	"strings"
)

// nearest returns the candidate that word was probably meant to be: one that
// differs in case and separators only, or by one slip, or by two if it is long.
// It returns an empty string if there is none.
func nearest(word string, candidates []string) string {
	plain := func(s string) string {
		return strings.ToLower(strings.NewReplacer("_", "", "-", "").Replace(s))
	}
	best, least := "", len(word)
	for _, c := range candidates {
		most := 2
		if len(c) <= 4 {
			most = 1
		}
		if n := slips(plain(word), plain(c)); n <= most && n < least {
			best, least = c, n
		}
	}
	return best
}

// pointerError says what is wrong with a JSON Pointer, and what one without a
// slash in front was probably meant to be.
func pointerError(option, text string, err error) error {
	if text == "" || text[0] == '/' {
		return fmt.Errorf("%s: %w", option, err)
	}
	meant := strings.TrimPrefix(strings.TrimPrefix(text, "$"), ".")
	if !strings.Contains(meant, "/") {
		meant = strings.NewReplacer(".", "/", "[", "/", "]", "").Replace(meant)
	}
	return fmt.Errorf("%s %q: a JSON Pointer begins with a slash; did you mean /%s?", option, text, meant)
}

// slips counts the slips of a finger between two words: letters added, left out,
// replaced, or swapped with the next (the optimal string alignment distance).
func slips(a, b string) int {
	before, last := make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			same := 1
			if a[i] == b[j] {
				same = 0
			}
			row[j+1] = min(last[j+1]+1, row[j]+1, last[j]+same)
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last = last, row
	}
	return last[len(b)]
}
