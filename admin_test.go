package pollsse

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"

	"github.com/pollsse/caddy-poll-sse/internal/upstream"
)

// admin makes a request to the admin API and reads its answer into out.
func admin(t *testing.T, method, target string, out any) *httptest.ResponseRecorder {
	t.Helper()
	w := httptest.NewRecorder()
	r := httptest.NewRequest(method, target, nil)
	for _, route := range (adminAPI{testEngine(t)}).Routes() {
		if r.URL.Path != route.Pattern && !(strings.HasSuffix(route.Pattern, "/") && strings.HasPrefix(r.URL.Path, route.Pattern)) {
			continue
		}
		if err := route.Handler.ServeHTTP(w, r); err != nil {
			var api caddy.APIError
			if !errors.As(err, &api) {
				t.Fatal(err)
			}
			w.WriteHeader(api.HTTPStatus)
			return w
		}
		if out != nil {
			if err := json.Unmarshal(w.Body.Bytes(), out); err != nil {
				t.Fatalf("%s %s: %v: %s", method, target, err, w.Body)
			}
		}
		return w
	}
	t.Fatalf("no route for %s", target)
	return nil
}

// listed describes every source of a pool.
func listed(p *pool) []sourceStatus { return p.describe(p.all("")) }

func TestAdminSources(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, &Handler{Upstream: "http://h/x?api_key=s3cret&u={http.request.uri.query.u}", Name: "quotes"})
		r.up.set(`{"n":0,"filler":"` + strings.Repeat("x", 300) + `"}`)
		c := r.open("/api?u=alice")
		c.next()
		other := newRig(t, &Handler{Upstream: "http://h/other", Name: "other"})
		d := other.stream()
		d.next()

		var rows []sourceStatus
		admin(t, "GET", "/poll_sse/sources", &rows)
		if len(rows) != 2 {
			t.Fatalf("%d sources, want 2", len(rows))
		}
		admin(t, "GET", "/poll_sse/sources?name=quotes&state=live", &rows)
		if len(rows) != 1 || rows[0].Streams != 1 || rows[0].Bytes < 300 || rows[0].LastPoll == nil || rows[0].LastPoll.Outcome != outcomeChanged || rows[0].NextPoll == nil || rows[0].Interval != 5 {
			t.Fatalf("%+v", rows)
		}
		admin(t, "GET", "/poll_sse/sources?state=stale", &rows)
		if len(rows) != 0 {
			t.Errorf("stale: %+v", rows)
		}
		admin(t, "GET", "/poll_sse/sources?name=quotes", &rows)
		id := rows[0].ID

		r.up.set(`{"n":1,"filler":"` + strings.Repeat("x", 300) + `"}`)
		if w := admin(t, "POST", "/poll_sse/sources/"+id+"/poll", nil); w.Code != http.StatusAccepted {
			t.Errorf("poll: %d", w.Code)
		}
		c.expect(`patch [{"op":"replace","path":"/n","value":1}]`)
		time.Sleep(58 * time.Second)
		var one sourceDetail
		w := admin(t, "GET", "/poll_sse/sources/"+id, &one)
		if len(one.Polls) != 13 || one.ChangesHour != 2 || one.History.Changes != 1 || one.Saved.Requests < 10 || one.Saved.Bytes < 300 || one.Options.Timeout != 10 || !one.Options.Honor || one.ID != id {
			t.Errorf("%d polls, %+v", len(one.Polls), one)
		}
		if text := w.Body.String(); strings.Contains(text, "s3cret") || strings.Contains(text, "alice") || strings.Contains(text, "filler") {
			t.Errorf("a secret, an expanded URL or the document shows: %s", text)
		}

		// While it is paused it asks nothing, and readers know.
		c.next()
		polls := r.up.count()
		if w := admin(t, "POST", "/poll_sse/sources/"+id+"/pause", nil); w.Code != http.StatusNoContent {
			t.Errorf("pause: %d", w.Code)
		}
		c.expect(`status {"state":"stale","since":"…","validated":"…","reason":"paused"}`)
		if w := admin(t, "POST", "/poll_sse/sources/"+id+"/poll", nil); w.Code != http.StatusConflict {
			t.Errorf("poll while paused: %d", w.Code)
		}
		time.Sleep(10 * time.Minute)
		if n := r.up.count(); n != polls {
			t.Errorf("%d polls while paused", n-polls)
		}
		if w := r.do("GET", "/api?u=alice"); w.Code != 200 || !strings.Contains(w.Header().Get("Cache-Status"), "detail=paused") {
			t.Errorf("a GET while paused: %d %v", w.Code, w.Header())
		}
		admin(t, "POST", "/poll_sse/sources/"+id+"/resume", nil)
		c.expect(`status {"state":"live","since":"…"}`)
		if n := r.up.count(); n != polls+1 {
			t.Errorf("%d polls at once after it was resumed, want 1", n-polls)
		}

		// The operator cannot ask for what the upstream forbids.
		r.up.answer(func(*http.Request) (*http.Response, error) { return reply(429, "", "Retry-After", "300"), nil })
		time.Sleep(10 * time.Second)
		w = admin(t, "POST", "/poll_sse/sources/"+id+"/poll", nil)
		if w.Code != http.StatusTooManyRequests || w.Header().Get("Retry-After") == "" {
			t.Errorf("poll after 429: %d %v", w.Code, w.Header())
		}
		admin(t, "GET", "/poll_sse/sources/"+id, &one)
		if one.DelayedBy != "retry_after" || one.Failures != 1 || one.LastPoll.Status != 429 {
			t.Errorf("%+v", one)
		}

		for target, want := range map[string]int{
			"GET /poll_sse/sources/nobody": 404, "POST /poll_sse/sources/nobody/poll": 404, "POST /poll_sse/sources/" + id + "/delete": 404,
			"GET /poll_sse/sources/" + id + "/poll": 405, "POST /poll_sse/sources": 405, "POST /poll_sse/summary": 405, "POST /poll_sse/streams": 405,
			"GET /poll_sse/sources?limit=0": 400, "GET /poll_sse/sources?limit=1001": 400, "GET /poll_sse/sources?limit=x": 400, "GET /poll_sse/sources?after=!": 400,
			"GET /poll_sse/streams?slowest=1001": 400, "POST /poll_sse/sources/" + id + "/document": 405,
		} {
			method, path, _ := strings.Cut(target, " ")
			if w := admin(t, method, path, nil); w.Code != want {
				t.Errorf("%s: %d, want %d", target, w.Code, want)
			}
		}
	})
}

