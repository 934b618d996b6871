package jsondiff

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// moved gives a list in which an element stands somewhere else.
func moved(list []string, from, to int) []string {
	rest := slices.Delete(slices.Clone(list), from, from+1)
	return slices.Insert(rest, to, list[from])
}

func joined(list []string) []byte { return []byte("[" + strings.Join(list, ",") + "]") }

// TestShortElements holds patches of arrays of short elements against what
// somebody would write by hand.
func TestShortElements(t *testing.T) {
	var tags, digits, tuples []string
	for i := range 24 {
		tags = append(tags, `"tag`+strconv.Itoa(i)+`"`)
	}
	for i := range 60 {
		digits = append(digits, strconv.Itoa(i*7%13))
	}
	for i := range 40 {
		tuples = append(tuples, fmt.Sprintf("[%d,%d]", 1_700_000+i, i*31%17))
	}
	for _, c := range []struct {
		name     string
		old, new []string
		want     string
	}{
		{"two moved tags", tags, moved(moved(tags, 3, 20), 10, 5), `[{"op":"move","from":"/11","path":"/6"},{"op":"move","from":"/3","path":"/20"}]`},
		{"two moved digits", digits, moved(moved(digits, 3, 40), 50, 10), `[{"op":"move","from":"/50","path":"/12"},{"op":"move","from":"/3","path":"/41"}]`},
		{"two moved tuples", tuples, moved(moved(tuples, 3, 30), 20, 5), `[{"op":"move","from":"/21","path":"/6"},{"op":"move","from":"/3","path":"/30"}]`},
		{"a removal far from an insertion", digits, slices.Insert(slices.Delete(slices.Clone(digits), 10, 11), 29, "99"), `[{"op":"remove","path":"/10"},{"op":"add","path":"/29","value":99}]`},
		{"a removal near an insertion", digits, slices.Insert(slices.Delete(slices.Clone(digits), 10, 11), 13, "99"), `[{"op":"remove","path":"/10"},{"op":"add","path":"/13","value":99}]`},
		{"two tags in each other's place", tags, moved(moved(tags, 3, 20), 19, 3), `[{"op":"replace","path":"/3","value":"tag20"},{"op":"replace","path":"/20","value":"tag3"}]`},
	} {
		old, text := joined(c.old), joined(c.new)
		patch, err := Diff(old, text)
		if err != nil {
			t.Fatal(err)
		}
		checkPatch(t, old, text, patch)
		if len(patch) > len(c.want) {
			t.Errorf("%s\ngot  %s, %d bytes\nwant %s, %d bytes", c.name, patch, len(patch), c.want, len(c.want))
		}
	}
}

// TestEditScript compares the length of random scripts with that of dynamic
// programming, and carries them out.
func TestEditScript(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 5))
	found := 0
	for range 20_000 {
		letters := func() []string {
			list := make([]string, 1+r.IntN(12))
			for i := range list {
				list[i] = `"` + strings.Repeat(string(rune('a'+r.IntN(2+r.IntN(4)))), 40) + `"`
			}
			return list
		}
		a, b := letters(), letters()
		var s scratch
		var d Differ
		d.Next(joined(a))
		s.load(joined(b), Limits{}.withDefaults(), false)
		w := &s.walk
		base := d.base
		base.tape = d.tape()
		w.start(base, &d.options)
		w.new.document()
		olds, news := w.old.elements(nil, 1, w.old.tape.stop(0)), w.new.elements(nil, 1, w.new.tape.stop(0))
		if !w.script.find(w, olds, news) {
			continue
		}
		found++
		gone, born := slices.Clone(w.script.gone), slices.Clone(w.script.born)
		slices.Reverse(gone)
		slices.Reverse(born)
		got := slices.Clone(a)
		for _, i := range slices.Backward(gone) {
			got = slices.Delete(got, int(i), int(i)+1)
		}
		for _, j := range born {
			got = slices.Insert(got, int(j), b[j])
		}
		if !slices.Equal(got, b) || len(gone)+len(born) != distance(a, b) {
			t.Fatalf("%v to %v: gone %v, born %v gives %v, want %d edits", a, b, gone, born, got, distance(a, b))
		}
	}
	if found < 10_000 {
		t.Errorf("only %d scripts were found", found)
	}
}

// distance is the least number of removals and additions.
func distance(a, b []string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range a {
		last := row[0]
		row[0] = i + 1
		for j := range b {
			next := 1 + min(row[j], row[j+1])
			if a[i] == b[j] {
				next = last
			}
			last, row[j+1] = row[j+1], next
		}
	}
	return row[len(b)]
}
