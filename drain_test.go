package pollsse

import (
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
)

// TestDrainByOperator: open streams end evenly over the given time and resume
// at once, newcomers stay, and a balancer can see it.
func TestDrainByOperator(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, &Handler{Name: "drained"})
		other := newRig(t, &Handler{Upstream: "http://h/other", Name: "other"})
		stays := newRig(t, &Handler{Upstream: "http://h/stays", Name: "stays", Streaming: Streaming{StreamCloseDelay: -1}})
		app := &App{engine: testEngine(t), generation: testEngine(t).newGeneration(), logger: zap.NewNop(), all: []*Handler{r.Handler, other.Handler, stays.Handler}}
		if err := app.Start(); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = app.Stop() }()
		var all []*client
		for range 20 {
			all = append(all, r.stream())
		}
		beside, kept := other.stream(), stays.stream()
		ended := func() (n int) {
			for _, c := range all {
				if c.next(); c.ended() {
					n++
				}
			}
			return n
		}
		ready := func() int {
			w := httptest.NewRecorder()
			if err := (Ready{testEngine(t)}).ServeHTTP(w, request(t.Context(), "GET", "/ready"), noNext); err != nil {
				t.Fatal(err)
			}
			return w.Code
		}
		var out struct{ Handlers int }
		if w := admin(t, "POST", "/poll_sse/drain?name=drained&over=2m", &out); w.Code != 202 || out.Handlers != 1 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		late := r.stream()
		time.Sleep(time.Minute)
		if n := ended(); n < 4 || n > 16 {
			t.Errorf("%d of 20 streams have ended after half of the time", n)
		}
		time.Sleep(61 * time.Second)
		if n := ended(); n != 20 {
			t.Errorf("%d of 20 streams have ended after all of it", n)
		}
		if got := metricOf(t, "streams_ended_total", "name", "drained", "reason", "reload"); got != 20 {
			t.Errorf("%g streams ended as by a reload", got)
		}
		for what, c := range map[string]*client{"a newcomer": late, "another name": beside} {
			if c.next(); c.ended() {
				t.Errorf("%s was sent away, too", what)
			}
		}
		if got := ready(); got != 200 {
			t.Errorf("ready after one name was drained: %d", got)
		}

		// All of them, and once more those that came meanwhile.
		if w := admin(t, "POST", "/poll_sse/drain?over=10s", &out); w.Code != 202 || out.Handlers != 2 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		if got := ready(); got != 503 {
			t.Errorf("ready while it drains: %d", got)
		}
		time.Sleep(11 * time.Second)
		for what, c := range map[string]*client{"the newcomer": late, "the other name": beside} {
			if c.next(); !c.ended() {
				t.Errorf("%s stays", what)
			}
		}
		if kept.next(); kept.ended() {
			t.Error("a stream ended that stream_close_delay keeps")
		}
		admin(t, "DELETE", "/poll_sse/drain", nil)
		if got := ready(); got != 200 {
			t.Errorf("ready after it was taken back: %d", got)
		}

		// A reload ends those with the newest options.
		last := r.stream()
		close(r.drains.last())
		time.Sleep(6 * time.Minute)
		if last.next(); !last.ended() {
			t.Error("a stream that came after a drain outlives the reload")
		}
		if r.drain(time.Minute) {
			t.Error("drained after the reload")
		}
		for target, want := range map[string]int{"/poll_sse/drain?over=1ms": 400, "/poll_sse/drain?over=soon": 400, "/poll_sse/drain?name=nobody": 404} {
			if w := admin(t, "POST", target, nil); w.Code != want {
				t.Errorf("%s: %d, want %d", target, w.Code, want)
			}
		}
		if w := admin(t, "GET", "/poll_sse/drain", nil); w.Code != 405 {
			t.Errorf("GET: %d", w.Code)
		}
	})
}

// TestFailedConfigurationStaysDrained: a drained node that cannot start a new
// configuration stays drained.
func TestFailedConfigurationStaysDrained(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		e := testEngine(t)
		running := &App{engine: e, generation: e.newGeneration(), logger: zap.NewNop()}
		mustStart(t, running)
		admin(t, "POST", "/poll_sse/drain", nil)
		failed := &App{engine: e, generation: e.newGeneration(), logger: zap.NewNop()}
		mustStart(t, failed)
		mustStop(t, failed)
		if !e.drained.Load() {
			t.Error("it is ready after a configuration that could not start")
		}
		next := &App{engine: e, generation: e.newGeneration(), logger: zap.NewNop()}
		mustStart(t, next)
		mustStop(t, running)
		if e.drained.Load() {
			t.Error("it is drained after a new configuration has started")
		}
	})
}

// TestAnswersAfterADrain: only connections that were there are sent away. A
// client that comes later keeps its connection, until a configuration is
// loaded.
func TestAnswersAfterADrain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, &Handler{})
		stream := r.stream()
		waiting := make(chan *httptest.ResponseRecorder)
		go func() { waiting <- r.get("If-None-Match", r.get().Header().Get("ETag"), "Prefer", "wait=30") }()
		synctest.Wait()
		for _, drain := range []string{"first", "second"} {
			if !r.drain(time.Second) {
				t.Fatalf("the %s drain: not done", drain)
			}
			for _, method := range []string{"GET", "HEAD"} {
				if got := r.do(method, "/api").Header().Get("Connection"); got != "" {
					t.Errorf("%s after the %s drain: Connection: %s", method, drain, got)
				}
			}
		}
		if got := (<-waiting).Header().Get("Connection"); got != "close" {
			t.Errorf("Connection of a long poll that was drained: %q, want close", got)
		}
		if stream.next(); !stream.ended() {
			t.Error("the stream stays")
		}
		close(r.drains.last())
		if got := r.get().Header().Get("Connection"); got != "close" {
			t.Errorf("Connection after a reload: %q, want close", got)
		}
	})
}
