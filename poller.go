package pollsse

import (
	"bytes"
	"context"
	"errors"
	"net/http"
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
	reasonUnauthorized = "unauthorized"       // 401
	reasonForbidden    = "forbidden"          // 403
	reasonNoMatch      = "no_match"           // select, append or paginate point to nothing
	reasonPages        = "pages"              // pages that go elsewhere, have no end or do not settle
	reasonCredentials  = "credentials"        // no token to be had: its file or its endpoint
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
	// retryAfter is how long the upstream wants to be left alone.
	retryAfter time.Duration
}

// asFault is the fault that err is.
func asFault(err error) *fault {
	var f *fault
	if !errors.As(err, &f) {
		f = &fault{reason: reasonUnreachable, err: err}
	}
	return f
}

func (f *fault) Error() string { return f.reason + ": " + f.err.Error() }
func (f *fault) Unwrap() error { return f.err }

// denial is the upstream's answer to credentials that it does not accept.
type denial struct {
	status    int    // 401 or 403
	challenge string // WWW-Authenticate, RFC 9110 section 11.6.1
}

// poller fetches the document of one source. It belongs to the source's
// goroutine.
type poller struct {
	request  upstreamRequest
	maxBody  int64
	format   string // of the body
	schedule schedule
	pages    pagination
	since    []sinceParam
	append   appended
	// link gives the client and logger of the newest configuration that
	// uses this source.
	link  func() link
	total *counters

	via        link        // of the poll in flight
	token      *tokenCache // nil without OAuth2
	validators validators
	fresh      time.Duration // what the last answer that said so said; see freshness
	body       bytes.Buffer
	bodySize   int // of the last one
	progress   progress
	lastWalk   []string // the keys of the items that the last good walk of pages gave

	silent     time.Time // the start of the first poll without a good answer; zero: there is none
	lastReason string    // of the last poll without a good answer
	down       bool      // logged as such
	downSince  time.Time
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
	host, phase := hosts.enter(p.request.origin)
	defer host.leave()
	p.token = tokens.join(p.request.credentials.oauth2)
	defer tokens.leave(p.token)
	pace := pace{schedule: p.schedule, phase: phase}
	for {
		if !host.acquire(ctx, p.schedule.hostPolls) {
			return
		}
		select {
		case <-poke: // this poll is the answer
		default:
		}
		o := polled{begun: time.Now()}
		if p.silent.IsZero() {
			p.silent = o.begun
		}
		got, err := p.await(ctx, l)
		host.release()
		if ctx.Err() != nil {
			return
		}
		p.total.upstreamBytes.Add(int64(len(got.body)))
		o.ended, o.fresh = time.Now(), got.fresh
		out := publication{state: stateLive, at: o.ended, validated: true}
		if err == nil && got.body != nil {
			out.doc, out.change, err = d.next(got.body, l.mergeReaders.Load() > 0)
			if o.changed = out.doc != nil; o.changed {
				p.body = bytes.Buffer{} // the document has its memory now
			}
			if err != nil {
				// The validators belong to a body that was refused.
				p.validators = validators{}
				got.progress = nil
				err = &fault{reason: parseReason(err), err: err}
			}
		}
		if err == nil {
			p.silent = time.Time{}
			if got.progress != nil {
				p.progress = *got.progress
			}
		} else {
			p.total.failures.Add(1)
			f := asFault(err)
			o.failed, o.retryAfter = true, f.retryAfter
			out = p.failure(f, l.view(), o.ended)
		}
		if out.doc != nil {
			p.total.changes.Add(1)
		}
		p.report(out, err)
		l.publish(out)
		if out.denial != nil {
			return
		}
		if !p.pause(ctx, l, &pace, pace.after(o), poke) {
			return
		}
	}
}

// await makes one poll. Where the upstream has given no good answer for so
// long that it is stale, it says so without waiting for the poll to end.
func (p *poller) await(ctx context.Context, l *log) (fetched, error) {
	overdue := p.overdue(l)
	if overdue == nil {
		return p.fetch(ctx)
	}
	defer overdue.Stop()
	var got fetched
	var err error
	done := make(chan struct{})
	go func() {
		defer close(done)
		got, err = p.fetch(ctx)
	}()
	for {
		select {
		case <-done:
			return got, err
		case <-overdue.C:
			l.publish(publication{state: stateStale, reason: reasonTimeout, at: time.Now()})
		}
	}
}

// overdue is a timer for the moment at which the document becomes stale
// unless a good answer comes first: nil where it is already, or would be with
// the next failure alone.
func (p *poller) overdue(l *log) *time.Timer {
	if p.schedule.stale == 0 || p.silent.IsZero() || l.view().status.state != stateLive {
		return nil
	}
	return time.NewTimer(time.Until(p.silent.Add(p.schedule.stale)))
}

// failure is what a failed poll adds to the log.
func (p *poller) failure(f *fault, was view, now time.Time) publication {
	out := publication{state: stateStale, reason: f.reason, at: now, denial: f.denial}
	switch {
	case f.denial != nil:
		out.state = stateDenied
	case was.doc == nil:
		out.state = stateWaiting
	case was.status.state == stateLive && now.Sub(p.silent) < p.schedule.stale:
		out.state, out.reason = stateLive, ""
	}
	p.lastReason = f.reason
	return out
}

// pause waits until it is time for the next poll. It says false where ctx
// ended first.
func (p *poller) pause(ctx context.Context, l *log, pace *pace, next time.Time, poke <-chan struct{}) bool {
	timer := time.NewTimer(time.Until(next))
	defer timer.Stop()
	var stale <-chan time.Time
	if overdue := p.overdue(l); overdue != nil {
		defer overdue.Stop()
		stale = overdue.C
	}
	for {
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
			return true
		case <-stale:
			l.publish(publication{state: stateStale, reason: p.lastReason, at: time.Now()})
		case <-poke:
			at := pace.poke(time.Now())
			if at.Before(next) {
				next = at
				pace.charge(at)
				timer.Reset(time.Until(at))
			}
			poke = nil // those that follow until then ask for the same poll
		}
	}
}

// report logs that an upstream goes down or comes back, not every failure in
// between. That it refuses a client's own credentials is no news of the
// upstream.
func (p *poller) report(now publication, err error) {
	log := p.link().logger.With(zap.String("upstream", p.request.display))
	switch {
	case now.denial != nil:
		log.Debug("upstream refuses forwarded credentials", zap.String("reason", now.reason))
	case err != nil && !p.down:
		p.down, p.downSince = true, now.at
		log.Warn("upstream does not give a document", zap.String("reason", asFault(err).reason), zap.Error(err))
	case err == nil && p.down:
		p.down = false
		log.Info("upstream is back", zap.Duration("after", now.at.Sub(p.downSince)))
	}
}

func parseReason(err error) string {
	switch {
	case errors.Is(err, jsondiff.ErrMissing):
		return reasonNoMatch
	case errors.Is(err, jsondiff.ErrDepth):
		return reasonTooDeep
	case errors.Is(err, jsondiff.ErrSize):
		return reasonTooLarge
	}
	return reasonNotJSON
}
