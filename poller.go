package pollsse

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/pollsse/caddy-poll-sse/jsondiff"
)

// Reasons of the states stale, denied and refused: all that a subscriber
// learns about a failure. The log of the server has the details.
const (
	reasonUnreachable  = "unreachable"        // no connection, or it broke before an answer
	reasonTLS          = "tls"                // the certificate or the handshake is not good
	reasonTimeout      = "timeout"            // no complete answer within timeout
	reasonRedirect     = "redirect"           // to another scheme or host, or too many
	reasonStatus       = "status"             // a status other than 200 and 304
	reasonRateLimited  = "rate_limited"       // 429
	reasonEmpty        = "empty"              // no body
	reasonTruncated    = "truncated"          // the body ended early
	reasonTooLarge     = "too_large"          // more than max_body
	reasonNotJSON      = "not_json"           // not a JSON text
	reasonTooDeep      = "too_deep"           // nested too deeply
	reasonEncoding     = "encoding"           // a content coding that was not asked for, or a broken one
	reasonUnauthorized = "unauthorized"       // 401 for forwarded credentials
	reasonForbidden    = "forbidden"          // 403 for forwarded credentials
	reasonSubscribers  = "too_many_streams"   // max_subscribers
	reasonSources      = "too_many_documents" // max_sources
)

// fault is a poll that brought no document.
type fault struct {
	reason string
	err    error
	// denial holds the upstream's status and challenge where it refused
	// forwarded credentials.
	denial *denial
}

func (f *fault) Error() string { return f.reason + ": " + f.err.Error() }
func (f *fault) Unwrap() error { return f.err }

// denial is the upstream's answer to credentials that it does not accept.
type denial struct {
	status    int    // 401 or 403
	challenge string // WWW-Authenticate, RFC 9110 section 11.6.1
}

// schedule says when to poll.
type schedule struct {
	interval time.Duration
	timeout  time.Duration // of one poll, from dial to the last byte
}

// backoffCap bounds the pause after repeated failures.
const backoffCap = time.Minute

// next is the pause before the next poll, counted from the start of the last
// one, after so many failures in a row. Failures back off exponentially, with
// jitter so that sources that failed together do not come back together, and
// never poll faster than success would.
func (s schedule) next(failures int) time.Duration {
	if failures == 0 {
		return s.interval
	}
	ceiling := max(s.interval, backoffCap)
	d := s.interval
	for range failures {
		if d *= 2; d >= ceiling {
			d = ceiling
			break
		}
	}
	return s.interval + rand.N(d-s.interval+1)
}

// poller fetches the document of one source. It belongs to the source's
// goroutine.
type poller struct {
	request  upstreamRequest
	maxBody  int64
	schedule schedule
	// link gives the client and logger of the newest configuration that
	// uses this source.
	link  func() link
	total *counters

	etag, lastModified string // validators of the last document, RFC 9110 section 8.8
	body               bytes.Buffer
}

// link is how a source reaches the world: what a reload may replace without
// disturbing it.
type link struct {
	transport  http.RoundTripper
	logger     *zap.Logger
	generation uint64 // of the configuration; the newest wins
}

// retire closes the connections of a link that was replaced: nobody else does,
// and each reload would leave some behind.
func (lk link) retire() {
	(&http.Client{Transport: lk.transport}).CloseIdleConnections()
}

// run polls until ctx ends, and at once where poke says so. It is the only
// writer of the log.
func (p *poller) run(ctx context.Context, d *differ, l *log, poke <-chan struct{}) {
	failures := 0
	for {
		begun := time.Now()
		body, err := p.fetch(ctx)
		if ctx.Err() != nil {
			return
		}
		p.total.polls.Add(1)
		p.total.upstreamBytes.Add(int64(len(body)))
		out := publication{state: stateLive, at: time.Now(), validated: true}
		if err == nil && body != nil {
			out.doc, out.change, err = d.next(body, l.mergeReaders.Load() > 0)
			if err != nil {
				// The validators belong to a body that was refused.
				p.etag, p.lastModified = "", ""
				err = &fault{reason: parseReason(err), err: err}
			}
		}
		if err != nil {
			failures++
			p.total.failures.Add(1)
			var f *fault
			errors.As(err, &f)
			out = publication{state: stateStale, reason: f.reason, at: out.at, denial: f.denial}
			if f.denial != nil {
				out.state = stateDenied
			} else if d.current == nil {
				out.state = stateWaiting
			}
		} else {
			failures = 0
		}
		if out.doc != nil {
			p.total.changes.Add(1)
		}
		p.report(l.view(), out, err)
		l.publish(out)
		if out.denial != nil {
			return
		}
		timer := time.NewTimer(time.Until(begun.Add(p.schedule.next(failures))))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case <-poke:
			timer.Stop()
		}
	}
}

// report logs changes of state, not repetitions.
func (p *poller) report(was view, now publication, err error) {
	log := p.link().logger.With(zap.String("upstream", p.request.display))
	switch {
	case err != nil && (!was.polled || was.status.state == stateLive || was.status.reason != now.reason):
		log.Warn("upstream does not give a document", zap.String("reason", now.reason), zap.Error(err))
	case err == nil && was.polled && was.status.state != stateLive:
		log.Info("upstream is back", zap.Duration("after", now.at.Sub(was.status.since)))
	}
}

func parseReason(err error) string {
	switch {
	case errors.Is(err, jsondiff.ErrDepth):
		return reasonTooDeep
	case errors.Is(err, jsondiff.ErrSize):
		return reasonTooLarge
	}
	return reasonNotJSON
}

