package main

import "testing"

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
		if err := wrongPatch([]byte(c.old), []byte(c.new), []byte(c.patch), c.merge); (err == nil) != c.want {
			t.Errorf("%s, %s, %s: %v", c.old, c.new, c.patch, err)
		}
	}
}
