// Package upstream asks one upstream for one document: it expands the configured
// request for a client, sends it again and again, and reads each answer to one
// JSON text, or to a fault with a name.
//
// It knows neither Caddy nor the log, and nothing of what becomes of the
// document. Nothing that a client sends can choose the upstream's scheme or
// host, and no error names an expanded URL or a secret.
package upstream

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

// Config says what is asked of an upstream, as it was configured. Texts may
// hold placeholders.
type Config struct {
	// URL is http or https, absolute.
	URL string
	// Method is GET, POST, QUERY, SEARCH or REPORT. If it is empty, the method
	// is GET, or POST with a body.
	Method string
	// Body has at most 1 MiB.
	Body string
	// Set and Add are header fields that each request sends. Delete names
	// those that it must not send.
	Set, Add http.Header
	Delete   []string
	// Forward names what a client's request passes on: header fields, and
	// cookies as cookie:NAME. At most 16 KiB a request.
	Forward []string
	// Tree has the request ask for the client's own escaped path, behind that
	// of URL, with the client's query. Query names the parameters that are
	// sent, or, with ! before each, those that are not; !* are all; none: all
	// are sent.
	Tree  bool
	Query []string

	// The server's own credentials.
	BasicAuth  *BasicAuth
	BearerFile string
	OAuth2     *OAuth2
}

// Template is an upstream request that is expanded for each client's request.
type Template struct {
	display  string // see Redact
	origin   string // scheme and authority: the configuration's alone
	path     template
	query    template
	hasQuery bool
	set      []fieldTemplate
	add      []fieldTemplate
	remove   []string
	forward  []forwarded

	tree    bool // takes path and query from the client
	queries queryFilter

	method      string
	body        template
	contentType string // of body, if header_up does not say
	credentials credentials

	placeholders []Placeholder
	private      bool // depends on more than the public URL

	fixed *Request // the expansion, if clients decide no part of it
}

// Placeholder is a placeholder whose value comes from a client's request, and
// the option in which it stands: upstream, body, or header_up and a field's
// name.
type Placeholder struct{ Option, Name string }

// Compile parses a configuration. It asks lookup for the configuration's own
// placeholders only, see IsConfigPlaceholder. The error joins everything that
// is wrong; each of its parts begins with the name of an option. A template
// that comes with an error must not be expanded.
func Compile(c Config, lookup Lookup) (*Template, error) {
	t := &Template{remove: c.Delete}
	errs := []error{
		t.compileURL(c.URL, lookup),
		t.compileForward(c.Forward),
		checkFieldNames(c),
		t.compileTree(c), // needs the URL
	}
	add := func(err error) { errs = append(errs, err) }
	var err error
	t.set, err = t.compileFields(c.Set, lookup)
	add(err)
	t.add, err = t.compileFields(c.Add, lookup)
	add(err)
	add(t.compileBody(c.Method, c.Body, lookup)) // needs the field Content-Type
	t.credentials, err = compileCredentials(c, lookup)
	add(err)
	if err := errors.Join(errs...); err != nil {
		return t, err
	}
	if !t.PerClient() {
		t.fixed, err = t.Expand(func(string) (string, bool) { return "", false }, nil)
	}
	return t, err
}

// compilePart checks one part of the request, notes what it depends on and
// expands what is the configuration's.
func (t *Template) compilePart(option, place string, parts template, config Lookup) (template, error) {
	for _, p := range parts {
		if isTimePlaceholder(p.placeholder) {
			if place == placePath {
				return nil, fmt.Errorf("%s: {%s}: only the query and the body can tell a time", place, p.placeholder)
			}
			if err := checkTimePlaceholder(p.placeholder); err != nil {
				return nil, fmt.Errorf("%s: %w", place, err)
			}
		}
		if isWholePlaceholder(p.placeholder) {
			return nil, fmt.Errorf("%s: {%s} cannot be escaped for its place; name the part, as {http.request.uri.path.0} or {http.request.uri.query.symbol} do", place, p.placeholder)
		}
	}
	parts, err := t.resolve(option, parts, config)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", place, err)
	}
	return parts, nil
}

// resolve notes what a part of the request depends on and expands what is the
// configuration's.
func (t *Template) resolve(option string, parts template, config Lookup) (template, error) {
	for _, name := range parts.placeholders() {
		if IsConfigPlaceholder(name) {
			continue
		}
		t.placeholders = append(t.placeholders, Placeholder{option, name})
		if !isPublicPlaceholder(name) {
			t.private = true
		}
	}
	return parts.resolve(config)
}

// Placeholders returns the placeholders that clients' requests give a value.
func (t *Template) Placeholders() []Placeholder { return t.placeholders }

// Private reports whether the request depends on more than the public URL, so
// that its document is one client's own.
func (t *Template) Private() bool { return t.private }

// PerClient reports whether clients decide any part of the request, and so how
// many different ones there are.
func (t *Template) PerClient() bool { return t.tree || len(t.forward)+len(t.placeholders) > 0 }

// Vary lists the header fields of a client's request that the document depends
// on.
func (t *Template) Vary() []string {
	var fields []string
	add := func(field string) {
		if !slices.Contains(fields, field) {
			fields = append(fields, field)
		}
	}
	for _, f := range t.forward {
		add(f.field)
	}
	for _, p := range t.placeholders {
		if field, ok := strings.CutPrefix(p.Name, "http.request.header."); ok {
			add(http.CanonicalHeaderKey(field))
		}
		if strings.HasPrefix(p.Name, "http.request.cookie.") {
			add("Cookie")
		}
	}
	return fields
}

