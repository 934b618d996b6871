package upstream

import (
	"testing"
)

// TestRedact: a URL is shown without what may be a secret in it.
func TestRedact(t *testing.T) {
	for text, want := range map[string]string{
		"https://h/quotes.json":                               "https://h/quotes.json",
		"https://h:8443/v1/{http.request.uri.path.0}/x":       "https://h:8443/v1/{http.request.uri.path.0}/x",
		"{env.UPSTREAM}/quotes?key=secret":                    "{env.UPSTREAM}/quotes?…",
		"https://h/q?key=secret&s={http.request.uri.query.s}": "https://h/q?…",
		"https://h?key=secret":                                "https://h?…",
		"https://h/{file./run/a?b}/x":                         "https://h/{file./run/a?b}/x",
		"https://h/x?":                                        "https://h/x?…",
		"https://h/x#secret?y":                                "https://h/x#…",
		"https://user:secret@h/x":                             "https://…@h/x",
		"https://user:se/cret@h/x":                            "https://…@h/x",
		"https://us@er:secret@h/x@y?z":                        "https://…@h/x@y?…", "https://h:80/a@b": "https://h:80/a@b", "https://h:{env.PORT}/a@b": "https://h:{env.PORT}/a@b", "http://[::1]:80/a@b": "http://[::1]:80/a@b", "https://user:5e?cr#et@h": "https://…@h",
		"user:secret@h/x": "…@h/x",
		"https://h/@x":    "https://h/@x",
		"":                "",
	} {
		if got := Redact(text); got != want {
			t.Errorf("%q is shown as %q, want %q", text, got, want)
		}
	}
}
