package pollsse

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/pollsse/caddy-poll-sse/internal/delivery"
	"github.com/pollsse/caddy-poll-sse/internal/feed"
	"github.com/pollsse/caddy-poll-sse/internal/upstream"
)

// Reasons why a request below a tree goes to the next handler; upstream.Fault has
// the others.
const (
	reasonNotForwarded = "not_forwarded" // an Authorization that the upstream would not get
	reasonVaries       = "varies"        // Vary names a field that the upstream did not get
)

// visit is one request below a tree.
type visit struct {
	*Handler
	w        http.ResponseWriter
	r        *http.Request
	next     caddyhttp.Handler
	endpoint *endpoint
	path     string // as the operator sees it
	stream   bool
	post     *upstream.Read // nil: a GET or HEAD
	request  *upstream.Request
	key      [32]byte
	client   admission
}

// serveTree answers a request below a tree: from a document, if the URL is read
// again or a stream asks for it, and with the next handler's answer in every
// other case.
func (h *Handler) serveTree(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if isUpgrade(r.Header) || h.excepted(r) {
		return next.ServeHTTP(w, r)
	}
	v := &visit{Handler: h, w: w, r: r, next: next, endpoint: h.engine.pool.endpointOf(h.Name), path: shorten(r.URL.EscapedPath())}
	switch {
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		if !isPlain(r.Header) {
			return next.ServeHTTP(w, r)
		}
	case h.Reads != nil && r.Method == h.Reads.Method && isPlain(r.Header):
		read, ok := h.read(r)
		if !ok {
			return h.passOn(w, r, next)
		}
		v.post = &read
	default:
		return h.passOn(w, r, next)
	}
	request, err := h.expand(r)
	if err != nil {
		v.endpoint.urls.note(v.path, badRequest(err).Reason)
		return next.ServeHTTP(w, r)
	}
	if v.post != nil {
		request = request.WithBody(v.post.ContentType, v.post.Body)
	}
	v.request, v.key = request, request.Key(h.readingKey)
	v.stream = r.Method != http.MethodHead && delivery.PrefersEventStream(r.Header)
	resume, inQuery := "", false
	if v.stream {
		resume, inQuery = resumeID(r)
	}
	v.client = h.admission(r, request.Key(nil), v.stream, resume != "")
	if reason := v.before(); reason != "" {
		return v.handOn(reason)
	}
	s, err := h.engine.pool.subscribe(v.key, v.client, func(total *counters) *source {
		made := newSource(request, h.Reading, h.claim, total)
		made.parents.add(r.Context())
		return made
	})
	h.warnOfProxy(r)
	if err != nil {
		if !v.stream {
			return v.handOn(refusalReason(err))
		}
		h.setHeader(w.Header())
		return h.refuse(w, r, true, err)
	}
	shown, err := s.source.log.AwaitPoll(r.Context(), time.Duration(h.Timeout), h.engine.exit)
	if err != nil {
		s.unsubscribe(0)
		return nil // the client went away
	}
	h.closeAtExit(w, r)
	if reason := v.after(shown); reason != "" {
		s.unsubscribe(0)
		return v.handOn(reason)
	}
	v.endpoint.urls.reads(v.reader(), v.key, h.MaxSources)
	h.setHeader(w.Header())
	if v.stream {
		return h.serveStream(w, r, s, resume, inQuery)
	}
	defer s.unsubscribe(0)
	if v.post != nil {
		s.endpoint.counters.answers.WithLabelValues(s.endpoint.counters.name, "document").Inc()
		delivery.WriteAnswer(w, r, shown, v.post.Answer(shown.Document.Text, h.Echo), h.zipped, s.source.upkeep.Load().schedule.interval)
		return nil
	}
	return h.serveDocument(w, r, s)
}

// unread is why the first request for a URL goes to the next handler. The
// operator need not see it.
const unread = "unread"

