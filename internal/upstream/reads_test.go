package upstream

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
)

var jsonBody = http.Header{"Content-Type": {"application/json"}}

// TestReadsMatch: what only reads, and what may not.
func TestReadsMatch(t *testing.T) {
	r := &Reads{Method: "POST", Pointer: "/method", Values: []string{"torrent-get", "1"}}
	for _, body := range []string{
		`{"method":"torrent-get"}`,
		` { "arguments": {"fields":["id","name"]}, "method" : "torrent-get", "tag": 39693 } `,
		`{"method":"torrent\u002dget"}`, // as every parser reads it
		`{"method":1}`,
		`{"a":{"method":"torrent-remove"},"method":"torrent-get"}`,
	} {
		got, ok := r.Match(jsonBody, []byte(body), "")
		if !ok || got.Body != body || got.ContentType != "application/json" {
			t.Errorf("%s: %t %+v", body, ok, got)
		}
	}
	for name, body := range map[string]string{
		"a write":                    `{"method":"torrent-remove"}`,
		"a read's words in a write":  `{"method":"torrent-remove","arguments":{"method":"torrent-get"}}`,
		"in a value":                 `{"method":"torrent-remove","comment":"\"method\":\"torrent-get\""}`,
		"in a list":                  `{"a":[{"method":"torrent-get"}]}`,
		"deeper":                     `{"method":{"method":"torrent-get"}}`,
		"deeper, once more":          `{"a":{"method":"torrent-get"}}`,
		"twice":                      `{"method":"torrent-get","method":"torrent-remove"}`,
		"twice, alike":               `{"method":"torrent-get","method":"torrent-get"}`,
		"twice but for case":         `{"method":"torrent-get","Method":"torrent-remove"}`,
		"twice but for folding":      `{"method":"torrent-get","s":1,"ſ":2}`,
		"twice but for escapes":      `{"method":"torrent-get","\u006dethod":"torrent-remove"}`,
		"twice in a member":          `{"method":"torrent-get","arguments":{"ids":[1],"ids":[2]}}`,
		"another case":               `{"METHOD":"torrent-get"}`,
		"a batch":                    `[{"method":"torrent-get"},{"method":"torrent-remove"}]`,
		"a second text":              `{"method":"torrent-get"}{"method":"torrent-remove"}`,
		"something behind":           `{"method":"torrent-get"}x`,
		"not ended":                  `{"method":"torrent-get"`,
		"a comma too many":           `{"method":"torrent-get",}`,
		"a comment":                  `{"method":"torrent-get"/*"*/}`,
		"nothing":                    ``,
		"a string":                   `"torrent-get"`,
		"a byte order mark":          "\ufeff" + `{"method":"torrent-get"}`,
		"not UTF-8":                  "{\"method\":\"torrent-get\",\"a\":\"\xff\"}",
		"a NUL":                      "{\"method\":\"torrent-get\"}\x00",
		"a value's case":             `{"method":"Torrent-Get"}`,
		"white space in the value":   `{"method":"torrent-get "}`,
		"true":                       `{"method":true}`,
		"a number spelt another way": `{"method":1.0}`,
		"too long":                   `{"method":"torrent-get","a":"` + strings.Repeat("x", MaxRead) + `"}`,
		"nested too deeply":          `{"method":"torrent-get","a":` + strings.Repeat("[", 1001) + strings.Repeat("]", 1001) + `}`,
	} {
		if got, ok := r.Match(jsonBody, []byte(body), ""); ok {
			t.Errorf("%s: %.80s is taken for a read: %+v", name, body, got)
		}
	}
	for _, h := range []http.Header{
		{}, {"Content-Type": {""}}, {"Content-Type": {"application/x-www-form-urlencoded"}}, {"Content-Type": {"text/plain"}}, {"Content-Type": {"multipart/form-data"}},
		{"Content-Type": {"application/json; charset=utf-16"}}, {"Content-Type": {"application/json", "text/plain"}}, {"Content-Type": {"application/json"}, "Content-Encoding": {"gzip"}},
		{"Content-Type": {"application/json; a=" + strings.Repeat("x", 300)}},
	} {
		if _, ok := r.Match(h, []byte(`{"method":"torrent-get"}`), ""); ok {
			t.Errorf("a body with %v is taken for a read", h)
		}
	}
	for _, kind := range []string{"application/json; charset=UTF-8", "application/vnd.x+json", "text/json", "json"} {
		if _, ok := r.Match(http.Header{"Content-Type": {kind}}, []byte(`{"method":"torrent-get"}`), ""); !ok {
			t.Errorf("a body of %s is not", kind)
		}
	}
	all := &Reads{Method: "POST"}
	if _, ok := all.Match(jsonBody, []byte(`{"a":1}`), ""); !ok {
		t.Error("without a pointer, not every body only reads")
	}
	if _, ok := all.Match(jsonBody, []byte(`{"a":1,"A":2}`), ""); ok {
		t.Error("without a pointer, an ambiguous body only reads")
	}
}

