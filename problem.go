package pollsse

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/pollsse/caddy-poll-sse/internal/feed"
	"github.com/pollsse/caddy-poll-sse/internal/upstream"
)

// Reasons besides those of upstream.Fault.
const (
	reasonSubscribers = "too_many_streams"   // max_subscribers
	reasonSources     = "too_many_documents" // max_sources
	reasonClient      = "too_many_of_client" // max_streams_per_client
	reasonPaused      = "paused"             // by the admin API
)

// problem is an error response (RFC 9457), for people who wonder why a page
// stays empty. It says nothing about the upstream but the reason.
type problem struct {
	Title  string `json:"title"`
	Status int    `json:"status"`
	Reason string `json:"reason"` // one of those that docs/protocol.md lists
	Detail string `json:"detail"` // what is wrong, and what to do

	retryAfter time.Duration // 0: coming back changes nothing
}

func (p *problem) Error() string { return p.Reason + ": " + p.Detail }

// fail answers with a problem. A server with error routes gets it as an error
// instead, for its own pages.
func (h *Handler) fail(w http.ResponseWriter, r *http.Request, p problem) error {
	header := w.Header()
	header.Set("Cache-Control", "no-store")
	if p.retryAfter > 0 {
		header.Set("Retry-After", strconv.Itoa(int((p.retryAfter+time.Second-1)/time.Second)))
	}
	if h.errorRoutes {
		return caddyhttp.Error(p.Status, &p)
	}
	p.Title = http.StatusText(p.Status)
	var body bytes.Buffer
	e := json.NewEncoder(&body)
	e.SetEscapeHTML(false)
	_ = e.Encode(p) // strings and a number
	header.Set("Content-Type", "application/problem+json")
	header.Set("Content-Length", strconv.Itoa(body.Len()))
	w.WriteHeader(p.Status)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body.Bytes())
	}
	return nil
}

// badRequest returns the problem of a request from which no upstream request can
// be made.
func badRequest(err error) problem {
	p := problem{Status: http.StatusBadRequest, Reason: "invalid_value", Detail: "No upstream request can be made from this one."}
	var v *upstream.ValueError
	if !errors.As(err, &v) {
		return p
	}
	place, clients := clientPlace(v.Placeholder)
	switch {
	case v.Why != "":
		p.Detail = "Not accepted: " + place + " " + v.Why + "."
	case clients:
		p.Reason, p.Detail = "missing_value", "This document depends on "+place+". Send it with the request."
	default:
		p.Reason, p.Detail = "missing_value", "This document depends on "+place+", which has no value here. A login may be missing, or the configuration may name it wrongly."
	}
	return p
}

// clientPlace says what a client knows a placeholder as, and whether the client
// itself sends its value.
func clientPlace(name string) (place string, clients bool) {
	for _, known := range []struct{ prefix, place string }{
		{"http.request.uri.query.", "the query parameter %q"},
		{"http.request.header.", "the header field %q"},
		{"http.request.cookie.", "the cookie %q"},
		{"http.request.uri.path.", "segment %s of the path, counted from 0"},
	} {
		if rest, ok := strings.CutPrefix(name, known.prefix); ok {
			return fmt.Sprintf(known.place, rest), true
		}
	}
	switch name {
	case "path":
		return "the path for the upstream", false
	case "body":
		return "the body for the upstream", false
	case "forward":
		return "what the option forward names", false
	}
	return "{" + name + "}", false
}

// noDocument returns the problem of a request for a document that cannot be had.
// A source without a document is forgotten after failedFor, so that the next
// request makes a new one, which polls at once.
func noDocument(v feed.View, cold bool) problem {
	p := problem{Status: http.StatusBadGateway, Reason: v.Status.Reason, retryAfter: failedFor}
	if cold || p.Reason == "" {
		p.Reason = upstream.ReasonTimeout
	}
	if p.Reason == upstream.ReasonTimeout {
		p.Status = http.StatusGatewayTimeout
	}
	p.Detail = upstreamProblems[p.Reason]
	if p.Detail == "" {
		p.Detail = "The upstream sends no document."
	}
	p.Detail += " Try again later; the server's log says more."
	return p
}

