package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/quic-go/quic-go/http3"

	"github.com/pollsse/caddy-poll-sse/internal/judge"
	"github.com/pollsse/caddy-poll-sse/internal/process"
)

// patience bounds every wait for something that must happen. What takes longer
// is a hang.
const patience = 45 * time.Second

// server is the Caddy process under test: one at a time, always at the same
// addresses.
type server struct {
	verdict           *verdict
	binary, dir       string
	admin, plain, tls string // host:port
	roots             *x509.CertPool
	config            func() string // the directives of the site, as they are to be
	cmd               *exec.Cmd
	log               *process.Transcript
	ended             chan struct{}
	mu                sync.Mutex
	disturbed         time.Time // since when it has run on undisturbed
	ends              int       // of processes so far
	exiting           bool      // one is ending
	running           bool
	reloads           []span
}

// span is a time from one moment to another.
type span struct{ begun, ended time.Time }

// build compiles Caddy with the module, with the race detector if told so.
func build(dir string, race bool) (string, error) {
	binary := filepath.Join(dir, "caddy")
	args := []string{"build", "-o", binary}
	if race {
		args = append(args, "-race")
	}
	out, err := exec.Command("go", append(args, "github.com/pollsse/caddy-poll-sse/cmd/caddy")...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("building Caddy: %w\n%s", err, out)
	}
	return binary, nil
}

// freeAddress finds an address with a port that is free for TCP and UDP.
func freeAddress() (string, error) {
	port, err := process.FreePort()
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), err
}

// start runs the process and waits until it serves.
func (s *server) start() error {
	path := filepath.Join(s.dir, "Caddyfile")
	if err := os.WriteFile(path, []byte(s.caddyfile()), 0o600); err != nil {
		return err
	}
	s.log = new(process.Transcript)
	s.cmd = exec.Command(s.binary, "run", "--config", path, "--adapter", "caddyfile")
	s.cmd.Dir = s.dir
	s.cmd.Env = append(os.Environ(), "HOME="+s.dir, "XDG_CONFIG_HOME="+s.dir, "XDG_DATA_HOME="+s.dir, "GORACE=atexit_sleep_ms=0")
	s.cmd.Stdout, s.cmd.Stderr = s.log, s.log
	if err := s.cmd.Start(); err != nil {
		return err
	}
	ended := make(chan struct{})
	s.ended = ended
	go func() { _ = s.cmd.Wait(); close(ended) }()
	if err := s.awaitLog("serving initial configuration"); err != nil {
		return err
	}
	if s.roots == nil {
		if err := s.awaitLog("cached_managed_cert"); err != nil {
			return err
		}
		pem, err := os.ReadFile(filepath.Join(s.dir, "storage", "pki", "authorities", "local", "root.crt"))
		if err != nil {
			return err
		}
		s.roots = x509.NewCertPool()
		s.roots.AppendCertsFromPEM(pem)
	}
	s.setRunning(true)
	s.verdict.count("starts of the server")
	return nil
}

func (s *server) awaitLog(text string) error { return s.log.Await(text, s.ended, patience) }

func (s *server) caddyfile() string {
	var b strings.Builder
	site := s.config()
	fmt.Fprintf(&b, "{\n\tadmin %s\n\tpersist_config off\n\tskip_install_trust\n\tauto_https disable_redirects\n\tstorage file_system %s\n\tlog {\n\t\tlevel DEBUG\n\t}\n}\n", s.admin, filepath.Join(s.dir, "storage"))
	_, port, _ := net.SplitHostPort(s.tls)
	fmt.Fprintf(&b, "http://%s {\n\tbind 127.0.0.1\n%s}\nhttps://localhost:%s {\n\tbind 127.0.0.1\n\ttls internal\n%s}\n", s.plain, site, port, site)
	return b.String()
}

// setRunning notes when a client may begin to expect to hear something.
func (s *server) setRunning(running bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running, s.disturbed = running, time.Now()
	s.exiting = s.exiting && !running
}

// undisturbed is since when the process has run.
func (s *server) undisturbed() (since time.Time, running bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.disturbed, s.running
}

