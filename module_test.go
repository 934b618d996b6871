package pollsse

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
)

// serve runs Caddy in this process with a site made of directives. It returns
// the site's URL and the name of the file that holds everything Caddy logs.
func serve(t *testing.T, directives string) (url, logs string) {
	t.Helper()
	logs = filepath.Join(t.TempDir(), "caddy.log")
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt(fmt.Appendf(nil, `{
	admin off
	persist_config off
	auto_https off
	log {
		output file %s
		level DEBUG
	}
}
http://:0 {
	log
%s
}
`, logs, directives), nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := caddy.Load(config, true); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		process.pool.closeAll()
		if err := caddy.Stop(); err != nil {
			t.Error(err)
		}
	})
	app, err := caddy.ActiveContext().AppIfConfigured("http")
	if err != nil {
		t.Fatal(err)
	}
	for _, server := range app.(*caddyhttp.App).Servers {
		_, port, err := net.SplitHostPort(server.Listeners()[0].Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		return "http://127.0.0.1:" + port, logs
	}
	t.Fatal("no server")
	return "", ""
}

// fetch makes one request; fields are name and value in turn.
func fetch(t *testing.T, url string, fields ...string) (*http.Response, string) {
	t.Helper()
	resp := start(t, t.Context(), url, fields...)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func start(t *testing.T, ctx context.Context, url string, fields ...string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(ctx, "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(fields); i += 2 {
		r.Header.Add(fields[i], fields[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

// follow reads a stream until it has n events and returns all its bytes.
func follow(t *testing.T, url string, n int, fields ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	resp := start(t, ctx, url, append([]string{"Accept", "text/event-stream"}, fields...)...)
	defer resp.Body.Close()
	var all strings.Builder
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		all.WriteString(lines.Text() + "\n")
		if strings.HasPrefix(lines.Text(), "data: ") && !strings.Contains(lines.Text(), `"state"`) {
			if n--; n == 0 {
				return all.String()
			}
		}
	}
	t.Fatalf("the stream ended, %d events early: %q, %v", n, all.String(), lines.Err())
	return ""
}

// TestTenancy: two users with different credentials read at the same time and
// one after the other, on a stream, as JSON and with the other's versions.
// Neither ever sees a byte of the other's document, and no log has a secret.
func TestTenancy(t *testing.T) {
	for _, test := range []struct{ name, options, field, prefix string }{
		{"Authorization", "forward Authorization", "Authorization", "Bearer "},
		{"cookie", "forward cookie:session", "Cookie", "theme=dark; session="},
		{"placeholder in a field", "header_up X-User {header.X-User}", "X-User", ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			var mu sync.Mutex
			n := 0
			upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				mu.Lock()
				defer mu.Unlock()
				n++
				user := "nobody"
				for _, v := range []string{r.Header.Get("Authorization"), r.Header.Get("Cookie"), r.Header.Get("X-User")} {
					for _, name := range []string{"alice", "bob"} {
						if strings.Contains(v, name+"-secret") {
							user = name
						}
					}
				}
				fmt.Fprintf(w, `{"owner":"document-of-%s","n":%d,"filler":%q}`, user, n, filler)
			}))
			defer upstream.Close()
			url, logs := serve(t, "poll_sse /api "+upstream.URL+"/doc {\ninterval 100ms\n"+test.options+"\n}\nrespond 404")
			url += "/api"
			var wg sync.WaitGroup
			for _, name := range []string{"alice", "bob"} {
				other := map[string]string{"alice": "bob", "bob": "alice"}[name]
				own, others := test.prefix+name+"-secret", test.prefix+other+"-secret"
				wg.Go(func() {
					for range 5 {
						resp, body := fetch(t, url, test.field, own)
						if !strings.Contains(body, "document-of-"+name) || strings.Contains(body, "document-of-"+other) {
							t.Errorf("%s got %d %q", name, resp.StatusCode, body)
						}
						if c := resp.Header.Get("Cache-Control"); c != "private, no-cache" {
							t.Errorf("Cache-Control: %q, want private, no-cache", c)
						}
						if vary := strings.Join(resp.Header.Values("Vary"), ", "); test.field != "X-User" && !strings.Contains(vary, test.field) {
							t.Errorf("Vary: %q does not name %s", vary, test.field)
						}
						// The other user's version means nothing here.
						foreign, _ := fetch(t, url, test.field, others)
						id := strings.Trim(foreign.Header.Get("ETag"), `"`)
						if resp, _ := fetch(t, url, test.field, own, "If-None-Match", `"`+id+`"`); resp.StatusCode != 200 {
							t.Errorf("%s's version gave %s a %d", other, name, resp.StatusCode)
						}
						if got := follow(t, url, 3, test.field, own, "Last-Event-ID", id); !strings.Contains(got, "document-of-"+name) || strings.Contains(got, "document-of-"+other) {
							t.Errorf("%s's stream: %q, want a snapshot of its own", name, got)
						}
					}
				})
			}
			wg.Wait()
			if test.field != "X-User" {
				if _, body := fetch(t, url); !strings.Contains(body, "document-of-nobody") {
					t.Errorf("without credentials: %q", body)
				}
			} else if resp, _ := fetch(t, url); resp.StatusCode != 400 {
				t.Errorf("without a value for a placeholder: %d, want 400", resp.StatusCode)
			}
			process.pool.closeAll()
			text, err := os.ReadFile(logs)
			if err != nil || len(text) == 0 {
				t.Fatalf("no log: %v", err)
			}
			words := []string{"document-of"}
			if test.field != "X-User" { // Caddy's own access log has what is not a credential
				words = append(words, "alice-secret", "bob-secret")
			}
			for _, word := range words {
				if strings.Contains(string(text), word) {
					t.Errorf("the log holds %q", word)
				}
			}
		})
	}
}

