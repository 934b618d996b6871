package system_test

import (
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/pollsse/caddy-poll-sse/internal/judge"
)

// TestInFront puts poll_sse behind the directives that sites have in front of
// it, without an order option: authentication, CORS, compression, headers and
// the access log.
func TestInFront(t *testing.T) {
	t.Parallel()
	k := &ticker{owner: "everybody"}
	u := newUpstream(t, k.serve(false))
	// The password is "hiccup".
	const hash = "$2a$14$Zkx19XLiW6VYouLHR5NmfOFU0z2GTNmpkT/5qqR7hx4IjWJPDhjvG"
	s := start(t, site{directives: `
log
header Server-Note seen
header -Server
encode gzip zstd
basic_auth /locked {
	someone ` + hash + `
}
@cors {
	path /cors
	header Origin https://page.example
}
header @cors {
	Access-Control-Allow-Origin https://page.example
	Access-Control-Allow-Credentials true
}
poll_sse /locked ` + u.url("/doc") + ` {
	interval 100ms
}
poll_sse /cors ` + u.url("/doc") + ` {
	interval 100ms
}
poll_sse /open ` + u.url("/doc") + ` {
	interval 100ms
}
reverse_proxy ` + u.address + `
`})
	for _, w := range wires {
		t.Run(string(w), func(t *testing.T) {
			s := *s
			s.t = t
			client, base := s.client(w)

			// Authentication comes first.
			resp, body := get200(t, client, base+"/locked", http.Header{"Accept": {"text/event-stream"}})
			if resp.StatusCode != http.StatusUnauthorized || strings.Contains(body, "everybody") {
				t.Errorf("without a password: %s %q", resp.Status, body)
			}
			locked := k.follow(newFollower(t, "locked", client, base+"/locked"))
			locked.header.Set("Authorization", "Basic c29tZW9uZTpoaWNjdXA=")
			locked.run()

			// Compression does not hold events back.
			open := k.follow(newFollower(t, "compressed", client, base+"/open"))
			open.header.Set("Accept-Encoding", "gzip")
			open.read = func(r io.Reader) io.Reader { return &maybeGzip{f: open, r: r} }
			open.run()

			cors := k.follow(newFollower(t, "cors", client, base+"/cors"))
			cors.header.Set("Origin", "https://page.example")
			cors.run()
			all := []*follower{locked, open, cors}
			for _, f := range all {
				f.await("a document", func() bool { return f.page.Doc != nil })
			}
			for range 3 {
				step := k.step.Add(1)
				for _, f := range all {
					f.await("a step", k.at(f, step))
				}
			}
			for _, f := range all {
				if f.close(); f.err != nil || f.connections != 1 {
					t.Errorf("%s: %v, %d connections, broken %q", f.name, f.err, f.connections, f.broken)
				}
				h := f.lastResp.Header
				if h.Get("Server-Note") != "seen" || h.Get("Server") != "" {
					t.Errorf("%s: header directives did not work: %v", f.name, h)
				}
				if h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Cache-Control") != "no-store, no-transform" || h.Get("X-Accel-Buffering") != "no" {
					t.Errorf("%s: header of a stream: %v", f.name, h)
				}
			}
			t.Logf("the stream has Content-Encoding %q", open.lastResp.Header.Get("Content-Encoding"))
			if h := cors.lastResp.Header; h.Get("Access-Control-Allow-Origin") != "https://page.example" || h.Get("Access-Control-Allow-Credentials") != "true" {
				t.Errorf("CORS header: %v", h)
			}

			// The document is compressed, and its ETag still gets a 304.
			resp, body = get200(t, client, base+"/open", http.Header{"Accept-Encoding": {"gzip"}})
			if resp.Header.Get("Content-Encoding") == "gzip" {
				z, err := gzip.NewReader(strings.NewReader(body))
				if err != nil {
					t.Fatal(err)
				}
				body = readAll(t, z)
			} else {
				t.Errorf("document is not compressed: %v", resp.Header)
			}
			if doc, err := judge.Parse([]byte(body)); err != nil {
				t.Errorf("compressed document: %v", err)
			} else if _, err := k.check(doc); err != nil {
				t.Error(err)
			}
			tag := resp.Header.Get("ETag")
			resp, body = get200(t, client, base+"/open", http.Header{"Accept-Encoding": {"gzip"}, "If-None-Match": {tag}})
			if resp.StatusCode != http.StatusNotModified || body != "" {
				t.Errorf("If-None-Match %s of the compressed document: %s with %d bytes", tag, resp.Status, len(body))
			}

			// Any other method goes on to the proxy, and the document is polled
			// again.
			polls := u.polls.Load()
			post, err := client.Post(base+"/open", "application/json", strings.NewReader("{}"))
			if err != nil {
				t.Fatal(err)
			}
			if text := readAll(t, post.Body); post.StatusCode != 200 || !strings.Contains(text, "everybody") || u.polls.Load() == polls {
				t.Errorf("POST: %s %.80q", post.Status, text)
			}
			_ = post.Body.Close()
		})
	}
	s.terminate()
	streams := 0
	for line := range strings.SplitSeq(s.log.String(), "\n") {
		// A stream that was taken over ends after its line in the access log.
		taken := strings.Contains(line, `"msg":"stream ended"`)
		if !taken && !strings.Contains(line, `"http.log.access`) || !strings.Contains(line, `"ended_by"`) {
			continue
		}
		streams++
		var entry struct {
			Status  int     `json:"status"`
			Sent    int     `json:"sent"`
			Took    float64 `json:"streamed"`
			EndedBy string  `json:"ended_by"`
			Frames  int     `json:"frames"`
		}
		if err := json.Unmarshal([]byte(line), &entry); err != nil {
			t.Errorf("access log: %v in %s", err, line)
		}
		// The compressed ones are small.
		if !taken && entry.Status != 200 || entry.Sent < 400 || entry.Took <= 0 || entry.EndedBy == "" {
			t.Errorf("access log of a stream: %+v in %s", entry, line)
		}
		wantNone(t, "access log", line, "c29tZW9uZTpoaWNjdXA=")
	}
	if want := 3 * len(wires); streams != want {
		t.Errorf("access log has %d streams, want %d", streams, want)
	}
}

// maybeGzip decodes a stream that says that it is compressed.
type maybeGzip struct {
	f *follower
	r io.Reader
	z io.Reader
}

func (m *maybeGzip) Read(b []byte) (int, error) {
	if m.z == nil {
		m.f.mu.Lock()
		coding := m.f.lastResp.Header.Get("Content-Encoding")
		m.f.mu.Unlock()
		m.z = m.r
		if coding == "gzip" {
			z, err := gzip.NewReader(m.r)
			if err != nil {
				return 0, err
			}
			m.z = z
		}
	}
	return m.z.Read(b)
}
