// Command fanout compares what it costs to deliver one change to many event
// streams: this module beside other servers, in one run, on loopback. It
// builds what it compares and prints one table.
//
//	go run ./fanout [-subscribers 1000,10000,19000] [-sizes 200,2048] [-runs 3] [-events 10] [-pace 500ms] [-only direct,floor]
//
// A peer that is not installed is left out with a note.
package main

import (
	"bufio"
	"bytes"
	"cmp"
	"crypto/rand"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// peer is one server under test.
type peer struct {
	name string
	// start starts it at a port; most is the highest number of streams that
	// it is asked to carry (0: any).
	start func(b *bench, port int) (*exec.Cmd, error)
	// publish says where an event is posted, and as what; nil:
	// to /pub as it is, or for the module, to the stream to have it polled.
	publish func(b *bench, event []byte) (url string, body []byte)
	path    string // of the stream
	mode    string // of the load generator; empty: identity
	atOnce  int    // how many streams may be on their way at a time; 0: 512
	module  bool   // publishes what it polls; the others what is posted
	most    int
	needs   string // a file without which it is left out
}

// bench is what all peers need.
type bench struct {
	dir         string // for binaries and configurations
	root        string // of the repository
	upstream    string // address of the polled document
	certificate string // and its key, in one file
	control     string // URL where Pushpin takes events
	document    atomic.Pointer[[]byte]
}

// measured is one row of the table, of one run.
type measured struct {
	cpu             float64 // µs a delivery, of the server
	p50, p99, last  float64 // ms
	idle, busy      float64 // KiB a subscriber
	wire            float64 // bytes a delivery
	connects        float64 // a second
	connect         float64 // µs a connection, of the server's processor time
	delivered, want int
}

func main() {
	log.SetFlags(0)
	subscribers := flag.String("subscribers", "1000,10000,19000", "numbers of streams")
	sizes := flag.String("sizes", "200,2048", "bytes of an event")
	runs := flag.Int("runs", 3, "runs of each, of which the median counts")
	events := flag.Int("events", 10, "events a run")
	pace := flag.Duration("pace", 500*time.Millisecond, "time between events")
	only := flag.String("only", "", "names of the peers to run; empty: all")
	flag.Parse()
	b, err := prepare()
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(b.dir)
	fmt.Println("| server | streams | event | delivered | CPU a delivery | p50 | p99 | last | memory a stream, idle / publishing | wire bytes | connects/s | CPU a connection |")
	fmt.Println("|---|---|---|---|---|---|---|---|---|---|---|---|")
	for _, size := range numbers(*sizes) {
		for _, n := range numbers(*subscribers) {
			rows := map[string][]measured{}
			// Peers take turns, so that what else the machine does
			// meets all of them.
			for range *runs {
				for _, p := range peers {
					if *only != "" && !slices.Contains(strings.Split(*only, ","), p.name) || p.most > 0 && n > p.most {
						continue
					}
					if _, err := os.Stat(p.needs); p.needs != "" && err != nil {
						continue
					}
					m, err := b.run(p, n, size, *events, *pace)
					if err != nil {
						log.Printf("%s, %d streams, %d B: %v", p.name, n, size, err)
						continue
					}
					rows[p.name] = append(rows[p.name], m)
				}
			}
			for _, p := range peers {
				if len(rows[p.name]) > 0 {
					print(p.name, n, size, rows[p.name])
				}
			}
		}
	}
	for _, p := range peers {
		if _, err := os.Stat(p.needs); p.needs != "" && err != nil {
			fmt.Printf("\n%s is not installed (%s).\n", p.name, p.needs)
		}
	}
}

func numbers(list string) (out []int) {
	for text := range strings.SplitSeq(list, ",") {
		n, err := strconv.Atoi(text)
		if err != nil {
			log.Fatal(err)
		}
		out = append(out, n)
	}
	return out
}

func print(name string, n, size int, rows []measured) {
	median := func(of func(measured) float64) float64 {
		var v []float64
		for _, m := range rows {
			v = append(v, of(m))
		}
		slices.Sort(v)
		return v[len(v)/2]
	}
	missing := 0
	for _, m := range rows {
		missing += m.want - m.delivered
	}
	delivered := "all"
	if missing != 0 {
		delivered = fmt.Sprintf("%d missing", missing)
	}
	fmt.Printf("| %s | %d | %d B | %s | %.2f µs | %.1f ms | %.1f ms | %.1f ms | %.1f / %.1f KiB | %.0f | %.0f | %.1f µs |\n", name, n, size, delivered,
		median(func(m measured) float64 { return m.cpu }),
		median(func(m measured) float64 { return m.p50 }),
		median(func(m measured) float64 { return m.p99 }),
		median(func(m measured) float64 { return m.last }),
		median(func(m measured) float64 { return m.idle }),
		median(func(m measured) float64 { return m.busy }),
		median(func(m measured) float64 { return m.wire }),
		median(func(m measured) float64 { return m.connects }),
		median(func(m measured) float64 { return m.connect }))
}

// prepare builds everything and starts the upstream.
func prepare() (*bench, error) {
	dir, err := os.MkdirTemp("", "fanout")
	if err != nil {
		return nil, err
	}
	here, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return nil, fmt.Errorf("run this in bench: %w", err)
	}
	b := &bench{dir: dir, root: filepath.Dir(strings.TrimSpace(string(here)))}
	for _, c := range [][]string{
		{b.root, "go", "build", "-o", filepath.Join(dir, "caddy"), "./cmd/caddy"},
		{filepath.Join(b.root, "bench"), "go", "build", "-o", dir, "./fanout/gochan", "./fanout/load"},
		{filepath.Join(b.root, "bench"), "gcc", "-O2", "-o", filepath.Join(dir, "floor"), "fanout/floor/floor.c"},
	} {
		cmd := exec.Command(c[1], c[2:]...)
		cmd.Dir, cmd.Stderr = c[0], os.Stderr
		if err := cmd.Run(); err != nil {
			return nil, fmt.Errorf("%v: %w", c[1:], err)
		}
	}
	b.certificate = filepath.Join(dir, "certificate.pem")
	if err := certificate(b.certificate); err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	b.upstream = l.Addr().String()
	http.HandleFunc("GET /document", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(*b.document.Load())
	})
	http.HandleFunc("GET /sub", hold)
	go func() { _ = http.Serve(l, nil) }()
	return b, nil
}

