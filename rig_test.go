package pollsse

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
)

// upstream is a fake upstream: each request is answered by do, or with body
// and a strong ETag.
type upstream struct {
	mu       sync.Mutex
	body     string
	do       func(*http.Request) (*http.Response, error)
	requests []*http.Request
	times    []time.Time
	inFlight int
	most     int // requests that were in flight together
}

func (u *upstream) RoundTrip(r *http.Request) (*http.Response, error) {
	u.mu.Lock()
	u.requests = append(u.requests, r)
	u.times = append(u.times, time.Now())
	u.inFlight++
	u.most = max(u.most, u.inFlight)
	do, body := u.do, u.body
	u.mu.Unlock()
	defer func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.inFlight--
	}()
	if do != nil {
		return do(r)
	}
	return reply(200, body), nil
}

func (u *upstream) set(body string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.body, u.do = body, nil
}

func (u *upstream) answer(do func(*http.Request) (*http.Response, error)) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.do = do
}

func (u *upstream) count() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.requests)
}

// last is the last request that was made.
func (u *upstream) last() *http.Request {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.requests[len(u.requests)-1]
}

// reply makes a response; fields are name and value in turn.
func reply(status int, body string, fields ...string) *http.Response {
	h := make(http.Header)
	for i := 0; i+1 < len(fields); i += 2 {
		h.Add(fields[i], fields[i+1])
	}
	return &http.Response{
		StatusCode: status, Status: fmt.Sprintf("%d %s", status, http.StatusText(status)),
		Header: h, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
	}
}

// rig is a provisioned handler over a fake upstream, in a synctest bubble.
type rig struct {
	*Handler
	t    *testing.T
	up   *upstream
	exit chan struct{}
	old  chan struct{} // closed: the configuration is replaced
}

// newRig provisions h as Caddy would and then puts the fake upstream in the
// place of the transport. Everything stops when the test ends.
func newRig(t *testing.T, h *Handler) *rig {
	t.Helper()
	h.Upstream = cmp.Or(h.Upstream, "http://upstream.test/doc.json")
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	t.Cleanup(cancel)
	if err := h.Provision(ctx); err != nil {
		t.Fatalf("Provision: %v", err)
	}
	if err := h.Validate(); err != nil {
		t.Fatalf("Validate: %v", err)
	}
	r := &rig{Handler: h, t: t, up: &upstream{body: `{"n":1}`}, exit: make(chan struct{}), old: make(chan struct{})}
	h.logger = zap.NewNop()
	h.link = link{r.up, h.logger, generations.Add(1)}
	h.terms.drain = &drain{reload: r.old, exit: r.exit, spread: time.Duration(h.StreamCloseDelay)}
	hosts = newHostTable() // no other test's sources spread this one's
	t.Cleanup(func() {
		closeSources()
		sources.mu.Lock()
		defer sources.mu.Unlock()
		maps.DeleteFunc(sources.endpoints, func(_ string, e *endpoint) bool { return e.subscribers == 0 })
	})
	return r
}

// closeSources does what closeAll does. A bubble cannot wait for a WaitGroup
// that is a package variable, so it waits for each source.
func closeSources() {
	sources.mu.Lock()
	var all []*source
	for _, s := range sources.sources {
		all = append(all, s)
		sources.remove(s)
	}
	sources.mu.Unlock()
	for _, s := range all {
		<-s.done
	}
}

// bubble runs a test in a synctest bubble. Whatever still runs when f returns
// has to end by itself after exit, or the test fails.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

// request makes a request as Caddy would hand it on; fields are name and
// value in turn. The field "client" sets the client's address.
func request(ctx context.Context, method, target string, fields ...string) *http.Request {
	r := httptest.NewRequest(method, target, nil).WithContext(ctx)
	client := "192.0.2.1"
	for i := 0; i+1 < len(fields); i += 2 {
		if fields[i] == "client" {
			client = fields[i+1]
			continue
		}
		r.Header.Add(fields[i], fields[i+1])
	}
	r.RemoteAddr = net.JoinHostPort(client, "1234")
	r = caddyhttp.PrepareRequest(r, caddy.NewReplacer(), nil, nil)
	caddyhttp.SetVar(r.Context(), caddyhttp.ClientIPVarKey, client)
	return r
}

