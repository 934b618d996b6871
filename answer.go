package pollsse

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// preferredWait returns how long a request is willing to wait for a change:
// the wait preference of RFC 7240, section 4.3, in seconds, bounded by most. It
// is 0 where the request names none.
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

// matchesETag tells whether If-None-Match names the version, by the weak
// comparison that RFC 9110, section 13.1.2, asks for.
func matchesETag(h http.Header, id string) bool {
	for _, line := range h.Values("If-None-Match") {
		for tag := range strings.SplitSeq(line, ",") {
			tag = strings.TrimPrefix(strings.TrimSpace(tag), "W/")
			if tag == "*" || tag == `"`+id+`"` {
				return true
			}
		}
	}
	return false
}

var (
	// errCold means that there was no document in time.
	errCold = errors.New("no document from the upstream in time")
	// errDown means that the upstream has failed and never given a document.
	errDown = errors.New("the upstream gives no document")
)

// answer gives the document itself to one request.
type answer struct {
	log     *log
	timeout time.Duration // for the first document
	wait    time.Duration // for a change of the one the client has
	end     <-chan struct{}
}

// get waits for what the request is to see: a first document, and, where the
// client has the current one and asked to wait, the next.
func (a answer) get(r *http.Request) (view, error) {
	ctx := r.Context()
	v := a.log.view()
	if r.Method == http.MethodGet {
		var err error
		if v, err = awaitPoll(ctx, a.log, a.timeout, a.end); err != nil {
			return v, err
		}
	}
	switch {
	case v.doc == nil && v.denial != nil:
		return v, nil
	case v.doc == nil && v.polled:
		return v, errDown
	case v.doc == nil:
		return v, errCold
	}
	if a.wait <= 0 || r.Method != http.MethodGet || !matchesETag(r.Header, v.doc.id) {
		return v, nil
	}
	timer := time.NewTimer(a.wait)
	defer timer.Stop()
	for v.doc != nil && matchesETag(r.Header, v.doc.id) {
		select {
		case <-ctx.Done():
			return v, ctx.Err()
		case <-a.end:
			return v, nil
		case <-timer.C:
			return v, nil
		case <-v.wake:
			v = a.log.view()
		}
	}
	return v, nil
}

// awaitPoll waits until the first poll has ended, at most for timeout, and not
// longer than the process lives.
func awaitPoll(ctx context.Context, l *log, timeout time.Duration, end <-chan struct{}) (view, error) {
	v := l.view()
	if v.polled {
		return v, nil
	}
	timer := time.NewTimer(timeout)
	defer timer.Stop()
	for !v.polled {
		select {
		case <-ctx.Done():
			return v, ctx.Err()
		case <-timer.C:
			return l.view(), nil
		case <-end:
			return l.view(), nil
		case <-v.wake:
			v = l.view()
		}
	}
	return v, nil
}

// writeDocument answers with the document of v, or with 304 where the client
// has it.
func writeDocument(w http.ResponseWriter, r *http.Request, v view, private bool) {
	h := w.Header()
	h.Set("ETag", `"`+v.doc.id+`"`)
	h.Set("Age", strconv.Itoa(int(max(0, time.Since(v.validated))/time.Second)))
	if private {
		h.Set("Cache-Control", "private, no-store")
	} else {
		h.Set("Cache-Control", "no-cache")
	}
	if matchesETag(r.Header, v.doc.id) {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(v.doc.text)))
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		_, _ = w.Write(v.doc.text)
	}
}

// cacheStatus tells, in the terms of RFC 9211, how a document came to the
// client: from the source, with what is left of its interval (less than
// nothing where the upstream is late) and why it is stale, or, where the
// request had to wait for the first poll, from the upstream.
func cacheStatus(v view, waited bool, interval time.Duration) string {
	if waited {
		return "poll_sse; fwd=miss; stored"
	}
	ttl := int64((interval - max(0, time.Since(v.validated))) / time.Second)
	value := "poll_sse; hit; ttl=" + strconv.FormatInt(ttl, 10)
	if v.status.state == stateStale {
		value += "; detail=" + v.status.reason
	}
	return value
}

// prefersEventStream tells whether a request asks for a stream: it names
// text/event-stream, and no less than JSON (RFC 9110, section 12.5.1).
// Wildcards get the document.
func prefersEventStream(h http.Header) bool {
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

// acceptsGzip tells whether a client takes gzip (RFC 9110, section 12.5.3).
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
