package pollsse

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/pollsse/caddy-poll-sse/internal/feed"
	"github.com/pollsse/caddy-poll-sse/internal/upstream"
	"github.com/pollsse/caddy-poll-sse/jsondiff"
)

func TestFilterDecidesTheDocument(t *testing.T) {
	tests := []struct {
		name string
		h    Handler
		body string
		want string // the document, or a reason
	}{
		{"nothing", Handler{}, `{"a":{"b":1.10}}`, `{"a":{"b":1.10}}`},
		{"select", Handler{Reading: Reading{Select: "/a"}}, `{"a": {"b" : 1.10}}`, `{"b":1.10}`},
		{"select an escaped name", Handler{Reading: Reading{Select: "/a~1b/0"}}, `{"a/b":[7]}`, `7`},
		{"select nothing", Handler{Reading: Reading{Select: "/a"}}, `{"error":"db"}`, upstream.ReasonNoMatch},
		{"select in a broken text", Handler{Reading: Reading{Select: "/a"}}, `{"a":1`, upstream.ReasonNotJSON},
		{"omit", Handler{Reading: Reading{Omit: []string{"/*/time", "/0/x"}}}, `[{"x":1,"time":1},{"x":2,"time":2}]`, `[{},{"x":2}]`},
		{"omit in what is selected", Handler{Reading: Reading{Select: "/list", Omit: []string{"/*/t"}}}, `{"t":1,"list":[{"t":1,"v":2}]}`, `[{"v":2}]`},
	}
	for _, test := range tests {
		t.Run(strings.ReplaceAll(test.name, " ", "-"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u := &fakeUpstream{script: func(int, *http.Request) *http.Response { return reply(200, test.body) }}
				s, _ := startSource(t, &test.h, u)
				wait(time.Second)
				v := s.log.View()
				got := v.Status.Reason
				if v.Document != nil {
					got = string(v.Document.Text)
				}
				if got != test.want {
					t.Errorf("%s: %s, want %s", test.body, got, test.want)
				}
			})
		})
	}
}

func TestIgnoredChangeTravelsWithTheNext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := &fakeUpstream{script: func(n int, r *http.Request) *http.Response {
			return reply(200, fmt.Sprintf(`{"at":%d,"v":%d}`, n, n/3))
		}}
		s, _ := startSource(t, &Handler{Reading: Reading{Ignore: []string{"/at"}}, Schedule: Schedule{Interval: caddy.Duration(time.Second)}}, u)
		for n, want := range []string{`{"at":1,"v":0}`, `{"at":1,"v":0}`, `{"at":3,"v":1}`, `{"at":3,"v":1}`} {
			wait(time.Millisecond)
			if got := string(s.log.View().Document.Text); got != want {
				t.Errorf("poll %d: document %s, want %s", n+1, got, want)
			}
			wait(999 * time.Millisecond)
		}
	})
}

func TestIdentifyMakesSmallPatches(t *testing.T) {
	item := func(key string) string { return fmt.Sprintf(`{"k":%q,"text":%q}`, key, strings.Repeat("x", 100)) }
	synctest.Test(t, func(t *testing.T) {
		u := &fakeUpstream{script: func(n int, r *http.Request) *http.Response {
			if n == 1 {
				return reply(200, `{"list":[`+item("b")+`,`+item("c")+`]}`)
			}
			return reply(200, `{"list":[`+item("a")+`,`+item("b")+`,`+item("c")+`]}`)
		}}
		s, _ := startSource(t, &Handler{Reading: Reading{Identify: []identifyConfig{{"/list", "k"}}}, Schedule: Schedule{Interval: caddy.Duration(time.Second)}}, u)
		reader := s.log.Join(feed.Key{Format: feed.FormatPatch, Heartbeat: time.Hour})
		defer reader.Leave()
		wait(500 * time.Millisecond)
		_, c, _ := reader.After(feed.Cursor{})
		wait(time.Second)
		b, _, _ := reader.After(c)
		if got, want := string(b.Payload()), `data: [{"op":"add","path":"/list/0","value":`+item("a")+`}]`; !strings.Contains(got, want) {
			t.Errorf("patch %s, want %s", got, want)
		}
	})
}

