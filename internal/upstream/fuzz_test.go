package upstream

import (
	"encoding/json"
	"net/http"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/pollsse/caddy-poll-sse/jsondiff"
)

// FuzzBody: a client's value never leaves its place in a JSON body.
func FuzzBody(f *testing.F) {
	for _, value := range []string{"BTC", `","admin":true,"x":"`, `\`, "\x00", "1e400", "-01", "{}", "null", "\u2028"} {
		f.Add(value)
	}
	const name = "http.request.uri.query.q"
	t1, t2 := parseJSONBody(`{"a":"<{`+name+`}>","b":"\\"}`), parseJSONBody(`{"n":{`+name+`},"b":1}`)
	f.Fuzz(func(t *testing.T, value string) {
		get := func(string) (string, bool) { return value, true }
		if text, err := t1.expand(get); err == nil {
			var got map[string]any
			if err := json.Unmarshal([]byte(text), &got); err != nil || len(got) != 2 {
				t.Fatalf("%q makes %q: %v", value, text, err)
			}
			if utf8.ValidString(value) && got["a"] != "<"+value+">" {
				t.Fatalf("%q became %q", value, got["a"])
			}
		}
		if text, err := t2.expand(get); err == nil {
			var got map[string]json.RawMessage
			if err := json.Unmarshal([]byte(text), &got); err != nil || len(got) != 2 || string(got["n"]) != value {
				t.Fatalf("%q makes %q: %v", value, text, err)
			}
		}
	})
}

// FuzzSplice: taking a list apart and putting it together again changes
// nothing.
func FuzzSplice(f *testing.F) {
	f.Add(`{"a":{"b":[1,{"id":2}]}}`, "/a/b")
	f.Add(` [ [1.0] , "x" ] `, "")
	f.Add(`{"a":1,"a":[2]}`, "/a")
	f.Add(`[[1],[2]]`, "/-")
	f.Fuzz(func(t *testing.T, text, at string) {
		pointer, err := jsondiff.ParsePointer(at)
		if err != nil || !json.Valid([]byte(text)) {
			return
		}
		scalar([]byte(text), pointer)
		list, err := items([]byte(text), pointer, "id")
		if err != nil {
			return
		}
		out := withList([]byte(text), pointer, list)
		var before, after any
		if err := json.Unmarshal(out, &after); err != nil {
			t.Fatalf("%s at %q: %s: %v", text, at, out, err)
		}
		if err := json.Unmarshal([]byte(text), &before); err != nil || !reflect.DeepEqual(before, after) {
			t.Fatalf("%s at %q: %s", text, at, out)
		}
	})
}

// FuzzDecode: no body, coding or charset makes more than max_body, or a panic;
// what fails is a fault with a name.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(`{"a":1}`), "", "application/json")
	f.Add([]byte(coded("[1]", "gzip")), "gzip", "")
	f.Add([]byte(coded("[1]", "zstd")), "zstd", "")
	f.Add([]byte(coded("[1]", "flate")), "deflate", "")
	f.Add([]byte("1\n2"), "", "application/x-ndjson; charset=utf-16le")
	f.Add([]byte("cb([1])"), "identity", "text/javascript")
	f.Fuzz(func(t *testing.T, body []byte, coding, contentType string) {
		const limit = 1 << 12
		c := &Client{request: new(Request), reading: Reading{MaxBody: limit}}
		resp := respond(200, string(body))
		resp.Header = http.Header{"Content-Encoding": {coding}, "Content-Type": {contentType}}
		text, err := c.read(t.Context(), resp)
		if err != nil {
			if asFault(err).Err == err {
				t.Fatalf("%v is no fault", err)
			}
			return
		}
		if len(text) > limit+2 {
			t.Fatalf("%d bytes from a limit of %d", len(text), limit)
		}
	})
}

// FuzzLinks: a Link header never leads to another host.
func FuzzLinks(f *testing.F) {
	f.Add(`<?page=2>; rel="next"`)
	f.Add(`<//evil.test/>; rel=next, <http://api.test@evil.test/>; rel="next"`)
	f.Add(`<\\evil.test>; rel=next`)
	at, err := url.Parse("http://api.test/list")
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, link string) {
		c := &Client{reading: Reading{Pages: &Pages{Next: NextLink}}}
		next, err := c.nextPage(page{url: at, header: http.Header{"Link": {link}}})
		if err != nil || next == "" {
			return
		}
		if u, err := url.Parse(next); err != nil || !strings.EqualFold(u.Host, "api.test") || u.Scheme != "http" {
			t.Fatalf("%q leads to %q", link, next)
		}
	})
}
