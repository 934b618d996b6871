package pollsse

import (
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/klauspost/compress/zstd"
)

func provisionClient(t *testing.T, shims ...Shim) *Client {
	t.Helper()
	ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
	t.Cleanup(cancel)
	c := &Client{Shims: shims}
	if err := c.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	return c
}

func serveClient(t *testing.T, c *Client, next caddyhttp.HandlerFunc, method, target string, fields ...string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(method, target, nil)
	for i := 0; i < len(fields); i += 2 {
		r.Header.Set(fields[i], fields[i+1])
	}
	w := httptest.NewRecorder()
	if err := c.ServeHTTP(w, r, next); err != nil {
		w.Code = err.(caddyhttp.HandlerError).StatusCode
	}
	return w
}

var notFound = caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
	w.WriteHeader(http.StatusNotFound)
	return nil
})

func TestClientFiles(t *testing.T) {
	c := provisionClient(t)
	index := serveClient(t, c, notFound, "GET", "/poll-sse/client.json")
	var files map[string]struct{ URL, Immutable, Integrity string }
	if err := json.Unmarshal(index.Body.Bytes(), &files); err != nil || index.Header().Get("Content-Type") != "application/json" {
		t.Fatalf("%v %v in %s", err, index.Header(), index.Body)
	}
	for _, name := range []string{"client.js", "react.js", "vue.js", "solid.js", "element.js", "numbers.js", "worker.js", "shim.js"} {
		f := files[name]
		if f.URL != "/poll-sse/"+name || !strings.HasPrefix(f.Immutable, "/poll-sse/"+strings.TrimSuffix(name, "js")) {
			t.Errorf("%s has the paths %q and %q", name, f.URL, f.Immutable)
		}
		plain := serveClient(t, c, notFound, "GET", f.URL)
		sum := sha512.Sum384(plain.Body.Bytes())
		if want := "sha384-" + base64.StdEncoding.EncodeToString(sum[:]); f.Integrity != want {
			t.Errorf("%s has the integrity %s, want %s", name, f.Integrity, want)
		}
		for _, coding := range []string{"br", "gzip"} {
			w := serveClient(t, c, notFound, "GET", f.Immutable, "Accept-Encoding", coding)
			if w.Header().Get("Content-Encoding") != coding || w.Header().Get("ETag") == plain.Header().Get("ETag") {
				t.Errorf("%s as %s: %v", name, coding, w.Header())
			}
			// The tests of the build compare the brotli forms with the text.
			if coding == "gzip" && !bytes.Equal(must(io.ReadAll(must(gzip.NewReader(w.Body)))), plain.Body.Bytes()) {
				t.Errorf("%s: another text in gzip", name)
			}
			if got := w.Header().Get("Cache-Control"); got != "public, max-age=31536000, immutable" {
				t.Errorf("%s: Cache-Control %q", f.Immutable, got)
			}
		}
		h := plain.Header()
		if plain.Code != 200 || h.Get("Content-Type") != "text/javascript; charset=utf-8" || h.Get("Cache-Control") != "no-cache" || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Vary") != "Accept-Encoding" {
			t.Errorf("%s: %d %v", name, plain.Code, h)
		}
		again := serveClient(t, c, notFound, "GET", f.URL, "If-None-Match", h.Get("ETag"))
		if again.Code != http.StatusNotModified || again.Body.Len() > 0 {
			t.Errorf("%s again: %d, %d bytes", name, again.Code, again.Body.Len())
		}
	}
	if w := serveClient(t, c, notFound, "HEAD", "/poll-sse/client.js"); w.Code != 200 || w.Body.Len() != 0 || w.Header().Get("Content-Length") == "" {
		t.Errorf("HEAD: %d %v", w.Code, w.Header())
	}
	if w := serveClient(t, c, notFound, "POST", "/poll-sse/client.js"); w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "GET, HEAD" {
		t.Errorf("POST: %d %v", w.Code, w.Header())
	}
	for _, path := range []string{"/poll-sse/none.js", "/poll-sse/client.0000000000000000.js", "/poll-sse/", "/"} {
		if w := serveClient(t, c, notFound, "GET", path); w.Code != http.StatusNotFound || w.Header().Get("Cache-Control") != "" {
			t.Errorf("%s: %d %v, not left to the next handler", path, w.Code, w.Header())
		}
	}
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

