package pollsse

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
)

// TestConfig adapts each Caddyfile of testdata/config and compares with what
// follows the dashes: JSON, which must also provision and validate, or the
// lines of an error. After a second line of dashes may stand the lines of the
// error with which Validate refuses what adapts.
func TestConfig(t *testing.T) {
	files, err := filepath.Glob("testdata/config/*.caddyfiletest")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	t.Setenv("POLL_SSE_UPSTREAM", "https://legacy.test")
	t.Setenv("POLL_SSE_KEY", "se/cret&")
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".caddyfiletest"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			parts := strings.Split(string(text), "----------\n")
			if len(parts) < 2 || strings.TrimSpace(parts[1]) == "" {
				t.Fatal("need a Caddyfile, a line of ten dashes, and JSON or an error")
			}
			if formatted := string(caddyfile.Format([]byte(parts[0]))); strings.TrimSpace(formatted) != strings.TrimSpace(parts[0]) {
				t.Errorf("the Caddyfile is not formatted; formatted it is:\n%s", formatted)
			}
			got, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(parts[0]), map[string]any{"filename": "Caddyfile"})
			want := strings.TrimSpace(parts[1])
			if !strings.HasPrefix(want, "{") {
				if err == nil {
					t.Fatalf("adapts to %s, want the error\n%s", got, want)
				}
				message := strings.TrimPrefix(err.Error(), "parsing caddyfile tokens for 'poll_sse': ")
				if message != want {
					t.Errorf("error\n%s\nwant\n%s", message, want)
				}
				return
			}
			if err != nil {
				t.Fatalf("adapt: %v", err)
			}
			var a, b any
			if err := json.Unmarshal(got, &a); err != nil {
				t.Fatal(err)
			}
			if err := json.Unmarshal([]byte(want), &b); err != nil {
				t.Fatalf("the wanted JSON: %v", err)
			}
			if canonical(a) != canonical(b) {
				pretty, _ := json.MarshalIndent(a, "", "\t")
				t.Errorf("adapts to\n%s\nwant\n%s", pretty, want)
			}
			err = validate(got)
			if len(parts) == 2 {
				if err != nil {
					t.Errorf("validate: %v", err)
				}
				return
			}
			for _, line := range strings.Split(strings.TrimSpace(parts[2]), "\n") {
				if err == nil || !strings.Contains(err.Error(), line) {
					t.Errorf("validate: %v\nwant an error with\n%s", err, line)
				}
			}
		})
	}
}

// validate does what caddy validate does.
func validate(config []byte) error {
	var c caddy.Config
	if err := caddy.StrictUnmarshalJSON(config, &c); err != nil {
		return err
	}
	return caddy.Validate(&c)
}

// validateHandler provisions and validates a handler from JSON fields.
func validateHandler(fields string) error {
	var h Handler
	if err := caddy.StrictUnmarshalJSON([]byte(fields), &h); err != nil {
		return err
	}
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	defer cancel()
	if err := h.Provision(ctx); err != nil {
		return fmt.Errorf("Provision, where Validate could report all: %w", err)
	}
	return h.Validate()
}

