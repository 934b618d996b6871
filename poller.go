package pollsse

import (
	"context"
	"errors"
	"net/http"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/trace"
	"go.uber.org/zap"

	"github.com/pollsse/caddy-poll-sse/internal/feed"
	"github.com/pollsse/caddy-poll-sse/internal/member"
	"github.com/pollsse/caddy-poll-sse/internal/upstream"
	"github.com/pollsse/caddy-poll-sse/jsondiff"
)

// poller keeps the log of one source up to date. It belongs to the source's
// goroutine.
type poller struct {
	request *upstream.Request
	reading upstream.Reading
	client  *upstream.Client // from run on
	source  *source
	hosts   *hostTable
	tokens  *upstream.Tokens
	events  *atomic.Pointer[eventQueue]
	traces  *traces
	total   *counters

	schedule   schedule       // as of the last poll, or since
	succession *succession    // nil: there is none, or it is done
	held       *feed.Document // that it cannot show yet

	turn *pollTurn       // among the nodes of a cluster; nil: there are no others
	from member.Handover // of the owner before, with a turn
	raw  bool            // answers are published whole

	lastEnd    time.Time // of a poll; zero: there was none
	silent     time.Time // the start of the first poll without a good answer; zero: there is none
	lastReason string    // of the last poll without a good answer
	down       bool      // logged as such
	downSince  time.Time
}

// environment is how a source reaches its upstream, and Caddy's log. A reload
// may replace it without disturbing the source.
type environment struct {
	transport  http.RoundTripper
	logger     *zap.Logger
	generation uint64 // of the configuration; the newest wins
}

// closeIdle closes the connections of an environment that was replaced. Nobody
// else does, so each reload would leave some behind.
func (env environment) closeIdle() {
	(&http.Client{Transport: env.transport}).CloseIdleConnections()
}

