package jsondiff

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

func TestMerge(t *testing.T) {
	readCases(t, "merge.txtar", func(t *testing.T, c map[string]string) {
		patch, err := Merge([]byte(c["old"]), []byte(c["new"]))
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
	patch, err := Merge(old, new)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ApplyMerge(old, patch); err != nil || string(got) != string(new) {
		t.Errorf("got %.100s, %v", got, err)
	}
	if _, err := Merge(old, documents("null")); !errors.Is(err, ErrNotMergeable) {
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
	m, err := readTwo(a, b)
	if err != nil {
		t.Fatalf("%s and %s: %v", a, b, err)
	}
	return m.same(0, 0)
}

func FuzzMerge(f *testing.F) {
	for _, c := range seed(f, "merge.txtar", "old", "new") {
		f.Add(c[0], c[1])
	}
	f.Fuzz(func(t *testing.T, old, new string) {
		patch, err := Merge([]byte(old), []byte(new))
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