// htmlAnswer answers with a page and some fields.
func htmlAnswer(body string, fields ...string) caddyhttp.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) error {
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		for i := 0; i < len(fields); i += 2 {
			w.Header().Add(fields[i], fields[i+1])
		}
		_, err := io.WriteString(w, body)
		return err
	}
}

const documentHTML = "<!doctype html>\n<html lang=en>\n<head data-x='>'><title><head></title></head><body>text</body></html>"

func TestShimTag(t *testing.T) {
	c := provisionClient(t, Shim{URL: "/api/quotes?a=1&b", Ignore: []string{"_"}})
	tag := string(c.tag)
	if !strings.HasPrefix(tag, `<script src="/poll-sse/shim.`) || !strings.Contains(tag, ` data-urls="[[&#34;/api/quotes?a=1\u0026b&#34;,[&#34;_&#34;]]]"></script>`) {
		t.Fatalf("the tag is %s", tag)
	}
	for _, test := range []struct{ name, page, want string }{
		{"first in the head", documentHTML, "<!doctype html>\n<html lang=en>\n<head data-x='>'>TAG<title><head></title></head><body>text</body></html>"},
		{"no head", "<!DOCTYPE html><title>x</title><p>y", "<!DOCTYPE html>TAG<title>x</title><p>y"},
		{"no doctype", "<HTML><HEAD><meta charset=utf-8></HEAD>", "<HTML><HEAD>TAG<meta charset=utf-8></HEAD>"},
		{"a body only", "<!doctype html><body><p>x", "<!doctype html>TAG<body><p>x"},
		{"comments that look like heads", "<!doctype html><!-- <head> --><html><!--><head>-->\n<head>x", "<!doctype html><!-- <head> --><html><!--><head>TAG-->\n<head>x"},
		{"a header", "<!doctype html><header>x", "<!doctype html>TAG<header>x"},
		{"text", "<!doctype html> hello", "<!doctype html>TAG hello"},
		{"a doctype only", "<!doctype html>", "<!doctype html>TAG"},
		{"a byte order mark", "\uFEFF<!doctype html><html><head><p>", "\uFEFF<!doctype html><html><head>TAG<p>"},
		{"half a tag", "<!doctype html><he", "<!doctype html>TAG<he"},
		{"a fragment", "<p>x</p>", "TAG<p>x</p>"},
		{"nothing", "", ""},
		{"a long head", "<!doctype html><head><style>" + strings.Repeat("a{} ", 40000) + "</style>", "<!doctype html><head>TAG<style>" + strings.Repeat("a{} ", 40000) + "</style>"},
		{"a long comment", "<!doctype html><!--" + strings.Repeat("x", maxHead+5) + "--><head>", "<!doctype html>TAG<!--" + strings.Repeat("x", maxHead+5) + "--><head>"},
	} {
		want := strings.ReplaceAll(test.want, "TAG", tag)
		for _, size := range []int{1 << 30, 1000, 7, 1} {
			if size == 1 && len(test.page) > 10000 {
				continue
			}
			w := serveClient(t, c, func(w http.ResponseWriter, _ *http.Request) error {
				w.Header().Set("Content-Type", "text/html")
				w.Header().Set("Content-Length", fmt.Sprint(len(test.page)))
				for rest := test.page; rest != ""; {
					n := min(size, len(rest))
					if _, err := io.WriteString(w, rest[:n]); err != nil {
						return err
					}
					rest = rest[n:]
				}
				return nil
			}, "GET", "/", "Sec-Fetch-Dest", "document")
			if got := w.Body.String(); got != want {
				t.Errorf("%s, %d bytes at a time: got %.300q, want %.300q", test.name, size, got, want)
			}
			if test.page != "" && w.Header().Get("Content-Length") != "" {
				t.Errorf("%s: Content-Length %s", test.name, w.Header().Get("Content-Length"))
			}
		}
	}
}