// TestMistakesInJSON: JSON is refused as the Caddyfile is, with everything
// that is wrong at once.
func TestMistakesInJSON(t *testing.T) {
	const up = `"upstream":"http://h/"`
	for fields, want := range map[string][]string{
		`{}`:                            {`upstream "": need an absolute URL`},
		`{"upstream":"h"}`:              {`upstream "h": need an absolute URL`},
		`{` + up + `,"interval":1}`:     {"interval 1ns: need 100ms to 24h0m0s"},
		`{` + up + `,"interval":"25h"}`: {"interval 25h0m0s: need"},
		`{` + up + `,"interval":-1}`:    {"interval -1ns: need"},
		`{` + up + `,"linger":"-1s"}`:   {"linger -1s: need"},
		`{` + up + `,"history":-1}`:     {"history -1: need"},
		`{` + up + `,"history":100001}`: {"history 100001: need"},
		`{` + up + `,"max_body":-1}`:    {"max_body -1: need"},
		`{` + up + `,"max_sources":-1}`: {"max_sources -1: need at least 1"},
		`{` + up + `,"format":"xml"}`:   {`format "xml": need`},
		`{` + up + `,"events":{"x":"y","snapshot":"error","patch":"a\nb"}}`:             {"event x: no such kind", `event snapshot: event name "error" collides`, `event patch: event name "a\nb" must not contain CR`},
		`{` + up + `,"events":{"snapshot":"patch"}}`:                                    {`snapshot and patch are both named "patch"`},
		`{` + up + `,"events":{"snapshot":"status"},"format":"snapshot"}`:               {`snapshot and status are both named`},
		`{` + up + `,"forward":["Cookie","cookie:","a b","Range","Host"]}`:              {"forward Cookie: every", `forward "cookie:": need`, `forward "a b": not a header`, "forward Range: this field", "forward Host: use header_up"},
		`{` + up + `,"header_up":{"set":{"Range":["x"],"a b":["x"]},"delete":["X-*"]}}`: {"header_up Range: this field", `header_up "a b": not a header`, "header_up X-*: name one field"},
		`{` + up + `,"header_up":{"set":{"A":["x\ny"]}}}`:                               {"header_up A: the value must not hold control characters"},
		`{` + up + `,"header_up":{"replace":{"A":[{"search":"x"}]}}}`:                   {"header_up: replace is not supported"},
		`{` + up + `,"header_up":{"set":{"A":["{env.POLL_SSE_UNSET}"]}}}`:               {"header_up A: {env.POLL_SSE_UNSET} has no value"},
		`{` + up + `,"transport":{"protocol":"fastcgi"}}`:                               {"transport:"},
		`{` + up + `,"transport":{"protocol":"http","proxy_protocol":"v1"}}`:            {"transport: proxy_protocol is not supported"},
		`{"upstream":"x","interval":1,"timeout":1,"max_body":-1,"format":"x","forward":["Cookie"],"heartbeat":1,"retry":1,"history":-1,"max_age":1,"max_wait":1,"stream_close_delay":"48h","max_subscribers":-1,"name":"` + strings.Repeat("x", 257) + `","transport":{"protocol":"fastcgi"}}`: {
			"upstream", "interval", "timeout", "max_body", "format", "forward Cookie", "heartbeat", "retry", "history", "max_age", "max_wait", "stream_close_delay", "max_subscribers", "name: longer", "transport"},
	} {
		err := validateHandler(fields)
		if err == nil {
			t.Errorf("%s is accepted, want %q", fields, want)
			continue
		}
		for _, w := range want {
			if n := strings.Count(err.Error(), w); n < 1 || n > 1 && len(w) > 12 {
				t.Errorf("%s: %v\nsays %q %d times, want once", fields, err, w, n)
			}
		}
		if strings.Contains(err.Error(), "Provision,") {
			t.Errorf("%s: %v", fields, err)
		}
	}
	for _, fields := range []string{`{` + up + `}`, `{` + up + `,"events":{"snapshot":"patch","patch":"snapshot"}}`, `{` + up + `,"events":{"snapshot":"merge"}}`, `{` + up + `,"stream_close_delay":"-1s","history":0}`, `{` + up + `,"transport":{"protocol":"http"}}`} {
		if err := validateHandler(fields); err != nil {
			t.Errorf("%s: %v", fields, err)
		}
	}
}

// bounds is the option table again, as the documentation has it.
var bounds = map[string]struct {
	field              func(*Handler) *caddy.Duration
	initial, low, high time.Duration
}{
	"interval":           {func(h *Handler) *caddy.Duration { return &h.Interval }, 5 * time.Second, 100 * time.Millisecond, 24 * time.Hour},
	"timeout":            {func(h *Handler) *caddy.Duration { return &h.Timeout }, 10 * time.Second, 100 * time.Millisecond, 5 * time.Minute},
	"heartbeat":          {func(h *Handler) *caddy.Duration { return &h.Heartbeat }, 15 * time.Second, time.Second, 10 * time.Minute},
	"retry":              {func(h *Handler) *caddy.Duration { return &h.Retry }, 3 * time.Second, 100 * time.Millisecond, time.Hour},
	"linger":             {func(h *Handler) *caddy.Duration { return &h.Linger }, 30 * time.Second, time.Millisecond, time.Hour},
	"max_age":            {func(h *Handler) *caddy.Duration { return &h.MaxAge }, time.Hour, time.Second, 7 * 24 * time.Hour},
	"max_wait":           {func(h *Handler) *caddy.Duration { return &h.MaxWait }, time.Minute, time.Second, 10 * time.Minute},
	"stream_close_delay": {func(h *Handler) *caddy.Duration { return &h.StreamCloseDelay }, 5 * time.Minute, -24 * time.Hour, 24 * time.Hour},
}

