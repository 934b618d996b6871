package judge

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// mustParse parses a text that is part of a test.
func mustParse(t testing.TB, text string) any {
	t.Helper()
	v, err := Parse([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return v
}

func TestParse(t *testing.T) {
	for _, text := range []string{"", " ", "{", "[1,]", `{"a":1,}`, "[1 2]", "1 2", "01", "+1", ".5", "1.", "nul", `"a`, `"\x"`, `"\ud8"`, "\"\n\"", "\ufeff1", "\"\xff\"", `{"a" 1}`, "[1]]"} {
		if v, err := Parse([]byte(text)); err == nil {
			t.Errorf("%q is taken for %v", text, v)
		}
	}
	// What encoding/json makes of the rest is what Parse makes of it.
	for _, text := range []string{" null ", "true", "[]", "{}", "[ 1 , 2.50,-0,1E+400 ]", `{"a":{"b":[null,false]} , "":"" }`, `"\"\\\/\b\f\n\r\t\u0041\u00fc\u65e5\ud83d\ude00ü😀"`, `{"a":1,"\u0061":2}`} {
		d := json.NewDecoder(strings.NewReader(text))
		d.UseNumber()
		var want any
		if err := d.Decode(&want); err != nil {
			t.Fatal(err)
		}
		if got := mustParse(t, text); !Equal(got, want) {
			t.Errorf("%s is taken for %#v, want %#v", text, got, want)
		}
	}
}

// TestDifferences: Equal and Matches see every difference, and none between two
// ways to write the same.
func TestDifferences(t *testing.T) {
	for _, c := range []struct {
		a, b        string
		equal, same bool
	}{
		{`{"a":1}`, `{"a":1,"b":2}`, false, false},
		{`{"a":1}`, `{"b":1}`, false, false},
		{`{"a":null}`, `{}`, false, false},
		{`[1]`, `[1,2]`, false, false},
		{`[1,2]`, `[2,1]`, false, false},
		{`[]`, `{}`, false, false},
		{`[null]`, `[]`, false, false},
		{`null`, `false`, false, false},
		{`null`, `0`, false, false},
		{`null`, `""`, false, false},
		{`"1"`, `1`, false, false},
		{`"a\\"`, `"a"`, false, false},
		{`"\ud800"`, `"\ud801"`, false, false},
		{`"\ud800"`, `"\ufffd"`, false, false},
		{`{"\udc00":1}`, `{"\udc01":1}`, false, false},
		{`"\ud83d\ude00"`, `"😀"`, true, true},
		{`"\ud83d\ud83d\ude00"`, `"\ud83d😀"`, true, true},
		{`"\u0041\/"`, `"A/"`, true, true},
		{`{"a":1,"b":2}`, "{ \"b\" : 2 ,\n\"\\u0061\" : 1 }", true, true},
		{`12345678901234567890`, `12345678901234567891`, false, false},
		{`1.0`, `1`, false, true},
		{`1.10`, `1.1`, false, true},
		{`1E400`, `10e399`, false, true},
		{`1E400`, `1E401`, false, false},
		{`0.001`, `1e-3`, false, true},
		{`0.0012e2`, `0.12`, false, true},
		{`-0`, `0e5`, false, true},
		{`-1`, `1`, false, false},
		{`10`, `1`, false, false},
		{`1e99999999999999999999`, `10e99999999999999999998`, false, true},
		{`1e99999999999999999999`, `1e-99999999999999999999`, false, false},
	} {
		a, b := mustParse(t, c.a), mustParse(t, c.b)
		if Equal(a, b) != c.equal || Equal(b, a) != c.equal || Matches(a, []byte(c.b)) != c.equal || Matches(b, []byte(c.a)) != c.equal {
			t.Errorf("%s and %s: Equal %v, Matches %v and %v, want %v", c.a, c.b, Equal(a, b), Matches(a, []byte(c.b)), Matches(b, []byte(c.a)), c.equal)
		}
		if SameValue(a, b) != c.same || SameValue(b, a) != c.same {
			t.Errorf("%s and %s: SameValue %v, want %v", c.a, c.b, SameValue(a, b), c.same)
		}
		for _, own := range []string{c.a, c.b} {
			if v := mustParse(t, own); !Equal(v, Clone(v)) || !Matches(v, []byte(" "+own+"\n")) {
				t.Errorf("%s is not equal to itself", own)
			}
		}
	}
	if Matches(mustParse(t, "[1]"), []byte("[1] 2")) || Matches(nil, nil) || Matches(mustParse(t, "[1,2]"), []byte("[1 2]")) {
		t.Error("what is no JSON text matches")
	}
}

func TestSameText(t *testing.T) {
	for _, c := range []struct {
		a, b string
		same bool
	}{
		{`{"a":[1, 2]}`, "{ \"a\" :\n[1,2]}\t", true},
		{`"a b"`, `"ab"`, false},
		{`"\" "`, `"\""`, false},
		{`"\\" `, `"\\"`, true},
		{`[1]`, `[1`, false},
		{`"\u0041"`, `"A"`, false},
	} {
		if SameText([]byte(c.a), []byte(c.b)) != c.same || SameText([]byte(c.b), []byte(c.a)) != c.same {
			t.Errorf("%s and %s: want %v", c.a, c.b, c.same)
		}
	}
}

// TestParseSuite holds Parse against JSONTestSuite, if that lies next to the
// repository: y_ must parse, n_ must not, i_ may do either.
func TestParseSuite(t *testing.T) {
	files, _ := filepath.Glob(filepath.Join("..", "..", "..", "shared", "conformance", "JSONTestSuite", "test_parsing", "*.json"))
	if len(files) == 0 {
		t.Skip("the suite is not there")
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		_, err = Parse(text)
		if kind := filepath.Base(file)[0]; kind == 'y' && err != nil || kind == 'n' && err == nil {
			t.Errorf("%s: %v", filepath.Base(file), err)
		}
	}
}
