package pollsse

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"

	"github.com/pollsse/caddy-poll-sse/internal/feed"
	"github.com/pollsse/caddy-poll-sse/internal/upstream"
	"github.com/pollsse/caddy-poll-sse/jsondiff"
)

func (h *Handler) parseBodyOption(d *caddyfile.Dispenser) error {
	if at := *d; d.CountRemainingArgs() == 0 && d.NextBlock(d.Nesting()) {
		return at.Errf("body: braces open a block here; put the text in backticks, as in body `{\"id\": 1}`")
	}
	args := d.RemainingArgs()
	if len(args) != 1 {
		return d.Errf("body: need one text; put it in backticks, as in body `{\"id\": 1}`")
	}
	h.Body = args[0]
	return nil
}

func (h *Handler) parseHeaderUp(d *caddyfile.Dispenser) error {
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
	line := new(headers.HeaderOps)
	for _, ops := range []*headers.HeaderOps{h.HeaderUp, line} {
		if err := headers.CaddyfileHeaderOp(ops, args[0], value, nil); err != nil {
			return d.WrapErr(err)
		}
	}
	return checkLine(d, upstream.Config{Set: line.Set, Add: line.Add, Delete: line.Delete})
}

// checkLine reports what is wrong with the part of the request that one line
// asks for, whatever the values of {env.*}, {file.*} and {system.*} are.
func checkLine(d *caddyfile.Dispenser, c upstream.Config) error {
	c.URL = sampleURL
	t, err := upstream.Compile(c, sampleValue)
	var errs []error
	for _, err := range problems(errors.Join(err, checkPlaceholders(t))) {
		errs = append(errs, d.WrapErr(err))
	}
	return errors.Join(errs...)
}

func (h *Handler) parseBasicAuth(d *caddyfile.Dispenser) error {
	h.BasicAuth = new(upstream.BasicAuth)
	if !d.Args(&h.BasicAuth.Username, &h.BasicAuth.Password) || d.NextArg() {
		return d.Errf("basic_auth: need <user> <password>, the latter as {env.NAME} or {file.PATH}")
	}
	return nil
}

func (h *Handler) parseOAuth2(d *caddyfile.Dispenser) error {
	o := new(upstream.OAuth2)
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

func (h *Handler) parseIdentify(d *caddyfile.Dispenser) error {
	var id identifyConfig
	if !d.Args(&id.Pattern, &id.Member) || d.NextArg() {
		return d.Errf("identify: need <pattern> <member>, as in identify /orders id")
	}
	h.Identify = append(h.Identify, id)
	return nil
}

func (h *Handler) parseSince(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) < 2 || len(args) > 3 {
		return d.Errf("since: need <param> <JSON pointer> [<initial value>], as in since after /cursor")
	}
	s := upstream.Since{Param: args[0], Pointer: args[1]}
	if len(args) == 3 {
		s.Initial = args[2]
	}
	h.Since = append(h.Since, s)
	return nil
}

func (h *Handler) checkSince() error {
	var errs []error
	names := make(map[string]bool)
	for _, s := range h.Since {
		if s.Param == "" || names[s.Param] {
			errs = append(errs, fmt.Errorf("since %s: need a name, once", s.Param))
		}
		names[s.Param] = true
		if _, err := jsondiff.ParsePointer(s.Pointer); err != nil {
			errs = append(errs, pointerError("since", s.Pointer, err))
		}
	}
	return errors.Join(errs...)
}

func (h *Handler) parseAppend(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) == 0 || len(args) > 3 {
		return d.Errf(`append: need <JSON pointer> [<max items>] [<key>], as in append /events 500 id; "" is the whole answer`)
	}
	h.Append = &upstream.Append{List: args[0]}
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

func (h *Handler) checkAppend() error {
	a := h.Append
	if a == nil {
		return nil
	}
	_, err := jsondiff.ParsePointer(a.List)
	if err != nil {
		err = pointerError("append", a.List, err)
	}
	if a.Max < 1 || a.Max > 100_000 {
		err = errors.Join(err, fmt.Errorf("append %d: need a number of items from 1 to 100000", a.Max))
	}
	return err
}

