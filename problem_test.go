package pollsse

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// problemOf reads a problem document, RFC 9457.
func problemOf(t *testing.T, w *httptest.ResponseRecorder) (p struct {
	Title, Detail, Reason string
	Status                int
}) {
	t.Helper()
	h := w.Header()
	if h.Get("Content-Type") != "application/problem+json" || h.Get("Cache-Control") != "no-store" || h.Get("X-Content-Type-Options") != "nosniff" || h.Get("Content-Length") != strconv.Itoa(w.Body.Len()) {
		t.Errorf("%d with the header %v", w.Code, h)
	}
	if err := json.Unmarshal(w.Body.Bytes(), &p); err != nil || p.Status != w.Code || p.Title != http.StatusText(w.Code) || p.Detail == "" || p.Reason == "" {
		t.Errorf("%d with the body %q: %v", w.Code, w.Body, err)
	}
	return p
}

// TestProblems: each error of the handler itself says its reason and what to
// do, and no secret. One that may pass says when to come back.
func TestProblems(t *testing.T) {
	const secret = "hunter2"
	for name, test := range map[string]struct {
		h              Handler
		target         string
		fields         []string
		up             func(*http.Request) (*http.Response, error)
		code           int
		reason, detail string
	}{
		"no query":   {h: Handler{Upstream: "http://h/x?key=" + secret + "&s={http.request.uri.query.s}"}, code: 400, reason: "missing_value", detail: `the query parameter "s"`},
		"no header":  {h: Handler{Upstream: "http://h/{http.request.header.X-User}"}, code: 400, reason: "missing_value", detail: `the header field "X-User"`},
		"no cookie":  {h: Handler{Upstream: "http://h/{http.request.cookie.session}"}, code: 400, reason: "missing_value", detail: `the cookie "session"`},
		"no segment": {h: Handler{Upstream: "http://h/{http.request.uri.path.3}"}, code: 400, reason: "missing_value", detail: "segment 3 of the path"},
		"no user":    {h: Handler{Upstream: "http://h/{http.auth.user.id}"}, code: 400, reason: "missing_value", detail: "{http.auth.user.id}"},
		"dots":       {h: Handler{Upstream: "http://h/{http.request.uri.query.s}"}, target: "/?s=..", code: 400, reason: "invalid_value", detail: `the query parameter "s" must not be a dot segment`},
		"too long":   {h: Handler{Request: Request{Forward: []string{"X-Big"}}}, fields: []string{"X-Big", strings.Repeat(secret, 5000)}, code: 400, reason: "invalid_value", detail: "larger than 16 KiB"},
		"down":       {h: Handler{}, up: answers(500, secret), code: 502, reason: "status", detail: "upstream"},
		"not JSON":   {h: Handler{}, up: answers(200, "<html>"+secret), code: 502, reason: "not_json", detail: "not JSON"},
		"hangs": {h: Handler{Schedule: Schedule{Timeout: 2 * second}}, up: func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, errors.New(secret)
		}, code: 504, reason: "timeout", detail: "in time"},
		"full": {h: Handler{Limits: Limits{MaxSubscribers: -1}}, code: 503, reason: "too_many_streams", detail: "max_subscribers"},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				h := test.h
				h.MaxSubscribers = 0
				r := newRig(t, &h)
				if test.h.MaxSubscribers < 0 {
					h.MaxSubscribers = -1 // full
				}
				if test.up != nil {
					r.up.answer(test.up)
				}
				target := test.target
				if target == "" {
					target = "/"
				}
				w := httptest.NewRecorder()
				if err := r.ServeHTTP(w, request(context.Background(), "GET", target, test.fields...), noNext); err != nil {
					t.Fatalf("returned %v", err)
				}
				p := problemOf(t, w)
				if w.Code != test.code || p.Reason != test.reason || !strings.Contains(p.Detail, test.detail) {
					t.Errorf("%d %+v, want %d, %s and a detail with %q", w.Code, p, test.code, test.reason, test.detail)
				}
				if strings.Contains(w.Body.String(), secret) {
					t.Errorf("the answer holds the secret: %s", w.Body)
				}
				if n, err := strconv.Atoi(w.Header().Get("Retry-After")); (test.code == 400) != (err != nil) || test.code != 400 && (n < 1 || n > 60) {
					t.Errorf("%d with Retry-After %q", test.code, w.Header().Get("Retry-After"))
				}
				head := r.do("HEAD", target, test.fields...)
				if head.Body.Len() > 0 || head.Header().Get("Content-Type") != "application/problem+json" {
					t.Errorf("HEAD: %d %v with %d bytes", head.Code, head.Header(), head.Body.Len())
				}
			})
		})
	}
}