// TestReadsEcho: the member that is echoed decides no document.
func TestReadsEcho(t *testing.T) {
	r := &Reads{Method: "POST", Pointer: "/method", Values: []string{"get"}}
	for _, test := range []struct{ body, echo, want, answer, own string }{
		{`{"method":"get","id": 17 }`, "/id", `{"method":"get","id": 1 }`, `{"id":1,"result":[1]}`, `{"id":17,"result":[1]}`},
		{`{"id":"a\"b","method":"get"}`, "/id", `{"id":"1","method":"get"}`, `{"result":{"id":"1"},"id":"1"}`, `{"result":{"id":"1"},"id":"a\"b"}`},
		{`{"id":"\\","method":"get"}`, "/id", `{"id":"1","method":"get"}`, `{"id":"1"}`, `{"id":"\\"}`},
		{`{"id":-1.5e3,"method":"get"}`, "/id", `{"id":1,"method":"get"}`, `{"id":1}`, `{"id":-1.5e3}`},
		{`{"method":"get","x":{"id":9,"y":9}}`, "/x/id", `{"method":"get","x":{"id":1,"y":9}}`, `{"x":{"id":1}}`, `{"x":{"id":9}}`},
		{`{"method":"get","x":[8,9]}`, "/x/1", `{"method":"get","x":[8,1]}`, `{"x":[8,1]}`, `{"x":[8,9]}`},
		{`{"method":"get"}`, "/id", `{"method":"get"}`, `{"id":1}`, `{"id":1}`},
		{`{"method":"get","id":7}`, "/id", `{"method":"get","id":1}`, `{"error":1}`, `{"error":1}`},
		{`{"method":"get","a/ä":7}`, "/a~1ä", `{"method":"get","a/ä":1}`, `{"a/ä":1}`, `{"a/ä":7}`},
	} {
		got, ok := r.Match(jsonBody, []byte(test.body), test.echo)
		if !ok || got.Body != test.want {
			t.Errorf("%s: %t, asks with %s, want %s", test.body, ok, got.Body, test.want)
			continue
		}
		own := string(got.Answer([]byte(test.answer), test.echo))
		if test.own == test.answer {
			test.own = ""
		}
		if own != test.own {
			t.Errorf("%s: answers %s, want %s", test.body, own, test.own)
		}
	}
	for _, body := range []string{`{"method":"get","id":null}`, `{"method":"get","id":true}`} {
		if _, ok := r.Match(jsonBody, []byte(body), "/id"); ok {
			t.Errorf("%s is taken for a read", body)
		}
	}
	if _, ok := r.Match(jsonBody, []byte(`{"method":"get","id":[1]}`), "/id"); !ok {
		t.Error("an id that is no scalar is part of the key")
	}
}

// FuzzReads: what is taken for a read reads the same with encoding/json, which
// takes the last of several names and does not look at case, and its echo comes
// back as it was.
func FuzzReads(f *testing.F) {
	for _, body := range []string{`{"method":"get","id":1}`, `{"id":"\\\"","method":"get"}`, `{"method":"get","Method":"x"}`, `{"id":{"id":1},"method":"get"}`, `{"id": -1e5 ,"method":"get"}`, `{"method":"get","id":"\ud800"}`} {
		f.Add(body)
	}
	r := &Reads{Method: "POST", Pointer: "/method", Values: []string{"get"}}
	f.Fuzz(func(t *testing.T, body string) {
		got, ok := r.Match(jsonBody, []byte(body), "/id")
		if !ok {
			return
		}
		for _, text := range []string{body, got.Body} {
			var loose struct{ Method string }
			if err := json.Unmarshal([]byte(text), &loose); err != nil || loose.Method != "get" {
				t.Fatalf("%q asks %q: %q, %v", body, text, loose.Method, err)
			}
		}
		if got.Echo == nil {
			return
		}
		var sent, own map[string]json.RawMessage
		if err := json.Unmarshal([]byte(got.Body), &sent); err != nil {
			t.Fatal(err)
		}
		if stand := string(sent["id"]); stand != "1" && stand != `"1"` {
			t.Fatalf("%q asks with %q", body, got.Body)
		}
		answer := got.Answer([]byte(`{"id":1}`), "/id")
		if err := json.Unmarshal(answer, &own); err != nil || !bytes.Equal(own["id"], got.Echo) {
			t.Fatalf("%q is answered %q: %v", body, answer, err)
		}
	})
}