// run polls until ctx ends, and at once if poke asks for it. It is the only
// writer of the log.
func (p *poller) run(ctx context.Context, d *differ, l *feed.Log, poke <-chan struct{}) {
	host, phase := p.hosts.register(p.request.Origin())
	defer host.unregister()
	p.client = upstream.NewClient(p.request, p.reading, p.tokens, &host.reuse, &p.total.requests)
	defer p.client.Close()
	defer p.succession.yield(false)
	pace := pace{phase: phase}
	var planned time.Time // zero before the first poll
	if !p.takeOver(ctx, l, &pace, poke) {
		return
	}
	for {
		if !p.hold(ctx, l) || !p.turn.may(ctx) {
			return
		}
		p.schedule = p.source.upkeep.Load().schedule
		asked, payer := time.Now(), *p.source.account.Load()
		if !host.acquire(ctx, payer, p.turn.part(p.schedule.hostPolls)) {
			return
		}
		p.waited(host, time.Since(asked), planned.IsZero())
		if p.source.paused.Load() { // while it waited for its turn
			host.release(payer)
			continue
		}
		select {
		case <-poke: // this poll is the answer
		default:
		}
		o := outcome{begun: time.Now()}
		if p.silent.IsZero() {
			p.silent = o.begun
		}
		traced, span := p.startSpan(ctx, o.begun)
		got, err := p.await(traced, l)
		host.release(payer)
		if ctx.Err() != nil {
			span.End()
			return
		}
		p.schedule = p.source.upkeep.Load().schedule
		pace.schedule = p.schedule
		o.ended, o.fresh = time.Now(), got.Fresh
		record := pollRecord{At: o.begun, Took: o.ended.Sub(o.begun), Outcome: outcomeUnchanged, Received: got.Received, Decoded: len(got.Body)}
		if got.Body == nil {
			record.Outcome = outcomeNotModified
		}
		p.source.showing <- struct{}{}
		if err == nil && p.source.yields.Load() > 0 {
			<-p.source.showing
			// A source that takes the place of this one has asked, too. What it
			// shows must not be older than what was seen here.
			p.client.Discard()
			p.note(record, span)
			if !p.pause(ctx, l, &pace, pace.after(o), poke) {
				return
			}
			continue
		}
		out := feed.Publication{State: feed.Live, At: o.ended, Validated: true, NoStore: got.NoStore, Fields: got.Fields}
		if err == nil && got.Body != nil {
			begun := time.Now()
			out.Document, out.Change, err = d.update(got.Body, l.WantsMerge())
			p.total.diffTime.WithLabelValues(p.total.name).Observe(time.Since(begun).Seconds())
			o.changed = out.Document != nil
			if err != nil {
				p.client.Discard()
				err = &upstream.Fault{Reason: parseReason(err), Err: err}
			}
		}
		var fault *upstream.Fault // nil: the poll was good
		if err == nil {
			p.client.Commit(got)
			p.silent = time.Time{}
			if p.succession != nil && !p.succeed(o.begun, d, l, &out) {
				<-p.source.showing
				p.note(record, span)
				continue // at once, with a poll that begins now
			}
		} else {
			p.succession.yield(false)
			errors.As(err, &fault)
			o.failed, o.retryAfter = true, fault.RetryAfter
			record.Outcome, record.Status = fault.Reason, fault.Status
			out = p.failure(fault, l.View(), o.ended)
		}
		if out.Document != nil {
			record.Outcome, record.Change = outcomeChanged, len(out.Document.Text)
			if out.Change.Patch != nil {
				record.Change = len(out.Change.Patch)
			}
			p.total.publication(out.Change)
		}
		p.note(record, span)
		p.report(out, fault)
		if fault == nil {
			p.lintInterval(o.fresh)
		}
		planned = p.turn.stretch(o.begun, pace.after(o))
		p.source.records.plan(planned, pace.delayed)
		if pace.delayed != "" {
			p.total.delayed.WithLabelValues(p.total.name, pace.delayed).Inc()
		}
		out.Late = p.schedule.late(planned)
		l.Publish(out)
		<-p.source.showing
		p.turn.tell(p, &pace, o.begun, planned)
		if out.Denial != nil {
			return
		}
		if !p.pause(ctx, l, &pace, planned, poke) {
			return
		}
	}
}

// hold waits while the source is paused. It returns false if ctx ended first.
func (p *poller) hold(ctx context.Context, l *feed.Log) bool {
	for told := false; p.source.paused.Load(); told = true {
		if !told {
			state := feed.Stale
			if l.View().Document == nil {
				state = feed.Waiting
			}
			l.Publish(feed.Publication{State: state, Reason: reasonPaused, At: time.Now()})
			p.succession.yield(false) // they are not paused
		}
		select {
		case <-ctx.Done():
			return false
		case <-p.source.changed:
		}
	}
	return true
}

// note counts a poll that has ended, and what its readers would have polled.
func (p *poller) note(r pollRecord, span trace.Span) {
	endSpan(span, r)
	readers, since := p.source.readers.Load(), time.Duration(0)
	if end := r.At.Add(r.Took); !p.lastEnd.IsZero() {
		since = end.Sub(p.lastEnd)
	}
	p.lastEnd = r.At.Add(r.Took)
	p.total.poll(r)
	p.total.avoided(readers, since, p.schedule.interval, r)
	p.source.records.add(r, readers, p.schedule.interval)
}

// succeed makes the first document of this source follow those of the sources
// whose place it takes. It returns false if one of them may have shown a newer
// document.
func (p *poller) succeed(begun time.Time, d *differ, l *feed.Log, out *feed.Publication) bool {
	if out.Document != nil {
		p.held = out.Document
	}
	base, ok := p.succession.take(begun)
	if !ok {
		return false
	}
	out.Document, out.Change = p.held, feed.Change{ID: p.held.ID}
	p.succession, p.held = nil, nil
	if base.Document != nil {
		out.Past = &base
		out.Change.Patch, out.Change.Merge = d.between(base.Document, out.Document, l.WantsMerge())
	}
	return true
}

