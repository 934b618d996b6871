package pollsse

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// requestTemplate is the configured upstream request. It is compiled when the
// configuration is provisioned and expanded for each client request.
type requestTemplate struct {
	display  string // as configured, with its placeholders: for logs, metrics and the admin API
	origin   string // scheme and authority: the configuration's alone
	path     template
	query    template
	hasQuery bool
	set      []fieldTemplate
	add      []fieldTemplate
	remove   []string
	forward  []forwarded
	private  bool // depends on more than the public URL

	method      string
	body        template
	contentType string // of body, where header_up does not say
	credentials credentials
}

type fieldTemplate struct {
	name  string
	value template
}

// forwarded is one header field, or one cookie, that clients' requests carry
// to the upstream.
type forwarded struct{ field, cookie string }

// upstreamRequest is a request with nothing left to expand. Two clients share
// a source only if theirs are equal in every part.
type upstreamRequest struct {
	display  string
	origin   string // scheme and authority
	url      string
	header   http.Header
	host     string
	method   string
	body     string
	forwards bool // carries a client's own header fields
	private  bool

	credentials credentials
}

// compileURL takes a configured URL apart. Scheme and authority are expanded
// here, with the configuration's own placeholders only: no client chooses a
// host.
func compileURL(text string, config lookup) (*requestTemplate, error) {
	t := &requestTemplate{display: text}
	// {env.UPSTREAM}/quotes is as good as https://host/quotes.
	i := 0
	if j := strings.Index(text, "://"); j >= 0 {
		i = j + len("://")
	}
	i += indexOutside(text[i:], "/?#")
	origin, rest := text[:i], text[i:]
	originTemplate := parseTemplate(origin, verbatim)
	for _, name := range originTemplate.placeholders() {
		if !isConfigPlaceholder(name) {
			return nil, fmt.Errorf("upstream %q: scheme and host are the configuration's alone: only {env.*}, {file.*} and {system.*} may stand there, not {%s}", text, name)
		}
	}
	origin, err := originTemplate.expand(config)
	if err != nil {
		return nil, fmt.Errorf("upstream %q: %w", text, err)
	}
	// A placeholder may have brought a path of its own.
	if i := strings.Index(origin, "://"); i >= 0 {
		if j := strings.IndexAny(origin[i+3:], "/?#"); j >= 0 {
			origin, rest = origin[:i+3+j], origin[i+3+j:]+rest
		}
	}
	if strings.Contains(rest, "#") {
		return nil, fmt.Errorf("upstream %q: a fragment never reaches a server; remove #…", text)
	}
	u, err := url.Parse(origin)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.Hostname() == "":
		return nil, fmt.Errorf("upstream %q: need an absolute URL such as https://legacy.internal/quotes.json", text)
	case u.User != nil:
		return nil, fmt.Errorf("upstream: credentials in the URL would show in logs; use header_up Authorization instead")
	}
	t.origin = origin
	path, query, hasQuery := strings.Cut(rest, "?")
	if path == "" {
		path = "/"
	}
	t.hasQuery = hasQuery
	if t.path, err = t.compile("the path", path, escapeSegment, config); err != nil {
		return nil, err
	}
	if t.query, err = t.compile("the query", query, escapeQuery, config); err != nil {
		return nil, err
	}
	if _, err := url.ParseRequestURI(t.origin + t.path.sample() + "?" + t.query.sample()); err != nil {
		return nil, fmt.Errorf("upstream %q: %w", text, errors.Unwrap(err))
	}
	return t, nil
}

// indexOutside is the index in text of the first of chars outside of braces, or
// the length of text.
func indexOutside(text, chars string) int {
	inside := false
	for i := range len(text) {
		switch c := text[i]; {
		case c == '{' || c == '}':
			inside = c == '{'
		case !inside && strings.IndexByte(chars, c) >= 0:
			return i
		}
	}
	return len(text)
}

// compile cuts up one part of the request and notes what it depends on.
func (t *requestTemplate) compile(place, text string, escape func(string) (string, error), config lookup) (template, error) {
	return t.own(place, parseTemplate(text, escape), config)
}

// own notes what a part of the request depends on and expands what is the
// configuration's.
func (t *requestTemplate) own(place string, parts template, config lookup) (template, error) {
	for _, p := range parts {
		if isPollPlaceholder(p.placeholder) {
			if place == "the path" {
				return nil, fmt.Errorf("upstream: {%s}: only the query and the body can tell a time", p.placeholder)
			}
			if err := checkPollPlaceholder(p.placeholder); err != nil {
				return nil, fmt.Errorf("upstream: %s: %w", place, err)
			}
		}
	}
	for _, name := range parts.placeholders() {
		if isWholePlaceholder(name) {
			return nil, fmt.Errorf("upstream: {%s} in %s cannot be escaped for its place; name the part, as {http.request.uri.path.0} or {http.request.uri.query.symbol} do", name, place)
		}
		if !isPublicPlaceholder(name) {
			t.private = true
		}
	}
	parts, err := parts.resolve(config)
	if err != nil {
		return nil, fmt.Errorf("upstream: %s: %w", place, err)
	}
	return parts, nil
}

