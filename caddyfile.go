package pollsse

import (
	"errors"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func init() {
	httpcaddyfile.RegisterHandlerDirective("poll_sse", parseCaddyfile)
	// After the authentication directives and before handle.
	httpcaddyfile.RegisterDirectiveOrder("poll_sse", httpcaddyfile.After, "encode")
}

func parseCaddyfile(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
	handler := new(Handler)
	return handler, handler.UnmarshalCaddyfile(h.Dispenser)
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
//		name               <text>
//	}
//
// It reports every mistake, each with its file and line.
func (h *Handler) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the directive's name
	if !d.Args(&h.Upstream) {
		return d.Errf("poll_sse: need the URL to poll, as in poll_sse /api/quotes https://legacy.internal/quotes.json")
	}
	if d.NextArg() {
		return d.ArgErr()
	}
	var errs []error
	if err := checkUpstream(h.Upstream); err != nil {
		errs = append(errs, d.WrapErr(err))
	}
	seen := make(map[string]bool)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name := d.Val()
		o, ok := findOption(name)
		switch {
		case !ok:
			errs = append(errs, d.Errf("poll_sse has no option %s", name))
		case seen[name] && !o.repeats():
			errs = append(errs, d.Errf("%s is given twice", name))
		default:
			known := problems(o.checkWritten(h))
			if err := o.parse(h, d); err != nil {
				errs = append(errs, err)
				break
			}
			for _, err := range problems(o.checkWritten(h)) {
				// What an earlier line of the same option has said is known.
				if !slices.ContainsFunc(known, func(k error) bool { return k.Error() == err.Error() }) {
					errs = append(errs, d.WrapErr(err))
				}
			}
			if d.CountRemainingArgs() == 0 && d.NextBlock(d.Nesting()) {
				errs = append(errs, d.Errf("%s takes no block", name))
			}
		}
		seen[name] = true
		skipOption(d, nesting+1)
	}
	if len(problems(errors.Join(errs...))) == 0 {
		written := *h
		written.setDefaults()
		for _, err := range problems(written.checkTogether()) {
			errs = append(errs, d.WrapErr(err))
		}
	}
	return errors.Join(errs...)
}

// checkWritten checks one option with the defaults, on a copy that keeps the
// configuration as it was written.
func (o option) checkWritten(h *Handler) error {
	if o.check == nil {
		return nil
	}
	written := *h
	written.setDefaults()
	return o.check(&written)
}

// problems takes a joined error apart.
func problems(err error) []error {
	if err == nil {
		return nil
	}
	if joined, ok := err.(interface{ Unwrap() []error }); ok {
		return joined.Unwrap()
	}
	return []error{err}
}

// skipOption moves past what is left of a bad option, its block included, so
// that the next mistake is found too.
func skipOption(d *caddyfile.Dispenser, nesting int) {
	for d.NextArg() {
	}
	for d.NextBlock(nesting) {
	}
}

// repeats tells whether an option may stand more than once.
func (o option) repeats() bool {
	return slices.Contains([]string{"header_up", "forward", "since", "omit", "ignore", "identify", "event"}, o.name)
}

// checkUpstream checks a URL in which placeholders of the configuration may have
// no value before the server runs. Those may stand for a scheme or a host, a
// port, or both at once: what one of them makes right is not refused.
func checkUpstream(upstream string) error {
	var first error
	for _, sample := range []string{"https", "443", "https://host"} {
		_, err := compileURL(upstream, func(name string) (string, bool) {
			if value, ok := caddy.NewReplacer().GetString(name); ok && value != "" {
				return value, true
			}
			return sample, isConfigPlaceholder(name)
		})
		if err == nil {
			return nil
		}
		if first == nil {
			first = err
		}
	}
	return first
}

// Interface guard.
var _ caddyfile.Unmarshaler = (*Handler)(nil)