// TestAdminPages: a list comes in pages, and what comes or goes between two of them
// moves nothing else.
func TestAdminPages(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, &Handler{Upstream: "http://h/x?u={http.request.uri.query.u}", Name: "many", Limits: Limits{MaxSources: 8000}})
		other := newRig(t, &Handler{Upstream: "http://h/other", Name: "other"})
		other.get()
		const documents = defaultRows + 40
		for i := range documents {
			r.do("GET", fmt.Sprintf("/api?u=%d", i))
		}
		read := func(target string) (rows []sourceStatus, next string) {
			t.Helper()
			w := admin(t, "GET", target, &rows)
			next = strings.TrimSuffix(strings.TrimPrefix(w.Header().Get("Link"), "<"), `>; rel="next"`)
			return rows, next
		}
		if rows, next := read("/poll_sse/sources"); len(rows) != defaultRows || next == "" || rows[0].Name != "many" {
			t.Errorf("%d rows by default, next %q", len(rows), next)
		}
		if rows, next := read("/poll_sse/sources?limit=1000"); len(rows) != documents+1 || next != "" || rows[documents].Name != "other" {
			t.Errorf("%d rows, next %q", len(rows), next)
		}
		seen := make(map[string]bool)
		for target := "/poll_sse/sources?name=many&state=live&limit=30"; target != ""; {
			rows, next := read(target)
			if len(rows) > 30 || next != "" && !strings.Contains(next, "state=live") {
				t.Fatalf("%d rows, next %q", len(rows), next)
			}
			for _, row := range rows {
				if row.Name != "many" || seen[row.ID] {
					t.Fatalf("%s is listed twice, or of another name", row.ID)
				}
				seen[row.ID] = true
			}
			if len(seen) == 60 { // the last of them goes before its successor is asked for
				p := testEngine(t).pool
				p.mu.Lock()
				p.remove(p.byID(rows[29].ID))
				p.mu.Unlock()
			}
			target = next
		}
		if len(seen) != documents {
			t.Errorf("%d documents in pages, want %d", len(seen), documents)
		}
		var all []sourceStatus
		if admin(t, "GET", "/poll_sse/sources?name=nobody", &all); len(all) != 0 {
			t.Errorf("%+v", all)
		}
	})
}