// fixed is the part of the document that never changes, so that a patch is
// smaller than the document.
var fixed = strings.Repeat("0123456789abcdef", 512)

// change makes the next document and, of the same size as its patch, the next
// event for those that are told. Both carry the time.
func (b *bench) change(p peer, size int) []byte {
	at := fmt.Sprintf("@%d@", time.Now().UnixNano())
	pad := make([]byte, size)
	_, _ = rand.Read(pad)
	text := hex.EncodeToString(pad)
	if !p.module {
		return []byte(at + text[:size-len(at)])
	}
	const patch = `[{"op":"replace","path":"/at","value":""},{"op":"replace","path":"/pad","value":""}]`
	doc := fmt.Appendf(nil, `{"at":"%s","pad":"%s","fixed":"%s"}`, at, text[:size-len(at)-len(patch)], fixed)
	b.document.Store(&doc)
	return nil
}

// run measures one peer once.
func (b *bench) run(p peer, n, size, events int, pace time.Duration) (measured, error) {
	b.change(p, size)
	port, err := freePort()
	if err != nil {
		return measured{}, err
	}
	server, err := p.start(b, port)
	if err != nil {
		return measured{}, err
	}
	defer stop(server)
	address := "127.0.0.1:" + strconv.Itoa(port)
	for end := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		c, err := net.Dial("tcp", address)
		if err == nil {
			c.Close()
			break
		}
		if time.Now().After(end) {
			return measured{}, fmt.Errorf("it does not listen: %w", err)
		}
	}
	time.Sleep(300 * time.Millisecond)
	before, idle := memory(server.Process.Pid), processor(server.Process.Pid)

	load := exec.Command(filepath.Join(b.dir, "load"), address, p.path, strconv.Itoa(n), cmp.Or(p.mode, "identity"), strconv.Itoa(cmp.Or(p.atOnce, 512)))
	load.Stderr = os.Stderr
	in, err := load.StdinPipe()
	if err != nil {
		return measured{}, err
	}
	out, err := load.StdoutPipe()
	if err != nil {
		return measured{}, err
	}
	if err := load.Start(); err != nil {
		return measured{}, err
	}
	defer stop(load)
	answers := bufio.NewReader(out)
	var m measured
	var began struct{ Connects float64 }
	if err := next(answers, &began); err != nil {
		return measured{}, err
	}
	time.Sleep(2 * time.Second)
	m.connects, m.want = began.Connects, n*events
	m.idle = (memory(server.Process.Pid) - before) / float64(n)
	cpu := processor(server.Process.Pid)
	m.connect = (cpu - idle) / float64(n)
	for i := range events {
		if i > 0 {
			time.Sleep(pace)
		}
		if err := b.publish(p, address, size); err != nil {
			return measured{}, err
		}
		m.busy = max(m.busy, (memory(server.Process.Pid)-before)/float64(n))
	}
	time.Sleep(pace)
	in.Close()
	var res struct {
		Delivered             int
		P50, P99, Last, Bytes float64
	}
	if err := next(answers, &res); err != nil {
		return measured{}, err
	}
	m.cpu = (processor(server.Process.Pid) - cpu) / float64(m.want)
	m.delivered, m.p50, m.p99, m.last, m.wire = res.Delivered, res.P50, res.P99, res.Last, res.Bytes
	return m, nil
}

