package pollsse

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/dustin/go-humanize"

	"github.com/pollsse/caddy-poll-sse/internal/feed"
	"github.com/pollsse/caddy-poll-sse/internal/upstream"
)

// option is one option of a handler. Its functions are bound to that handler.
// The Caddyfile and JSON are checked by the same function, and only the
// Caddyfile knows the line.
type option struct {
	name    string
	syntax  string // of its arguments, as the grammar has it
	initial string // the default and
	bounds  string // the bounds, as the documentation writes them
	repeats bool   // may stand more than once

	parse func(d *caddyfile.Dispenser) error
	fill  func()       // sets the default if nothing was said; may be nil
	check func() error // may be nil
}

// or describes a default that depends on something.
func (o option) or(initial string) option { o.initial = initial; return o }

// within describes bounds that depend on something.
func (o option) within(bounds string) option { o.bounds = bounds; return o }

// filled makes a function set the default.
func (o option) filled(fill func()) option { o.fill = fill; return o }

// checked adds a check.
func (o option) checked(check func() error) option { o.check = check; return o }

// options is the table of all options, in the order in which the documentation
// has them.
func (h *Handler) options() []option {
	maxInterval := duration("max_interval", &h.MaxInterval, 0, shortestInterval, longestInterval)
	perClient := count("max_streams_per_client", &h.MaxStreamsPerClient, 0)
	return []option{
		{name: "interval", syntax: "<duration> [<duration while nothing changes>]", initial: "5s", bounds: "100ms to 24h",
			parse: h.parseInterval, fill: h.fillInterval, check: h.checkInterval},
		maxInterval.or("1m, or the interval if that is longer").within("interval to 24h").filled(h.fillMaxInterval),
		onOff("honor", &h.Honor),
		{name: "max_load", syntax: "<percent>", initial: "50", bounds: "1 to 100",
			parse: h.parseLoad, fill: func() { setDefault(&h.MaxLoad, 50) }, check: h.checkLoad},
		count("host_polls", &h.HostPolls, 16),
		duration("stale_after", &h.StaleAfter, 0, 0, 24*time.Hour).or("at the first failure"),
		duration("timeout", &h.Timeout, 10*time.Second, 100*time.Millisecond, 5*time.Minute),
		text("method", "GET|POST|QUERY|SEARCH|REPORT", &h.Method).or("GET, or POST with a body").within("GET, POST, QUERY, SEARCH, REPORT"),
		{name: "body", syntax: "<text>", initial: "none", bounds: "at most 1 MiB", parse: h.parseBodyOption},
		{name: "basic_auth", syntax: "<user> <password>", initial: "none", parse: h.parseBasicAuth},
		text("bearer_file", "<path>", &h.BearerFile).or("none").within("at most 64 KiB"),
		{name: "oauth2", syntax: "<token-url> <client-id> <client-secret> {", initial: "none", parse: h.parseOAuth2},
		{name: "header_up", syntax: "[+|-]<field> [<value>]", initial: "none", repeats: true, parse: h.parseHeaderUp},
		{name: "forward", syntax: "<field>|cookie:<name>...", initial: "none", bounds: "at most 16 KiB a request", repeats: true, parse: h.parseForward},
		flag("tree", &h.Tree),
		list("query", "[!]<param>...", &h.Query).or("all").within("only with `tree`"),
		list("except", "<path>...", &h.Except).or("none").within("only with `tree`").checked(h.checkExcept),
		{name: "reads", syntax: "POST [<pointer> <value>...]", initial: "none", bounds: "only with `tree`; bodies of at most 64 KiB",
			parse: h.parseReads, check: func() error { return h.Reads.Check() }},
		text("echo", "<pointer>", &h.Echo).or("none").within("only with `reads`").checked(h.checkEcho),
		{name: "transport", syntax: "http { ... }", initial: "plain", bounds: "http only", parse: h.parseTransport},
		{name: "since", syntax: "<param> <pointer> [<initial>]", initial: "none", repeats: true, parse: h.parseSince, check: h.checkSince},
		{name: "append", syntax: "<pointer> [<max items>] [<key>]", initial: "off", bounds: "1 to 100000 items, 1000 by default",
			parse: h.parseAppend, fill: h.fillAppend, check: h.checkAppend},
		{name: "paginate", syntax: "link|<pointer> {", initial: "off", bounds: "2 to 1000 pages, 100 by default; same host",
			parse: h.parsePaginate, fill: h.fillPaginate, check: h.checkPaginate},
		text("select", "<pointer>", &h.Select).or("all of it").checked(func() error { return checkFilter(Reading{Select: h.Select}) }),
		list("omit", "<pattern>...", &h.Omit).or("none").checked(func() error { return checkFilter(Reading{Omit: h.Omit}) }),
		list("ignore", "<pattern>...", &h.Ignore).or("none").checked(func() error { return checkFilter(Reading{Ignore: h.Ignore}) }),
		{name: "identify", syntax: "<pattern> <member>", initial: "found by itself", repeats: true,
			parse: h.parseIdentify, check: func() error { return checkFilter(Reading{Identify: h.Identify}) }},
		flag("always_on", &h.AlwaysOn).within("no placeholder of the request"),
		onOff("poke", &h.Poke),
		{name: "max_body", syntax: "<size>", initial: "10MiB", bounds: "at most 256 MiB",
			parse: h.parseMaxBody, fill: func() { setDefault(&h.MaxBody, 10<<20) }, check: h.checkMaxBody},
		oneOf("upstream_format", &h.UpstreamFormat, upstream.FormatAuto, upstream.FormatJSON, upstream.FormatNDJSON),
		oneOf("format", &h.Format, feed.FormatPatch, feed.FormatMerge, feed.FormatSnapshot),
		{name: "event", syntax: "snapshot|patch|merge|status <name>", initial: "the kind", bounds: "at most 64 bytes", repeats: true,
			parse: h.parseEvent, check: h.checkEvents},
		duration("heartbeat", &h.Heartbeat, 15*time.Second, time.Second, 10*time.Minute),
		duration("retry", &h.Retry, 3*time.Second, 100*time.Millisecond, time.Hour),
		{name: "history", syntax: "<changes>", initial: "256", bounds: "0 to 100000",
			parse: h.parseHistory, fill: h.fillHistory, check: h.checkHistory},
		duration("linger", &h.Linger, 30*time.Second, time.Millisecond, time.Hour),
		duration("max_age", &h.MaxAge, time.Hour, time.Second, 7*24*time.Hour),
		duration("max_wait", &h.MaxWait, time.Minute, time.Second, 10*time.Minute),
		oneOf("delivery", &h.Delivery, deliveryDirect, deliveryHandler),
		oneOf("compress", &h.Compress, compressGzip, compressOff).or("gzip; off for private documents").filled(nil),
		duration("stream_close_delay", &h.StreamCloseDelay, 5*time.Minute, -1<<63, 24*time.Hour),
		count("max_sources", &h.MaxSources, 1000),
		count("max_subscribers", &h.MaxSubscribers, 20_000),
		perClient.or("an eighth of `max_subscribers`, or 8 if that is more").filled(func() {
			setDefault(&h.MaxStreamsPerClient, max(8, h.MaxSubscribers/clientShare))
		}),
		text("name", "<text>", &h.Name).or("scheme, host and path of the URL, `?…` for a query, `#2` if another one looks the same").within("at most 256 bytes").
			filled(func() { setDefault(&h.Name, upstream.Redact(h.Upstream)) }).checked(h.checkName),
	}
}

