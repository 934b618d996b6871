package jsondiff

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
)

// TestTestOperations: with Tests a patch fails on another document than the one
// it was made for, at least where it would remove or replace something.
func TestTestOperations(t *testing.T) {
	rounds := 5_000
	if testing.Short() || raceEnabled {
		rounds = 500
	}
	for c := range rounds {
		r := &randomJSON{Rand: rand.New(rand.NewPCG(uint64(c), 41)), spaces: c%3 == 0, duplicates: c%5 == 0}
		doc := r.node(3)
		old := r.write(nil, doc)
		r.edit(doc)
		text := r.write(nil, doc)
		patch, err := Options{Tests: true}.Diff(old, text)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Apply(old, patch)
		if err != nil {
			t.Fatalf("%s to %s: %v", patch, old, err)
		}
		if same, err := Equal(got, text); !same || err != nil {
			t.Fatalf("%s to %s gives %s, want %s", patch, old, got, text)
		}
		var kinds []string
		for op, err := range Patch(patch).Operations() {
			if err != nil {
				t.Fatal(err)
			}
			if n := len(kinds); (op.Op == "remove" || op.Op == "replace") && (n == 0 || kinds[n-1] != "test") {
				t.Fatalf("%s has no test before %s", patch, op.Path)
			}
			kinds = append(kinds, op.Op)
		}
	}
	if _, err := Apply([]byte(`{"a":2}`), must(Options{Tests: true}.Diff([]byte(`{"a":1}`), []byte(`{"a":3}`)))); !errors.Is(err, ErrTest) {
		t.Errorf("on another document: %v, want ErrTest", err)
	}
}

func must(p Patch, err error) Patch {
	if err != nil {
		panic(err)
	}
	return p
}

// TestNumbersByValue writes numbers in other ways, also where they hide inside
// elements and are keys.
func TestNumbersByValue(t *testing.T) {
	byValue := Options{NumbersByValue: true}
	for _, c := range []struct {
		a, b string
		want bool
	}{
		{`1`, `1.0`, true}, {`[1,2]`, `[1e0,20E-1]`, true}, {`1`, `2`, false}, {`0`, `-0`, true},
		{`[{"a":1},{"a":1.0}]`, `[{"a":1.0},{"a":1}]`, true},
		{`[{"id":1,"v":2},{"id":2,"v":3}]`, `[{"v":2.0,"id":1.0},{"v":3,"id":2e0}]`, true},
		{`{"a":[1,[1.0,1],{"b":1e1}]}`, `{"a":[1.0,[1,1.0],{"b":10}]}`, true},
		{`{"a":[1,[1.0,1],{"b":1e1}]}`, `{"a":[1.0,[1,1.0],{"b":11}]}`, false},
	} {
		if got, err := byValue.Equal([]byte(c.a), []byte(c.b)); got != c.want || err != nil {
			t.Errorf("%s and %s: %v, %v, want %v", c.a, c.b, got, err, c.want)
		}
		if c.a == c.b {
			continue
		}
		if got, err := Equal([]byte(c.a), []byte(c.b)); got || err != nil {
			t.Errorf("as written, %s and %s are equal, %v", c.a, c.b, err)
		}
		patch, err := byValue.MergeDiff([]byte(`{"x":`+c.a+`}`), []byte(`{"x":`+c.b+`}`))
		if err != nil || (string(patch) == "{}") != c.want {
			t.Errorf("%s to %s: merge patch %s, %v", c.a, c.b, patch, err)
		}
	}
	for c := range 2000 {
		r := &randomJSON{Rand: rand.New(rand.NewPCG(uint64(c), 43)), spaces: c%3 == 0}
		doc := r.node(3)
		old := r.write(nil, doc)
		again := doc.clone()
		renumber(r, again)
		if same, err := byValue.Equal(old, r.write(nil, again)); !same || err != nil {
			t.Fatalf("%s\n%s: %v, %v", old, r.write(nil, again), same, err)
		}
	}
}

