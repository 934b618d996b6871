package pollsse

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
	"github.com/dustin/go-humanize"

	"github.com/pollsse/caddy-poll-sse/jsondiff"
)

// option is one option of the handler: how the Caddyfile says it, what it is
// where nothing is said, and what it may be. The Caddyfile and JSON are checked
// by the same function, and only the Caddyfile knows the line.
type option struct {
	name  string
	parse func(h *Handler, d *caddyfile.Dispenser) error
	apply func(h *Handler) // sets the default
	check func(h *Handler) error
}

var options = []option{
	{name: "interval", parse: parseInterval, apply: func(h *Handler) {
		setDefault(&h.Interval, caddy.Duration(5*time.Second))
		setDefault(&h.QuietInterval, h.Interval)
	}, check: checkInterval},
	{name: "max_interval", parse: intervalOption("max_interval").parse, apply: func(h *Handler) {
		setDefault(&h.MaxInterval, min(max(h.Interval, h.QuietInterval, caddy.Duration(time.Minute)), caddy.Duration(longestInterval)))
	}, check: func(h *Handler) error {
		return intervalOption("max_interval").check(h)
	}},
	onOff("honor", func(h *Handler) **bool { return &h.Honor }),
	{name: "max_load", parse: parseLoad, apply: func(h *Handler) { setDefault(&h.MaxLoad, 50) }, check: func(h *Handler) error {
		if h.MaxLoad < 1 || h.MaxLoad > 100 {
			return fmt.Errorf("max_load %d: need 1 to 100 percent", h.MaxLoad)
		}
		return nil
	}},
	count("host_polls", 16, func(h *Handler) *int { return &h.HostPolls }),
	duration("stale_after", 0, 0, 24*time.Hour, func(h *Handler) *caddy.Duration { return &h.StaleAfter }),
	duration("timeout", 10*time.Second, 100*time.Millisecond, 5*time.Minute, func(h *Handler) *caddy.Duration { return &h.Timeout }),
	{name: "method", parse: parseText(func(h *Handler) *string { return &h.Method })},
	{name: "body", parse: parseText(func(h *Handler) *string { return &h.Body })},
	{name: "basic_auth", parse: parseBasicAuth},
	{name: "bearer_file", parse: parseText(func(h *Handler) *string { return &h.BearerFile })},
	{name: "oauth2", parse: parseOAuth2},
	{name: "header_up", parse: parseHeaderUp, check: checkHeaderUp},
	{name: "forward", parse: parseForward, check: checkForward},
	{name: "transport", parse: parseTransport},
	{name: "since", parse: parseSince, check: checkSince},
	{name: "append", parse: parseAppend, apply: func(h *Handler) {
		if h.Append != nil {
			a := *h.Append // not the one that was written
			setDefault(&a.Max, 1000)
			setDefault(&a.Key, "id")
			h.Append = &a
		}
	}, check: checkAppend},
	{name: "paginate", parse: parsePaginate, apply: func(h *Handler) {
		if h.Paginate != nil {
			p := *h.Paginate // not the one that was written
			setDefault(&p.MaxPages, 100)
			setDefault(&p.Key, "id")
			h.Paginate = &p
		}
	}, check: checkPaginate},
	{name: "select", parse: parseText(func(h *Handler) *string { return &h.Select }), check: func(h *Handler) error {
		_, err := filterSettings{Select: h.Select}.parse()
		return err
	}},
	{name: "omit", parse: parseList(func(h *Handler) *[]string { return &h.Omit }), check: func(h *Handler) error {
		_, err := filterSettings{Omit: h.Omit}.parse()
		return err
	}},
	{name: "ignore", parse: parseList(func(h *Handler) *[]string { return &h.Ignore }), check: func(h *Handler) error {
		_, err := filterSettings{Ignore: h.Ignore}.parse()
		return err
	}},
	{name: "identify", parse: parseIdentify, check: func(h *Handler) error {
		_, err := filterSettings{Identify: h.filterSettings().Identify}.parse()
		return err
	}},
	{name: "always_on", parse: func(h *Handler, d *caddyfile.Dispenser) error {
		if d.NextArg() {
			return d.ArgErr()
		}
		h.AlwaysOn = true
		return nil
	}},
	{name: "max_body", parse: parseMaxBody, apply: func(h *Handler) { setDefault(&h.MaxBody, 10<<20) }, check: func(h *Handler) error {
		if h.MaxBody < 1 || h.MaxBody > 256<<20 {
			return fmt.Errorf("max_body %d: need 1 to 256 MiB, as in 10MiB", h.MaxBody)
		}
		return nil
	}},
	{name: "upstream_format", parse: parseText(func(h *Handler) *string { return &h.UpstreamFormat }), apply: func(h *Handler) { setDefault(&h.UpstreamFormat, formatAuto) }, check: func(h *Handler) error {
		switch h.UpstreamFormat {
		case formatAuto, formatJSON, formatNDJSON:
			return nil
		}
		return fmt.Errorf("upstream_format %q: need auto, json or ndjson", h.UpstreamFormat)
	}},
	{name: "format", parse: parseText(func(h *Handler) *string { return &h.Format }), apply: func(h *Handler) { setDefault(&h.Format, formatPatch) }, check: func(h *Handler) error {
		switch h.Format {
		case formatPatch, formatMerge, formatSnapshot:
			return nil
		}
		return fmt.Errorf("format %q: need patch, merge or snapshot", h.Format)
	}},
	{name: "event", parse: parseEvent, check: checkEvents},
	duration("heartbeat", 15*time.Second, time.Second, 10*time.Minute, func(h *Handler) *caddy.Duration { return &h.Heartbeat }),
	duration("retry", 3*time.Second, 100*time.Millisecond, time.Hour, func(h *Handler) *caddy.Duration { return &h.Retry }),
	{name: "history", parse: parseHistory, apply: func(h *Handler) {
		if h.History == nil {
			h.History = new(256)
		}
	}, check: func(h *Handler) error {
		if *h.History < 0 || *h.History > 100_000 {
			return fmt.Errorf("history %d: need a number of changes from 0 to 100000", *h.History)
		}
		return nil
	}},
	duration("linger", 30*time.Second, 0, time.Hour, func(h *Handler) *caddy.Duration { return &h.Linger }),
	duration("max_age", time.Hour, time.Second, 7*24*time.Hour, func(h *Handler) *caddy.Duration { return &h.MaxAge }),
	duration("max_wait", time.Minute, time.Second, 10*time.Minute, func(h *Handler) *caddy.Duration { return &h.MaxWait }),
	{name: "delivery", parse: parseText(func(h *Handler) *string { return &h.Delivery }), apply: func(h *Handler) { setDefault(&h.Delivery, deliveryDirect) }, check: func(h *Handler) error {
		if h.Delivery != deliveryDirect && h.Delivery != deliveryHandler {
			return fmt.Errorf("delivery %q: need direct or handler", h.Delivery)
		}
		return nil
	}},
	{name: "compress", parse: parseText(func(h *Handler) *string { return &h.Compress }), check: func(h *Handler) error {
		if h.Compress != "" && h.Compress != compressGzip && h.Compress != compressOff {
			return fmt.Errorf("compress %q: need gzip or off", h.Compress)
		}
		return nil
	}},
	duration("stream_close_delay", 5*time.Minute, -1<<63, 24*time.Hour, func(h *Handler) *caddy.Duration { return &h.StreamCloseDelay }),
	count("max_sources", 1000, func(h *Handler) *int { return &h.MaxSources }),
	count("max_subscribers", 20_000, func(h *Handler) *int { return &h.MaxSubscribers }),
	{name: "name", parse: parseText(func(h *Handler) *string { return &h.Name }), apply: func(h *Handler) { setDefault(&h.Name, h.Upstream) }, check: func(h *Handler) error {
		if len(h.Name) > 256 {
			return errors.New("name: longer than 256 bytes")
		}
		return nil
	}},
}

