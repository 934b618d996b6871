package delivery

import (
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/pollsse/caddy-poll-sse/internal/feed"
)

func TestWhoGetsAStream(t *testing.T) {
	for accept, want := range map[string]bool{
		"":                                    false,
		"*/*":                                 false,
		"text/event-stream":                   true,
		"TEXT/Event-Stream":                   true,
		"text/event-stream, */*":              true,
		"text/event-stream, application/json": true,
		"application/json, text/event-stream;q=0.9":       false,
		"application/json;q=0.5, text/event-stream;q=0.9": true,
		"text/event-stream;q=0":                           false,
		"text/event-stream;q=nonsense":                    false,
		"text/event-stream; charset=utf-8; q=0.3":         true,
		"text/*":              false,
		"text/event-stream-x": false,
		"application/json":    false,
		"text/html,application/xhtml+xml,*/*;q=0.8":            false,
		"text/event-stream;q=0.5, application/json;q=0.500001": false,
	} {
		if got := PrefersEventStream(http.Header{"Accept": {accept}}); got != want {
			t.Errorf("Accept %q: stream %v, want %v", accept, got, want)
		}
	}
	if !PrefersEventStream(http.Header{"Accept": {"text/html", "text/event-stream"}}) {
		t.Error("the second line of Accept is not read")
	}
}

func TestPreferredWait(t *testing.T) {
	for prefer, want := range map[string]int{
		"": 0, "wait=5": 5, "WAIT=5": 5, "wait = 5": 5, `wait="5"`: 5, "respond-async, wait=5": 5, "wait=5; x=y": 5,
		"wait": 0, "wait=": 0, "wait=-1": 0, "wait=x": 0, "wait=100": 60, "wait=0": 0, "await=5": 0, "wait=5, wait=9": 5,
		"wait=9999999999999999999999": 60, "wait=2147483648": 60,
	} {
		if got := preferredWait(http.Header{"Prefer": {prefer}}, time.Minute); got != time.Duration(want)*time.Second {
			t.Errorf("Prefer %q: %s, want %ds", prefer, got, want)
		}
	}
}

// FuzzRequestFields: whatever a client sends, the answer is one of a few, and
// waits no longer than it may.
func FuzzRequestFields(f *testing.F) {
	f.Add("text/event-stream", "wait=5", `"x"`)
	f.Add("text/event-stream;q=NaN, application/json;q=Inf", `wait="1,2"`, `W/"x", *`)
	f.Add(";;,,q=1;=", "wait=1e9", "W/W/")
	id := feed.Version(nil, []byte("{}"))
	f.Fuzz(func(t *testing.T, accept, prefer, match string) {
		h := http.Header{"Accept": {accept}, "Prefer": {prefer}, "If-None-Match": {match}}
		PrefersEventStream(h)
		if d := preferredWait(h, time.Minute); d < 0 || d > time.Minute || d%time.Second != 0 {
			t.Errorf("Prefer %q: %s", prefer, d)
		}
		h.Add("If-None-Match", strconv.Quote(id))
		if !matchesETag(h, id) {
			t.Errorf("a line of If-None-Match %q hides the next", match)
		}
	})
}
