package system_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// TestOperate runs a real Prometheus on a server that is broken in every way
// that an alert is about. Every alert fires, and every query of the dashboard
// returns data.
func TestOperate(t *testing.T) {
	t.Parallel()
	prometheus, promtool := need(t, "prometheus", "Debian package prometheus"), need(t, "promtool", "Debian package prometheus")
	rules, err := os.ReadFile("../docs/operate/rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(promtool, "check", "rules", "../docs/operate/rules.yml").CombinedOutput(); err != nil {
		t.Errorf("promtool check rules: %v\n%s", err, out)
	}

	var broken atomic.Bool // the first document has been there
	var requests atomic.Int64
	filler, large := strings.Repeat("x", 200), strings.Repeat("x", 1<<20)
	u := newUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		n := requests.Add(1)
		switch {
		case r.URL.Path == "/never", r.URL.Path == "/stale" && broken.Load():
			w.WriteHeader(http.StatusInternalServerError)
		case r.URL.Path == "/throttled" && broken.Load():
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusTooManyRequests)
		case r.URL.Path == "/documents" && r.Header.Get("If-None-Match") != "":
			w.WriteHeader(http.StatusNotModified)
		case r.URL.Path == "/documents":
			w.Header().Set("ETag", `"1"`)
			fmt.Fprintf(w, `{"filler":%q}`, filler)
		case r.URL.Path == "/behind":
			fmt.Fprintf(w, `{"n":%d,"filler":%q}`, n, large)
		case r.URL.Path == "/patches":
			fmt.Fprintf(w, `{"a":%d,"b":%d}`, n, -n) // no patch is smaller
		default:
			fmt.Fprintf(w, `{"n":%d,"filler":%q}`, n, filler)
		}
	})
	slow := newUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		<-time.After(500 * time.Millisecond)
		fmt.Fprintf(w, `{"n":%q}`, r.URL.RawQuery)
	})
	block := func(name, url, options string) string {
		return "poll_sse /" + name + " " + url + " {\n\tname " + name + "\n\tinterval 200ms\n\tmax_interval 1s\n\t" + options + "\n}\n"
	}
	s := start(t, site{noTLS: true, global: "servers {\n\ttrusted_proxies static private_ranges\n}", directives: block("stale", u.url("/stale"), "") +
		block("never", u.url("/never"), "") + block("throttled", u.url("/throttled"), "") + block("refuse", u.url("/refuse"), "max_subscribers 1") +
		block("near", u.url("/near"), "max_subscribers 10") + block("documents", u.url("/documents")+"?q={query.q}", "max_sources 16") +
		block("storm", u.url("/storm"), "") + block("behind", u.url("/behind"), "format snapshot") + block("patches", u.url("/patches"), "") + block("waits", slow.url("/waits")+"?q={query.q}", "host_polls 1\n\tmax_load 100")})

	dir, address := t.TempDir(), "127.0.0.1:"+strconv.Itoa(freePort(t))
	// The same rules, with shorter times.
	quick := regexp.MustCompile(`\bfor: \d+[mh]`).ReplaceAllString(string(rules), "for: 2s")
	quick = regexp.MustCompile(`\[\d+[mh]\]`).ReplaceAllString(quick, "[5s]")
	config := fmt.Sprintf("global:\n  scrape_interval: 500ms\n  evaluation_interval: 500ms\nrule_files: [rules.yml]\nscrape_configs:\n- job_name: caddy\n  static_configs:\n  - targets: [%q]\n", s.admin)
	for name, text := range map[string]string{"rules.yml": quick, "prometheus.yml": config} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	program(t, "http://"+address+"/-/ready", prometheus, "--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+address)

	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DisableCompression: true}}
	// open keeps a stream open from an address of its own, until the test ends.
	open := func(path string, from int) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+s.plain+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", "text/event-stream")
		req.Header.Set("X-Forwarded-For", fmt.Sprintf("192.0.2.%d", from))
		resp, err := client.Do(req)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			return
		}
		t.Cleanup(func() { resp.Body.Close() })
		go func() { _, _ = io.Copy(io.Discard, resp.Body) }()
	}
	for _, path := range []string{"/stale", "/never", "/throttled", "/refuse", "/patches"} {
		open(path, 1)
	}
	for i := range 9 {
		open("/near", i)
	}
	for i := range 14 {
		open("/documents?q="+strconv.Itoa(i), i)
	}
	for i := range 4 {
		open("/waits?q="+strconv.Itoa(i), i)
	}
	for end := time.Now().Add(patience); !strings.Contains(s.adminGet("/poll_sse/sources?name=throttled&state=live"), "live") || !strings.Contains(s.adminGet("/poll_sse/sources?name=stale&state=live"), "live"); {
		if time.Now().After(end) {
			t.Fatal("no document to break")
		}
		<-time.After(100 * time.Millisecond)
	}
	broken.Store(true)
	dawdle(t, s.plain, "/behind")
	call(t, "GET", "http://"+s.plain+"/near", "")
	every := func(d time.Duration, do func()) {
		stop, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			for {
				select {
				case <-stop:
					return
				case <-time.After(d):
					do()
				}
			}
		}()
		t.Cleanup(func() { close(stop); <-done })
	}
	once := func(path string) {
		req, _ := http.NewRequest(http.MethodGet, "http://"+s.plain+path, nil)
		req.Header.Set("Accept", "text/event-stream")
		if resp, err := client.Do(req); err == nil {
			resp.Body.Close()
		}
	}
	every(300*time.Millisecond, func() { once("/refuse") })
	every(20*time.Millisecond, func() { once("/storm") })
	every(300*time.Millisecond, func() { call(t, "GET", "http://"+s.plain+"/near", "") })

	get := func(path string, into any) {
		t.Helper()
		resp, err := http.Get("http://" + address + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil || json.Unmarshal(body, into) != nil {
			t.Fatalf("%s: %v: %s", path, err, body)
		}
	}
	var names []string
	for _, m := range regexp.MustCompile(`(?m)^  - alert: (\w+)$`).FindAllStringSubmatch(string(rules), -1) {
		names = append(names, m[1])
	}
	if len(names) < 8 {
		t.Fatalf("%d alerts in rules.yml", len(names))
	}
	firing := make(map[string][]string) // the label name, by alert
	for end := time.Now().Add(patience); len(firing) < len(names) && time.Now().Before(end); <-time.After(time.Second) {
		var answer struct {
			Data struct {
				Alerts []struct {
					State  string
					Labels map[string]string
				}
			}
		}
		get("/api/v1/alerts", &answer)
		for _, a := range answer.Data.Alerts {
			if name := a.Labels["alertname"]; a.State == "firing" && !slices.Contains(firing[name], a.Labels["name"]) {
				firing[name] = append(firing[name], a.Labels["name"])
			}
		}
	}
	// Each alert fires for the part that was broken for it.
	for alert, name := range map[string]string{
		"PollSSEDocumentStale": "stale", "PollSSENeverLive": "never", "PollSSEUpstreamThrottles": "throttled", "PollSSEPollsWait": "waits", "PollSSERefuses": "refuse",
		"PollSSENearSubscriberLimit": "near", "PollSSENearDocumentLimit": "documents", "PollSSEReconnectStorm": "storm", "PollSSEPatchesDoNotHelp": "patches",
		"PollSSEFallingBehind": "behind",
	} {
		if !slices.Contains(firing[alert], name) {
			t.Errorf("%s does not fire for %s, but for %q", alert, name, firing[alert])
		}
		names = slices.DeleteFunc(names, func(n string) bool { return n == alert })
	}
	if len(names) > 0 {
		t.Errorf("alerts without a test: %q", names)
	}
	for alert, name := range map[string]string{"PollSSEDocumentStale": "near", "PollSSERefuses": "near", "PollSSENearSubscriberLimit": "storm", "PollSSEPatchesDoNotHelp": "near"} {
		if slices.Contains(firing[alert], name) {
			t.Errorf("%s fires for %s, where nothing is wrong", alert, name)
		}
	}

	// And the admin API says which stream it is.
	var furthest []struct {
		Name     string  `json:"name"`
		Delivery string  `json:"delivery"`
		Left     int     `json:"unwritten_bytes"`
		Waiting  float64 `json:"waiting_seconds"`
		Client   string  `json:"client"`
	}
	if err := json.Unmarshal([]byte(s.adminGet("/poll_sse/streams?slowest=3")), &furthest); err != nil || len(furthest) != 3 || furthest[0].Name != "behind" || furthest[0].Left == 0 || furthest[0].Waiting == 0 || furthest[0].Client != "" {
		t.Errorf("%v: %+v", err, furthest)
	}

	queries := map[string]string{"record": "name:poll_sse_requests_saved:ratio5m"}
	text, err := os.ReadFile("../docs/operate/dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
		Annotations struct {
			List []struct{ Name, Expr string }
		}
	}
	if err := json.Unmarshal(text, &dashboard); err != nil {
		t.Fatal(err)
	}
	for _, p := range dashboard.Panels {
		for i, target := range p.Targets {
			queries[fmt.Sprint(p.Title, " ", i)] = target.Expr
		}
	}
	if len(queries) < 30 {
		t.Fatalf("%d queries in the dashboard", len(queries))
	}
	for title, expr := range queries {
		expr = strings.NewReplacer("$instance", ".*", "$name", ".*", "$__rate_interval", "10s").Replace(expr)
		var answer struct {
			Status, Error string
			Data          struct{ Result []any }
		}
		get("/api/v1/query?query="+url.QueryEscape(expr), &answer)
		if answer.Status != "success" || len(answer.Data.Result) == 0 {
			t.Errorf("%s: %s: %s, %d results", title, expr, answer.Error, len(answer.Data.Result))
		}
	}

	// What promtool thinks of the names, help texts and types.
	lint := exec.Command(promtool, "check", "metrics")
	var own strings.Builder
	for line := range strings.Lines(s.adminGet("/metrics")) {
		if strings.Contains(line, "caddy_poll_sse_") {
			own.WriteString(line)
		}
	}
	lint.Stdin = strings.NewReader(own.String())
	if out, err := lint.CombinedOutput(); err != nil {
		t.Errorf("promtool check metrics: %v\n%s", err, out)
	}
	if strings.Count(own.String(), "\n# TYPE ") < 25 {
		t.Errorf("only %d metrics", strings.Count(own.String(), "\n# TYPE "))
	}
}

// dawdle reads a stream over a network that carries half a megabyte a second, until
// the test ends.
func dawdle(t *testing.T, address, path string) {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.(*net.TCPConn).SetReadBuffer(64 << 10)
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\nAccept: text/event-stream\r\n\r\n", path, address)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			if _, err := io.CopyN(io.Discard, c, 128<<10); err != nil {
				return
			}
			<-time.After(250 * time.Millisecond)
		}
	}()
	t.Cleanup(func() { c.Close(); <-done })
}