// exits is how many processes have ended or are ending, and whether one is
// ending now.
func (s *server) exits() (ends int, exiting bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ends, s.exiting
}

// reload loads the configuration as it is to be now and returns the answer.
func (s *server) reload() (status int, answer string) {
	begun := time.Now()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.reloads = append(s.reloads, span{begun, time.Now()})
	}()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+s.admin+"/load", strings.NewReader(s.caddyfile()))
	if err != nil {
		panic(err)
	}
	req.Header.Set("Content-Type", "text/caddyfile")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			s.verdict.problem(hang, "a reload has no answer after %s", patience)
		}
		return 0, err.Error()
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text)
}

// write posts something to a document, in a user's name.
func (s *server) write(path, user string) error {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+s.plain+path, strings.NewReader("{}"))
	if err != nil {
		panic(err)
	}
	req.Header.Set("X-User", user)
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("a write: %w", err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusNoContent {
		return fmt.Errorf("a write to %s is answered with %s", path, resp.Status)
	}
	return nil
}

// reloading reports whether a configuration was loaded about that time.
func (s *server) reloading(at time.Time) bool {
	const about = 2 * time.Second
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.ContainsFunc(s.reloads, func(r span) bool {
		return at.After(r.begun.Add(-about)) && at.Before(r.ended.Add(about))
	})
}

// end sends a signal and waits for the process to end.
func (s *server) end(signal os.Signal) {
	s.setRunning(false)
	s.mu.Lock()
	s.ends++
	s.exiting = true
	s.mu.Unlock()
	begun := time.Now()
	_ = s.cmd.Process.Signal(signal)
	select {
	case <-s.ended:
		s.verdict.atMost("longest exit in ms", int(time.Since(begun).Milliseconds()))
	case <-time.After(patience):
		_ = s.cmd.Process.Signal(syscall.SIGABRT)
		<-s.ended
		text := s.log.String()
		s.verdict.problem(hang, "the process does not end within %s of %s; it waits for:\n%s", patience, signal, text[max(0, strings.Index(text, "goroutine ")):])
	}
	s.look()
}

// look searches the log of a process that has ended for what none may write.
func (s *server) look() {
	report, others := judge.Crash([]byte(s.log.String()))
	s.verdict.add("races in Caddy and its libraries alone", others)
	if report != "" {
		s.verdict.problem(crash, "Caddy wrote:\n%s", report)
	}
}

// suspend stops the process for a while.
func (s *server) suspend(d time.Duration) {
	s.setRunning(false)
	_ = s.cmd.Process.Signal(syscall.SIGSTOP)
	time.Sleep(d)
	_ = s.cmd.Process.Signal(syscall.SIGCONT)
	s.setRunning(true)
}

// residentMiB is how much memory the process occupies; 0 without /proc.
func (s *server) residentMiB() int {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", s.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(b))
	if len(fields) < 2 {
		return 0
	}
	pages, _ := strconv.Atoi(fields[1])
	return pages * os.Getpagesize() >> 20
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

// transport makes a client of one version of HTTP with no connection yet. A
// narrow one has a small receive buffer.
func (s *server) transport(w wire, narrow bool) (t http.RoundTripper, base string, release func()) {
	config := &tls.Config{RootCAs: s.roots, ServerName: "localhost"}
	_, port, _ := net.SplitHostPort(s.tls)
	base, address := "https://localhost:"+port, s.tls
	if w == http3w {
		t := &http3.Transport{TLSClientConfig: config, DisableCompression: true}
		return t, base, func() { _ = t.Close() }
	}
	if w == http1 {
		base, address = "http://"+s.plain, s.plain
	}
	h := &http.Transport{TLSClientConfig: config, ForceAttemptHTTP2: w == http2, DisableCompression: true}
	h.DialContext = func(ctx context.Context, network, _ string) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, network, address)
		if tcp, ok := c.(*net.TCPConn); ok && narrow {
			_ = tcp.SetReadBuffer(16 << 10)
		}
		return c, err
	}
	return h, base, h.CloseIdleConnections
}
