package jsondiff

import (
	"errors"
	"reflect"
	"strings"
	"testing"
)

func TestPointer(t *testing.T) {
	for _, c := range []struct {
		text string
		want Pointer
	}{
		{"", nil},
		{"/", Pointer{""}},
		{"//", Pointer{"", ""}},
		{"/a/b", Pointer{"a", "b"}},
		{"/a/", Pointer{"a", ""}},
		{"/~0~1", Pointer{"~/"}},
		{"/~01", Pointer{"~1"}},
		{"/~10", Pointer{"/0"}},
		{"/ü/ ", Pointer{"ü", " "}},
	} {
		got, err := ParsePointer(c.text)
		if err != nil || !reflect.DeepEqual(got, c.want) {
			t.Errorf("ParsePointer(%q) = %q, %v, want %q", c.text, got, err, c.want)
		}
		if s := got.String(); s != c.text {
			t.Errorf("ParsePointer(%q).String() = %q", c.text, s)
		}
	}
	for _, c := range []struct {
		text   string
		offset int
	}{
		{"a", 0}, {"#/a", 0}, {"~", 0}, {"/~", 1}, {"/a~/b", 2}, {"/a/b~2", 4}, {"/~0~", 3}, {"/~~0", 1},
	} {
		p, err := ParsePointer(c.text)
		var bad *PointerError
		if !errors.As(err, &bad) || bad.Offset != c.offset {
			t.Errorf("ParsePointer(%q) = %q, %v, want an error at offset %d", c.text, p, err, c.offset)
		}
	}
}

func TestIndex(t *testing.T) {
	for _, c := range []struct {
		token string
		want  int
		ok    bool
	}{
		{"0", 0, true}, {"7", 7, true}, {"10", 10, true}, {"100000", 100000, true},
		{"", 0, false}, {"-", 0, false}, {"-1", 0, false}, {"01", 0, false}, {"00", 0, false},
		{"1e0", 0, false}, {"+1", 0, false}, {" 1", 0, false}, {"1 ", 0, false}, {"٣", 0, false},
		{"99999999999999999999999999", 0, false}, {"4294967296", 0, false}, {"2147483648", 0, false}, {"2147483647", 2147483647, true},
	} {
		if got, ok := index(c.token); got != c.want && ok || ok != c.ok {
			t.Errorf("index(%q) = %d, %v, want %d, %v", c.token, got, ok, c.want, c.ok)
		}
	}
}

func TestPattern(t *testing.T) {
	for _, c := range []struct {
		pattern, at   string
		match, covers bool
	}{
		{"", "", true, true},
		{"", "/a", false, true},
		{"/a", "", false, false},
		{"/a", "/a", true, true},
		{"/a", "/a/b", false, true},
		{"/a", "/ab", false, false},
		{"/*", "/anything", true, true},
		{"/*", "/", true, true},
		{"/*/ts", "/0/ts", true, true},
		{"/*/ts", "/0/tsx", false, false},
		{"/a/*/b", "/a/x/b/c", false, true},
		{"/a/*/b", "/a/x/y/b", false, false},
		{"/~1*", "/~1*", true, true},
		{"/~1*", "/~1x", false, false},
	} {
		p, err := ParsePattern(c.pattern)
		if err != nil {
			t.Fatal(err)
		}
		at, err := ParsePointer(c.at)
		if err != nil {
			t.Fatal(err)
		}
		var path []byte
		for _, token := range at {
			path = appendToken(append(path, '/'), token)
		}
		if match, covers := matchPath(p, path, true), matchPath(p, path, false); match != c.match || covers != c.covers {
			t.Errorf("%q at %q: match %v, covers %v, want %v, %v", c.pattern, c.at, match, covers, c.match, c.covers)
		}
	}
	if _, err := ParsePattern("/*/~x"); err == nil || !strings.Contains(err.Error(), "offset 3") {
		t.Errorf("got %v, want an error at offset 3", err)
	}
}

func FuzzPointer(f *testing.F) {
	addCorpus(f)
	for _, s := range []string{"", "/", "/a/b", "/~0~1", "/~01", "/~", "a", "/a//b", "/~2", "/\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePointer(s)
		var bad *PointerError
		if errors.As(err, &bad) {
			if bad.Offset < 0 || bad.Offset > len(s) {
				t.Fatalf("ParsePointer(%q): offset %d", s, bad.Offset)
			}
			return
		}
		if got := p.String(); got != s {
			t.Fatalf("ParsePointer(%q).String() = %q", s, got)
		}
		again, err := ParsePointer(append(p, s).String())
		if err != nil || len(again) != len(p)+1 || again[len(p)] != s {
			t.Fatalf("%q as a token came back as %q, %v", s, again, err)
		}
	})
}