// TestResumeObeysRetryAfter: to pause and resume polls no sooner than the upstream
// wants, and then says why there is no document.
func TestResumeObeysRetryAfter(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		r := newRig(t, &Handler{Schedule: Schedule{Interval: second}})
		r.up.answer(answers(503, "", "Retry-After", "600"))
		c := r.stream()
		wait(time.Second)
		id := listed(testEngine(t).pool)[0].ID
		if w := admin(t, "POST", "/poll_sse/sources/"+id+"/poll", nil); w.Code != 429 {
			t.Errorf("poll: %d", w.Code)
		}
		for range 5 {
			admin(t, "POST", "/poll_sse/sources/"+id+"/pause", nil)
			wait(100 * time.Millisecond)
			if row := listed(testEngine(t).pool)[0]; row.Reason != reasonPaused {
				t.Errorf("the reason is %s while it is paused", row.Reason)
			}
			admin(t, "POST", "/poll_sse/sources/"+id+"/resume", nil)
			wait(100 * time.Millisecond)
			if row := listed(testEngine(t).pool)[0]; row.Reason != upstream.ReasonStatus {
				t.Errorf("the reason is %s after it was resumed", row.Reason)
			}
		}
		wait(590 * time.Second)
		if n := r.up.count(); n != 1 {
			t.Errorf("%d polls within Retry-After", n)
		}
		wait(20 * time.Second)
		if n := r.up.count(); n != 2 {
			t.Errorf("%d polls after Retry-After, want 2", n)
		}
		c.next()
	})
}

// TestAdminStreams: who is furthest behind, and no address unless it is configured.
func TestAdminStreams(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, &Handler{Upstream: "http://h/x", Name: "streams", Streaming: Streaming{Compress: "off"}})
		r.up.set(`{"n":0}`)
		c, d := r.stream(), r.stream()
		c.next()
		d.next()
		time.Sleep(time.Second)
		var rows []streamStatus
		w := admin(t, "GET", "/poll_sse/streams?name=streams&slowest=1", &rows)
		if len(rows) != 1 {
			t.Fatalf("%d rows", len(rows))
		}
		row := rows[0]
		if row.Name != "streams" || row.Source != listed(testEngine(t).pool)[0].ID || row.Delivery != deliveryHandler || row.Age < 1 || row.Events == 0 || row.Bytes == 0 || row.Missed != 0 || row.Waiting != 0 || row.Unacknowledged != nil {
			t.Errorf("%+v", row)
		}
		if strings.Contains(w.Body.String(), "client") {
			t.Errorf("an address shows: %s", w.Body)
		}
		if admin(t, "GET", "/poll_sse/streams?name=other", &rows); len(rows) != 0 {
			t.Errorf("of another name: %+v", rows)
		}
		testEngine(t).app.Store(&App{AdminAddresses: true})
		if admin(t, "GET", "/poll_sse/streams", &rows); len(rows) != 2 || rows[0].Client == "" || !strings.Contains(rows[0].Client, ":") {
			t.Errorf("%+v", rows)
		}
	})
}

