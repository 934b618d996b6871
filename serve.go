package pollsse

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
)

// ServeHTTP answers as the type's comment says.
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead || isUpgrade(r.Header) {
		return h.passOn(w, r, next)
	}
	h.setHeader(w.Header())
	req, err := h.expand(r)
	if err != nil {
		return caddyhttp.Error(http.StatusBadRequest, err)
	}
	stream := r.Method == http.MethodGet && prefersEventStream(r.Header)
	resume, inQuery := "", false
	if stream {
		resume, inQuery = resumeID(r)
	}
	s, err := sources.join(req.key(h.settingKey), h.seat(r, resume != ""), func(total *counters) *source {
		return newSource(req.key(h.settingKey), req, h.settings, h.link, total)
	})
	if err != nil {
		return h.refuse(w, r, stream, err)
	}
	s.adopt(h.link)
	if stream {
		return h.serveStream(w, r, s, resume, inQuery)
	}
	defer sources.leave(s, h.Name, 0)
	return h.serveDocument(w, r, s)
}

// serveStream answers with an event stream: here, or by handing the connection
// to a writer. The subscription to s ends with the stream.
func (h *Handler) serveStream(w http.ResponseWriter, r *http.Request, s *source, resume string, inQuery bool) error {
	var keep time.Duration
	taken := false
	defer func() {
		if !taken {
			sources.leave(s, h.Name, keep)
		}
	}()
	if len(h.request.forward) > 0 {
		// Only the upstream can tell whether these credentials are good.
		v, err := awaitPoll(r.Context(), s.log, time.Duration(h.Timeout), h.terms.drain.exit)
		if err != nil {
			return nil // the client went away
		}
		if v.denial != nil {
			return h.deny(w, v.denial)
		}
	}
	setStreamHeader(w.Header())
	use := &h.terms
	if h.gzipTerms != nil {
		w.Header().Add("Vary", "Accept-Encoding")
		if acceptsGzip(r.Header) {
			use = h.gzipTerms
			w.Header().Set("Content-Encoding", "gzip")
		}
	}
	s.endpoint.counters.streams.Add(1)
	extra, _ := r.Context().Value(caddyhttp.ExtraLogFieldsCtxKey).(*caddyhttp.ExtraLogFields)
	if extra != nil {
		extra.Set(zap.String("poll_sse", h.Name))
	}
	if h.Delivery == deliveryDirect && mayTakeOver(w, r) && len(directs.start()) > 0 {
		if extra != nil {
			extra.Set(zap.String("delivery", deliveryDirect)) // another line tells of the end
		}
		var err error
		taken, err = h.deliverDirectly(w, r, s, use, cursor{resume: resume}, inQuery)
		if err != nil {
			h.logger.Debug("taking over a connection", zap.Error(err))
		}
		return nil // the header is out
	}
	if c, ok := r.Context().Value(connKey{}).(net.Conn); ok {
		noticeLoss(c, lossTime)
		if r.ProtoMajor == 1 {
			// What the connection is used for next may pause for longer.
			defer noticeLoss(c, 0)
		}
	}
	st := &stream{
		w:        w,
		control:  http.NewResponseController(w),
		log:      s.log,
		key:      use.key,
		cursor:   cursor{resume: resume},
		announce: inQuery,
		retry:    use.retry,
		age:      use.age - rand.N(use.age/10+1),
		drain:    use.drain,
	}
	begun := time.Now()
	why := st.run(r.Context())
	s.endpoint.counters.sentBytes.Add(st.bytes)
	if extra != nil {
		extra.Set(zap.String("ended_by", why))
		extra.Set(zap.Int64("frames", st.frames))
		extra.Set(zap.Int64("sent", st.bytes))
		extra.Set(zap.Duration("streamed", time.Since(begun)))
	}
	if returns(why) {
		keep = keepPlace
	}
	return nil
}

// deliverDirectly sends the header and hands the connection to a writer. It
// tells whether the stream has been handed over with its subscription.
func (h *Handler) deliverDirectly(w http.ResponseWriter, r *http.Request, s *source, use *terms, c cursor, announce bool) (bool, error) {
	w.Header().Set("Connection", "close")
	conn, err := takeOver(w)
	if err != nil {
		return false, err
	}
	sock, err := newSocket(conn)
	if err != nil {
		_ = conn.Close()
		return false, fmt.Errorf("taking the descriptor: %w", err)
	}
	rend := s.log.join(use.key)
	if directs.adopt(newDirect(sock, rend, s, use, c, clientAddr(r), announce)) {
		return true, nil
	}
	rend.leave()
	turnAway(sock) // the process exits
	return false, nil
}