func renumber(r *randomJSON, n *testNode) {
	if n.kind == 0 && (n.text[0] == '-' || n.text[0] >= '0' && n.text[0] <= '9') && !strings.ContainsAny(n.text, ".eE") && r.IntN(2) == 0 {
		n.text += []string{".0", "e0", ".00E+0", "0e-1"}[r.IntN(4)]
		if n.text == "00e-1" || n.text == "-00e-1" {
			n.text = "0"
		}
	}
	for _, item := range n.items {
		renumber(r, item)
	}
}

// TestErrors holds what a caller is told.
func TestErrors(t *testing.T) {
	limited := Options{Limits: Limits{Depth: 2, Size: 40}}
	for _, c := range []struct {
		err  error
		want string
	}{
		{second(Diff([]byte(`[1`), []byte(`1`))), `jsondiff: old document, line 1, column 3 (byte 2, at /0): expected "," or "]"`},
		{second(Diff([]byte(`1`), []byte("{\n \"a\": {\"b/\": [1, tru]}}"))), `jsondiff: new document, line 2, column 18 (byte 19, at /a/b~1/1): expected a value`},
		{second(Equal([]byte(`1`), []byte(``))), `jsondiff: new document, line 1, column 1 (byte 0): expected a value`},
		{second(Apply([]byte(`{`), []byte(`[]`))), `jsondiff: document, line 1, column 2 (byte 1): expected a member's name or "}"`},
		{second(Apply([]byte(`{}`), []byte(`{}`))), `jsondiff: patch, line 1, column 1 (byte 0): expected an array of operations`},
		{second(Apply([]byte(`{}`), []byte(`[{"op":"remove","path":"/a"}]`))), `jsondiff: operation 0, remove "/a": no such value`},
		{second(limited.Diff([]byte(`[[[1]]]`), []byte(`1`))), `jsondiff: old document, byte 2: nested too deep, the limit is 2`},
		{second(limited.Equal([]byte(`1`), []byte(strings.Repeat(" ", 50)))), `jsondiff: new document: too large, the limit is 40 bytes`},
		{second(limited.MergeDiff([]byte(`[[[]]]`), []byte(`1`))), `jsondiff: old document, byte 2: nested too deep, the limit is 2`},
		{second(limited.ApplyMerge([]byte(`1`), []byte(`[[[]]]`))), `jsondiff: patch, byte 2: nested too deep, the limit is 2`},
		{second(limited.Apply([]byte(`[[]]`), []byte(`[{"op":"add","path":"/0/0","value":[]}]`))), `jsondiff: new document: nested too deep, the limit is 2`},
		{second(limited.Invert([]byte(`[]`), []byte(strings.Repeat(" ", 50)))), `jsondiff: patch: too large, the limit is 40 bytes`},
		{second(limited.Select([]byte(`[[[]]]`), nil)), `jsondiff: document, byte 2: nested too deep, the limit is 2`},
		{second(limited.Omit([]byte(`[[[]]]`), nil)), `jsondiff: document, byte 2: nested too deep, the limit is 2`},
		{second(Select([]byte(`{}`), Pointer{"a"})), `jsondiff: /a: no such value`},
		{second(ParsePointer(`a`)), `jsondiff: pointer "a": expected "/" at offset 0`},
		{second(DiffValues(func() {}, 1)), `jsondiff: old value: json: unsupported type: func()`},
		{second(DiffValues(1, func() {})), `jsondiff: new value: json: unsupported type: func()`},
	} {
		if c.err == nil || c.err.Error() != c.want {
			t.Errorf("got  %v\nwant %s", c.err, c.want)
		}
	}
	for _, e := range []struct{ err, is error }{
		{second(limited.Diff([]byte(`[[[1]]]`), []byte(`1`))), ErrDepth},
		{second(limited.Diff([]byte(strings.Repeat(" ", 50)), []byte(`1`))), ErrSize},
	} {
		var limit *LimitError
		if !errors.Is(e.err, e.is) || !errors.As(e.err, &limit) {
			t.Errorf("%v is not %v", e.err, e.is)
		}
	}
}

