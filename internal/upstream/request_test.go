package upstream

import (
	"fmt"
	"net/http"
	"testing"
)

// TestKeysDoNotCollide: no two different requests meet in one key, however
// their parts are cut.
func TestKeysDoNotCollide(t *testing.T) {
	seen := map[[32]byte]string{}
	for _, r := range []Request{
		{url: "http://a/"}, {url: "http://a/x"}, {url: "http://a/", host: "x"}, {url: "http://a", host: "/x"},
		{url: "http://a/", header: http.Header{"A": {"b"}}}, {url: "http://a/", header: http.Header{"A": {"b", ""}}},
		{url: "http://a/", header: http.Header{"A": {"b", "c"}}}, {url: "http://a/", header: http.Header{"A": {"bc"}}},
		{url: "http://a/", header: http.Header{"A": {"b"}, "C": {}}}, {url: "http://a/", header: http.Header{"A": {"b"}, "C": {""}}},
		{url: "http://a/", header: http.Header{"A": {"b", "C", "1", ""}}}, {url: "http://a/", header: http.Header{"A": nil}},
		{url: "http://a/", header: http.Header{"Ab": {"c"}}}, {url: "http://a/", header: http.Header{"A": {"bc"}, "": {}}},
	} {
		r.sum = r.hash()
		for _, settings := range []string{"", "s", "s\x00"} {
			name := fmt.Sprintf("%q %q %q %q", r.url, r.host, r.header, settings)
			k := r.Key([]byte(settings))
			if other, ok := seen[k]; ok {
				t.Errorf("%s and %s share a key", name, other)
			}
			seen[k] = name
		}
	}
	if len(seen) != 42 {
		t.Errorf("%d keys, want 42", len(seen))
	}
}
