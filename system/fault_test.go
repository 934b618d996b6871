package system_test

import (
	"bytes"
	"compress/gzip"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pollsse/caddy-poll-sse/internal/judge"
)

// Secrets that must not reach a client or the log. They are in the
// configuration, and in the answers of the upstream when it fails.
const (
	upstreamKey   = "k3y-of-the-upstream"
	upstreamToken = "t0ken-of-the-upstream"
	upstreamText  = "words-of-the-failing-upstream"
)

// wiretap keeps everything that was read through it.
type wiretap struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (tap *wiretap) on(r io.Reader) io.Reader {
	return io.TeeReader(r, tap)
}

func (tap *wiretap) Write(b []byte) (int, error) {
	tap.mu.Lock()
	defer tap.mu.Unlock()
	return tap.text.Write(b)
}

func (tap *wiretap) String() string {
	tap.mu.Lock()
	defer tap.mu.Unlock()
	return tap.text.String()
}

func wantNone(t testing.TB, where, text string, secrets ...string) {
	t.Helper()
	for _, secret := range secrets {
		if i := strings.Index(text, secret); i >= 0 {
			t.Errorf("%s holds %q: …%s…", where, secret, text[max(0, i-200):min(len(text), i+200)])
		}
	}
}

// certificate makes a certificate for 127.0.0.1 that is its own authority.
func certificate(t testing.TB) (tls.Certificate, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

// TestFaults makes the upstream fail in every way, and come back each time.
func TestFaults(t *testing.T) {
	t.Parallel()
	var elsewhereAsked atomic.Int64
	elsewhere := newUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
		elsewhereAsked.Add(1)
		_, _ = io.WriteString(w, `{"step":0,"from":"`+upstreamText+`"}`)
	})
	good, authority := certificate(t)
	bad, _ := certificate(t)
	var presented atomic.Pointer[tls.Certificate]
	presented.Store(&good)
	k := &ticker{owner: "everybody"}
	u := &upstream{t: t, address: "127.0.0.1:0", tls: &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return presented.Load(), nil }}}
	u.set(k.serve(false))
	u.up()
	t.Cleanup(u.down)
	trusted := filepath.Join(t.TempDir(), "authority.pem")
	if err := os.WriteFile(trusted, authority, 0o600); err != nil {
		t.Fatal(err)
	}
	s := start(t, site{env: []string{"POLL_SSE_TEST_KEY=" + upstreamKey, "POLL_SSE_TEST_TOKEN=" + upstreamToken}, directives: formats(u.url("/doc?key={env.POLL_SSE_TEST_KEY}"),
		"interval 100ms\ntimeout 700ms\nmax_body 64KB\nheader_up Authorization \"Bearer {env.POLL_SSE_TEST_TOKEN}\"\ntransport http {\n\ttls_trust_pool file "+trusted+"\n}")})

	say := func(status int, header, body string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for line := range strings.SplitSeq(header, "\n") {
				if name, value, ok := strings.Cut(line, ": "); ok {
					w.Header().Set(name, value)
				}
			}
			w.WriteHeader(status)
			_, _ = io.WriteString(w, body)
		}
	}
	hang := func(first string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if first != "" {
				_, _ = io.WriteString(w, first)
				_ = http.NewResponseController(w).Flush()
			}
			<-r.Context().Done()
		}
	}
	abort := func(first string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, first)
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		}
	}
	whole := string(k.text(0))
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	_, _ = io.WriteString(z, whole)
	_ = z.Close()
	const page = "<!doctype html><title>" + upstreamText + "</title>"
	faults := []struct {
		name    string
		serve   http.HandlerFunc
		around  func() // instead of serve
		back    func()
		reasons string
	}{
		{name: "HTML with 200", serve: say(200, "Content-Type: text/html", page), reasons: "not_json"},
		{name: "HTML that says it is JSON", serve: say(200, "Content-Type: application/json", page), reasons: "not_json"},
		{name: "empty", serve: say(200, "Content-Type: application/json", ""), reasons: "empty"},
		{name: "white space", serve: say(200, "Content-Type: application/json", " \n "), reasons: "empty"},
		{name: "204", serve: say(204, "", ""), reasons: "empty"},
		{name: "truncated text", serve: say(200, "", whole[:len(whole)-3]), reasons: "not_json truncated"},
		{name: "two texts", serve: say(200, "", whole+whole), reasons: "not_json"},
		{name: "not UTF-8", serve: say(200, "", `{"step":"`+"\xff\xfe"+`"}`), reasons: "not_json"},
		{name: "truncated before Content-Length", serve: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", fmt.Sprint(len(whole)))
			_, _ = io.WriteString(w, whole[:200])
		}, reasons: "truncated"},
		{name: "truncated in a chunk", serve: abort(whole[:200]), reasons: "truncated"},
		{name: "500", serve: say(500, "", page), reasons: "status"},
		{name: "404", serve: say(404, "", page), reasons: "status"},
		{name: "401 without forwarded credentials", serve: say(401, "WWW-Authenticate: Basic realm="+upstreamText, page), reasons: "unauthorized"},
		{name: "304 that was not asked for", serve: func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("If-None-Match") != "" {
				w.WriteHeader(500) // so that the next is unconditional or fails again
				return
			}
			w.WriteHeader(304)
		}, reasons: "status"},
		{name: "429", serve: say(429, "Retry-After: 1", page), reasons: "rate_limited"},
		{name: "hang before the header", serve: hang(""), reasons: "timeout"},
		{name: "hang in the body", serve: hang(whole[:200]), reasons: "timeout"},
		{name: "over max_body", serve: say(200, "", `{"x":"`+strings.Repeat("x", 70<<10)+`"}`), reasons: "too_large"},
		{name: "over max_body in chunks", serve: func(w http.ResponseWriter, _ *http.Request) {
			for range 100 {
				_, _ = io.WriteString(w, strings.Repeat(" ", 4<<10))
				_ = http.NewResponseController(w).Flush()
			}
		}, reasons: "too_large"},
		{name: "gzip bomb", serve: say(200, "Content-Encoding: gzip", string(gzipped(256<<20))), reasons: "too_large"},
		{name: "broken gzip", serve: say(200, "Content-Encoding: gzip", page), reasons: "encoding"},
		{name: "truncated gzip", serve: say(200, "Content-Encoding: gzip", zipped.String()[:zipped.Len()-20]), reasons: "truncated encoding"},
		{name: "a coding that was not asked for", serve: say(200, "Content-Encoding: br", page), reasons: "encoding"},
		{name: "nested deeply", serve: say(200, "", strings.Repeat("[", 30<<10)+strings.Repeat("]", 30<<10)), reasons: "too_deep not_json"},
		{name: "redirect to another host", serve: say(302, "Location: "+elsewhere.url("/"+upstreamText), ""), reasons: "redirect"},
		{name: "redirect in a circle", serve: say(302, "Location: /doc", ""), reasons: "redirect"},
		{name: "redirect without a target", serve: say(302, "", ""), reasons: "redirect status unreachable"},
		{name: "connection dropped", serve: func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, reasons: "unreachable"},
		{name: "connection refused", around: u.down, back: u.up, reasons: "unreachable"},
		{name: "bad certificate", around: func() { u.down(); presented.Store(&bad); u.up() }, back: func() { u.down(); presented.Store(&good); u.up() }, reasons: "tls"},
	}

	var tap wiretap
	var all []*follower
	for i, format := range []string{"patch", "merge", "snapshot"} {
		client, base := s.client(wires[i])
		f := k.follow(newFollower(t, string(wires[i])+" "+format, client, base+"/"+format))
		f.read = tap.on
		all = append(all, f.run())
		f.await("a document", func() bool { return f.page.Doc != nil && f.status.State == "live" })
	}
	memory := s.residentBytes()
	for _, c := range faults {
		begun := time.Now()
		if c.around != nil {
			c.around()
		} else {
			u.set(c.serve)
		}
		for _, f := range all {
			f.await(c.name+": stale", func() bool { return f.status.State == "stale" })
			f.mu.Lock()
			reason, since := f.status.Reason, f.status.Since
			f.mu.Unlock()
			if !slices.Contains(strings.Fields(c.reasons), reason) {
				t.Errorf("%s: %s was told the reason %q, want %s", c.name, f.name, reason, c.reasons)
			}
			if at, _ := time.Parse(time.RFC3339, since); at.Before(begun.Add(-time.Second)) || at.After(time.Now().Add(time.Second)) {
				t.Errorf("%s: stale since %s, but it began at %s", c.name, since, begun)
			}
		}
		// Everybody still gets the last good document.
		client, base := s.client(http1)
		resp, body := get200(t, client, base+"/snapshot", nil)
		if doc, err := judge.Parse([]byte(body)); err != nil || resp.StatusCode != 200 {
			t.Errorf("%s: document while stale: %s, %v", c.name, resp.Status, err)
		} else if step, err := k.check(doc); err != nil || step != k.step.Load() {
			t.Errorf("%s: document while stale: step %d, %v", c.name, step, err)
		}
		step := k.step.Add(1)
		u.set(k.serve(false))
		if c.back != nil {
			c.back()
		}
		for _, f := range all {
			f.await(c.name+": live again", func() bool { return f.status.State == "live" && k.at(f, step)() })
		}
	}
	for _, f := range all {
		if f.close(); f.connections != 1 || f.err != nil {
			t.Errorf("%s: %d connections, %v, broken %q; no fault ends a stream", f.name, f.connections, f.err, f.broken)
		}
	}
	if n := elsewhereAsked.Load(); n > 0 {
		t.Errorf("a redirect to another host was followed %d times", n)
	}
	if grown := s.residentBytes() - memory; grown > 128<<20 {
		t.Errorf("memory grew by %d MiB", grown>>20)
	}
	wantNone(t, "stream", tap.String(), upstreamKey, upstreamToken, upstreamText, trusted)
	wantNone(t, "log", s.log.String(), upstreamKey, upstreamToken, upstreamText)
	wantNone(t, "configuration", s.adminGet("/config/"), upstreamKey, upstreamToken)
	wantNone(t, "sources", s.adminGet("/poll_sse/sources"), upstreamKey, upstreamToken, upstreamText)
	wantNone(t, "metrics", s.adminGet("/metrics"), upstreamKey, upstreamToken, upstreamText)
}