// authenticates reports whether the request carries the server's own
// credentials: an Authorization of which clients decide no part.
func (t *Template) authenticates() bool {
	return t.credentials != credentials{} || slices.ContainsFunc(slices.Concat(t.set, t.add), func(f fieldTemplate) bool {
		return f.name == "Authorization" && len(f.value.placeholders()) == 0
	})
}

// Request is an upstream request with nothing left to expand. It does not
// change and may be shared.
type Request struct {
	display string
	origin  string // scheme and authority
	url     string
	header  http.Header
	host    string
	method  string
	body    string
	private bool // depends on more than the public URL
	clients bool // clients decide a part of it
	own     bool // carries the server's own credentials
	tree    bool // stands for the upstream's own answer; see Tree

	credentials credentials

	sum [sha256.Size]byte // of all that decides the document
}

// Expand makes the upstream request for one client's request. A *ValueError is
// the client's error.
func (t *Template) Expand(lookup Lookup, client *http.Request) (*Request, error) {
	if t.fixed != nil {
		return t.fixed, nil
	}
	values := func(name string) (string, bool) {
		if isTimePlaceholder(name) {
			return timeMark(name), true
		}
		return lookup(name)
	}
	path, err := t.path.expand(values)
	if err != nil {
		return nil, err
	}
	if len(t.path.placeholders()) > 0 && hasDotSegment(path) {
		return nil, &ValueError{"path", "must not hold dot segments"}
	}
	target := t.origin + path
	if t.tree {
		if target, err = t.target(path, client.URL); err != nil {
			return nil, err
		}
	}
	if t.hasQuery {
		query, err := t.query.expand(values)
		if err != nil {
			return nil, err
		}
		target += "?" + query
	}
	body, err := t.body.expand(values)
	if err != nil {
		return nil, err
	}
	if len(body) > maxRequestBody {
		return nil, &ValueError{"body", "is larger than 1 MiB"}
	}
	header, err := t.expandHeader(values, client)
	if err != nil {
		return nil, err
	}
	host := header.Get("Host")
	if host != "" {
		header.Del("Host")
	}
	r := &Request{
		display: t.display, origin: t.origin, url: target, header: header, host: host, method: t.method, body: body,
		private: t.private, clients: t.PerClient(), own: t.authenticates(), tree: t.tree, credentials: t.credentials,
	}
	r.sum = r.hash()
	return r, nil
}

// Method returns the method of each request.
func (r *Request) Method() string { return r.method }

// Display returns the URL as configured, without what may be a secret.
func (r *Request) Display() string { return r.display }

// Path returns the escaped path of the expanded URL, which may be a secret of a
// client's.
func (r *Request) Path() string {
	path, _, _ := strings.Cut(strings.TrimPrefix(r.url, r.origin), "?")
	return path
}

// Origin returns scheme and authority of the URL.
func (r *Request) Origin() string { return r.origin }

// Private reports whether the request depends on more than the public URL, so
// that its document is one client's own.
func (r *Request) Private() bool { return r.private }

// PerClient reports whether clients decide any part of the request, by the template
// that it was first made from.
func (r *Request) PerClient() bool { return r.clients }

// RefusesClient reports whether an answer with this status refuses the client
// that the document is for. A 403 does if the document is private. So does a
// 401, unless the server sent credentials of its own: then those have expired,
// and no client can do anything about it.
func (r *Request) RefusesClient(status int) bool {
	return r.private && (status == http.StatusForbidden || status == http.StatusUnauthorized && !r.own)
}

// Key returns a digest of everything in the request that decides the document,
// and of more.
func (r *Request) Key(more []byte) [sha256.Size]byte {
	if len(more) == 0 {
		return r.sum
	}
	var room [128]byte
	return sha256.Sum256(append(append(room[:0], r.sum[:]...), more...))
}

// Client is a digest of all that the request has of its client, besides what it
// asks for.
func (r *Request) Client() [sha256.Size]byte {
	client := *r
	client.url, client.method, client.body = r.origin, "", ""
	client.header = r.header.Clone()
	client.header.Del("Content-Type")
	return client.hash()
}

// hash writes the length of each part in front of it, so that no two requests
// have the same sum.
func (r *Request) hash() [sha256.Size]byte {
	h := sha256.New()
	write := func(parts ...string) {
		for _, p := range parts {
			var n [8]byte
			binary.BigEndian.PutUint64(n[:], uint64(len(p)))
			h.Write(n[:])
			h.Write([]byte(p))
		}
	}
	write("poll_sse request v1", fmt.Sprint(r.private, r.own), r.method, r.url, r.host, r.body)
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
	if r.tree {
		write("tree")
	}
	return [sha256.Size]byte(h.Sum(nil))
}

// build makes the HTTP request of one poll. If parts of it tell the time of the
// last good answer, at is that time.
func (r *Request) build(ctx context.Context, at time.Time) (*http.Request, error) {
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
	if _, set := req.Header["Idempotency-Key"]; !set {
		// No field is sent. It lets net/http send a POST once more over a new
		// connection if a kept one ends without an answer, as it does with a
		// GET: no poll changes anything.
		req.Header["Idempotency-Key"] = []string{}
	}
	req.Host = r.host
	return req, nil
}

// tellsTime reports whether the request tells the time of the last good answer.
func (r *Request) tellsTime() bool { return strings.Contains(r.url+r.body, "\x00") }
