package pollsse

import (
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/pollsse/caddy-poll-sse/internal/delivery"
	"github.com/pollsse/caddy-poll-sse/internal/feed"
	"github.com/pollsse/caddy-poll-sse/internal/upstream"
)

// ServeHTTP answers as the type's comment says.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if h.Tree {
		return h.serveTree(w, r, next)
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead || isUpgrade(r.Header) {
		return h.passOn(w, r, next)
	}
	h.setHeader(w.Header())
	h.closeAtExit(w, r)
	req, err := h.expand(r)
	if err != nil {
		p := badRequest(err)
		h.tell(p)
		return h.fail(w, r, p)
	}
	stream := r.Method == http.MethodGet && delivery.PrefersEventStream(r.Header)
	resume, inQuery := "", false
	if stream {
		resume, inQuery = resumeID(r)
	}
	s, err := h.engine.pool.subscribe(req.Key(h.readingKey), h.admission(r, req.Key(nil), stream, resume != ""), func(total *counters) *source {
		made := newSource(req, h.Reading, h.claim, total)
		made.parents.add(r.Context())
		return made
	})
	h.warnOfProxy(r)
	if err != nil {
		return h.refuse(w, r, stream, err)
	}
	if stream {
		return h.serveStream(w, r, s, resume, inQuery)
	}
	defer s.unsubscribe(0)
	return h.serveDocument(w, r, s)
}

// serveStream answers with an event stream.
func (h *Handler) serveStream(w http.ResponseWriter, r *http.Request, s *subscription, resume string, inQuery bool) error {
	if h.request.Private() {
		// Only the upstream can tell whether this client may read it.
		v, err := s.source.log.AwaitPoll(r.Context(), time.Duration(h.Timeout), h.engine.exit)
		if err != nil || v.Denial != nil {
			s.unsubscribe(0)
		}
		if err != nil {
			return nil // the client went away
		}
		h.closeAtExit(w, r)
		if v.Denial != nil {
			return h.deny(w, v.Denial)
		}
	} else if s.source.claim.cluster != nil {
		// Another node may have the document: to begin with, a client need not
		// be told to wait for what comes in a moment.
		if _, err := s.source.log.AwaitPoll(r.Context(), sharedWait, h.engine.exit); err != nil {
			s.unsubscribe(0)
			return nil // the client went away
		}
	}
	start := "new"
	if resume != "" {
		if start = "resumed"; !s.source.log.Has(resume) {
			start = "forgotten"
		}
	}
	count := s.endpoint.counters
	count.streams.WithLabelValues(count.name, start).Inc()
	extra, _ := r.Context().Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields)
	if extra != nil {
		extra.Set(zap.String("poll_sse", h.Name))
	}
	open := &openStream{handler: h, subscription: s, extra: extra}
	if h.engine.delivery.Serve(w, r, delivery.Stream{
		Log: s.source.log, Key: h.key, Resume: resume, Announce: inQuery,
		Private: h.request.Private(), Options: h.streamOptions(), Ended: open.ended,
	}) {
		open.extra = nil // with the request
		if extra != nil {
			extra.Set(zap.String("delivery", deliveryDirect)) // another line tells of the end
		}
	}
	return nil
}

const (
	// sharedWait is how long a stream waits for a document that another node
	// may have.
	sharedWait = 500 * time.Millisecond
	// refusedRetry is what a refused client waits, before jitter.
	refusedRetry = 30 * time.Second
	// keepPlace is how long the place of a client that the server has sent
	// away is kept.
	keepPlace = 15 * time.Second
)

// openStream is a stream that is being delivered, and what it holds.
type openStream struct {
	handler      *Handler
	subscription *subscription
	extra        *caddyhttp.ExtraLogFields // of the access log; may be nil
}

// ended counts what the stream has sent, says how it ended and lets go of the
// source.
func (s *openStream) ended(e delivery.End) {
	h := s.handler
	count := s.subscription.endpoint.counters
	count.ended.WithLabelValues(count.name, string(e.Reason)).Inc()
	count.streamTime.WithLabelValues(count.name).Observe(e.Lasted.Seconds())
	keep := time.Duration(0)
	if e.Reason.Returns() {
		keep = keepPlace
	}
	s.subscription.unsubscribe(keep)
	if e.Err != nil {
		h.logger.Debug("taking over a connection", zap.String("poll_sse", h.Name), zap.Error(e.Err))
	}
	if !e.Direct {
		if s.extra != nil {
			s.extra.Set(zap.String("ended_by", string(e.Reason)))
			s.extra.Set(zap.Int64("frames", e.Frames))
			s.extra.Set(zap.Int64("sent", e.Bytes))
			s.extra.Set(zap.Duration("streamed", e.Lasted))
		}
		return
	}
	level := zap.DebugLevel
	if h.logged {
		level = zap.InfoLevel
	}
	if entry := h.logger.Check(level, "stream ended"); entry != nil {
		entry.Write(
			zap.String("poll_sse", h.Name),
			zap.String("remote_ip", e.Client.Addr().String()),
			zap.Uint16("remote_port", e.Client.Port()),
			zap.String("ended_by", string(e.Reason)),
			zap.Int64("frames", e.Frames),
			zap.Int64("sent", e.Bytes),
			zap.Duration("streamed", e.Lasted),
		)
	}
}

