package pollsse

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	stdlog "log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// TestNamedFaults: each way in which an upstream fails is a state with a name,
// before and after there was a document, takes bounded time, and heals by
// itself.
func TestNamedFaults(t *testing.T) {
	tests := []struct {
		name   string
		answer func(r *http.Request) *http.Response
		want   string
	}{
		{"no connection", func(*http.Request) *http.Response { return nil }, reasonUnreachable},
		{"500", func(*http.Request) *http.Response { return respond(500, "") }, reasonStatus},
		{"401", func(*http.Request) *http.Response { return respond(401, "") }, reasonUnauthorized},
		{"403", func(*http.Request) *http.Response { return respond(403, "") }, reasonForbidden},
		{"429", func(*http.Request) *http.Response { return respond(429, "") }, reasonRateLimited},
		{"204", func(*http.Request) *http.Response { return respond(204, "") }, reasonEmpty},
		{"206", func(*http.Request) *http.Response { return respond(206, "[1]") }, reasonStatus},
		{"hangs before the headers", func(r *http.Request) *http.Response { <-r.Context().Done(); return nil }, reasonTimeout},
		{"hangs after the headers", func(r *http.Request) *http.Response {
			resp := respond(200, "")
			resp.ContentLength, resp.Body = 100, hanging{r.Context()}
			return resp
		}, reasonTimeout},
		{"a byte a second", func(r *http.Request) *http.Response {
			resp := respond(200, "")
			resp.ContentLength, resp.Body = -1, &drip{ctx: r.Context().Done(), piece: []byte("1"), every: time.Second}
			return resp
		}, reasonTimeout},
		{"error page", func(*http.Request) *http.Response { return respond(200, "<!DOCTYPE html><title>Oops</title>") }, reasonNotJSON},
		{"redirects to another host", func(*http.Request) *http.Response {
			return respond(302, "", "Location: http://login.test/?secret=1")
		}, reasonRedirect},
		{"redirects to another scheme", func(r *http.Request) *http.Response {
			return respond(302, "", "Location: https://"+r.URL.Host+"/")
		}, reasonRedirect},
		{"redirects to itself", func(*http.Request) *http.Response { return respond(302, "", "Location: /doc") }, reasonRedirect},
	}
	for _, test := range tests {
		t.Run(strings.ReplaceAll(test.name, " ", "-"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u := &fakeUpstream{}
				u.answer = func(n int, r *http.Request) *http.Response {
					minute := int(time.Since(u.begun) / (5 * time.Minute))
					if minute%2 == 0 {
						return test.answer(r)
					}
					return respond(200, fmt.Sprint(minute))
				}
				s, logs := startSource(t, &Handler{Interval: caddy.Duration(2 * time.Second)}, u)
				state := func(state, reason string) {
					t.Helper()
					wait(4 * time.Minute)
					if v := s.log.view(); v.status.state != state || v.status.reason != reason || (v.doc == nil) != (state == stateWaiting) {
						t.Errorf("status %+v, want %s %s", v.status, state, reason)
					}
					wait(time.Minute)
				}
				state(stateWaiting, test.want)
				state(stateLive, "")
				state(stateStale, test.want)
				event := string(appendStatus(nil, "status", s.log.view().status))
				if !strings.Contains(event, `"validated":"2000-01-01T00:09:`) {
					t.Errorf("the event does not tell the document's age: %s", event)
				}
				state(stateLive, "")
				if logs.Len() != 4 {
					t.Errorf("%d log lines for two faults, want 4: %v", logs.Len(), logs.All())
				}
				for _, line := range logs.All() {
					if text := fmt.Sprint(line.Message, line.ContextMap()); strings.Contains(text, "secret") {
						t.Errorf("the log holds the upstream's URL: %s", text)
					}
				}
			})
		})
	}
}

// hanging is a body that never gives a byte.
type hanging struct{ ctx context.Context }

