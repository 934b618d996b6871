package pollsse

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func TestInspector(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, &Handler{Upstream: "http://h/x?key=s3cret", Name: "quotes", Streaming: Streaming{Events: map[string]string{"snapshot": "whole"}}})
		own := newRig(t, &Handler{Upstream: "http://h/own", Name: "own", Request: Request{Forward: []string{"Authorization"}}})
		app := &App{limits: make(map[string]limits), events: make(map[string]map[string]string)}
		app.take(r.Handler)
		i := &Inspector{Streams: []InspectedStream{{"quotes", "/api/quotes"}, {"own", "/api/own"}, {"idle", "/api/idle"}}, engine: testEngine(t), app: app}
		if err := i.Validate(); err != nil {
			t.Fatal(err)
		}
		do := func(method, target, body string, fields ...string) *httptest.ResponseRecorder {
			t.Helper()
			req := request(t.Context(), method, target, fields...)
			if body != "" {
				req = httptest.NewRequest(method, target, strings.NewReader(body))
				req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
				for k := 0; k+1 < len(fields); k += 2 {
					req.Header.Set(fields[k], fields[k+1])
				}
			}
			w := httptest.NewRecorder()
			if err := i.ServeHTTP(w, req, noNext); err != nil {
				var e caddyhttp.HandlerError
				if !errors.As(err, &e) {
					t.Fatal(err)
				}
				w.WriteHeader(e.StatusCode)
			}
			return w
		}
		c := r.stream()
		c.next()
		d := own.stream("Authorization", "Bearer alice")
		d.next()
		time.Sleep(58 * time.Second)

		for target, want := range map[string]string{
			"/inspect/": "text/html; charset=utf-8", "/inspect/inspector.js": "text/javascript; charset=utf-8", "/inspect/inspector.css": "text/css; charset=utf-8",
			"/inspect/client.js": "text/javascript; charset=utf-8", "/inspect/numbers.js": "text/javascript; charset=utf-8",
		} {
			if w := do("GET", target, ""); w.Code != 200 || w.Header().Get("Content-Type") != want || w.Header().Get("X-Content-Type-Options") != "nosniff" || w.Body.Len() < 100 {
				t.Errorf("%s: %d %v", target, w.Code, w.Header())
			}
		}
		if w := do("GET", "/inspect/", ""); !strings.Contains(w.Header().Get("Content-Security-Policy"), "default-src 'none'") {
			t.Errorf("the page's policy: %v", w.Header())
		}
		if w := do("GET", "/inspect", ""); w.Code != 308 || w.Header().Get("Location") != "./inspect/" {
			t.Errorf("without a slash: %d %v", w.Code, w.Header())
		}
		w := do("GET", "/inspect/names.json", "")
		if got, want := strings.TrimSpace(w.Body.String()), `{"names":[{"name":"quotes","url":"/api/quotes","interval_ms":5000,"poll_now":false,"events":{"snapshot":"whole"}},`+
			`{"name":"own","url":"/api/own","interval_ms":5000,"poll_now":false},{"name":"idle","url":"/api/idle","interval_ms":5000,"poll_now":false}]}`; got != want {
			t.Errorf("names: %s\nwant   %s", got, want)
		}
		var of inspected
		w = do("GET", "/inspect/upstream.json?name=quotes", "")
		if err := json.Unmarshal(w.Body.Bytes(), &of); err != nil || of.State != "live" || of.Readers != 1 || len(of.Polls) < 10 || of.Interval != 5000 || of.Latency == nil || of.Polls[0].Outcome != outcomeChanged {
			t.Errorf("%v: %s", err, w.Body)
		}
		if strings.Contains(w.Body.String(), "s3cret") {
			t.Errorf("a secret: %s", w.Body)
		}
		// Nobody else may look at what is for one client alone.
		w = do("GET", "/inspect/upstream.json?name=own", "")
		if got := strings.TrimSpace(w.Body.String()); got != `{"readers":1,"polls":[]}` {
			t.Errorf("of a private document: %s", got)
		}

		// Polling on request is off by default, and otherwise for the page
		// alone.
		polls := r.up.count()
		same := []string{"Sec-Fetch-Site", "same-origin", "Origin", "http://example.com"}
		if w := do("POST", "/inspect/poll", "name=quotes", same...); w.Code != 404 {
			t.Errorf("poll where it is not configured: %d", w.Code)
		}
		i.PollNow = true
		for name, c := range map[string]struct {
			method, body string
			fields       []string
			want         int
		}{
			"GET":               {"GET", "", same, 405},
			"another site":      {"POST", "name=quotes", []string{"Sec-Fetch-Site", "cross-site", "Origin", "http://evil.example"}, 403},
			"a site beside it":  {"POST", "name=quotes", []string{"Sec-Fetch-Site", "same-site", "Origin", "http://other.example.com"}, 403},
			"an old browser":    {"POST", "name=quotes", []string{"Origin", "http://evil.example"}, 403},
			"no browser":        {"POST", "name=quotes", nil, 403},
			"a name not listed": {"POST", "name=other", same, 404},
		} {
			if w := do(c.method, "/inspect/poll", c.body, c.fields...); w.Code != c.want {
				t.Errorf("%s: %d, want %d", name, w.Code, c.want)
			}
		}
		if n := r.up.count(); n != polls {
			t.Errorf("%d polls by what was refused", n-polls)
		}
		if w := do("POST", "/inspect/poll", "name=quotes", same...); w.Code != 204 {
			t.Errorf("poll: %d", w.Code)
		}
		time.Sleep(time.Second)
		if n := r.up.count(); n != polls+1 {
			t.Errorf("%d polls by one POST", n-polls)
		}
		for target, want := range map[string]int{"/inspect/upstream.json?name=other": 404, "/inspect/secret.json": 404, "/inspect/dist.js": 404} {
			if w := do("GET", target, ""); w.Code != want {
				t.Errorf("%s: %d, want %d", target, w.Code, want)
			}
		}
		if w := do("PUT", "/inspect/", ""); w.Code != http.StatusMethodNotAllowed {
			t.Errorf("PUT: %d", w.Code)
		}
	})
}

func TestInspectorCaddyfile(t *testing.T) {
	for text, want := range map[string]string{
		"poll_sse_inspector {\n\tstream quotes /api/quotes\n\tpoll_now\n}": "",
		"poll_sse_inspector":                                       "need 1 to 100 streams",
		"poll_sse_inspector {\n\tstream quotes\n}":                 "need the name of a poll_sse and the path",
		"poll_sse_inspector {\n\tstream quotes https://other/x\n}": "a path of this site",
		"poll_sse_inspector {\n\tstream quotes //other/x\n}":       "a path of this site",
		"poll_sse_inspector {\n\tstream a /a\n\tstream a /b\n}":    "given twice",
		"poll_sse_inspector {\n\tstream a /a\n\tpol_now\n}":        "did you mean poll_now?",
		"poll_sse_inspector {\n\tstream a /a\n\tpoll_now yes\n}":   "poll_now takes no value",
	} {
		err := new(Inspector).UnmarshalCaddyfile(caddyfile.NewTestDispenser(text))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
