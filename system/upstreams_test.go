package system_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pollsse/caddy-poll-sse/internal/process"
)

// The tests below put the examples in front of servers that were written
// elsewhere. Each test counts the requests that reach its server and compares
// them with what the schedule allows.

// need returns the path of a program, or skips the test.
func need(t *testing.T, program, from string) string {
	t.Helper()
	for _, path := range []string{program, "/usr/sbin/" + program} {
		if found, err := exec.LookPath(path); err == nil {
			return found
		}
	}
	t.Skipf("%s is missing: %s", program, from)
	return ""
}

// program runs a server until the test ends and waits until it answers.
func program(t *testing.T, ready string, path string, args ...string) {
	t.Helper()
	output := new(process.Transcript)
	cmd := exec.Command(path, args...)
	cmd.Dir = t.TempDir()
	cmd.Env = append(os.Environ(), "HOME="+cmd.Dir, "STNOUPGRADE=1")
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(done)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			_ = cmd.Process.Kill()
			<-done
		}
	})
	deadline := time.After(patience)
	for {
		if resp, err := http.Get(ready); err == nil {
			resp.Body.Close()
			if resp.StatusCode < 500 {
				return
			}
		}
		select {
		case <-done:
			t.Fatalf("%s ended: %s", filepath.Base(path), process.End(output.String()))
		case <-deadline:
			t.Fatalf("%s does not answer: %s", filepath.Base(path), process.End(output.String()))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// counter passes requests on to a server and counts them.
type counter struct {
	url       string
	begun     time.Time
	requests  atomic.Int64
	unchanged atomic.Int64 // 304
}

func newCounter(t *testing.T, target string) *counter {
	u, err := url.Parse(target)
	if err != nil {
		t.Fatal(err)
	}
	c := &counter{begun: time.Now()}
	proxy := httputil.NewSingleHostReverseProxy(u)
	proxy.ModifyResponse = func(resp *http.Response) error {
		if resp.StatusCode == http.StatusNotModified {
			c.unchanged.Add(1)
		}
		return nil
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-By-Hand") == "" {
			c.requests.Add(1)
		}
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	c.url = server.URL
	return c
}

// within compares the requests with the schedule: one at the start, one each
// interval, and those that something asked for; each poll of several pages.
func (c *counter) within(t *testing.T, interval time.Duration, sources, asked, pages int) {
	t.Helper()
	elapsed := time.Since(c.begun)
	got, most := int(c.requests.Load()), pages*(sources*(1+int(elapsed/interval))+asked)
	t.Logf("%d requests in %s, the schedule allows %d; %d of them were answered with 304", got, elapsed.Round(time.Millisecond), most, c.unchanged.Load())
	if got > most || got == 0 {
		t.Errorf("%d requests, the schedule allows %d", got, most)
	}
}

// example runs Caddy with the site of an example. env is NAME=value.
func example(t *testing.T, name string, env ...string) *server {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "examples", name, "Caddyfile"))
	if err != nil {
		t.Fatal(err)
	}
	_, site_, ok := strings.Cut(string(text), "\n:{$PORT:8080} {\n")
	if !ok {
		t.Fatal("the example has no site")
	}
	return start(t, site{directives: strings.TrimSuffix(strings.TrimSpace(site_), "}"), noTLS: true, env: env})
}

