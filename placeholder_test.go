package pollsse

import (
	"os"
	"strings"
	"testing"
)

// TestPlaceholderNames: a name that Caddy will never know is refused, and the
// error names the one that was meant if one is near. A name that map, vars or a
// plugin may define gets a warning.
func TestPlaceholderNames(t *testing.T) {
	const known, warned = "", "warning"
	for name, want := range map[string]string{
		"http.request.uri.query.s": known, "http.request.uri.query.ids[]": known, "http.request.uri.path.0": known, "http.request.uri.path.file.ext": known, "http.request.orig_uri.path.1": known,
		"http.request.header.X-Any": known, "http.request.cookie.session": known, "http.request.host": known, "http.request.host.labels.9": known, "http.request.hostport": known, "http.request.port": known,
		"http.request.scheme": known, "http.request.method": known, "http.request.proto": known, "http.request.uuid": known, "http.request.body": known, "http.request.local.host": known, "http.request.local.port": known,
		"http.request.remote": known, "http.request.remote.host": known, "http.request.remote.host/24": known, "http.request.remote.port": known, "http.request.duration": known,
		"http.request.tls.client.subject": known, "http.request.tls.client.san.dns_names.0": known, "http.request.tls.version": known, "http.request.tls.client.fingerprint": known,
		"http.auth.user.id": known, "http.vars.client_ip": known, "http.regexp.x.1": known, "http.matchers.file.relative": known, "http.error.status_code": known, "time.now.unix": known,

		"http.request.query.s":         "{http.request.query.s}: Caddy has no such placeholder; did you mean {http.request.uri.query.s}?",
		"http.request.path.0":          "did you mean {http.request.uri.path.0}?",
		"http.request.headers.X":       "did you mean {http.request.header.X}?",
		"http.request.cookies.session": "did you mean {http.request.cookie.session}?",
		"http.request.client_ip":       "did you mean {http.vars.client_ip}?",
		"http.request.uri.quer.s":      "did you mean {http.request.uri.query.s}?",
		"http.request.uri.path.zero":   "Caddy has no such placeholder",
		"http.request.nonsense":        "Caddy has no such placeholder",
		"http.request.tls.nonsense":    "Caddy has no such placeholder",
		"http.request.uri.query.":      "need a name behind the last dot",
		"http.request.header.":         "need a name behind the last dot",
		"http.requests.header.X":       "did you mean {http.request.header.X}?",
		"http.var.x":                   "did you mean {http.vars.x}?",
		"htp.request.host":             "did you mean {http.request.host}?",
		"queri.x":                      "did you mean {query.x}?",
		"qurey.x":                      "did you mean {query.x}?",
		"Query.x":                      "did you mean {query.x}?",
		"headers.X":                    "did you mean {header.X}?",
		"cookies.x":                    "did you mean {cookie.x}?",
		"paths.1":                      "did you mean {path.1}?",
		"evn.X":                        "did you mean {env.X}?",
		"sytem.hostname":               "did you mean {system.hostname}?",
		"pollsse.last_success":         "did you mean {poll_sse.last_success}?",
		"query.x":                      "write {http.request.uri.query.x}",
		"query.ids[]":                  "write {http.request.uri.query.ids[]}",
		"header.X":                     "write {http.request.header.X}",
		"vars.x":                       "write {http.vars.x}",

		"tenant": warned, "my_map": warned, "hosst": warned, "host": warned, "geoip2.country": warned, "http.geoip.x": warned, "user.name": warned,
	} {
		err := checkPlaceholder(name)
		switch {
		case want == known || want == warned:
			if err != nil || isForeignPlaceholder(name) != (want == warned) {
				t.Errorf("{%s}: %v, foreign: %v; want %q", name, err, isForeignPlaceholder(name), want)
			}
		case err == nil || !strings.Contains(err.Error(), want) || !strings.HasPrefix(err.Error(), "{"+name+"}: "):
			t.Errorf("{%s}: %v, want %q", name, err, want)
		}
	}
}

// TestNear: two words are near if one slip of the finger, or two in a long
// word, turns one into the other. Case and separators do not count.
func TestNear(t *testing.T) {
	for _, test := range []struct {
		word, want string
	}{
		{"intervall", "interval"}, {"staleAfter", "stale_after"}, {"stale-after", "stale_after"}, {"STALE_AFTER", "stale_after"},
		{"headrup", "header_up"}, {"nmae", "name"}, {"interval", "interval"}, {"timeuot", "timeout"}, {"max_stream", ""}, {"x", ""}, {"", ""}, {"foo", ""}, {"honour", "honor"},
	} {
		if got := nearest(test.word, []string{"interval", "stale_after", "header_up", "name", "timeout", "honor"}); got != test.want {
			t.Errorf("nearest to %q is %q, want %q", test.word, got, test.want)
		}
	}
}

// TestForeignPlaceholders: each gets one warning, when the configuration is
// loaded.
func TestForeignPlaceholders(t *testing.T) {
	_, logs := serve(t, `vars tenant x
poll_sse /api http://127.0.0.1:1/{tenant}/{vars.tenant}?a={tenant}&b={my.map} {
	header_up X-A {tenant}
}`)
	text, err := os.ReadFile(logs)
	for placeholder, want := range map[string]int{"{tenant}": 1, "{my.map}": 1, "{http.vars.tenant}": 0} {
		if n := strings.Count(string(text), `"placeholder":"`+placeholder+`"`); err != nil || n != want {
			t.Errorf("%v; %d warnings about %s, want %d:\n%s", err, n, placeholder, want, text)
		}
	}
	for fields, want := range map[string]string{
		`{"upstream":"http://h/{query.x}"}`:                                       "write {http.request.uri.query.x}",
		`{"upstream":"http://h/","body":"{\"a\":\"{http.request.query.a}\"}"}`:    "body: {http.request.query.a}: Caddy has no such placeholder; did you mean {http.request.uri.query.a}?",
		`{"upstream":"http://h/","header_up":{"set":{"A":["{http.request.x}"]}}}`: "header_up A: {http.request.x}: Caddy has no such placeholder",
	} {
		if err := validateHandler(fields); err == nil || strings.Count(err.Error(), want) != 1 {
			t.Errorf("%s: %v, want %q once", fields, err, want)
		}
	}
}