// before returns why a request goes to the next handler before the upstream is
// asked, or "".
func (v *visit) before() string {
	if v.Handler.request.Ignores(v.r.Header) {
		v.advise(reasonNotForwarded, errors.New("requests carry an Authorization that the upstream would not get; write forward Authorization, or header_up -Authorization if it does not look at it"))
		return reasonNotForwarded
	}
	source := v.engine.pool.lookup(v.key)
	if source == nil {
		reason, read := v.endpoint.urls.known(v.key, time.Duration(v.Linger))
		if reason == "" && (v.r.Method == http.MethodHead || !read && !v.stream) {
			return unread
		}
		return reason
	}
	switch shown := source.log.View(); {
	case shown.Polled:
		return v.after(shown)
	case v.r.Method == http.MethodHead:
		return unread
	}
	return ""
}

// after returns why a request goes to the next handler once the upstream was
// asked, or "".
func (v *visit) after(shown feed.View) string {
	if d := shown.Denial; d != nil && d.Status == http.StatusNotAcceptable {
		v.endpoint.urls.remember(knownURL{key: v.key, client: v.client.client, reason: shown.Status.Reason}, v.MaxSources)
		return shown.Status.Reason
	}
	switch {
	case v.stream:
	case shown.Denial != nil, shown.HandOn, shown.Document == nil && shown.Polled:
		return shown.Status.Reason
	case shown.Document == nil:
		return upstream.ReasonTimeout
	}
	return v.varies(shown)
}

// varies returns the reason if the document may be another one for this client.
func (v *visit) varies(shown feed.View) string {
	field := v.Handler.request.VariesBy(shown.Fields, v.r.Header)
	if field == "" {
		return ""
	}
	v.adviseVary(field)
	return reasonVaries
}

func (v *visit) adviseVary(field string) {
	write := field
	switch field {
	case "*":
		v.advise(reasonVaries, errors.New("answers depend on more than the request (Vary: *); write except for them"))
		return
	case "Cookie":
		write = "cookie:<name>"
	}
	v.advise(reasonVaries, fmt.Errorf("answers depend on %s; write forward %s", field, write))
}

// advise says once an hour what to write so that fewer requests are handed on.
func (v *visit) advise(reason string, what error) {
	if v.endpoint.counters.advised.news(reason, refusalFor) {
		v.logger.Warn("requests go to the next handler", zap.String("poll_sse", v.Name), zap.String("reason", reason), zap.Error(what))
	}
}

// handOn leaves a request to the next handler. A stream gets a problem instead: a
// page's EventSource would only learn that it got no stream.
func (v *visit) handOn(reason string) error {
	if v.stream && reason != upstream.ReasonEventStream {
		v.setHeader(v.w.Header())
		return v.fail(v.w, v.r, notDocument(reason))
	}
	if reason != unread {
		v.endpoint.urls.note(v.path, reason)
		return v.next.ServeHTTP(v.w, v.r)
	}
	return v.next.ServeHTTP(&glance{ResponseWriterWrapper: &caddyhttp.ResponseWriterWrapper{ResponseWriter: v.w}, seen: v.seen}, v.r)
}

// seen looks at the next handler's answer. Only a URL whose answer may be a
// document is remembered, so that no other is asked for by us.
func (v *visit) seen(status int, h http.Header) {
	if v.r.Method == http.MethodHead {
		return
	}
	if fault := v.request.Unfit(status, h); fault != nil && status != http.StatusNotModified {
		v.endpoint.urls.note(v.path, fault.Reason)
		if fault.Advice() && !v.request.RefusesClient(status) {
			v.advise(fault.Reason, fault.Err)
		}
		return
	}
	if field := v.Handler.request.VariesBy(h, v.r.Header); field != "" {
		v.endpoint.urls.note(v.path, reasonVaries)
		v.adviseVary(field)
		return
	}
	v.endpoint.urls.remember(knownURL{key: v.key, client: v.client.client}, v.MaxSources)
}