// call makes a request that the counter does not count.
func call(t *testing.T, method, url, body string, fields ...string) string {
	t.Helper()
	req, err := http.NewRequest(method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	for _, f := range append(fields, "X-By-Hand: 1") {
		name, value, _ := strings.Cut(f, ": ")
		req.Header.Set(name, value)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode >= 300 {
		t.Fatalf("%s %s: %s, %v: %s", method, url, resp.Status, err, text)
	}
	return string(text)
}

// has reports whether a document's text holds a text.
func has(doc any, text string) bool {
	b, _ := json.Marshal(doc)
	return bytes.Contains(b, []byte(text))
}

func TestPrometheus(t *testing.T) {
	binary := need(t, "prometheus", "Debian package prometheus")
	dir, address := t.TempDir(), "127.0.0.1:"+strconv.Itoa(freePort(t))
	config := filepath.Join(dir, "prometheus.yml")
	text := fmt.Sprintf("global:\n  scrape_interval: 1s\nscrape_configs:\n- job_name: self\n  static_configs:\n  - targets: [%q]\n", address)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	program(t, "http://"+address+"/-/ready", binary, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+address)
	upstream := newCounter(t, "http://"+address)
	s := example(t, "prometheus", "PROMETHEUS="+upstream.url, "INTERVAL=500ms", "QUIET_INTERVAL=2s")
	stream := func(query string) *follower {
		return newFollower(t, query, http.DefaultClient, "http://"+s.plain+"/query?query="+url.QueryEscape(query)).run()
	}
	const query = `prometheus_tsdb_head_samples_appended_total{type="float"} or prometheus_tsdb_head_samples_appended_total`
	f, g := stream(query), stream(query)
	f.await("5 changes", func() bool { return f.patches+f.snapshots >= 5 && has(f.page.Doc, "__name__") })
	g.await("the same document", func() bool { return g.patches+g.snapshots >= 5 })
	if has(f.page.Doc, `"status"`) {
		t.Errorf("document %v, want only the result", f.page.Doc)
	}
	// Each sample is the API's own: its time and its value.
	f.mu.Lock()
	for _, row := range f.page.Doc.([]any) {
		if sample, _ := row.(map[string]any)["value"].([]any); len(sample) != 2 || reflect.TypeOf(sample[1]) != reflect.TypeOf("") {
			t.Errorf("sample %v, want a time and a value", row)
		}
	}
	f.mu.Unlock()
	// A document in which only the times of samples change sends nothing.
	still := stream("vector(1)")
	still.await("the document", func() bool { return has(still.page.Doc, `"1"`) })
	// An expression that is no query: the API answers 400.
	bad := stream("sum(")
	bad.await("a status", func() bool { return bad.status.State == "waiting" && bad.status.Reason == "status" })
	f.await("6 changes more", func() bool { return f.patches+f.snapshots >= 11 })
	still.close()
	if still.patches+still.snapshots != 1 {
		t.Errorf("%d changes where only times changed", still.patches+still.snapshots-1)
	}
	upstream.within(t, 500*time.Millisecond, 3, 0, 1)
	// The upstream's own count agrees.
	own := call(t, "GET", "http://"+address+"/metrics", "")
	count := 0
	for line := range strings.SplitSeq(own, "\n") {
		if rest, ok := strings.CutPrefix(line, `prometheus_http_requests_total{code="`); ok && strings.Contains(rest, `handler="/api/v1/query"}`) {
			n, _ := strconv.ParseFloat(rest[strings.LastIndex(rest, " ")+1:], 64)
			count += int(n)
		}
	}
	if got := int(upstream.requests.Load()); count > got || count < got-4 {
		t.Errorf("Prometheus counted %d queries, the proxy %d", count, got)
	}
}

func TestJSONServer(t *testing.T) {
	node := need(t, "node", "Debian package nodejs")
	cli, err := filepath.Abs("../test/upstreams/node_modules/json-server/lib/cli/bin.js")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(cli); err != nil {
		t.Skip("json-server is missing: npm ci in test/upstreams")
	}
	db := filepath.Join(t.TempDir(), "db.json")
	var posts []string
	for i := range 25 {
		posts = append(posts, fmt.Sprintf(`{"id":%d,"title":"post %d"}`, i+1, i+1))
	}
	if err := os.WriteFile(db, []byte(`{"posts":[`+strings.Join(posts, ",")+`]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	port := strconv.Itoa(freePort(t))
	program(t, "http://127.0.0.1:"+port+"/posts/1", node, cli, "--host", "127.0.0.1", "--port", port, db)
	upstream := newCounter(t, "http://127.0.0.1:"+port)
	// So slow that only the polls that are asked for come.
	s := example(t, "json-server", "JSON_SERVER="+upstream.url, "INTERVAL=1h", "QUIET_INTERVAL=1h")
	site := "http://" + s.plain + "/posts"
	length := func(f *follower) int {
		list, _ := f.page.Doc.([]any)
		return len(list)
	}
	f := newFollower(t, "reader", http.DefaultClient, site).run()
	f.await("three pages as one list", func() bool { return length(f) == 25 })
	for i := range 5 {
		call(t, "POST", site, fmt.Sprintf(`{"title":"added %d"}`, i))
		f.await("the post that was added", func() bool { return length(f) == 26+i && has(f.page.Doc, fmt.Sprintf("added %d", i)) })
	}
	// One post by its own URL: read, changed and deleted.
	if one := call(t, "GET", site+"/7", ""); !strings.Contains(one, `"post 7"`) || strings.Contains(one, `"post 8"`) {
		t.Errorf("GET of one post: %s", one)
	}
	call(t, "PATCH", site+"/7", `{"title":"changed"}`)
	f.await("the post that was changed", func() bool { return has(f.page.Doc, "changed") && !has(f.page.Doc, `"post 7"`) })
	call(t, "DELETE", site+"/7", "")
	f.await("the post's end", func() bool { return length(f) == 29 && !has(f.page.Doc, "changed") })
	if f.snapshots != 1 || f.patches != 7 {
		t.Errorf("%d snapshots and %d patches, want 1 and 7", f.snapshots, f.patches)
	}
	// Each poll walks 3 pages twice, since something has changed.
	upstream.within(t, time.Hour, 1, 7, 6)
}

func TestNginx(t *testing.T) {
	binary := need(t, "nginx", "Debian package nginx")
	dir, port := t.TempDir(), strconv.Itoa(freePort(t))
	write := func(text string) {
		t.Helper()
		// Replaced by a rename, as a careful writer does it.
		if err := os.WriteFile(filepath.Join(dir, "new"), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "status.json")); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	write(`{"jobs":[1]}`)
	config := filepath.Join(dir, "nginx.conf")
	text := fmt.Sprintf("daemon off; pid %[1]s/pid; error_log stderr;\nevents {}\nhttp { access_log %[1]s/access.log; client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;\nserver { listen 127.0.0.1:%[2]s; root %[1]s; } }\n", dir, port)
	if os.Getuid() == 0 {
		text = "user root;\n" + text
	}
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	program(t, "http://127.0.0.1:"+port+"/", binary, "-c", config)
	upstream := newCounter(t, "http://127.0.0.1:"+port)
	const interval = 200 * time.Millisecond
	s := example(t, "nginx", "NGINX="+upstream.url, "INTERVAL="+interval.String())
	f := newFollower(t, "reader", http.DefaultClient, "http://"+s.plain+"/status.json").run()
	f.await("the file", func() bool { return has(f.page.Doc, `[1]`) })
	for i := 2; i <= 4; i++ {
		was := upstream.unchanged.Load()
		for upstream.unchanged.Load() < was+2 { // the API answers 304 if nothing is new
			select {
			case <-time.After(interval / 4):
			case <-f.ended:
				t.Fatal(f.err)
			}
		}
		write(fmt.Sprintf(`{"jobs":[1],"done":"%s"}`, strings.Repeat("x", i)))
		f.await("the new file", func() bool { return has(f.page.Doc, `"`+strings.Repeat("x", i)+`"`) })
	}
	upstream.within(t, interval, 1, 0, 1)
	if n := int(upstream.requests.Load() - upstream.unchanged.Load()); n > 5 {
		t.Errorf("%d requests brought the file, which changed 3 times", n)
	}
	access, err := os.ReadFile(filepath.Join(dir, "access.log"))
	if err != nil {
		t.Fatal(err)
	}
	if own := strings.Count(string(access), "GET /status.json"); own < int(upstream.requests.Load())-1 {
		t.Errorf("nginx counted %d requests, the proxy %d", own, upstream.requests.Load())
	}
}

func TestSyncthing(t *testing.T) {
	binary := need(t, "syncthing", "Debian package syncthing")
	home, address := t.TempDir(), "127.0.0.1:"+strconv.Itoa(freePort(t))
	const key = "0123456789abcdef0123456789abcdef"
	program(t, "http://"+address+"/", binary, "serve", "--home="+home, "--no-browser", "--no-restart", "--no-default-folder", "--no-upgrade", "--gui-address=http://"+address, "--gui-apikey="+key)
	upstream := newCounter(t, "http://"+address)
	const interval = 500 * time.Millisecond
	s := example(t, "syncthing", "SYNCTHING="+upstream.url, "INTERVAL="+interval.String(), "QUIET_INTERVAL=2s", "SYNCTHING_API_KEY="+key)
	folders := newFollower(t, "folders", http.DefaultClient, "http://"+s.plain+"/folders").run()
	events := newFollower(t, "events", http.DefaultClient, "http://"+s.plain+"/events").run()
	folders.await("no folders", func() bool { list, ok := folders.page.Doc.([]any); return ok && len(list) == 0 })
	add := func(id string) {
		call(t, "POST", "http://"+address+"/rest/config/folders", fmt.Sprintf(`{"id":%q,"path":%q,"paused":true}`, id, filepath.Join(home, id)), "X-API-Key: "+key)
		folders.await("folder "+id, func() bool { return has(folders.page.Doc, `"id":"`+id+`"`) })
		events.await("the event of folder "+id, func() bool { return has(events.page.Doc, "ConfigSaved") && has(events.page.Doc, `"id":"`+id+`"`) })
	}
	add("one")
	add("two")
	// A late client gets items that the API no longer returns.
	late := newFollower(t, "late", http.DefaultClient, "http://"+s.plain+"/events").run()
	late.await("the events from the start", func() bool { return has(late.page.Doc, `"type":"Starting"`) && has(late.page.Doc, `"id":"two"`) })
	upstream.within(t, interval, 2, 0, 1)
	if strings.Contains(s.log.String()+s.adminGet("/poll_sse/sources"), key) {
		t.Error("the key shows in the log or in the admin API")
	}
	// With a wrong key the API answers 403: a state with a name.
	wrong := example(t, "syncthing", "SYNCTHING="+upstream.url, "SYNCTHING_API_KEY=wrong")
	refused := newFollower(t, "refused", http.DefaultClient, "http://"+wrong.plain+"/folders").run()
	refused.await("forbidden", func() bool { return refused.status.Reason == "forbidden" })
}