func findOption(name string) (option, bool) {
	i := slices.IndexFunc(options, func(o option) bool { return o.name == name })
	if i < 0 {
		return option{}, false
	}
	return options[i], true
}

// setDefaults fills in what the configuration leaves out.
func (h *Handler) setDefaults() {
	for _, o := range options {
		if o.apply != nil {
			o.apply(h)
		}
	}
}

// checkOptions reports every value that is out of bounds.
func (h *Handler) checkOptions() error {
	var errs []error
	for _, o := range options {
		if o.check != nil {
			errs = append(errs, o.check(h))
		}
	}
	return errors.Join(append(errs, h.checkTogether())...)
}

// checkTogether reports options that do not fit together, in whatever order
// they were given.
func (h *Handler) checkTogether() error {
	errs := []error{checkEventNames(h)}
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

// setsAuthorization tells whether header_up or forward send Authorization.
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

func setDefault[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

func duration(name string, initial, least, most time.Duration, field func(*Handler) *caddy.Duration) option {
	return option{
		name: name,
		parse: func(h *Handler, d *caddyfile.Dispenser) error {
			text, err := oneArgument(d)
			if err != nil {
				return err
			}
			value, err := caddy.ParseDuration(text)
			if err != nil {
				return d.Errf("%s %q: need a duration such as %s", name, text, initial)
			}
			if value == 0 {
				// In JSON 0 stands for the default; here it was said.
				return d.Errf("%s 0: need %s to %s", name, max(least, time.Millisecond), most)
			}
			*field(h) = caddy.Duration(value)
			return nil
		},
		apply: func(h *Handler) { setDefault(field(h), caddy.Duration(initial)) },
		check: func(h *Handler) error {
			value := time.Duration(*field(h))
			switch {
			case value > most && least < 0:
				return fmt.Errorf("%s %s: need at most %s", name, value, most)
			case value < least || value > most:
				return fmt.Errorf("%s %s: need %s to %s", name, value, least, most)
			}
			return nil
		},
	}
}

const (
	shortestInterval = 100 * time.Millisecond
	longestInterval  = 24 * time.Hour
)

func intervalOption(name string) option {
	fields := map[string]func(*Handler) *caddy.Duration{
		"interval":       func(h *Handler) *caddy.Duration { return &h.Interval },
		"quiet_interval": func(h *Handler) *caddy.Duration { return &h.QuietInterval },
		"max_interval":   func(h *Handler) *caddy.Duration { return &h.MaxInterval },
	}
	return duration(name, 5*time.Second, shortestInterval, longestInterval, fields[name])
}

// parseInterval takes interval <duration> [<quiet duration>].
func parseInterval(h *Handler, d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) == 0 || len(args) > 2 {
		return d.Errf("interval: need <duration> [<duration while nothing changes>], as in interval 2s 30s")
	}
	for i, field := range []*caddy.Duration{&h.Interval, &h.QuietInterval}[:len(args)] {
		value, err := caddy.ParseDuration(args[i])
		if err != nil {
			return d.Errf("interval %q: need a duration such as 5s", args[i])
		}
		if value == 0 {
			// In JSON 0 stands for the default; here it was said.
			return d.Errf("interval 0: need %s to %s", shortestInterval, longestInterval)
		}
		*field = caddy.Duration(value)
	}
	return nil
}

func checkInterval(h *Handler) error {
	if err := intervalOption("interval").check(h); err != nil {
		return err
	}
	if h.QuietInterval < h.Interval {
		return fmt.Errorf("interval %s %s: the second is the slower one", time.Duration(h.Interval), time.Duration(h.QuietInterval))
	}
	return intervalOption("quiet_interval").check(h)
}

func parseLoad(h *Handler, d *caddyfile.Dispenser) error {
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

// onOff is an option that is on unless it is turned off.
func onOff(name string, field func(*Handler) **bool) option {
	return option{
		name: name,
		parse: func(h *Handler, d *caddyfile.Dispenser) error {
			text, err := oneArgument(d)
			if err != nil {
				return err
			}
			if text != "on" && text != "off" {
				return d.Errf("%s %q: need on or off", name, text)
			}
			*field(h) = new(text == "on")
			return nil
		},
		apply: func(h *Handler) {
			if *field(h) == nil {
				*field(h) = new(true)
			}
		},
	}
}

func count(name string, initial int, field func(*Handler) *int) option {
	return option{
		name: name,
		parse: func(h *Handler, d *caddyfile.Dispenser) error {
			text, err := oneArgument(d)
			if err != nil {
				return err
			}
			n, err := strconv.Atoi(text)
			if err != nil || n < 1 {
				return d.Errf("%s %q: need a number of at least 1", name, text)
			}
			*field(h) = n
			return nil
		},
		apply: func(h *Handler) { setDefault(field(h), initial) },
		check: func(h *Handler) error {
			if *field(h) < 1 {
				return fmt.Errorf("%s %d: need at least 1", name, *field(h))
			}
			return nil
		},
	}
}

func oneArgument(d *caddyfile.Dispenser) (string, error) {
	var value string
	if !d.Args(&value) || d.NextArg() {
		return "", d.ArgErr()
	}
	return value, nil
}

func parseText(field func(*Handler) *string) func(*Handler, *caddyfile.Dispenser) error {
	return func(h *Handler, d *caddyfile.Dispenser) (err error) {
		*field(h), err = oneArgument(d)
		return err
	}
}

func parseHistory(h *Handler, d *caddyfile.Dispenser) error {
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

func parseMaxBody(h *Handler, d *caddyfile.Dispenser) error {
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

func parseForward(h *Handler, d *caddyfile.Dispenser) error {
	names := d.RemainingArgs()
	if len(names) == 0 {
		return d.ArgErr()
	}
	h.Forward = append(h.Forward, names...)
	return nil
}

func checkForward(h *Handler) error { return new(requestTemplate).addForward(h.Forward) }

func parseHeaderUp(h *Handler, d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) == 0 || len(args) > 2 || len(args) == 1 && !strings.HasPrefix(args[0], "-") {
		return d.Errf("header_up: need [+]<field> <value>, or -<field>")
	}
	value := ""
	if len(args) == 2 {
		value = args[1]
	}
	if h.HeaderUp == nil {
		h.HeaderUp = new(headers.HeaderOps)
	}
	if err := headers.CaddyfileHeaderOp(h.HeaderUp, args[0], value, nil); err != nil {
		return d.WrapErr(err)
	}
	return nil
}

func checkHeaderUp(h *Handler) error {
	if h.HeaderUp == nil {
		return nil
	}
	var errs []error
	names := slices.Clone(h.HeaderUp.Delete)
	for _, fields := range []http.Header{h.HeaderUp.Set, h.HeaderUp.Add} {
		for name := range fields {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		switch {
		case strings.Contains(name, "*"):
			errs = append(errs, fmt.Errorf("header_up %s: name one field; wildcards are not supported", name))
		case !isToken(name):
			errs = append(errs, fmt.Errorf("header_up %q: not a header field name", name))
		case isReserved(name):
			errs = append(errs, fmt.Errorf("header_up %s: this field belongs to the connection or to the poller", name))
		}
	}
	return errors.Join(errs...)
}

func parseBasicAuth(h *Handler, d *caddyfile.Dispenser) error {
	h.BasicAuth = new(basicAuth)
	if !d.Args(&h.BasicAuth.Username, &h.BasicAuth.Password) || d.NextArg() {
		return d.Errf("basic_auth: need <user> <password>, the latter as {env.NAME} or {file.PATH}")
	}
	return nil
}

func parseOAuth2(h *Handler, d *caddyfile.Dispenser) error {
	o := new(oauth2Config)
	h.OAuth2 = o
	if !d.Args(&o.TokenURL, &o.ClientID, &o.ClientSecret) || d.NextArg() {
		return d.Errf("oauth2: need <token-url> <client-id> <client-secret>, the last as {env.NAME} or {file.PATH}")
	}
	var errs []error
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name, args := d.Val(), d.RemainingArgs()
		switch {
		case name == "scope" && len(args) > 0:
			o.Scopes = append(o.Scopes, args...)
		case name == "auth" && len(args) == 1:
			o.Auth = args[0]
		case name == "param" && len(args) == 2:
			if o.Params == nil {
				o.Params = make(map[string]string)
			}
			o.Params[args[0]] = args[1]
		default:
			errs = append(errs, d.Errf("oauth2: need scope <scope>..., auth header|body, or param <name> <value>, not %s", name))
		}
	}
	return errors.Join(errs...)
}

// parseList adds one or more texts.
func parseList(field func(*Handler) *[]string) func(*Handler, *caddyfile.Dispenser) error {
	return func(h *Handler, d *caddyfile.Dispenser) error {
		values := d.RemainingArgs()
		if len(values) == 0 {
			return d.ArgErr()
		}
		*field(h) = append(*field(h), values...)
		return nil
	}
}

func parseIdentify(h *Handler, d *caddyfile.Dispenser) error {
	var id identifyConfig
	if !d.Args(&id.Pattern, &id.Member) || d.NextArg() {
		return d.Errf("identify: need <pattern> <member>, as in identify /orders id")
	}
	h.Identify = append(h.Identify, id)
	return nil
}

func parseSince(h *Handler, d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) < 2 || len(args) > 3 {
		return d.Errf("since: need <param> <JSON pointer> [<initial value>], as in since after /cursor")
	}
	s := sinceConfig{Param: args[0], Pointer: args[1]}
	if len(args) == 3 {
		s.Initial = args[2]
	}
	h.Since = append(h.Since, s)
	return nil
}

func checkSince(h *Handler) error {
	var errs []error
	names := make(map[string]bool)
	for _, s := range h.Since {
		if s.Param == "" || names[s.Param] {
			errs = append(errs, fmt.Errorf("since %s: need a name, once", s.Param))
		}
		names[s.Param] = true
		if _, err := jsondiff.ParsePointer(s.Pointer); err != nil {
			errs = append(errs, fmt.Errorf("since %s: %w", s.Param, err))
		}
	}
	return errors.Join(errs...)
}

func parseAppend(h *Handler, d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) == 0 || len(args) > 3 {
		return d.Errf(`append: need <JSON pointer> [<max items>] [<key>], as in append /events 500 id; "" is the whole answer`)
	}
	h.Append = &appendConfig{List: args[0]}
	if len(args) > 1 {
		n, err := strconv.Atoi(args[1])
		if err != nil || n < 1 {
			return d.Errf("append %q: need a number of items from 1 to 100000", args[1])
		}
		h.Append.Max = n
	}
	if len(args) > 2 {
		h.Append.Key = args[2]
	}
	return nil
}

func checkAppend(h *Handler) error {
	a := h.Append
	if a == nil {
		return nil
	}
	_, err := jsondiff.ParsePointer(a.List)
	if err != nil {
		err = fmt.Errorf("append: %w", err)
	}
	if a.Max < 1 || a.Max > 100_000 {
		err = errors.Join(err, fmt.Errorf("append %d: need a number of items from 1 to 100000", a.Max))
	}
	return err
}

func parsePaginate(h *Handler, d *caddyfile.Dispenser) error {
	p := new(paginateConfig)
	h.Paginate = p
	if !d.Args(&p.Next) || d.NextArg() {
		return d.Errf("paginate: need link, or a JSON pointer to the next page")
	}
	var errs []error
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name, args := d.Val(), d.RemainingArgs()
		field := map[string]*string{"param": &p.Param, "list": &p.List, "key": &p.Key}[name]
		switch {
		case len(args) != 1:
			errs = append(errs, d.Errf("paginate: %s: need one value", name))
		case field != nil:
			*field = args[0]
		case name == "max_pages":
			n, err := strconv.Atoi(args[0])
			if err != nil || n < 2 {
				errs = append(errs, d.Errf("max_pages %q: need 2 to 1000", args[0]))
			}
			p.MaxPages = n
		default:
			errs = append(errs, d.Errf("paginate has no option %s; need param, list, key or max_pages", name))
		}
	}
	return errors.Join(errs...)
}

