package system_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// report is what caddy poll-sse inspect says with --json, as far as tests read it.
type report struct {
	Reason     string
	Hint       string
	Polls      int
	Validators struct {
		ETag, State  string
		LastModified bool `json:"last_modified"`
		NotModified  int  `json:"not_modified"`
	}
	Changes  struct{ Count, Published, Patches int }
	Volatile []struct{ Path, Advice string }
	Lists    []struct {
		Path     string
		Keys     []string
		Identify string
	}
	Numbers []struct{ Path string }
	Savings struct {
		Interval         float64 `json:"interval_seconds"`
		PollingBytes     float64 `json:"polling_bytes_per_second"`
		ValidatedBytes   float64 `json:"validating_bytes_per_second"`
		UpstreamRequests float64 `json:"upstream_requests_per_second"`
		StreamBytes      float64 `json:"stream_bytes_per_second"`
		Readers          float64
	}
	Caddyfile string
}

// inspect runs caddy poll-sse inspect and returns its output and its exit
// status.
func inspect(t *testing.T, into any, args ...string) int {
	t.Helper()
	s := &server{t: t, dir: t.TempDir()}
	cmd := s.command(append([]string{"poll-sse", "inspect", "--json"}, args...)...)
	var out, progress bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &progress
	err := cmd.Run()
	if json.Unmarshal(out.Bytes(), into) != nil {
		t.Fatalf("inspect %q: %v: not one JSON object: %s\n%s", args, err, out.String(), progress.String())
	}
	if !strings.Contains(progress.String(), "\n") {
		t.Errorf("inspect %q: no progress on standard error", args)
	}
	return cmd.ProcessState.ExitCode()
}

