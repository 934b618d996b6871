package delivery

import (
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// PrefersEventStream reports whether a request asks for a stream: it names
// text/event-stream, and no less than JSON (RFC 9110, section 12.5.1).
// Wildcards get the document.
func PrefersEventStream(h http.Header) bool {
	stream, json := -1.0, -1.0
	for _, line := range h.Values("Accept") {
		for member := range strings.SplitSeq(line, ",") {
			name, params, _ := strings.Cut(member, ";")
			q := 1.0
			for param := range strings.SplitSeq(params, ";") {
				if k, v, _ := strings.Cut(param, "="); strings.EqualFold(strings.TrimSpace(k), "q") {
					var err error
					if q, err = strconv.ParseFloat(strings.TrimSpace(v), 64); err != nil {
						q = 0
					}
				}
			}
			switch strings.ToLower(strings.TrimSpace(name)) {
			case "text/event-stream":
				stream = q
			case "application/json":
				json = q
			}
		}
	}
	return stream > 0 && stream >= json
}

// acceptsGzip reports whether a client takes gzip (RFC 9110, section 12.5.3).
func acceptsGzip(h http.Header) bool {
	for _, line := range h.Values("Accept-Encoding") {
		for member := range strings.SplitSeq(line, ",") {
			name, params, _ := strings.Cut(member, ";")
			if !strings.EqualFold(strings.TrimSpace(name), "gzip") {
				continue
			}
			_, q, weighted := strings.Cut(params, "=")
			weight, err := strconv.ParseFloat(strings.TrimSpace(q), 64)
			return !weighted || err == nil && weight > 0
		}
	}
	return false
}

// preferredWait returns how long a request is willing to wait for a change:
// the wait preference of RFC 7240, section 4.3, in seconds, bounded by most. It
// is 0 if the request names none.
func preferredWait(h http.Header, most time.Duration) time.Duration {
	for _, line := range h.Values("Prefer") {
		for preference := range strings.SplitSeq(line, ",") {
			preference, _, _ = strings.Cut(preference, ";")
			name, value, _ := strings.Cut(preference, "=")
			if !strings.EqualFold(strings.TrimSpace(name), "wait") {
				continue
			}
			n, err := strconv.ParseUint(strings.Trim(strings.TrimSpace(value), `"`), 10, 31)
			if errors.Is(err, strconv.ErrRange) {
				return most
			}
			if err != nil {
				return 0
			}
			return min(time.Duration(n)*time.Second, most)
		}
	}
	return 0
}

// namedForms returns which forms of a version If-None-Match names, by the weak
// comparison that RFC 9110, section 13.1.2, asks for.
func namedForms(h http.Header, id string) (plain, zipped bool) {
	for _, line := range h.Values("If-None-Match") {
		for tag := range strings.SplitSeq(line, ",") {
			switch tag = strings.TrimPrefix(strings.TrimSpace(tag), "W/"); tag {
			case "*":
				return true, true
			case etag(id, false):
				plain = true
			case etag(id, true):
				zipped = true
			}
		}
	}
	return plain, zipped
}

// matchesETag reports whether If-None-Match names the version in any form.
func matchesETag(h http.Header, id string) bool {
	plain, zipped := namedForms(h, id)
	return plain || zipped
}
