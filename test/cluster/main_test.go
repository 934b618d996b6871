// Package cluster_test runs nodes of Caddy as processes of their own, with a
// real engine between them, a real upstream behind them and real clients
// before them. It is a module of its own: nobody who uses an engine needs what
// its tests do.
package cluster_test

import (
	"bytes"
	"context"
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
	"sync"
	"syscall"
	"testing"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	_ "github.com/caddyserver/caddy/v2/modules/standard"
	"github.com/nats-io/nats-server/v2/server"

	"github.com/pollsse/caddy-poll-sse/internal/judge"

	_ "github.com/pollsse/caddy-poll-sse"
	_ "github.com/pollsse/caddy-poll-sse/cluster/nats"
	_ "github.com/pollsse/caddy-poll-sse/cluster/redis"
)

// The environment variables that make the test binary be Caddy or nats-server.
const (
	asCaddy = "POLL_SSE_CLUSTER_TEST_AS_CADDY"
	asNATS  = "POLL_SSE_CLUSTER_TEST_AS_NATS" // its configuration file
)

// raced tells that the race detector runs.
var raced bool

func TestMain(m *testing.M) {
	if os.Getenv(asCaddy) != "" {
		caddycmd.Main()
		return
	}
	if file := os.Getenv(asNATS); file != "" {
		if err := runNATS(file); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(m.Run())
}

func runNATS(file string) error {
	options, err := server.ProcessConfigFile(file)
	if err != nil {
		return err
	}
	s, err := server.NewServer(options)
	if err != nil {
		return err
	}
	s.ConfigureLogger()
	s.Start()
	s.WaitForShutdown()
	return nil
}

// process is this binary as something else, or a program.
type process struct {
	t       testing.TB
	program string // empty: this binary
	env     []string
	args    []string
	dir     string

	mu  sync.Mutex
	cmd *exec.Cmd
	log bytes.Buffer // what it wrote, guarded by mu
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.Write(b)
}

func (p *process) text() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.log.String()
}

// count is how often it has written something.
func (p *process) count(what string) int { return strings.Count(p.text(), what) }

func (p *process) start() {
	p.t.Helper()
	exe, err := os.Executable()
	if err != nil {
		p.t.Fatal(err)
	}
	if p.program != "" {
		exe = p.program
	}
	cmd := exec.Command(exe, p.args...)
	cmd.Dir = p.dir
	cmd.Env = append(append(os.Environ(), p.env...), "HOME="+p.dir, "XDG_CONFIG_HOME="+p.dir, "XDG_DATA_HOME="+p.dir)
	cmd.Stdout, cmd.Stderr = p, p
	if err := cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
	p.cmd = cmd
}

func (p *process) signal(s syscall.Signal) {
	p.t.Helper()
	if p.cmd == nil {
		p.t.Fatal("there is no process")
	}
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// end ends it by a signal, and waits for that.
func (p *process) end(s syscall.Signal) {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Signal(s)
	_ = p.cmd.Process.Signal(syscall.SIGCONT)
	done := make(chan struct{})
	go func(cmd *exec.Cmd) { _ = cmd.Wait(); close(done) }(p.cmd)
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		p.t.Errorf("a process does not end on %s within 20s", s)
		_ = p.cmd.Process.Kill()
		<-done
	}
	p.cmd = nil
	if report, _ := judge.Crash([]byte(p.text())); report != "" {
		p.t.Errorf("a process wrote:\n%s", report)
	}
}

// engine is a nats-server in a process of its own.
type engine struct {
	process
	port int
}

func startNATS(t testing.TB, more string) *engine {
	t.Helper()
	e := newEngine(t, freePort(t))
	e.configure(more)
	e.start()
	return e
}

// newEngine makes one that has no configuration yet.
func newEngine(t testing.TB, port int) *engine {
	t.Helper()
	dir := t.TempDir()
	e := &engine{port: port}
	e.process = process{t: t, env: []string{asNATS + "=" + filepath.Join(dir, "nats.conf")}, dir: dir}
	t.Cleanup(func() { e.end(syscall.SIGKILL) })
	return e
}

// configure writes the configuration that it starts with.
func (e *engine) configure(more string) {
	e.t.Helper()
	text := fmt.Sprintf("listen: 127.0.0.1:%d\njetstream { store_dir: %q }\n%s\n", e.port, filepath.Join(e.dir, "store"), more)
	if err := os.WriteFile(filepath.Join(e.dir, "nats.conf"), []byte(text), 0o600); err != nil {
		e.t.Fatal(err)
	}
}

func (e *engine) address() string { return "127.0.0.1:" + strconv.Itoa(e.port) }

// empty has it come back without its data.
func (e *engine) empty() { _ = os.RemoveAll(filepath.Join(e.dir, "store")) }

// wire is what one node reaches the engine through: a cut or a mute network
// is one of its states.
type wire struct {
	listener net.Listener
	to       string

	mu    sync.Mutex
	conns []net.Conn
	cut   bool
	mute  bool
	bytes bytes.Buffer // all that went over it, if it records
	keeps bool
}

func newWire(t testing.TB, to string) *wire {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &wire{listener: l, to: to}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { w.carry(c) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		w.set(true, false)
		all.Wait()
	})
	return w
}

func (w *wire) address() string { return w.listener.Addr().String() }

// set cuts it, which ends connections and refuses others, or has it carry
// nothing while they stay.
func (w *wire) set(cut, mute bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.cut, w.mute = cut, mute
	if cut {
		for _, c := range w.conns {
			c.Close()
		}
		w.conns = nil
	}
}