// upstreamProblems says what the reasons of a failed poll mean.
var upstreamProblems = map[string]string{
	upstream.ReasonUnreachable:  "The upstream cannot be reached.",
	upstream.ReasonTLS:          "The upstream's certificate is not valid, or the TLS handshake failed.",
	upstream.ReasonTimeout:      "The upstream has sent no document in time.",
	upstream.ReasonRedirect:     "The upstream redirects to another place, or too often.",
	upstream.ReasonStatus:       "The upstream answers with an error.",
	upstream.ReasonRateLimited:  "The upstream asks for fewer requests.",
	upstream.ReasonEmpty:        "The upstream's answer is empty.",
	upstream.ReasonTruncated:    "The upstream's answer ends early.",
	upstream.ReasonTooLarge:     "The upstream's answer is larger than max_body.",
	upstream.ReasonNotJSON:      "The upstream's answer is not JSON.",
	upstream.ReasonTooDeep:      "The upstream's answer is nested too deeply.",
	upstream.ReasonEncoding:     "The upstream's answer has a content coding that is broken or unknown.",
	upstream.ReasonUnauthorized: "The upstream does not accept the server's credentials.",
	upstream.ReasonForbidden:    "The upstream forbids this document.",
	upstream.ReasonNoMatch:      "The upstream's answer has nothing at the place that select, append or paginate name.",
	upstream.ReasonPages:        "The upstream's pages do not make one document.",
	upstream.ReasonCredentials:  "The server has no token for the upstream.",

	upstream.ReasonEventStream: "The upstream answers with an event stream of its own.",
	upstream.ReasonSetsCookie:  "The upstream's answer sets a cookie, which is for one client alone.",
	upstream.ReasonPrivate:     "The upstream's answer is for one client alone.",
	reasonNotForwarded:         "The request has an Authorization that the upstream would not get.",
	reasonVaries:               "The upstream's answer depends on a header field that it would not get.",
}

// overLimit is the problem of a newcomer over a limit.
func overLimit(reason, advice string, retry time.Duration) problem {
	p := problem{Status: http.StatusServiceUnavailable, Reason: reason, retryAfter: retry}
	switch reason {
	case reasonSubscribers:
		p.Detail = "There are already as many streams and waiting requests as max_subscribers allows."
	case reasonSources:
		p.Detail = "There are already as many documents as max_sources allows, in all or for one client address."
	case reasonClient:
		p.Detail = "There are already as many streams from this client address as max_streams_per_client allows."
	}
	p.Detail += " Try again later."
	if advice != "" {
		p.Detail += " (" + advice + ")"
	}
	return p
}

// causes remembers why requests or polls failed lately, so that each cause has
// one line in the log, however many fail alike. There are at most as many as
// there are reasons, and placeholders and limits in the configuration.
type causes struct {
	mu   sync.Mutex
	told map[string]time.Time
}

// refusalFor is how long the log does not repeat why requests are refused.
const refusalFor = time.Hour

// news reports whether a cause was not logged for a while, and notes it.
func (c *causes) news(cause string, while time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if at, ok := c.told[cause]; ok && time.Since(at) < while {
		return false
	}
	if c.told == nil {
		c.told = make(map[string]time.Time)
	}
	c.told[cause] = time.Now()
	return true
}

// forget makes news of every cause again.
func (c *causes) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	clear(c.told)
}

// tell logs why requests are refused. The poller logs the upstream's failures.
func (h *Handler) tell(p problem) {
	if h.causes.news(p.Error(), refusalFor) {
		h.logger.Warn("requests are refused", zap.String("poll_sse", h.Name), zap.Int("status", p.Status), zap.String("reason", p.Reason), zap.String("detail", p.Detail))
	}
}
