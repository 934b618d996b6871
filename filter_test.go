package pollsse

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
)

func TestFilterDecidesTheDocument(t *testing.T) {
	tests := []struct {
		name string
		h    Handler
		body string
		want string // the document, or a reason
	}{
		{"nothing", Handler{}, `{"a":{"b":1.10}}`, `{"a":{"b":1.10}}`},
		{"select", Handler{Select: "/a"}, `{"a": {"b" : 1.10}}`, `{"b":1.10}`},
		{"select an escaped name", Handler{Select: "/a~1b/0"}, `{"a/b":[7]}`, `7`},
		{"select nothing", Handler{Select: "/a"}, `{"error":"db"}`, reasonNoMatch},
		{"select in a broken text", Handler{Select: "/a"}, `{"a":1`, reasonNotJSON},
		{"omit", Handler{Omit: []string{"/*/time", "/0/x"}}, `[{"x":1,"time":1},{"x":2,"time":2}]`, `[{},{"x":2}]`},
		{"omit in what is selected", Handler{Select: "/list", Omit: []string{"/*/t"}}, `{"t":1,"list":[{"t":1,"v":2}]}`, `[{"v":2}]`},
	}
	for _, test := range tests {
		t.Run(strings.ReplaceAll(test.name, " ", "-"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u := &fakeUpstream{answer: func(int, *http.Request) *http.Response { return respond(200, test.body) }}
				s, _ := startSource(t, &test.h, u)
				wait(time.Second)
				v := s.log.view()
				got := v.status.reason
				if v.doc != nil {
					got = string(v.doc.text)
				}
				if got != test.want {
					t.Errorf("%s: %s, want %s", test.body, got, test.want)
				}
			})
		})
	}
}

func TestIgnoredChangeTravelsWithTheNext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := &fakeUpstream{answer: func(n int, r *http.Request) *http.Response {
			return respond(200, fmt.Sprintf(`{"at":%d,"v":%d}`, n, n/3))
		}}
		s, _ := startSource(t, &Handler{Ignore: []string{"/at"}, Interval: caddy.Duration(time.Second)}, u)
		for n, want := range []string{`{"at":1,"v":0}`, `{"at":1,"v":0}`, `{"at":3,"v":1}`, `{"at":3,"v":1}`} {
			wait(time.Millisecond)
			if got := string(s.log.view().doc.text); got != want {
				t.Errorf("poll %d: document %s, want %s", n+1, got, want)
			}
			wait(999 * time.Millisecond)
		}
	})
}

func TestIdentifyMakesSmallPatches(t *testing.T) {
	item := func(key string) string { return fmt.Sprintf(`{"k":%q,"text":%q}`, key, strings.Repeat("x", 100)) }
	synctest.Test(t, func(t *testing.T) {
		u := &fakeUpstream{answer: func(n int, r *http.Request) *http.Response {
			if n == 1 {
				return respond(200, `{"list":[`+item("b")+`,`+item("c")+`]}`)
			}
			return respond(200, `{"list":[`+item("a")+`,`+item("b")+`,`+item("c")+`]}`)
		}}
		s, _ := startSource(t, &Handler{Identify: []identifyConfig{{"/list", "k"}}, Interval: caddy.Duration(time.Second)}, u)
		wait(1500 * time.Millisecond)
		s.log.mu.Lock()
		defer s.log.mu.Unlock()
		if got, want := string(s.log.changes[0].patch), `[{"op":"add","path":"/list/0","value":`+item("a")+`}]`; got != want {
			t.Errorf("patch %s, want %s", got, want)
		}
	})
}

func TestFilterRefused(t *testing.T) {
	tests := []struct {
		h    Handler
		want string
	}{
		{Handler{Select: "a"}, `expected "/"`},
		{Handler{Omit: []string{""}}, "nothing would be left"},
		{Handler{Omit: []string{"/a~2"}}, "omit"},
		{Handler{Ignore: []string{"x"}}, "ignore"},
		{Handler{Identify: []identifyConfig{{"/list", ""}}}, "need the member"},
	}
	for _, test := range tests {
		h := test.h
		h.Upstream = "http://filter.test/"
		h.setDefaults()
		h.prepare(caddy.NewReplacer())
		if err := h.Validate(); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: error %v, want %s", test.h.filterSettings(), err, test.want)
		}
	}
}