func checkPaginate(h *Handler) error {
	p := h.Paginate
	if p == nil {
		return nil
	}
	var errs []error
	if p.Next != nextLink {
		if _, err := jsondiff.ParsePointer(p.Next); err != nil || p.Next == "" {
			errs = append(errs, fmt.Errorf("paginate %q: need link, or a JSON pointer to the next page", p.Next))
		}
	} else if p.Param != "" {
		errs = append(errs, errors.New("paginate link: the Link header has a URI; param takes a value"))
	}
	if _, err := jsondiff.ParsePointer(p.List); err != nil {
		errs = append(errs, fmt.Errorf("paginate: list: %w", err))
	}
	if p.MaxPages < 2 || p.MaxPages > 1000 {
		errs = append(errs, fmt.Errorf("max_pages %d: need 2 to 1000", p.MaxPages))
	}
	return errors.Join(errs...)
}

func parseTransport(h *Handler, d *caddyfile.Dispenser) error {
	if !d.NextArg() {
		return d.ArgErr()
	}
	if name := d.Val(); name != "http" {
		return d.Errf("transport %s: only http is supported", name)
	}
	if h.TransportRaw != nil {
		return d.Errf("transport: given twice")
	}
	module, err := caddyfile.UnmarshalModule(d, "http.reverse_proxy.transport.http")
	if err != nil {
		return err
	}
	fields, err := json.Marshal(module)
	if err != nil {
		return d.WrapErr(err)
	}
	object := make(map[string]json.RawMessage)
	if err := json.Unmarshal(fields, &object); err != nil {
		return d.WrapErr(err)
	}
	object["protocol"] = json.RawMessage(`"http"`)
	h.TransportRaw, err = json.Marshal(object)
	return err
}