var noNext = caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
	w.WriteHeader(http.StatusTeapot)
	return nil
})

// do serves one request and returns what Caddy would make of it: an error
// becomes its status.
func (r *rig) do(method, target string, fields ...string) *httptest.ResponseRecorder {
	w := httptest.NewRecorder()
	err := r.ServeHTTP(w, request(context.Background(), method, target, fields...), noNext)
	if err != nil {
		if he, ok := err.(caddyhttp.HandlerError); ok {
			w.Code = he.StatusCode
		} else {
			r.t.Errorf("%s %s: not a handler error: %v", method, target, err)
		}
	}
	return w
}

// get is a GET of the document.
func (r *rig) get(fields ...string) *httptest.ResponseRecorder { return r.do("GET", "/api", fields...) }

// client is one open event stream.
type client struct {
	t      *testing.T
	w      *pipeWriter
	cancel context.CancelFunc
	done   chan struct{}
	err    error
	parser sseParser
}

// open starts a stream; fields as in request.
func (r *rig) open(target string, fields ...string) *client {
	r.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c := &client{t: r.t, w: newPipeWriter(), cancel: cancel, done: make(chan struct{})}
	req := request(ctx, "GET", target, append([]string{"Accept", "text/event-stream"}, fields...)...)
	go func() {
		defer close(c.done)
		c.err = r.ServeHTTP(c.w, req, noNext)
	}()
	r.t.Cleanup(func() { cancel(); <-c.done })
	return c
}

// stream opens a stream and waits until it is quiet.
func (r *rig) stream(fields ...string) *client {
	r.t.Helper()
	c := r.open("/api", fields...)
	synctest.Wait()
	return c
}

// close is the client going away.
func (c *client) close() {
	c.cancel()
	<-c.done
}

// ended tells whether the server has ended the stream.
func (c *client) ended() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// next waits until everything is quiet and returns the events since the last
// call.
func (c *client) next() []sseEvent {
	c.t.Helper()
	synctest.Wait()
	return c.parser.parse(c.t, c.w.take())
}

// expect checks the events since the last call against "name data" lines, in
// which … stands for anything.
func (c *client) expect(want ...string) {
	c.t.Helper()
	got := c.next()
	var lines []string
	for _, e := range got {
		// A first poll may end before its stream has looked for the first
		// time: whether it is told to wait is no part of the protocol.
		if line := e.name + " " + e.data; !like(line, `status {"state":"waiting","since":"…Z"}`) {
			lines = append(lines, line)
		}
	}
	if len(lines) != len(want) {
		c.t.Fatalf("got %d events %q, want %q", len(lines), lines, want)
	}
	for i := range want {
		if !like(lines[i], want[i]) {
			c.t.Fatalf("event %d is %q, want %q; all: %q", i, lines[i], want[i], lines)
		}
	}
}

// like matches got against a pattern in which … stands for anything.
func like(got, pattern string) bool {
	parts := strings.Split(pattern, "…")
	for i, part := range parts {
		switch {
		case i == 0 && !strings.HasPrefix(got, part):
			return false
		case i > 0 && i == len(parts)-1:
			return strings.HasSuffix(got, part)
		}
		at := strings.Index(got, part)
		if at < 0 {
			return false
		}
		got = got[at+len(part):]
	}
	return got == ""
}

// pipeWriter is a response writer in memory, which can stand still as a client
// does that reads nothing.
type pipeWriter struct {
	mu      sync.Mutex
	header  http.Header
	code    int
	buf     bytes.Buffer
	flushed int // bytes of buf that a client can see
	gate    chan struct{}
	cut     chan struct{} // closed by a deadline that has passed
	writes  int
}

func newPipeWriter() *pipeWriter {
	return &pipeWriter{header: make(http.Header), cut: make(chan struct{})}
}

func (w *pipeWriter) Header() http.Header { return w.header }

func (w *pipeWriter) WriteHeader(code int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.code == 0 {
		w.code = code
	}
}