// option returns the option with a name.
func (h *Handler) option(name string) (option, bool) {
	all := h.options()
	i := slices.IndexFunc(all, func(o option) bool { return o.name == name })
	if i < 0 {
		return option{}, false
	}
	return all[i], true
}

// setDefaults fills in what the configuration leaves out.
func (h *Handler) setDefaults() {
	for _, o := range h.options() {
		if o.fill != nil {
			o.fill()
		}
	}
}

// checkOptions reports every value that is out of bounds.
func (h *Handler) checkOptions() error {
	var errs []error
	for _, o := range h.options() {
		if o.check != nil {
			errs = append(errs, o.check())
		}
	}
	return errors.Join(append(errs, h.checkTogether())...)
}

// checkTogether reports options that do not fit together, in whatever order
// they were given.
func (h *Handler) checkTogether() error {
	errs := []error{h.checkEventNames(), h.checkTree()}
	if h.MaxInterval < h.Interval || h.MaxInterval < h.QuietInterval {
		errs = append(errs, fmt.Errorf("max_interval %s: need no less than the interval", time.Duration(h.MaxInterval)))
	}
	ways := 0
	for _, given := range []bool{h.BasicAuth != nil, h.BearerFile != "", h.OAuth2 != nil, h.setsAuthorization()} {
		if given {
			ways++
		}
	}
	if ways > 1 {
		errs = append(errs, errors.New("a request has one Authorization: basic_auth, bearer_file, oauth2, header_up Authorization and forward Authorization exclude each other"))
	}
	return errors.Join(errs...)
}

