package pollsse

import (
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// schedule says when to poll. It is part of a source's key.
type schedule struct {
	interval  time.Duration // from the start of one poll to the start of the next
	quiet     time.Duration // what interval grows to while nothing changes; 0: it does not
	longest   time.Duration // what the upstream's wishes and failures make of it; 0: backoffCap
	timeout   time.Duration // of one poll, from dial to the last byte
	load      int           // the share of the upstream's time that polls may take, in percent; 0: all
	hostPolls int           // polls of one upstream host at the same time; 0: any number
	stale     time.Duration // how long an upstream may give no good answer
	ignore    bool          // the upstream's wishes: Cache-Control, Expires, X-Poll-Interval
}

const (
	// backoffCap bounds the pause after repeated failures where no
	// max_interval is set.
	backoffCap = time.Minute
	// retryAfterCap bounds what Retry-After can ask for: beyond it a mistake
	// is likelier than a wish, and one request an hour harms nobody.
	retryAfterCap = time.Hour
	// pokeGap and pokeBurst bound the polls that pokes ask for: so many at
	// once, and in the long run one each pokeGap, or each interval where that
	// is shorter.
	pokeGap   = time.Second
	pokeBurst = 8
	// quietGrowth is the factor by which the interval grows, in percent, with
	// each poll that brings nothing new.
	quietGrowth = 150
	// phaseStep is the most by which one interval grows to spread sources.
	phaseStep = 0.125
)

// pace is the schedule of one source as it goes. It belongs to the source's
// goroutine.
type pace struct {
	schedule
	phase    float64 // the part of the interval by which polls still have to move; see host
	current  time.Duration
	failures int       // in a row
	refused  time.Time // Retry-After: no poll before, not even a poked one
	poked    time.Time // when the pokes so far are paid for, at one each pokeGap
}

// polled is what the pace learns from one poll.
type polled struct {
	begun, ended time.Time
	failed       bool
	changed      bool
	fresh        time.Duration // how long the answer says it is good, from ended
	retryAfter   time.Duration // from ended
}

// after tells when to poll again.
func (p *pace) after(o polled) time.Time {
	took := o.ended.Sub(o.begun)
	p.refused = time.Time{}
	var d time.Duration
	if o.failed {
		p.failures++
		d, p.current = p.schedule.next(p.failures), p.interval
		if o.retryAfter > 0 {
			// Those who were refused together do not come back together.
			d = max(d, took+min(o.retryAfter, retryAfterCap)+rand.N(p.interval/4+1))
			p.refused = o.begun.Add(d)
		}
	} else {
		p.failures = 0
		d = p.adapt(o.changed)
		if !p.ignore {
			d = max(d, min(took+o.fresh, p.longest))
		}
	}
	if p.load > 0 {
		d = max(d, took*100/time.Duration(p.load))
	}
	// A little later each time, until the phase is reached: nobody waits much
	// longer for a change, and no interval is shorter than it should be.
	step := min(p.phase, phaseStep)
	p.phase -= step
	return o.begun.Add(d + time.Duration(step*float64(p.interval)))
}

// adapt is the interval after a success.
func (p *pace) adapt(changed bool) time.Duration {
	if changed || p.current < p.interval || p.quiet <= p.interval {
		p.current = p.interval
	} else {
		p.current = min(p.current*quietGrowth/100, p.quiet)
	}
	return p.current
}

// next is the pause after so many failures in a row, counted from the start of
// the last poll. It grows exponentially, with jitter over all of it so that
// sources that failed together do not come back together, and never polls
// faster than success would.
func (s schedule) next(failures int) time.Duration {
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
	return s.interval + rand.N(d-s.interval+1)
}

// poke tells when to poll because something asked for it at now.
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

// retryAfter is what a refusal asks for, RFC 9110 section 10.2.3: seconds or a
// date.
func retryAfter(h http.Header, now time.Time) time.Duration {
	value := strings.TrimSpace(h.Get("Retry-After"))
	if n, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(n) * time.Second
	}
	if at, err := http.ParseTime(value); err == nil {
		return max(0, at.Sub(serverTime(h, now)))
	}
	return 0
}

// freshness is how long an answer says that there is nothing newer: the
// freshness lifetime of RFC 9111, section 4.2, less the age that it had on
// arrival, or the X-Poll-Interval of some APIs. It is a wish, not a promise,
// and says false where the answer says nothing.
func freshness(h http.Header, now time.Time) (time.Duration, bool) {
	var fresh time.Duration
	said := false
	if seconds, err := strconv.ParseUint(strings.TrimSpace(h.Get("X-Poll-Interval")), 10, 31); err == nil {
		fresh, said = time.Duration(seconds)*time.Second, true
	}
	cached, ok := cacheLifetime(h, now)
	if !ok {
		return fresh, said
	}
	if age, err := strconv.ParseUint(strings.TrimSpace(h.Get("Age")), 10, 31); err == nil {
		cached -= time.Duration(age) * time.Second
	}
	return max(fresh, cached, 0), true
}

// cacheLifetime is what Cache-Control says to a shared cache, which the
// poller is, or else Expires.
func cacheLifetime(h http.Header, now time.Time) (time.Duration, bool) {
	var lifetime time.Duration
	said, shared := false, false
	for _, line := range h.Values("Cache-Control") {
		for directive := range strings.SplitSeq(line, ",") {
			name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
			name = strings.ToLower(name)
			switch name {
			case "no-cache", "no-store":
				return 0, true
			case "max-age", "s-maxage":
				seconds, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 31)
				if err != nil || shared && name == "max-age" {
					continue
				}
				lifetime, said, shared = time.Duration(seconds)*time.Second, true, name == "s-maxage"
			}
		}
	}
	if said || h.Get("Expires") == "" {
		return lifetime, said
	}
	at, err := http.ParseTime(h.Get("Expires"))
	if err != nil {
		return 0, true // RFC 9111 section 5.3: an invalid date is in the past
	}
	return at.Sub(serverTime(h, now)), true
}

// serverTime is the upstream's own idea of the time, so that its clock need
// not agree with this one.
func serverTime(h http.Header, now time.Time) time.Time {
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		return date
	}
	return now
}
