package pollsse

import (
	"net/http"
	"testing"
	"testing/synctest"
	"time"
)

func TestAnswers(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		r := newRig(t, &Handler{Schedule: Schedule{Interval: 10 * second}})
		r.up.set(` {"a" : 1}`)
		got := r.get()
		if got.Code != 200 || got.Body.String() != `{"a":1}` {
			t.Fatalf("GET: %d %q", got.Code, got.Body)
		}
		tag := got.Header().Get("ETag")
		for name, want := range map[string]string{
			"Content-Type": "application/json", "Cache-Control": "no-cache", "Vary": "Accept, Prefer, Accept-Encoding",
			"X-Content-Type-Options": "nosniff", "Age": "0", "Content-Length": "7",
		} {
			if v := got.Header().Get(name); v != want {
				t.Errorf("%s: %q, want %q", name, v, want)
			}
		}
		time.Sleep(3500 * time.Millisecond)
		for _, test := range []struct {
			method, ifNoneMatch string
			code                int
			body                string
		}{
			{"GET", "", 200, `{"a":1}`},
			{"GET", tag, 304, ""},
			{"GET", "W/" + tag, 304, ""},
			{"GET", `"x", ` + tag, 304, ""},
			{"GET", "*", 304, ""},
			{"GET", `"x"`, 200, `{"a":1}`},
			{"GET", tag[1 : len(tag)-1], 200, `{"a":1}`},
			{"HEAD", "", 200, ""},
			{"HEAD", tag, 304, ""},
			{"HEAD", `"x"`, 200, ""},
		} {
			var fields []string
			if test.ifNoneMatch != "" {
				fields = []string{"If-None-Match", test.ifNoneMatch}
			}
			got := r.do(test.method, "/api", fields...)
			if got.Code != test.code || got.Body.String() != test.body || got.Header().Get("ETag") != tag || got.Header().Get("Age") != "3" {
				t.Errorf("%s If-None-Match %s: %d %q %v, want %d %q with ETag %s and Age 3", test.method, test.ifNoneMatch, got.Code, got.Body, got.Header(), test.code, test.body, tag)
			}
		}
		if n := r.up.count(); n != 1 {
			t.Errorf("%d polls, want 1 for every reader", n)
		}
	})
}

func TestColdAnswers(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		r := newRig(t, &Handler{Schedule: Schedule{Timeout: 5 * second}})
		gate := make(chan struct{})
		r.up.answer(func(q *http.Request) (*http.Response, error) {
			select {
			case <-gate:
			case <-q.Context().Done():
				return nil, q.Context().Err()
			}
			return reply(200, `{}`), nil
		})
		begun := time.Now()
		if got := r.do("HEAD", "/api"); got.Code != 504 || time.Since(begun) != 0 {
			t.Errorf("a cold HEAD: %d after %s, want 504 at once", got.Code, time.Since(begun))
		}
		if got := r.get(); got.Code != 504 || time.Since(begun) != 5*time.Second {
			t.Errorf("a cold GET: %d after %s, want 504 after 5s", got.Code, time.Since(begun))
		}
		done := make(chan int)
		time.Sleep(time.Minute) // forgotten by now
		go func() { done <- r.get().Code }()
		time.Sleep(4 * time.Second)
		close(gate)
		if code := <-done; code != 200 {
			t.Errorf("a GET that waits for the first poll: %d", code)
		}
	})
}

func TestLongPoll(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		r := newRig(t, &Handler{Schedule: Schedule{Interval: second}, Streaming: Streaming{MaxWait: 20 * second}, Limits: Limits{MaxSubscribers: 2}})
		r.up.set(doc(1))
		tag := r.get().Header().Get("ETag")
		type result struct {
			code    int
			tag     string
			applied string
			after   time.Duration
		}
		wait := func(prefer, ifNoneMatch string) chan result {
			begun, done := time.Now(), make(chan result, 1)
			go func() {
				got := r.get("Prefer", prefer, "If-None-Match", ifNoneMatch)
				done <- result{got.Code, got.Header().Get("ETag"), got.Header().Get("Preference-Applied"), time.Since(begun)}
			}()
			return done
		}
		if got := <-wait("wait=5", tag); got.code != 304 || got.after != 5*time.Second || got.applied != "wait=5" {
			t.Errorf("without a change: %+v, want 304 after 5s", got)
		}
		if got := <-wait("wait=3600", tag); got.code != 304 || got.after != 20*time.Second || got.applied != "wait=20" {
			t.Errorf("longer than max_wait: %+v, want 304 after 20s", got)
		}
		if got := <-wait("wait=5", `"old"`); got.code != 200 || got.after != 0 {
			t.Errorf("with an old version: %+v, want 200 at once", got)
		}
		if got := <-wait("respond-async", tag); got.code != 304 || got.after != 0 || got.applied != "" {
			t.Errorf("with another preference: %+v, want 304 at once", got)
		}
		changed := wait("wait=10", tag)
		time.Sleep(1500 * time.Millisecond)
		// A failure is no change.
		r.up.answer(answers(500, ""))
		time.Sleep(time.Second)
		synctest.Wait()
		if len(changed) != 0 {
			t.Fatalf("a failure answered the long poll: %+v", <-changed)
		}
		r.up.set(doc(2))
		if got := <-changed; got.code != 200 || got.tag == tag || got.after > 10*time.Second {
			t.Errorf("with a change: %+v, want 200 and a new version", got)
		}
		tag = r.get().Header().Get("ETag")
		a, b := wait("wait=10", tag), wait("wait=10", tag)
		synctest.Wait()
		if got := <-wait("wait=10", tag); got.code != 503 {
			t.Errorf("one more than max_subscribers: %+v, want 503", got)
		}
		<-a
		<-b
		audit(t)
	})
}
