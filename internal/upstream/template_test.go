package upstream

import (
	"context"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"
)

func compileForTest(t testing.TB, url string, config map[string]string) *Template {
	t.Helper()
	template, err := Compile(Config{URL: url}, lookupIn(config))
	if err != nil {
		t.Fatalf("%s: %v", url, err)
	}
	return template
}

const (
	segmentTemplate = "https://up.test:8443/v1/{http.request.uri.path.0}/x-{http.request.header.A}{http.request.header.B}/end?key=k&symbol={http.request.uri.query.s}&o={http.request.header.A}.{http.request.header.B}"
)

// FuzzExpand: whatever clients send, scheme, host, the number of segments and
// the number of parameters stay those of the template.
func FuzzExpand(f *testing.F) {
	for _, v := range []string{"a", "..", ".", "%2e%2e", "../x", `..\x`, "a/b", "?x=1", "#", "&admin=1#", "=", ";", "%", "%2F", "@evil.test", "//evil.test/", ":", "\r\nHost: evil", "\x00", "ü", "\xff", "+", " ", "{env.SECRET}", "{", "}"} {
		f.Add(v, "x", v)
		f.Add(".", ".", v)
		f.Add("x", v, "")
	}
	f.Fuzz(func(t *testing.T, a, b, s string) {
		template := compileForTest(t, segmentTemplate, nil)
		values := map[string]string{"http.request.uri.path.0": s, "http.request.header.A": a, "http.request.header.B": b, "http.request.uri.query.s": s, "env.SECRET": "SECRET"}
		r, err := template.Expand(lookupIn(values), &http.Request{Header: http.Header{}})
		if err != nil {
			return
		}
		u, err := url.Parse(r.url)
		if err != nil {
			t.Fatalf("%q does not parse: %v", r.url, err)
		}
		q, err := r.build(context.Background(), time.Time{})
		if err != nil {
			t.Fatalf("%q does not build: %v", r.url, err)
		}
		if u.Scheme != "https" || u.Host != "up.test:8443" || q.URL.Host != u.Host || u.User != nil || u.Fragment != "" || u.Opaque != "" {
			t.Errorf("%q leads to scheme %q, host %q, user %v, fragment %q", r.url, u.Scheme, u.Host, u.User, u.Fragment)
		}
		segments := strings.Split(u.EscapedPath(), "/")
		if len(segments) != 5 || segments[1] != "v1" || segments[4] != "end" {
			t.Errorf("%q has the segments %q", r.url, segments)
		}
		for i, want := range map[int]string{2: s, 3: "x-" + a + b} {
			if got, err := url.PathUnescape(segments[i]); err != nil || got != want {
				t.Errorf("%q: segment %q, want %q", r.url, got, want)
			}
		}
		for _, part := range strings.FieldsFunc(u.Path, func(c rune) bool { return c == '/' || c == '\\' }) {
			if part == "." || part == ".." {
				t.Errorf("%q holds a dot segment", r.url)
			}
		}
		params, err := url.ParseQuery(u.RawQuery)
		if err != nil || len(params) != 3 || len(params["symbol"]) != 1 || params.Get("symbol") != s || params.Get("key") != "k" || params.Get("o") != a+"."+b {
			t.Errorf("%q has the parameters %q, %v", r.url, params, err)
		}
		if i := strings.IndexFunc(r.url, func(c rune) bool { return c <= ' ' || c == 0x7f }); i >= 0 {
			t.Errorf("%q holds white space or control characters", r.url)
		}
	})
}

func TestExpandRefuses(t *testing.T) {
	for _, test := range []struct{ template, value, want string }{
		{"http://h/{a.b}", "", "has no value"},
		{"http://h/{a.b}", ".", "dot segment"},
		{"http://h/{a.b}", "..", "dot segment"},
		{"http://h/.{a.b}", ".", "dot segment"},
		{"http://h/{a.b}{a.b}", ".", "dot segment"},
		{"http://h/x/{a.b}", "x/../../admin", "dot segment"},
		{"http://h/x/{a.b}", `..\admin`, "dot segment"},
		{"http://h/?q={a.b}", "", "has no value"},
		{"http://h/{unknown}", "x", "has no value"},
	} {
		_, err := compileForTest(t, test.template, nil).Expand(lookupIn(map[string]string{"a.b": test.value}), &http.Request{})
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s with %q: %v, want an error with %q", test.template, test.value, err, test.want)
		}
	}
	// Dots are fine if they are no segment, and in the query.
	for template, want := range map[string]string{
		"http://h/{a.b}.json": "http://h/....json",
		"http://h/?q={a.b}":   "http://h/?q=...",
		"http://h/a{}/{a.b}x": "http://h/a{}/...x",
		"http://h":            "http://h/",
		"http://h?x=1":        "http://h/?x=1",
	} {
		got, err := compileForTest(t, template, nil).Expand(lookupIn(map[string]string{"a.b": "..."}), &http.Request{})
		if err != nil || got.url != want {
			t.Errorf("%s: %q, %v; want %q", template, got.url, err, want)
		}
	}
}

