package system_test

import (
	"bufio"
	"compress/gzip"
	"context"
	"net/http"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// stream opens an event stream and returns the answer.
func openStream(t testing.TB, s *server, w wire, path string, fields ...string) *http.Response {
	t.Helper()
	client, base := s.client(w)
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "text/event-stream")
	for i := 0; i < len(fields); i += 2 {
		req.Header.Set(fields[i], fields[i+1])
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// TestDirectDeliveryBehindCaddy: the header of a stream that is taken over
// passes through the directives around it, the access log has the stream, and
// another line reports its end.
func TestDirectDeliveryBehindCaddy(t *testing.T) {
	t.Parallel()
	k := &ticker{owner: "everybody"}
	u := newUpstream(t, k.serve(true))
	s := start(t, site{noTLS: true, directives: `
log
encode
header X-Around yes
poll_sse /direct ` + u.url("/doc") + ` {
	interval 100ms
}
poll_sse /handler ` + u.url("/doc") + ` {
	interval 100ms
	delivery handler
}
`})
	for path, direct := range map[string]bool{"/direct": true, "/handler": false} {
		for _, coding := range []string{"identity", "gzip"} {
			resp := openStream(t, s, http1, path, "Accept-Encoding", coding)
			if got := resp.Header.Get("X-Around"); got != "yes" || resp.StatusCode != http.StatusOK {
				t.Errorf("%s: status %d, X-Around %q", path, resp.StatusCode, got)
			}
			if got := resp.Close; got != direct {
				t.Errorf("%s: Connection: close is %v, want %v", path, got, direct)
			}
			if got := resp.Header.Get("Content-Encoding") == "gzip"; got != (coding == "gzip") {
				t.Errorf("%s: coding %q, asked for %s", path, resp.Header.Get("Content-Encoding"), coding)
			}
			var body = bufio.NewReader(resp.Body)
			if coding == "gzip" {
				z, err := gzip.NewReader(resp.Body)
				if err != nil {
					t.Fatal(err)
				}
				body = bufio.NewReader(z)
			}
			for patches := 0; patches < 3; {
				line, err := body.ReadString('\n')
				if err != nil {
					t.Fatalf("%s, %s: after %d patches: %v", path, coding, patches, err)
				}
				if strings.HasPrefix(line, "event: patch") {
					patches++
				}
			}
			resp.Body.Close()
			if direct {
				s.awaitLog(`"delivery":"direct"`)
				s.awaitLog(`"stream ended"`)
			}
		}
	}
	s.awaitLog(`"ended_by":"client"`)
}

// TestDirectDeliveryTakesOver runs one server with HTTP/1.1 alone, for which
// Caddy wraps each connection, and one with TLS.
func TestDirectDeliveryTakesOver(t *testing.T) {
	t.Parallel()
	k := &ticker{owner: "everybody"}
	u := newUpstream(t, k.serve(true))
	for _, protocols := range []string{"", "servers {\n\tprotocols h1\n}"} {
		s := start(t, site{global: protocols, directives: "log\npoll_sse /api " + u.url("/doc") + " {\n\tinterval 100ms\n}"})
		for _, w := range []wire{http1, https1} {
			resp := openStream(t, s, w, "/api")
			body := bufio.NewReader(resp.Body)
			for patches := 0; patches < 3; {
				line, err := body.ReadString('\n')
				if err != nil {
					t.Fatal(err)
				}
				if strings.HasPrefix(line, "event: patch") {
					patches++
				}
			}
			resp.Body.Close()
			if !resp.Close || resp.ProtoMajor != 1 {
				t.Errorf("%q, %s: answered with %s, close is %v", protocols, w, resp.Proto, resp.Close)
			}
		}
	}
}

// TestCompressedStreamInCurlAndNode joins a stream in the middle with clients
// that decode with zlib, and expects each event as soon as it is sent.
func TestCompressedStreamInCurlAndNode(t *testing.T) {
	t.Parallel()
	k := &ticker{owner: "everybody"}
	u := newUpstream(t, k.serve(true))
	s := start(t, site{noTLS: true, directives: "poll_sse /api " + u.url("/doc") + " {\n\tinterval 100ms\n}\n"})
	first := bufio.NewReader(openStream(t, s, http1, "/api", "Accept-Encoding", "gzip").Body)
	if _, err := first.Peek(2000); err != nil { // the epoch has a history
		t.Fatal(err)
	}
	for _, command := range [][]string{
		{"curl", "-sN", "--compressed", "-H", "Accept: text/event-stream", "http://" + s.plain + "/api"},
		{"node", "-e", `fetch(process.argv[1], {headers: {accept: "text/event-stream"}}).then(async r => {
			process.stdout.write("coding: " + r.headers.get("content-encoding") + "\n");
			for await (const b of r.body) process.stdout.write(b);
		})`, "http://" + s.plain + "/api"},
	} {
		if _, err := exec.LookPath(command[0]); err != nil {
			t.Logf("%s is not installed", command[0])
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		cmd := exec.CommandContext(ctx, command[0], command[1:]...)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		begun, patches := time.Now(), 0
		for lines := bufio.NewReader(out); patches < 5; {
			line, err := lines.ReadString('\n')
			if err != nil {
				t.Fatalf("%s: after %d patches: %v", command[0], patches, err)
			}
			if strings.HasPrefix(line, "event: patch") {
				patches++
			}
		}
		t.Logf("%s: 5 patches in %v", command[0], time.Since(begun))
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
}
