package upstream

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// TestHandover: a client on another node asks as the first one would have.
func TestHandover(t *testing.T) {
	const secret = "hunter2"
	config := Config{URL: "http://upstream.test/doc?key=" + secret}
	u := &fakeUpstream{answer: func(n int, r *http.Request) *http.Response {
		if r.Header.Get("If-None-Match") == `"1"` {
			return respond(http.StatusNotModified, "")
		}
		return respond(http.StatusOK, `{"a":1}`, `ETag: "1"`)
	}}
	first, second := newClient(t, config, Reading{}), newClient(t, config, Reading{})
	if got := pollOnce(t, first, u); got != `{"a":1}` {
		t.Fatalf("got %s", got)
	}
	progress := first.Progress(true)
	if strings.Contains(string(progress), secret) {
		t.Errorf("the progress %s tells the URL", progress)
	}
	second.Resume(progress)
	got, err := second.Fetch(t.Context(), u, nil)
	if err != nil || got.Body != nil {
		t.Errorf("the other client gets %q, %v; want that nothing has changed", got.Body, err)
	}
	second.Commit(got)
}

// TestHandoverOfLists: if answers hold only what is new, the other client goes on
// after what is kept, or from the beginning.
func TestHandoverOfLists(t *testing.T) {
	for _, raw := range []bool{true, false} {
		reading := Reading{Since: []Since{{Param: "after", Pointer: "/seq", Initial: "0"}}, Append: &Append{List: "/events", Max: 5, Key: "id"}}
		u := &fakeUpstream{answer: func(n int, r *http.Request) *http.Response {
			after := r.URL.Query().Get("after")
			return respond(http.StatusOK, fmt.Sprintf(`{"seq":%d,"events":[{"id":"after %s"}]}`, n, after))
		}}
		first, second := newClient(t, Config{}, reading), newClient(t, Config{}, reading)
		pollOnce(t, first, u)
		pollOnce(t, first, u)
		second.Resume(first.Progress(raw))
		want := `{"seq":3,"events":[{"id":"after 0"}]}`
		if raw {
			want = `{"seq":3,"events":[{"id":"after 0"},{"id":"after 1"},{"id":"after 2"}]}`
		}
		if got := pollOnce(t, second, u); got != want {
			t.Errorf("raw %t: got %s, want %s", raw, got, want)
		}
	}
}

func TestResumeIgnoresWhatItCannotRead(t *testing.T) {
	c := newClient(t, Config{}, Reading{})
	for _, progress := range []string{"", "null", "[]", `{"etag":5}`, `{"list":[{}]}`} {
		c.Resume([]byte(progress))
	}
	u := &fakeUpstream{answer: func(int, *http.Request) *http.Response { return respond(http.StatusOK, `1`) }}
	if got := pollOnce(t, c, u); got != "1" {
		t.Errorf("got %s", got)
	}
}
