package upstream

import (
	"net/http"
	"strings"
	"testing"
)

func TestBodyIsEscapedForItsPlace(t *testing.T) {
	const q = "{http.request.uri.query.q}"
	nasty := `BTC","admin":true,"x":"\` + "\n" + `&a=b`
	tests := []struct {
		name, text, contentType, value string
		want, wantType                 string // want "" for the client's error
	}{
		{"JSON string", `{"q":"` + q + `"}`, "", nasty, `{"q":"BTC\",\"admin\":true,\"x\":\"\\\n\u0026a=b"}`, typeJSON},
		{"JSON number", `{"q":` + q + `}`, "", "12345678901234567890", `{"q":12345678901234567890}`, typeJSON},
		{"JSON injection", `{"q":` + q + `}`, "", `1,"admin":true`, "", ""},
		{"JSON value that is no number", `{"q":` + q + `}`, "", "01", "", ""},
		{"escaped quote", `{"a":"\"","q":"` + q + `"}`, "", `"`, `{"a":"\"","q":"\""}`, typeJSON},
		{"configuration", `{"key":"{env.KEY}"}`, "", "", `{"key":"k\"1"}`, typeJSON},
		{"GraphQL", `{"query":"{ quotes { price {host} } }"}`, "", "", `{"query":"{ quotes { price {host} } }"}`, typeJSON},
		{"JSON-RPC batch", `[{"jsonrpc":"2.0","method":"quotes","params":["` + q + `"],"id":1}]`, "", "BTC", `[{"jsonrpc":"2.0","method":"quotes","params":["BTC"],"id":1}]`, typeJSON},
		{"form", "q=" + q + "&limit=5", "", "BTC&admin=1", "q=BTC%26admin%3D1&limit=5", typeForm},
		{"named type", `{"q":"` + q + `"}`, "application/graphql+json", `"`, `{"q":"\""}`, "application/graphql+json"},
		{"other", `<quotes/>`, "text/xml", "", `<quotes/>`, "text/xml"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := Config{URL: "http://body.test/", Body: test.text}
			if test.contentType != "" {
				c.Set = http.Header{"Content-Type": {test.contentType}}
			}
			template, err := Compile(c, lookupIn(map[string]string{"env.KEY": `k"1`}))
			if err != nil {
				t.Fatal(err)
			}
			req, err := template.Expand(func(string) (string, bool) { return test.value, test.value != "" }, &http.Request{})
			if test.want == "" {
				if err == nil {
					t.Errorf("body %s, want an error", req.body)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if req.body != strings.ReplaceAll(test.want, "\n", `\n`) || req.header.Get("Content-Type") != test.wantType || req.method != "POST" {
				t.Errorf("%s %s %s, want %s %s", req.method, req.header.Get("Content-Type"), req.body, test.wantType, test.want)
			}
		})
	}
}

func TestBodyRefused(t *testing.T) {
	tests := []struct{ method, text, contentType, want string }{
		{"GET", "{}", "", "GET"},
		{"DELETE", "", "", "need one of"},
		{"POST", `{"a":}`, "", "not JSON"},
		{"POST", `<q>{http.request.uri.query.q}</q>`, "text/xml", "can be escaped"},
		{"POST", `{"a":"{http.request.uri.query}"}`, "", "cannot be escaped"},
	}
	for _, test := range tests {
		c := Config{URL: "http://body.test/", Method: test.method, Body: test.text}
		if test.contentType != "" {
			c.Set = http.Header{"Content-Type": {test.contentType}}
		}
		if _, err := Compile(c, lookupIn(nil)); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s %s: error %v, want %s", test.method, test.text, err, test.want)
		}
	}
}

func TestPostIsPolledUnconditionally(t *testing.T) {
	u := &fakeUpstream{answer: func(n int, r *http.Request) *http.Response {
		if r.Header.Get("If-None-Match") != "" || r.Method != "POST" {
			return respond(412, "")
		}
		return respond(200, "1", `ETag: "v"`)
	}}
	c := newClient(t, Config{Body: `{"a":1}`}, Reading{})
	for i := range 6 {
		if got := pollOnce(t, c, u); got != "1" || u.bodies[i] != `{"a":1}` {
			t.Errorf("poll %d with the body %s: %s, want 1", i, u.bodies[i], got)
		}
	}
}

func TestRedirectThatDropsTheBodyIsRefused(t *testing.T) {
	for status, want := range map[int]string{302: ReasonRedirect, 303: ReasonRedirect, 307: "1", 308: "1"} {
		u := &fakeUpstream{answer: func(n int, r *http.Request) *http.Response {
			if r.URL.Path == "/doc" {
				return respond(status, "", "Location: /other")
			}
			return respond(200, "1")
		}}
		if got := pollOnce(t, newClient(t, Config{Body: `{"a":1}`}, Reading{}), u); got != want {
			t.Errorf("%d: %s, want %s", status, got, want)
		}
	}
}
