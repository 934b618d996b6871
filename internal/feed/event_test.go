package feed

import (
	"strings"
	"testing"
	"time"

	"github.com/pollsse/caddy-poll-sse/internal/judge"
)

func TestEventNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"message": true, "snapshot": true, "a b": true, "ü": true, "a:b": true, strings.Repeat("x", 64): true,
		"": false, "error": false, "open": false, strings.Repeat("x", 65): false, " x": false, "x ": false, "a\nb": false, "a\rb": false, "a\x00b": false, "\t": false, "\x80": false,
	} {
		if err := CheckEventName(name); (err == nil) != ok {
			t.Errorf("event name %q: %v", name, err)
		}
	}
}

func TestFraming(t *testing.T) {
	for _, test := range []struct{ name, id, data, want string }{
		{"snapshot", "X", "{}", "event: snapshot\nid: X\ndata: {}\n\n"},
		{"message", "X", "{}", "id: X\ndata: {}\n\n"},
		{"status", "", "{}", "event: status\ndata: {}\n\n"},
	} {
		if got := string(appendEvent(nil, test.name, test.id, []byte(test.data))); got != test.want {
			t.Errorf("event %q: %q, want %q", test.name, got, test.want)
		}
	}
	if got := string(appendRetry(nil, time.Microsecond)); got != "retry: 1\n\n" {
		t.Errorf("a retry of less than a millisecond: %q", got)
	}
}

// FuzzFraming: no document, name or id that gets through its check can add a
// line to a stream.
func FuzzFraming(f *testing.F) {
	f.Add("snapshot", []byte(`{"a":"\n\r\u2028"}`), "AAAAAAAAAAAAAAAAAAAAAA")
	f.Add("a: b", []byte("[1,\r\n2]"), "x\ndata: y")
	f.Add("message", []byte("\"\xe2\x80\xa8\""), "")
	f.Add(":", []byte("{\"a\rb\":1}"), "\x00")
	f.Fuzz(func(t *testing.T, name string, body []byte, id string) {
		if CheckEventName(name) != nil {
			name = KindSnapshot
		}
		doc, _, err := newPoller().update(body, false)
		if err != nil {
			return
		}
		b := appendRetry(nil, time.Second)
		if IsVersion(id) {
			b = appendID(b, id)
		}
		b = Key{Format: FormatPatch, Names: Names{name, KindPatch, KindMerge, KindStatus}}.appendDocument(b, doc)
		got, before := events(t, b), 1
		if IsVersion(id) {
			before = 2
		}
		if last := got[len(got)-1]; len(got) != before+1 || last.Name != name || last.Data != string(doc.Text) || last.ID != doc.ID || got[0].Name != "" || got[before-1].Name != "" {
			t.Fatalf("name %q, body %q, id %q became %q", name, body, id, b)
		}
		if last := got[before].Data; !judge.Equal(parse(t, last), parse(t, string(body))) {
			t.Errorf("%q arrives as %q", body, last)
		}
	})
}