// serveDocument answers with the current document, at once or after a change.
func (h *Handler) serveDocument(w http.ResponseWriter, r *http.Request, s *source) error {
	s.endpoint.counters.answers.Add(1)
	wait := preferredWait(r.Header, time.Duration(h.MaxWait))
	cold := !s.log.view().polled
	v, err := answer{s.log, time.Duration(h.Timeout), wait, h.terms.drain.exit}.get(r)
	switch {
	case r.Context().Err() != nil:
		return nil // the client went away
	case errors.Is(err, errDown) && v.status.reason != reasonTimeout:
		return caddyhttp.Error(http.StatusBadGateway, err)
	case err != nil:
		return caddyhttp.Error(http.StatusGatewayTimeout, err)
	case v.doc == nil:
		return h.deny(w, v.denial)
	}
	if wait > 0 && r.Header.Get("If-None-Match") != "" {
		w.Header().Set("Preference-Applied", "wait="+strconv.Itoa(int(wait/time.Second)))
	}
	// Added, not set: caches on the way append theirs, RFC 9211 section 2.
	w.Header().Add("Cache-Status", cacheStatus(v, cold, time.Duration(h.Interval)))
	writeDocument(w, r, v, h.request.private)
	return nil
}

// deny passes on that the upstream does not accept the client's credentials.
func (h *Handler) deny(w http.ResponseWriter, d *denial) error {
	w.Header().Set("Cache-Control", "private, no-store")
	if d.challenge != "" && d.status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", d.challenge)
	}
	return caddyhttp.Error(d.status, errors.New("the upstream refused the forwarded credentials"))
}

// refuse turns a newcomer away over a limit. A browser's EventSource would
// give up for good on anything but a 200, so it gets a stream that tells it to
// come back later.
func (h *Handler) refuse(w http.ResponseWriter, r *http.Request, stream bool, err error) error {
	reason := reasonSubscribers
	if errors.Is(err, errSources) {
		reason = reasonSources
	}
	retry := jitter(refusedRetry)
	if !stream {
		w.Header().Set("Retry-After", strconv.Itoa(int(retry/time.Second)+1))
		return caddyhttp.Error(http.StatusServiceUnavailable, err)
	}
	setStreamHeader(w.Header())
	w.WriteHeader(http.StatusOK)
	b := appendRetry(nil, retry)
	b = appendStatus(b, h.terms.key.enc.status, status{state: stateRefused, reason: reason, since: time.Now()})
	_, _ = w.Write(b)
	_ = http.NewResponseController(w).Flush()
	return nil
}

// passOn leaves a request to the next handler. Where that changes something,
// the document that the same client would read here is polled again at once.
func (h *Handler) passOn(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	switch r.Method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodConnect:
		return next.ServeHTTP(w, r)
	}
	// Expanded before the next handler rewrites the request.
	req, expandErr := h.expand(r)
	rec := caddyhttp.NewResponseRecorder(w, nil, nil)
	err := next.ServeHTTP(rec, r)
	if err == nil && expandErr == nil && rec.Status() >= 200 && rec.Status() < 400 {
		if s := sources.lookup(req.key(h.settingKey)); s != nil {
			s.pollNow()
		}
	}
	return err
}

// expand makes the upstream request for a client's request.
func (h *Handler) expand(r *http.Request) (upstreamRequest, error) {
	repl, _ := r.Context().Value(caddy.ReplacerCtxKey).(*caddy.Replacer)
	return h.request.expand(repl.GetString, r)
}

// setHeader sets what every answer carries.
func (h *Handler) setHeader(header http.Header) {
	header.Set("X-Content-Type-Options", "nosniff")
	header.Add("Vary", "Accept, Prefer")
	for _, f := range h.request.forward {
		header.Add("Vary", f.field)
	}
}

// seat describes the client to the pool.
func (h *Handler) seat(r *http.Request, returning bool) seat {
	address, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	// Whoever has one IPv6 address has 2^64 of them.
	if ip, err := netip.ParseAddr(address); err == nil && ip.Is6() && !ip.Is4In6() {
		if prefix, err := ip.Prefix(64); err == nil {
			address = prefix.String()
		}
	}
	return seat{
		endpoint:       h.Name,
		client:         address,
		returning:      returning,
		shared:         !h.request.dynamic(),
		maxSources:     h.MaxSources,
		maxSubscribers: h.MaxSubscribers,
	}
}

// resumeID is the version that a returning client has: the browser's header,
// or else the query of a new EventSource. What is no version is ignored.
func resumeID(r *http.Request) (id string, inQuery bool) {
	if id := r.Header.Get("Last-Event-ID"); id != "" {
		if isVersion(id) {
			return id, false
		}
		return "", false
	}
	if id := r.URL.Query().Get("last_event_id"); isVersion(id) {
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
