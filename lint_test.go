package pollsse

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// TestLint: what is allowed but hardly meant gets a warning with its line, and
// nothing else does.
func TestLint(t *testing.T) {
	for text, want := range map[string]string{
		"poll_sse https://h/x?api_key=s3cret":                                                        "upstream: the query's api_key looks like a secret",
		"poll_sse https://h/x?a=1&access_token=s3cret":                                               "upstream: the query's access_token looks like a secret",
		"poll_sse https://h/x?api_key={env.KEY}&q={http.request.uri.query.q}&page=2&design=a&token=": "",
		"poll_sse https://h/x {\n\tforward Authorization\n\tcompress gzip\n}":                        "compress gzip, and forward",
		"poll_sse https://h/x {\n\tforward Authorization\n}":                                         "",
		"poll_sse https://h/x {\n\tcompress gzip\n}":                                                 "",
		"poll_sse https://h/x {\n\tappend /rows\n}":                                                  "append without always_on",
		"poll_sse https://h/x {\n\tappend /rows\n\talways_on\n}":                                     "",
		"poll_sse https://h/x?wait=30s":                                                              "timeout 10s is shorter than the 30s",
		"poll_sse https://h/x?timeout=60 {\n\ttimeout 20s\n}":                                        "timeout 20s is shorter than the 1m0s",
		"poll_sse https://h/x?timeout=0&wait=5 {\n\tinterval 1s\n}":                                  "",
		"poll_sse https://h/x?wait={http.request.uri.query.wait}&timeout=soon":                       "",
	} {
		h := new(Handler)
		if err := h.UnmarshalCaddyfile(caddyfile.NewTestDispenser(text)); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		h.setDefaults()
		var got []string
		for _, err := range h.lint() {
			got = append(got, err.Error())
		}
		if want == "" && len(got) > 0 || want != "" && (len(got) != 1 || !strings.HasPrefix(got[0], want)) || strings.Contains(strings.Join(got, ""), "s3cret") {
			t.Errorf("%s: got %q, want %q", text, got, want)
		}
	}
}

// TestLintIsToldOnce: with file and line when a Caddyfile is adapted, and
// without if the configuration is JSON.
func TestLintIsToldOnce(t *testing.T) {
	core, logs := observer.New(zapcore.WarnLevel)
	h := &Handler{Upstream: "https://h/once?api_key=s3cret", Name: "once", logger: zap.New(core)}
	h.setDefaults()
	d := caddyfile.NewTestDispenser("poll_sse https://h/once?api_key=s3cret {\n\tname once\n}")
	d.Next()
	if got := wrapAt(d, nil, h.lint()[0]).Error(); !strings.Contains(got, "Testfile:1") || strings.Contains(got, "s3cret") {
		t.Errorf("no line, or a secret: %s", got)
	}
	h.lintAt(d, nil, nil)
	h.lintProvisioned()
	if logs.Len() != 0 {
		t.Errorf("told twice: %v", logs.All())
	}
	h.lintProvisioned() // of JSON
	if logs.Len() != 1 || strings.Contains(logs.All()[0].Message, "s3cret") {
		t.Errorf("not told: %v", logs.All())
	}
	a := &App{limits: make(map[string]limits), events: make(map[string]map[string]string), logger: zap.New(core)}
	for _, most := range []int{5, 5, 6} {
		a.take(&Handler{Name: "once", Limits: Limits{MaxSources: 1, MaxSubscribers: most}, Schedule: Schedule{Interval: caddy.Duration(second)}})
	}
	if !slices.ContainsFunc(logs.All(), func(e observer.LoggedEntry) bool { return strings.HasPrefix(e.Message, "name: two") }) || logs.Len() != 2 {
		t.Errorf("different limits of one name: %v", logs.All())
	}
}

// warnings adapts and validates a Caddyfile, as caddy validate does, and returns
// what poll_sse warns of: message and site.
func warnings(t *testing.T, text string) (all []string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "caddy.log")
	logging := fmt.Appendf(nil, `{"logs":{"default":{"writer":{"output":"file","filename":%q}}}}`, file)
	if err := caddy.Load(fmt.Appendf(nil, `{"admin":{"disabled":true,"config":{"persist":false}},"logging":%s}`, logging), true); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
	}()
	adapted, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": "Caddyfile"})
	if err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	var config *caddy.Config
	if err := json.Unmarshal(adapted, &config); err != nil {
		t.Fatal(err)
	}
	config.Admin, config.Logging = &caddy.AdminConfig{Disabled: true}, nil
	if err := json.Unmarshal(logging, &config.Logging); err != nil {
		t.Fatal(err)
	}
	if err := caddy.Validate(config); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	logged, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range bytes.Lines(logged) {
		var l struct{ Level, Logger, Msg, Site string }
		if err := json.Unmarshal(line, &l); err != nil {
			t.Fatalf("%v in %s", err, line)
		}
		if l.Level == "warn" && strings.Contains(l.Logger, "poll_sse") {
			all = append(all, strings.TrimSpace(l.Msg+" "+l.Site))
		}
	}
	return all
}

