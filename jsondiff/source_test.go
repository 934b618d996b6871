package jsondiff

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
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