// TestShimOnlyDocuments: anything but a document of a window or frame passes
// unchanged.
func TestShimOnlyDocuments(t *testing.T) {
	c := provisionClient(t, Shim{URL: "/api"})
	for _, test := range []struct {
		name   string
		body   string
		answer []string // fields
		ask    []string // fields
		want   bool
	}{
		{"a window", documentHTML, nil, []string{"Sec-Fetch-Dest", "document"}, true},
		{"a frame", documentHTML, nil, []string{"Sec-Fetch-Dest", "iframe"}, true},
		{"fetch", documentHTML, nil, []string{"Sec-Fetch-Dest", "empty"}, false},
		{"an image", documentHTML, nil, []string{"Sec-Fetch-Dest", "image"}, false},
		{"plain HTTP", documentHTML, nil, []string{"Accept", "text/html,*/*"}, true},
		{"no Accept", documentHTML, nil, nil, true},
		{"a fragment without the field", "<p>x", nil, []string{"Accept", "*/*"}, false},
		{"XMLHttpRequest without the field", documentHTML, nil, []string{"X-Requested-With", "XMLHttpRequest"}, false},
		{"JSON is asked for", documentHTML, nil, []string{"Accept", "application/json"}, false},
		{"XHTML", documentHTML, []string{"Content-Type", "application/xhtml+xml"}, []string{"Sec-Fetch-Dest", "document"}, false},
		{"UTF-16", documentHTML, []string{"Content-Type", "text/html; charset=UTF-16LE"}, []string{"Sec-Fetch-Dest", "document"}, false},
		{"another coding", documentHTML, []string{"Content-Encoding", "br"}, []string{"Sec-Fetch-Dest", "document"}, false},
		{"no-transform", documentHTML, []string{"Cache-Control", "private, No-Transform"}, []string{"Sec-Fetch-Dest", "document"}, false},
		{"a policy", documentHTML, []string{"Content-Security-Policy", "script-src 'nonce-x'"}, []string{"Sec-Fetch-Dest", "document"}, false},
		{"one policy of two", documentHTML, []string{"Content-Security-Policy", "img-src 'self', default-src 'none'"}, []string{"Sec-Fetch-Dest", "document"}, false},
		{"a policy that only reports", documentHTML, []string{"Content-Security-Policy-Report-Only", "script-src 'none'"}, []string{"Sec-Fetch-Dest", "document"}, true},
		{"a policy in the page", `<!doctype html><head><meta charset=utf-8><META HTTP-EQUIV="Content-Security-Policy" CONTENT="script-src 'strict-dynamic' 'nonce-x' 'self'"></head>`, nil, []string{"Sec-Fetch-Dest", "document"}, false},
		{"a policy in the page that allows it", `<!doctype html><head><meta http-equiv="content-security-policy" content="script-src 'self'"></head>`, nil, []string{"Sec-Fetch-Dest", "document"}, true},
	} {
		w := serveClient(t, c, func(w http.ResponseWriter, _ *http.Request) error {
			w.Header().Set("Content-Type", "text/html")
			for i := 0; i < len(test.answer); i += 2 {
				w.Header().Set(test.answer[i], test.answer[i+1])
			}
			_, err := io.WriteString(w, test.body)
			return err
		}, "GET", "/", test.ask...)
		if got := strings.Contains(w.Body.String(), string(c.tag)); got != test.want {
			t.Errorf("%s: with the script: %v, want %v: %s", test.name, got, test.want, w.Body)
		}
		if stripped := strings.Replace(w.Body.String(), string(c.tag), "", 1); stripped != test.body {
			t.Errorf("%s: got %q", test.name, stripped)
		}
	}
	for status, want := range map[int]bool{206: false, 404: true, 500: true} {
		w := serveClient(t, c, func(w http.ResponseWriter, _ *http.Request) error {
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(status)
			_, err := io.WriteString(w, documentHTML)
			return err
		}, "GET", "/", "Sec-Fetch-Dest", "document")
		if got := strings.Contains(w.Body.String(), "shim."); got != want || w.Code != status {
			t.Errorf("status %d: with the script: %v, want %v; it became %d", status, got, want, w.Code)
		}
	}
}