// TestProblemsForErrorRoutes: if the server has error routes, they get the error
// with the fields that belong to it.
func TestProblemsForErrorRoutes(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		r := newRig(t, &Handler{})
		r.errorRoutes = true
		r.up.answer(answers(500, ""))
		w := httptest.NewRecorder()
		err := r.ServeHTTP(w, request(context.Background(), "GET", "/"), noNext)
		var he caddyhttp.HandlerError
		if !errors.As(err, &he) || he.StatusCode != 502 || !strings.Contains(he.Err.Error(), "status") || w.Body.Len() > 0 || w.Header().Get("Content-Type") != "" {
			t.Errorf("error %v, %v %q; want a 502 without a body", err, w.Header(), w.Body)
		}
		if w.Header().Get("Retry-After") == "" || w.Header().Get("Cache-Control") != "no-store" {
			t.Errorf("header %v, want Retry-After and no-store", w.Header())
		}
	})
}

// TestErrorRoutesOfTheServer: handle_errors gets the errors that the handler
// would otherwise answer itself.
func TestErrorRoutesOfTheServer(t *testing.T) {
	for name, test := range map[string]struct{ routes, want string }{
		"with":    {"handle_errors {\nrespond \"own page {err.status_code} {err.message}\"\n}", "own page 400 missing_value: "},
		"without": {"", `{"title":"Bad Request","status":400,"reason":"missing_value"`},
	} {
		url, _ := serve(t, "poll_sse /api http://127.0.0.1:1/{query.s}\n"+test.routes)
		resp, body := fetch(t, url+"/api")
		if resp.StatusCode != 400 || !strings.HasPrefix(body, test.want) {
			t.Errorf("%s error routes: %d %q, want %q", name, resp.StatusCode, body, test.want)
		}
		_ = caddy.Stop()
	}
}

// TestOneLineForEachCause: however many requests fail alike, the log has one
// line that says why.
func TestOneLineForEachCause(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		r := newRig(t, &Handler{Upstream: "http://h/{http.request.uri.query.a}/{http.request.header.B}", Schedule: Schedule{Interval: second}})
		core, logs := observer.New(zapcore.InfoLevel)
		r.logger = zap.New(core)
		r.claim.environment.logger = r.logger
		r.up.answer(answers(500, ""))
		for range 20 {
			r.do("GET", "/")
			r.do("GET", "/?a=1")
			r.do("GET", "/?a=..", "B", "b")
			r.do("GET", "/?a=1", "B", "b")
			r.MaxSubscribers = -1
			r.do("GET", "/?a=1", "B", "b")
			r.MaxSubscribers = 100
			time.Sleep(time.Second)
			synctest.Wait()
		}
		var lines []string
		for _, e := range logs.All() {
			lines = append(lines, e.Message)
		}
		if len(lines) != 5 {
			t.Errorf("%d lines for 5 causes: %q", len(lines), lines)
		}
		time.Sleep(2 * time.Hour)
		r.do("GET", "/")
		if n := logs.FilterMessageSnippet("requests").Len(); n != 5 {
			t.Errorf("%d lines about requests two hours later, want 5", n)
		}
	})
}

// TestDeadUpstreamInTheLog: a page that goes on asking for a document that is
// not there makes and drops a source each time. The log has one line a minute
// for that, not one for each source, and one line whenever a source goes down
// that was up.
func TestDeadUpstreamInTheLog(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		r := newRig(t, &Handler{Schedule: Schedule{Interval: second, MaxInterval: second}})
		core, logs := observer.New(zapcore.InfoLevel)
		r.claim.environment.logger = zap.New(core)
		r.up.answer(answers(500, ""))
		for range 30 { // in five minutes
			r.get()
			time.Sleep(10 * time.Second)
		}
		if polls, n := r.up.count(), logs.FilterMessage("upstream does not give a document").Len(); polls < 30 || n > 5 {
			t.Errorf("%d lines for %d failed polls of 30 sources, want one a minute", n, polls)
		}
		logs.TakeAll()
		r.stream()
		for range 3 {
			r.up.set(`{}`)
			time.Sleep(5 * time.Second)
			r.up.answer(answers(500, ""))
			time.Sleep(5 * time.Second)
		}
		synctest.Wait()
		var lines []string
		for _, e := range logs.TakeAll() {
			lines = append(lines, e.Message)
		}
		if down, back := strings.Count(strings.Join(lines, "\n"), "does not give"), strings.Count(strings.Join(lines, "\n"), "is back"); down < 3 || back < 2 {
			t.Errorf("a source that was up goes down 3 times, and the log has %q", lines)
		}
	})
}