func parseEvent(h *Handler, d *caddyfile.Dispenser) error {
	var kind, name string
	if !d.Args(&kind, &name) || d.NextArg() {
		return d.Errf("event: need <kind> <name>, as in event snapshot message")
	}
	if h.Events == nil {
		h.Events = make(map[string]string)
	}
	h.Events[kind] = name
	return nil
}

func checkEvents(h *Handler) error {
	kinds := []string{kindSnapshot, kindPatch, kindMerge, kindStatus}
	var errs []error
	for _, kind := range sortedKeys(h.Events) {
		if !slices.Contains(kinds, kind) {
			errs = append(errs, fmt.Errorf("event %s: no such kind; need one of %s", kind, strings.Join(kinds, ", ")))
		} else if err := checkEventName(h.Events[kind]); err != nil {
			errs = append(errs, fmt.Errorf("event %s: %w", kind, err))
		}
	}
	return errors.Join(errs...)
}

// checkEventNames looks for names that the events of one stream share. It can
// only be told when the whole configuration is known.
func checkEventNames(h *Handler) error {
	var errs []error
	change := h.Format
	for _, pair := range [][2]string{{kindSnapshot, kindPatch}, {kindSnapshot, kindMerge}, {kindSnapshot, kindStatus}, {kindPatch, kindStatus}, {kindMerge, kindStatus}} {
		// Only the events of this format meet in one stream.
		used := func(kind string) bool { return kind == kindSnapshot || kind == kindStatus || kind == change }
		if used(pair[0]) && used(pair[1]) && h.eventName(pair[0]) == h.eventName(pair[1]) {
			errs = append(errs, fmt.Errorf("event: %s and %s are both named %q; a client could not tell them apart", pair[0], pair[1], h.eventName(pair[0])))
		}
	}
	return errors.Join(errs...)
}

// eventName is the name that events of a kind have on the wire.
func (h *Handler) eventName(kind string) string {
	if name, ok := h.Events[kind]; ok {
		return name
	}
	return kind
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