// TestLintOfWholeConfiguration: what only the site, or another handler, shows is
// told once, with file and line.
func TestLintOfWholeConfiguration(t *testing.T) {
	const six = "browsers reach this site over HTTP/1.1, .*"
	for _, c := range []struct {
		text string
		want []string
	}{
		{"http://example.com {\n\tpoll_sse https://h/plain\n}", []string{six + "begin with http://, .*, at Caddyfile:2 http://example.com"}},
		{"{\n\tservers {\n\t\tprotocols h1\n\t}\n}\nexample.com {\n\thandle /a {\n\t\tpoll_sse https://h/tls\n\t}\n}", []string{six + "protocols have h2, .*, at Caddyfile:8 https://example.com"}},
		{"example.com {\n\tpoll_sse https://h/tls\n}\nhttp://example.com {\n\trespond ok\n}", nil},
		{"http://localhost {\n\tpoll_sse https://h/local\n}\nhttp://example.com {\n\trespond ok\n}", nil},
		{"http://10.0.0.1, http://nas.local {\n\tpoll_sse https://h/lan\n}", nil},
		{":80 {\n\tpoll_sse https://h/any\n}", nil},
		{"http://example.com:8080 {\n\tpoll_sse https://h/behind\n}", nil},
		{"{\n\tservers {\n\t\tprotocols h1 h2c\n\t}\n}\nhttp://example.com {\n\tpoll_sse https://h/h2c\n}", nil},
		{
			":8080 {\n\tpoll_sse /a https://h/a {\n\t\tname one\n\t}\n\tpoll_sse /b https://h/b {\n\t\tmax_sources 5\n\t\tname one\n\t}\n\tpoll_sse /c https://h/c {\n\t\tmax_sources 5\n\t}\n}",
			[]string{"name: two poll_sse .*, at Caddyfile:7"},
		},
		{
			":8080 {\n\tpoll_sse /a https://h/a\n\tpoll_sse /b https://h/a {\n\t\tmax_subscribers 5\n\t}\n}",
			[]string{"name: two poll_sse .*, at Caddyfile:4"},
		},
		{":8080 {\n\tpoll_sse /a https://h/a {\n\t\tname one\n\t}\n\tpoll_sse /b https://h/b {\n\t\tname one\n\t}\n}", nil},
		{":8080 {\n\tpoll_sse /a https://h/a?x=1\n\tpoll_sse /b https://h/a?x=2 {\n\t\tmax_subscribers 5\n\t}\n}", nil}, // #2
		{":8080 {\n\tpoll_sse /a https://h/a?token=x {\n\t\tappend /rows\n\t}\n}", []string{"upstream: the query's token .*, at Caddyfile:2", "append without .*, at Caddyfile:3"}},
	} {
		got := warnings(t, c.text)
		if !slices.EqualFunc(got, c.want, func(got, want string) bool { return regexp.MustCompile("^" + want + "$").MatchString(got) }) {
			t.Errorf("%s\ngot %q\nwant %q", c.text, got, c.want)
		}
	}
}

// TestLintIsQuiet: nothing is told of what the examples and the documentation
// recommend.
func TestLintIsQuiet(t *testing.T) {
	t.Setenv("SYNCTHING_API_KEY", "key")
	files, err := filepath.Glob("examples/*/Caddyfile")
	if err != nil {
		t.Fatal(err)
	}
	texts := make(map[string]string)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		texts[file] = string(text)
	}
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	for i, m := range regexp.MustCompile("(?ms)^```caddyfile\n(.*?)^```").FindAllSubmatch(readme, -1) {
		texts[fmt.Sprint("README.md ", i)] = string(m[1])
	}
	if len(texts) < 17 {
		t.Fatalf("%d configurations", len(texts))
	}
	for name, text := range texts {
		got := warnings(t, text)
		if name == "examples/rabbitmq/Caddyfile" {
			// RabbitMQ compresses the same answers itself, so this adds no risk.
			got = slices.DeleteFunc(got, func(w string) bool { return strings.HasPrefix(w, "compress gzip, and forward") })
		}
		if len(got) > 0 {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// TestLintInterval: an upstream whose answers are good for longer than the
// interval is told of once, with what to write.
func TestLintInterval(t *testing.T) {
	bubble(t, func(t *testing.T) {
		for _, c := range []struct {
			control string
			h       *Handler
			want    string
		}{
			{"max-age=30", &Handler{}, "interval 30s, or honor off"},
			{"max-age=3600", &Handler{}, "interval 1m0s, or"}, // max_interval
			{"max-age=5", &Handler{}, ""},
			{"max-age=30", &Handler{Schedule: Schedule{Honor: new(false)}}, ""},
		} {
			s, logs := startSource(t, c.h, &fakeUpstream{script: func(n int, _ *http.Request) *http.Response {
				r := reply(200, fmt.Sprint(n))
				r.Header.Set("Cache-Control", c.control)
				return r
			}})
			wait(5 * time.Minute)
			s.close()
			got := logs.FilterMessageSnippet("interval: ").All()
			if c.want == "" && len(got) > 0 || c.want != "" && (len(got) != 1 || !strings.Contains(got[0].Message, c.want) || got[0].ContextMap()["poll_sse"] == "") {
				t.Errorf("%s: %v, want %q", c.control, got, c.want)
			}
		}
	})
}