// TestAdminDocument: no document shows unless it is configured, and none ever of
// which a client decides a part.
func TestAdminDocument(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const document = `{"n":0}`
		show := func(id string) *httptest.ResponseRecorder {
			return admin(t, "GET", "/poll_sse/sources/"+id+"/document", nil)
		}
		all := map[string]int{"plain": 200, "query": 403, "forward": 403, "header": 403, "credentials": 200, "failing": 404}
		for name := range all {
			h := &Handler{Upstream: "http://h/" + name, Name: name}
			switch name {
			case "query":
				h.Upstream += "?u={http.request.uri.query.u}"
			case "forward":
				h.Forward = []string{"cookie:session"}
			case "header":
				h.HeaderUp = &headers.HeaderOps{Set: http.Header{"X-User": {"{http.request.header.X-User}"}}}
			case "credentials":
				h.BasicAuth = &upstream.BasicAuth{Username: "server", Password: "s3cret"}
			}
			r := newRig(t, h)
			if name == "failing" {
				r.up.answer(func(*http.Request) (*http.Response, error) { return reply(500, ""), nil })
			} else {
				r.up.set(document)
			}
			r.open("/api?u=s3cret", "Cookie", "session=s3cret", "X-User", "s3cret").next()
		}
		rows := listed(testEngine(t).pool)
		if len(rows) != len(all) {
			t.Fatalf("%d sources: %+v", len(rows), rows)
		}
		check := func(configured bool) {
			t.Helper()
			for _, row := range rows {
				want := all[row.Name]
				if !configured {
					want = http.StatusForbidden
				}
				w := show(row.ID)
				if w.Code != want || (w.Body.String() == document) != (want == 200) || strings.Contains(w.Body.String(), "s3cret") {
					t.Errorf("configured %v: %s: %d %q, want %d", configured, row.Name, w.Code, w.Body, want)
				}
			}
		}
		check(false)
		testEngine(t).app.Store(&App{AdminAddresses: true})
		check(false)
		testEngine(t).app.Store(&App{AdminDocuments: true})
		check(true)
		if w := show("nobody"); w.Code != http.StatusNotFound {
			t.Errorf("of no source: %d", w.Code)
		}
	})
}

func TestAdminSummary(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, &Handler{Upstream: "http://h/x", Name: "summary"})
		testEngine(t).pool.announce(map[string]limits{"summary": {sources: 7, subscribers: 70, interval: time.Second}})
		req, err := r.request.Expand(func(string) (string, bool) { return "", false }, nil)
		if err != nil {
			t.Fatal(err)
		}
		ready := func() int {
			w := httptest.NewRecorder()
			if err := (Ready{testEngine(t)}).ServeHTTP(w, request(t.Context(), "GET", "/ready"), noNext); err != nil {
				t.Fatal(err)
			}
			return w.Code
		}
		if got := ready(); got != 200 {
			t.Errorf("with nothing that is always on: %d", got)
		}
		r.up.answer(func(*http.Request) (*http.Response, error) { return reply(500, ""), nil })
		held := testEngine(t).pool.hold(req.Key(r.readingKey), req.Key(nil), r.claim, func(total *counters) *source { return newSource(req, r.Reading, r.claim, total) })
		defer held.unsubscribe(0)
		time.Sleep(time.Second)
		var s processSummary
		admin(t, "GET", "/poll_sse/summary", &s)
		if got := ready(); got != 503 || s.Ready || len(s.NotReady) != 1 || s.NotReady[0] != "summary" {
			t.Errorf("without a document: %d %+v", got, s)
		}
		r.up.set(`{"n":1}`)
		time.Sleep(time.Minute)
		c := r.stream()
		c.next()
		admin(t, "GET", "/poll_sse/summary", &s)
		if got := ready(); got != 200 || !s.Ready || s.Streams != 1 || s.Sources["live"] != 1 || s.Memory.Documents != len(`{"n":1}`) || s.Memory.Heap == 0 || s.Descriptors.Limit == 0 {
			t.Errorf("%d %+v", got, s)
		}
		if len(s.Names) != 1 || s.Names[0].MaxSources != 7 || s.Names[0].MaxReaders != 70 || s.Names[0].Subscribers != 1 {
			t.Errorf("%+v", s.Names)
		}
	})
}

func TestReadyCaddyfile(t *testing.T) {
	for text, ok := range map[string]bool{"poll_sse_ready": true, "poll_sse_ready x": false, "poll_sse_ready {\n\tx\n}": false} {
		if err := new(Ready).UnmarshalCaddyfile(caddyfile.NewTestDispenser(text)); (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
}
