package jsondiff

import (
	"strings"
	"testing"
)

// TestDiffCases holds the patches of testdata/compare.txtar: old and new give
// patch, one operation a line there.
func TestDiffCases(t *testing.T) {
	readCases(t, "compare.txtar", func(t *testing.T, parts map[string]string) {
		old, text := []byte(parts["old"]), []byte(parts["new"])
		patch, err := Diff(old, text)
		want := strings.ReplaceAll(parts["patch"], "\n", "")
		if err != nil || string(patch) != want {
			t.Fatalf("old  %s\nnew  %s\ngot  %s, %v\nwant %s", old, text, patch, err, want)
		}
		checkPatch(t, old, text, patch)
		if got, err := Apply(old, patch); err != nil {
			t.Errorf("applying %s: %v", patch, err)
		} else if same, err := Equal(got, text); !same || err != nil {
			t.Errorf("applying %s gives %s, %v", patch, got, err)
		}
	})
}
