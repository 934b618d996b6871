package pollsse

import (
	"cmp"
	"context"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/pollsse/caddy-poll-sse/internal/upstream"
)

// rig is a provisioned handler over a fake upstream, in a synctest bubble.
type rig struct {
	*Handler
	t   *testing.T
	up  *fakeUpstream
	old chan struct{} // closed: the configuration is replaced
}

// newRig provisions h as Caddy would and then puts the fake upstream in the
// place of the transport. Everything stops when the test ends.
func newRig(t *testing.T, h *Handler) *rig {
	t.Helper()
	h.Upstream = cmp.Or(h.Upstream, "http://upstream.test/doc.json")
	h.engine = testEngine(t)
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	t.Cleanup(cancel)
	if err := h.Provision(ctx); err != nil {
		t.Fatalf("Provision: %v", err)
	}
	if err := h.Validate(); err != nil {
		t.Fatalf("Validate: %v", err)
	}
	r := &rig{Handler: h, t: t, up: &fakeUpstream{body: `{"n":1}`}, old: h.drains.reload}
	h.logger = zap.NewNop()
	h.claim.environment = environment{r.up, h.logger, h.claim.generation.number}
	return r
}

// engines holds the engine of each running test.
var engines sync.Map

// testEngine returns the engine of a test, which stands for the process. What it
// still holds ends with the test.
func testEngine(t *testing.T) *engine {
	if e, ok := engines.Load(t); ok {
		return e.(*engine)
	}
	e := newEngine()
	engines.Store(t, e)
	t.Cleanup(func() {
		engines.Delete(t)
		e.delivery.Wait()
		e.pool.closeAll()
	})
	return e
}

// bubble runs a test in a synctest bubble. Any goroutine that still runs when f
// returns has to end by itself after exit, or the test fails.
func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, f)
}

// request makes a request as Caddy would hand it on; fields are name and
// value in turn. The field "client" sets the client's address, and "peer" that
// of a proxy which stands between.
func request(ctx context.Context, method, target string, fields ...string) *http.Request {
	r := httptest.NewRequest(method, target, nil).WithContext(ctx)
	client, peer := "192.0.2.1", ""
	for i := 0; i+1 < len(fields); i += 2 {
		switch fields[i] {
		case "client":
			client = fields[i+1]
			continue
		case "peer":
			peer = fields[i+1]
			continue
		}
		r.Header.Add(fields[i], fields[i+1])
	}
	r.RemoteAddr = net.JoinHostPort(cmp.Or(peer, client), "1234")
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

// expanded makes a handler without placeholders part of a configuration, and
// returns its request.
func expanded(t *testing.T, g *generation, h *Handler) *upstream.Request {
	t.Helper()
	h.setDefaults()
	h.prepare(caddy.NewReplacer(), g)
	if err := h.Validate(); err != nil {
		t.Fatal(err)
	}
	req, err := h.request.Expand(func(string) (string, bool) { return "", false }, &http.Request{Header: http.Header{}})
	if err != nil {
		t.Fatal(err)
	}
	return req
}

// startSource starts a source for the handler's configuration, without
// placeholders, against u. It is closed at the end of the test's bubble.
func startSource(t *testing.T, h *Handler, u *fakeUpstream) (s *source, logs *observer.ObservedLogs) {
	t.Helper()
	return startSourceOf(t, testEngine(t).newGeneration(), h, u)
}

// startSourceOf starts a source of a configuration.
func startSourceOf(t *testing.T, g *generation, h *Handler, u *fakeUpstream) (s *source, logs *observer.ObservedLogs) {
	t.Helper()
	if h.Upstream == "" {
		h.Upstream = "http://" + strings.ToLower(strings.ReplaceAll(t.Name(), "/", "-")) + ".test/doc"
	}
	req := expanded(t, g, h)
	core, logs := observer.New(zapcore.InfoLevel)
	u.mu.Lock()
	if u.begun.IsZero() {
		u.begun = time.Now()
	}
	u.mu.Unlock()
	h.claim.environment = environment{u, zap.New(core), h.claim.generation.number}
	s = newSource(req, h.Reading, h.claim, newCounters(newMetrics(), "test"))
	s.start(testEngine(t).pool)
	t.Cleanup(s.close)
	return s, logs
}

// wait lets fake time pass.
func wait(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}
