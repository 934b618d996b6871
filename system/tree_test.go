package system_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// The tests below put whole applications behind one directive. 20 pages read
// what the applications' own pages read.

// meter passes requests on to a server and counts them and the bytes of their
// answers.
type meter struct {
	url             string
	requests, bytes atomic.Int64
}

func newMeter(t *testing.T, target string) *meter {
	t.Helper()
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	m := new(meter)
	proxy := &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(u) // and its host, as if the meter were not there
	}}
	proxy.ModifyResponse = func(resp *http.Response) error {
		m.requests.Add(1)
		resp.Body = &counted{resp.Body, &m.bytes}
		return nil
	}
	server := httptest.NewServer(proxy)
	t.Cleanup(server.Close)
	m.url = server.URL
	return m
}

// counted counts the bytes of a body.
type counted struct {
	io.ReadCloser
	bytes *atomic.Int64
}

func (c *counted) Read(b []byte) (int, error) {
	n, err := c.ReadCloser.Read(b)
	c.bytes.Add(int64(n))
	return n, err
}

// read is one of the requests that a page makes again and again.
type read struct {
	target string // %d is what changes with each
	body   string // of a POST
	fields http.Header
}

func (r read) request(ctx context.Context, site string, n int64) (*http.Request, error) {
	target, method := r.target, http.MethodGet
	if strings.Contains(target, "%d") {
		target = fmt.Sprintf(target, n)
	}
	var body io.Reader
	if r.body != "" {
		method, body = http.MethodPost, strings.NewReader(r.body)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://"+site+target, body)
	if err != nil {
		return nil, err
	}
	for name, values := range r.fields {
		req.Header[name] = values
	}
	if r.body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Accept-Encoding", "gzip") // and so nothing is decoded here
	return req, nil
}

const (
	pagesOfATree = 20
	roundOfATree = time.Second
)

var roundsOfATree = flag.Int("rounds", 4, "how many seconds the pages of each application in TestTree… read it; 8 are the figures of docs/tree.md")

// pages runs 20 pages that make their reads once a round, one after the other.
// It returns how many requests they made and how many bytes they got.
func pages(t *testing.T, site string, reads []read) (requests, received int64) {
	t.Helper()
	var total atomic.Int64
	var wait sync.WaitGroup
	for page := range pagesOfATree {
		wait.Go(func() {
			time.Sleep(roundOfATree * time.Duration(page) / pagesOfATree)
			for round := range *roundsOfATree {
				begun := time.Now()
				for _, r := range reads {
					req, err := r.request(t.Context(), site, int64(page*1000+round))
					if err != nil {
						t.Error(err)
						return
					}
					resp, err := http.DefaultClient.Do(req)
					if err != nil {
						t.Error(err)
						return
					}
					n, err := io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
					total.Add(n)
					if err != nil || resp.StatusCode != 200 {
						t.Errorf("%s: %s, %v", req.URL, resp.Status, err)
						return
					}
				}
				time.Sleep(roundOfATree - time.Since(begun))
			}
		})
	}
	wait.Wait()
	return int64(pagesOfATree * *roundsOfATree * len(reads)), total.Load()
}

// streams runs 20 pages that stream what they read, for the same time.
func streams(t *testing.T, site string, reads []read) (requests, received int64) {
	t.Helper()
	var total atomic.Int64
	ctx, cancel := context.WithTimeout(t.Context(), time.Duration(*roundsOfATree)*roundOfATree)
	defer cancel()
	var wait sync.WaitGroup
	for range pagesOfATree {
		for _, r := range reads {
			wait.Go(func() {
				req, err := r.request(ctx, site, 0)
				if err != nil {
					t.Error(err)
					return
				}
				req.Header.Set("Accept", "text/event-stream")
				resp, err := http.DefaultClient.Do(req)
				if err != nil {
					t.Error(err)
					return
				}
				defer resp.Body.Close()
				if kind := resp.Header.Get("Content-Type"); resp.StatusCode != 200 || kind != "text/event-stream" {
					t.Errorf("%s: %s, %s", req.URL, resp.Status, kind)
				}
				n, _ := io.Copy(io.Discard, resp.Body) // ends with ctx
				total.Add(n)
			})
		}
	}
	wait.Wait()
	return int64(pagesOfATree * len(reads)), total.Load()
}

// saves compares the cost of 20 pages to their application with and without the
// directive, and the cost of streams of the same.
func saves(t *testing.T, name, variable, target string, reads []read, env ...string) {
	t.Helper()
	app := newMeter(t, target)
	awaitSize(t, target, reads)
	s := example(t, name, append(env, variable+"="+app.url, "INTERVAL="+roundOfATree.String())...)
	plain := start(t, site{directives: "reverse_proxy " + app.url, noTLS: true})
	row := func(what string, measure func(*testing.T, string, []read) (int64, int64), at string) int64 {
		requests, bytes := app.requests.Load(), app.bytes.Load()
		pageRequests, pageBytes := measure(t, at, reads)
		requests, bytes = app.requests.Load()-requests, app.bytes.Load()-bytes
		t.Logf("%-9s %5d requests %9d bytes at the pages, %5d requests %9d bytes at the application", what, pageRequests, pageBytes, requests, bytes)
		return requests
	}
	before := row("before", pages, plain.plain)
	after := row("after", pages, s.plain)
	streamed := row("streamed", streams, s.plain)
	if before != int64(pagesOfATree**roundsOfATree*len(reads)) {
		t.Errorf("%d requests reached the application before", before)
	}
	// One poll a round and document, those of linger included, and the first
	// requests, which may come together.
	most := int64(len(reads) * (2**roundsOfATree + pagesOfATree/2))
	if after == 0 || after > most || after*3 > before {
		t.Errorf("%d requests reached the application, want at most %d and a third of %d", after, most, before)
	}
	if streamed > most {
		t.Errorf("%d requests reached the application for streams, want at most %d", streamed, most)
	}
}

// awaitSize waits until answers have reached their full size: some applications
// know little at first.
func awaitSize(t *testing.T, target string, reads []read) {
	t.Helper()
	size := func() (all int64) {
		for _, r := range reads {
			req, err := r.request(t.Context(), strings.TrimPrefix(target, "http://"), 0)
			if err != nil {
				t.Fatal(err)
			}
			resp, err := http.DefaultClient.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			n, _ := io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			all += n
		}
		return all
	}
	last, same := size(), 0
	for deadline := time.Now().Add(patience); same < *roundsOfATree && time.Now().Before(deadline); {
		time.Sleep(time.Second)
		if now := size(); now > last+last/20 {
			last, same = now, 0
		}
		same++
	}
}

func TestTreeTransmission(t *testing.T) {
	t.Parallel()
	binary := need(t, "transmission-daemon", "Debian package transmission-daemon")
	port := strconv.Itoa(freePort(t))
	target := "http://127.0.0.1:" + port
	program(t, target+"/transmission/web/", binary, "--foreground", "--config-dir", t.TempDir(), "--port", port, "--rpc-bind-address", "127.0.0.1", "--no-auth", "--no-portmap", "--no-dht", "--no-lpd", "--no-utp", "--peerport", strconv.Itoa(freePort(t)))
	resp, err := http.Post(target+"/transmission/rpc", "application/json", strings.NewReader("{}"))
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	session := http.Header{"X-Transmission-Session-Id": resp.Header["X-Transmission-Session-Id"]}
	if resp.StatusCode != http.StatusConflict || session.Get("X-Transmission-Session-Id") == "" {
		t.Fatalf("%s %v, want a 409 with a session", resp.Status, resp.Header)
	}
	saves(t, "transmission", "TRANSMISSION", target, []read{
		{"/transmission/rpc", `{"method":"torrent-get","arguments":{"fields":["id","error","errorString","eta","isFinished","isStalled","leftUntilDone","name","percentDone","rateDownload","rateUpload","status","totalSize"],"ids":"recently-active"}}`, session},
		{"/transmission/rpc", `{"method":"session-stats"}`, session},
	})
}

func TestTreeGlances(t *testing.T) {
	t.Parallel()
	binary := need(t, "glances", "Debian packages glances and python3-bottle")
	port := strconv.Itoa(freePort(t))
	target := "http://127.0.0.1:" + port
	program(t, target+"/api/3/cpu", binary, "-w", "-B", "127.0.0.1", "-p", port, "--disable-webui", "--disable-check-update", "--disable-autodiscover")
	saves(t, "glances", "GLANCES", target, []read{{"/api/3/cpu", "", nil}, {"/api/3/mem", "", nil}, {"/api/3/load", "", nil}})
}

func TestTreeNetdata(t *testing.T) {
	t.Parallel()
	binary := need(t, "netdata", "Debian package netdata")
	dir, port := t.TempDir(), strconv.Itoa(freePort(t))
	for _, name := range []string{"cache", "lib", "log"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	config := filepath.Join(dir, "netdata.conf")
	text := fmt.Sprintf(`[global]
	run as user = %[3]s
	hostname = tree
[db]
	mode = ram
	retention = 600
[directories]
	cache = %[1]s/cache
	lib = %[1]s/lib
	log = %[1]s/log
[logs]
	debug = none
	error = stderr
	access = none
[web]
	bind to = 127.0.0.1
	default port = %[2]s
[plugins]
	python.d = no
	go.d = no
	apps = no
	charts.d = no
	ebpf = no
	cgroups = no
	tc = no
	enable running new plugins = no
[registry]
	enabled = no
[statsd]
	enabled = no
[ml]
	enabled = no
`, dir, port, userName())
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	target := "http://127.0.0.1:" + port
	program(t, target+"/api/v1/info", binary, "-D", "-c", config)
	var reads []read
	for _, chart := range []string{"system.cpu", "system.ram", "system.load"} {
		reads = append(reads, read{"/api/v1/data?chart=" + chart + "&format=json&points=60&group=average&gtime=0&options=ms%%7Cflip%%7Cjsonwrap%%7Cnonzero&after=-60&_=%d", "", nil})
	}
	awaitOK(t, target+"/api/v1/data?chart=system.load&after=-5")
	saves(t, "netdata", "NETDATA", target, reads)
}

func userName() string {
	if os.Getuid() == 0 {
		return "root"
	}
	return os.Getenv("USER")
}

// awaitOK waits until a URL is answered with 200.
func awaitOK(t *testing.T, url string) {
	t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		resp, err := http.Get(url)
		if err == nil {
			resp.Body.Close()
			if resp.StatusCode == 200 {
				return
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s is not answered with 200: %v", url, err)
		}
	}
}

func TestTreePrometheus(t *testing.T) {
	t.Parallel()
	binary := need(t, "prometheus", "Debian package prometheus")
	dir, address := t.TempDir(), "127.0.0.1:"+strconv.Itoa(freePort(t))
	config := filepath.Join(dir, "prometheus.yml")
	text := fmt.Sprintf("global:\n  scrape_interval: 1s\nscrape_configs:\n- job_name: self\n  static_configs:\n  - targets: [%q]\n", address)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	program(t, "http://"+address+"/-/ready", binary, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+address)
	now := strconv.FormatInt(time.Now().Unix(), 10)
	saves(t, "prometheus", "PROMETHEUS", "http://"+address, []read{
		{"/api/v1/query?query=up&time=" + now + ".%d", "", nil},
		{"/api/v1/query?query=rate(prometheus_http_requests_total%%5B1m%%5D)&time=" + now + ".%d", "", nil},
		{"/api/v1/targets?state=active", "", nil},
	})
}

// qbittorrent runs qBittorrent and returns its URL and the cookie of a login.
func qbittorrent(t *testing.T) (target, cookie string) {
	t.Helper()
	binary := need(t, "qbittorrent-nox", "Debian package qbittorrent-nox")
	port, dir := strconv.Itoa(freePort(t)), t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "qBittorrent", "config"), 0o700); err != nil {
		t.Fatal(err)
	}
	config := "[LegalNotice]\nAccepted=true\n\n[BitTorrent]\nSession\\DHTEnabled=false\nSession\\LSDEnabled=false\nSession\\PeXEnabled=false\nSession\\Interface=lo\n\n[Preferences]\nWebUI\\Address=127.0.0.1\nWebUI\\UseUPnP=false\n"
	if err := os.WriteFile(filepath.Join(dir, "qBittorrent", "config", "qBittorrent.conf"), []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	target = "http://127.0.0.1:" + port
	program(t, target+"/", binary, "--profile="+dir, "--webui-port="+port)
	resp, err := http.PostForm(target+"/api/v2/auth/login", url.Values{"username": {"admin"}, "password": {"adminadmin"}})
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	for _, c := range resp.Cookies() {
		if c.Name == "SID" {
			return target, c.Name + "=" + c.Value
		}
	}
	t.Fatalf("no session: %s %v", resp.Status, resp.Header)
	return "", ""
}

func TestTreeQBittorrent(t *testing.T) {
	t.Parallel()
	target, cookie := qbittorrent(t)
	saves(t, "qbittorrent", "QBITTORRENT", target, []read{{"/api/v2/sync/maindata?rid=%d", "", http.Header{"Cookie": {cookie + "; theme=dark"}}}})
}

func TestTreeRabbitMQ(t *testing.T) {
	t.Parallel()
	const server = "/usr/lib/rabbitmq/bin/rabbitmq-server"
	if _, err := exec.LookPath(server); err != nil {
		t.Skip("rabbitmq-server is missing: Debian package rabbitmq-server")
	}
	dir, port, amqp, dist := t.TempDir(), strconv.Itoa(freePort(t)), strconv.Itoa(freePort(t)), strconv.Itoa(freePort(t))
	for name, text := range map[string]string{
		"rabbitmq.conf":   fmt.Sprintf("listeners.tcp.1 = 127.0.0.1:%s\nmanagement.tcp.ip = 127.0.0.1\nmanagement.tcp.port = %s\n", amqp, port),
		"enabled_plugins": "[rabbitmq_management].\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	settings := []string{"ERL_EPMD_ADDRESS=127.0.0.1"}
	for name, value := range map[string]string{
		"NODENAME": "tree" + port + "@localhost", "MNESIA_BASE": dir + "/mnesia", "LOG_BASE": dir + "/log", "ENABLED_PLUGINS_FILE": dir + "/enabled_plugins",
		"CONFIG_FILE": dir + "/rabbitmq.conf", "DIST_PORT": dist, "PID_FILE": dir + "/pid",
	} {
		settings = append(settings, "RABBITMQ_"+name+"="+value)
	}
	target := "http://127.0.0.1:" + port
	program(t, target+"/api/overview", "env", append(settings, server)...)
	login := http.Header{"Authorization": {"Basic Z3Vlc3Q6Z3Vlc3Q="}} // guest:guest
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		req, err := http.NewRequest("PUT", target+"/api/queues/%2F/orders", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		req.Header = login.Clone()
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode == http.StatusCreated || resp.StatusCode == http.StatusNoContent {
			break
		}
		if time.Now().After(deadline) { // it answers before all of it is there
			t.Fatalf("a queue: %s", resp.Status)
		}
	}
	saves(t, "rabbitmq", "RABBITMQ", target, []read{
		{"/api/overview?lengths_age=60&lengths_incr=5&msg_rates_age=60&msg_rates_incr=5", "", login},
		{"/api/nodes", "", login},
		{"/api/queues/%2F/orders?lengths_age=60&lengths_incr=5", "", login},
	})
}