func (h hanging) Read([]byte) (int, error) { <-h.ctx.Done(); return 0, h.ctx.Err() }
func (h hanging) Close() error             { return nil }

func TestExpiredCertificate(t *testing.T) {
	certificate := func(until time.Time) tls.Certificate {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: until.String()}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
			NotBefore: until.Add(-24 * time.Hour), NotAfter: until, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			t.Fatal(err)
		}
		return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	}
	expired, valid := certificate(time.Now().Add(-time.Hour)), certificate(time.Now().Add(time.Hour))
	current := make(chan tls.Certificate, 1)
	current <- expired
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, "1") }))
	server.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		c := <-current
		current <- c
		return &tls.Config{Certificates: []tls.Certificate{c}}, nil
	}}
	server.Config.ErrorLog = stdlog.New(io.Discard, "", 0)
	server.StartTLS()
	defer server.Close()
	roots := x509.NewCertPool()
	for _, c := range []tls.Certificate{expired, valid} {
		parsed, err := x509.ParseCertificate(c.Certificate[0])
		if err != nil {
			t.Fatal(err)
		}
		roots.AddCert(parsed)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	defer transport.CloseIdleConnections()
	p := &poller{
		request: upstreamRequest{method: "GET", url: server.URL, header: http.Header{}}, maxBody: 1 << 20,
		schedule: schedule{timeout: time.Minute}, link: func() link { return link{transport: transport} }, total: new(counters),
	}
	if _, err := p.fetch(context.Background()); err == nil || asFault(err).reason != reasonTLS || !strings.Contains(err.Error(), "expired") {
		t.Errorf("expired certificate: %v, want tls", err)
	}
	<-current
	current <- valid
	if got, err := p.fetch(context.Background()); err != nil || string(got.body) != "1" {
		t.Errorf("renewed certificate: %q, %v", got.body, err)
	}
}

func TestDeniedIsOneSourcesOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := &fakeUpstream{answer: func(n int, r *http.Request) *http.Response {
			if r.Header.Get("Authorization") == "bad" && n > 2 {
				return respond(401, "", "WWW-Authenticate: Basic")
			}
			return respond(200, "1")
		}}
		h := &Handler{Upstream: "http://denied.test/", Forward: []string{"Authorization"}, Interval: caddy.Duration(time.Second)}
		good, logs := startSource(t, h, u)
		req, err := h.request.expand(nil, &http.Request{URL: &url.URL{}, Header: http.Header{"Authorization": {"bad"}}})
		if err != nil {
			t.Fatal(err)
		}
		bad := newSource([32]byte{1}, req, h.settings, *good.link.Load(), new(counters))
		t.Cleanup(bad.close)
		wait(time.Minute)
		if v := bad.log.view(); v.status.state != stateDenied || v.doc != nil || v.denial == nil || v.denial.status != 401 {
			t.Errorf("refused: %+v, want denied without a document", v)
		}
		if v := good.log.view(); v.status.state != stateLive || v.doc == nil {
			t.Errorf("the other: %+v, want live", v.status)
		}
		if logs.Len() != 0 {
			t.Errorf("a client's bad credentials are logged: %v", logs.All())
		}
	})
}

func TestCacheStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := view{validated: time.Now(), status: status{state: stateLive}}
		time.Sleep(3500 * time.Millisecond)
		if got, want := cacheStatus(v, false, 10*time.Second), "poll_sse; hit; ttl=6"; got != want {
			t.Errorf("live: %s, want %s", got, want)
		}
		time.Sleep(time.Minute)
		v.status = status{state: stateStale, reason: reasonTimeout}
		if got, want := cacheStatus(v, false, 10*time.Second), "poll_sse; hit; ttl=-53; detail=timeout"; got != want {
			t.Errorf("stale: %s, want %s", got, want)
		}
		if got, want := cacheStatus(v, true, 10*time.Second), "poll_sse; fwd=miss; stored"; got != want {
			t.Errorf("cold: %s, want %s", got, want)
		}
	})
}