// setsAuthorization reports whether header_up or forward send Authorization.
func (h *Handler) setsAuthorization() bool {
	names := slices.Clone(h.Forward)
	if h.HeaderUp != nil {
		for _, fields := range []http.Header{h.HeaderUp.Set, h.HeaderUp.Add} {
			for name := range fields {
				names = append(names, name)
			}
		}
		names = append(names, h.HeaderUp.Delete...)
	}
	return slices.ContainsFunc(names, func(name string) bool { return strings.EqualFold(name, "Authorization") })
}

// noOption says that there is no option of a name, and what was probably meant.
func (h *Handler) noOption(d *caddyfile.Dispenser, name string) error {
	var names []string
	for _, o := range h.options() {
		names = append(names, o.name)
	}
	if slices.Contains(transportOptions, name) {
		return d.Errf("%s is an option of the transport; put it into the block of transport http", name)
	}
	if meant := nearest(name, names); meant != "" {
		return d.Errf("poll_sse has no option %s; did you mean %s?", name, meant)
	}
	return d.Errf("poll_sse has no option %s", name)
}

// transportOptions are options of the transport that people look for here.
var transportOptions = []string{
	"tls", "tls_insecure_skip_verify", "tls_server_name", "tls_trust_pool", "tls_client_auth", "tls_timeout", "tls_curves", "tls_renegotiation", "tls_except_ports",
	"dial_timeout", "response_header_timeout", "expect_continue_timeout", "read_timeout", "write_timeout", "resolvers", "versions", "compression", "local_address",
	"keepalive", "max_conns_per_host", "forward_proxy_url", "network_proxy", "read_buffer", "write_buffer", "max_response_header",
}

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// duration is an option with one duration. A negative least means that there is
// none.
func duration(name string, field *caddy.Duration, initial, least, most time.Duration) option {
	bounds := short(least) + " to " + short(most)
	if least <= 0 {
		bounds = "at most " + short(most)
	}
	return option{
		name: name, syntax: "<duration>", initial: short(initial), bounds: bounds,
		parse: func(d *caddyfile.Dispenser) error {
			text, err := oneArgument(d)
			if err != nil {
				return err
			}
			value, err := caddy.ParseDuration(text)
			if err != nil {
				return durationError(d, name, text, short(cmp.Or(initial, 5*time.Second)))
			}
			if value == 0 {
				// In JSON 0 stands for the default; here it was said.
				return d.Errf("%s 0: need %s to %s", name, max(least, time.Millisecond), most)
			}
			*field = caddy.Duration(value)
			return nil
		},
		fill:  func() { setDefault(field, caddy.Duration(initial)) },
		check: func() error { return checkDuration(name, *field, least, most) },
	}
}

