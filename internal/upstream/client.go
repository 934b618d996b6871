package upstream

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"sync/atomic"
	"time"
)

// Reading says how a client reads the upstream's answers. The
// defaults of its fields are the configuration's to fill in.
type Reading struct {
	// MaxBody is the largest body of a document in bytes, decoded.
	MaxBody int64
	// Format is FormatAuto, as is an empty one, FormatJSON or FormatNDJSON.
	Format string
	// Since has the query parameters that say what the client has already.
	Since []Since
	// Append adds each answer to what is kept; nil: an answer is the document.
	Append *Append
	// Pages walks a document that comes in pages; nil: it comes whole.
	Pages *Pages
}

// Client fetches the document of one request again and again. One goroutine
// uses it at a time.
type Client struct {
	request  *Request
	reading  Reading
	tokens   *Tokens
	token    *tokenCache   // nil without OAuth2
	reuse    *Reuse        // of the host's connections
	requests *atomic.Int64 // all that were sent

	transport http.RoundTripper // of the fetch in flight
	fields    http.Header       // of the fetch in flight, besides the configured ones
	committed progress
	received  int64         // bytes of bodies, by the fetch in flight
	body      *bytes.Buffer // of the fetch in flight; see bodies
	bodySize  int           // of the last one
}

// NewClient makes a client. tokens and reuse are shared, the former by all
// clients and the latter by those of one host. requests counts what the
// upstream gets. Each client must be closed.
func NewClient(request *Request, reading Reading, tokens *Tokens, reuse *Reuse, requests *atomic.Int64) *Client {
	return &Client{
		request: request, reading: reading, reuse: reuse, requests: requests,
		tokens: tokens, token: tokens.join(request.credentials.oauth2),
	}
}

// Close lets go of the OAuth2 token.
func (c *Client) Close() { c.tokens.leave(c.token) }

// progress is how far a client has read: everything that the next request and
// the reading of its answer depend on. It moves on as a whole and only with an
// answer that was published, so an answer that was refused leaves no trace.
type progress struct {
	validators validators
	fresh      time.Duration     // what the last answer that said so said; see freshness
	noStore    bool              // the document must not be stored; see isNoStore
	values     map[string]string // of the since parameters, by name
	success    time.Time         // the upstream's time of the last good answer
	list       []item            // the appended items
	walk       []string          // the keys of the items that the last walk of pages found
	fields     http.Header       // of the answer, of a tree's document
}

// validators make the next request conditional, RFC 9110 section 8.8.
type validators struct{ url, etag, lastModified string }

// Response is what a fetch brings. One Commit or Discard must follow.
type Response struct {
	// Body is decoded JSON text, or what the upstream passes off as that. It
	// is valid until Commit or Discard. It is nil if there is nothing new
	// (304).
	Body []byte
	// Fresh is for how long the upstream says that there is nothing newer.
	Fresh time.Duration
	// NoStore says that the upstream forbids storing the document, RFC 9111
	// section 5.2.2.5.
	NoStore bool
	// Fields are the end-to-end header fields of the last answer, of a tree's
	// document; nil for others.
	Fields http.Header
	// Received is how many bytes of bodies came, as they were on the way.
	Received int64

	next progress // with this response
}

// Fetch asks the upstream until ctx ends. Each request has fields besides the
// configured ones, which go first; a token's endpoint does not get them. The error
// is a *Fault: what came is neither a body with a 200 nor a 304.
func (c *Client) Fetch(ctx context.Context, transport http.RoundTripper, fields http.Header) (Response, error) {
	c.transport, c.fields, c.received = transport, fields, 0
	out, err := c.fetch(ctx)
	if err != nil {
		c.release()
		return Response{}, asFault(err)
	}
	return out, nil
}

func (c *Client) fetch(ctx context.Context) (Response, error) {
	begun := time.Now()
	read := c.fetchWhole
	if c.reading.Pages != nil {
		read = c.walk
	}
	next := c.committed
	got, err := read(ctx, &next)
	if err != nil {
		return Response{}, err
	}
	body := got.text
	if body != nil && c.reading.Append != nil {
		if body, err = next.extend(got.text, c.reading.Append, c.reading.MaxBody); err != nil {
			c.Discard()
			return Response{}, err
		}
	}
	if body != nil && (len(c.reading.Since) > 0 || c.request.tellsTime()) {
		next.note(got.text, c.reading.Since, serverTime(got.header, begun))
	}
	return Response{Body: body, Fresh: next.fresh, NoStore: next.noStore, Fields: next.fields, Received: c.received, next: next}, nil
}

// Commit moves on to a response that was published.
func (c *Client) Commit(r Response) {
	c.committed = r.next
	c.release()
}

// Discard drops a response that was refused. The next request is
// unconditional: an upstream may send what was refused and what was published
// under the same validators.
func (c *Client) Discard() {
	c.committed.validators = validators{}
	c.release()
}

