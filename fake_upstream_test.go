package pollsse

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// fakeUpstream answers requests without a network and notes them. Its zero value
// answers with body and 200; script or answer say otherwise.
type fakeUpstream struct {
	// script answers request n, counted from 1; nil is no connection.
	script func(n int, r *http.Request) *http.Response

	mu       sync.Mutex
	body     string
	do       func(*http.Request) (*http.Response, error)
	begun    time.Time // of the source that startSource has started
	requests []*http.Request
	bodies   []string // of the requests
	times    []time.Time
	inFlight int
	most     int // requests that were in flight together
}

func (u *fakeUpstream) RoundTrip(r *http.Request) (*http.Response, error) {
	sent := ""
	if r.Body != nil {
		b, _ := io.ReadAll(r.Body)
		r.Body.Close()
		sent = string(b)
		r = r.WithContext(r.Context()) // a copy
		r.Body = io.NopCloser(strings.NewReader(sent))
	}
	u.mu.Lock()
	u.requests, u.bodies, u.times = append(u.requests, r), append(u.bodies, sent), append(u.times, time.Now())
	u.inFlight++
	u.most = max(u.most, u.inFlight)
	n, do, body := len(u.requests), u.do, u.body
	u.mu.Unlock()
	defer func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.inFlight--
	}()
	var resp *http.Response
	switch {
	case u.script != nil:
		resp = u.script(n, r)
	case do != nil:
		var err error
		if resp, err = do(r); err != nil {
			return nil, err
		}
	default:
		resp = reply(200, body)
	}
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	if resp == nil {
		return nil, errors.New("connection refused")
	}
	resp.Request = r
	return resp, nil
}

// set makes body the answer to every request.
func (u *fakeUpstream) set(body string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.body, u.do = body, nil
}

// answer makes do answer every request.
func (u *fakeUpstream) answer(do func(*http.Request) (*http.Response, error)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.do = do
}

func (u *fakeUpstream) count() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.requests)
}

// last returns the last request.
func (u *fakeUpstream) last() *http.Request {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.requests[len(u.requests)-1]
}

// polls returns when each request came, since begun.
func (u *fakeUpstream) polls() []time.Duration {
	u.mu.Lock()
	defer u.mu.Unlock()
	var all []time.Duration
	for _, at := range u.times {
		all = append(all, at.Sub(u.begun))
	}
	return all
}

// sent returns the bodies of the requests.
func (u *fakeUpstream) sent() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.bodies)
}

// reply makes an answer; fields are name and value in turn.
func reply(status int, body string, fields ...string) *http.Response {
	h := make(http.Header)
	for i := 0; i+1 < len(fields); i += 2 {
		h.Add(fields[i], fields[i+1])
	}
	return &http.Response{
		StatusCode: status, Status: fmt.Sprintf("%d %s", status, http.StatusText(status)),
		Header: h, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}
}

// answers returns what answers every request alike.
func answers(status int, body string, fields ...string) func(*http.Request) (*http.Response, error) {
	return func(*http.Request) (*http.Response, error) { return reply(status, body, fields...), nil }
}

// hang is a body of which nothing comes until its request ends.
type hang struct{ ctx context.Context }

func (h hang) Read([]byte) (int, error) { <-h.ctx.Done(); return 0, h.ctx.Err() }
func (h hang) Close() error             { return nil }
