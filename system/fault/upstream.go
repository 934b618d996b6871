package main

import (
	"bytes"
	"compress/gzip"
	"compress/zlib"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/text/encoding/simplifiedchinese"
	"golang.org/x/text/encoding/unicode"
)

// upstream is the legacy API. It gives each poll a step of the owner's
// document, and fails as often as it is told, in every way that it knows.
type upstream struct {
	documents *documents
	verdict   *verdict
	address   string // host:port
	elsewhere string // host:port of another server, which nobody may be sent to

	failing atomic.Int64 // polls out of 100 that fail
	frozen  atomic.Bool  // the steps stay as they are
	slow    atomic.Bool  // every poll takes its time

	mu     sync.Mutex
	rng    *rand.Rand
	steps  map[string]int64
	server *http.Server
}

func startUpstream(d *documents, v *verdict, seed uint64) (*upstream, error) {
	u := &upstream{documents: d, verdict: v, address: "127.0.0.1:0", rng: rand.New(rand.NewPCG(seed, 1)), steps: map[string]int64{}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	u.elsewhere = l.Addr().String()
	go func() {
		_ = http.Serve(l, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			v.problem(wrongDocument, "a redirect to another host was followed")
			_, _ = io.WriteString(w, poison)
		}))
	}()
	return u, u.up()
}

// up listens, on the port of the first time.
func (u *upstream) up() error {
	var l net.Listener
	var err error
	for range 100 {
		if l, err = net.Listen("tcp", u.address); err == nil {
			break
		}
		time.Sleep(20 * time.Millisecond)
	}
	if err != nil {
		return err
	}
	u.address = l.Addr().String()
	server := &http.Server{Handler: u, ReadHeaderTimeout: time.Minute}
	u.mu.Lock()
	u.server = server
	u.mu.Unlock()
	go func() { _ = server.Serve(l) }()
	return nil
}

// down closes the port and all connections.
func (u *upstream) down() {
	u.mu.Lock()
	defer u.mu.Unlock()
	_ = u.server.Close()
}

// newest is the step that an owner's document is at.
func (u *upstream) newest(owner string) int64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.steps[owner]
}

func (u *upstream) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	owner := strings.TrimPrefix(r.URL.Path, "/")
	if owner == "own" {
		owner = r.Header.Get("X-User")
	}
	// A cursor leads to the next page of the step that the page before is of.
	var step int64
	var page int
	cursor := r.URL.Query().Get("cursor")
	if cursor != "" {
		if _, err := fmt.Sscanf(cursor, "%d.%d", &step, &page); err != nil || step > u.newest(owner) || page < 2 || page > pages {
			u.verdict.problem(protocolError, "the upstream is asked for the page %q", cursor)
		}
	}
	u.mu.Lock()
	if cursor == "" {
		if !u.frozen.Load() && u.rng.IntN(4) > 0 || u.steps[owner] == 0 {
			u.steps[owner]++
		}
		step, page = u.steps[owner], 1
	}
	fails := int64(u.rng.IntN(100)) < u.failing.Load()
	choice := u.rng.Uint64()
	u.mu.Unlock()
	u.verdict.count("polls")
	if !fails {
		// Slow ones hold the upstream's time, so that a poll is often in
		// flight when something happens.
		switch {
		case u.slow.Load():
			time.Sleep(time.Duration(choice>>8%300) * time.Millisecond)
		case choice%5 == 0 && !u.frozen.Load():
			time.Sleep(time.Duration(choice>>8%80) * time.Millisecond)
		}
		var text []byte
		switch owner {
		case selected:
			text = wrapped(u.documents.text(owner, step), choice>>10)
		case paged:
			text = u.documents.page(step, page)
		case appended:
			after, err := strconv.ParseInt(r.URL.Query().Get("after"), 10, 64)
			if err != nil || after > step {
				u.verdict.problem(protocolError, "the upstream is asked with %q for what is new at step %d", r.URL.RawQuery, step)
			}
			text = u.documents.events(step, after)
		default:
			text = u.documents.text(owner, step)
		}
		u.good(w, r, fmt.Sprintf(`"%s-%d"`, owner, step), text, choice>>20)
		return
	}
	f := faults[choice%uint64(len(faults))]
	if f.private && !private(owner) {
		f = faults[0]
	}
	u.verdict.count("fault: " + f.name)
	f.serve(u, w, r)
}