func TestShimCodings(t *testing.T) {
	c := provisionClient(t, Shim{URL: "/api"})
	page := documentHTML + strings.Repeat("<p>compressible", 20000)
	var zipped, zst bytes.Buffer
	z := gzip.NewWriter(&zipped)
	must(io.WriteString(z, page))
	_ = z.Close()
	e := must(zstd.NewWriter(&zst))
	must(io.WriteString(e, page))
	_ = e.Close()
	for coding, test := range map[string]struct {
		body   []byte
		decode func(io.Reader) io.Reader
	}{
		"gzip": {zipped.Bytes(), func(r io.Reader) io.Reader { return must(gzip.NewReader(r)) }},
		"zstd": {zst.Bytes(), func(r io.Reader) io.Reader { return must(zstd.NewReader(r)) }},
	} {
		next := func(body []byte) caddyhttp.HandlerFunc {
			return func(w http.ResponseWriter, r *http.Request) error {
				if got := r.Header.Get("Accept-Encoding"); got != coding {
					t.Errorf("%s: the next handler was asked for %q", coding, got)
				}
				w.Header().Set("Content-Type", "text/html")
				w.Header().Set("Content-Encoding", coding)
				w.Header().Set("ETag", `"v1"`)
				w.Header().Set("Content-Length", fmt.Sprint(len(body)))
				_, err := w.Write(body)
				return err
			}
		}
		w := serveClient(t, c, next(test.body), "GET", "/", "Sec-Fetch-Dest", "document", "Accept-Encoding", "br, "+coding)
		if w.Header().Get("Content-Encoding") != coding || w.Header().Get("Content-Length") != "" || w.Header().Get("ETag") != `"v1`+c.mark+`"` {
			t.Errorf("%s: %v", coding, w.Header())
		}
		got := string(must(io.ReadAll(test.decode(w.Body))))
		if strings.Replace(got, string(c.tag), "", 1) != page || len(got) == len(page) {
			t.Errorf("%s: another page: %.200q", coding, got)
		}
		func() {
			defer func() {
				if r := recover(); r != http.ErrAbortHandler {
					t.Errorf("%s: half a page ended with %v", coding, r)
				}
			}()
			serveClient(t, c, next(test.body[:len(test.body)/2]), "GET", "/", "Sec-Fetch-Dest", "document", "Accept-Encoding", coding)
		}()
		if w := serveClient(t, c, next(nil), "GET", "/", "Sec-Fetch-Dest", "document", "Accept-Encoding", coding); w.Body.Len() != 0 {
			t.Errorf("%s: no body became %q", coding, w.Body)
		}
		if w := serveClient(t, c, next(nil), "HEAD", "/", "Sec-Fetch-Dest", "document", "Accept-Encoding", coding); w.Body.Len() != 0 || w.Header().Get("Content-Length") != "" {
			t.Errorf("%s: HEAD: %v %q", coding, w.Header(), w.Body)
		}
	}
}

// TestShimAbandoned: a handler that panics leaves no goroutine behind.
func TestShimAbandoned(t *testing.T) {
	c := provisionClient(t, Shim{URL: "/api"})
	var zipped bytes.Buffer
	z := gzip.NewWriter(&zipped)
	must(io.WriteString(z, documentHTML))
	_ = z.Close()
	for _, end := range []string{"panic", "error"} {
		var p *htmlPage
		func() {
			defer func() { _ = recover() }()
			serveClient(t, c, func(w http.ResponseWriter, _ *http.Request) error {
				p = w.(*htmlPage)
				w.Header().Set("Content-Type", "text/html")
				w.Header().Set("Content-Encoding", "gzip")
				must(w.Write(zipped.Bytes()[:20]))
				if end == "panic" {
					panic(http.ErrAbortHandler)
				}
				return caddyhttp.Error(http.StatusBadGateway, io.ErrUnexpectedEOF)
			}, "GET", "/", "Sec-Fetch-Dest", "document", "Accept-Encoding", "gzip")
		}()
		select {
		case <-p.done:
		default:
			t.Errorf("%s: the goroutine goes on", end)
		}
	}
}

// TestShimStreams: a flush of the next handler reaches the client, compressed
// or not.
func TestShimStreams(t *testing.T) {
	c := provisionClient(t, Shim{URL: "/api"})
	for _, coding := range []string{"", "gzip", "zstd"} {
		seen := make(chan bool)
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			err := c.ServeHTTP(w, r, caddyhttp.HandlerFunc(func(w http.ResponseWriter, r *http.Request) error {
				w.Header().Set("Content-Type", "text/html")
				var out io.Writer = w
				flush := func() {}
				switch coding {
				case "gzip":
					z := gzip.NewWriter(w)
					defer z.Close()
					out, flush = z, func() { _ = z.Flush() }
				case "zstd":
					z := must(zstd.NewWriter(w))
					defer z.Close()
					out, flush = z, func() { _ = z.Flush() }
				}
				if coding != "" {
					w.Header().Set("Content-Encoding", coding)
				}
				for _, part := range []string{"<!doctype html><head></head><p>one", "<p>two"} {
					must(io.WriteString(out, part))
					flush()
					if err := http.NewResponseController(w).Flush(); err != nil {
						t.Error(err)
					}
					<-seen
				}
				return nil
			}))
			if err != nil {
				t.Error(err)
			}
		}))
		req := must(http.NewRequest("GET", server.URL, nil))
		req.Header.Set("Sec-Fetch-Dest", "document")
		if coding != "" {
			req.Header.Set("Accept-Encoding", coding)
		}
		resp := must(http.DefaultTransport.RoundTrip(req))
		var body io.Reader = resp.Body
		switch coding {
		case "gzip":
			body = must(gzip.NewReader(body))
		case "zstd":
			body = must(zstd.NewReader(body))
		}
		got, b := "", make([]byte, 4096)
		for _, want := range []string{"one", "two"} {
			for !strings.HasSuffix(got, want) {
				n, err := body.Read(b)
				if got += string(b[:n]); err != nil {
					t.Fatalf("%q: %v after %q", coding, err, got)
				}
			}
			seen <- true
		}
		if !strings.Contains(got, string(c.tag)) {
			t.Errorf("%q: no script in %q", coding, got)
		}
		resp.Body.Close()
		server.Close()
	}
}

