package upstream

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pollsse/caddy-poll-sse/jsondiff"
)

func TestSinceAndAppend(t *testing.T) {
	var asked []string
	u := &fakeUpstream{answer: func(n int, r *http.Request) *http.Response {
		asked = append(asked, r.URL.RawQuery)
		after, _ := strconv.Atoi(r.URL.Query().Get("after"))
		switch n {
		case 1, 2: // two events each
			return respond(200, fmt.Sprintf(`{"seq":%d,"events":[{"id":%d,"v":1.0},{"id":%d}]}`, after+2, after+1, after+2))
		case 3: // nothing new, no cursor
			return respond(200, `{"events":[]}`)
		case 4: // a late change of an old event
			return respond(200, `{"seq":4,"events":[{"id":2,"late":true}]}`)
		}
		return respond(200, `{"seq":7,"events":[{"id":5},{"id":6},{"id":7}]}`)
	}}
	c := newClient(t, Config{URL: "http://since.test/events?limit=2"}, Reading{
		Since: []Since{{Param: "after", Pointer: "/seq", Initial: "0"}}, Append: &Append{List: "/events", Max: 5, Key: "id"},
	})
	for i, want := range []string{
		`{"seq":2,"events":[{"id":1,"v":1.0},{"id":2}]}`,
		`{"seq":4,"events":[{"id":1,"v":1.0},{"id":2},{"id":3,"v":1.0},{"id":4}]}`,
		`{"events":[{"id":1,"v":1.0},{"id":2},{"id":3,"v":1.0},{"id":4}]}`,
		`{"seq":4,"events":[{"id":1,"v":1.0},{"id":2,"late":true},{"id":3,"v":1.0},{"id":4}]}`,
		`{"seq":7,"events":[{"id":3,"v":1.0},{"id":4},{"id":5},{"id":6},{"id":7}]}`,
	} {
		if got := pollOnce(t, c, u); got != want {
			t.Errorf("poll %d: document %s, want %s", i+1, got, want)
		}
	}
	if got, want := strings.Join(asked, " "), "limit=2&after=0 limit=2&after=2 limit=2&after=4 limit=2&after=4 limit=2&after=4"; got != want {
		t.Errorf("asked %s, want %s", got, want)
	}
}

func TestSinceLastSuccess(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := &fakeUpstream{}
		u.answer = func(n int, r *http.Request) *http.Response {
			if n == 3 {
				return respond(500, "")
			}
			// This upstream's clock is an hour behind.
			return respond(200, fmt.Sprintf(`{"q":%q}`, r.URL.RawQuery), "Date: "+time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat))
		}
		c := newClient(t, Config{URL: "http://success.test/?a={poll_sse.last_success}&b={poll_sse.last_success.unix}&c={poll_sse.last_success:2006-01-02 15h}"}, Reading{})
		for i, want := range []string{
			`{"q":"a=1970-01-01T00%3A00%3A00Z&b=0&c=1970-01-01+00h"}`,
			`{"q":"a=1999-12-31T23%3A00%3A00Z&b=946681200&c=1999-12-31+23h"}`,
			ReasonStatus,
			`{"q":"a=1999-12-31T23%3A01%3A00Z&b=946681260&c=1999-12-31+23h"}`,
		} {
			if got := pollOnce(t, c, u); got != want {
				t.Errorf("poll %d: %s, want %s", i+1, got, want)
			}
			time.Sleep(time.Minute)
		}
	})
}

func TestLastItemOfAList(t *testing.T) {
	for pointer, want := range map[string]string{"/-/id": "3", "/0/id": "1", "/-": "", "/9/id": "", "/-/x": ""} {
		p, err := jsondiff.ParsePointer(pointer)
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := scalar([]byte(`[{"id":1},{"id":2},{"id":3,"x":null}]`), p); got != want {
			t.Errorf("%s: %q, want %q", pointer, got, want)
		}
	}
}

func TestLastSuccessRefused(t *testing.T) {
	for _, c := range []Config{
		{URL: "http://a.test/{poll_sse.last_success}"},
		{URL: "http://a.test/?q={poll_sse.last_success.nanoseconds}"},
		{URL: "http://a.test/?q={poll_sse.last_success:}"},
		{URL: "http://a.test/", Set: http.Header{"X-A": {"{poll_sse.last_success}"}}},
	} {
		if _, err := Compile(c, lookupIn(nil)); err == nil || !strings.Contains(err.Error(), "last_success") && !strings.Contains(err.Error(), "last success") {
			t.Errorf("%+v: error %v", c, err)
		}
	}
}

func TestAppendWithoutAList(t *testing.T) {
	for body, want := range map[string]string{`{"a":1}`: ReasonNoMatch, `{"list":{}}`: ReasonNoMatch, `{"list":[`: ReasonNotJSON} {
		u := &fakeUpstream{answer: func(int, *http.Request) *http.Response { return respond(200, body) }}
		c := newClient(t, Config{}, Reading{Append: &Append{List: "/list", Max: 1000, Key: "id"}})
		if got := pollOnce(t, c, u); got != want {
			t.Errorf("%s: %s, want %s", body, got, want)
		}
	}
}
