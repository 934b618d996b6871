package pollsse

import (
	"math/rand/v2"
	"time"
)

// schedule says when to poll.
type schedule struct {
	interval  time.Duration // from the start of one poll to the start of the next
	quiet     time.Duration // what interval grows to while nothing changes; 0: it does not
	longest   time.Duration // the longest that failures and the upstream's wishes make it; 0: backoffCap
	timeout   time.Duration // of one poll, from dial to the last byte
	load      int           // the share of the upstream's time that polls may take, in percent; 0: all
	hostPolls int           // polls of one upstream host at the same time; 0: any number
	stale     time.Duration // how long an upstream may give no good answer
	ignore    bool          // the upstream's wishes: Cache-Control, Expires, X-Poll-Interval
}

const (
	// backoffCap bounds the pause after repeated failures if no max_interval
	// is set.
	backoffCap = time.Minute
	// retryAfterCap bounds what Retry-After can ask for: beyond it a mistake
	// is likelier than a wish, and one request an hour harms nobody.
	retryAfterCap = time.Hour
	// pokeGap and pokeBurst bound the polls that pokes ask for: so many at
	// once, and in the long run one each pokeGap, or each interval if that is
	// shorter.
	pokeGap   = time.Second
	pokeBurst = 8
	// quietGrowth is the factor by which the interval grows, in percent, with
	// each poll that brings nothing new.
	quietGrowth = 150
	// phaseStep is the most by which one interval grows to spread sources.
	phaseStep = 0.125
)

// pace follows the schedule of one source from poll to poll. It belongs to the
// source's goroutine.
type pace struct {
	schedule
	phase    float64 // the part of the interval by which polls still have to move; see host
	current  time.Duration
	failures int       // in a row
	refused  time.Time // Retry-After: no poll before, not even a poked one
	poked    time.Time // when the pokes so far are paid for, at one each pokeGap

	last    outcome
	delayed string  // what has put off the next poll; empty: nothing
	step    float64 // the part of the interval by which the next poll moves
	spread  float64 // of pauses that are jittered, below 1
}

// What puts a poll off beyond its interval.
const (
	delayedByRetryAfter   = "retry_after"
	delayedByCacheControl = "cache_control" // or Expires, X-Poll-Interval
	delayedByBackoff      = "backoff"
	delayedByLoad         = "max_load"
	delayedByHost         = "host_polls"
)

// outcome is what the pace learns from one poll.
type outcome struct {
	begun, ended time.Time
	failed       bool
	changed      bool
	fresh        time.Duration // how long the answer says it is good, from ended
	retryAfter   time.Duration // from ended
}

// after returns when to poll again after a poll.
func (p *pace) after(o outcome) time.Time {
	p.last, p.spread = o, rand.Float64()
	// A little later each time, until the phase is reached: nobody waits much
	// longer for a change, and no interval is shorter than it should be.
	p.step = min(p.phase, phaseStep)
	p.phase -= p.step
	if o.failed {
		p.failures++
		p.current = p.interval
	} else {
		p.failures = 0
		p.adapt(o.changed)
	}
	return p.due()
}

// follow takes over another schedule, and returns when to poll by it.
func (p *pace) follow(s schedule) time.Time {
	p.schedule = s
	p.current = max(s.interval, min(p.current, s.quiet))
	return p.due()
}

// due returns when the poll after the last one is due.
func (p *pace) due() time.Time {
	o := p.last
	// A process that was suspended has not kept the upstream busy for longer
	// than a poll may take. What it has overslept is due at once.
	took := min(o.ended.Sub(o.begun), p.timeout)
	p.refused = time.Time{}
	d := p.current
	p.delayed = ""
	if o.failed {
		d = p.backoff(p.failures, p.spread)
		p.delayed = delayedByBackoff
		if o.retryAfter > 0 {
			// Sources that were refused together do not come back together.
			d = max(d, o.ended.Sub(o.begun)+min(o.retryAfter, retryAfterCap)+time.Duration(p.spread*float64(p.interval/4)))
			p.refused = o.begun.Add(d)
			p.delayed = delayedByRetryAfter
		}
	} else if wish := min(took+o.fresh, p.longest); !p.ignore && wish > d {
		d, p.delayed = wish, delayedByCacheControl
	}
	if p.load > 0 {
		if rest := took * 100 / time.Duration(p.load); rest > d {
			d, p.delayed = rest, delayedByLoad
		}
	}
	return o.begun.Add(d + time.Duration(p.step*float64(p.interval)))
}

// lateGrace is what a poll that ends with its timeout may take beyond it.
const lateGrace = time.Second

// late returns when a document becomes late unless a poll has ended by then. One
// that begins as planned has, and so have most that wait for their turn.
func (s schedule) late(planned time.Time) time.Time {
	return planned.Add(max(s.interval, s.timeout, s.stale) + lateGrace)
}

// adapt sets the interval after a success.
func (p *pace) adapt(changed bool) {
	if changed || p.current < p.interval || p.quiet <= p.interval {
		p.current = p.interval
	} else {
		p.current = min(p.current*quietGrowth/100, p.quiet)
	}
}

// backoff returns the pause after so many failures in a row, from the start of
// the last poll. It grows exponentially, and jitter spreads it over its whole
// length, so that sources that failed together do not come back together. It is
// never shorter than the interval.
func (s schedule) backoff(failures int, spread float64) time.Duration {
	ceiling := s.longest
	if ceiling == 0 {
		ceiling = backoffCap
	}
	ceiling = max(s.interval, ceiling)
	d := s.interval
	for range failures {
		if d *= 2; d >= ceiling {
			d = ceiling
			break
		}
	}
	return s.interval + time.Duration(spread*float64(d-s.interval))
}

// poke returns when to poll if something asks for it at now.
func (p *pace) poke(now time.Time) time.Time {
	at := now
	if next := p.poked.Add(-(pokeBurst - 1) * p.pokeGap()); next.After(at) {
		at = next
	}
	if p.refused.After(at) {
		at = p.refused
	}
	return at
}

// charge counts a poll at that time against the rate of pokes.
func (p *pace) charge(at time.Time) {
	if at.After(p.poked) {
		p.poked = at
	}
	p.poked = p.poked.Add(p.pokeGap())
}

func (p *pace) pokeGap() time.Duration { return min(p.interval, pokeGap) }
