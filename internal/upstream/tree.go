package upstream

import (
	"errors"
	"fmt"
	"mime"
	"net/http"
	"net/textproto"
	"net/url"
	"slices"
	"strings"
	"unicode/utf8"
)

// queryFilter says which parameters of a client's query are sent. The zero
// value sends all.
type queryFilter struct {
	names []string
	drop  bool // all but names; * is any
}

// resumeParam is the module's own parameter, with which a new EventSource says
// what it has. It never reaches the upstream of a tree.
const resumeParam = "last_event_id"

// compileTree prepares a request that takes path and query from the client.
func (t *Template) compileTree(c Config) error {
	t.tree = c.Tree
	if !c.Tree {
		if len(c.Query) > 0 {
			return errors.New("query: only with tree is there a query of the client's to choose from")
		}
		return nil
	}
	var errs []error
	if t.hasQuery {
		errs = append(errs, errors.New("tree: the query is the client's; the URL must have none"))
	}
	if c.Body != "" || c.Method != "" && c.Method != http.MethodGet {
		errs = append(errs, errors.New("tree: the requests are the client's GETs; method and body do not fit, reads POST may"))
	}
	for i, name := range c.Query {
		bare, drop := strings.CutPrefix(name, "!")
		if bare == "" {
			errs = append(errs, fmt.Errorf("query %q: need the name of a parameter, or !name", name))
		}
		if i > 0 && drop != t.queries.drop {
			errs = append(errs, errors.New("query: either names to keep or names with ! to leave out, not both"))
			break
		}
		t.queries.names, t.queries.drop = append(t.queries.names, bare), drop
	}
	return errors.Join(errs...)
}

// target returns the URL of a tree's document: the client's escaped path behind
// the configured one, and the parameters of its query that are sent. A
// *ValueError says that the path may mean another one to the upstream.
func (t *Template) target(base string, client *url.URL) (string, error) {
	path := client.EscapedPath()
	if why := ambiguous(path); why != "" {
		return "", &ValueError{"path", why}
	}
	// net/http does not look for a fragment in a request's target, but would in
	// ours: two keys would be one URL.
	if strings.Contains(client.RawQuery, "#") {
		return "", &ValueError{"query", "must not hold #"}
	}
	target := t.origin + strings.TrimSuffix(base, "/") + path
	if query := t.queries.apply(client.RawQuery); query != "" {
		target += "?" + query
	}
	return target, nil
}

// apply returns the parameters that are sent, in the order and the spelling in
// which they came.
func (f queryFilter) apply(query string) string {
	var kept []string
	for pair := range strings.SplitSeq(query, "&") {
		name, _, _ := strings.Cut(pair, "=")
		if decoded, err := url.QueryUnescape(name); err == nil {
			name = decoded
		}
		if pair == "" || name == resumeParam || len(f.names) > 0 && slices.Contains(f.names, name) == f.drop || f.drop && slices.Contains(f.names, "*") {
			continue
		}
		kept = append(kept, pair)
	}
	return strings.Join(kept, "&")
}

// ambiguous says why servers may read an escaped path as another one, or
// returns "". Some decode %2F before they resolve dot segments, some decode
// twice, some take a backslash for a slash and some cut off what follows a
// semicolon in each segment (RFC 3986 section 3.3). An escaped slash alone is
// fine: RabbitMQ has names with it.
func ambiguous(path string) string {
	switch {
	case !strings.HasPrefix(path, "/"):
		return "must begin with a slash"
	case strings.Contains(path, "//"):
		return "must not hold empty segments"
	}
	for range 3 {
		if !utf8.ValidString(path) {
			return "must be UTF-8" // overlong forms of . and / are not
		}
		if strings.ContainsAny(path, "\\\x00") {
			return "must not hold a backslash or NUL"
		}
		for segment := range strings.SplitSeq(path, "/") {
			name, _, hasParams := strings.Cut(segment, ";")
			if name == "." || name == ".." {
				return "must not hold dot segments"
			}
			if hasParams && name == "" {
				return "must not hold empty segments"
			}
		}
		decoded, err := url.PathUnescape(path)
		if err != nil || decoded == path {
			return ""
		}
		path = decoded
	}
	return "must not be escaped more than twice"
}