// fetch makes one conditional request. It returns the decoded body of a 200,
// valid until the next call, or nil for a 304; any other outcome is a *fault.
func (p *poller) fetch(ctx context.Context) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, p.schedule.timeout)
	defer cancel()
	req, err := p.request.build(ctx)
	if err != nil {
		return nil, &fault{reason: reasonUnreachable, err: err}
	}
	if req.Header.Get("Accept") == "" {
		req.Header.Set("Accept", "application/json")
	}
	req.Header.Set("Accept-Encoding", "gzip")
	if p.etag != "" {
		req.Header.Set("If-None-Match", p.etag)
	}
	if p.lastModified != "" {
		req.Header.Set("If-Modified-Since", p.lastModified)
	}
	lk := p.link()
	client := http.Client{Transport: lk.transport, CheckRedirect: sameOrigin}
	defer func() {
		// The link may have been replaced with this poll in flight.
		if p.link().generation != lk.generation {
			lk.retire()
		}
	}()
	resp, err := client.Do(req)
	if err != nil {
		// A *url.Error names the expanded URL, which may hold a secret.
		var about *url.Error
		if errors.As(err, &about) {
			err = about.Err
		}
		return nil, &fault{reason: transportReason(ctx, err), err: err}
	}
	defer resp.Body.Close()
	switch {
	case resp.StatusCode == http.StatusNotModified && (p.etag != "" || p.lastModified != ""):
		return nil, nil
	case p.request.forwards && (resp.StatusCode == http.StatusUnauthorized || resp.StatusCode == http.StatusForbidden):
		f := &fault{reason: reasonUnauthorized, err: errors.New(resp.Status)}
		if resp.StatusCode == http.StatusForbidden {
			f.reason = reasonForbidden
		}
		f.denial = &denial{resp.StatusCode, resp.Header.Get("WWW-Authenticate")}
		return nil, f
	case resp.StatusCode == http.StatusTooManyRequests:
		return nil, &fault{reason: reasonRateLimited, err: errors.New(resp.Status)}
	case resp.StatusCode == http.StatusNoContent:
		return nil, &fault{reason: reasonEmpty, err: errors.New(resp.Status)}
	case resp.StatusCode != http.StatusOK:
		return nil, &fault{reason: reasonStatus, err: errors.New(resp.Status)}
	}
	if err := p.read(resp); err != nil {
		if ctx.Err() != nil {
			return nil, &fault{reason: reasonTimeout, err: fmt.Errorf("reading body: %w", ctx.Err())}
		}
		return nil, err
	}
	p.etag, p.lastModified = resp.Header.Get("ETag"), resp.Header.Get("Last-Modified")
	return p.body.Bytes(), nil
}

// read fills p.body with the decoded body, at most maxBody bytes of it.
func (p *poller) read(resp *http.Response) error {
	var r io.Reader = resp.Body
	switch coding := strings.ToLower(strings.TrimSpace(resp.Header.Get("Content-Encoding"))); coding {
	case "", "identity":
		if resp.ContentLength > p.maxBody {
			return &fault{reason: reasonTooLarge, err: fmt.Errorf("Content-Length %d is over max_body %d", resp.ContentLength, p.maxBody)}
		}
	case "gzip", "x-gzip":
		z, err := gzip.NewReader(resp.Body)
		if err != nil {
			return &fault{reason: bodyReason(err, reasonEncoding), err: fmt.Errorf("reading gzip header: %w", err)}
		}
		r = z
	default:
		return &fault{reason: reasonEncoding, err: fmt.Errorf("Content-Encoding %q was not asked for", coding)}
	}
	p.body.Reset()
	n, err := p.body.ReadFrom(io.LimitReader(r, p.maxBody+1))
	switch {
	case n > p.maxBody:
		p.body = bytes.Buffer{} // not kept at that size
		return &fault{reason: reasonTooLarge, err: fmt.Errorf("body is over max_body %d", p.maxBody)}
	case err != nil:
		reason := reasonUnreachable
		if r != resp.Body {
			reason = reasonEncoding
		}
		return &fault{reason: bodyReason(err, reason), err: fmt.Errorf("reading body: %w", err)}
	case len(bytes.TrimSpace(p.body.Bytes())) == 0:
		return &fault{reason: reasonEmpty, err: errors.New("body is empty")}
	}
	return nil
}

// bodyReason is the reason for a body that broke off with err.
func bodyReason(err error, other string) string {
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return reasonTruncated
	case errors.Is(err, io.EOF):
		return reasonEmpty
	}
	return other
}

// transportReason is the reason for a request that got no answer.
func transportReason(ctx context.Context, err error) string {
	var (
		redirect    *redirectError
		certificate *tls.CertificateVerificationError
		authority   x509.UnknownAuthorityError
		record      tls.RecordHeaderError
		alert       tls.AlertError
		netErr      net.Error
	)
	switch {
	case errors.As(err, &redirect):
		return reasonRedirect
	case errors.As(err, &certificate), errors.As(err, &authority), errors.As(err, &record), errors.As(err, &alert):
		return reasonTLS
	case ctx.Err() != nil, errors.As(err, &netErr) && netErr.Timeout():
		return reasonTimeout
	}
	return reasonUnreachable
}

// redirectError is a redirect that is not followed.
type redirectError struct{ why string }

func (e *redirectError) Error() string { return "redirect " + e.why }

// sameOrigin follows at most 5 redirects, and only within the scheme and host
// of the configured URL: the upstream must not choose another host for us, and
// its credentials must not travel.
func sameOrigin(req *http.Request, via []*http.Request) error {
	first := via[0].URL
	if !strings.EqualFold(req.URL.Scheme, first.Scheme) || !strings.EqualFold(req.URL.Host, first.Host) {
		return &redirectError{"to another scheme or host"}
	}
	if len(via) > 5 {
		return &redirectError{"after redirect, more than 5"}
	}
	return nil
}
