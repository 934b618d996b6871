package pollsse

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// dropping is an upstream that answers the first request of each connection,
// keeps the connection, and ends it at the next request without an answer.
type dropping struct{ requests, lost atomic.Int64 }

func (d *dropping) dial(context.Context, string, string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	go func() {
		defer ours.Close()
		in := bufio.NewReader(ours)
		for first := true; ; first = false {
			req, err := http.ReadRequest(in)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, req.Body)
			d.requests.Add(1)
			if !first {
				d.lost.Add(1)
				return
			}
			body := fmt.Sprintf(`{"n":%d}`, d.requests.Load())
			fmt.Fprintf(ours, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(body), body)
			if req.Close {
				return
			}
		}
	}()
	return theirs, nil
}

// tenMinutes is how long a host's connections are not used again after it has
// dropped one.
const tenMinutes = 10 * time.Minute

// TestUpstreamDropsKeptConnections: if net/http sends a request once more over
// a new connection, that is no failure, it counts as a request, and it soon
// stops.
func TestUpstreamDropsKeptConnections(t *testing.T) {
	for _, method := range []string{"GET", "POST"} {
		t.Run(method, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				up := &dropping{}
				transport := &http.Transport{DialContext: up.dial}
				defer transport.CloseIdleConnections()
				h := &Handler{Name: "dropping " + method, Request: Request{Method: method}, Schedule: Schedule{Interval: caddy.Duration(time.Second)}}
				if method == "POST" {
					h.Body = `{"ask":true}`
				}
				r := newRig(t, h)
				h.claim.environment = environment{transport, h.logger, h.claim.generation.number}
				c := r.stream()
				c.next()
				time.Sleep(7500 * time.Millisecond)
				for _, e := range c.next() {
					if e.name == "status" {
						t.Errorf("%s %s, want changes alone", e.name, e.data)
					}
				}
				if n := up.requests.Load(); n > 9 {
					t.Errorf("the upstream got %d requests for 8 polls, want at most one more", n)
				}
				time.Sleep(tenMinutes) // kept connections are tried again, and again found bad
				synctest.Wait()
				polls := int64(8 + tenMinutes/time.Second)
				if n := up.requests.Load(); n != polls+2 {
					t.Errorf("the upstream got %d requests for %d polls, want two more", n, polls)
				}
				if n := testEngine(t).pool.endpoints[h.Name].counters.requests.Load(); n != up.requests.Load() {
					t.Errorf("%d requests are counted, the upstream got %d", n, up.requests.Load())
				}
				testEngine(t).pool.closeAll()
			})
		})
	}
}

// TestOneDropCountsForTheHost: sources of one host learn from each other.
func TestOneDropCountsForTheHost(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		up := &dropping{}
		transport := &http.Transport{DialContext: up.dial}
		defer transport.CloseIdleConnections()
		h := &Handler{Name: "dropping all", Upstream: "http://upstream.test/{http.request.uri.query.q}", Schedule: Schedule{Interval: caddy.Duration(time.Second)}}
		r := newRig(t, h)
		h.claim.environment = environment{transport, h.logger, h.claim.generation.number}
		for i := range 10 {
			r.open(fmt.Sprintf("/api?q=%d", i))
			time.Sleep(50 * time.Millisecond)
		}
		time.Sleep(30 * time.Second)
		testEngine(t).pool.closeAll()
		if n, lost := up.requests.Load(), up.lost.Load(); n < 300 || lost != 1 {
			t.Errorf("%d of %d requests were lost, want one of 300 or more", lost, n)
		}
	})
}

// TestAPollIsAskedOnce: marking a POST as one that can be sent again sends no
// field of its own.
func TestAPollIsAskedOnce(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		r := newRig(t, &Handler{Request: Request{Method: "POST", Body: "{}"}})
		r.stream()
		var out bytes.Buffer
		if err := r.up.last().Write(&out); err != nil || strings.Contains(out.String(), "Idempotency") {
			t.Errorf("the request is %q, %v", out.String(), err)
		}
	})
}

// TestNoStore: no-store belongs to the document that was published with it. A
// 304 keeps it, and an answer that was refused says nothing.
func TestNoStore(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		steps := []struct {
			answer *http.Response
			want   bool
		}{
			{reply(200, "1", "ETag", `"1"`), false},
			{reply(200, "<html>", "Cache-Control", "no-store"), false},
			{reply(200, "2", "ETag", `"2"`, "Cache-Control", "private, No-Store"), true},
			{reply(304, ""), true},
			{reply(304, "", "Cache-Control", "max-age=1"), true},
			{reply(500, ""), true},
			{reply(200, "2", "ETag", `"2"`), false},
			{reply(304, "", "Cache-Control", "no-store"), true},
		}
		u := &fakeUpstream{script: func(n int, _ *http.Request) *http.Response { return steps[n-1].answer }}
		s, _ := startSource(t, &Handler{Schedule: Schedule{Interval: caddy.Duration(time.Minute), MaxInterval: caddy.Duration(time.Minute)}}, u)
		for i, step := range steps {
			wait(time.Second)
			if got := s.log.View().NoStore; got != step.want {
				t.Errorf("after answer %d: %v, want %v", i+1, got, step.want)
			}
			if i < len(steps)-1 {
				wait(59 * time.Second)
			}
		}
	})
}
