package jsondiff

import (
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestParseJSONTestSuite(t *testing.T) {
	files, _ := filepath.Glob(filepath.Join("..", "..", "shared", "conformance", "JSONTestSuite", "test_parsing", "*.json"))
	if len(files) == 0 {
		t.Skip("the conformance suites are not there")
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, err = parse(text)
		switch filepath.Base(file)[0] {
		case 'y':
			if err != nil {
				t.Errorf("%s: %v", file, err)
			}
		case 'n':
			if err == nil {
				t.Errorf("%s was accepted", file)
			}
		}
	}
}

func TestParseErrors(t *testing.T) {
	for _, c := range []struct {
		text         string
		line, column int
		expected     string
	}{
		{"", 1, 1, "a value"},
		{"\n [1,\n  ]", 3, 3, "a value"},
		{`{"ü": tru}`, 1, 7, "a value"},
		{`{"a":1,}`, 1, 8, "a member's name"},
		{`[1 2]`, 1, 4, `"," or "]"`},
		{`"a` + "\x01" + `"`, 1, 3, "no control character in a string"},
		{`"` + "\xff" + `"`, 1, 2, "UTF-8"},
		{`"01234567\x"`, 1, 11, "an escape"},
		{`-`, 1, 2, "a digit"},
		{`1 x`, 1, 3, "the end of the document"},
	} {
		_, err := parse([]byte(c.text))
		var bad *SyntaxError
		if !errors.As(err, &bad) || bad.Line != c.line || bad.Column != c.column || bad.Expected != c.expected {
			t.Errorf("parse(%q): %v, want line %d, column %d: expected %s", c.text, err, c.line, c.column, c.expected)
		}
	}
	if _, err := parse([]byte(strings.Repeat("[", 1_000_000))); !errors.Is(err, ErrDepth) {
		t.Errorf("got %v, want ErrDepth", err)
	}
}

func FuzzParse(f *testing.F) {
	addCorpus(f)
	for _, c := range seed(f, "apply.txtar", "doc", "patch") {
		f.Add([]byte(c[0]))
		f.Add([]byte(c[1]))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		s, err := parse(text)
		if errors.Is(err, ErrDepth) {
			return
		}
		if want := json.Valid(text) && utf8.Valid(text); (err == nil) != want {
			t.Fatalf("parse(%q): %v, valid %v", text, err, want)
		}
		if err == nil && int(s.tape.next(0)) != len(s.tape) {
			t.Fatalf("parse(%q): a tape of %d, the root has %d", text, len(s.tape), s.tape.next(0))
		}
	})
}

// TestPackedTape packs tapes of all kinds and wants them back as they were.
func TestPackedTape(t *testing.T) {
	texts := []string{
		`[]`, `{}`, ` 1 `, `[1,2,3]`, `[[1,2],[3,[4,{"a":5}]]]`, `{"a":1,"b":"text","c":[true,null,-1.5e300]}`,
		`[ 1 ,  2   ,    3     ,      4]`, `["` + strings.Repeat("x", 14) + `","` + strings.Repeat("x", 15) + `","` + strings.Repeat("x", 300) + `","` + strings.Repeat("x", 10_000) + `",1,2]`,
		`{"` + strings.Repeat("n", 253) + `":1,"` + strings.Repeat("n", 252) + `":2,"` + strings.Repeat("n", 300) + `":[3],"a":` + strings.Repeat(" ", 300) + `4}`,
		"[" + strings.Repeat("1,", 2000) + "[" + strings.Repeat("2,", 2000) + `{"a":[]}],3]`,
	}
	for c := range 2000 {
		r := &randomJSON{Rand: rand.New(rand.NewPCG(uint64(c), 47)), spaces: c%2 == 0, duplicates: true}
		texts = append(texts, string(r.write(nil, r.node(4))))
	}
	for _, text := range texts {
		s, err := parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		for i := range s.tape {
			if s.tape[i]&(lastFlag|wideFlag) == 0 && s.tape.kind(int32(i)) == kindObject && i%2 == 0 {
				s.tape.setDistinct(int32(i))
			}
		}
		if got := unpackTape(nil, s.tape.pack(nil)); !slices.Equal(got, s.tape) {
			t.Fatalf("%.200s\ngot  %x\nwant %x", text, got, s.tape)
		}
	}
}

// TestRetained bounds what a Differ holds of documents that are mostly numbers.
func TestRetained(t *testing.T) {
	for _, element := range []string{"#", "[#,#]", `{"t":#,"v":1}`, "1.5"} {
		text := listOf(upTo(3000), element)
		d := NewDiffer(Options{})
		d.Next(text)
		for range 3 {
			text = slices.Concat([]byte(`[0,`), text[1:])
			if change, err := d.Next(text); err != nil || change.Kind != Changed || len(change.Patch) > 100 {
				t.Fatalf("%v, %v, %.100s", change.Kind, err, change.Patch)
			}
			checkState(t, d, text)
		}
		if held := cap(d.base.text) + 8*cap(d.base.tape) + cap(d.packed); held > len(text)*5/2+2048 {
			t.Errorf("%s: %.2f times the document of %d bytes", element, float64(held)/float64(len(text)), len(text))
		}
	}
}
