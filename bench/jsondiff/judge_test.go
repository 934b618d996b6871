package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"testing"
)

// The judge itself is held to the public suite where it is there.
func TestJudge(t *testing.T) {
	for _, file := range []string{"tests.json", "spec_tests.json"} {
		data, err := os.ReadFile(filepath.Join("..", "..", "..", "shared", "conformance", "json-patch-tests", file))
		if err != nil {
			t.Skip("the suite is not there: ", err)
		}
		var cases []struct {
			Comment              string
			Doc, Patch, Expected json.RawMessage
			Error                *string
			Disabled             bool
		}
		if err := json.Unmarshal(data, &cases); err != nil {
			t.Fatal(err)
		}
		for i, c := range cases {
			if c.Patch == nil || c.Disabled {
				continue // disabled: two members named op, which encoding/json does not show
			}
			want := c.Expected
			if want == nil {
				want = c.Doc
			}
			if err := judge(c.Doc, want, c.Patch, false); (err == nil) != (c.Error == nil) {
				t.Errorf("%s %d %s: doc %s, patch %s: got %v", file, i, c.Comment, c.Doc, c.Patch, err)
			}
		}
	}
}

func TestJudgeSeesDifferences(t *testing.T) {
	for _, c := range []struct {
		old, new, patch string
		merge, want     bool
	}{
		{`[1]`, `[1.0]`, `[]`, false, true},
		{`[12345678901234567890]`, `[12345678901234567891]`, `[]`, false, false},
		{`{"a":1}`, `{"a":null}`, `{"a":null}`, true, false},
		{`{"a":1}`, `{}`, `{"a":null}`, true, true},
		{`[1]`, `[2]`, `[{"op":"replace","path":"/00","value":2}]`, false, false},
	} {
		if err := judge([]byte(c.old), []byte(c.new), []byte(c.patch), c.merge); (err == nil) != c.want {
			t.Errorf("%s, %s, %s: %v", c.old, c.new, c.patch, err)
		}
	}
}
