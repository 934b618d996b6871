package pollsse

import (
	"context"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	"github.com/pollsse/caddy-poll-sse/internal/upstream"
)

// TestConfig adapts each Caddyfile of testdata/config and compares with what
// follows the dashes: JSON, which must also provision and validate, or the
// lines of an error. If Validate refuses what adapts, the lines of its error
// follow a second line of dashes.
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
		`{` + up + `,"tree":true,"method":"POST","paginate":{"next":"link"},"since":[{"param":"a","pointer":"/a"}],"append":{"list":"/a"},"upstream_format":"ndjson"}`: {"tree: the requests are the client's GETs", "paginate: not with tree", "since: not with tree", "append: not with tree", "upstream_format: not with tree"},
		`{"upstream":"http://h/x?key=1","tree":true,"query":["!"]}`:                      {"tree: the query is the client's", `query "!": need the name`},
		`{` + up + `,"tree":true,"reads":{"method":"PUT","pointer":"/m"},"echo":"x"}`:    {"reads PUT: need POST", "reads: need a pointer and the values", `echo "x": a JSON Pointer`},
		`{` + up + `,"tree":true,"reads":{"method":"POST","values":["x"]}}`:              {"reads: need a pointer and the values"},
		`{` + up + `,"tree":true,"echo":"/id"}`:                                          {"echo: only with reads"},
		`{` + up + `,"events":{"x":"y","snapshot":"error","patch":"a\nb"}}`:              {"event x: no such kind", `event snapshot: event name "error" collides`, `event patch: event name "a\nb" must not contain CR`},
		`{` + up + `,"events":{"snapshot":"patch"}}`:                                     {`snapshot and patch are both named "patch"`},
		`{` + up + `,"events":{"snapshot":"status"},"format":"snapshot"}`:                {`snapshot and status are both named`},
		`{` + up + `,"forward":["Cookie","cookie:","a b","Range","Host","traceparent"]}`: {"forward traceparent: each request", "forward Cookie: every", `forward "cookie:": need`, `forward "a b": not a header`, "forward Range: this field", "forward Host: use header_up"},
		`{` + up + `,"header_up":{"set":{"Range":["x"],"a b":["x"]},"delete":["X-*"]}}`:  {"header_up Range: this field", `header_up "a b": not a header`, "header_up X-*: name one field"},
		`{` + up + `,"header_up":{"set":{"A":["x\ny"]}}}`:                                {"header_up A: the value must not hold control characters"},
		`{` + up + `,"header_up":{"replace":{"A":[{"search":"x"}]}}}`:                    {"header_up: replace is not supported"},
		`{` + up + `,"header_up":{"set":{"A":["{env.POLL_SSE_UNSET}"]}}}`:                {"header_up A: {env.POLL_SSE_UNSET} has no value"},
		`{` + up + `,"transport":{"protocol":"fastcgi"}}`:                                {"transport:"},
		`{` + up + `,"transport":{"protocol":"http","proxy_protocol":"v1"}}`:             {"transport: proxy_protocol is not supported"},
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
		if _, ok := defaults.option(name); !ok {
			t.Errorf("there is no option %s", name)
			continue
		}
		for value, ok := range map[time.Duration]bool{b.low: true, b.high: true, b.high + 1: false, b.initial: true} {
			h := defaults
			*b.field(&h) = caddy.Duration(value)
			h.QuietInterval = max(h.QuietInterval, h.Interval)
			o, _ := h.option(name)
			if err := o.check(); (err == nil) != ok {
				t.Errorf("%s %s: %v", name, value, err)
			}
		}
		if name != "stream_close_delay" {
			h := defaults
			*b.field(&h) = caddy.Duration(b.low - 1)
			if o, _ := h.option(name); o.check() == nil {
				t.Errorf("%s %s is accepted, the least is %s", name, b.low-1, b.low)
			}
		}
	}
	for name, ok := range map[string]bool{
		"defaults": defaults.MaxBody == 10<<20 && defaults.Format == "patch" && *defaults.History == 256 && defaults.MaxSources == 1000 && defaults.MaxSubscribers == 20000 && defaults.Name == "http://h/x?…",
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
		for want, values := range map[bool][]int{true: test.good, false: test.bad} {
			for _, n := range values {
				h := defaults
				test.set(&h, n)
				o, _ := h.option(test.name)
				if err := o.check(); (err == nil) != want {
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
	for _, o := range new(Handler).options() {
		if !regexp.MustCompile(`(?m)^\s+` + o.name + `\b`).Match(text) {
			t.Errorf("no testdata/config/every_*.caddyfiletest says %s", o.name)
		}
	}
}

// documented is an option in the words of the documentation.
func documented() []option {
	h := new(Handler)
	h.setDefaults()
	return h.options()
}

// TestReadmeOptions: README's table has every option in the order of the code's
// table, with its default and its bounds.
func TestReadmeOptions(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := strings.Cut(string(readme), "<!-- options -->")
	table, _, end := strings.Cut(table, "<!-- /options -->")
	rows := strings.Split(strings.TrimSpace(table), "\n")
	if !ok || !end || len(rows) < 3 {
		t.Fatal("README.md has no table between <!-- options --> and <!-- /options -->")
	}
	options := documented()
	if got := len(rows) - 2; got != len(options) {
		t.Errorf("README.md has %d options, want %d", got, len(options))
	}
	for i, o := range options {
		if i+2 >= len(rows) {
			t.Fatalf("README.md lacks %s", o.name)
		}
		columns := strings.Split(strings.Trim(rows[i+2], "|"), " | ")
		for i := range columns {
			columns[i] = strings.TrimSpace(columns[i])
		}
		if want := "| `" + o.name + "` | … | " + o.initial + " | " + o.bounds + " |"; len(columns) != 4 || columns[0] != "`"+o.name+"`" || columns[1] == "" || columns[2] != o.initial || columns[3] != o.bounds {
			t.Errorf("README.md has\n%s\nwant\n%s", rows[i+2], want)
		}
	}
}

// TestGrammar: the grammar in the comment of UnmarshalCaddyfile has every option
// in the order of the table, with its arguments.
func TestGrammar(t *testing.T) {
	source, err := os.ReadFile("caddyfile.go")
	if err != nil {
		t.Fatal(err)
	}
	var got, want []string
	for _, line := range regexp.MustCompile(`(?m)^//\t\t([a-z_]+.*)$`).FindAllStringSubmatch(string(source), -1) {
		got = append(got, strings.Join(strings.Fields(line[1]), " "))
	}
	for _, o := range documented() {
		want = append(want, strings.TrimSpace(o.name+" "+o.syntax))
	}
	if g, w := strings.Join(got, "\n"), strings.Join(want, "\n"); g != w {
		t.Errorf("the grammar has\n%s\nwant\n%s", g, w)
	}
}

// fields returns the JSON fields of the handler, with the struct that each is
// in and its comment.
func fields(t *testing.T) map[string][2]string {
	file, err := parser.ParseFile(token.NewFileSet(), "module.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	all := make(map[string][2]string)
	for _, group := range []string{"Handler", "Request", "Reading", "Schedule", "Streaming", "Limits"} {
		for _, f := range file.Scope.Lookup(group).Decl.(*ast.TypeSpec).Type.(*ast.StructType).Fields.List {
			if f.Tag == nil {
				continue
			}
			tag, _ := strconv.Unquote(f.Tag.Value)
			name, _, _ := strings.Cut(reflect.StructTag(tag).Get("json"), ",")
			if before, ok := all[name]; ok {
				t.Errorf("%s stands in %s and in %s", name, before[0], group)
			}
			all[name] = [2]string{group, strings.Join(strings.Fields(f.Doc.Text()), " ")}
		}
	}
	return all
}

// TestFieldComments: the comment of each field has the default and the bounds of
// its option.
func TestFieldComments(t *testing.T) {
	all := fields(t)
	for _, o := range documented() {
		f, ok := all[map[string]string{"event": "events"}[o.name]]
		if !ok {
			if f, ok = all[o.name]; !ok {
				t.Errorf("%s has no field", o.name)
				continue
			}
		}
		plain := strings.ReplaceAll(f[1], "`", "")
		initial := map[string]string{"on": "true", "off": "false"}[o.initial]
		if initial == "" || o.syntax != "on|off" && o.syntax != "" {
			initial = strings.ReplaceAll(o.initial, "`", "")
		}
		if o.initial != "none" && !strings.Contains(strings.ReplaceAll(plain, "MiB", "MiB"), "Default: "+initial) {
			t.Errorf("the comment of %s lacks %q:\n%s", o.name, "Default: "+initial, plain)
		}
		if limit := sentence(o.bounds); limit != "" && !strings.Contains(plain, limit) {
			t.Errorf("the comment of %s lacks %q:\n%s", o.name, limit, plain)
		}
	}
}

// sentence returns bounds as a sentence of a comment has them, or nothing for
// lists of words and bounds that are described otherwise.
func sentence(bounds string) string {
	switch {
	case strings.HasPrefix(bounds, "at "):
		return "At" + bounds[2:]
	case regexp.MustCompile(`^\S+ to \S+$`).MatchString(bounds):
		return "From " + bounds
	}
	return ""
}

// TestEachFieldHasItsGroup: what decides a document is in the key of its source,
// and nothing else is. A field that is in no group, or in two, fails here.
func TestEachFieldHasItsGroup(t *testing.T) {
	groups := map[string]string{
		"Handler":   "upstream except always_on poke name",
		"Request":   "method body basic_auth bearer_file oauth2 header_up forward tree query reads echo",
		"Reading":   "transport max_body upstream_format since append paginate select omit ignore identify",
		"Schedule":  "interval quiet_interval max_interval honor max_load host_polls stale_after timeout history linger",
		"Streaming": "format events heartbeat retry max_age max_wait delivery compress stream_close_delay",
		"Limits":    "max_sources max_subscribers max_streams_per_client",
	}
	all := fields(t)
	for group, names := range groups {
		for _, name := range strings.Fields(names) {
			if all[name][0] != group {
				t.Errorf("%s stands in %q, want %s", name, all[name][0], group)
			}
			delete(all, name)
		}
	}
	for name, f := range all {
		t.Errorf("decide what %s is part of: it stands in %s", name, f[0])
	}
}

// TestKeyOfASource: everything in Reading and in the expanded request is part of
// a source's key, and so is whether it is one client's own. Nothing else is.
func TestKeyOfASource(t *testing.T) {
	key := func(set func(h *Handler)) [32]byte {
		h := &Handler{Upstream: "http://h/x"}
		set(h)
		h.setDefaults()
		h.prepare(caddy.NewReplacer(), new(engine).newGeneration())
		if h.requestErr != nil {
			t.Fatal(h.requestErr)
		}
		r := request(t.Context(), "GET", "/?q=1", "X-Who", "me")
		req, err := h.expand(r)
		if err != nil {
			t.Fatal(err)
		}
		return req.Key(h.readingKey)
	}
	same := key(func(*Handler) {})
	different := map[string]func(h *Handler){
		"select": func(h *Handler) { h.Select = "/a" }, "omit": func(h *Handler) { h.Omit = []string{"/a"} },
		"ignore": func(h *Handler) { h.Ignore = []string{"/a"} }, "identify": func(h *Handler) { h.Identify = []identifyConfig{{"/a", "id"}} },
		"max_body": func(h *Handler) { h.MaxBody = 1 }, "upstream_format": func(h *Handler) { h.UpstreamFormat = "ndjson" },
		"since": func(h *Handler) { h.Since = []upstream.Since{{Param: "a", Pointer: "/a"}} }, "append": func(h *Handler) { h.Append = new(upstream.Append) },
		"paginate": func(h *Handler) { h.Paginate = &upstream.Pages{Next: "link"} }, "transport": func(h *Handler) { h.TransportRaw = json.RawMessage(`{"protocol":"http"}`) },
		"method": func(h *Handler) { h.Method = "POST" }, "body": func(h *Handler) { h.Body = "x" }, "basic_auth": func(h *Handler) { h.BasicAuth = &upstream.BasicAuth{Username: "u"} },
		"bearer_file": func(h *Handler) { h.BearerFile = "/f" }, "forward": func(h *Handler) { h.Forward = []string{"X-Who"} },
		"header_up": func(h *Handler) { h.HeaderUp = &headers.HeaderOps{Set: http.Header{"X-Who": {"me"}}} },
		"tree":      func(h *Handler) { h.Tree = true },
		"upstream":  func(h *Handler) { h.Upstream = "http://h/x?q={http.request.uri.query.q}" },
	}
	seen := map[[32]byte]string{same: "the defaults"}
	for name, set := range different {
		k := key(set)
		if other, ok := seen[k]; ok {
			t.Errorf("%s has the same key as %s", name, other)
		}
		seen[k] = name
	}
	// A fixed field and a forwarded one expand to the same, but they are not
	// the same.
	if a, b := key(different["header_up"]), key(different["forward"]); a == b {
		t.Error("a client's own document and a public one have the same key")
	}
	history := 1
	for name, set := range map[string]func(h *Handler){
		"schedule": func(h *Handler) {
			h.Schedule = Schedule{Interval: caddy.Duration(time.Hour), MaxInterval: caddy.Duration(2 * time.Hour), Timeout: 1e9, History: &history, Linger: 1e9, MaxLoad: 1, HostPolls: 1, StaleAfter: 1e9}
		},
		"streaming": func(h *Handler) { h.Streaming = Streaming{Format: "merge", Heartbeat: 1e9} },
		"limits":    func(h *Handler) { h.Limits = Limits{1, 1, 1} },
		"the rest":  func(h *Handler) { h.Name, h.AlwaysOn = "x", true },
	} {
		if key(set) != same {
			t.Errorf("%s decides the key", name)
		}
	}
}

// TestEveryFieldOfTheSchedule: a field that upkeep does not have would have no
// effect, and one that its with forgets would have none as soon as two handlers
// share a source.
func TestEveryFieldOfTheSchedule(t *testing.T) {
	plain := func(set func(v reflect.Value)) upkeep {
		h := &Handler{Upstream: "http://h/x"}
		h.setDefaults()
		set(reflect.ValueOf(&h.Schedule).Elem())
		h.prepare(caddy.NewReplacer(), new(engine).newGeneration())
		return h.claim.upkeep
	}
	usual := plain(func(reflect.Value) {})
	for i := range reflect.TypeFor[Schedule]().NumField() {
		got := plain(func(v reflect.Value) {
			switch f := v.Field(i); f.Kind() {
			case reflect.Pointer:
				f.Set(reflect.New(f.Type().Elem())) // to false or 0
			default:
				f.SetInt(f.Int() + 1)
			}
		})
		if got == usual {
			t.Errorf("%s has no effect on a source's upkeep", reflect.TypeFor[Schedule]().Field(i).Name)
		}
		if both := got.with(got); both != got {
			t.Errorf("%s is lost where two handlers agree on it: %+v, want %+v", reflect.TypeFor[Schedule]().Field(i).Name, both, got)
		}
	}
}