// sample is the template with something harmless for each placeholder.
func (t template) sample() string {
	s, _ := t.expand(func(string) (string, bool) { return "x", true })
	return s
}

// dynamic tells whether clients decide any part of the request, and so how
// many sources there may be.
func (t *requestTemplate) dynamic() bool {
	if len(t.forward) > 0 || len(t.path.placeholders())+len(t.query.placeholders())+len(t.body.placeholders()) > 0 {
		return true
	}
	for _, f := range slices.Concat(t.set, t.add) {
		if len(f.value.placeholders()) > 0 {
			return true
		}
	}
	return false
}

// compileFields prepares configured header fields.
func (t *requestTemplate) compileFields(fields http.Header, config lookup) ([]fieldTemplate, error) {
	var out []fieldTemplate
	var errs []error
	for name, values := range fields {
		for _, value := range values {
			parts := parseTemplate(value, escapeField)
			for _, p := range parts {
				if _, err := escapeField(p.literal); err != nil {
					errs = append(errs, fmt.Errorf("header_up %s: the value %w", name, err))
				}
			}
			for _, p := range parts.placeholders() {
				if !isPublicPlaceholder(p) {
					t.private = true
				}
			}
			if slices.ContainsFunc(parts, func(p templatePart) bool { return isPollPlaceholder(p.placeholder) }) {
				errs = append(errs, fmt.Errorf("header_up %s: only the query and the body can tell the time of the last success", name))
			}
			parts, err := parts.resolve(config)
			if err != nil {
				errs = append(errs, fmt.Errorf("header_up %s: %w", name, err))
			}
			out = append(out, fieldTemplate{http.CanonicalHeaderKey(name), parts})
		}
	}
	return out, errors.Join(errs...)
}

// addForward parses what the option forward names: a header field, or
// cookie:NAME for one cookie.
func (t *requestTemplate) addForward(names []string) error {
	var errs []error
	for _, name := range names {
		cookie, isCookie := strings.CutPrefix(name, "cookie:")
		switch {
		case isCookie && !isToken(cookie):
			errs = append(errs, fmt.Errorf("forward %q: need a cookie's name, as in cookie:session", name))
		case isCookie:
			t.forward = append(t.forward, forwarded{field: "Cookie", cookie: cookie})
		case !isToken(name):
			errs = append(errs, fmt.Errorf("forward %q: not a header field name", name))
		case strings.EqualFold(name, "Cookie"):
			errs = append(errs, fmt.Errorf("forward Cookie: every analytics cookie would make a document of its own; name one cookie, as in cookie:session"))
		case strings.EqualFold(name, "Host"):
			errs = append(errs, fmt.Errorf("forward Host: use header_up Host {http.request.host} instead"))
		case isReserved(name):
			errs = append(errs, fmt.Errorf("forward %s: this field belongs to the connection or to the poller", name))
		default:
			t.forward = append(t.forward, forwarded{field: http.CanonicalHeaderKey(name)})
		}
	}
	if len(t.forward) > 0 {
		t.private = true
	}
	return errors.Join(errs...)
}

// hasDotSegment tells whether an escaped path holds a segment that a server may
// resolve to another path, also where two placeholders make one together, and
// where an escaped slash or a backslash hides it: servers do decode them first.
func hasDotSegment(path string) bool {
	decoded, err := url.PathUnescape(path)
	if err != nil {
		return true
	}
	for segment := range strings.FieldsFuncSeq(decoded, func(r rune) bool { return r == '/' || r == '\\' }) {
		if segment == "." || segment == ".." {
			return true
		}
	}
	return false
}

// isReserved tells whether a request header field is not the client's or the
// configuration's to set: those of the connection, and those that the poller
// needs for itself.
func isReserved(name string) bool {
	switch http.CanonicalHeaderKey(name) {
	case "Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Content-Length",
		"Accept-Encoding", "If-None-Match", "If-Modified-Since", "If-Match", "If-Unmodified-Since", "If-Range", "Range", "Last-Event-Id", "Expect":
		return true
	}
	return false
}

// isToken tells whether s is a token, RFC 9110 section 5.6.2.
func isToken(s string) bool {
	for i := range len(s) {
		c := s[i]
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0) {
			return false
		}
	}
	return s != ""
}

