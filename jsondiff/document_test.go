package jsondiff

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// TestDocumentRandom applies chains of patches, good ones and ones that fail,
// and holds every state against Apply and a witness.
func TestDocumentRandom(t *testing.T) {
	chains := 1500
	if testing.Short() || raceEnabled {
		chains = 150
	}
	failed := 0
	for c := range chains {
		r := &randomJSON{Rand: rand.New(rand.NewPCG(uint64(c), 31)), spaces: c%3 == 0, duplicates: c%5 == 0}
		doc := r.node(3)
		text := r.write(nil, doc)
		d, err := ParseDocument(text)
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			r.edit(doc)
			next := r.write(nil, doc)
			patch, err := Diff(text, next)
			if err != nil {
				t.Fatal(err)
			}
			before := document(t, d)
			if r.IntN(3) == 0 { // a patch that ends badly
				bad := string(patch[:len(patch)-1])
				if len(patch) > 2 {
					bad += ","
				}
				bad += `{"op":"add","path":"","value":{"q":[1,{"x":2},3]}},{"op":"move","from":"/q/1","path":"/q/0"},{"op":"remove","path":"/q/0/x"},` +
					`{"op":"add","path":"/q/0/y","value":1},{"op":"add","path":"/q/0/y","value":2},{"op":"copy","from":"/q","path":"/z"},{"op":"replace","path":"/z/1","value":[]},` +
					`{"op":"test","path":"/z","value":0}]`
				var failure *OperationError
				if err := d.Apply([]byte(bad)); !errors.As(err, &failure) || !errors.Is(err, ErrTest) {
					t.Fatalf("%s to %s: %v, want ErrTest", bad, before, err)
				}
				if after := document(t, d); !sameJSON(t, after, before) {
					t.Fatalf("%s failed, but %s became %s", bad, before, after)
				}
				failed++
			}
			if err := d.Apply(patch); err != nil {
				t.Fatalf("%s to %s: %v", patch, before, err)
			}
			got := document(t, d)
			want, err := Apply(before, patch)
			if err != nil || !sameJSON(t, got, want) {
				t.Fatalf("%s to %s\ngot  %s\nwant %s, %v", patch, before, got, want, err)
			}
			checkPatch(t, before, next, patch)
			text = next
		}
	}
	if failed < chains {
		t.Errorf("only %d patches failed", failed)
	}
}