func (w *wire) carry(from net.Conn) {
	defer from.Close()
	to, err := net.Dial("tcp", w.to)
	if err != nil {
		return
	}
	defer to.Close()
	w.mu.Lock()
	if w.cut {
		w.mu.Unlock()
		return
	}
	w.conns = append(w.conns, from, to)
	w.mu.Unlock()
	var both sync.WaitGroup
	copyTo := func(dst, src net.Conn) {
		defer dst.Close()
		defer src.Close()
		b := make([]byte, 64<<10)
		for {
			n, err := src.Read(b)
			for {
				w.mu.Lock()
				mute, cut := w.mute, w.cut
				if !mute && w.keeps {
					w.bytes.Write(b[:n])
				}
				w.mu.Unlock()
				if !mute || cut {
					break
				}
				time.Sleep(10 * time.Millisecond)
			}
			if err != nil {
				return
			}
			if _, err := dst.Write(b[:n]); err != nil {
				return
			}
		}
	}
	both.Go(func() { copyTo(to, from) })
	copyTo(from, to)
	both.Wait()
}

// node is one Caddy.
type node struct {
	process
	name  string
	admin string
	plain string // host:port of the site
	wire  *wire  // nil without a wire of its own
	lived time.Time
}

// site is what a test says about its nodes.
type site struct {
	cluster    string // the global option's block; %s is the engine's address
	directives string
	env        []string
}

func (n *node) configure(s site, engine string) {
	n.t.Helper()
	cluster := ""
	if s.cluster != "" {
		cluster = "poll_sse {\n" + strings.ReplaceAll(s.cluster, "ENGINE", engine) + "\n}"
	}
	text := fmt.Sprintf("{\n\tadmin %s\n\tpersist_config off\n\tauto_https off\n\tgrace_period 5s\n\tmetrics\n%s\n}\nhttp://%s {\n\tbind 127.0.0.1\n%s\n}\n",
		n.admin, cluster, n.plain, s.directives)
	if err := os.WriteFile(filepath.Join(n.dir, "Caddyfile"), []byte(text), 0o600); err != nil {
		n.t.Fatal(err)
	}
}

// newNode makes a node that reaches the engine through a wire of its own.
func newNode(t testing.TB, name string, s site, engine string) *node {
	t.Helper()
	n := &node{name: name, admin: "127.0.0.1:" + strconv.Itoa(freePort(t)), plain: "127.0.0.1:" + strconv.Itoa(freePort(t)), wire: newWire(t, engine)}
	n.process = process{t: t, env: append([]string{asCaddy + "=1"}, s.env...), dir: t.TempDir()}
	n.configure(s, n.wire.address())
	n.args = []string{"run", "--config", filepath.Join(n.dir, "Caddyfile"), "--adapter", "caddyfile"}
	t.Cleanup(func() {
		n.end(syscall.SIGTERM)
		if t.Failed() {
			t.Logf("end of %s's log:\n%s", name, n.tail())
		}
	})
	n.begin()
	return n
}

// tail is the end of its log without what this test has asked it.
func (n *node) tail() string {
	var lines []string
	for line := range strings.Lines(n.text()) {
		if !strings.Contains(line, `"logger":"admin.api","msg":"received request"`) {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines[max(0, len(lines)-20):], "")
}

// begin starts the process and waits until it serves.
func (n *node) begin() {
	n.t.Helper()
	n.start()
	n.lived = time.Now()
	eventually(n.t, n.name+" serves", func() bool {
		c, err := net.DialTimeout("tcp", n.plain, time.Second)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
}

// reload loads another configuration.
func (n *node) reload(s site) {
	n.t.Helper()
	n.configure(s, n.wire.address())
	text, err := os.ReadFile(filepath.Join(n.dir, "Caddyfile"))
	if err != nil {
		n.t.Fatal(err)
	}
	resp, err := http.Post("http://"+n.admin+"/load", "text/caddyfile", bytes.NewReader(text))
	if err != nil {
		n.t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); resp.StatusCode != http.StatusOK {
		n.t.Fatalf("reload: %s %s", resp.Status, body)
	}
}

// get reads from the admin API; empty if it cannot.
func (n *node) get(path string) string {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.admin+path, nil)
	if err != nil {
		return ""
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	b, _ := io.ReadAll(resp.Body)
	return string(b)
}

// source is a document as the admin API shows it.
type source struct {
	Cluster  string    `json:"cluster"`
	State    string    `json:"state"`
	Reason   string    `json:"reason"`
	Since    time.Time `json:"since"`
	Failures int       `json:"failures_in_a_row"`
}

// sources are a node's documents.
func (n *node) sources() (rows []source) {
	_ = json.Unmarshal([]byte(n.get("/poll_sse/sources?limit=1000")), &rows)
	return rows
}

// roles are what the node has to do with its documents, as the admin API says.
func (n *node) roles() []string {
	var roles []string
	for _, r := range n.sources() {
		roles = append(roles, r.Cluster)
	}
	return roles
}

func (n *node) is(role string) bool {
	roles := n.roles()
	return len(roles) == 1 && roles[0] == role
}

// patience bounds every wait for what must happen; nothing is measured by it.
const patience = 60 * time.Second

func eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s", what, patience)
		}
	}
}

func post(t testing.TB, url string) int {
	t.Helper()
	resp, err := http.Post(url, "text/plain", strings.NewReader("x"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	return resp.StatusCode
}

// limit adds a line to the configuration of its store.
func (e *engine) limit(t testing.TB, line string) {
	t.Helper()
	file := filepath.Join(e.dir, "nats.conf")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, bytes.Replace(text, []byte("jetstream { "), []byte("jetstream { "+line+", "), 1), 0o600); err != nil {
		t.Fatal(err)
	}
}