// wrapped is an answer of which the document is a part, beside what is of no
// interest.
func wrapped(text []byte, choice uint64) []byte {
	if text[0] == '{' {
		text = fmt.Appendf(nil, `{"noise":%d,%s`, choice%7, text[1:])
	}
	return fmt.Appendf(nil, `{"took":%d,"result":%s,"noise":%d}`, choice%5, text, choice%3)
}

// good answers with a text in one of the forms that a good upstream uses.
func (u *upstream) good(w http.ResponseWriter, r *http.Request, tag string, text []byte, choice uint64) {
	h := w.Header()
	h.Set("Content-Type", "application/json")
	if choice%2 == 0 {
		h.Set("ETag", tag)
		if r.Header.Get("If-None-Match") == tag {
			w.WriteHeader(http.StatusNotModified)
			u.verdict.count("answers with 304")
			return
		}
	}
	accepts := func(coding string) bool { return strings.Contains(r.Header.Get("Accept-Encoding"), coding) }
	switch choice >> 1 % 11 {
	case 0:
		var b bytes.Buffer
		_ = json.Indent(&b, text, "", "\t")
		text = b.Bytes()
	case 1:
		text = append([]byte("\ufeff"), text...)
	case 2:
		text = append([]byte(")]}',\n"), text...)
	case 3:
		if accepts("gzip") {
			h.Set("Content-Encoding", "gzip")
			text = gzipped(text)
		}
	case 4:
		if accepts("deflate") {
			h.Set("Content-Encoding", "deflate")
			var b bytes.Buffer
			z := zlib.NewWriter(&b)
			_, _ = z.Write(text)
			_ = z.Close()
			text = b.Bytes()
		}
	case 5: // piece by piece
		for len(text) > 0 && choice>>4%4 == 0 {
			n := min(len(text), 1+len(text)/4)
			_, _ = w.Write(text[:n])
			_ = http.NewResponseController(w).Flush()
			text = text[n:]
			time.Sleep(5 * time.Millisecond)
		}
	case 6:
		h.Set("Connection", "close")
	case 7:
		if accepts("zstd") {
			h.Set("Content-Encoding", "zstd")
			text = zstdEncoder.EncodeAll(text, nil)
		}
	case 8:
		h.Set("Content-Type", "application/json; charset=gb18030")
		text, _ = simplifiedchinese.GB18030.NewEncoder().Bytes(text)
	case 9:
		text, _ = unicode.UTF16(unicode.BigEndian, unicode.UseBOM).NewEncoder().Bytes(text)
	}
	_, _ = w.Write(text)
}

// zstdEncoder is for any goroutine.
var zstdEncoder, _ = zstd.NewWriter(nil)

func gzipped(text []byte) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write(text)
	_ = z.Close()
	return b.Bytes()
}

// bomb is a small body that expands to 64 MiB.
var bomb = sync.OnceValue(func() []byte { return gzipped(bytes.Repeat([]byte(" "), 64<<20)) })

// fault is a way to fail.
type fault struct {
	name    string
	private bool // only for what is one client's own
	serve   func(u *upstream, w http.ResponseWriter, r *http.Request)
}

