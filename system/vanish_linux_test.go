package system_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	"golang.org/x/sys/unix"
)

// TestVanishedNetwork cuts clients off from the network in the middle of a
// stream: their systems answer nothing any more, not even that nobody is there.
// The server ends their streams, long before the system would by itself, and
// nobody else notices.
func TestVanishedNetwork(t *testing.T) {
	t.Parallel()
	k := &ticker{owner: "everybody"}
	u := newUpstream(t, k.serve(true))
	s := start(t, site{directives: `
poll_sse /direct ` + u.url("/doc") + ` {
	interval 500ms
}
poll_sse /handler ` + u.url("/doc") + ` {
	interval 500ms
	delivery handler
}
`})
	var lost []syscall.Conn
	for _, w := range wires {
		for _, path := range []string{"/direct", "/handler"} {
			lost = append(lost, openTraced(t, s, w, path))
		}
	}
	client, base := s.client(http1)
	healthy := newFollower(t, "healthy", client, base+"/direct").run()
	healthy.await("a patch", func() bool { return healthy.patches > 0 })
	if n := s.subscribers(); n != len(lost)+1 {
		t.Fatalf("%d subscribers, want %d", n, len(lost)+1)
	}
	for _, c := range lost {
		vanish(t, c)
	}
	// A minute is what the server allows, 15 are what Linux does.
	for end := time.Now().Add(100 * time.Second); s.subscribers() > 1; time.Sleep(time.Second) {
		if time.Now().After(end) {
			t.Fatalf("%d of %d subscribers are still there", s.subscribers(), len(lost)+1)
		}
	}
	at := 0
	healthy.await("a patch", func() bool { at = healthy.patches; return true })
	healthy.await("another patch", func() bool { return healthy.patches > at })
	if connections, _, broken := healthy.counted(); connections != 1 || broken > 0 {
		t.Errorf("the healthy client: %d connections, broken %q", connections, healthy.broken)
	}
	healthy.lastStream()
	s.awaitLog(`"stream ended"`)
}

// openTraced opens a stream, reads a patch and returns the connection below it.
func openTraced(t *testing.T, s *server, w wire, path string) (below syscall.Conn) {
	t.Helper()
	client, base := s.client(w)
	switch transport := client.Transport.(type) {
	case *http.Transport:
		dial := transport.DialContext
		if dial == nil {
			dial = new(net.Dialer).DialContext
		}
		transport.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := dial(ctx, network, address)
			below, _ = c.(*net.TCPConn)
			return c, err
		}
	case *http3.Transport:
		transport.Dial = func(ctx context.Context, address string, secure *tls.Config, config *quic.Config) (*quic.Conn, error) {
			to, err := net.ResolveUDPAddr("udp4", address)
			if err != nil {
				return nil, err
			}
			c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
			if err != nil {
				return nil, err
			}
			t.Cleanup(func() { c.Close() })
			below = c
			return quic.DialEarly(ctx, c, to, secure, config)
		}
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	for body := bufio.NewReader(resp.Body); ; {
		line, err := body.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(line, "event: patch") {
			return below
		}
	}
}

// vanish makes the system drop everything that arrives for a connection,
// unread: nothing is acknowledged, and nothing is refused.
func vanish(t *testing.T, c syscall.Conn) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var set error
	drop := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0}
	if err := raw.Control(func(fd uintptr) {
		set = unix.SetsockoptSockFprog(int(fd), unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &drop})
	}); err != nil || set != nil {
		t.Fatal(err, set)
	}
}