// waited counts the time that a poll has waited for its turn. The first polls
// of many documents may come together and wait without any harm.
func (p *poller) waited(h *host, d time.Duration, first bool) {
	p.total.hostWait.WithLabelValues(p.total.name).Add(d.Seconds())
	if first || d < p.schedule.interval/2 {
		return
	}
	p.total.delayed.WithLabelValues(p.total.name, delayedByHost).Inc()
	if h.warn() {
		p.source.environment.Load().logger.Warn("polls wait for others of their host, so that intervals are longer than configured; raise host_polls if the host can take it, or the interval",
			zap.String("poll_sse", p.source.claimed), zap.String("upstream", p.request.Display()), zap.Int("host_polls", p.schedule.hostPolls),
			zap.Duration("interval", p.schedule.interval), zap.Duration("waited", d))
	}
}

// await makes one poll. If there is no good answer for so long that the document
// is stale, it says so without waiting for the poll to end.
func (p *poller) await(ctx context.Context, l *feed.Log) (upstream.Response, error) {
	overdue := p.overdue(l)
	if overdue == nil {
		return p.fetch(ctx)
	}
	defer overdue.Stop()
	var got upstream.Response
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
			l.Publish(feed.Publication{State: feed.Stale, Reason: upstream.ReasonTimeout, At: time.Now()})
			p.turn.tellStale()
		}
	}
}

// fetch asks the upstream for as long as a poll may take.
func (p *poller) fetch(ctx context.Context) (upstream.Response, error) {
	ctx, cancel := context.WithTimeout(ctx, p.schedule.timeout)
	defer cancel()
	via := p.source.environment.Load()
	defer func() {
		// The environment may have been replaced with this poll in flight.
		if p.source.environment.Load().generation != via.generation {
			via.closeIdle()
		}
	}()
	return p.client.Fetch(ctx, via.transport, traceFields(ctx))
}

// overdue returns a timer for the moment at which the document becomes stale
// unless a good answer comes first. It is nil if the document is stale already,
// or if only a failure makes it so.
func (p *poller) overdue(l *feed.Log) *time.Timer {
	if p.schedule.stale == 0 || p.silent.IsZero() || l.View().Status.State != feed.Live {
		return nil
	}
	return time.NewTimer(time.Until(p.silent.Add(p.schedule.stale)))
}

// failure returns what a failed poll adds to the log.
func (p *poller) failure(f *upstream.Fault, was feed.View, now time.Time) feed.Publication {
	out := feed.Publication{State: feed.Stale, Reason: f.Reason, At: now, Denial: p.denial(f, was)}
	out.HandOn = p.request.Tree() && f.HandsOn()
	switch {
	case out.Denial != nil:
		out.State = feed.Denied
	case was.Document == nil:
		out.State = feed.Waiting
	case was.Status.State == feed.Live && now.Sub(p.silent) < p.schedule.stale:
		out.State, out.Reason = feed.Live, ""
	}
	p.lastReason = f.Reason
	return out
}

// denial returns what a fault means for the clients that the document is for,
// nil if it is not about them.
func (p *poller) denial(f *upstream.Fault, was feed.View) *feed.Denial {
	switch {
	case p.request.RefusesClient(f.Status):
		return &feed.Denial{Status: f.Status, Challenge: f.Challenge}
	case p.request.Tree() && was.Document == nil && f.NoDocument():
		// Nobody's download is to be asked for again.
		return &feed.Denial{Status: http.StatusNotAcceptable}
	}
	return nil
}