// maxForwarded bounds what one client's fields add to a request, in bytes.
const maxForwarded = 16 << 10

// expand makes the upstream request for one client request. A *valueError is
// the client's fault.
func (t *requestTemplate) expand(get lookup, client *http.Request) (upstreamRequest, error) {
	values := get
	get = func(name string) (string, bool) {
		if isPollPlaceholder(name) {
			return pollMark(name), true
		}
		return values(name)
	}
	path, err := t.path.expand(get)
	if err != nil {
		return upstreamRequest{}, err
	}
	if len(t.path.placeholders()) > 0 && hasDotSegment(path) {
		return upstreamRequest{}, &valueError{"path", "must not hold dot segments"}
	}
	target := t.origin + path
	if t.hasQuery {
		query, err := t.query.expand(get)
		if err != nil {
			return upstreamRequest{}, err
		}
		target += "?" + query
	}
	r := upstreamRequest{display: t.display, origin: t.origin, url: target, method: t.method, credentials: t.credentials, header: make(http.Header), forwards: len(t.forward) > 0, private: t.private}
	if r.body, err = t.body.expand(get); err != nil {
		return upstreamRequest{}, err
	}
	if len(r.body) > maxRequestBody {
		return upstreamRequest{}, &valueError{"body", "is larger than 1 MiB"}
	}
	if t.contentType != "" {
		r.header.Set("Content-Type", t.contentType)
	}
	size := 0
	for _, f := range t.forward {
		if f.cookie == "" {
			for _, v := range client.Header.Values(f.field) {
				size += len(v)
				r.header.Add(f.field, v)
			}
			continue
		}
		for _, c := range client.CookiesNamed(f.cookie) {
			size += len(c.Value)
			r.header.Add("Cookie", f.cookie+"="+c.Value)
		}
	}
	if size > maxForwarded {
		return upstreamRequest{}, &valueError{"forward", "is larger than 16 KiB"}
	}
	if cookies := r.header["Cookie"]; len(cookies) > 1 {
		r.header["Cookie"] = []string{strings.Join(cookies, "; ")}
	}
	for _, f := range t.set {
		v, err := f.value.expand(get)
		if err != nil {
			return upstreamRequest{}, err
		}
		r.header.Set(f.name, v)
	}
	for _, f := range t.add {
		v, err := f.value.expand(get)
		if err != nil {
			return upstreamRequest{}, err
		}
		r.header.Add(f.name, v)
	}
	for _, name := range t.remove {
		// A nil value keeps net/http from sending its default.
		r.header[http.CanonicalHeaderKey(name)] = nil
	}
	if host := r.header.Get("Host"); host != "" {
		r.host = host
		r.header.Del("Host")
	}
	return r, nil
}

// build makes the HTTP request of one poll. The URL is parsed again and its
// origin held against the configured one: a second lock on the same door.
// Where parts of it tell the time of the last good answer, at is that time.
func (r *upstreamRequest) build(ctx context.Context, at time.Time) (*http.Request, error) {
	escapeBody := func(s string) string { return s } // no time needs escaping in JSON
	if strings.HasPrefix(r.header.Get("Content-Type"), typeForm) {
		escapeBody = url.QueryEscape
	}
	var body io.Reader
	if r.body != "" {
		body = strings.NewReader(fillTimes(r.body, at, escapeBody))
	}
	req, err := http.NewRequestWithContext(ctx, r.method, fillTimes(r.url, at, url.QueryEscape), body)
	if err != nil {
		return nil, errors.New("the expanded URL is not valid")
	}
	req.Header = r.header.Clone()
	if _, set := req.Header["User-Agent"]; !set {
		req.Header.Set("User-Agent", "caddy-poll-sse")
	}
	req.Host = r.host
	return req, nil
}

// timed tells whether the request tells the time of the last good answer.
func (r *upstreamRequest) timed() bool { return strings.Contains(r.url+r.body, "\x00") }

// key hashes the request together with everything else that decides the
// document. Every part carries its length: no two requests meet in one key.
func (r *upstreamRequest) key(settings []byte) [32]byte {
	h := sha256.New()
	write := func(parts ...string) {
		for _, p := range parts {
			var n [8]byte
			binary.BigEndian.PutUint64(n[:], uint64(len(p)))
			h.Write(n[:])
			h.Write([]byte(p))
		}
	}
	write("poll_sse source v1", string(settings), r.method, r.url, r.host, r.body)
	write(r.credentials.parts()...)
	names := make([]string, 0, len(r.header))
	for name := range r.header {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		write(name, fmt.Sprint(len(r.header[name])))
		write(r.header[name]...)
	}
	return [32]byte(h.Sum(nil))
}
