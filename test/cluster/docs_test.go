package cluster_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// clusterPage is docs/cluster.md.
func clusterPage(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/cluster.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// block is a block of code of docs/cluster.md.
func block(t testing.TB, language string) string {
	t.Helper()
	_, rest, ok := strings.Cut(clusterPage(t), "```"+language+"\n")
	code, _, closed := strings.Cut(rest, "```")
	if !ok || !closed {
		t.Fatalf("docs/cluster.md has no block of %s", language)
	}
	return code
}

// replaced replaces pairs of what stands in a text, each of which must.
func replaced(t testing.TB, text string, pairs ...string) string {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("no %q in\n%s", pairs[i], text)
		}
		text = strings.ReplaceAll(text, pairs[i], pairs[i+1])
	}
	return text
}

// TestBehindHAProxy runs the configurations of docs/cluster.md, on this machine:
// pages behind a balancer survive the death of the node that they are on.
func TestBehindHAProxy(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("/usr/sbin/haproxy"); err != nil {
		t.Fatal("needs haproxy; on Debian: apt-get install haproxy")
	}
	o := newOrigin(t)
	e := startNATS(t, "")
	var all []*node
	for _, name := range []string{"a", "b", "c"} {
		n := &node{name: name, admin: "127.0.0.1:" + strconv.Itoa(freePort(t)), plain: "127.0.0.1:" + strconv.Itoa(freePort(t)), wire: newWire(t, e.address())}
		n.process = process{t: t, env: []string{asCaddy + "=1"}, dir: t.TempDir()}
		text := replaced(t, block(t, "caddyfile"),
			"{\n\tpoll_sse {", "{\n\tadmin "+n.admin+"\n\tpersist_config off\n\tauto_https off\n\tpoll_sse {",
			"nats://n1:4222 nats://n2:4222 nats://n3:4222", "nats://"+n.wire.address(),
			"\t\t\treplicas 3\n", "", "\t\t\tcredentials /etc/caddy/poll_sse.creds\n", "",
			":8080 {", "http://"+n.plain+" {\n\tbind 127.0.0.1",
			"https://legacy.internal/quotes.json {", o.URL+"/quotes.json {\n\t\tretry 300ms", "interval 2s", "interval 1s",
			"/srv/pages", n.dir)
		file := filepath.Join(n.dir, "Caddyfile")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		n.args = []string{"run", "--config", file, "--adapter", "caddyfile"}
		t.Cleanup(func() { n.end(syscall.SIGTERM) })
		defer func() {
			if t.Failed() {
				t.Logf("end of %s's log: %s", name, n.tail())
			}
		}()
		n.begin()
		all = append(all, n)
	}
	front := &node{name: "haproxy", plain: "127.0.0.1:" + strconv.Itoa(freePort(t))}
	config := filepath.Join(t.TempDir(), "haproxy.cfg")
	text := replaced(t, block(t, "haproxy"), "127.0.0.1:8080", front.plain, "127.0.0.1:8081", all[0].plain, "127.0.0.1:8082", all[1].plain, "127.0.0.1:8083", all[2].plain, "maxconn 100000", "maxconn 1000")
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	haproxy := exec.Command("/usr/sbin/haproxy", "-db", "-f", config)
	output, err := os.Create(filepath.Join(t.TempDir(), "haproxy.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer output.Close()
	haproxy.Stdout, haproxy.Stderr = output, output
	if err := haproxy.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = haproxy.Process.Kill()
		_ = haproxy.Wait()
		if t.Failed() {
			text, _ := os.ReadFile(output.Name())
			t.Logf("haproxy: %s", text)
		}
	}()
	crowd := newCrowd(t, o, "/api/quotes", 30, nil, front)
	own, rest := owner(t, all...)
	crowd.settled()
	own.end(syscall.SIGKILL)
	now, _ := owner(t, rest...)
	crowd.judged()
	own.begin()
	time.Sleep(3 * time.Second) // haproxy finds it
	now.end(syscall.SIGTERM)
	crowd.judgedAlike()
	steadily(t, o, 4*time.Second)
}

// TestUnit has systemd read the drop-in of docs/cluster.md, over Caddy's unit.
func TestUnit(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Fatal("needs systemd-analyze; on Debian: apt-get install systemd")
	}
	verify := func(drop string) string {
		dir := t.TempDir()
		unit := written(t, filepath.Join(dir, "caddy.service"), "[Service]\nType=notify\nExecStart=/bin/true run\nTimeoutStopSec=5s\nPrivateTmp=true\nProtectSystem=full\n")
		if err := os.Mkdir(filepath.Join(dir, "caddy.service.d"), 0o755); err != nil {
			t.Fatal(err)
		}
		written(t, filepath.Join(dir, "caddy.service.d/cluster.conf"), drop)
		text, err := exec.Command("systemd-analyze", "verify", "--man=no", unit).CombinedOutput()
		if err != nil {
			return string(text) + err.Error()
		}
		return string(text)
	}
	drop := block(t, "ini")
	if text := verify(drop); strings.Contains(text, "cluster.conf") || strings.Contains(text, "caddy.service") {
		t.Errorf("systemd says %s", text)
	}
	if text := verify(drop + "Nothing=1\n"); !strings.Contains(text, "Unknown key") {
		t.Errorf("systemd does not read the drop-in: %s", text)
	}
}