// pasted runs Caddy with a Caddyfile as inspect printed it, on another port.
func pasted(t *testing.T, caddyfile string, env ...string) *server {
	t.Helper()
	s := &server{t: t, dir: t.TempDir()}
	s.admin = "127.0.0.1:" + strconv.Itoa(freePort(t))
	s.plain = "127.0.0.1:" + strconv.Itoa(freePort(t))
	if !strings.Contains(caddyfile, ":8080 {\n") {
		t.Fatalf("no site in\n%s", caddyfile)
	}
	text := strings.Replace(caddyfile, ":8080 {\n", "http://"+s.plain+" {\n", 1)
	if err := os.WriteFile(filepath.Join(s.dir, "Caddyfile"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.end)
	s.run(site{env: append(env, "CADDY_ADMIN="+s.admin)})
	if strings.Contains(s.log.String(), "not formatted") {
		t.Errorf("not formatted as caddy fmt does:\n%s", caddyfile)
	}
	return s
}

// metered counts the bytes of answers' headers and bodies as they come.
type metered struct{ bytes atomic.Int64 }

func (m *metered) RoundTrip(r *http.Request) (*http.Response, error) {
	tr := http.DefaultTransport.(*http.Transport).Clone()
	tr.DisableCompression = true
	tr.DisableKeepAlives = true
	resp, err := tr.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	n := 17
	for name, values := range resp.Header {
		for _, v := range values {
			n += len(name) + len(v) + 4
		}
	}
	m.bytes.Add(int64(n))
	resp.Body = meteredBody{resp.Body, m}
	return resp, nil
}

type meteredBody struct {
	io.ReadCloser
	m *metered
}

func (b meteredBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.m.bytes.Add(int64(n))
	return n, err
}

// pollFor polls as a page does, with or without the browser's cache.
func pollFor(t *testing.T, d, interval time.Duration, url string, conditional bool, fields []string) float64 {
	m := new(metered)
	begun := time.Now()
	etag, modified := "", ""
	for time.Since(begun) < d {
		req, _ := http.NewRequest(http.MethodGet, url, nil)
		req.Header.Set("Accept", "application/json")
		req.Header.Set("Accept-Encoding", "gzip, deflate, zstd")
		for _, f := range fields {
			name, value, _ := strings.Cut(f, ": ")
			req.Header.Set(name, value)
		}
		if conditional && etag != "" {
			req.Header.Set("If-None-Match", etag)
		}
		if conditional && modified != "" {
			req.Header.Set("If-Modified-Since", modified)
		}
		next := time.Now().Add(interval)
		resp, err := (&http.Client{Transport: m}).Do(req)
		if err != nil {
			t.Error(err)
			return 0
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if conditional && resp.StatusCode == http.StatusOK {
			etag, modified = resp.Header.Get("ETag"), resp.Header.Get("Last-Modified")
		}
		<-time.After(time.Until(next))
	}
	return float64(m.bytes.Load()) / time.Since(begun).Seconds()
}

// TestInspect runs caddy poll-sse inspect on six APIs that were written
// elsewhere, follows its advice, and measures the savings that it promised.
// Pages that poll, with and without conditions, and pages with streams run at
// the same time.
func TestInspect(t *testing.T) {
	const look, interval = 12 * time.Second, 500 * time.Millisecond
	local := func(path string) (address, url string) {
		address = "127.0.0.1:" + strconv.Itoa(freePort(t))
		return address, "http://" + address + path
	}
	// every repeats something until the test ends.
	every := func(t *testing.T, d time.Duration, do func(i int)) {
		stop, done := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(done)
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				case <-time.After(d):
					do(i)
				}
			}
		}()
		t.Cleanup(func() { close(stop); <-done })
	}
	write := func(t *testing.T, file, text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	advice := func(r report) string {
		var out []string
		for _, v := range r.Volatile {
			if v.Advice != "" {
				out = append(out, v.Advice+" "+v.Path)
			}
		}
		slices.Sort(out)
		return strings.Join(out, ", ")
	}
	for _, c := range []struct {
		name   string
		begin  func(t *testing.T) (url string, fields, env []string)
		check  func(r report) error
		slower bool // streams cost more than polling here, and inspect says so
	}{
		{name: "nginx", begin: func(t *testing.T) (string, []string, []string) {
			binary := need(t, "nginx", "Debian package nginx-light")
			dir := t.TempDir()
			if err := os.Chmod(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			address, url := local("/status.json")
			var rows []string
			for i := range 100 {
				rows = append(rows, fmt.Sprintf(`{"id":%d,"job":"job number %d","state":"waiting"}`, i, i))
			}
			put := func(i int) {
				rows[i%len(rows)] = fmt.Sprintf(`{"id":%d,"job":"job number %d","state":"done","at":%d}`, i%len(rows), i%len(rows), i)
				write(t, filepath.Join(dir, "new"), `{"jobs":[`+strings.Join(rows, ",")+`]}`)
				if err := os.Rename(filepath.Join(dir, "new"), filepath.Join(dir, "status.json")); err != nil {
					t.Error(err)
				}
			}
			put(0)
			config := filepath.Join(dir, "nginx.conf")
			text := fmt.Sprintf("daemon off; pid %[1]s/pid; error_log stderr;\nevents {}\nhttp { access_log off; client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s; types { application/json json; }\nserver { listen %[2]s; root %[1]s; } }\n", dir, address)
			if os.Getuid() == 0 {
				text = "user root;\n" + text
			}
			write(t, config, text)
			program(t, url, binary, "-c", config)
			every(t, 1500*time.Millisecond, func(i int) { put(i + 1) })
			return url, nil, nil
		}, check: func(r report) error {
			if r.Validators.State != "honoured" || r.Validators.ETag != "strong" || len(r.Lists) != 1 || r.Lists[0].Path != "/jobs" || !slices.Contains(r.Lists[0].Keys, "id") || advice(r) != "" {
				return fmt.Errorf("a file with an ETag, and jobs that have an id")
			}
			return nil
		}},
		{name: "prometheus", begin: func(t *testing.T) (string, []string, []string) {
			binary := need(t, "prometheus", "Debian package prometheus")
			dir := t.TempDir()
			address, url := local("/api/v1/query?query=prometheus_http_requests_total")
			config := filepath.Join(dir, "prometheus.yml")
			write(t, config, fmt.Sprintf("global:\n  scrape_interval: 2s\nscrape_configs:\n- job_name: self\n  static_configs:\n  - targets: [%q]\n", address))
			program(t, "http://"+address+"/-/ready", binary, "--config.file="+config, "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address="+address)
			deadline := time.Now().Add(patience)
			for !strings.Contains(call(t, "GET", url, ""), `"metric"`) && time.Now().Before(deadline) {
				<-time.After(200 * time.Millisecond)
			}
			<-time.After(5 * time.Second) // until the series of the first requests are all there
			return url, nil, nil
		}, check: func(r report) error {
			if r.Validators.State != "none" || !strings.Contains(advice(r), "omit /data/result/*/value/0") {
				return fmt.Errorf("no ETag, and the time of each sample to omit")
			}
			return nil
		}},
		{name: "syncthing", begin: func(t *testing.T) (string, []string, []string) {
			binary := need(t, "syncthing", "Debian package syncthing")
			home := t.TempDir()
			address, url := local("/rest/config/folders")
			const key = "0123456789abcdef0123456789abcdef"
			program(t, "http://"+address+"/", binary, "serve", "--home="+home, "--no-browser", "--no-restart", "--no-default-folder", "--no-upgrade", "--gui-address=http://"+address, "--gui-apikey="+key)
			put := func(i int) {
				call(t, "POST", url, fmt.Sprintf(`{"id":"folder-%d","label":"label %d","path":%q,"paused":true}`, i%6, i, filepath.Join(home, strconv.Itoa(i%6))), "X-API-Key: "+key)
			}
			for i := range 6 {
				put(i)
			}
			every(t, 2*time.Second, func(i int) { put(i + 6) })
			return url, []string{"X-API-Key: " + key}, []string{"UPSTREAM_X_API_KEY=" + key}
		}, check: func(r report) error {
			if strings.Contains(r.Caddyfile, "0123456789abcdef") || !strings.Contains(r.Caddyfile, "header_up X-Api-Key {env.UPSTREAM_X_API_KEY}") || len(r.Lists) == 0 || !slices.Contains(r.Lists[0].Keys, "id") {
				return fmt.Errorf("a key from the environment, and folders that have an id")
			}
			return nil
		}},
		{name: "json-server", begin: func(t *testing.T) (string, []string, []string) {
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
			for i := range 60 {
				posts = append(posts, fmt.Sprintf(`{"id":%d,"serial":%d,"title":"post %d","text":"%s"}`, i+1, 9007199254740993+2*i, i+1, strings.Repeat("lorem ipsum ", 8)))
			}
			write(t, db, `{"posts":[`+strings.Join(posts, ",")+`]}`)
			address, url := local("/posts")
			host, port, _ := strings.Cut(address, ":")
			program(t, url, node, cli, "--host", host, "--port", port, db)
			every(t, 2*time.Second, func(i int) { call(t, "PATCH", url+"/"+strconv.Itoa(1+i%60), fmt.Sprintf(`{"title":"changed %d"}`, i)) })
			return url, nil, nil
		}, check: func(r report) error {
			if r.Validators.State != "honoured" || r.Validators.ETag != "weak" || len(r.Lists) != 1 || !slices.Contains(r.Lists[0].Keys, "id") {
				return fmt.Errorf("a weak ETag that is honoured, and posts that have an id")
			}
			return nil
		}},
		{name: "bind", begin: func(t *testing.T) (string, []string, []string) {
			binary := need(t, "named", "Debian package bind9")
			dir := t.TempDir()
			address, url := local("/json/v1/server")
			host, port, _ := strings.Cut(address, ":")
			config := filepath.Join(dir, "named.conf")
			write(t, config, fmt.Sprintf("options { directory %[1]q; listen-on port %[2]d { 127.0.0.1; }; listen-on-v6 { none; }; pid-file none; session-keyfile none; recursion no; dnssec-validation no; managed-keys-directory %[1]q; };\ncontrols { };\nstatistics-channels { inet %[3]s port %[4]s allow { 127.0.0.1; }; };\n", dir, freePort(t), host, port))
			program(t, url, binary, "-f", "-c", config)
			return url, nil, nil
		}, check: func(r report) error {
			if advice(r) != "omit /current-time" || r.Changes.Count < 15 || r.Changes.Published > 2 {
				return fmt.Errorf("nothing but the time of the answer changes")
			}
			return nil
		}},
		{name: "lighttpd", slower: true, begin: func(t *testing.T) (string, []string, []string) {
			binary := need(t, "lighttpd", "Debian package lighttpd")
			dir := t.TempDir()
			address, url := local("/status?json")
			host, port, _ := strings.Cut(address, ":")
			config := filepath.Join(dir, "lighttpd.conf")
			write(t, config, fmt.Sprintf("server.document-root = %q\nserver.port = %s\nserver.bind = %q\nserver.modules = (\"mod_status\")\nstatus.status-url = \"/status\"\n", dir, port, host))
			program(t, url, binary, "-D", "-f", config)
			return url, nil, nil
		}, check: func(r report) error {
			if r.Validators.State != "none" || 2*r.Changes.Patches > r.Changes.Published {
				return fmt.Errorf("a document that is too small for patches")
			}
			return nil
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // they take time, but hardly any of the processor's
			url, fields, env := c.begin(t)
			args := []string{"--for", look.String(), "--interval", interval.String(), url}
			for _, f := range fields {
				args = append(args, "-H", f)
			}
			var r report
			if status := inspect(t, &r, args...); status != 0 {
				t.Fatalf("exit status %d: %+v", status, r)
			}
			if err := c.check(r); err != nil {
				t.Errorf("not found: %v: %+v", err, r)
			}
			host, _, _ := strings.Cut(strings.TrimPrefix(url, "http://"), "/")
			base := "http://" + host
			upstream := newCounter(t, base)
			s := pasted(t, strings.Replace(r.Caddyfile, base, upstream.url, 1), env...)

			// One page of each kind; its cost is multiplied.
			_, rest, _ := strings.Cut(r.Caddyfile, "poll_sse ")
			path, _, _ := strings.Cut(rest, " ")
			m := new(metered)
			req, _ := http.NewRequest(http.MethodGet, "http://"+s.plain+path, nil)
			req.Header.Set("Accept", "text/event-stream")
			req.Header.Set("Accept-Encoding", "gzip")
			resp, err := (&http.Client{Transport: m}).Do(req)
			if err != nil || resp.StatusCode != http.StatusOK {
				t.Fatalf("the Caddyfile as pasted: %v %v\n%s", resp, err, r.Caddyfile)
			}
			go func() { _, _ = io.Copy(io.Discard, resp.Body) }()
			defer resp.Body.Close()
			for end := time.Now().Add(patience); m.bytes.Load() < 500 && time.Now().Before(end); {
				<-time.After(20 * time.Millisecond)
			}
			<-time.After(interval)
			opened, begun := m.bytes.Load(), time.Now()
			requests := upstream.requests.Load()
			conditional := make(chan float64)
			go func() { conditional <- pollFor(t, look, interval, url, true, fields) }()
			plain := pollFor(t, look, interval, url, false, fields)
			validated := <-conditional
			took := time.Since(begun).Seconds()
			stream := float64(m.bytes.Load()-opened) / took
			polled := float64(upstream.requests.Load()-requests) / took
			p := r.Savings
			t.Logf("a reader, B/s: promised  polling %.0f, conditional %.0f, stream %.0f; measured  %.0f, %.0f, %.0f; requests/s to the API promised %.2f, measured %.2f",
				p.PollingBytes/p.Readers, p.ValidatedBytes/p.Readers, p.StreamBytes/p.Readers, plain, validated, stream, p.UpstreamRequests, polled)
			near := func(what string, promised, measured, factor, slack float64) {
				if measured > factor*promised+slack || promised > factor*measured+slack {
					t.Errorf("%s: promised %.1f, measured %.1f", what, promised, measured)
				}
			}
			near("polling", p.PollingBytes/p.Readers, plain, 1.5, 50)
			near("polling with conditions", p.ValidatedBytes/p.Readers, validated, 1.5, 50)
			near("stream", p.StreamBytes/p.Readers, stream, 2, 60)
			if polled > 1.1*p.UpstreamRequests+0.1 {
				t.Errorf("requests/s to the API: promised at most %.2f, measured %.2f", p.UpstreamRequests, polled)
			}
			if !c.slower && stream > validated {
				t.Errorf("the stream takes %.0f B/s, polling with conditions %.0f", stream, validated)
			}
		})
	}
}

// TestInspectStream runs caddy poll-sse inspect on a stream, directly and
// through nginx, both with its defaults and set up in ways that break streams.
func TestInspectStream(t *testing.T) {
	t.Parallel()
	binary := need(t, "nginx", "Debian package nginx-light")
	k := &ticker{owner: "everybody"}
	u := newUpstream(t, k.serve(false))
	s := start(t, site{noTLS: true, directives: "poll_sse /doc " + u.url("/doc") + " {\n\tinterval 200ms\n\theartbeat 1s\n}\nrespond /json \"{}\"\n"})
	dir, port := t.TempDir(), strconv.Itoa(freePort(t))
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	config := filepath.Join(dir, "nginx.conf")
	// With HTTP/1.0, its default, nginx holds back as much as a buffer takes.
	to := "proxy_pass http://" + s.plain + "/doc;"
	text := fmt.Sprintf("daemon off; pid %[1]s/pid; error_log stderr;\nevents {}\nhttp { access_log off; client_body_temp_path %[1]s/b; proxy_temp_path %[1]s/p; fastcgi_temp_path %[1]s/f; uwsgi_temp_path %[1]s/u; scgi_temp_path %[1]s/s;\nserver { listen 127.0.0.1:%[2]s;\n"+
		"location /plain { %[3]s }\nlocation /buffered { %[3]s proxy_ignore_headers X-Accel-Buffering; }\nlocation /dropped { %[3]s proxy_set_header Last-Event-ID ''; }\nlocation /login { return 401; }\n} }\n", dir, port, to)
	if os.Getuid() == 0 {
		text = "user root;\n" + text
	}
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	program(t, "http://127.0.0.1:"+port+"/login", binary, "-c", config)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			case <-time.After(700 * time.Millisecond):
				k.step.Add(1)
			}
		}
	}()
	defer func() { close(stop); <-done }()
	for path, want := range map[string]struct {
		status int
		what   string // problem or reason
	}{
		"http://" + s.plain + "/doc":             {0, ""},
		"http://127.0.0.1:" + port + "/plain":    {0, ""},
		"http://127.0.0.1:" + port + "/buffered": {3, "buffered"},
		"http://127.0.0.1:" + port + "/dropped":  {3, "no_resume"},
		"http://127.0.0.1:" + port + "/login":    {2, "unauthorized"},
		"http://" + s.plain + "/json":            {2, "no_stream"},
		"http://127.0.0.1:1/":                    {2, "unreachable"},
	} {
		t.Run(path[strings.LastIndexByte(path, '/')+1:], func(t *testing.T) {
			var r struct {
				Reason   string
				Gzip     string
				Resume   string
				Problems []struct{ What, Detail string }
				Versions int
			}
			status := inspect(t, &r, "--for", "9s", "--stream", path)
			found := r.Reason
			for _, p := range r.Problems {
				if p.What == want.what || found == "" {
					found = p.What
				}
			}
			if status != want.status || found != want.what {
				t.Errorf("exit status %d, %+v; want %d, %s", status, r, want.status, want.what)
			}
			if want.status == 0 && (r.Gzip != "flushed" || r.Resume != "header" || r.Versions < 5) {
				t.Errorf("%+v", r)
			}
		})
	}
}