func next(r *bufio.Reader, v any) error {
	line, err := r.ReadBytes('\n')
	if err != nil {
		return fmt.Errorf("the load generator: %w", err)
	}
	return json.Unmarshal(line, v)
}

var client = http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}}

// publish makes a change and tells the server: of the module, it asks for a
// poll as any POST does.
func (b *bench) publish(p peer, address string, size int) error {
	body := b.change(p, size)
	url := "http://" + address + "/pub"
	switch {
	case p.mode == "tls" || p.mode == "h2":
		url = "https://" + address + p.path
	case p.module:
		url = "http://" + address + p.path
	case p.publish != nil:
		url, body = p.publish(b, body)
	}
	resp, err := client.Post(url, "text/plain", bytes.NewReader(body))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	if resp.StatusCode >= 300 {
		return fmt.Errorf("publishing: %s", resp.Status)
	}
	return nil
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// stop ends a process that this one has started.
func stop(c *exec.Cmd) {
	_ = c.Process.Signal(syscall.SIGTERM)
	done := make(chan struct{})
	go func() { _ = c.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		_ = c.Process.Kill()
		<-done
	}
}

// family is a process and its children.
func family(pid int) []int {
	all := []int{pid}
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	for child := range strings.FieldsSeq(string(text)) {
		if n, err := strconv.Atoi(child); err == nil {
			all = append(all, family(n)...)
		}
	}
	return all
}

// processor is the processor time of a process and its children, in µs.
func processor(pid int) (us float64) {
	for _, p := range family(pid) {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", p))
		for _, t := range tasks {
			text, _ := os.ReadFile(t)
			if f := strings.Fields(string(text)); len(f) > 0 {
				ns, _ := strconv.ParseFloat(f[0], 64)
				us += ns / 1e3
			}
		}
	}
	return us
}

// memory is the resident memory of a process and its children, in KiB.
func memory(pid int) (kib float64) {
	for _, p := range family(pid) {
		text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p))
		for line := range strings.Lines(string(text)) {
			if f := strings.Fields(line); len(f) > 1 && f[0] == "VmRSS:" {
				n, _ := strconv.ParseFloat(f[1], 64)
				kib += n
			}
		}
	}
	return kib
}