// says is an answer that is whole. Fields are name and value in turn.
func says(name string, status int, body string, fields ...string) fault {
	return fault{name: name, serve: func(_ *upstream, w http.ResponseWriter, _ *http.Request) {
		for i := 0; i+1 < len(fields); i += 2 {
			w.Header().Set(fields[i], fields[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}}
}

// breaks is an answer of raw bytes, after which the connection ends: in order,
// or with a reset.
func breaks(name, bytes string, reset bool) fault {
	return fault{name: name, serve: func(_ *upstream, w http.ResponseWriter, _ *http.Request) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		_, _ = io.WriteString(c, bytes)
		if tcp, ok := c.(*net.TCPConn); ok && reset {
			_ = tcp.SetLinger(0)
		}
		_ = c.Close()
	}}
}

// stalls answers in part and then no more.
func stalls(name, part string) fault {
	return fault{name: name, serve: func(_ *upstream, w http.ResponseWriter, r *http.Request) {
		if part != "" {
			_, _ = io.WriteString(w, part)
			_ = http.NewResponseController(w).Flush()
		}
		select {
		case <-r.Context().Done():
		case <-time.After(10 * time.Second):
		}
	}}
}

const okHeader = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"

// faults are all the ways. A body that is a JSON text is poison.
var faults = []fault{
	says("500", 500, poison, "Content-Type", "application/json", "ETag", `"poison"`),
	says("502 as HTML", 502, "<!doctype html><title>Bad Gateway</title>", "Content-Type", "text/html"),
	says("503 with Retry-After", 503, poison, "Retry-After", "1"),
	says("429", 429, poison, "Retry-After", "1"),
	says("404", 404, poison),
	says("HTML with 200", 200, "<!doctype html><p>"+poison, "Content-Type", "text/html"),
	says("HTML that says it is JSON", 200, "<!doctype html><p>"+poison, "Content-Type", "application/json", "ETag", `"poison"`),
	says("204", 204, ""),
	says("206", 206, poison, "Content-Range", "bytes 0-35/100"),
	says("empty", 200, ""),
	says("white space", 200, " \r\n\t "),
	says("half a text", 200, poison[:len(poison)-1]),
	says("two texts", 200, poison+poison),
	says("not UTF-8", 200, `{"step":"`+"\xff\xfe"+`"}`),
	says("comments in JSON", 200, "/* a */ "+poison),
	says("too large", 200, `{"step":1,"x":"`+strings.Repeat("x", 1100<<10)+`"}`),
	says("too deep", 200, strings.Repeat("[", 30<<10)+strings.Repeat("]", 30<<10)),
	says("a coding that was not asked for", 200, poison, "Content-Encoding", "br"),
	says("gzip that is none", 200, poison, "Content-Encoding", "gzip"),
	says("gzip cut off", 200, string(gzipped([]byte(poison))[:40]), "Content-Encoding", "gzip"),
	says("gzip with more behind it", 200, string(gzipped([]byte(poison)))+"rest", "Content-Encoding", "gzip"),
	{name: "a redirect to itself", serve: func(_ *upstream, w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, r.URL.RequestURI(), http.StatusFound)
	}},
	says("a redirect to nowhere", 302, poison),
	says("a redirect to another scheme", 302, poison, "Location", "ftp://127.0.0.1/doc"),
	{name: "a redirect to another host", serve: func(u *upstream, w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://"+u.elsewhere+"/doc", http.StatusTemporaryRedirect)
	}},
	{name: "gzip bomb", serve: func(_ *upstream, w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Encoding", "gzip")
		_, _ = w.Write(bomb())
	}},
	{name: "304 that was not asked for", serve: func(_ *upstream, w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("If-None-Match") != "" {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		w.WriteHeader(http.StatusNotModified)
	}},
	{name: "endless chunks", serve: func(_ *upstream, w http.ResponseWriter, _ *http.Request) {
		for range 1000 {
			if _, err := io.WriteString(w, strings.Repeat(" ", 8<<10)); err != nil {
				return
			}
			_ = http.NewResponseController(w).Flush()
		}
	}},
	stalls("no answer", ""),
	stalls("half an answer", poison[:20]),
	stalls("an answer without an end", poison),
	breaks("closed without an answer", "", false),
	breaks("reset", "", true),
	breaks("not HTTP", "220 mail.example ESMTP\r\n", false),
	breaks("half a header", "HTTP/1.1 200 OK\r\nContent-Ty", true),
	breaks("endless header", "HTTP/1.1 200 OK\r\nX: "+strings.Repeat("x", 2<<20)+"\r\n\r\n", false),
	breaks("less than Content-Length", okHeader+"Content-Length: "+strconv.Itoa(len(poison)+1)+"\r\n\r\n"+poison, false),
	breaks("a chunk cut off", okHeader+"Transfer-Encoding: chunked\r\n\r\n100\r\n"+poison, false),
	breaks("no last chunk", okHeader+"Transfer-Encoding: chunked\r\n\r\n"+fmt.Sprintf("%x\r\n%s\r\n", len(poison), poison), true),
	breaks("two Content-Lengths", okHeader+"Content-Length: 2\r\nContent-Length: 36\r\n\r\n"+poison, false),
	{name: "401", private: true, serve: says("", 401, poison, "WWW-Authenticate", "Basic").serve},
	{name: "403", private: true, serve: says("", 403, poison).serve},
}
