// Package system_test runs Caddy with poll_sse as a process of its own, with a
// real upstream behind it and real clients in front. Code that shares nothing
// with the module judges what the clients end up with.
package system_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
	"github.com/quic-go/quic-go/http3"

	"github.com/pollsse/caddy-poll-sse/internal/judge"
	"github.com/pollsse/caddy-poll-sse/internal/process"

	_ "github.com/pollsse/caddy-poll-sse"
)

// asCaddy is the environment variable that turns the test binary into Caddy, so
// that a binary made with -race detects races on both sides.
const asCaddy = "POLL_SSE_SYSTEM_TEST_AS_CADDY"

func TestMain(m *testing.M) {
	if os.Getenv(asCaddy) != "" {
		caddycmd.Main()
		return
	}
	os.Exit(m.Run())
}

// patience is the longest wait for something that must happen. It is long
// because the machine may be busy; nothing is measured by it.
const patience = 60 * time.Second

// within runs wait until it reports done, or the test fails.
func within(t testing.TB, what string, done <-chan struct{}) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatalf("%s: did not happen within %s", what, patience)
	}
}

// server is one Caddy process.
type server struct {
	t     testing.TB
	dir   string
	admin string // host:port
	plain string // host:port of the site over HTTP/1.1
	tls   string // host:port of the site over TLS: HTTP/1.1, 2 and 3
	log   *process.Transcript
	cmd   *exec.Cmd
	done  chan struct{} // closed when the process has ended
	err   error         // how it ended; read after done
	roots *x509.CertPool
}

// freePort finds a port that is free for TCP and UDP.
func freePort(t testing.TB) int {
	t.Helper()
	port, err := process.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// site is the configuration of a test's server: global options, directives of
// the site, and further sites.
type site struct {
	global     string
	directives string
	noTLS      bool
	env        []string // of the process
}

// caddyfile writes the configuration of one server. The same directives are
// served in the clear and over TLS.
func (s *server) caddyfile(c site) string {
	var b strings.Builder
	fmt.Fprintf(&b, "{\n\tadmin %s\n\tpersist_config off\n\tskip_install_trust\n\tauto_https disable_redirects\n\tstorage file_system %s\n\tlog {\n\t\tlevel DEBUG\n\t}\n%s\n}\n",
		s.admin, filepath.Join(s.dir, "storage"), indent(c.global))
	fmt.Fprintf(&b, "http://%s {\n\tbind 127.0.0.1\n%s\n}\n", s.plain, indent(c.directives))
	if !c.noTLS {
		fmt.Fprintf(&b, "https://localhost:%s {\n\tbind 127.0.0.1\n\ttls internal\n%s\n}\n", portOf(s.tls), indent(c.directives))
	}
	return b.String()
}

func portOf(address string) string {
	_, port, _ := net.SplitHostPort(address)
	return port
}

func indent(text string) string {
	return "\t" + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n\t")
}

// start runs Caddy and waits until it serves.
func start(t testing.TB, c site) *server {
	t.Helper()
	s := &server{t: t, dir: t.TempDir()}
	s.admin = "127.0.0.1:" + strconv.Itoa(freePort(t))
	s.plain = "127.0.0.1:" + strconv.Itoa(freePort(t))
	s.tls = "127.0.0.1:" + strconv.Itoa(freePort(t))

	if err := os.WriteFile(filepath.Join(s.dir, "Caddyfile"), []byte(s.caddyfile(c)), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.end)
	s.run(c)
	if !c.noTLS {
		s.awaitLog("cached_managed_cert")
		pem, err := os.ReadFile(filepath.Join(s.dir, "storage", "pki", "authorities", "local", "root.crt"))
		if err != nil {
			t.Fatal(err)
		}
		s.roots = x509.NewCertPool()
		s.roots.AppendCertsFromPEM(pem)
	}
	return s
}

// run starts the process with the configuration that was written.
func (s *server) run(c site) {
	s.t.Helper()
	s.log, s.done = new(process.Transcript), make(chan struct{})
	s.cmd = s.command("run", "--config", filepath.Join(s.dir, "Caddyfile"), "--adapter", "caddyfile")
	s.cmd.Env = append(s.cmd.Env, c.env...)
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	if err := s.cmd.Start(); err != nil {
		close(s.done)
		s.t.Fatalf("starting Caddy: %v", err)
	}
	done := s.done
	go func() {
		s.err = s.cmd.Wait()
		close(done)
	}()
	s.awaitLog("serving initial configuration")
}

// awaitLog waits until the process has logged a text.
func (s *server) awaitLog(text string) {
	s.t.Helper()
	if err := s.log.Await(text, s.done, patience); err != nil {
		s.t.Fatal(err)
	}
}

// again restarts a process that has ended, at the same addresses.
func (s *server) again(c site) {
	s.t.Helper()
	s.end() // looks at its log
	s.run(c)
}

// command makes a command of the same Caddy.
func (s *server) command(args ...string) *exec.Cmd {
	exe, err := os.Executable()
	if err != nil {
		s.t.Fatal(err)
	}
	cmd := exec.Command(exe, args...)
	cmd.Dir = s.dir
	cmd.Env = append(os.Environ(), asCaddy+"=1", "HOME="+s.dir, "XDG_CONFIG_HOME="+s.dir, "XDG_DATA_HOME="+s.dir, "GORACE=atexit_sleep_ms=0")
	return cmd
}

// end stops a process that the test has not stopped, and fails if the process
// has written what none may write.
func (s *server) end() {
	select {
	case <-s.done:
	default:
		_ = s.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-s.done:
		case <-time.After(20 * time.Second):
			s.t.Errorf("Caddy does not end on SIGTERM within 20s")
			_ = s.cmd.Process.Kill()
			<-s.done
		}
	}
	report, others := judge.Crash([]byte(s.log.String()))
	if others > 0 {
		s.t.Logf("%d races in Caddy and its libraries alone", others)
	}
	if report != "" {
		s.t.Errorf("Caddy wrote:\n%s", report)
	}
	if s.t.Failed() {
		s.t.Logf("end of Caddy's log:\n%s", process.End(s.log.String()))
	}
}