func TestDefaultsAndBounds(t *testing.T) {
	var defaults Handler
	defaults.Upstream = "http://h/x?y"
	defaults.setDefaults()
	for name, b := range bounds {
		if got := time.Duration(*b.field(&defaults)); got != b.initial {
			t.Errorf("%s defaults to %s, want %s", name, got, b.initial)
		}
		o, ok := findOption(name)
		if !ok {
			t.Errorf("there is no option %s", name)
			continue
		}
		for value, ok := range map[time.Duration]bool{b.low: true, b.high: true, b.high + 1: false, b.initial: true} {
			h := defaults
			*b.field(&h) = caddy.Duration(value)
			h.QuietInterval = max(h.QuietInterval, h.Interval)
			if err := o.check(&h); (err == nil) != ok {
				t.Errorf("%s %s: %v", name, value, err)
			}
		}
		if name != "stream_close_delay" && name != "linger" {
			h := defaults
			*b.field(&h) = caddy.Duration(b.low - 1)
			if o.check(&h) == nil {
				t.Errorf("%s %s is accepted, the least is %s", name, b.low-1, b.low)
			}
		}
	}
	for name, ok := range map[string]bool{
		"defaults": defaults.MaxBody == 10<<20 && defaults.Format == "patch" && *defaults.History == 256 && defaults.MaxSources == 1000 && defaults.MaxSubscribers == 20000 && defaults.Name == defaults.Upstream,
	} {
		if !ok {
			t.Errorf("%s: %+v", name, defaults)
		}
	}
	for _, test := range []struct {
		name string
		set  func(h *Handler, n int)
		good []int
		bad  []int
	}{
		{"max_body", func(h *Handler, n int) { h.MaxBody = int64(n) }, []int{1, 256 << 20}, []int{-1, 256<<20 + 1}},
		{"history", func(h *Handler, n int) { h.History = &n }, []int{0, 100_000}, []int{-1, 100_001}},
		{"max_sources", func(h *Handler, n int) { h.MaxSources = n }, []int{1, 1 << 30}, []int{-1}},
		{"max_subscribers", func(h *Handler, n int) { h.MaxSubscribers = n }, []int{1, 1 << 30}, []int{-1}},
		{"name", func(h *Handler, n int) { h.Name = strings.Repeat("x", n) }, []int{1, 256}, []int{257}},
	} {
		o, _ := findOption(test.name)
		for want, values := range map[bool][]int{true: test.good, false: test.bad} {
			for _, n := range values {
				h := defaults
				test.set(&h, n)
				if err := o.check(&h); (err == nil) != want {
					t.Errorf("%s %d: %v", test.name, n, err)
				}
			}
		}
	}
}

// TestEveryOptionIsCovered: an option that nobody has added to the cases of
// testdata/config fails here.
func TestEveryOptionIsCovered(t *testing.T) {
	var text []byte
	files, err := filepath.Glob("testdata/config/every_*.caddyfiletest")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		cases, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		text = append(text, cases...)
	}
	for _, o := range options {
		if !regexp.MustCompile(`(?m)^\s+` + o.name + `\b`).Match(text) {
			t.Errorf("no testdata/config/every_*.caddyfiletest says %s", o.name)
		}
	}
}

// TestReadmeOptions: README's table names every option, and its default.
func TestReadmeOptions(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	var h Handler
	h.setDefaults()
	defaults := map[string]string{
		"max_body": "10MiB", "format": h.Format, "history": fmt.Sprint(*h.History),
		"max_sources": fmt.Sprint(h.MaxSources), "max_subscribers": fmt.Sprint(h.MaxSubscribers),
	}
	for name, b := range bounds {
		defaults[name] = short(b.initial)
	}
	var generated strings.Builder
	generated.WriteString("| option | meaning | default | bounds |\n|---|---|---|---|\n")
	for _, o := range options {
		limits := ""
		if b, ok := bounds[o.name]; ok {
			limits = short(b.low) + " to " + short(b.high)
		}
		fmt.Fprintf(&generated, "| `%s` | … | %s | %s |\n", o.name, defaults[o.name], limits)
	}
	_, table, ok := strings.Cut(string(readme), "<!-- options -->")
	table, _, end := strings.Cut(table, "<!-- /options -->")
	if !ok || !end {
		t.Fatalf("README.md has no table between <!-- options --> and <!-- /options -->; it would be\n%s", generated.String())
	}
	for _, o := range options {
		row := regexp.MustCompile("(?m)^\\| *`" + o.name + "\\b.*$").FindString(table)
		if row == "" {
			t.Errorf("README.md's table does not name %s; the options are\n%s", o.name, generated.String())
			return
		}
		if columns := strings.Split(row, "|"); len(columns) < 5 || !strings.Contains(strings.Map(dropSpace, columns[3]), defaults[o.name]) {
			t.Errorf("README.md has %q; the default is %s; the table is\n%s", row, defaults[o.name], generated.String())
			return
		}
	}
}

func dropSpace(r rune) rune {
	if r == ' ' || r == '`' || r == ',' {
		return -1
	}
	return r
}

// short writes a duration as people do: 5m, not 5m0s.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
