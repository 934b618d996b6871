package jsondiff

import (
	"bytes"
	goparser "go/parser"
	"go/token"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
)

func pattern(t *testing.T, s string) Pattern {
	t.Helper()
	p, err := ParsePattern(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestDiffer(t *testing.T) {
	d := NewDiffer(Options{})
	if d.Document() != nil {
		t.Errorf("a document before the first: %s", d.Document())
	}
	for _, c := range []struct {
		text, patch, document string
		kind                  Kind
	}{
		{`{ "a" : "A" }`, ``, `{"a":"A"}`, First},
		{`{ "a" : "A" }`, ``, `{"a":"A"}`, Unchanged},
		{`{"a":"\u0041"}`, ``, `{"a":"A"}`, Unchanged},
		{`{"a":1,"a":"\u0041"}`, ``, `{"a":"A"}`, Unchanged},
		{`{"a":"B"}`, `[{"op":"replace","path":"/a","value":"B"}]`, `{"a":"B"}`, Changed},
		{`{"a":"B","\u0061/b~":1.0}`, `[{"op":"add","path":"/\u0061~1b~0","value":1.0}]`, `{"a":"B","\u0061/b~":1.0}`, Changed},
		{`7`, `[{"op":"replace","path":"","value":7}]`, `7`, Changed},
		{`70`, `[{"op":"replace","path":"","value":70}]`, `70`, Changed},
		{` 70 `, ``, `70`, Unchanged},
	} {
		change, err := d.Next([]byte(c.text))
		if err != nil || change.Kind != c.kind || string(change.Patch) != c.patch || string(d.Document()) != c.document {
			t.Errorf("%s\ngot  %v, %v, %s, %s\nwant %v, %s, %s", c.text, err, change.Kind, change.Patch, d.Document(), c.kind, c.patch, c.document)
		}
	}
	if _, err := d.Next([]byte("\ufeff1")); err == nil {
		t.Error("a byte order mark was accepted")
	}
}

func TestIgnore(t *testing.T) {
	d := NewDiffer(Options{Ignore: []Pattern{pattern(t, "/time"), pattern(t, "/rows/*/seen")}})
	for _, c := range []struct {
		text, patch, document string
		kind                  Kind
	}{
		{`{"time":1,"rows":[{"seen":1,"v":1},{"seen":1,"v":2}]}`, ``, `{"time":1,"rows":[{"seen":1,"v":1},{"seen":1,"v":2}]}`, First},
		{`{"time":2,"rows":[{"seen":1,"v":1},{"seen":1,"v":2}]}`, ``, `{"time":1,"rows":[{"seen":1,"v":1},{"seen":1,"v":2}]}`, Unchanged},
		{`{"time":3,"rows":[{"seen":2,"v":1},{"v":2}]}`, ``, `{"time":1,"rows":[{"seen":1,"v":1},{"seen":1,"v":2}]}`, Unchanged},
		{`{"rows":[{"seen":1,"v":1},{"seen":1,"v":2}]}`, ``, `{"time":1,"rows":[{"seen":1,"v":1},{"seen":1,"v":2}]}`, Unchanged},
		{`{"time":4,"rows":[{"seen":1,"v":1},{"seen":1,"v":3}]}`, `[{"op":"replace","path":"/time","value":4},{"op":"replace","path":"/rows/1/v","value":3}]`, `{"time":4,"rows":[{"seen":1,"v":1},{"seen":1,"v":3}]}`, Changed},
	} {
		change, err := d.Next([]byte(c.text))
		if err != nil || change.Kind != c.kind || string(change.Patch) != c.patch || string(d.Document()) != c.document {
			t.Errorf("%s\ngot  %v, %v, %s, %s\nwant %v, %s, %s", c.text, err, change.Kind, change.Patch, d.Document(), c.kind, c.patch, c.document)
		}
	}
}

// TestIgnoreInside has a container whose operations cost more than itself, so
// that a replacement which is not ignored stands for ignored differences.
func TestIgnoreInside(t *testing.T) {
	d := NewDiffer(Options{Ignore: []Pattern{pattern(t, "/*/a"), pattern(t, "/*/b")}})
	d.Next([]byte(`[{"a":1,"b":1}]`))
	if change, err := d.Next([]byte(`[{"a":2,"b":2}]`)); err != nil || change.Kind != Unchanged {
		t.Errorf("got %v, %s, %v, want unchanged", change.Kind, change.Patch, err)
	}
}

func TestIdentify(t *testing.T) {
	d := NewDiffer(Options{Identify: []Identity{{pattern(t, "/rows"), "k"}}})
	old := `{"rows":[{"id":1,"k":"a","v":"some content"},{"id":2,"k":"b","v":"other content"},{"id":3,"k":"c","v":"more content"}]}`
	d.Next([]byte(old))
	text := `{"rows":[{"id":2,"k":"c","v":"more content"},{"id":1,"k":"a","v":"some content"},{"id":3,"k":"b","v":"other content"}]}`
	change, err := d.Next([]byte(text))
	want := `[{"op":"move","from":"/rows/2","path":"/rows/0"},{"op":"replace","path":"/rows/2/id","value":3},{"op":"replace","path":"/rows/0/id","value":2}]`
	if err != nil || string(change.Patch) != want {
		t.Errorf("got  %s, %v\nwant %s", change.Patch, err, want)
	}
	checkPatch(t, []byte(old), []byte(text), change.Patch)
}

func TestImportsStandardLibraryOnly(t *testing.T) {
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if !strings.HasSuffix(file.Name(), ".go") || strings.HasSuffix(file.Name(), "_test.go") {
			continue
		}
		f, err := goparser.ParseFile(token.NewFileSet(), file.Name(), nil, goparser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		for _, spec := range f.Imports {
			path := strings.Trim(spec.Path.Value, `"`)
			if first, _, _ := strings.Cut(path, "/"); strings.Contains(first, ".") || path == "unsafe" {
				t.Errorf("%s imports %s", file.Name(), path)
			}
		}
	}
}

// TestNextOwned has a caller that reads every text into memory of its own and
// gives it away.
func TestNextOwned(t *testing.T) {
	d := NewDiffer(Options{})
	next := func(text string, want Kind) []byte {
		t.Helper()
		memory := append(make([]byte, 0, len(text)+Pad), text...)
		change, err := d.NextOwned(memory)
		if err != nil || change.Kind != want {
			t.Fatalf("%s: %v, %v, want %v", text, change.Kind, err, want)
		}
		return memory
	}
	next(`{"a":1,"b":[1,2]}`, First)
	first := d.Document()
	next(`{"b":[1,2],"a":1}`, Unchanged)
	next(`{"b":[1,2],"a":1}`, Unchanged)
	if string(d.Document()) != `{"a":1,"b":[1,2]}` {
		t.Errorf("document %s", d.Document())
	}
	next(`{"b":[1,2,3],"a":1}`, Changed)
	next(` {"b":[1,2,3],"a":1}`, Unchanged)
	next(`{"b":[1,2,3],"a":2}`, Changed)
	d.Document()
	next(`{"a":2,"b":[1,2,3]}`, Unchanged)
	if doc := d.Document(); cap(doc) != len(doc) {
		t.Error("a document has room behind it, which is the next text's")
	}
	if string(first) != `{"a":1,"b":[1,2]}` || string(d.Document()) != `{"b":[1,2,3],"a":2}` {
		t.Errorf("documents %s, %s", first, d.Document())
	}
	d = NewDiffer(Options{})
	next(`[ 1 ]`, First)
	next(`[1 ]`, Unchanged)
	if string(d.Document()) != `[1]` {
		t.Errorf("document %s, want no white space", d.Document())
	}

	d = NewDiffer(Options{})
	retained := next(`{"b":[1,2,3],"a":3}`, First)
	if &d.Document()[0] != &retained[0] {
		t.Error("a text with room behind it was copied")
	}
	tight := append(make([]byte, 0, len(`{"b":[1,2,3],"a":3.5}`)+Pad-1), `{"b":[1,2,3],"a":3.5}`...)
	d.NextOwned(tight)
	if &d.Document()[0] == &tight[0] {
		t.Error("a text without enough room behind it was not copied")
	}
	large := append(make([]byte, 0, 4096), `{"b":[1,2,3],"a":4}`...)
	d.NextOwned(large)
	if &d.Document()[0] == &large[0] {
		t.Error("4 KiB are retained for 20 bytes")
	}
}

// TestWideValues changes containers and strings about as long, and with about as
// many values, as one word of the tape can tell.
func TestWideValues(t *testing.T) {
	const name = "a name that is not so much longer than what one word can tell of it"
	r := rand.New(rand.NewPCG(1, 2))
	d := NewDiffer(Options{})
	d.always = true
	var before []byte
	for range 300 {
		var list, text strings.Builder
		list.WriteString("[")
		for i := range wordsMask - 4 + r.IntN(6) {
			if i > 0 {
				list.WriteString(",")
			}
			list.WriteString(strconv.Itoa(i % (7 + r.IntN(40)/39)))
		}
		list.WriteString("]")
		long := strings.Repeat(name, 4)[:farName-6+r.IntN(8)]
		members := []string{
			`"list":` + list.String(),
			`"` + long + `":[` + strconv.Itoa(r.IntN(3)) + `]`,
			`"s":"` + strings.Repeat("x", lenMask-3+r.IntN(4)) + `"`,
			`"` + name + `":` + strings.Repeat(" ", r.IntN(3)*90) + `["` + strings.Repeat("x", lenMask-7+r.IntN(6)) + `"]`,
		}
		if r.IntN(4) == 0 {
			r.Shuffle(len(members), func(i, j int) { members[i], members[j] = members[j], members[i] })
		}
		text.WriteString("{" + strings.Join(members, ",") + "}")
		after := []byte(text.String())
		change, err := d.Next(bytes.Clone(after))
		if err != nil {
			t.Fatal(err)
		}
		if change.Kind == Changed {
			checkPatch(t, before, after, change.Patch)
		}
		checkState(t, d, after)
		before = after
	}
}

// TestNextLeavesMemoryAlone has texts that lie in larger memory, as lines of a
// file and pieces of a buffer do.
func TestNextLeavesMemoryAlone(t *testing.T) {
	lines := []byte("{\"a\":1}\n{\"a\":2}\n{\"a\":3}\n" + strings.Repeat(" ", 40))
	before := string(lines)
	d := NewDiffer(Options{})
	for i, want := range []Kind{First, Changed, Changed} {
		if change, err := d.Next(lines[8*i : 8*i+7]); err != nil || change.Kind != want {
			t.Errorf("line %d: %v, %v, want %v", i, change.Kind, err, want)
		}
		if string(lines) != before {
			t.Fatalf("line %d: the memory around it became %q", i, lines)
		}
	}

	buffer := make([]byte, 0, 40)
	d = NewDiffer(Options{})
	for i, text := range []string{`{"n":1}`, `{"n":2}`, `{"n":3}`} {
		buffer = append(buffer[:0], text...)
		change, err := d.Next(buffer)
		if err != nil || change.Kind == Unchanged {
			t.Errorf("text %d in a buffer used again: %v, %v", i, change.Kind, err)
		}
		if string(d.Document()) != text {
			t.Errorf("document %s, want %s", d.Document(), text)
		}
	}
}

// TestZero: the zero Differ is ready to use, and the zero Kind, which comes with
// an error, is none of the answers.
func TestZero(t *testing.T) {
	var d Differ
	if change, err := d.Next([]byte(`[1`)); err == nil || change.Kind == First || change.Kind == Changed || change.Kind == Unchanged {
		t.Errorf("%v, %v", change.Kind, err)
	}
	if change, err := d.Next([]byte(`[1]`)); err != nil || change.Kind != First {
		t.Errorf("%v, %v", change.Kind, err)
	}
	if change, err := d.Next([]byte(`[2]`)); err != nil || change.Kind != Changed {
		t.Errorf("%v, %v", change.Kind, err)
	}
}
