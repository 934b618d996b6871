package jsondiff

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand"
	"strings"
	"testing"
)

func TestApply(t *testing.T) {
	readCases(t, "apply.txtar", func(t *testing.T, c map[string]string) {
		got, err := Apply([]byte(c["doc"]), []byte(c["patch"]))
		if want, fails := c["error"]; fails {
			if err == nil || !strings.Contains(err.Error(), want) || got != nil {
				t.Errorf("doc   %s\npatch %s\ngot   %s, %v\nwant  error %s", c["doc"], c["patch"], got, err, want)
			}
			return
		}
		if err != nil || string(got) != c["want"] {
			t.Errorf("doc   %s\npatch %s\ngot   %s, %v\nwant  %s", c["doc"], c["patch"], got, err, c["want"])
		}
	})
}

// The suite's disabled cases run too: a scalar as the whole document, a test of
// the whole document, and two "op" members, which is an error here.
func TestApplyJSONPatchTests(t *testing.T) {
	for _, file := range []string{"tests.json", "spec_tests.json"} {
		t.Run(file, func(t *testing.T) {
			var cases []struct {
				Comment              string
				Doc, Patch, Expected json.RawMessage
				Error                *string
				Disabled             bool
			}
			if err := json.Unmarshal(conformance(t, "json-patch-tests/"+file), &cases); err != nil {
				t.Fatal(err)
			}
			ran := 0
			for i, c := range cases {
				if c.Patch == nil {
					continue // a comment
				}
				ran++
				t.Run(fmt.Sprintf("%d %s", i, c.Comment), func(t *testing.T) {
					got, err := Apply(c.Doc, c.Patch)
					switch {
					case c.Error != nil && err == nil:
						t.Errorf("doc   %s\npatch %s\ngot   %s\nwant  error %s", c.Doc, c.Patch, got, *c.Error)
					case c.Error == nil && err != nil:
						t.Errorf("doc   %s\npatch %s\ngot   %v\nwant  %s", c.Doc, c.Patch, err, c.Expected)
					case c.Error == nil && c.Expected != nil && !sameValue(t, got, c.Expected):
						t.Errorf("doc   %s\npatch %s\ngot   %s\nwant  %s", c.Doc, c.Patch, got, c.Expected)
					}
				})
			}
			if ran < 15 {
				t.Errorf("only %d cases", ran)
			}
		})
	}
}