func TestShimConditions(t *testing.T) {
	c := provisionClient(t, Shim{URL: "/api"})
	var asked http.Header
	next := func(w http.ResponseWriter, r *http.Request) error {
		asked = r.Header
		w.Header().Set("ETag", `"v1"`)
		w.Header().Set("Last-Modified", "Mon, 02 Jan 2006 15:04:05 GMT")
		if strings.Contains(r.Header.Get("If-None-Match"), `"v1"`) {
			w.WriteHeader(http.StatusNotModified)
			return nil
		}
		return htmlAnswer(documentHTML)(w, r)
	}
	first := serveClient(t, c, next, "GET", "/", "Sec-Fetch-Dest", "document", "If-None-Match", `"v1"`, "If-Modified-Since", "Mon, 02 Jan 2006 15:04:05 GMT", "Range", "bytes=0-9")
	if first.Code != 200 || asked.Get("If-None-Match") != "" || asked.Get("If-Modified-Since") != "" || asked.Get("Range") != "" {
		t.Errorf("a page without the script was confirmed: %d, asked %v", first.Code, asked)
	}
	tag := first.Header().Get("ETag")
	if tag == `"v1"` || first.Header().Get("Last-Modified") != "" || first.Header().Get("Vary") != "Sec-Fetch-Dest" {
		t.Errorf("fields of a page with the script: %v", first.Header())
	}
	again := serveClient(t, c, next, "GET", "/", "Sec-Fetch-Dest", "document", "If-None-Match", `W/"v0", `+tag)
	if again.Code != http.StatusNotModified || again.Header().Get("ETag") != tag || asked.Get("If-None-Match") != `"v1"` {
		t.Errorf("again: %d %v, asked %v", again.Code, again.Header(), asked)
	}
	other := provisionClient(t, Shim{URL: "/other"})
	if w := serveClient(t, other, next, "GET", "/", "Sec-Fetch-Dest", "document", "If-None-Match", tag); w.Code != 200 {
		t.Errorf("a page with another script was confirmed: %d", w.Code)
	}
}

func TestAllowsScript(t *testing.T) {
	const path = "/poll-sse/shim.0.js"
	for policy, want := range map[string]bool{
		"":                                true,
		"img-src 'none'":                  true,
		"default-src 'self'":              true,
		"default-src 'none'":              false,
		"DEFAULT-SRC 'SELF'":              true,
		"default-src *":                   true,
		"script-src":                      false,
		"script-src https:":               true,
		"script-src 'unsafe-inline'":      false,
		"script-src 'nonce-a' 'sha256-b'": false,
		"script-src 'self' 'strict-dynamic' 'nonce-a'":          false,
		"default-src 'none'; script-src 'self'":                 true,
		"script-src 'none'; script-src 'self'":                  false,
		"script-src 'self'; script-src-elem 'none'":             false,
		"script-src 'none'; script-src-elem 'self'":             true,
		"script-src site.example":                               true,
		"script-src https://site.example:443":                   true,
		"script-src https://site.example:8443":                  false,
		"script-src https://site.example:*":                     true,
		"script-src *.example":                                  true,
		"script-src *.site.example":                             false,
		"script-src cdn.example":                                false,
		"script-src site.example/poll-sse/":                     true,
		"script-src site.example/poll-sse/shim.0.js":            true,
		"script-src site.example/assets/":                       false,
		"script-src site.example/POLL-SSE/":                     false,
		"script-src data:":                                      false,
		"sandbox":                                               false,
		"sandbox allow-forms allow-scripts":                     true,
		"require-trusted-types-for 'script'; script-src 'self'": true,
	} {
		if got := allowsScript(policy, "site.example", path); got != want {
			t.Errorf("%q: allowed %v, want %v", policy, got, want)
		}
	}
	if !allowsScript("script-src localhost:8080", "localhost:8080", path) || allowsScript("script-src localhost:8080", "localhost:8081", path) {
		t.Error("ports are not compared")
	}
}