// terminate sends SIGTERM and returns how long the process took to end.
func (s *server) terminate() time.Duration {
	s.t.Helper()
	begun := time.Now()
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		s.t.Fatal(err)
	}
	s.awaitExit("SIGTERM")
	return time.Since(begun)
}

// stop runs caddy stop and returns how long it and the process took.
func (s *server) stop() time.Duration {
	s.t.Helper()
	begun := time.Now()
	if out, err := s.command("stop", "--address", s.admin).CombinedOutput(); err != nil {
		s.t.Fatalf("caddy stop: %v\n%s", err, out)
	}
	s.awaitExit("caddy stop")
	return time.Since(begun)
}

// reload loads another configuration through the admin API and returns the
// status of the answer.
func (s *server) reload(c site) int {
	s.t.Helper()
	resp, err := http.Post("http://"+s.admin+"/load", "text/caddyfile", strings.NewReader(s.caddyfile(c)))
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

// tryReload is reload for a process that may be ending. It reports whether the
// configuration was loaded.
func (s *server) tryReload(c site) bool {
	resp, err := http.Post("http://"+s.admin+"/load", "text/caddyfile", strings.NewReader(s.caddyfile(c)))
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode == http.StatusOK
}

func (s *server) mustReload(c site) {
	s.t.Helper()
	if status := s.reload(c); status != http.StatusOK {
		s.t.Fatalf("reload: got status %d\n%s", status, process.End(s.log.String()))
	}
}

// adminGet reads from the admin API.
func (s *server) adminGet(path string) string {
	s.t.Helper()
	resp, err := http.Get("http://" + s.admin + path)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	if resp.StatusCode != http.StatusOK {
		return ""
	}
	return string(b)
}

// goroutines reads how many goroutines the process has, and their stacks.
func (s *server) goroutines() (int, string) {
	s.t.Helper()
	text := s.adminGet("/debug/pprof/goroutine?debug=1")
	_, rest, _ := strings.Cut(text, "total ")
	n, err := strconv.Atoi(strings.TrimSpace(strings.SplitN(rest, "\n", 2)[0]))
	if err != nil {
		s.t.Fatalf("goroutine profile: %v in %.200q", err, text)
	}
	return n, text
}

// residentBytes reads how much memory the process occupies.
func (s *server) residentBytes() int64 {
	s.t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", s.cmd.Process.Pid))
	if err != nil {
		s.t.Skipf("memory: needs /proc: %v", err)
	}
	pages, err := strconv.ParseInt(strings.Fields(string(b))[1], 10, 64)
	if err != nil {
		s.t.Fatal(err)
	}
	return pages * int64(os.Getpagesize())
}

// A wire is one version of HTTP.
type wire string

const (
	http1  wire = "HTTP/1.1"
	https1 wire = "HTTP/1.1 over TLS"
	http2  wire = "HTTP/2"
	http3w wire = "HTTP/3"
)

var wires = []wire{http1, https1, http2, http3w}

// client makes a client that speaks one version of HTTP, over connections of
// its own.
func (s *server) client(w wire) (*http.Client, string) {
	s.t.Helper()
	switch w {
	case https1, http2:
		tr := &http.Transport{
			TLSClientConfig:   &tls.Config{RootCAs: s.roots, ServerName: "localhost"},
			ForceAttemptHTTP2: w == http2,
			DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return new(net.Dialer).DialContext(ctx, network, s.tls)
			},
			DisableCompression: true,
		}
		s.t.Cleanup(tr.CloseIdleConnections)
		return &http.Client{Transport: tr}, "https://localhost:" + portOf(s.tls)
	case http3w:
		tr := &http3.Transport{TLSClientConfig: &tls.Config{RootCAs: s.roots, ServerName: "localhost"}, DisableCompression: true}
		s.t.Cleanup(func() { _ = tr.Close() })
		return &http.Client{Transport: tr}, "https://localhost:" + portOf(s.tls)
	}
	tr := &http.Transport{DisableCompression: true}
	s.t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}, "http://" + s.plain
}

func readAll(t testing.TB, r io.Reader) string {
	t.Helper()
	b, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// awaitExit waits for the end of the process. If that does not come, the
// process writes down what it waits for.
func (s *server) awaitExit(after string) {
	s.t.Helper()
	select {
	case <-s.done:
	case <-time.After(patience / 2):
		_ = s.cmd.Process.Signal(syscall.SIGABRT)
		<-s.done
		text := s.log.String()
		if i := strings.Index(text, "goroutine "); i >= 0 {
			text = text[i:]
		}
		s.t.Fatalf("the process does not end within %s after %s:\n%s", patience/2, after, text)
	}
}

// subscribers returns how many clients hold a source.
func (s *server) subscribers() int {
	s.t.Helper()
	var summary struct {
		Names []struct {
			Subscribers int `json:"subscribers"`
		} `json:"names"`
	}
	if err := json.Unmarshal([]byte(s.adminGet("/poll_sse/summary")), &summary); err != nil {
		s.t.Fatal(err)
	}
	n := 0
	for _, name := range summary.Names {
		n += name.Subscribers
	}
	return n
}
