package pollsse

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// fetched is what a poll brings.
type fetched struct {
	body  []byte        // decoded, valid until the next poll if nobody keeps it; nil: nothing new (304)
	fresh time.Duration // for how long there will be nothing newer, as far as the upstream says
	// progress is how far the poller has read with this body, nil where the
	// requests do not tell. It counts once the body is a document.
	progress *progress
}

// validators make the next request conditional, RFC 9110 section 8.8.
type validators struct{ url, etag, lastModified string }

// fetch asks the upstream. What is neither a body that comes with a 200 nor a
// 304 is a *fault.
func (p *poller) fetch(ctx context.Context) (fetched, error) {
	ctx, cancel := context.WithTimeout(ctx, p.schedule.timeout)
	defer cancel()
	p.via = p.link()
	defer func() {
		// The link may have been replaced with this poll in flight.
		if p.link().generation != p.via.generation {
			p.via.retire()
		}
	}()
	begun := time.Now()
	read := p.document
	if p.pages.next != "" {
		read = p.walk
	}
	got, err := read(ctx)
	if err != nil {
		return fetched{}, err
	}
	out := fetched{body: got.text, fresh: got.fresh}
	if got.text == nil || len(p.since) == 0 && !p.append.on && !p.request.timed() {
		return out, nil
	}
	next := p.progress
	if p.append.on {
		if out.body, next.list, err = p.progress.append(got.text, p.append, p.maxBody); err != nil {
			return fetched{}, err
		}
	}
	next.note(got.text, p.since, serverTime(got.header, begun))
	out.progress = &next
	return out, nil
}

// document makes one conditional request. The page has no text where the
// document has not changed.
func (p *poller) document(ctx context.Context) (page, error) {
	got, err := p.page(ctx, "")
	if err == nil && got.text != nil {
		p.validators = validators{got.url.String(), got.header.Get("ETag"), got.header.Get("Last-Modified")}
	}
	return got, err
}

// page makes one request, for the configured URL or for another one of the
// same host.
func (p *poller) page(ctx context.Context, target string) (page, error) {
	resp, asked, err := p.ask(ctx, target)
	if err != nil {
		return page{}, err
	}
	defer resp.Body.Close()
	got := page{header: resp.Header, url: asked.URL}
	if resp.StatusCode == http.StatusNotModified && isConditional(asked.Header) {
		got.fresh = p.freshness(resp)
		return got, nil
	}
	if err := p.refusal(resp); err != nil {
		return page{}, err
	}
	got.text, err = p.read(resp)
	if ctx.Err() != nil {
		// Also where the body looks whole: what our own deadline has cut off
		// can end as if the upstream had ended it.
		return page{}, &fault{reason: reasonTimeout, err: fmt.Errorf("reading body: %w", ctx.Err())}
	}
	if err != nil {
		return page{}, err
	}
	got.fresh = p.freshness(resp)
	return got, nil
}

func isConditional(h http.Header) bool {
	return h.Get("If-None-Match") != "" || h.Get("If-Modified-Since") != ""
}

// ask sends one request, and once more where the upstream refuses a token that
// can be renewed.
func (p *poller) ask(ctx context.Context, target string) (*http.Response, *http.Request, error) {
	rejected := ""
	for {
		req, err := p.request.build(ctx, p.progress.success)
		if err == nil && target != "" {
			req.URL, err = url.Parse(target)
		}
		if err != nil {
			return nil, nil, &fault{reason: reasonUnreachable, err: errors.New("the expanded URL is not valid")}
		}
		if target == "" {
			p.progress.addSince(req.URL, p.since)
		}
		if req.Header.Get("Accept") == "" {
			req.Header.Set("Accept", "application/json")
		}
		req.Header.Set("Accept-Encoding", acceptEncoding)
		// A condition on anything but a GET asks for a 412, RFC 9110
		// section 13.1.2.
		if req.Method == http.MethodGet && req.URL.String() == p.validators.url {
			if p.validators.etag != "" {
				req.Header.Set("If-None-Match", p.validators.etag)
			}
			if p.validators.lastModified != "" {
				req.Header.Set("If-Modified-Since", p.validators.lastModified)
			}
		}
		token, err := p.request.credentials.authorize(req, p.token, p.via.transport, rejected)
		if err != nil {
			return nil, nil, err
		}
		if rejected != "" && token == rejected {
			return nil, nil, &fault{reason: reasonUnauthorized, err: errors.New("401, and the token cannot be renewed yet")}
		}
		resp, err := p.do(req)
		if err != nil {
			return nil, nil, err
		}
		if resp.StatusCode != http.StatusUnauthorized || p.token == nil || rejected != "" {
			return resp, req, nil
		}
		// Read to its end within reason, so that the connection can be used again.
		_, _ = io.CopyN(io.Discard, resp.Body, 4<<10)
		resp.Body.Close()
		rejected = token
	}
}

// do sends one request.
func (p *poller) do(req *http.Request) (*http.Response, error) {
	client := http.Client{Transport: p.via.transport, CheckRedirect: sameOrigin}
	p.total.polls.Add(1)
	resp, err := client.Do(req)
	if err != nil {
		// A *url.Error names the expanded URL, which may hold a secret.
		var about *url.Error
		if errors.As(err, &about) {
			err = about.Err
		}
		return nil, &fault{reason: transportReason(req.Context(), err), err: err}
	}
	return resp, nil
}

// refusal is the fault that an answer without a document is; nil for a 200.
func (p *poller) refusal(resp *http.Response) error {
	f := &fault{reason: reasonStatus, err: errors.New(resp.Status)}
	switch resp.StatusCode {
	case http.StatusOK:
		return nil
	case http.StatusUnauthorized, http.StatusForbidden:
		f.reason = reasonUnauthorized
		if resp.StatusCode == http.StatusForbidden {
			f.reason = reasonForbidden
		}
		if p.request.forwards {
			f.denial = &denial{resp.StatusCode, resp.Header.Get("WWW-Authenticate")}
		}
	case http.StatusTooManyRequests:
		f.reason = reasonRateLimited
	case http.StatusNoContent:
		f.reason = reasonEmpty
	}
	f.retryAfter = retryAfter(resp.Header, time.Now())
	return f
}

// freshness is how long the answer says it is good. A 304 that says nothing
// leaves it at what was said before, RFC 9111 section 4.3.4.
func (p *poller) freshness(resp *http.Response) time.Duration {
	fresh, said := freshness(resp.Header, time.Now())
	if said || resp.StatusCode != http.StatusNotModified {
		p.fresh = fresh
	}
	return p.fresh
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
// its credentials must not travel. Nor does it follow one that turns the
// request into a GET without its body, as 301 to 303 do to a POST.
func sameOrigin(req *http.Request, via []*http.Request) error {
	first := via[0].URL
	if !strings.EqualFold(req.URL.Scheme, first.Scheme) || !strings.EqualFold(req.URL.Host, first.Host) {
		return &redirectError{"to another scheme or host"}
	}
	if req.Method != via[0].Method {
		return &redirectError{"to another method"}
	}
	if len(via) > 5 {
		return &redirectError{"after redirect, more than 5"}
	}
	return nil
}
