package pollsse

import (
	"errors"
	"slices"
	"strings"
	"unicode"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	"github.com/pollsse/caddy-poll-sse/internal/upstream"
)

func init() {
	httpcaddyfile.RegisterHandlerDirective("poll_sse", parseCaddyfile)
	// After the authentication directives and before handle.
	httpcaddyfile.RegisterDirectiveOrder("poll_sse", httpcaddyfile.After, "encode")
}

func parseCaddyfile(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	handler := new(Handler)
	return handler, handler.unmarshal(h.Dispenser, h.State)
}

// UnmarshalCaddyfile sets up the handler from a directive:
//
//	poll_sse [<matcher>] <upstream-url> {
//		interval           <duration> [<duration while nothing changes>]
//		max_interval       <duration>
//		honor              on|off
//		max_load           <percent>
//		host_polls         <count>
//		stale_after        <duration>
//		timeout            <duration>
//		method             GET|POST|QUERY|SEARCH|REPORT
//		body               <text>
//		basic_auth         <user> <password>
//		bearer_file        <path>
//		oauth2             <token-url> <client-id> <client-secret> {
//			scope <scope>...
//			param <name> <value>
//			auth  header|body
//		}
//		header_up          [+|-]<field> [<value>]
//		forward            <field>|cookie:<name>...
//		tree
//		query              [!]<param>...
//		except             <path>...
//		reads              POST [<pointer> <value>...]
//		echo               <pointer>
//		transport http     { ... }
//		since              <param> <pointer> [<initial>]
//		append             <pointer> [<max items>] [<key>]
//		paginate           link|<pointer> {
//			param     <name>
//			list      <pointer>
//			key       <member>
//			max_pages <count>
//		}
//		select             <pointer>
//		omit               <pattern>...
//		ignore             <pattern>...
//		identify           <pattern> <member>
//		always_on
//		poke               on|off
//		max_body           <size>
//		upstream_format    auto|json|ndjson
//		format             patch|merge|snapshot
//		event              snapshot|patch|merge|status <name>
//		heartbeat          <duration>
//		retry              <duration>
//		history            <changes>
//		linger             <duration>
//		max_age            <duration>
//		max_wait           <duration>
//		delivery           direct|handler
//		compress           gzip|off
//		stream_close_delay <duration>
//		max_sources        <count>
//		max_subscribers    <count>
//		max_streams_per_client <count>
//		name               <text>
//	}
//
// It reports every mistake, each with its file and line.
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error { return h.unmarshal(d, nil) }

// unmarshal is UnmarshalCaddyfile. state is that of the adaptation, or nil.
func (h *Handler) unmarshal(d *caddyfile.Dispenser, state map[string]any) error {
	d.Next() // the directive's name
	if !d.Args(&h.Upstream) {
		return d.Errf("poll_sse: need the URL to poll, as in poll_sse /api/quotes https://legacy.internal/quotes.json")
	}
	if d.NextArg() {
		if !strings.Contains(h.Upstream, "://") && !strings.HasPrefix(h.Upstream, "{") {
			return d.Errf("%q is no matcher without a slash in front; did you mean poll_sse /%s %s?", upstream.Redact(h.Upstream), upstream.Redact(h.Upstream), upstream.Redact(d.Val()))
		}
		return d.Errf("poll_sse polls one URL, not also %s; write a poll_sse for each", upstream.Redact(d.Val()))
	}
	var errs []error
	for _, err := range problems(checkUpstream(h.Upstream)) {
		errs = append(errs, d.WrapErr(err))
	}
	seen := map[string]caddyfile.Dispenser{"upstream": *d} // where each option stands
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name := d.Val()
		o, ok := h.option(name)
		_, given := seen[name]
		if ok {
			seen[name] = *d
		}
		switch {
		case !ok:
			errs = append(errs, h.noOption(d, name))
		case given && !o.repeats:
			errs = append(errs, d.Errf("%s is given twice", name))
		default:
			known := problems(h.checkWritten(name))
			if err := o.parse(d); err != nil {
				errs = append(errs, err)
				break
			}
			for _, err := range problems(h.checkWritten(name)) {
				// An earlier line of the same option may have had this error.
				if !slices.ContainsFunc(known, func(k error) bool { return k.Error() == err.Error() }) {
					errs = append(errs, d.WrapErr(err))
				}
			}
			if d.CountRemainingArgs() == 0 && d.NextBlock(d.Nesting()) {
				errs = append(errs, d.Errf("%s takes no block", name))
			}
		}
		skipOption(d, nesting+1)
	}
	if len(problems(errors.Join(errs...))) == 0 {
		written := *h
		written.setDefaults()
		for _, err := range problems(errors.Join(written.checkTogether(), written.checkWithoutEnvironment())) {
			errs = append(errs, wrapAt(d, seen, err))
		}
		if len(errs) == 0 {
			written.lintAt(d, seen, state)
		}
	}
	return errors.Join(errs...)
}