func TestCompileURL(t *testing.T) {
	config := map[string]string{"env.UPSTREAM": "https://legacy.test", "env.BASE": "https://legacy.test/base", "env.HOST": "legacy.test:81", "env.KEY": "a&b/c", "file./run/host": "filed.test",
		"env.USER": "http://u:p@h", "env.EMPTY": "", "env.PATHED": "legacy.test/x?"}
	for text, want := range map[string]string{
		"{env.UPSTREAM}/quotes":                                 "https://legacy.test/quotes",
		"{env.UPSTREAM}/q?s={http.request.uri.query.s}":         "https://legacy.test/q?s=S%26",
		"{env.BASE}/{http.request.uri.query.s}":                 "https://legacy.test/base/S&",
		"http://{env.HOST}/x":                                   "http://legacy.test:81/x",
		"http://{file./run/host}/x":                             "http://filed.test/x",
		"http://h/x?key={env.KEY}&s={http.request.uri.query.s}": "http://h/x?key=a%26b%2Fc&s=S%26",
		"HTTP://h/x":        "HTTP://h/x",
		"http://[::1]:80/x": "http://[::1]:80/x",
		"http://h/x?a={http.request.uri.query.s}{http.request.uri.query.s}": "http://h/x?a=S%26S%26",
	} {
		template, err := Compile(Config{URL: text}, lookupIn(config))
		if err != nil {
			t.Errorf("%s: %v", text, err)
			continue
		}
		got, err := template.Expand(lookupIn(map[string]string{"http.request.uri.query.s": "S&"}), &http.Request{})
		if err != nil || got.url != want {
			t.Errorf("%s: %q, %v; want %q", text, got.url, err, want)
		}
		if got.Display() != Redact(text) {
			t.Errorf("%s is shown as %q, want %q", text, got.Display(), Redact(text))
		}
	}
	for text, want := range map[string]string{
		"":                                             "need an absolute URL",
		"/quotes":                                      "need an absolute URL",
		"legacy.test/quotes":                           "need an absolute URL",
		"ftp://h/":                                     "need an absolute URL",
		"unix//run/x":                                  "need an absolute URL",
		"http:///x":                                    "need an absolute URL",
		"http://:80/x":                                 "need an absolute URL",
		"http://h{}/x":                                 "need an absolute URL",
		"http://h:x/":                                  "need an absolute URL",
		"http://u:p@h/":                                "credentials in the URL",
		"{env.USER}/x":                                 "credentials in the URL",
		"http://h/#x":                                  "fragment",
		"http://h/%zz":                                 "invalid URL escape",
		"http://{env.EMPTY}/":                          "has no value",
		"{http.request.header.U}/x":                    "scheme and host are the configuration's alone",
		"http://{http.request.uri.query.h}/":           "scheme and host are the configuration's alone",
		"http://h{http.request.uri.query.h}/":          "scheme and host are the configuration's alone",
		"http://h:{http.request.port}/":                "scheme and host are the configuration's alone",
		"{http.request.scheme}://h/":                   "scheme and host are the configuration's alone",
		"http://{env.HOST}{http.vars.x}/":              "scheme and host are the configuration's alone",
		"http://h{http.request.uri}":                   "scheme and host are the configuration's alone",
		"http://h/{http.request.uri}":                  "cannot be escaped for its place",
		"http://h/{http.request.orig_uri}":             "cannot be escaped for its place",
		"http://h/{http.request.uri.path}":             "cannot be escaped for its place",
		"http://h/{http.request.uri.path_escaped}":     "cannot be escaped for its place",
		"http://h/{http.request.uri.path.dir}":         "cannot be escaped for its place",
		"http://h/?{http.request.uri.query}":           "cannot be escaped for its place",
		"http://h/{http.request.uri.prefixed_query}":   "cannot be escaped for its place",
		"http://h/?{http.request.orig_uri.query}":      "cannot be escaped for its place",
		"http://h/?u={http.request.uri_escaped}":       "cannot be escaped for its place",
		"http://h/?u={http.request.uri.query_escaped}": "cannot be escaped for its place",
	} {
		_, err := Compile(Config{URL: text}, lookupIn(config))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want an error with %q", text, err, want)
		}
		if err != nil && strings.Contains(err.Error(), "legacy.test:81") {
			t.Errorf("%s: %v shows the value of a placeholder", text, err)
		}
	}
}

// TestPrivate: what depends on more than the public URL is private.
func TestPrivate(t *testing.T) {
	for name, private := range map[string]bool{
		"env.KEY": false, "http.request.host": false, "http.request.uri.query.s": false, "http.request.uri.path.1": false, "http.request.orig_uri.path.0": false, "http.request.host.labels.0": false,
		"http.request.header.Authorization": true, "http.request.cookie.session": true, "http.auth.user.id": true, "http.vars.user": true, "http.request.remote.host": true, "http.request.tls.client.subject": true, "http.regexp.x.1": true, "anything": true,
	} {
		if got := compileForTest(t, "http://h/?x={"+name+"}", map[string]string{"env.KEY": "k"}).Private(); got != private {
			t.Errorf("{%s}: private %v, want %v", name, got, private)
		}
	}
}

func TestFieldValues(t *testing.T) {
	for value, ok := range map[string]bool{"x": true, "a b\tc": true, "ü": true, "a\r\nX: y": false, "a\nb": false, "a\rb": false, "a\x00b": false, "\x7f": false, "\x1b[31m": false} {
		if _, err := escapeField(value); (err == nil) != ok {
			t.Errorf("%q as a field value: %v", value, err)
		}
	}
}
