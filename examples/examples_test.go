// Package examples_test runs the examples.
package examples_test

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	_ "github.com/caddyserver/caddy/v2/modules/standard"

	_ "github.com/pollsse/caddy-poll-sse"
)

// TestConfigurations: every example is formatted and valid, and where there is
// JSON beside it, that is the same configuration.
func TestConfigurations(t *testing.T) {
	t.Chdir("..") // where README starts them
	t.Setenv("SYNCTHING_API_KEY", "key")
	files, err := filepath.Glob("examples/*/Caddyfile")
	if err != nil || len(files) < 4 {
		t.Fatalf("%d examples: %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(filepath.Dir(file)), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(caddyfile.Format(text), text) {
				t.Error("not formatted as caddy fmt does")
			}
			adapted, warnings, err := adapt(file, text)
			if err != nil || len(warnings) > 0 {
				t.Fatalf("adapt: %v %v", warnings, err)
			}
			var config *caddy.Config
			if err := json.Unmarshal(adapted, &config); err != nil {
				t.Fatal(err)
			}
			if err := caddy.Validate(config); err != nil {
				t.Errorf("validate: %v", err)
			}
			twin, err := os.ReadFile(filepath.Join(filepath.Dir(file), "caddy.json"))
			if os.IsNotExist(err) {
				return
			}
			if !reflect.DeepEqual(decode(t, adapted), decode(t, twin)) {
				t.Errorf("caddy.json is another configuration; adapted it is\n%s", adapted)
			}
		})
	}
}

func adapt(file string, text []byte) ([]byte, []caddyconfig.Warning, error) {
	return caddyconfig.GetAdapter("caddyfile").Adapt(text, map[string]any{"filename": file})
}

func decode(t *testing.T, text []byte) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// serve runs an example on this machine: replacements are pairs of what stands
// in it and what takes its place.
func serve(t *testing.T, example string, replacements ...string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(example, "Caddyfile"))
	if err != nil {
		t.Fatal(err)
	}
	replacements = append(replacements, "\t\tname quotes\n", "\t\tname quotes\n\t\tinterval 100ms\n", "\t\tinterval 2s\n", "", "interval 5s", "interval 100ms",
		"forward cookie:session", "forward cookie:session\n\t\tinterval 100ms")
	site := strings.NewReplacer(replacements...).Replace(string(text))
	adapted, _, err := adapt(example, []byte("{\n\tadmin off\n\tpersist_config off\n\tauto_https off\n}\n"+site))
	if err != nil {
		t.Fatalf("%v in\n%s", err, site)
	}
	if err := caddy.Load(adapted, true); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = caddy.Stop() })
	app, err := caddy.ActiveContext().AppIfConfigured("http")
	if err != nil {
		t.Fatal(err)
	}
	for _, server := range app.(*caddyhttp.App).Servers {
		return "http://" + server.Listeners()[0].Addr().String()
	}
	t.Fatal("no server")
	return ""
}

func request(t *testing.T, method, url string, fields ...string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(fields); i += 2 {
		req.Header.Set(fields[i], fields[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// await reads a stream until a line has the text.
func await(t *testing.T, lines *bufio.Scanner, text string) {
	t.Helper()
	for lines.Scan() {
		if strings.Contains(lines.Text(), text) {
			return
		}
	}
	t.Fatalf("the stream ended without %q: %v", text, lines.Err())
}

func TestSite(t *testing.T) {
	var version, polls, posts atomic.Int64
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			posts.Add(1)
			version.Add(1)
			return
		}
		polls.Add(1)
		fmt.Fprintf(w, `{"version":%d,"filler":%q}`, version.Load(), strings.Repeat("x", 200))
	}))
	defer backend.Close()
	address := strings.TrimPrefix(backend.URL, "http://")
	url := serve(t, "site", "app.example.com {", ":0 {", "127.0.0.1:9000", address)
	if resp := request(t, "GET", url+"/api/quotes"); resp.StatusCode != 401 || polls.Load() != 0 {
		t.Fatalf("without a login: %s, %d polls; want 401 and none", resp.Status, polls.Load())
	}
	login := []string{"Authorization", "Basic YWxpY2U6aGljY3Vw", "Accept", "text/event-stream"} // alice:hiccup
	resp := request(t, "GET", url+"/api/quotes", login...)
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		t.Fatalf("with a login: %s %v", resp.Status, resp.Header)
	}
	lines := bufio.NewScanner(resp.Body)
	await(t, lines, `"version":0`)
	if resp := request(t, "POST", url+"/api/quotes", login...); resp.StatusCode != 200 || posts.Load() != 1 {
		t.Fatalf("POST: %s, %d arrived", resp.Status, posts.Load())
	}
	await(t, lines, `{"op":"replace","path":"/version","value":1}`)
}