func checkDuration(name string, field caddy.Duration, least, most time.Duration) error {
	value := time.Duration(field)
	switch {
	case value > most && least < 0:
		return fmt.Errorf("%s %s: need at most %s", name, value, most)
	case value < least || value > most:
		return fmt.Errorf("%s %s: need %s to %s", name, value, least, most)
	}
	return nil
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

// count is an option with a number of at least 1.
func count(name string, field *int, initial int) option {
	return option{
		name: name, syntax: "<count>", initial: strconv.Itoa(initial), bounds: "at least 1",
		parse: func(d *caddyfile.Dispenser) error {
			text, err := oneArgument(d)
			if err != nil {
				return err
			}
			n, err := strconv.Atoi(text)
			if err != nil || n < 1 {
				return d.Errf("%s %q: need a number of at least 1", name, text)
			}
			*field = n
			return nil
		},
		fill: func() { setDefault(field, initial) },
		check: func() error {
			if *field < 1 {
				return fmt.Errorf("%s %d: need at least 1", name, *field)
			}
			return nil
		},
	}
}

// onOff is an option that is on unless it is turned off.
func onOff(name string, field **bool) option {
	return option{
		name: name, syntax: "on|off", initial: "on", bounds: "on, off",
		parse: func(d *caddyfile.Dispenser) error {
			text, err := oneArgument(d)
			if err != nil {
				return err
			}
			if text != "on" && text != "off" {
				return d.Errf("%s %q: need on or off", name, text)
			}
			*field = new(text == "on")
			return nil
		},
		fill: func() {
			if *field == nil {
				*field = new(true)
			}
		},
	}
}

// flag is an option that is off unless it is named.
func flag(name string, field *bool) option {
	return option{name: name, initial: "off", parse: func(d *caddyfile.Dispenser) error {
		if d.NextArg() {
			return d.Errf("%s takes no value; leave it out for off", name)
		}
		*field = true
		return nil
	}}
}

// oneOf is an option with one of a few words, of which the first is the default.
func oneOf(name string, field *string, words ...string) option {
	last := len(words) - 1
	need := strings.Join(words[:last], ", ") + " or " + words[last]
	return option{
		name: name, syntax: strings.Join(words, "|"), initial: words[0], bounds: strings.Join(words, ", "),
		parse: func(d *caddyfile.Dispenser) (err error) {
			*field, err = oneArgument(d)
			return err
		},
		fill: func() { setDefault(field, words[0]) },
		check: func() error {
			if *field != "" && !slices.Contains(words, *field) {
				return fmt.Errorf("%s %q: need %s", name, *field, need)
			}
			return nil
		},
	}
}

// text is an option with one text.
func text(name, syntax string, field *string) option {
	return option{name: name, syntax: syntax, parse: func(d *caddyfile.Dispenser) (err error) {
		*field, err = oneArgument(d)
		return err
	}}
}

// list is an option with one or more texts. More lines add to it.
func list(name, syntax string, field *[]string) option {
	return option{name: name, syntax: syntax, repeats: true, parse: func(d *caddyfile.Dispenser) error {
		values := d.RemainingArgs()
		if len(values) == 0 {
			return d.Errf("%s: need a value", name)
		}
		*field = append(*field, values...)
		return nil
	}}
}

// oneArgument returns the only argument of the option whose name was just read.
func oneArgument(d *caddyfile.Dispenser) (string, error) {
	name, args := d.Val(), d.RemainingArgs()
	switch {
	case len(args) == 1:
		return args[0], nil
	case len(args) == 0:
		return "", d.Errf("%s: need a value", name)
	case len(args) == 2 && isNumber(args[0]) && strings.Trim(strings.ToLower(args[1]), "abcdefghijklmnopqrstuvwxyz%") == "":
		return "", d.Errf("%s: need one value, not 2; write %s%s without the space", name, args[0], args[1])
	}
	return "", d.Errf("%s: need one value, not %d; quote it if it holds a space", name, len(args))
}

func isNumber(text string) bool { return text != "" && strings.Trim(text, "0123456789.") == "" }

// durationError says how a duration is written.
func durationError(d *caddyfile.Dispenser, name, text, example string) error {
	if isNumber(text) {
		return d.Errf("%s %q: need a duration with a unit, such as %ss or 500ms", name, text, text)
	}
	return d.Errf("%s %q: need a duration such as %s", name, text, example)
}

const (
	shortestInterval = 100 * time.Millisecond
	longestInterval  = 24 * time.Hour
)

func (h *Handler) parseInterval(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) == 0 || len(args) > 2 {
		return d.Errf("interval: need <duration> [<duration while nothing changes>], as in interval 2s 30s")
	}
	for i, field := range []*caddy.Duration{&h.Interval, &h.QuietInterval}[:len(args)] {
		value, err := caddy.ParseDuration(args[i])
		if err != nil {
			return durationError(d, "interval", args[i], "5s")
		}
		if value == 0 {
			// In JSON 0 stands for the default; here it was said.
			return d.Errf("interval 0: need %s to %s", shortestInterval, longestInterval)
		}
		*field = caddy.Duration(value)
	}
	return nil
}