// serveDocument answers with the current document, at once or after a change.
func (h *Handler) serveDocument(w http.ResponseWriter, r *http.Request, s *subscription) error {
	v, notModified, err := h.engine.delivery.ServeDocument(w, r, delivery.Document{
		Log: s.source.log, Timeout: time.Duration(h.Timeout), MaxWait: time.Duration(h.MaxWait),
		Interval: s.source.upkeep.Load().schedule.interval, Private: h.request.Private(), Gzip: h.zipped,
		Reload: h.streamOptions().Reload,
	})
	result := "document"
	switch {
	case r.Context().Err() != nil:
		result = "gone"
	case errors.Is(err, delivery.ErrDenied):
		result = "denied"
	case err != nil:
		result = "no_document"
	case notModified:
		result = "not_modified"
	}
	s.endpoint.counters.answers.WithLabelValues(s.endpoint.counters.name, result).Inc()
	switch {
	case err == nil, r.Context().Err() != nil: // the client went away
		return nil
	case errors.Is(err, delivery.ErrDenied):
		return h.deny(w, v.Denial)
	}
	return h.fail(w, r, noDocument(v, errors.Is(err, delivery.ErrCold)))
}

// deny passes on that the upstream does not accept the client's credentials.
func (h *Handler) deny(w http.ResponseWriter, d *feed.Denial) error {
	w.Header().Set("Cache-Control", "private, no-store")
	if d.Challenge != "" && d.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", d.Challenge)
	}
	return caddyhttp.Error(d.Status, errors.New("the upstream refused the client"))
}

// refusalReason returns the reason of a refusal over a limit.
func refusalReason(err error) string {
	switch err {
	case errSources:
		return reasonSources
	case errClient:
		return reasonClient
	}
	return reasonSubscribers
}

// refuse turns a newcomer away if a limit is reached. A browser's EventSource would
// give up for good on anything but a 200, so it gets a stream that tells it to
// come back later.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, stream bool, err error) error {
	reason := refusalReason(err)
	advice := ""
	if reason == reasonSources && hidesClients(r) {
		advice = proxyAdvice
	}
	retry := delivery.Jitter(refusedRetry)
	p := overLimit(reason, advice, retry)
	h.tell(p)
	if !stream {
		return h.fail(w, r, p)
	}
	delivery.Refuse(w, h.key, retry, reason, advice)
	return nil
}

// passOn leaves a request to the next handler. If that changes something, the
// document that the same client would read here is polled again at once, and
// below a tree those that it has read.
func (h *Handler) passOn(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodConnect:
		return next.ServeHTTP(w, r)
	}
	if !*h.Poke {
		return next.ServeHTTP(w, r)
	}
	// Expanded before the next handler rewrites the request.
	req, expandErr := h.expand(r)
	client := h.admission(r, [32]byte{}, false, false).client
	rec := caddyhttp.NewResponseRecorder(w, nil, nil)
	err := next.ServeHTTP(rec, r)
	if err == nil && expandErr == nil && rec.Status() >= 200 && rec.Status() < 400 {
		if h.Tree {
			h.pokeReader(r.Context(), client, req)
		} else if s := h.engine.pool.lookup(req.Key(h.readingKey)); s != nil {
			s.poller.total.pokes.WithLabelValues(s.poller.total.name, pokedByWrite).Inc()
			s.pollNow(r.Context())
		}
	}
	return err
}

// expand makes the upstream request for a client's request.
func (h *Handler) expand(r *http.Request) (*upstream.Request, error) {
	repl, _ := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	return h.request.Expand(repl.GetString, r)
}

// setHeader sets what every answer carries.
func (h *Handler) setHeader(header http.Header) {
	header.Set("X-Content-Type-Options", "nosniff")
	header.Add("Vary", h.vary)
}

// closeAtExit has the connection end with the answer if its server is shutting
// down or is about to; HTTP/2 then says GOAWAY. The server says that once, to the
// connections that it has by then. It would wait for one whose handshake ends
// later until that has been idle for minutes. A handler that waits before it
// answers calls this again.
func (h *Handler) closeAtExit(w http.ResponseWriter, r *http.Request) {
	select {
	case <-h.streamOptions().Reload:
	default:
		if !caddy.Exiting() && !h.claim.generation.olderThan(h.engine.started.Load()) {
			return
		}
	}
	delivery.CloseConnection(w, r)
}

// resumeID returns the version that a returning client has: from the browser's
// header, or else from the query of a new EventSource. Anything that is not a
// version is ignored.
func resumeID(r *http.Request) (id string, inQuery bool) {
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		if feed.IsVersion(id) {
			return id, false
		}
		return "", false
	}
	if id := r.URL.Query().Get("last_event_id"); feed.IsVersion(id) {
		return id, true
	}
	return "", false
}

func isUpgrade(h http.Header) bool {
	for _, line := range h.Values("Connection") {
		for option := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(option), "upgrade") {
				return true
			}
		}
	}
	return false
}