func (w *pipeWriter) status() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.code
}

// block makes writes wait until unblock.
func (w *pipeWriter) block() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gate = make(chan struct{})
}

func (w *pipeWriter) unblock() {
	w.mu.Lock()
	defer w.mu.Unlock()
	close(w.gate)
	w.gate = nil
}

func (w *pipeWriter) Write(b []byte) (int, error) {
	w.mu.Lock()
	gate, cut := w.gate, w.cut
	w.mu.Unlock()
	if gate != nil {
		select {
		case <-gate:
		case <-cut:
			return 0, os.ErrDeadlineExceeded
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.code == 0 {
		w.code = 200
	}
	w.writes++
	return w.buf.Write(b)
}

func (w *pipeWriter) SetWriteDeadline(t time.Time) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	late := false
	select {
	case <-w.cut:
		late = true
	default:
	}
	switch {
	case t.IsZero() && late:
		w.cut = make(chan struct{})
	case t.IsZero() || late:
	case time.Until(t) > 0:
		panic("BUG: a deadline is set that has not passed")
	default:
		close(w.cut)
	}
	return nil
}

func (w *pipeWriter) FlushError() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.flushed = w.buf.Len()
	return nil
}

// take removes and returns what was flushed.
func (w *pipeWriter) take() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	b := bytes.Clone(w.buf.Next(w.flushed))
	w.flushed = 0
	return b
}

// sseEvent is a dispatched event.
type sseEvent struct{ name, data, id string }

// sseParser interprets an event stream as the HTML standard says, section
// 9.2.6.
type sseParser struct {
	rest                string
	name, data, id      string
	hasData             bool
	lastID              string
	retries             []int
	comments, malformed int
}

// parse takes a piece of the stream, which ends with a whole block.
func (p *sseParser) parse(t *testing.T, b []byte) []sseEvent {
	t.Helper()
	var events []sseEvent
	text := strings.ReplaceAll(p.rest+string(b), "\r\n", "\n")
	text = strings.ReplaceAll(text, "\r", "\n")
	for {
		line, rest, ok := strings.Cut(text, "\n")
		if !ok {
			p.rest = text
			return events
		}
		text = rest
		if line == "" {
			p.lastID = p.id
			if p.hasData {
				events = append(events, sseEvent{cmp.Or(p.name, "message"), strings.TrimSuffix(p.data, "\n"), p.lastID})
			}
			p.name, p.data, p.hasData = "", "", false
			continue
		}
		field, value, colon := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case colon && field == "":
			p.comments++
		case field == "event":
			p.name = value
		case field == "data":
			p.data += value + "\n"
			p.hasData = true
		case field == "id":
			if !strings.Contains(value, "\x00") {
				p.id = value
			}
		case field == "retry":
			if n, err := strconv.Atoi(value); err == nil && strings.Trim(value, "0123456789") == "" {
				p.retries = append(p.retries, n)
			}
		default:
			p.malformed++
			t.Errorf("the stream holds the line %q, which no parser knows", line)
		}
	}
}

// replica is what a page makes of the events: a document and its version.
type replica struct {
	t   *testing.T
	doc any
	id  string
	has bool
}

func (r *replica) apply(events ...sseEvent) {
	r.t.Helper()
	for _, e := range events {
		switch e.name {
		case kindSnapshot:
			r.doc, r.has = decodeJSON(r.t, e.data), true
		case kindPatch:
			if !r.has {
				r.t.Fatalf("patch %s without a document", e.data)
			}
			r.doc = applyPatch(r.t, r.doc, e.data)
		case kindMerge:
			if !r.has {
				r.t.Fatalf("merge patch %s without a document", e.data)
			}
			r.doc = applyMerge(r.doc, decodeJSON(r.t, e.data))
		case kindStatus:
			continue
		default:
			r.t.Fatalf("event of unknown name %q", e.name)
		}
		r.id = e.id
	}
}

func decodeJSON(t *testing.T, text string) any {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%q is not JSON: %v", text, err)
	}
	return v
}