// Tree reports whether the document stands for the upstream's own answer to the
// client's request: it is JSON to the letter, with its header fields, or it is
// none.
func (r *Request) Tree() bool { return r.tree }

// WithBody returns the request as a POST of a body. Bodies are compared as they
// are written.
func (r *Request) WithBody(contentType, body string) *Request {
	post := *r
	post.method, post.body = http.MethodPost, body
	post.header = r.header.Clone()
	if contentType != "" {
		post.header.Set("Content-Type", contentType)
	}
	post.sum = post.hash()
	return &post
}

// maxFields bounds the header fields that are kept of an answer, in bytes.
const maxFields = 16 << 10

// Unfit returns why an answer of a tree's upstream is no document that a client
// could be given instead of its own answer, or nil. It looks at everything but
// the body. Vary is not its business, as it depends on each client's request;
// see VariesFor.
func (r *Request) Unfit(status int, h http.Header) *Fault {
	if f := refusal(status, h); f != nil {
		switch {
		case status >= 300 && status < 400:
			f.Reason = ReasonRedirect
		case !r.private && !r.own && (status == http.StatusUnauthorized || status == http.StatusForbidden):
			f.Err = fmt.Errorf("%w; write forward with what the upstream knows its users by, as in forward Authorization or forward cookie:session", f.Err)
		}
		return f
	}
	switch media, _, _ := mime.ParseMediaType(h.Get("Content-Type")); {
	case media == "text/event-stream":
		return &Fault{Reason: ReasonEventStream, Err: errors.New("the answer is an event stream of its own")}
	case !isJSONType(media):
		return &Fault{Reason: ReasonNotJSON, Err: errors.New("the media type is not JSON")}
	case h.Get("Set-Cookie") != "":
		name, _, _ := strings.Cut(h.Get("Set-Cookie"), "=")
		if !isToken(name) {
			name = "<name>"
		}
		return &Fault{Reason: ReasonSetsCookie, Err: fmt.Errorf("the answer sets a cookie; write forward cookie:%s if the upstream sets it for those that have none", name)}
	case !r.private && isPrivate(h):
		return &Fault{Reason: ReasonPrivate, Err: errors.New("the answer is private; write forward with what it depends on, as in forward cookie:session")}
	}
	size := 0
	for name, values := range EndToEnd(h) {
		for _, v := range values {
			size += len(name) + len(v)
		}
	}
	if size > maxFields {
		return &Fault{Reason: ReasonTooLarge, Err: errors.New("the answer's header fields are over 16 KiB")}
	}
	return nil
}

// isJSONType reports whether a media type is of JSON, RFC 6839 section 3.1.
func isJSONType(media string) bool {
	return media == typeJSON || media == "text/json" || strings.HasSuffix(media, "+json")
}

// isPrivate reports whether an answer is for one client alone, RFC 9111 section
// 5.2.2.7.
func isPrivate(h http.Header) bool {
	return listed(h, "Cache-Control", func(member string) bool {
		name, _, _ := strings.Cut(member, "=")
		return strings.EqualFold(name, "private")
	})
}

// listed reports whether a field that is a list has a member like this.
func listed(h http.Header, field string, like func(member string) bool) bool {
	for _, line := range h.Values(field) {
		for member := range strings.SplitSeq(line, ",") {
			if like(strings.TrimSpace(member)) {
				return true
			}
		}
	}
	return false
}

// VariesBy returns a field of a client's request that an answer depends on
// (Vary, RFC 9110 section 12.5.5) and that the configuration says nothing of, or
// "". A field that the client does not send was not sent by the poll either.
// What is negotiated here, Accept and Accept-Encoding, does not count.
func (t *Template) VariesBy(answer, client http.Header) string {
	by := ""
	listed(answer, "Vary", func(member string) bool {
		name := http.CanonicalHeaderKey(member)
		if name == "*" || name != "Accept" && name != "Accept-Encoding" && len(client[name]) > 0 && !t.decides(name) {
			by = name
		}
		return by != ""
	})
	return by
}