func (h *Handler) fillInterval() {
	setDefault(&h.Interval, caddy.Duration(5*time.Second))
	setDefault(&h.QuietInterval, h.Interval)
}

func (h *Handler) checkInterval() error {
	if err := checkDuration("interval", h.Interval, shortestInterval, longestInterval); err != nil {
		return err
	}
	if h.QuietInterval < h.Interval {
		return fmt.Errorf("interval %s %s: the second is the slower one", time.Duration(h.Interval), time.Duration(h.QuietInterval))
	}
	return checkDuration("quiet_interval", h.QuietInterval, shortestInterval, longestInterval)
}

func (h *Handler) fillMaxInterval() {
	setDefault(&h.MaxInterval, min(max(h.Interval, h.QuietInterval, caddy.Duration(time.Minute)), caddy.Duration(longestInterval)))
}

func (h *Handler) parseLoad(d *caddyfile.Dispenser) error {
	text, err := oneArgument(d)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(strings.TrimSuffix(text, "%"))
	if err != nil || n < 1 {
		return d.Errf("max_load %q: need 1 to 100 percent, as in 50%%", text)
	}
	h.MaxLoad = n
	return nil
}

func (h *Handler) checkLoad() error {
	if h.MaxLoad < 1 || h.MaxLoad > 100 {
		return fmt.Errorf("max_load %d: need 1 to 100 percent", h.MaxLoad)
	}
	return nil
}

func (h *Handler) parseHistory(d *caddyfile.Dispenser) error {
	text, err := oneArgument(d)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return d.Errf("history %q: need a number of changes from 0 to 100000", text)
	}
	h.History = &n
	return nil
}

func (h *Handler) fillHistory() {
	if h.History == nil {
		h.History = new(256)
	}
}

func (h *Handler) checkHistory() error {
	if *h.History < 0 || *h.History > 100_000 {
		return fmt.Errorf("history %d: need a number of changes from 0 to 100000", *h.History)
	}
	return nil
}

func (h *Handler) parseMaxBody(d *caddyfile.Dispenser) error {
	text, err := oneArgument(d)
	if err != nil {
		return err
	}
	n, err := humanize.ParseBytes(text)
	if err != nil || n < 1 || n > 256<<20 {
		return d.Errf("max_body %q: need 1 to 256 MiB, as in 10MiB", text)
	}
	h.MaxBody = int64(n)
	return nil
}

func (h *Handler) checkMaxBody() error {
	if h.MaxBody < 1 || h.MaxBody > 256<<20 {
		return fmt.Errorf("max_body %d: need 1 to 256 MiB, as in 10MiB", h.MaxBody)
	}
	return nil
}

func (h *Handler) checkName() error {
	if len(h.Name) > 256 {
		return errors.New("name: longer than 256 bytes; give a shorter one")
	}
	return nil
}

// checkFilter reports what is wrong with what is published of a document.
func checkFilter(r Reading) error {
	_, err := r.filter()
	return err
}
