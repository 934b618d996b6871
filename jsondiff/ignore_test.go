package jsondiff

import (
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"github.com/pollsse/caddy-poll-sse/internal/judge"
)

// TestIgnoreByPlace: what is ignored is a place in the document, whatever the
// operations that a patch would have.
func TestIgnoreByPlace(t *testing.T) {
	for _, c := range []struct {
		ignore, old, new string
		want             Kind
	}{
		{"/0", `["a","b","c"]`, `["b","c"]`, Changed},
		{"/0", `["a","b","c"]`, `["x","b","c"]`, Unchanged},
		{"/0", `["a","b","c"]`, `["x","a","b","c"]`, Changed},
		{"/3", `["a","b","c"]`, `["a","b","c","d"]`, Unchanged},
		{"/3", `["a","b","c","d"]`, `["a","b","c"]`, Unchanged},
		{"/2", `["a","b","c","d"]`, `["a","b","c"]`, Changed},
		{"/*", `["a","b","c","d"]`, `[1,2]`, Unchanged},
		{"/*/ts", `[{"v":1,"ts":1},{"v":1,"ts":2},{"v":1,"ts":3}]`, `[{"v":1,"ts":2},{"v":1,"ts":3},{"v":1,"ts":4}]`, Unchanged},
		{"/*/ts", `[{"v":1,"ts":1},{"v":1,"ts":2},{"v":2,"ts":3}]`, `[{"v":1,"ts":2},{"v":2,"ts":3},{"v":1,"ts":4}]`, Changed},
		{"/*/ts", `[{"v":1,"ts":1},{"v":1,"ts":2}]`, `[{"v":1,"ts":2},{"v":1,"ts":1},{"v":1}]`, Changed},
		{"/rows/*/ts", `{"n":[1,2],"rows":[{"v":[{"a":1,"b":1}],"ts":1},{"v":[{"a":1,"b":1}],"ts":2}]}`,
			`{"rows":[{"ts":2,"v":[{"b":1,"a":1}]},{"ts":4,"v":[{"b":1,"a":1}]}],"n":[1,2]}`, Unchanged},
		{"/1/0", `[[1,2],[3,4]]`, `[[1,2],[5,4]]`, Unchanged},
		{"/1/0", `[[1,2],[3,4]]`, `[[1,2],[4]]`, Changed},
		{"/a", `{"a":1,"b":[1,2,3]}`, `{"b":[1,2,3]}`, Unchanged},
		{"/a", `[1]`, `{"a":1}`, Changed},
		{"/x/a", `{"x":{"a":1}}`, `{"x":[1]}`, Changed},
		{"", `[1]`, `{"a":1}`, Unchanged},
	} {
		d := NewDiffer(Options{Ignore: []Pattern{pattern(t, c.ignore)}})
		d.Next([]byte(c.old))
		change, err := d.Next([]byte(c.new))
		if err != nil || change.Kind != c.want {
			t.Errorf("ignoring %s\nold %s\nnew %s\n%v, %v, patch %s, want %v", c.ignore, c.old, c.new, change.Kind, err, change.Patch, c.want)
		}
		if c.want == Unchanged && string(d.Document()) != c.old {
			t.Errorf("ignoring %s: the document became %s", c.ignore, d.Document())
		}
	}
}

// below is the pointer to a member or an element.
func below(at Pointer, token string) Pointer { return append(slices.Clip(at), token) }

// coversPlace says again what a pattern covers.
func coversPlace(p Pattern, at Pointer) bool {
	tokens, _ := ParsePointer(p.String())
	if len(tokens) > len(at) {
		return false
	}
	for i, token := range tokens {
		if token != "*" && token != at[i] {
			return false
		}
	}
	return true
}

// sameBut is what Ignore means, said again with decoded values.
func sameBut(old, new any, at Pointer, ignore []Pattern) bool {
	for _, p := range ignore {
		if coversPlace(p, at) {
			return true
		}
	}
	covered := func(token string) bool {
		for _, p := range ignore {
			if coversPlace(p, below(at, token)) {
				return true
			}
		}
		return false
	}
	switch old := old.(type) {
	case map[string]any:
		new, ok := new.(map[string]any)
		if !ok {
			return false
		}
		for name, v := range old {
			if w, ok := new[name]; ok && !sameBut(v, w, below(at, name), ignore) || !ok && !covered(name) {
				return false
			}
		}
		for name := range new {
			if _, ok := old[name]; !ok && !covered(name) {
				return false
			}
		}
		return true
	case []any:
		new, ok := new.([]any)
		if !ok {
			return false
		}
		for i := range max(len(old), len(new)) {
			if token := strconv.Itoa(i); i < len(old) && i < len(new) {
				if !sameBut(old[i], new[i], below(at, token), ignore) {
					return false
				}
			} else if !covered(token) {
				return false
			}
		}
		return true
	}
	return judge.Equal(old, new)
}

// TestIgnoreRandom holds what Next calls unchanged against a witness.
func TestIgnoreRandom(t *testing.T) {
	rounds := 30_000
	if testing.Short() || raceEnabled {
		rounds = 3_000
	}
	all := []string{"/a", "/b", "/*/a", "/*/id", "/*/v", "/*/*", "/0", "/1", "/*/0", "/*/1", "/*/*/v", "/0/*", "/id", "/A", "/~01", "/*/*/*/a", "/*/v/*"}
	unchanged := 0
	for c := range rounds {
		r := &randomJSON{Rand: rand.New(rand.NewPCG(uint64(c), 23)), spaces: c%3 == 0, duplicates: c%5 == 0}
		doc := r.node(3)
		old := r.write(nil, doc)
		for range 1 + r.IntN(3) {
			r.edit(doc)
		}
		text := r.write(nil, doc)
		if r.IntN(3) == 0 {
			text = r.respell(nil, doc)
		}
		var ignore []Pattern
		for range 1 + r.IntN(4) {
			ignore = append(ignore, pattern(t, all[r.IntN(len(all))]))
		}
		d := NewDiffer(Options{Ignore: ignore, Limits: Limits{Work: []int{0, 0, 1, 30}[r.IntN(4)]}})
		d.Next(old)
		x, _ := judge.Parse(old)
		y, _ := judge.Parse(text)
		want := Changed
		if sameBut(x, y, nil, ignore) {
			want = Unchanged
			unchanged++
		}
		change, err := d.Next(text)
		if err != nil || change.Kind != want {
			t.Fatalf("ignoring %s\nold %s\nnew %s\n%v, %v, want %v", ignore, old, text, change.Kind, err, want)
		}
		if want == Changed {
			checkPatch(t, old, text, change.Patch)
			checkState(t, d, text)
		}
	}
	if unchanged < rounds/20 {
		t.Errorf("only %d of %d unchanged", unchanged, rounds)
	}
}