// fetchWhole makes one conditional request. The page has no text if the
// document has not changed.
func (c *Client) fetchWhole(ctx context.Context, next *progress) (page, error) {
	got, err := c.fetchPage(ctx, "")
	if err != nil {
		return page{}, err
	}
	if got.text != nil {
		next.validators = validators{got.url.String(), got.header.Get("ETag"), got.header.Get("Last-Modified")}
	}
	next.confirm(got)
	if c.request.tree {
		next.keepFields(got)
	}
	return got, nil
}

// page is one answer.
type page struct {
	text   []byte // nil: not modified (304)
	header http.Header
	url    *url.URL
}

// fetchPage makes one request, for the configured URL if target is empty, or
// else for another one of the same host.
func (c *Client) fetchPage(ctx context.Context, target string) (page, error) {
	resp, answered, err := c.send(ctx, target)
	if err != nil {
		return page{}, err
	}
	defer resp.Body.Close()
	got := page{header: resp.Header, url: answered.URL}
	if resp.StatusCode == http.StatusNotModified && isConditional(answered.Header) {
		return got, nil
	}
	if f := c.refusal(resp); f != nil {
		return page{}, f
	}
	got.text, err = c.read(ctx, resp)
	if ctx.Err() != nil {
		// Even if the body looks whole: what our own deadline has cut off can
		// end as if the upstream had ended it.
		err = &Fault{Reason: ReasonTimeout, Err: fmt.Errorf("reading body: %w", ctx.Err())}
	}
	if err != nil {
		c.Discard()
		return page{}, err
	}
	return got, nil
}

// refusal returns the fault that an answer is whatever its body, or nil.
func (c *Client) refusal(resp *http.Response) *Fault {
	if c.request.tree {
		return c.request.Unfit(resp.StatusCode, resp.Header)
	}
	return refusal(resp.StatusCode, resp.Header)
}

func isConditional(h http.Header) bool {
	return h.Get("If-None-Match") != "" || h.Get("If-Modified-Since") != ""
}

// condition makes a request conditional if it is for the URL that the
// validators are of, and unconditional if not: a redirect may lead elsewhere
// than the last time, and other resources may have the same entity tags (RFC
// 9110 section 8.8.3). A condition on anything but a GET asks for a 412, RFC
// 9110 section 13.1.2.
func (c *Client) condition(req *http.Request) {
	req.Header.Del("If-None-Match")
	req.Header.Del("If-Modified-Since")
	v := c.committed.validators
	if req.Method != http.MethodGet || req.URL.String() != v.url {
		return
	}
	if v.etag != "" {
		req.Header.Set("If-None-Match", v.etag)
	}
	if v.lastModified != "" {
		req.Header.Set("If-Modified-Since", v.lastModified)
	}
}

// send sends one request, and once more if the upstream refuses a token that
// can be renewed. It returns the request that was answered, too.
func (c *Client) send(ctx context.Context, target string) (*http.Response, *http.Request, error) {
	rejected := ""
	for {
		req, err := c.request.build(ctx, c.committed.success)
		if err == nil && target != "" {
			req.URL, err = url.Parse(target)
		}
		if err != nil {
			return nil, nil, &Fault{Reason: ReasonUnreachable, Err: errors.New("the expanded URL is not valid")}
		}
		if target == "" {
			c.committed.addSince(req.URL, c.reading.Since)
		}
		if req.Header.Get("Accept") == "" {
			req.Header.Set("Accept", "application/json")
		}
		req.Header.Set("Accept-Encoding", acceptEncoding)
		for name, values := range c.fields {
			if _, set := req.Header[name]; !set {
				req.Header[name] = slices.Clone(values)
			}
		}
		c.condition(req)
		token, err := c.request.credentials.authorize(req, c.token, c.transport, rejected)
		if err != nil {
			return nil, nil, err
		}
		if rejected != "" && token == rejected {
			return nil, nil, &Fault{Reason: ReasonUnauthorized, Err: errors.New("401, and the token cannot be renewed yet")}
		}
		resp, answered, err := c.follow(req)
		if err != nil {
			return nil, nil, err
		}
		if resp.StatusCode != http.StatusUnauthorized || c.token == nil || rejected != "" {
			return resp, answered, nil
		}
		// Read to its end within reason, so that the connection can be used again.
		_, _ = io.CopyN(io.Discard, resp.Body, 4<<10)
		resp.Body.Close()
		rejected = token
	}
}

// follow sends one request and follows its redirects. It returns the last
// request, which is the one that was answered.
func (c *Client) follow(req *http.Request) (*http.Response, *http.Request, error) {
	answered := req
	client := http.Client{Transport: hop{c}, CheckRedirect: func(next *http.Request, before []*http.Request) error {
		if c.request.tree {
			return http.ErrUseLastResponse // the client's to follow
		}
		answered = next
		c.condition(next)
		return checkRedirect(next, before)
	}}
	resp, err := client.Do(req)
	if err != nil {
		// A *url.Error names the expanded URL, which may hold a secret.
		var about *url.Error
		if errors.As(err, &about) {
			err = about.Err
		}
		return nil, nil, &Fault{Reason: transportReason(req.Context(), err), Err: err}
	}
	return resp, answered, nil
}
