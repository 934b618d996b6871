package upstream

import (
	"net/http"
	"net/http/httptrace"
	"sync/atomic"
	"time"
)

// noReuseFor is how long each request to a host gets a connection of its own
// after the host has ended a kept one without an answer.
const noReuseFor = 10 * time.Minute

// Reuse says whether clients may use a host's connections again. They may with
// the zero value, and stop for ten minutes if the host ends a kept connection
// without an answer to a request.
type Reuse struct{ dropped atomic.Pointer[time.Time] }

func (r *Reuse) noteDrop() {
	now := time.Now()
	r.dropped.Store(&now)
}

func (r *Reuse) allowed() bool {
	dropped := r.dropped.Load()
	return dropped == nil || time.Since(*dropped) >= noReuseFor
}

// hop sends one request of a client over its transport and counts it. net/http
// sends a request again if a kept connection ends without an answer: no poll
// has failed then, but the upstream may have got two.
type hop struct{ *Client }

func (h hop) RoundTrip(req *http.Request) (*http.Response, error) {
	tries := 0
	h.requests.Add(1)
	req = req.WithContext(httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		GotConn: func(httptrace.GotConnInfo) {
			if tries++; tries > 1 {
				h.requests.Add(1)
			}
		},
	}))
	req.Close = !h.reuse.allowed()
	resp, err := h.transport.RoundTrip(req)
	if err == nil && tries > 1 && resp.ProtoMajor == 1 { // HTTP/2 announces it, RFC 9113 section 6.8
		h.reuse.noteDrop()
		// A transport is one configuration's, so these are the host's, too.
		(&http.Client{Transport: h.transport}).CloseIdleConnections()
	}
	if err != nil {
		return nil, err
	}
	return checkLocation(resp)
}
