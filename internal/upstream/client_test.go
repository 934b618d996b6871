package upstream

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"io"
	stdlog "log"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

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
	c := newClient(t, Config{URL: server.URL}, Reading{})
	if _, err := c.Fetch(t.Context(), transport, nil); err == nil || asFault(err).Reason != ReasonTLS || !strings.Contains(err.Error(), "expired") {
		t.Errorf("expired certificate: %v, want tls", err)
	}
	<-current
	current <- valid
	if got, err := c.Fetch(t.Context(), transport, nil); err != nil || string(got.Body) != "1" {
		t.Errorf("renewed certificate: %q, %v", got.Body, err)
	}
}

// TestNoBodyIsRetained: between two polls a client holds no buffer, whatever
// became of the last body.
func TestNoBodyIsRetained(t *testing.T) {
	for _, test := range []struct {
		name, body string
		fields     []string
		end        func(*Client, Response)
	}{
		{"published", "[1]", nil, (*Client).Commit},
		{"refused by the differ", "[1]", nil, func(c *Client, _ Response) { c.Discard() }},
		{"converted", "\xff\xfe1\x002\x00", nil, (*Client).Commit},
		{"too large", strings.Repeat(" ", 2000), nil, nil},
		{"too large once converted", "[\"" + strings.Repeat("\xe9", 800) + "\"]", []string{"Content-Type: text/plain; charset=latin1"}, nil},
		{"not known", "[1]", []string{"Content-Encoding: br"}, nil},
		{"broken", "[1]", []string{"Content-Encoding: gzip"}, nil},
	} {
		c := newClient(t, Config{}, Reading{MaxBody: 1000})
		u := &fakeUpstream{answer: func(int, *http.Request) *http.Response { return respond(200, test.body, test.fields...) }}
		got, err := c.Fetch(t.Context(), u, nil)
		if (err == nil) != (test.end != nil) {
			t.Fatalf("%s: %v", test.name, err)
		}
		if err == nil {
			test.end(c, got)
		}
		if c.body != nil {
			t.Errorf("%s: a buffer of %d bytes is held", test.name, c.body.Cap())
		}
	}
}

// TestFieldsOfAFetch: each request for the document has them, unless the
// configuration says what to send; requests for a token have none.
func TestFieldsOfAFetch(t *testing.T) {
	u := &fakeUpstream{answer: func(_ int, r *http.Request) *http.Response {
		switch {
		case r.URL.Host == "id.test":
			return respond(200, `{"access_token":"t","token_type":"Bearer"}`, "Content-Type: application/json")
		case r.URL.Path == "/doc":
			return respond(307, "", "Location: /moved")
		}
		return respond(200, "1")
	}}
	c := newClient(t, Config{
		URL: "https://h.test/doc", Set: http.Header{"Set": {"configured"}}, Delete: []string{"Deleted"},
		OAuth2: &OAuth2{TokenURL: "https://id.test/token", ClientID: "i", ClientSecret: "s"},
	}, Reading{})
	fields := http.Header{"Set": {"x"}, "Deleted": {"x"}, "Traceparent": {"x"}}
	if _, err := c.Fetch(t.Context(), u, fields); err != nil {
		t.Fatal(err)
	}
	if len(u.requests) != 3 {
		t.Fatalf("%d requests, want 3", len(u.requests))
	}
	for _, r := range u.requests {
		set, deleted, parent := r.Header.Get("Set"), r.Header.Get("Deleted"), r.Header.Get("Traceparent")
		if r.URL.Host == "id.test" {
			if set != "" || parent != "" {
				t.Errorf("%s: %v", r.URL, r.Header)
			}
			continue
		}
		if set != "configured" || deleted != "" || parent != "x" {
			t.Errorf("%s: %v", r.URL, r.Header)
		}
	}
}