// pause waits until it is time for the next poll. It returns false if ctx ended
// first.
func (p *poller) pause(ctx context.Context, l *feed.Log, pace *pace, next time.Time, poke <-chan struct{}) bool {
	timer := time.NewTimer(clockCheck)
	defer timer.Stop()
	var stale <-chan time.Time
	overdue := p.overdue(l)
	if overdue != nil {
		defer overdue.Stop()
		stale = overdue.C
	}
	var poked time.Time
	for {
		left := feed.Until(next, time.Now())
		if left <= 0 {
			return ctx.Err() == nil
		}
		if p.source.paused.Load() {
			was := l.View().Status
			if !p.hold(ctx, l) {
				return false
			}
			// To resume is to poll at once, but no sooner than Retry-After says.
			if next = time.Now(); pace.refused.After(next) {
				next = pace.refused
				l.Publish(feed.Publication{State: was.State, Reason: was.Reason, Since: was.Since, At: time.Now()})
			}
			continue
		}
		timer.Reset(min(left, clockCheck))
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
		case <-stale:
			l.Publish(feed.Publication{State: feed.Stale, Reason: p.lastReason, At: time.Now()})
			p.turn.tellStale()
		case <-poke:
			at := pace.poke(time.Now())
			if at.Before(next) {
				next, poked = at, at
				pace.charge(at)
			}
			poke = nil // those that follow until then ask for the same poll
		case <-p.source.changed:
			p.schedule = p.source.upkeep.Load().schedule
			planned := pace.follow(p.schedule)
			l.SetLate(p.schedule.late(planned))
			if next = planned; !poked.IsZero() && poked.Before(next) {
				next = poked
			}
			if overdue != nil {
				overdue.Stop()
			}
			stale = nil
			if overdue = p.overdue(l); overdue != nil {
				defer overdue.Stop()
				stale = overdue.C
			}
		}
	}
}

// failureFor is how long the log does not repeat a failure of a name's sources.
const failureFor = time.Minute

// report logs that an upstream goes down or comes back, not every failure in
// between. If it refuses a client's own credentials, that says nothing about the
// upstream.
func (p *poller) report(now feed.Publication, fault *upstream.Fault) {
	name := p.source.claimed
	log, url := p.source.environment.Load().logger.With(zap.String("poll_sse", name)), zap.String("upstream", p.request.Display())
	switch {
	case fault != nil && p.request.Tree() && fault.Advice() && !p.request.RefusesClient(fault.Status):
		p.advise(fault)
	case now.Denial != nil:
		log.Debug("upstream refuses a client", url, zap.String("reason", now.Reason))
	case fault != nil && !p.down:
		p.down, p.downSince = true, now.At
		if !p.total.told.news(fault.Reason, failureFor) {
			return // another source, or the one before this, has failed alike
		}
		log.Warn("upstream does not give a document", url, zap.String("reason", fault.Reason), zap.Error(fault))
		p.events.Load().put(eventDown, map[string]any{"name": name, "reason": fault.Reason, "since": now.At})
	case fault == nil && p.down:
		p.down = false
		p.total.told.forget()
		log.Info("upstream is back", url, zap.Duration("after", now.At.Sub(p.downSince)))
		p.events.Load().put(eventUp, map[string]any{"name": name, "after": now.At.Sub(p.downSince).Seconds()})
	}
}

// advise says once what to write so that a tree can serve what it hands on.
func (p *poller) advise(fault *upstream.Fault) {
	if p.total.advised.news(fault.Reason, refusalFor) {
		p.source.environment.Load().logger.Warn("requests go to the next handler", zap.String("upstream", p.request.Display()), zap.String("reason", fault.Reason), zap.Error(fault.Err))
	}
}

func parseReason(err error) string {
	switch {
	case errors.Is(err, jsondiff.ErrMissing):
		return upstream.ReasonNoMatch
	case errors.Is(err, jsondiff.ErrDepth):
		return upstream.ReasonTooDeep
	case errors.Is(err, jsondiff.ErrSize):
		return upstream.ReasonTooLarge
	}
	return upstream.ReasonNotJSON
}