func TestFilterRefused(t *testing.T) {
	tests := []struct {
		h    Handler
		want string
	}{
		{Handler{Reading: Reading{Select: "a"}}, `did you mean /a?`},
		{Handler{Reading: Reading{Omit: []string{""}}}, "nothing would be left"},
		{Handler{Reading: Reading{Omit: []string{"/a~2"}}}, "omit"},
		{Handler{Reading: Reading{Ignore: []string{"x"}}}, "ignore"},
		{Handler{Reading: Reading{Identify: []identifyConfig{{"/list", ""}}}}, "need the member"},
	}
	for _, test := range tests {
		h := test.h
		h.Upstream = "http://filter.test/"
		h.setDefaults()
		h.prepare(caddy.NewReplacer(), testEngine(t).newGeneration())
		if err := h.Validate(); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: error %v, want %s", test.h.Reading, err, test.want)
		}
	}
}

// TestSameWholeIsUnchanged: bodies are compared as they came before the
// published part is looked for. That changes nothing but the work, and what is
// retained for it is bounded by the published text.
func TestSameWholeIsUnchanged(t *testing.T) {
	pad := strings.Repeat("x", 300)
	bodies := []string{
		`{"a":{"n":1},"b":1}`, `{"a":{"n":1},"b":2}`, `{"a":{"n":2},"b":2}`, `{"a": {"n":2},"b":2}`,
		`{"a":{"n":1},"b":"` + pad + `"}`, `{"a":{"n":2},"b":"` + pad + `"}`, `{"a":{"n":2},"b":"` + pad[1:] + `y"}`,
		`{"a":{"n":1,"long":"` + pad + `"},"b":3}`, `{"b":4}`, `<html>`, `{"a":{"n":1,"t":1}}`, `{"a":{"n":1,"t":2}}`,
	}
	for name, set := range map[string]Reading{
		"select": {Select: "/a"}, "omit": {Omit: []string{"/b"}},
		"both": {Select: "/a", Omit: []string{"/long"}, Ignore: []string{"/t"}},
	} {
		f, err := set.filter()
		if err != nil {
			t.Fatal(err)
		}
		rng := rand.New(rand.NewPCG(1, 2))
		got, want := newDiffer(nil, f), newDiffer(nil, f)
		for range 2000 {
			body := bodies[rng.IntN(len(bodies))]
			text := []byte(body)
			doc, c, err := got.update(text, true)
			wantDoc, wantChange, wantErr := want.compare([]byte(body), true)
			if !reflect.DeepEqual(doc, wantDoc) || !reflect.DeepEqual(c, wantChange) || fmt.Sprint(err) != fmt.Sprint(wantErr) {
				t.Fatalf("%s, %.40s: %v %v %v; want %v %v %v", name, body, doc, c, err, wantDoc, wantChange, wantErr)
			}
			if got.current != nil && len(got.whole) > maxWhole*len(got.current.Text) {
				t.Fatalf("%s: %d bytes retained for a document of %d", name, len(got.whole), len(got.current.Text))
			}
			for i := range text {
				text[i] = '#' // the body's memory is used again
			}
		}
	}
}

// TestBodyStaysTheCallers: what is published does not change with the memory
// of the body that it came from.
func TestBodyStaysTheCallers(t *testing.T) {
	for _, set := range []Reading{{}, {Select: "/a"}, {Omit: []string{"/b"}}, {Omit: []string{"/none"}}} {
		f, err := set.filter()
		if err != nil {
			t.Fatal(err)
		}
		d := newDiffer(nil, f)
		for n := range 3 {
			text := fmt.Sprintf(`{"a":[%d,%q],"b":1}`, n, filler)
			body := append(make([]byte, 0, len(text)+len(text)/16+512), text...)
			doc, _, err := d.update(body, true)
			if err != nil {
				t.Fatal(err)
			}
			want := string(doc.Text)
			if !strings.Contains(text, want[1:len(want)-1]) {
				t.Fatalf("%+v: %s from %s", set, want, text)
			}
			if after := string(body); after != text {
				t.Errorf("%+v: the body became %q", set, after)
			}
			for i := range body[:cap(body)] {
				body[:cap(body)][i] = '#'
			}
			if got := string(doc.Text); got != want {
				t.Errorf("%+v: the document became %.60q", set, got)
			}
		}
	}
}

// TestErrorsNameNoMembers: names in a body may be secrets.
func TestErrorsNameNoMembers(t *testing.T) {
	for _, f := range []filter{{}, {pointer: jsondiff.Pointer{"a"}}} {
		d := newDiffer(nil, f)
		_, _, err := d.update([]byte(`{"s3cret":{"t0ken":[1,2,}}`), false)
		if err == nil {
			t.Fatal("a broken body was accepted")
		}
		if text := err.Error(); strings.Contains(text, "s3cret") || strings.Contains(text, "t0ken") || !strings.Contains(text, "line 1, column 25") {
			t.Errorf("%s", text)
		}
	}
}