// decides reports whether the configuration says what the upstream gets of a
// header field, so that the client's own does not matter beyond that.
func (t *Template) decides(name string) bool {
	if name == "Authorization" && t.credentials != (credentials{}) {
		return true
	}
	is := func(f fieldTemplate) bool { return f.name == name }
	return slices.ContainsFunc(t.forward, func(f forwarded) bool { return f.field == name }) || slices.ContainsFunc(t.set, is) || slices.ContainsFunc(t.add, is) ||
		slices.ContainsFunc(t.remove, func(n string) bool { return http.CanonicalHeaderKey(n) == name })
}

// Ignores reports whether a client's request has an Authorization that the
// upstream would not get, so that the page would appear logged out.
func (t *Template) Ignores(client http.Header) bool {
	return client.Get("Authorization") != "" && !t.decides("Authorization")
}

// notKept are the fields that belong to a connection or to one message, or that
// the module answers for itself: validators, caching, the content's form.
var notKept = []string{
	"Connection", "Keep-Alive", "Proxy-Connection", "Proxy-Authenticate", "Proxy-Authentication-Info", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Alt-Svc",
	"Set-Cookie", "Set-Cookie2", "Etag", "Last-Modified", "Cache-Control", "Expires", "Pragma", "Age", "Cache-Status", "Date",
	"Content-Length", "Content-Encoding", "Content-Range", "Accept-Ranges", "Content-Md5", "Digest", "Content-Digest", "Repr-Digest",
}

// EndToEnd returns the fields of an answer that a document of a tree keeps.
func EndToEnd(h http.Header) http.Header {
	kept := h.Clone()
	listed(h, "Connection", func(member string) bool { // RFC 9110 section 7.6.1
		kept.Del(textproto.CanonicalMIMEHeaderKey(member))
		return false
	})
	for _, name := range notKept {
		kept.Del(name)
	}
	// The text is UTF-8 by now.
	if media, params, err := mime.ParseMediaType(kept.Get("Content-Type")); err == nil && params["charset"] != "" && !strings.EqualFold(params["charset"], "utf-8") {
		delete(params, "charset")
		kept.Set("Content-Type", mime.FormatMediaType(media, params))
	}
	return kept
}

// keepFields notes the fields of an answer. Those of a 304 replace what there
// was, RFC 9111 section 3.2.
func (p *progress) keepFields(by page) {
	fields := EndToEnd(by.header)
	if by.text == nil {
		merged := p.fields.Clone()
		if merged == nil {
			merged = make(http.Header)
		}
		fields.Del("Content-Type")
		for name, values := range fields {
			merged[name] = values
		}
		fields = merged
	}
	p.fields = fields
}

// NoDocument reports whether the upstream has answered, and what it answers with
// is no document: asking again soon would bring the same.
func (f *Fault) NoDocument() bool {
	switch f.Reason {
	case ReasonStatus, ReasonUnauthorized, ReasonForbidden:
		return f.Status < 500 && f.Status != http.StatusRequestTimeout && f.Status != http.StatusTooEarly
	case ReasonRedirect, ReasonEmpty, ReasonTooLarge, ReasonNotJSON, ReasonTooDeep, ReasonEncoding, ReasonNoMatch, ReasonPages,
		ReasonEventStream, ReasonSetsCookie, ReasonPrivate:
		return true
	}
	return false // it may be over at the next poll
}

// HandsOn reports whether this fault of a tree's document is the answer that a
// client has to see for itself: it is gone, or a session has ended, or it has
// become one client's own.
func (f *Fault) HandsOn() bool {
	switch f.Status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusConflict, http.StatusGone:
		return true
	}
	return f.Reason == ReasonSetsCookie || f.Reason == ReasonPrivate
}

// Advice reports whether the fault says what to write in the configuration.
func (f *Fault) Advice() bool {
	switch f.Reason {
	case ReasonSetsCookie, ReasonPrivate:
		return true
	}
	return f.Status == http.StatusUnauthorized || f.Status == http.StatusForbidden
}