func second[T any](_ T, err error) error { return err }

// TestAppend: what appends leaves what was there, also on an error.
func TestAppend(t *testing.T) {
	var o Options
	for name, do := range map[string]func(dst []byte, bad string) ([]byte, error){
		"AppendDiff": func(dst []byte, bad string) ([]byte, error) {
			return o.AppendDiff(dst, []byte(`[1]`), []byte(`[2]`+bad))
		},
		"AppendNext": func(dst []byte, bad string) ([]byte, error) {
			var d Differ
			if out, change, err := d.AppendNext(dst, []byte(`[1]`)); change.Kind != First || len(out) != len(dst) || err != nil {
				t.Errorf("%s, %v, %v", out, change, err)
			}
			if out, change, err := d.AppendNext(dst, []byte(`[ 1 ]`)); change.Kind != Unchanged || len(out) != len(dst) || err != nil {
				t.Errorf("%s, %v, %v", out, change, err)
			}
			out, change, err := d.AppendNext(dst, []byte(`[2]`+bad))
			if string(change.Patch) != string(out[len(dst):]) {
				t.Errorf("%s is not the end of %s", change.Patch, out)
			}
			return out, err
		},
		"AppendApply": func(dst []byte, bad string) ([]byte, error) {
			return o.AppendApply(dst, []byte(`[1]`), []byte(`[]`+bad))
		},
		"AppendMergeDiff": func(dst []byte, bad string) ([]byte, error) {
			return o.AppendMergeDiff(dst, []byte(`[1]`), []byte(`[2]`+bad))
		},
		"AppendApplyMerge": func(dst []byte, bad string) ([]byte, error) {
			return o.AppendApplyMerge(dst, []byte(`[1]`), []byte(`[2]`+bad))
		},
	} {
		alone, err := do(nil, "")
		if err != nil || len(alone) == 0 {
			t.Errorf("%s: %s, %v", name, alone, err)
		}
		for _, room := range []int{0, 1000} {
			dst := append(make([]byte, 0, 3+room), "abc"...)
			if got, err := do(dst, ""); err != nil || string(got) != "abc"+string(alone) {
				t.Errorf("%s: %s, %v", name, got, err)
			}
			if got, err := do(dst, "x"); err == nil || string(got) != "abc" {
				t.Errorf("%s: %s, %v", name, got, err)
			}
		}
	}
	if out, err := o.AppendApply([]byte("abc"), []byte(`[1]`), []byte(`[{"op":"replace","path":"/0","value":2},{"op":"remove","path":"/1"}]`)); err == nil || string(out) != "abc" {
		t.Errorf("%s, %v", out, err)
	}
}

func TestOperations(t *testing.T) {
	var got []string
	for op, err := range Patch(`[{"op":"add","path":"/a~1b/0","value": [1 ]},{"op":"move","from":"/x","path":"/y"},{"op":"remove","path":"x"},{"op":"remove","path":""}]`).Operations() {
		if err != nil {
			got = append(got, err.Error())
			continue
		}
		got = append(got, strings.Join([]string{op.Op, op.Path.String(), op.From.String(), string(op.Value)}, " "))
	}
	want := []string{"add /a~1b/0  [1 ]", "move /y /x ", `jsondiff: operation 2, remove "x": expected "/" at offset 0`}
	if strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	for _, err := range Patch(`{}`).Operations() {
		if err == nil {
			t.Error("an object is taken for a patch")
		}
	}
	for range Patch(`[{"op":"remove","path":""},{"op":"remove","path":""}]`).Operations() {
		break
	}
	text, err := json.Marshal(struct{ P, Q Patch }{Patch(`[]`), nil})
	if err != nil || string(text) != `{"P":[],"Q":null}` {
		t.Errorf("%s, %v", text, err)
	}
}
