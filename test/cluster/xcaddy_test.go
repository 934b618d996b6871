package cluster_test

import (
	"flag"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

var withXcaddy = flag.Bool("xcaddy", false, "build Caddy with xcaddy, which takes minutes and needs the network")

const xcaddy = "github.com/caddyserver/xcaddy/cmd/xcaddy@v0.4.5"

// TestXcaddy builds Caddy from a checkout, with and without an engine, as
// docs/cluster.md says.
func TestXcaddy(t *testing.T) {
	if !*withXcaddy {
		t.Skip("only with -xcaddy: it takes minutes and needs the network")
	}
	repository, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	// What go get makes of a module with a replacement depends on whether it is
	// published. Here, it never is.
	tell := func(args ...string) string {
		text, err := exec.Command("go", args...).Output()
		if err != nil {
			t.Fatalf("go %q: %v", args, err)
		}
		return strings.TrimSpace(string(text))
	}
	first, _, _ := strings.Cut(tell("env", "GOPROXY"), ",")
	real, err := url.Parse(first)
	if err != nil || real.Host == "" {
		t.Fatalf("GOPROXY %q is no server", first)
	}
	forward := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) { r.SetURL(real) }}
	modules := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/github.com/pollsse/") {
			http.NotFound(w, r)
			return
		}
		forward.ServeHTTP(w, r)
	}))
	defer modules.Close()
	version := tell("list", "-m", "-f", "{{.Version}}", "github.com/caddyserver/caddy/v2")
	build := func(t *testing.T, with ...string) string {
		output := filepath.Join(t.TempDir(), "caddy")
		args := []string{"run", xcaddy, "build", version, "--output", output}
		for _, w := range with {
			args = append(args, "--with", w)
		}
		cmd := exec.Command("go", args...)
		cmd.Dir = repository
		cmd.Env = append(os.Environ(), "GOPROXY="+modules.URL, "GOFLAGS=-buildvcs=false")
		if text, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s", cmd.Args, err, text)
		}
		if info, err := os.Stat(output); err == nil {
			t.Logf("%.2f MB with %q", float64(info.Size())/1e6, with)
		}
		return output
	}
	run := func(t *testing.T, caddy string, env []string, args ...string) (string, error) {
		cmd := exec.Command(caddy, args...)
		cmd.Dir = filepath.Join(repository, "examples/cluster")
		cmd.Env = append(os.Environ(), env...)
		text, err := cmd.CombinedOutput()
		return string(text), err
	}
	o, e := newOrigin(t), startNATS(t, "")
	n := &node{name: "a", admin: "127.0.0.1:" + strconv.Itoa(freePort(t)), plain: "127.0.0.1:" + strconv.Itoa(freePort(t))}
	_, port, _ := strings.Cut(n.plain, ":")
	env := []string{"ADMIN=" + n.admin, "NODE_PORT=" + port, "NATS=nats://" + e.address(), "API=" + o.URL}
	validate := []string{"validate", "--config", "node.caddyfile", "--adapter", "caddyfile"}

	t.Run("without an engine", func(t *testing.T) {
		caddy := build(t, "github.com/pollsse/caddy-poll-sse=.")
		text, err := run(t, caddy, nil, "list-modules")
		if err != nil || !strings.Contains(text, "http.handlers.poll_sse\n") || strings.Contains(text, "poll_sse.cluster") {
			t.Errorf("list-modules: %v\n%s", err, text)
		}
		if text, err := run(t, caddy, env, validate...); err == nil || !strings.Contains(text, "module not registered: poll_sse.cluster.nats") {
			t.Errorf("a cluster without its engine: %v\n%s", err, text)
		}
		if text, err := run(t, caddy, nil, "validate", "--config", "../quickstart/Caddyfile", "--adapter", "caddyfile"); err != nil {
			t.Errorf("the quickstart: %v\n%s", err, text)
		}
	})
	for _, engine := range []string{"nats", "redis"} {
		t.Run("with "+engine, func(t *testing.T) {
			caddy := build(t, "github.com/pollsse/caddy-poll-sse=.", "github.com/pollsse/caddy-poll-sse/cluster/"+engine+"=./cluster/"+engine)
			text, err := run(t, caddy, nil, "list-modules")
			if err != nil || !strings.Contains(text, "poll_sse.cluster."+engine+"\n") || !strings.Contains(text, "http.handlers.poll_sse\n") {
				t.Errorf("list-modules: %v\n%s", err, text)
			}
			if engine != "nats" {
				return
			}
			if text, err := run(t, caddy, env, validate...); err != nil {
				t.Errorf("examples/cluster/node.caddyfile: %v\n%s", err, text)
			}
			n.process = process{t: t, program: caddy, env: env, dir: t.TempDir(), args: []string{"run", "--config", filepath.Join(repository, "examples/cluster/node.caddyfile"), "--adapter", "caddyfile"}}
			n.begin()
			defer n.end(syscall.SIGTERM)
			resp, err := http.Get("http://" + n.plain + "/api/quotes")
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if resp.StatusCode != http.StatusOK {
				t.Errorf("the document: %s", resp.Status)
			}
			eventually(t, "it owns the document", func() bool { return n.is("owns") })
		})
	}
}