func document(t testing.TB, d *Document) []byte {
	t.Helper()
	text, err := d.AppendTo(nil)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// TestDocumentForgets applies patches for longer than it may keep all they
// brought, and undoes one just before it.
func TestDocumentForgets(t *testing.T) {
	d, err := ParseDocument([]byte(`{"a":"","b":[1]}`))
	if err != nil {
		t.Fatal(err)
	}
	value := strings.Repeat("x", 10_000)
	for i := range 1000 {
		patch := fmt.Sprintf(`[{"op":"replace","path":"/a","value":"%s%d"},{"op":"add","path":"/b/-","value":%d},{"op":"remove","path":"/b/0"}]`, value, i, i)
		if err := d.Apply([]byte(patch)); err != nil {
			t.Fatal(err)
		}
		if n := len(d.tree.patch.text); n > rebuildFrom+3*len(value) {
			t.Fatalf("%d bytes of patches are kept", n)
		}
		if i%50 == 0 {
			if want := fmt.Sprintf(`{"a":"%s%d","b":[%d]}`, value, i, i); string(document(t, d)) != want {
				t.Fatalf("after %d patches: %.100s", i, document(t, d))
			}
		}
	}
}

func TestDocumentLimits(t *testing.T) {
	o := Options{Limits: Limits{Depth: 4, Size: 200}}
	d, err := o.ParseDocument([]byte(`{"a":[]}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		patch string
		want  error
	}{
		{`[{"op":"add","path":"/a/0","value":[[]]}]`, nil},
		{`[{"op":"add","path":"/a/0/0/0","value":[]}]`, ErrDepth},
		{`[{"op":"add","path":"/a/0/0/0","value":1}]`, nil},
		{`[{"op":"add","path":"/b","value":[[]]},{"op":"move","from":"/b","path":"/a/0/0"}]`, ErrDepth},
		{`[{"op":"copy","from":"/a","path":"/b"},{"op":"copy","from":"/a","path":"/c"}]`, nil},
		{`[{"op":"replace","path":"/b","value":"` + strings.Repeat("x", 150) + `"}]`, nil},
		{`[{"op":"copy","from":"/b","path":"/d"}]`, ErrSize},
		{`[{"op":"add","path":"/d","value":"` + strings.Repeat("x", 200) + `"}]`, ErrSize},
		{`[{"op":"remove","path":"/b"}]`, nil},
		{`[{"op":"remove","path":"/b"}]`, ErrMissing},
		{`{}`, errors.New("array")},
	} {
		before := document(t, d)
		err := d.Apply([]byte(c.patch))
		if (err == nil) != (c.want == nil) || c.want != nil && !errors.Is(err, c.want) && !strings.Contains(err.Error(), c.want.Error()) {
			t.Errorf("%s to %s: %v, want %v", c.patch, before, err, c.want)
		}
		if after := document(t, d); err != nil && !bytes.Equal(before, after) {
			t.Errorf("%s failed, but %s became %s", c.patch, before, after)
		}
	}
	if got := string(document(t, d)); got != `{"a":[[[1]]],"c":[[[1]]]}` {
		t.Errorf("got %s", got)
	}
}

// TestInvertRandom goes from one document to the next and back, with patches of
// Diff and with operations that it never makes.
func TestInvertRandom(t *testing.T) {
	rounds := 20_000
	if testing.Short() || raceEnabled {
		rounds = 2_000
	}
	inverted := 0
	for c := range rounds {
		r := &randomJSON{Rand: rand.New(rand.NewPCG(uint64(c), 37)), spaces: c%3 == 0}
		doc := r.node(3)
		old := r.write(nil, doc)
		r.edit(doc)
		patch, err := Diff(old, r.write(nil, doc))
		if err != nil {
			t.Fatal(err)
		}
		if r.IntN(2) == 0 {
			patch = r.patch()
		}
		inverse, err := Invert(old, patch)
		if _, failure := Apply(old, patch); (failure == nil) != (err == nil) || err != nil && err.Error() != failure.Error() {
			t.Fatalf("%s to %s: %v, want %v", patch, old, err, failure)
		}
		if err != nil {
			continue
		}
		inverted++
		new, err := Apply(old, patch)
		if err != nil {
			t.Fatal(err)
		}
		back, err := Apply(new, inverse)
		if err != nil {
			t.Fatalf("%s to %s\ninverse %s to %s: %v", patch, old, inverse, new, err)
		}
		if same, err := Equal(back, old); !same || err != nil {
			t.Fatalf("%s to %s\ninverse %s gives %s, %v", patch, old, inverse, back, err)
		}
	}
	if inverted < rounds/2 {
		t.Errorf("only %d of %d could be carried out", inverted, rounds)
	}
}

// patch makes operations on a document that it begins with itself.
func (r *randomJSON) patch() Patch {
	ops := []string{`{"op":"add","path":"","value":{"a":[1,{"b":2},[3]],"b":{"a":1,"c":[]}}}`}
	paths := []string{"/a", "/a/0", "/a/1", "/a/1/b", "/a/2/0", "/b", "/b/a", "/b/c", "/b/c/0", "/a/-", "/b/c/-", ""}
	path := func() string { return paths[r.IntN(len(paths))] }
	for range 1 + r.IntN(4) {
		switch r.IntN(5) {
		case 0:
			ops = append(ops, fmt.Sprintf(`{"op":"add","path":"%s","value":%d}`, path(), r.IntN(9)))
		case 1:
			ops = append(ops, fmt.Sprintf(`{"op":"remove","path":"%s"}`, path()))
		case 2:
			ops = append(ops, fmt.Sprintf(`{"op":"replace","path":"%s","value":[%d]}`, path(), r.IntN(9)))
		case 3:
			ops = append(ops, fmt.Sprintf(`{"op":"move","from":"%s","path":"%s"}`, path(), path()))
		case 4:
			ops = append(ops, fmt.Sprintf(`{"op":"copy","from":"%s","path":"%s"}`, path(), path()))
		}
	}
	return Patch("[" + strings.Join(ops, ",") + "]")
}

// TestInvertMove: what a move has replaced goes back to its place, though the
// moved value goes back into a list before it; and a value comes back into what
// lay around it.
func TestInvertMove(t *testing.T) {
	for _, c := range []struct{ old, from, path, new string }{
		{`{"a":[0,1,{"b":2}]}`, "/a/0", "/a/1/b", `{"a":[1,{"b":0}]}`},
		{`{"a":[1,{"b":2}]}`, "/a/1/b", "/a/1", `{"a":[1,2,{}]}`},
		{`{"a":{"b":2}}`, "/a/b", "/a", `{"a":2}`},
		{`{"a":{"b":2}}`, "/a", "", `{"b":2}`},
	} {
		patch := `[{"op":"move","from":"` + c.from + `","path":"` + c.path + `"}]`
		inverse, err := Invert([]byte(c.old), []byte(patch))
		if err != nil {
			t.Fatal(err)
		}
		back, err := Apply([]byte(c.new), inverse)
		if err != nil || string(back) != c.old {
			t.Errorf("%s to %s: %s gives %s, %v", patch, c.old, inverse, back, err)
		}
	}
}
