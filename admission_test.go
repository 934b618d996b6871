package pollsse

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/pollsse/caddy-poll-sse/internal/feed"
)

// TestStreamsOfOneClient: one address gets an eighth of the places, unless it
// stands for many clients.
func TestStreamsOfOneClient(t *testing.T) {
	const forwarded = "X-Forwarded-For"
	for _, test := range []struct {
		name    string
		fields  []string
		bounded bool
	}{
		{"an address", []string{"client", "203.0.113.66"}, true},
		{"an address that claims to be a proxy", []string{"client", "203.0.113.66", forwarded, "192.0.2.1"}, true},
		{"IPv6", []string{"client", "2001:db8::1"}, true},
		{"IPv4 in IPv6", []string{"client", "::ffff:203.0.113.66"}, true},
		{"a client behind a trusted proxy", []string{"client", "203.0.113.66", "peer", "10.0.0.1", forwarded, "203.0.113.66"}, true},
		{"one that claims to be loopback behind a trusted proxy", []string{"client", "127.0.0.1", "peer", "10.0.0.1", forwarded, "127.0.0.1"}, true},
		{"a private address", []string{"client", "10.0.0.1"}, true},
		{"a private proxy", []string{"client", "10.0.0.1", forwarded, "203.0.113.66"}, false},
		{"a private proxy with Forwarded", []string{"client", "fd00::1", "Forwarded", "for=203.0.113.66"}, false},
		{"loopback", []string{"client", "127.0.0.1"}, false},
		{"loopback in IPv6", []string{"client", "::1"}, false},
		{"no address", []string{"client", ""}, false},
	} {
		bubble(t, func(t *testing.T) {
			r := newRig(t, &Handler{Limits: Limits{MaxSubscribers: 80}})
			for range 10 {
				r.stream(test.fields...).expect(`status {"state":"live"…`, "snapshot …")
			}
			audit(t)
			before := r.stream("client", "192.0.2.77")
			more := r.stream(test.fields...)
			got := r.get(test.fields...)
			if !test.bounded {
				more.expect(`status {"state":"live"…`, "snapshot …")
				if got.Code != 200 {
					t.Errorf("%s: a GET beside 11 streams: %d", test.name, got.Code)
				}
				return
			}
			more.expect(`status {"state":"refused",…"reason":"too_many_of_client"}`)
			if got.Code != 503 || got.Header().Get("Retry-After") == "" {
				t.Errorf("%s: a GET beside 10 of 10 streams: %d", test.name, got.Code)
			}
			before.expect(`status {"state":"live"…`, "snapshot …")
		})
	}
}

// TestPlacesAreKeptForTheirOwners: an id that anybody can make up takes no
// place that is kept for another.
func TestPlacesAreKeptForTheirOwners(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		r := newRig(t, &Handler{Upstream: "http://upstream.test/{http.request.uri.query.q}", Streaming: Streaming{MaxAge: 20 * second}, Limits: Limits{MaxSubscribers: 2, MaxStreamsPerClient: 2}})
		old := r.open("/api?q=1", "client", "192.0.2.1")
		time.Sleep(21 * time.Second)
		old.next()
		if !old.ended() {
			t.Fatal("max_age did not end the stream")
		}
		r.open("/api?q=1", "client", "192.0.2.2").expect(`status {"state":"live"…`, "snapshot …")
		id := feed.Version(nil, []byte("made up"))
		for _, stranger := range []struct{ client, target string }{{"192.0.2.9", "/api?q=1"}, {"192.0.2.1", "/api?q=2"}} {
			r.open(stranger.target, "client", stranger.client, "Last-Event-ID", id).expect(`status …"reason":"too_many_streams"}`)
		}
		r.open("/api?q=1", "client", "192.0.2.1", "Last-Event-ID", old.parser.lastID).expect(`status {"state":"live"…`)
		audit(t)
	})
}

// TestHiddenClientsAreTold: the operator of a proxy that Caddy does not know
// learns what to set, and nobody else does.
func TestHiddenClientsAreTold(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		core, logs := observer.New(zap.WarnLevel)
		r := newRig(t, &Handler{Upstream: "http://upstream.test/{http.request.uri.query.q}", Name: t.Name(), Limits: Limits{MaxSources: 16}})
		r.logger = zap.New(core)
		warnings := func() int { return logs.FilterMessageSnippet("trusted_proxies").Len() }
		open := func(q int, fields ...string) string {
			c := r.open(fmt.Sprint("/api?q=", q), fields...)
			synctest.Wait()
			return string(c.w.take())
		}
		for i := range 3 {
			open(i, "client", "203.0.113.66", "X-Forwarded-For", "192.0.2.1")
			open(i, "client", "203.0.113.67", "peer", "10.0.0.1", "X-Forwarded-For", "203.0.113.67")
		}
		if n := warnings(); n != 0 {
			t.Errorf("%d warnings of proxies that Caddy knows, or that are none", n)
		}
		if got := open(9, "client", "203.0.113.66", "X-Forwarded-For", "192.0.2.1"); !strings.Contains(got, "too_many_documents") || strings.Contains(got, "trusted_proxies") {
			t.Errorf("refused with %q, want no advice to the internet", got)
		}
		for i := range 2 {
			if got := open(10+i, "client", "10.0.0.1", "X-Forwarded-For", "203.0.113.66"); strings.Contains(got, "refused") {
				t.Errorf("refused with %q below its share", got)
			}
		}
		if got := open(12, "client", "10.0.0.1", "X-Forwarded-For", "203.0.113.66"); !strings.Contains(got, "too_many_documents") || !strings.Contains(got, "trusted_proxies") {
			t.Errorf("refused with %q, want to be told of trusted_proxies", got)
		}
		if n := warnings(); n != 1 {
			t.Errorf("%d warnings of a proxy that Caddy does not know, want 1", n)
		}
		other := newRig(t, &Handler{Name: t.Name() + " static"})
		other.logger = zap.New(core)
		other.stream("client", "10.0.0.1", "X-Forwarded-For", "203.0.113.66")
		if n := warnings(); n != 1 {
			t.Error("warned where clients do not decide which documents there are")
		}
	})
}
