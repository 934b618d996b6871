package system_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/quic-go/quic-go/http3"
)

var (
	exits      = flag.Int("exits", 6, "how many processes TestExitDuringReload ends")
	plainExits = flag.Bool("plain-exits", false, "TestExitDuringReload runs without poll_sse, to compare; it reports exits that hang and does not fail")
)

// returner is a client that comes back the moment it is sent away, as often
// over a new connection as over the one that it has.
type returner struct {
	wire      wire
	site, url string // the address to dial; the URL
	accept    string
	roots     *x509.CertPool
	answers   *atomic.Int64
}

// transport makes a transport that has no connection yet.
func (r *returner) transport() (http.RoundTripper, func()) {
	config := &tls.Config{RootCAs: r.roots, ServerName: "localhost"}
	if r.wire == http3w {
		t := &http3.Transport{TLSClientConfig: config, DisableCompression: true}
		return t, func() { _ = t.Close() }
	}
	t := &http.Transport{
		TLSClientConfig: config, ForceAttemptHTTP2: r.wire == http2, DisableCompression: true,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, r.site)
		},
	}
	return t, t.CloseIdleConnections
}

// run comes back until the context ends. A transport that is no longer used
// keeps its connection to the end, as a browser does for a while.
func (r *returner) run(ctx context.Context) {
	t, release := r.transport()
	defer func() { release() }()
	for ctx.Err() == nil {
		if rand.IntN(2) == 0 {
			old := release
			t, release = r.transport()
			defer old()
		}
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url, nil)
		if err != nil {
			panic(err)
		}
		req.Header.Set("Accept", r.accept)
		if resp, err := t.RoundTrip(req); err == nil {
			r.answers.Add(1)
			_, _ = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
			continue
		}
		select {
		case <-ctx.Done():
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// TestExitDuringReload ends many processes in the middle of a reload, with
// clients of every version of HTTP that return at once. Each process must exit.
func TestExitDuringReload(t *testing.T) {
	var took []time.Duration
	hung := 0
	for n := range *exits {
		d, ended := exitDuringReload(t, n)
		took = append(took, d)
		if !ended {
			hung++
		}
	}
	slices.Sort(took)
	t.Logf("%d exits, median %s, longest %s, %d hung", len(took), took[len(took)/2].Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond), hung)
	if hung > 0 && !*plainExits {
		t.Errorf("%d of %d exits did not come about within %s", hung, len(took), patience/2)
	}
}

func exitDuringReload(t *testing.T, n int) (time.Duration, bool) {
	k := &ticker{owner: "everybody"}
	u := newUpstream(t, k.serve(true))
	config := func(n int) site {
		// Streams outlive the reload, so that they are still open at the exit.
		directives := formats(u.url("/doc"), "interval 100ms\nretry 100ms\nstream_close_delay 2s")
		if *plainExits {
			directives = "respond /patch hello\n"
		}
		return site{directives: directives + fmt.Sprintf("respond /config %d\n", n)}
	}
	s := start(t, config(0))
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	var answers atomic.Int64
	defer func() { cancel(); group.Wait() }()
	for _, w := range wires {
		for i := range 6 {
			r := &returner{wire: w, roots: s.roots, site: s.tls, url: "https://localhost:" + portOf(s.tls) + "/patch", accept: "text/event-stream", answers: &answers}
			if w == http1 {
				r.site, r.url = s.plain, "http://"+s.plain+"/patch"
			}
			if i == 0 {
				r.accept = "application/json"
			}
			group.Go(func() { r.run(ctx) })
		}
	}
	for deadline := time.Now().Add(patience); answers.Load() < 24; {
		if time.Now().After(deadline) {
			t.Fatalf("only %d answers", answers.Load())
		}
		<-time.After(5 * time.Millisecond)
	}

	// Reloads follow one another, and the signal comes in the middle of one.
	reloads := make(chan struct{})
	group.Go(func() {
		defer close(reloads)
		for i := 1; ctx.Err() == nil && s.tryReload(config(i)); i++ {
		}
	})
	<-time.After(200*time.Millisecond + rand.N(200*time.Millisecond))
	begun := time.Now()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	select {
	case <-s.done:
		return time.Since(begun), true
	case <-time.After(patience / 2):
	}
	_ = s.cmd.Process.Signal(syscall.SIGABRT) // it writes down what it waits for
	<-s.done
	text := s.log.String()
	t.Logf("exit %d hangs, waiting for:\n%s", n, text[max(0, strings.Index(text, "goroutine ")):])
	return time.Since(begun), false
}
