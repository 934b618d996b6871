package jsondiff

import (
	"encoding/json"
	"errors"
	"math/rand"
	"reflect"
	"strings"
	"testing"
)

func TestMerge(t *testing.T) {
	readCases(t, "merge.txtar", func(t *testing.T, c map[string]string) {
		patch, err := MergeDiff([]byte(c["old"]), []byte(c["new"]))
		if c["patch"] == "not mergeable" {
			if !errors.Is(err, ErrNotMergeable) {
				t.Errorf("old  %s\nnew  %s\ngot  %s, %v\nwant ErrNotMergeable", c["old"], c["new"], patch, err)
			}
			return
		}
		if err != nil || string(patch) != c["patch"] {
			t.Errorf("old  %s\nnew  %s\ngot  %s, %v\nwant %s", c["old"], c["new"], patch, err, c["patch"])
			return
		}
		got, err := ApplyMerge([]byte(c["old"]), patch)
		if err != nil || !sameJSON(t, got, []byte(c["new"])) {
			t.Errorf("old   %s\npatch %s\ngot   %s, %v\nwant  %s", c["old"], patch, got, err, c["new"])
		}
	})
}

func TestApplyMergeRFC7396(t *testing.T) {
	var cases []struct{ Original, Patch, Result string }
	if err := json.Unmarshal(conformance(t, "rfc/rfc7396_appendix_a.json"), &cases); err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		got, err := ApplyMerge([]byte(c.Original), []byte(c.Patch))
		if err != nil || !sameJSON(t, got, []byte(c.Result)) {
			t.Errorf("ApplyMerge(%s, %s) = %s, %v, want %s", c.Original, c.Patch, got, err, c.Result)
		}
	}
}

// Cost stays in proportion where every level of a deep document differs.
func TestMergeDeep(t *testing.T) {
	chain := func(leaf string) string {
		return strings.Repeat(`{"a":`, 900) + leaf + strings.Repeat("}", 900)
	}
	documents := func(leaf string) []byte {
		return []byte(`{"x":[` + strings.TrimSuffix(strings.Repeat(chain(leaf)+",", 100), ",") + `],"y":` + chain(leaf) + `}`)
	}
	old, new := documents("1"), documents("2")
	patch, err := MergeDiff(old, new)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ApplyMerge(old, patch); err != nil || string(got) != string(new) {
		t.Errorf("got %.100s, %v", got, err)
	}
	if _, err := MergeDiff(old, documents("null")); !errors.Is(err, ErrNotMergeable) {
		t.Errorf("got %v, want ErrNotMergeable", err)
	}
	if got, err := ApplyMerge([]byte("1"), []byte(`{"a":`+chain("null")+`}`)); err != nil || strings.Contains(string(got), "null") {
		t.Errorf("got %.100s, %v", got, err)
	}
}

// sameJSON compares documents as Equal does, by way of two encodings: literals
// as written, names in order, the last of equal names.
func sameJSON(t *testing.T, a, b []byte) bool {
	t.Helper()
	m, done, err := Options{}.readTwo(a, "a", b, "b")
	if err != nil {
		t.Fatalf("%s and %s: %v", a, b, err)
	}
	defer done()
	return m.same(0, 0)
}

func FuzzMerge(f *testing.F) {
	addCorpus(f)
	for _, c := range seed(f, "merge.txtar", "old", "new") {
		f.Add(c[0], c[1])
	}
	f.Fuzz(func(t *testing.T, old, new string) {
		patch, err := MergeDiff([]byte(old), []byte(new))
		if err != nil {
			// Applied as a patch, anything valid gives something valid all the same.
			if json.Valid([]byte(old)) && json.Valid([]byte(new)) && errors.Is(err, ErrNotMergeable) {
				if got, err := ApplyMerge([]byte(old), []byte(new)); err != nil || !json.Valid(got) {
					t.Fatalf("ApplyMerge(%s, %s) = %s, %v", old, new, got, err)
				}
			}
			return
		}
		got, err := ApplyMerge([]byte(old), patch)
		if err != nil || !sameJSON(t, got, []byte(new)) {
			t.Fatalf("ApplyMerge(%s, %s) = %s, %v, want %s", old, patch, got, err, new)
		}
	})
}

// Random pairs: what MergeDiff calls inexpressible is so by another measure, too.
func TestMergeRandom(t *testing.T) {
	r := rand.New(rand.NewSource(1))
	names := []string{"a", "b", "c", "", "\\u0061"}
	var value func(depth int) string
	value = func(depth int) string {
		switch n := r.Intn(10); {
		case n < 2 && depth > 0:
			return "[" + value(depth-1) + "," + value(depth-1) + "]"
		case n < 7 && depth > 0:
			var members []string
			for range r.Intn(5) {
				members = append(members, `"`+names[r.Intn(len(names))]+`":`+value(depth-1))
			}
			return "{" + strings.Join(members, ",") + "}"
		}
		return []string{"null", "1", "1.0", "-0", `"x"`, `"\u0078"`, "[]", "{}", "1e400"}[r.Intn(9)]
	}
	// expressible decides on decoded values, where the last of equal names counts.
	var clean func(v any) bool
	clean = func(v any) bool {
		m, _ := v.(map[string]any)
		for _, w := range m {
			if w == nil || !clean(w) {
				return false
			}
		}
		return true
	}
	var expressible func(old, new any) bool
	expressible = func(old, new any) bool {
		a, aok := old.(map[string]any)
		b, bok := new.(map[string]any)
		if !aok || !bok {
			return clean(new)
		}
		for name, w := range b {
			v, there := a[name]
			switch {
			case there && reflect.DeepEqual(v, w):
			case w == nil || there && !expressible(v, w) || !there && !clean(w):
				return false
			}
		}
		return true
	}
	decode := func(text string) (v any) {
		d := json.NewDecoder(strings.NewReader(text))
		d.UseNumber()
		if err := d.Decode(&v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	made := 0
	for range 50_000 {
		old, new := value(4), value(4)
		patch, err := MergeDiff([]byte(old), []byte(new))
		if want := expressible(decode(old), decode(new)); (err == nil) != want {
			t.Fatalf("old  %s\nnew  %s\ngot  %s, %v\nwant expressible %v", old, new, patch, err, want)
		}
		if err != nil {
			if !errors.Is(err, ErrNotMergeable) {
				t.Fatal(err)
			}
			continue
		}
		made++
		got, err := ApplyMerge([]byte(old), patch)
		if err != nil || !reflect.DeepEqual(decode(string(got)), decode(new)) {
			t.Fatalf("old   %s\npatch %s\ngot   %s, %v\nwant  %s", old, patch, got, err, new)
		}
	}
	if made < 10_000 {
		t.Errorf("only %d patches", made)
	}
}
