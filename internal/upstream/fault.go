package upstream

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// Reasons of a fault: all that a subscriber learns about it. The log of the
// server has the details.
const (
	ReasonUnreachable  = "unreachable"  // no connection, or it broke before an answer
	ReasonTLS          = "tls"          // the certificate is not valid, or the handshake failed
	ReasonTimeout      = "timeout"      // no complete answer within timeout
	ReasonRedirect     = "redirect"     // to another scheme or host, or too many
	ReasonStatus       = "status"       // a status other than 200 and 304
	ReasonRateLimited  = "rate_limited" // 429
	ReasonEmpty        = "empty"        // no body
	ReasonTruncated    = "truncated"    // the body ended early
	ReasonTooLarge     = "too_large"    // more than max_body
	ReasonNotJSON      = "not_json"     // not a JSON text
	ReasonTooDeep      = "too_deep"     // nested too deeply
	ReasonEncoding     = "encoding"     // a content coding that was not asked for, or a broken one
	ReasonUnauthorized = "unauthorized" // 401
	ReasonForbidden    = "forbidden"    // 403
	ReasonNoMatch      = "no_match"     // select, append or paginate point to nothing
	ReasonPages        = "pages"        // pages that go elsewhere, have no end or do not settle
	ReasonCredentials  = "credentials"  // no token: its file or its endpoint failed

	// Of a tree alone.
	ReasonEventStream = "event_stream" // an event stream of the upstream's own
	ReasonSetsCookie  = "sets_cookie"  // the answer sets a cookie
	ReasonPrivate     = "private"      // the answer is for one client, and nothing of the client's was sent
)

// Fault is a poll that brought no document.
type Fault struct {
	// Reason is one of the constants above.
	Reason string
	// Err has the details for the log. It names no URL and no secret.
	Err error
	// Status is the answer's status. It is 0 if there was no answer, or a 200
	// whose body is no document.
	Status int
	// Challenge is the WWW-Authenticate of a 401, RFC 9110 section 11.6.1.
	Challenge string
	// RetryAfter is how long the upstream wants to be left alone, 0 if it does
	// not say.
	RetryAfter time.Duration
}

func (f *Fault) Error() string { return f.Reason + ": " + f.Err.Error() }

// Unwrap returns the details.
func (f *Fault) Unwrap() error { return f.Err }

// asFault returns the fault that err is.
func asFault(err error) *Fault {
	var f *Fault
	if !errors.As(err, &f) {
		f = &Fault{Reason: ReasonUnreachable, Err: err}
	}
	return f
}

// refusal returns the fault that an answer without a document is, nil for a
// 200.
func refusal(status int, h http.Header) *Fault {
	f := &Fault{Reason: ReasonStatus, Err: fmt.Errorf("%d %s", status, http.StatusText(status)), Status: status}
	switch status {
	case http.StatusOK:
		return nil
	case http.StatusUnauthorized:
		f.Reason, f.Challenge = ReasonUnauthorized, h.Get("WWW-Authenticate")
	case http.StatusForbidden:
		f.Reason = ReasonForbidden
	case http.StatusTooManyRequests:
		f.Reason = ReasonRateLimited
	case http.StatusNoContent:
		f.Reason = ReasonEmpty
	}
	f.RetryAfter = retryAfter(h, time.Now())
	return f
}

// transportReason returns the reason for a request that got no answer.
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
		return ReasonRedirect
	case errors.As(err, &certificate), errors.As(err, &authority), errors.As(err, &record), errors.As(err, &alert):
		return ReasonTLS
	case ctx.Err() != nil, errors.As(err, &netErr) && netErr.Timeout():
		return ReasonTimeout
	}
	return ReasonUnreachable
}