func TestClientCaddyfile(t *testing.T) {
	const text = `:80 {
	reverse_proxy localhost:1
	poll_sse_client {
		shim /api/quotes {
			ignore _ cachebuster
		}
		shim https://api.example/b
	}
	poll_sse /api http://localhost:2
}
`
	adapted, warnings, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), map[string]any{"filename": "Caddyfile"})
	if err != nil || len(warnings) > 0 {
		t.Fatal(warnings, err)
	}
	got := string(adapted)
	order := []int{strings.Index(got, `"handler":"poll_sse",`), strings.Index(got, `"handler":"poll_sse_client"`), strings.Index(got, `"handler":"reverse_proxy"`)}
	if order[0] < 0 || order[0] > order[1] || order[1] > order[2] {
		t.Errorf("the order is %v in %s", order, got)
	}
	if want := `"shims":[{"ignore":["_","cachebuster"],"url":"/api/quotes"},{"url":"https://api.example/b"}]`; !strings.Contains(got, want) {
		t.Errorf("no %s in %s", want, got)
	}
	for text, want := range map[string]string{
		"poll_sse_client /x":                              "", // a matcher
		"poll_sse_client x":                               "takes no x",
		"poll_sse_client {\n shims /a\n}":                 "did you mean shim?",
		"poll_sse_client {\n shim\n}":                     "need one URL that the pages poll, as in shim /api/quotes, at Caddyfile:2",
		"poll_sse_client {\n shim /a /b\n}":               "need one URL",
		"poll_sse_client {\n shim api\n}":                 "shim api: need a path that begins with a slash, or an http or https URL, at Caddyfile:2",
		"poll_sse_client {\n shim //host/a\n}":            "need a path",
		"poll_sse_client {\n shim ftp://h/a\n}":           "need a path",
		"poll_sse_client {\n shim /a#b\n}":                "fragment",
		"poll_sse_client {\n shim /{path}\n}":             "placeholders",
		"poll_sse_client {\n shim /a {\n ignores _\n}\n}": "there is ignore",
		"poll_sse_client {\n shim /a {\n ignore\n}\n}":    "need the query parameters",
	} {
		d := caddyfile.NewTestDispenser(text)
		if strings.HasPrefix(text, "poll_sse_client /x") {
			continue // the matcher is taken off by httpcaddyfile
		}
		if err := new(Client).UnmarshalCaddyfile(d); err == nil || !strings.Contains(strings.ReplaceAll(err.Error(), "Testfile", "Caddyfile"), want) {
			t.Errorf("%s\ngot %v, want %q", text, err, want)
		}
	}
	for _, c := range []*Client{
		{Shims: make([]Shim, 33)},
		{Shims: []Shim{{URL: "/" + strings.Repeat("x", 1000)}}},
		{Shims: []Shim{{URL: "/a"}, {URL: "/a"}}},
	} {
		ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
		if err := c.Provision(ctx); err != nil || c.Validate() == nil {
			t.Errorf("%d shims: %v, and they are valid", len(c.Shims), err)
		}
		cancel()
	}
}

// FuzzFindHead: once the place is decided it stays, whatever else comes, and it
// lies within the text.
func FuzzFindHead(f *testing.F) {
	for _, seed := range []string{documentHTML, "<p>x", "<!--", "<!doctype html><head><meta http-equiv=content-security-policy content=x>", "\uFEFF<html>", "<head", "<title></title", "<!-->"} {
		f.Add(seed, 5)
	}
	f.Fuzz(func(t *testing.T, text string, cut int) {
		whole := findHead([]byte(text), true)
		if !whole.decided || whole.at > len(text) {
			t.Fatalf("%+v in %q", whole, text)
		}
		if cut < 0 || cut > len(text) {
			return
		}
		part := findHead([]byte(text[:cut]), false)
		if part.decided && (part.at != whole.at || part.document != whole.document || len(part.policies) != len(whole.policies)) {
			t.Errorf("%q: %+v, but with %q %+v", text[:cut], part, text[cut:], whole)
		}
	})
}