func TestCORS(t *testing.T) {
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"cookie":%q}`, r.Header.Get("Cookie"))
	}))
	defer backend.Close()
	url := serve(t, "cors", "api.example.com {", ":0 {", "127.0.0.1:9000", strings.TrimPrefix(backend.URL, "http://"))
	const origin = "https://app.example.com"
	preflight := request(t, "OPTIONS", url+"/quotes", "Origin", origin, "Access-Control-Request-Method", "GET")
	if preflight.StatusCode != 204 || !strings.Contains(preflight.Header.Get("Access-Control-Allow-Headers"), "Last-Event-ID") {
		t.Errorf("preflight: %s %v", preflight.Status, preflight.Header)
	}
	stream := request(t, "GET", url+"/quotes", "Origin", origin, "Accept", "text/event-stream", "Cookie", "session=s3cret; other=1")
	for _, resp := range []*http.Response{preflight, stream} {
		if h := resp.Header; h.Get("Access-Control-Allow-Origin") != origin || h.Get("Access-Control-Allow-Credentials") != "true" || !strings.Contains(strings.Join(h.Values("Vary"), ","), "Origin") {
			t.Errorf("%s: %v", resp.Request.Method, h)
		}
	}
	await(t, bufio.NewScanner(stream.Body), `{"cookie":"session=s3cret"}`)
	if resp := request(t, "GET", url+"/quotes", "Origin", "https://elsewhere.example"); resp.Header.Get("Access-Control-Allow-Origin") != "" {
		t.Errorf("another origin is allowed: %v", resp.Header)
	}
}

func TestPrivate(t *testing.T) {
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user := r.Header.Get("Authorization")
		if user == "" {
			w.Header().Set("WWW-Authenticate", "Bearer")
			w.WriteHeader(401)
			return
		}
		fmt.Fprintf(w, `{"of":%q}`, user)
	}))
	defer backend.Close()
	url := serve(t, "private", "api.example.com {", ":0 {", "https://legacy.internal", backend.URL)
	for _, user := range []string{"Bearer one", "Bearer two"} {
		resp := request(t, "GET", url+"/portfolio", "Authorization", user)
		body, err := io.ReadAll(resp.Body)
		if err != nil || string(body) != fmt.Sprintf(`{"of":%q}`, user) || resp.Header.Get("Cache-Control") != "private, no-cache" {
			t.Errorf("%s gets %s %v %v", user, body, resp.Header, err)
		}
	}
	begun := time.Now()
	resp := request(t, "GET", url+"/portfolio", "Accept", "text/event-stream")
	if resp.StatusCode != 401 || resp.Header.Get("WWW-Authenticate") != "Bearer" {
		t.Errorf("nobody gets %s %v after %s", resp.Status, resp.Header, time.Since(begun))
	}
}

// TestOperatingDocumentation: every configuration in docs/operate is formatted and
// valid.
func TestOperatingDocumentation(t *testing.T) {
	t.Setenv("INSPECTOR_HASH", "$2a$14$Zkx19XLiW6VYouLHR5NmfOFU0z2GTNmpkT/5qqR7hx4IjWJPDhjvG")
	files, err := filepath.Glob("../docs/operate/*.md")
	if err != nil || len(files) == 0 {
		t.Fatalf("%d files: %v", len(files), err)
	}
	sites := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile("(?ms)^```[a-z]*\n(.*?)^```$").FindAllStringSubmatch(string(text), -1) {
			block := m[1]
			if !strings.HasPrefix(block, "example.com {") {
				continue
			}
			sites++
			if !bytes.Equal(caddyfile.Format([]byte(block)), []byte(block)) {
				t.Errorf("%s: not formatted as caddy fmt does:\n%s", file, block)
			}
			adapted, warnings, err := adapt(file, []byte(block))
			if err != nil || len(warnings) > 0 {
				t.Errorf("%s: %v %v in\n%s", file, warnings, err, block)
				continue
			}
			var config *caddy.Config
			if err := json.Unmarshal(adapted, &config); err != nil {
				t.Fatal(err)
			}
			if err := caddy.Validate(config); err != nil {
				t.Errorf("%s: %v in\n%s", file, err, block)
			}
		}
	}
	if sites != 2 {
		t.Errorf("%d sites were looked at, want 2", sites)
	}
}