// notDocument is the problem of a stream for what is no document.
func notDocument(reason string) problem {
	p := problem{Status: http.StatusNotAcceptable, Reason: reason, Detail: upstreamProblems[reason]}
	if p.Detail == "" {
		p.Detail = "The upstream answers with no document."
	}
	p.Detail += " There is no stream of it; the server's log tells more."
	return p
}

func (v *visit) reader() reader { return reader{v.client.client, v.request.Client()} }

// pokeReader polls the documents that the client of a request has read last. It
// is called when the request has changed something. The request was expanded
// before the next handler could rewrite it.
func (h *Handler) pokeReader(ctx context.Context, client netip.Addr, req *upstream.Request) {
	for _, key := range h.engine.pool.endpointOf(h.Name).urls.readBy(reader{client, req.Client()}) {
		if s := h.engine.pool.lookup(key); s != nil {
			s.pollNow(ctx)
		}
	}
}

// endpointOf returns what belongs to a name.
func (p *pool) endpointOf(name string) *endpoint {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.endpoint(name)
}

// excepted reports whether a request goes straight to the next handler.
func (h *Handler) excepted(r *http.Request) bool {
	matches, err := h.except.MatchWithError(r)
	return matches || err != nil
}

// isPlain reports whether a request may be answered with a document: no
// navigation, image or script (Fetch Metadata, Sec-Fetch-Dest), no part of one,
// no condition on a version that is the upstream's, and no method behind the
// method.
func isPlain(h http.Header) bool {
	if dest := h.Get("Sec-Fetch-Dest"); dest != "" && dest != "empty" {
		return false
	}
	for _, field := range []string{"Range", "If-Range", "If-Match", "If-Unmodified-Since", "X-Http-Method-Override", "X-Http-Method", "X-Method-Override"} {
		if h.Get(field) != "" {
			return false
		}
	}
	return true
}

// glance is a response writer that looks at status and header.
type glance struct {
	*caddyhttp.ResponseWriterWrapper
	seen func(status int, h http.Header)
	done bool
}

// WriteHeader implements http.ResponseWriter.
func (g *glance) WriteHeader(status int) {
	if !g.done && status >= 200 {
		g.done = true
		g.seen(status, g.Header())
	}
	g.ResponseWriterWrapper.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (g *glance) Write(b []byte) (int, error) {
	if !g.done {
		g.WriteHeader(http.StatusOK)
	}
	return g.ResponseWriterWrapper.Write(b)
}

// checkTree reports options that a tree excludes, and those that need one.
func (h *Handler) checkTree() error {
	var errs []error
	if h.Echo != "" && h.Reads == nil {
		errs = append(errs, errors.New("echo: only with reads, whose answers return a member of the body"))
	}
	if !h.Tree {
		if len(h.Except) > 0 {
			errs = append(errs, errors.New("except: only with tree; a matcher says which requests this handler gets"))
		}
		if h.Reads != nil {
			errs = append(errs, errors.New("reads: only with tree; method and body ask an upstream by POST"))
		}
		return errors.Join(errs...)
	}
	for _, o := range []struct {
		name  string
		given bool
	}{
		{"select", h.Select != ""}, {"omit", len(h.Omit) > 0}, {"since", len(h.Since) > 0}, {"append", h.Append != nil}, {"paginate", h.Paginate != nil},
		{"upstream_format", h.UpstreamFormat == upstream.FormatNDJSON},
	} {
		if o.given {
			errs = append(errs, fmt.Errorf("%s: not with tree, whose documents are the upstream's own answers", o.name))
		}
	}
	return errors.Join(errs...)
}

// checkExcept checks the paths that go straight to the next handler.
func (h *Handler) checkExcept() error {
	var errs []error
	for _, path := range h.Except {
		if !strings.HasPrefix(path, "/") && !strings.HasPrefix(path, "*") {
			errs = append(errs, fmt.Errorf("except %s: need a path as in a matcher, such as /api/export/*", path))
		}
	}
	return errors.Join(errs...)
}