func sameValue(t *testing.T, a, b []byte) bool {
	t.Helper()
	test, err := json.Marshal([]any{map[string]any{"op": "test", "path": "", "value": json.RawMessage(b)}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = Apply(a, test)
	if err != nil && !errors.Is(err, ErrTest) {
		t.Fatal(err)
	}
	return err == nil
}

func TestApplyRFC6902(t *testing.T) {
	var cases []struct{ Name, Doc, Patch, Result string }
	if err := json.Unmarshal(conformance(t, "rfc/rfc6902_appendix_a.json"), &cases); err != nil {
		t.Fatal(err)
	}
	for _, c := range cases {
		got, err := Apply([]byte(c.Doc), []byte(c.Patch))
		if err != nil || !sameValue(t, got, []byte(c.Result)) {
			t.Errorf("%s: Apply(%s, %s) = %s, %v, want %s", c.Name, c.Doc, c.Patch, got, err, c.Result)
		}
	}
}

func TestApplyBounds(t *testing.T) {
	double := func(n int) string {
		ops := make([]string, n)
		for i := range ops {
			ops[i] = fmt.Sprintf(`{"op":"copy","from":"","path":"/%d"}`, i)
		}
		return "[" + strings.Join(ops, ",") + "]"
	}
	for _, n := range []int{40, 1000} {
		if _, err := Apply([]byte(`{"a":"0123456789"}`), []byte(double(n))); !errors.Is(err, ErrSize) {
			t.Errorf("%d copies of everything: %v, want ErrSize", n, err)
		}
	}
	// Each move lowers the document by one level.
	deeper := func(n int) string {
		ops := make([]string, n)
		for i := range ops {
			ops[i] = `{"op":"add","path":"/a","value":{}},{"op":"move","from":"/b","path":"/a/b"},{"op":"move","from":"/a","path":"/b"}`
		}
		return "[" + strings.Join(ops, ",") + "]"
	}
	if _, err := Apply([]byte(`{"b":1}`), []byte(deeper(900))); err != nil {
		t.Errorf("900 levels: %v", err)
	}
	for _, n := range []int{1000, 100_000} {
		if _, err := Apply([]byte(`{"b":1}`), []byte(deeper(n))); !errors.Is(err, ErrDepth) {
			t.Errorf("%d levels: %v, want ErrDepth", n, err)
		}
	}
	deep := strings.Repeat("[", 999) + strings.Repeat("]", 999)
	if _, err := Apply([]byte(`{}`), []byte(`[{"op":"add","path":"/a","value":`+deep[1:len(deep)-1]+`}]`)); err != nil {
		t.Errorf("998 levels: %v", err)
	}
	if _, err := Apply([]byte(`[[[]]]`), []byte(`[{"op":"add","path":"/0/0/-","value":`+deep[1:len(deep)-1]+`}]`)); !errors.Is(err, ErrDepth) {
		t.Errorf("1001 levels: %v, want ErrDepth", err)
	}
}

// Many tests of a large value look into it once.
func TestApplyManyTests(t *testing.T) {
	doc := "[" + strings.Repeat("[1],", 100_000) + "[2]]"
	ops := strings.Repeat(`{"op":"test","path":"/100000","value":[2.0]},`, 20_000)
	if _, err := Apply([]byte(doc), []byte("["+ops[:len(ops)-1]+"]")); err != nil {
		t.Error(err)
	}
	ops += `{"op":"test","path":"","value":[1]}`
	if _, err := Apply([]byte(doc), []byte("["+ops+"]")); !errors.Is(err, ErrTest) {
		t.Errorf("got %v, want ErrTest", err)
	}
	whole := strings.ReplaceAll(doc, "1", "1.0")
	if _, err := Apply([]byte(doc), []byte(`[{"op":"test","path":"","value":`+whole+`}]`)); err != nil {
		t.Error(err)
	}
}

// Many operations on a large array, against a slice.
func TestApplyLargeArray(t *testing.T) {
	r := rand.New(rand.NewSource(1))
	want := make([]string, 20_000)
	for i := range want {
		want[i] = fmt.Sprint(i)
	}
	doc := "[" + strings.Join(want, ",") + "]"
	var ops []string
	insert := func(i int, v string) {
		want = append(want, "")
		copy(want[i+1:], want[i:])
		want[i] = v
	}
	for k := range 20_000 {
		i := r.Intn(len(want))
		switch r.Intn(4) {
		case 0:
			ops = append(ops, fmt.Sprintf(`{"op":"remove","path":"/%d"}`, i))
			want = append(want[:i], want[i+1:]...)
		case 1:
			ops = append(ops, fmt.Sprintf(`{"op":"replace","path":"/%d","value":"%d"}`, i, k))
			want[i] = fmt.Sprintf(`"%d"`, k)
		case 2:
			ops = append(ops, fmt.Sprintf(`{"op":"add","path":"/%d","value":%d}`, i, -k))
			insert(i, fmt.Sprint(-k))
		case 3:
			v := want[i]
			want = append(want[:i], want[i+1:]...)
			j := r.Intn(len(want) + 1)
			insert(j, v)
			ops = append(ops, fmt.Sprintf(`{"op":"move","from":"/%d","path":"/%d"}`, i, j))
		}
	}
	got, err := Apply([]byte(doc), []byte("["+strings.Join(ops, ",")+"]"))
	if err != nil || string(got) != "["+strings.Join(want, ",")+"]" {
		t.Errorf("got %.200s, %v", got, err)
	}
}

// Members that come and go in a large object keep their order.
func TestApplyLargeObject(t *testing.T) {
	r := rand.New(rand.NewSource(1))
	var names []string
	values := map[string]string{}
	var ops []string
	for k := range 20_000 {
		name := fmt.Sprint(r.Intn(3000))
		_, there := values[name]
		if there && r.Intn(2) == 0 {
			ops = append(ops, fmt.Sprintf(`{"op":"remove","path":"/%s"}`, name))
			delete(values, name)
			for i := range names {
				if names[i] == name {
					names = append(names[:i], names[i+1:]...)
					break
				}
			}
			continue
		}
		ops = append(ops, fmt.Sprintf(`{"op":"add","path":"/%s","value":%d}`, name, k))
		if !there {
			names = append(names, name)
		}
		values[name] = fmt.Sprint(k)
	}
	want := make([]string, len(names))
	for i, name := range names {
		want[i] = fmt.Sprintf(`"%s":%s`, name, values[name])
	}
	got, err := Apply([]byte(`{}`), []byte("["+strings.Join(ops, ",")+"]"))
	if err != nil || string(got) != "{"+strings.Join(want, ",")+"}" {
		t.Errorf("got %.200s, %v", got, err)
	}
}

// What Apply gives is valid, and a test operation for it holds on itself.
func FuzzApply(f *testing.F) {
	addCorpus(f)
	for _, c := range seed(f, "apply.txtar", "doc", "patch") {
		f.Add(c[0], c[1])
	}
	f.Fuzz(func(t *testing.T, doc, patch string) {
		got, err := Apply([]byte(doc), []byte(patch))
		if d, bad := ParseDocument([]byte(doc)); bad == nil {
			if again := d.Apply([]byte(patch)); (again == nil) != (err == nil) {
				t.Fatalf("Apply(%s, %s): %v, of a Document: %v", doc, patch, err, again)
			}
			want := got
			if err != nil {
				want = []byte(doc)
			}
			if text, bad := d.AppendTo(nil); bad != nil || !sameJSON(t, text, want) {
				t.Fatalf("%s after %s is %s, %v, want %s", doc, patch, text, bad, want)
			}
		}
		inverse, bad := Invert([]byte(doc), []byte(patch))
		if err != nil {
			if got != nil {
				t.Fatalf("Apply(%s, %s) = %s and %v", doc, patch, got, err)
			}
			return
		}
		if bad == nil {
			if back, err := Apply(got, inverse); err != nil || !sameJSON(t, back, []byte(doc)) {
				t.Fatalf("%s after %s and its inverse %s is %s, %v", doc, patch, inverse, back, err)
			}
		} else if !errors.Is(bad, ErrSize) && !errors.Is(bad, ErrDepth) {
			t.Fatalf("Invert(%s, %s): %v", doc, patch, bad)
		}
		if !json.Valid(got) {
			t.Fatalf("Apply(%s, %s) = %s: not valid", doc, patch, got)
		}
		if !sameValue(t, got, got) {
			t.Fatalf("Apply(%s, %s) = %s: not equal to itself", doc, patch, got)
		}
		replace := fmt.Sprintf(`[{"op":"replace","path":"","value":%s},{"op":"test","path":"","value":%s}]`, got, got)
		if again, err := Apply([]byte(doc), []byte(replace)); err != nil && !errors.Is(err, ErrDepth) || err == nil && string(again) != string(got) {
			t.Fatalf("replacing %s by %s gives %s, %v", doc, got, again, err)
		}
	})
}