func (h *Handler) parsePaginate(d *caddyfile.Dispenser) error {
	p := new(upstream.Pages)
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

func (h *Handler) checkPaginate() error {
	p := h.Paginate
	if p == nil {
		return nil
	}
	var errs []error
	if p.Next != upstream.NextLink {
		if _, err := jsondiff.ParsePointer(p.Next); err != nil || p.Next == "" {
			errs = append(errs, fmt.Errorf("paginate %q: need link, or a JSON pointer to the next page", p.Next))
		}
	} else if p.Param != "" {
		errs = append(errs, errors.New("paginate link: the Link header has a URI; param takes a value"))
	}
	if _, err := jsondiff.ParsePointer(p.List); err != nil {
		errs = append(errs, pointerError("paginate: list", p.List, err))
	}
	if p.MaxPages < 2 || p.MaxPages > 1000 {
		errs = append(errs, fmt.Errorf("max_pages %d: need 2 to 1000", p.MaxPages))
	}
	return errors.Join(errs...)
}

func (h *Handler) parseTransport(d *caddyfile.Dispenser) error {
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

func (h *Handler) parseEvent(d *caddyfile.Dispenser) error {
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

func (h *Handler) checkEvents() error {
	kinds := []string{feed.KindSnapshot, feed.KindPatch, feed.KindMerge, feed.KindStatus}
	var errs []error
	for _, kind := range sortedKeys(h.Events) {
		if !slices.Contains(kinds, kind) {
			errs = append(errs, fmt.Errorf("event %s: no such kind; need one of %s", kind, strings.Join(kinds, ", ")))
		} else if err := feed.CheckEventName(h.Events[kind]); err != nil {
			errs = append(errs, fmt.Errorf("event %s: %w", kind, err))
		}
	}
	return errors.Join(errs...)
}

// checkEventNames looks for names that the events of one stream share. That is
// known only once the whole configuration is.
func (h *Handler) checkEventNames() error {
	var errs []error
	change := h.Format
	for _, pair := range [][2]string{{feed.KindSnapshot, feed.KindPatch}, {feed.KindSnapshot, feed.KindMerge}, {feed.KindSnapshot, feed.KindStatus}, {feed.KindPatch, feed.KindStatus}, {feed.KindMerge, feed.KindStatus}} {
		// Only the events of this format meet in one stream.
		used := func(kind string) bool { return kind == feed.KindSnapshot || kind == feed.KindStatus || kind == change }
		if used(pair[0]) && used(pair[1]) && h.eventName(pair[0]) == h.eventName(pair[1]) {
			errs = append(errs, fmt.Errorf("event: %s and %s are both named %q; a client could not tell them apart", pair[0], pair[1], h.eventName(pair[0])))
		}
	}
	return errors.Join(errs...)
}

// eventName returns the name that events of a kind have on the wire.
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

func (h *Handler) parseForward(d *caddyfile.Dispenser) error {
	names := d.RemainingArgs()
	if len(names) == 0 {
		return d.Errf("forward: need header fields of the client, or cookie:<name>")
	}
	h.Forward = append(h.Forward, names...)
	return checkLine(d, upstream.Config{Forward: names})
}

func (h *Handler) fillAppend() {
	if h.Append != nil {
		a := *h.Append // not the one that was written
		setDefault(&a.Max, 1000)
		setDefault(&a.Key, "id")
		h.Append = &a
	}
}

func (h *Handler) fillPaginate() {
	if h.Paginate != nil {
		p := *h.Paginate // not the one that was written
		setDefault(&p.MaxPages, 100)
		setDefault(&p.Key, "id")
		h.Paginate = &p
	}
}

func (h *Handler) checkEcho() error {
	if _, err := jsondiff.ParsePointer(h.Echo); err != nil {
		return pointerError("echo", h.Echo, err)
	}
	return nil
}

func (h *Handler) parseReads(d *caddyfile.Dispenser) error {
	args := d.RemainingArgs()
	if len(args) == 0 || len(args) == 2 {
		return d.Errf("reads: need POST [<pointer> <value>...], as in reads POST /method torrent-get session-get")
	}
	h.Reads = &upstream.Reads{Method: args[0]}
	if len(args) > 1 {
		h.Reads.Pointer, h.Reads.Values = args[1], args[2:]
	}
	return nil
}
