package upstream

import (
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzTree: whatever a client asks for, a tree asks for something below the
// configured path of the configured host, and servers that decode, that resolve
// dot segments or that take backslashes for slashes find nothing else.
func FuzzTree(f *testing.F) {
	for _, target := range []string{"/a", "/../x", "/%2e%2e/x", "/..;/x", "/;/x", "//h/x", "/a//b", "/%2F", "/%5c", "/%00", "/%252e%252e", "/%c0%ae", "/a?b=1&_=2&c#d", "http://other/x", "*", "/a?last_event_id=x"} {
		f.Add(target)
	}
	t1, err := Compile(Config{URL: "http://upstream.test:81/base", Tree: true, Query: []string{"!_"}}, lookupIn(nil))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, target string) {
		asked, err := url.ParseRequestURI(target)
		if err != nil {
			return
		}
		r, err := t1.Expand(lookupIn(nil), &http.Request{URL: asked, Header: http.Header{}})
		if err != nil {
			return
		}
		u, err := url.Parse(r.url)
		if err != nil || u.Host != "upstream.test:81" || u.User != nil || u.Fragment != "" {
			t.Fatalf("%q asks for %q: %v", target, r.url, err)
		}
		path := u.EscapedPath()
		if path != "/base"+asked.EscapedPath() {
			t.Fatalf("%q asks for %q", target, path)
		}
		for range 4 {
			if !utf8.ValidString(path) {
				t.Fatalf("%q is not UTF-8", target)
			}
			for _, segment := range strings.FieldsFunc(path, func(r rune) bool { return r == '/' || r == '\\' }) {
				if s, _, _ := strings.Cut(segment, ";"); s == "." || s == ".." {
					t.Fatalf("%q has a dot segment in %q", target, path)
				}
			}
			if path, err = url.PathUnescape(path); err != nil {
				break
			}
		}
		for pair := range strings.SplitSeq(u.RawQuery, "&") {
			if name, _, _ := strings.Cut(pair, "="); name == "_" || name == "last_event_id" {
				t.Fatalf("%q asks with %q", target, u.RawQuery)
			}
		}
		if again, err := t1.Expand(lookupIn(nil), &http.Request{URL: asked, Header: http.Header{"X": {"y"}}}); err != nil || again.Key(nil) != r.Key(nil) {
			t.Fatalf("%q has two keys: %v", target, err)
		}
	})
}

func TestEndToEndChangesNothing(t *testing.T) {
	h := http.Header{"Connection": {"X-A"}, "X-A": {"1"}, "X-B": {"1"}, "Content-Type": {"application/json; charset=latin1; v=1"}}
	kept := EndToEnd(h)
	if len(h) != 4 || len(kept) != 2 || kept.Get("Content-Type") != "application/json; v=1" || kept.Get("X-B") != "1" {
		t.Errorf("kept %v of %v", kept, h)
	}
}

// TestNoDocument: a new reason has to say whether the next poll may bring a
// document all the same; a URL that is wrongly unfit stays so.
func TestNoDocument(t *testing.T) {
	const passes = "unreachable tls timeout rate_limited truncated credentials"
	const lasts = "redirect status empty too_large not_json too_deep encoding unauthorized forbidden no_match pages event_stream sets_cookie private"
	want := make(map[string]bool)
	for _, reason := range strings.Fields(passes) {
		want[reason] = false
	}
	for _, reason := range strings.Fields(lasts) {
		want[reason] = true
	}
	file, err := parser.ParseFile(token.NewFileSet(), "fault.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	reasons := 0
	ast.Inspect(file, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok || len(v.Values) != 1 || !strings.HasPrefix(v.Names[0].Name, "Reason") {
			return true
		}
		reason, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
		if err != nil {
			t.Fatal(err)
		}
		reasons++
		no, listed := want[reason]
		if !listed {
			t.Errorf("%s is in neither list of this test", v.Names[0].Name)
		} else if got := (&Fault{Reason: reason}).NoDocument(); got != no {
			t.Errorf("%s: no document: %v, want %v", reason, got, no)
		}
		return true
	})
	if reasons != len(want) {
		t.Errorf("%d reasons in fault.go, the lists have %d", reasons, len(want))
	}
	for status, want := range map[int]bool{204: true, 400: true, 401: true, 403: true, 404: true, 408: false, 410: true, 425: false, 429: false, 500: false, 503: false} {
		if got := refusal(status, http.Header{}).NoDocument(); got != want {
			t.Errorf("%d: no document: %v, want %v", status, got, want)
		}
	}
}
