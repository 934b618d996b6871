package upstream

import (
	"net/http"
	"strconv"
	"strings"
	"time"
)

// confirm notes how long an answer says that it is good, and whether it may be
// stored. A 304 that says nothing leaves that as it was, RFC 9111 section
// 4.3.4, and no 304 takes no-store back.
func (p *progress) confirm(by page) {
	fresh, said := freshness(by.header, time.Now())
	if said || by.text != nil {
		p.fresh = fresh
	}
	p.noStore = isNoStore(by.header) || p.noStore && by.text == nil
}

// retryAfter returns what a refusal asks for, RFC 9110 section 10.2.3: seconds
// or a date.
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

// freshness returns how long an answer says that there is nothing newer: the
// freshness lifetime of RFC 9111, section 4.2, less the age that it had on
// arrival, or the X-Poll-Interval of some APIs. It is a wish, not a promise.
// The bool is false if the answer says nothing.
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

// cacheLifetime returns what Cache-Control says to a shared cache, which the
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

// isNoStore reports whether an answer must not be stored, RFC 9111 section
// 5.2.2.5.
func isNoStore(h http.Header) bool {
	for _, line := range h.Values("Cache-Control") {
		for directive := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(directive), "no-store") {
				return true
			}
		}
	}
	return false
}

// serverTime returns the time by the upstream's own clock, which need not agree
// with this one.
func serverTime(h http.Header, now time.Time) time.Time {
	if date, err := http.ParseTime(h.Get("Date")); err == nil {
		return date
	}
	return now
}
