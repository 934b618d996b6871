package pollsse

import (
	"strings"
	"testing"
	"time"
)

func TestEventNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"message": true, "snapshot": true, "a b": true, "ü": true, "a:b": true, strings.Repeat("x", 64): true,
		"": false, "error": false, "open": false, strings.Repeat("x", 65): false, " x": false, "x ": false, "a\nb": false, "a\rb": false, "a\x00b": false, "\t": false,
	} {
		if err := checkEventName(name); (err == nil) != ok {
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
		if checkEventName(name) != nil {
			name = kindSnapshot
		}
		d := newDiffer(nil, filter{})
		doc, _, err := d.next(body, false)
		if err != nil {
			return
		}
		b := appendRetry(nil, time.Second)
		if isVersion(id) {
			b = appendID(b, id)
		}
		b = appendDocument(b, encoding{formatPatch, name, kindPatch, kindMerge, kindStatus}, doc)
		var p sseParser
		got := p.parse(t, b)
		if len(got) != 1 || got[0].name != name || got[0].data != string(doc.text) || got[0].id != doc.id || p.malformed != 0 || p.rest != "" {
			t.Fatalf("name %q, body %q, id %q became %q", name, body, id, b)
		}
		if want := canonical(decodeJSON(t, string(body))); canonical(decodeJSON(t, got[0].data)) != want {
			t.Errorf("%q arrives as %q", body, got[0].data)
		}
	})
}

// FuzzVersion: an id is a version or nothing.
func FuzzVersion(f *testing.F) {
	f.Add(version(nil, nil))
	f.Add("AAAAAAAAAAAAAAAAAAAAAB")
	f.Add("AAAAAAAAAAA\nAAAAAAAAAA")
	f.Add("")
	f.Fuzz(func(t *testing.T, id string) {
		if isVersion(id) && (len(id) != 22 || strings.Trim(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") != "") {
			t.Errorf("%q passes for a version", id)
		}
		if v := version([]byte(id), nil); !isVersion(v) {
			t.Errorf("%q is a version and does not pass for one", v)
		}
	})
}

// TestVersions: the private part and the text both decide.
func TestVersions(t *testing.T) {
	seen := map[string]bool{}
	for _, private := range []string{"", "a", "ab"} {
		for _, text := range []string{"", "b", "ab"} {
			seen[version([]byte(private), []byte(text))] = true
		}
	}
	if len(seen) != 9 {
		t.Errorf("%d versions of 9 different documents", len(seen))
	}
}