// canonical writes v with sorted keys and numbers as they were.
func canonical(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// applyPatch applies an RFC 6902 patch, independently of jsondiff.
func applyPatch(t *testing.T, doc any, patch string) any {
	t.Helper()
	var ops []struct {
		Op, Path, From string
		Value          json.RawMessage
	}
	if err := json.Unmarshal([]byte(patch), &ops); err != nil {
		t.Fatalf("patch %q: %v", patch, err)
	}
	fail := func(format string, args ...any) {
		t.Helper()
		t.Fatalf("patch %q: %s", patch, fmt.Sprintf(format, args...))
	}
	tokens := func(pointer string) []string {
		if pointer == "" {
			return nil
		}
		if pointer[0] != '/' {
			fail("%q is no pointer", pointer)
		}
		parts := strings.Split(pointer[1:], "/")
		for i, p := range parts {
			parts[i] = strings.ReplaceAll(strings.ReplaceAll(p, "~1", "/"), "~0", "~")
		}
		return parts
	}
	index := func(token string, most int) int {
		n, err := strconv.Atoi(token)
		if err != nil || n < 0 || n > most || strconv.Itoa(n) != token {
			fail("index %q of %d", token, most)
		}
		return n
	}
	find := func(path []string) any {
		v := doc
		for _, token := range path {
			switch c := v.(type) {
			case map[string]any:
				m, ok := c[token]
				if !ok {
					fail("no member %q", token)
				}
				v = m
			case []any:
				v = c[index(token, len(c)-1)]
			default:
				fail("%q in a scalar", token)
			}
		}
		return v
	}
	var edit func(v any, path []string, f func(container any, token string) any) any
	edit = func(v any, path []string, f func(any, string) any) any {
		if len(path) == 1 {
			return f(v, path[0])
		}
		switch c := v.(type) {
		case map[string]any:
			if _, ok := c[path[0]]; !ok {
				fail("no member %q", path[0])
			}
			c[path[0]] = edit(c[path[0]], path[1:], f)
		case []any:
			i := index(path[0], len(c)-1)
			c[i] = edit(c[i], path[1:], f)
		default:
			fail("%q in a scalar", path[0])
		}
		return v
	}
	add := func(path []string, value any) {
		if len(path) == 0 {
			doc = value
			return
		}
		doc = edit(doc, path, func(c any, token string) any {
			switch c := c.(type) {
			case map[string]any:
				c[token] = value
				return c
			case []any:
				if token == "-" {
					return append(c, value)
				}
				return slices.Insert(c, index(token, len(c)), value)
			}
			fail("add %q to a scalar", token)
			return nil
		})
	}
	remove := func(path []string) {
		find(path)
		if len(path) == 0 {
			fail("remove the root")
		}
		doc = edit(doc, path, func(c any, token string) any {
			switch c := c.(type) {
			case map[string]any:
				delete(c, token)
				return c
			case []any:
				i := index(token, len(c)-1)
				return slices.Delete(c, i, i+1)
			}
			return c
		})
	}
	for _, op := range ops {
		path := tokens(op.Path)
		switch op.Op {
		case "add":
			add(path, decodeJSON(t, string(op.Value)))
		case "remove":
			remove(path)
		case "replace":
			find(path)
			if len(path) > 0 {
				remove(path)
			}
			add(path, decodeJSON(t, string(op.Value)))
		case "move":
			v := find(tokens(op.From))
			remove(tokens(op.From))
			add(path, v)
		case "copy":
			add(path, decodeJSON(t, canonical(find(tokens(op.From)))))
		case "test":
			if canonical(find(path)) != canonical(decodeJSON(t, string(op.Value))) {
				fail("test failed")
			}
		default:
			fail("operation %q", op.Op)
		}
	}
	return doc
}

// applyMerge applies an RFC 7396 merge patch.
func applyMerge(doc, patch any) any {
	members, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	target, ok := doc.(map[string]any)
	if !ok {
		target = make(map[string]any)
	}
	for name, v := range members {
		if v == nil {
			delete(target, name)
		} else {
			target[name] = applyMerge(target[name], v)
		}
	}
	return target
}