// TestSecretsStayInside: the value of {env.*} reaches the upstream and nobody
// else, whatever goes wrong.
func TestSecretsStayInside(t *testing.T) {
	var got []string
	var mu sync.Mutex
	fail := false
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		got = append(got, r.URL.Query().Get("key")+" "+r.Header.Get("X-Key")+" "+r.URL.Query().Get("s"))
		if fail {
			http.Redirect(w, r, "http://elsewhere.test/?key="+r.URL.Query().Get("key"), http.StatusFound)
			return
		}
		fmt.Fprint(w, `{}`)
	}))
	t.Setenv("POLL_SSE_KEY", "top&secret")
	t.Setenv("POLL_SSE_ORIGIN", upstream.URL)
	url, logs := serve(t, `poll_sse /api {env.POLL_SSE_ORIGIN}/x?key={env.POLL_SSE_KEY}&s={query.s} {
	interval 100ms
	timeout 500ms
	header_up X-Key {env.POLL_SSE_KEY}
}`)
	hostile := "a%26key=evil%23&key=evil&{env.POLL_SSE_KEY}"
	resp, _ := fetch(t, url+"/api?s="+hostile)
	mu.Lock()
	if resp.StatusCode != 200 || len(got) == 0 || got[0] != "top&secret top&secret a&key=evil#" {
		t.Errorf("%d; the upstream got %q", resp.StatusCode, got)
	}
	fail = true
	mu.Unlock()
	if resp.Header.Get("Cache-Control") != "no-cache" {
		t.Errorf("Cache-Control %q: the document depends on nothing but the URL", resp.Header.Get("Cache-Control"))
	}
	var answers strings.Builder
	for _, s := range []string{"one", "..", "%7Benv.POLL_SSE_KEY%7D", ""} {
		resp, body := fetch(t, url+"/api?s="+s)
		fmt.Fprintf(&answers, "%s %v %s\n", resp.Status, resp.Header, body)
	}
	upstream.Close()
	resp, body := fetch(t, url+"/api?s=down")
	fmt.Fprintf(&answers, "%s %v %s\n", resp.Status, resp.Header, body)
	if resp.StatusCode != 502 {
		t.Errorf("with the upstream gone: %d, want 502", resp.StatusCode)
	}
	process.pool.closeAll()
	text, err := os.ReadFile(logs)
	if err != nil || !strings.Contains(string(text), "{env.POLL_SSE_ORIGIN}/x?…") {
		t.Errorf("the log does not name the upstream as configured: %v", err)
	}
	for where, text := range map[string]string{"the log": string(text), "an answer": answers.String()} {
		for _, secret := range []string{"top&secret", "top%26secret", `top\u0026secret`} {
			if i := strings.Index(text, secret); i >= 0 {
				t.Errorf("%s holds the secret: …%s…", where, text[max(0, i-200):min(len(text), i+100)])
			}
		}
	}
}

// TestHandlerOnARealServer: a stream arrives through encode, other methods go
// on, a refused configuration changes nothing.
func TestHandlerOnARealServer(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, doc(1)) }))
	defer upstream.Close()
	url, _ := serve(t, "encode\npoll_sse /api "+upstream.URL+"\nrespond \"next {method}\" 201")
	if got := follow(t, url+"/api", 1); !strings.Contains(got, "event: snapshot\n") {
		t.Errorf("through encode: %q", got)
	}
	for _, method := range []string{"POST", "DELETE", "OPTIONS"} {
		r, _ := http.NewRequest(method, url+"/api", nil)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(resp.Body)
		resp.Body.Close()
		if string(body) != "next "+method {
			t.Errorf("%s: %d %q, want the next handler's answer", method, resp.StatusCode, body)
		}
	}
	if resp, body := fetch(t, url+"/other"); resp.StatusCode != 201 || body != "next GET" {
		t.Errorf("another path: %d %q", resp.StatusCode, body)
	}
	if resp, body := fetch(t, url+"/api", "Connection", "Upgrade", "Upgrade", "websocket"); resp.StatusCode != 201 {
		t.Errorf("an upgrade: %d %q, want the next handler", resp.StatusCode, body)
	}
}

// TestStaticRequestIsMadeOnce: if clients decide no part of the upstream
// request, a client's request makes no other.
func TestStaticRequestIsMadeOnce(t *testing.T) {
	for upstream, static := range map[string]bool{
		"http://upstream.test/doc": true, "http://upstream.test/doc?since={poll_sse.last_success.unix}": true,
		"http://upstream.test/doc?q={http.request.uri.query.q}": false,
	} {
		h := Handler{Upstream: upstream, Request: Request{HeaderUp: &headers.HeaderOps{Set: http.Header{"Accept-Language": {"de"}}}}}
		h.setDefaults()
		h.prepare(caddy.NewReplacer(), testEngine(t).newGeneration())
		if err := h.Validate(); err != nil {
			t.Fatal(err)
		}
		r := request(t.Context(), "GET", "/api?q=x")
		first, err := h.expand(r)
		if err != nil {
			t.Fatal(err)
		}
		allocs := testing.AllocsPerRun(100, func() {
			again, err := h.expand(r)
			if err != nil || again.Key(h.readingKey) != first.Key(h.readingKey) {
				t.Fatal("another request", err)
			}
		})
		if (allocs == 0) != static {
			t.Errorf("%s: %v allocations a request; static: %v", upstream, allocs, static)
		}
	}
}