// checkWritten checks one option with the defaults, on a copy that keeps the
// configuration as it was written.
func (h *Handler) checkWritten(name string) error {
	written := *h
	written.setDefaults()
	if o, _ := written.option(name); o.check != nil {
		return o.check()
	}
	return nil
}

// wrapAt adds file and line to an error: those of the option that it begins
// with, or else of the last one that it names.
func wrapAt(d *caddyfile.Dispenser, seen map[string]caddyfile.Dispenser, err error) error {
	at, line := *d, 0
	words := strings.FieldsFunc(err.Error(), func(r rune) bool { return r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r) })
	for i, word := range words {
		if option, ok := seen[word]; ok {
			if i == 0 {
				return option.WrapErr(err)
			}
			if option.Line() > line {
				at, line = option, option.Line()
			}
		}
	}
	return at.WrapErr(err)
}

// problems takes a joined error apart.
func problems(err error) []error {
	if err == nil {
		return nil
	}
	joined, ok := err.(interface{ Unwrap() []error })
	if !ok {
		return []error{err}
	}
	var all []error
	for _, err := range joined.Unwrap() {
		all = append(all, problems(err)...)
	}
	return all
}

// skipOption moves past what is left of a bad option, its block included, so
// that the next mistake is found too.
func skipOption(d *caddyfile.Dispenser, nesting int) {
	for d.NextArg() {
	}
	for d.NextBlock(nesting) {
	}
}

// checkUpstream checks a URL in which placeholders of the configuration may have
// no value before the server runs.
func checkUpstream(url string) error {
	t, err := compileSample(url)
	if err != nil {
		return err
	}
	return checkPlaceholders(t)
}

// compileSample compiles a URL with samples for what has no value yet. Those may
// stand for a scheme or a host, a port, or both at once: a URL that one of them
// makes right is not refused.
func compileSample(url string) (*upstream.Template, error) {
	var first error
	for _, sample := range []string{"https", "443", "https://host"} {
		t, err := upstream.Compile(upstream.Config{URL: url}, func(name string) (string, bool) {
			if value, ok := caddy.NewReplacer().GetString(name); ok && value != "" {
				return value, true
			}
			return sample, true
		})
		if err == nil {
			return t, nil
		}
		if first == nil {
			first = err
		}
	}
	return nil, first
}

// checkWithoutEnvironment reports what is wrong with the request whatever the
// values of {env.*}, {file.*} and {system.*} are.
func (h *Handler) checkWithoutEnvironment() error {
	t, err := compileSample(h.Upstream)
	if err != nil {
		return nil // checkUpstream says so
	}
	rest := h.requestConfig()
	rest.URL = sampleURL
	if o := h.OAuth2; o != nil && strings.Contains(o.TokenURL, "{") {
		sample := *o
		sample.TokenURL = sampleURL
		rest.OAuth2 = &sample
	}
	u, err := h.compile(rest, sampleValue)
	return errors.Join(err, h.checkAlwaysOn(t, u))
}

// sampleURL and sampleValue stand for what has no value before the server runs,
// or is checked by itself. A 1 can stand anywhere but in a URL's origin.
const sampleURL = "https://host/"

func sampleValue(string) (string, bool) { return "1", true }

// Interface guard.
var _ caddyfile.Unmarshaler = (*Handler)(nil)
