package pollsse

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"

	"github.com/pollsse/caddy-poll-sse/internal/feed"
	"github.com/pollsse/caddy-poll-sse/internal/judge"
	"github.com/pollsse/caddy-poll-sse/internal/upstream"
)

const second = caddy.Duration(time.Second)

// filler makes documents large enough that a patch is smaller.
var filler = strings.Repeat("0123456789", 30)

func doc(n int) string { return fmt.Sprintf(`{"n":%d,"filler":%q}`, n, filler) }

func patchTo(n int) string { return fmt.Sprintf(`patch [{"op":"replace","path":"/n","value":%d}]`, n) }

func TestStreamStart(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		r := newRig(t, &Handler{Streaming: Streaming{Retry: 10 * second}})
		gate := make(chan struct{})
		r.up.answer(func(*http.Request) (*http.Response, error) { <-gate; return reply(200, `{}`), nil })
		c := r.stream()
		first := string(c.w.take())
		if !strings.HasPrefix(first, "retry: ") || !strings.Contains(first, "\n: heartbeat 15\n\n") || !strings.Contains(first, "waiting") {
			t.Fatalf("flushed before the first poll has ended: %q, want retry, the heartbeat and waiting", first)
		}
		c.parser.parse(t, []byte(first))
		if n := c.parser.retries; len(n) != 1 || n[0] < 5_000 || n[0] > 15_000 {
			t.Errorf("retry %v, want one of 5000 to 15000", n)
		}
		for name, want := range map[string]string{
			"Content-Type": "text/event-stream", "Cache-Control": "no-store, no-transform",
			"X-Accel-Buffering": "no", "X-Content-Type-Options": "nosniff", "Vary": "Accept, Prefer, Accept-Encoding",
		} {
			if got := strings.Join(c.w.header.Values(name), ", "); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		close(gate)
		c.expect(`status {"state":"live"…`, `snapshot {}`)
		seen := map[int]bool{}
		for range 50 {
			d := r.stream()
			d.next()
			seen[d.parser.retries[0]] = true
			d.close()
		}
		if len(seen) < 25 {
			t.Errorf("%d different retries of 50: no jitter", len(seen))
		}
	})
}

func TestOpeningComments(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		for _, test := range []struct {
			heartbeat caddy.Duration
			private   bool
			want      string
		}{
			{0, false, "\n\n: heartbeat 15\n\n"},
			{600 * second, true, "\n\n: heartbeat 600\n: private\n\n"},
			{3 * second / 2, true, "\n\n: heartbeat 1.5\n: private\n\n"},
		} {
			h := &Handler{Streaming: Streaming{Heartbeat: test.heartbeat}}
			if test.private {
				h.Forward = []string{"Authorization"}
			}
			c := newRig(t, h).stream("Authorization", "mine")
			if got := string(c.w.take()); !strings.Contains(got, test.want) {
				t.Errorf("heartbeat %v, private %v: the stream begins with %q, want %q", test.heartbeat, test.private, got, test.want)
			}
			c.close()
		}
	})
}

func TestHeartbeat(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		r := newRig(t, &Handler{Schedule: Schedule{Interval: second}, Streaming: Streaming{Heartbeat: 15 * second}})
		r.up.set(doc(1))
		c := r.stream()
		c.next()
		before := c.parser.comments
		time.Sleep(14900 * time.Millisecond)
		c.next()
		if n := c.parser.comments - before; n != 0 {
			t.Fatalf("%d comments in 14.9s of silence, want none", n)
		}
		time.Sleep(200 * time.Millisecond)
		c.next()
		if n := c.parser.comments - before; n != 1 {
			t.Fatalf("%d comments in 15.1s of silence, want 1", n)
		}
		r.up.set(doc(2))
		time.Sleep(time.Second)
		c.expect(patchTo(2))
		time.Sleep(13 * time.Second)
		c.next()
		if n := c.parser.comments - before; n != 1 {
			t.Errorf("a comment came though an event broke the silence")
		}
		time.Sleep(50 * time.Second)
		c.next()
		if n := c.parser.comments - before; n < 4 || n > 5 {
			t.Errorf("%d comments, want 4 or 5 for a minute of silence", n)
		}
	})
}

func TestResume(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		r := newRig(t, &Handler{Schedule: Schedule{Interval: second, History: new(100)}})
		var ids []string
		c := r.stream()
		publish := func(body string) {
			t.Helper()
			r.up.set(body)
			time.Sleep(time.Second)
			if got := c.next(); len(got) > 0 {
				ids = append(ids, got[len(got)-1].id)
			}
		}
		for n := range 5 {
			publish(doc(n))
		}
		current := ids[4]
		live := `status {"state":"live"…`
		for _, test := range []struct {
			name   string
			target string
			header string
			want   []string
			bare   string
		}{
			{"current", "/api", current, []string{live}, ""},
			{"one behind", "/api", ids[3], []string{live, patchTo(4)}, ""},
			{"three behind", "/api", ids[1], []string{live, `patch [{"op":"replace","path":"/n","value":2},{"op":"replace","path":"/n","value":3},{"op":"replace","path":"/n","value":4}]`}, ""},
			{"unknown", "/api", feed.Version(nil, []byte("no such document")), []string{live, "snapshot …"}, ""},
			{"malformed", "/api", "7", []string{live, "snapshot …"}, ""},
			{"hostile", "/api", "x\ndata: y", []string{live, "snapshot …"}, ""},
			{"query", "/api?last_event_id=" + ids[3], "", []string{live, patchTo(4)}, ids[3]},
			{"query, current", "/api?last_event_id=" + current, "", []string{live}, current},
			{"the header wins", "/api?last_event_id=" + ids[0], current, []string{live}, ""},
			{"a malformed header wins too", "/api?last_event_id=" + current, "7", []string{live, "snapshot …"}, ""},
			{"malformed query", "/api?last_event_id=%0Adata:x", "", []string{live, "snapshot …"}, ""},
		} {
			var fields []string
			if test.header != "" {
				fields = []string{"Last-Event-ID", test.header}
			}
			d := r.open(test.target, fields...)
			synctest.Wait()
			raw := d.w.take()
			if bare := strings.Contains(string(raw), "\nid: "+test.bare+"\n\n") && test.bare != ""; bare != (test.bare != "") {
				t.Errorf("%s: %q, want a bare id line of %q", test.name, raw, test.bare)
			}
			var got []string
			for _, e := range d.parser.parse(t, raw) {
				got = append(got, e.name+" "+e.data)
			}
			ok := len(got) == len(test.want)
			for i := 0; ok && i < len(got); i++ {
				ok = like(got[i], test.want[i])
			}
			if !ok {
				t.Errorf("%s: got %q, want %q", test.name, got, test.want)
			}
			want := current
			if d.parser.lastID != want && !(test.header != "" && len(test.want) == 1) && !(test.header != "" && d.parser.lastID == "" && len(test.want) == 1) {
				t.Errorf("%s: the last event id is %q, want %q", test.name, d.parser.lastID, want)
			}
			d.close()
		}

		// A document that comes back has its old id again, and its latest
		// occurrence counts.
		c.next()
		publish(doc(2))
		if ids[5] != ids[2] {
			t.Fatalf("the same document has the ids %q and %q", ids[2], ids[5])
		}
		publish(doc(9))
		r.stream("Last-Event-ID", ids[2]).expect(live, patchTo(9))
	})
}

// TestResumeAcrossSources: an id is made from the content, so it is good on
// another node or after a restart.
func TestResumeAcrossSources(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		r := newRig(t, &Handler{})
		r.up.set(doc(1))
		got := r.stream().next()
		id := got[len(got)-1].id
		testEngine(t).pool.closeAll()
		r.stream("Last-Event-ID", id).expect(`status {"state":"live"…`)
		testEngine(t).pool.closeAll()
		r.up.set(doc(2))
		r.stream("Last-Event-ID", id).expect(`status {"state":"live"…`, `snapshot …`)
	})
}

func TestSnapshotWhereSmaller(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		r := newRig(t, &Handler{Schedule: Schedule{Interval: second, History: new(1000)}})
		r.up.set(doc(0))
		c := r.stream()
		c.next()
		r.up.set(`[]`)
		time.Sleep(time.Second)
		c.expect("snapshot []")
		r.up.set(doc(1))
		time.Sleep(time.Second)
		c.expect("snapshot …")
		// Many patches are together larger than the document.
		got := r.stream().next()
		id := got[len(got)-1].id
		for n := range 20 {
			r.up.set(doc(n + 2))
			time.Sleep(time.Second)
		}
		c.next()
		r.stream("Last-Event-ID", id).expect(`status …`, "snapshot …21,…")
	})
}

func TestHistory(t *testing.T) {
	for _, limit := range []int{0, 1, 3} {
		bubble(t, func(t *testing.T) {
			r := newRig(t, &Handler{Schedule: Schedule{Interval: second, History: &limit}})
			c := r.stream()
			var ids []string
			for n := range 6 {
				r.up.set(doc(n))
				time.Sleep(time.Second)
				got := c.next()
				e := got[len(got)-1]
				if n > 0 && e.name != feed.KindPatch {
					t.Errorf("history %d: an open stream got %q, want a patch", limit, e.name)
				}
				ids = append(ids, e.id)
			}
			d := r.stream("Last-Event-ID", ids[len(ids)-2-max(1, limit)])
			d.expect("status …", "snapshot …")
			d = r.stream("Last-Event-ID", ids[len(ids)-1-max(1, limit)])
			d.expect("status …", "patch …")
		})
	}
}

func TestFormats(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		open := func(format string) *client {
			r := newRig(t, &Handler{Upstream: "http://upstream.test/" + format, Schedule: Schedule{Interval: second}, Streaming: Streaming{Format: format, Events: map[string]string{"snapshot": "message"}}})
			r.up.set(`{"a":1,"keep":"` + filler + `"}`)
			c := r.stream()
			c.expect("status …", "message …")
			r.up.set(`{"b":{"c":[null]},"keep":"` + filler + `"}`)
			time.Sleep(2 * time.Second) // polls are spread over the interval
			return c
		}
		c := open("merge")
		got := c.next()
		if len(got) != 1 || got[0].name != "merge" {
			t.Fatalf("merge: %q, want one event", got)
		}
		if m := judge.ApplyMerge(decodeJSON(t, `{"a":1,"k":2}`), decodeJSON(t, got[0].data)); canonical(m) != `{"b":{"c":[null]},"k":2}` {
			t.Errorf("the merge patch %s gives %s", got[0].data, canonical(m))
		}
		open("snapshot").expect(`message {"b"…`)
		open("patch").expect(`patch […]`)
	})
}

// TestMergeOfNull: merge patch cannot set null.
func TestMergeOfNull(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		r := newRig(t, &Handler{Schedule: Schedule{Interval: second}, Streaming: Streaming{Format: "merge"}})
		r.up.set(`{"a":1,"keep":"` + filler + `"}`)
		c := r.stream()
		c.next()
		r.up.set(`{"a":null,"keep":"` + filler + `"}`)
		time.Sleep(time.Second)
		c.expect(`snapshot …null…`)
	})
}

func TestSlowReader(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		r := newRig(t, &Handler{Schedule: Schedule{Interval: second, Linger: 3600 * second}, Streaming: Streaming{MaxAge: 7200 * second, Heartbeat: 600 * second}})
		r.up.set(doc(0))
		slow, quick := r.stream(), r.stream()
		var page replica
		page.t = t
		page.apply(slow.next()...)
		quick.next()
		slow.w.block()
		for n := range 20 {
			r.up.set(doc(n + 1))
			time.Sleep(time.Second)
			quick.expect(patchTo(n + 1))
		}
		slow.w.unblock()
		got := slow.next()
		if len(got) != 2 {
			t.Fatalf("a slow reader got %d events after 20 changes: %q, want the one that it was writing and one that moves it forward", len(got), got)
		}
		page.apply(got...)
		if want := canonical(decodeJSON(t, doc(20))); canonical(page.doc) != want {
			t.Errorf("the slow reader has %s, want %s", canonical(page.doc), want)
		}
		// A stream whose client takes nothing at all is ended.
		slow.w.block()
		r.up.set(doc(99))
		time.Sleep(31 * time.Second)
		synctest.Wait()
		if !slow.ended() || quick.ended() {
			t.Errorf("after 30s without a byte taken: ended %v; its neighbour: ended %v", slow.ended(), quick.ended())
		}
	})
}

func TestMaxAge(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		r := newRig(t, &Handler{Streaming: Streaming{MaxAge: 100 * second}, Limits: Limits{MaxSubscribers: 1}})
		c := r.stream()
		time.Sleep(89 * time.Second)
		if c.next(); c.ended() {
			t.Fatal("the stream ended before nine tenths of max_age")
		}
		time.Sleep(12 * time.Second)
		c.next()
		if !c.ended() || c.err != nil {
			t.Fatalf("after max_age: ended %v, error %v", c.ended(), c.err)
		}
		if n := c.parser.retries; len(n) != 2 || n[1] < 50 || n[1] > 1050 {
			t.Errorf("retries %v, want a quick one at the end", n)
		}
		// Its place is kept for it, and for nobody else.
		r.stream().expect(`status {"state":"refused",…"reason":"too_many_streams"}`)
		r.stream("Last-Event-ID", c.parser.lastID).expect(`status {"state":"live"…`)
		if n := r.up.count(); n > 22 {
			t.Errorf("%d polls in 101s: the source was not kept", n)
		}
	})
}

func TestDrain(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		r := newRig(t, &Handler{Streaming: Streaming{StreamCloseDelay: 60 * second}})
		var all []*client
		for range 60 {
			all = append(all, r.stream())
		}
		close(r.old)
		ended := func() (n int) {
			synctest.Wait()
			for _, c := range all {
				if c.ended() {
					n++
				}
			}
			return n
		}
		if n := ended(); n != 0 {
			t.Errorf("%d of 60 streams ended at once", n)
		}
		time.Sleep(30 * time.Second)
		if n := ended(); n < 10 || n > 50 {
			t.Errorf("%d of 60 streams ended in half the delay, want them spread", n)
		}
		time.Sleep(31 * time.Second)
		if n := ended(); n != 60 {
			t.Errorf("%d of 60 streams ended after the delay", n)
		}
		for _, c := range all {
			c.next()
			if n := c.parser.retries; len(n) != 2 || n[1] > 1050 {
				t.Fatalf("retries %v, want a quick one at the end", n)
			}
		}
	})
	bubble(t, func(t *testing.T) {
		r := newRig(t, &Handler{Streaming: Streaming{StreamCloseDelay: -second}})
		c := r.stream()
		close(r.old)
		time.Sleep(10 * time.Minute)
		if c.next(); c.ended() {
			t.Error("a negative delay ended the stream")
		}
		r.engine.end()
		if c.next(); !c.ended() {
			t.Error("the exit did not end a stream that had outlived its configuration")
		}
	})
}

func TestExit(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		r := newRig(t, &Handler{Schedule: Schedule{Timeout: 60 * second}, Request: Request{Forward: []string{"Authorization"}}})
		r.up.answer(func(q *http.Request) (*http.Response, error) {
			if q.Header.Get("Authorization") == "slow" {
				<-q.Context().Done()
				return nil, q.Context().Err()
			}
			return reply(200, `{}`), nil
		})
		open, held := r.stream(), r.stream("Authorization", "slow")
		open.next()
		cold := make(chan int)
		go func() { cold <- r.get("Authorization", "slow").Code }()
		poll := make(chan int)
		tag := r.get().Header().Get("ETag")
		go func() { poll <- r.get("Prefer", "wait=60", "If-None-Match", tag).Code }()
		synctest.Wait()
		begun := time.Now()
		r.engine.end()
		synctest.Wait()
		if !open.ended() || !held.ended() {
			t.Errorf("ended: the stream %v, the held one %v", open.ended(), held.ended())
		}
		if code := <-cold; code != 504 {
			t.Errorf("a cold request at the exit: %d, want 504", code)
		}
		if code := <-poll; code != 304 {
			t.Errorf("a long poll at the exit: %d, want 304", code)
		}
		if d := time.Since(begun); d != 0 {
			t.Errorf("the exit took %s", d)
		}
		open.next()
		// Until the server is back, a proxy in front answers with errors,
		// after which an EventSource gives up.
		if n := open.parser.retries; len(n) != 2 || n[1] < 1500 || n[1] > 4500 {
			t.Errorf("retries %v, want the normal one at the end", n)
		}
	})
}

func TestDenied(t *testing.T) {
	for status, reason := range map[int]string{401: "unauthorized", 403: "forbidden"} {
		bubble(t, func(t *testing.T) {
			r := newRig(t, &Handler{Schedule: Schedule{Interval: second}, Request: Request{Forward: []string{"Authorization"}}})
			r.up.set(`{"mine":1}`)
			c := r.stream("Authorization", "a")
			c.expect(`status {"state":"live"…`, `snapshot …`)
			r.up.answer(answers(status, "secret of the upstream", "WWW-Authenticate", `Bearer realm="x"`))
			time.Sleep(time.Second)
			c.expect(`status {"state":"denied",…"reason":"` + reason + `"}`)
			if !c.ended() || c.err != nil {
				t.Errorf("%d: ended %v, error %v", status, c.ended(), c.err)
			}
			polls := r.up.count()
			for range 10 {
				got := r.get("Authorization", "a")
				if got.Code != status || strings.Contains(got.Body.String(), "mine") || got.Header().Get("Cache-Control") != "private, no-store" {
					t.Fatalf("GET after %d: %d %v %q", status, got.Code, got.Header(), got.Body)
				}
				if challenge := got.Header().Get("WWW-Authenticate"); (challenge != "") != (status == 401) {
					t.Errorf("%d with WWW-Authenticate %q", status, challenge)
				}
				d := r.stream("Authorization", "a")
				d.next()
				if !d.ended() || d.err == nil || d.w.status() != 0 {
					t.Fatalf("a stream after %d: ended %v, error %v, status %d; want an error before the first byte", status, d.ended(), d.err, d.w.status())
				}
				time.Sleep(400 * time.Millisecond)
			}
			if n := r.up.count(); n != polls {
				t.Errorf("%d polls while the denial is remembered", n-polls)
			}
			time.Sleep(2 * time.Second)
			r.up.set(`{"mine":2}`)
			if got := r.get("Authorization", "a"); got.Code != 200 || got.Body.String() != `{"mine":2}` {
				t.Errorf("GET after the denial was forgotten: %d %q", got.Code, got.Body)
			}
		})
	}
}

// TestWhoIsDenied: a 403 denies every private document, however the client's
// credentials reach the upstream. A 401 does unless the server sent its own.
func TestWhoIsDenied(t *testing.T) {
	bearer := func(value string) *headers.HeaderOps {
		return &headers.HeaderOps{Set: http.Header{"Authorization": {"Bearer " + value}}}
	}
	const user = "http://upstream.test/of?user={http.request.header.X-User}"
	for _, test := range []struct {
		name                      string
		handler                   Handler
		unauthorized, isForbidden string // the state after 401 and 403
	}{
		{"public", Handler{}, "stale", "stale"},
		{"public, own token", Handler{Request: Request{HeaderUp: bearer("key")}}, "stale", "stale"},
		{"a token by placeholder", Handler{Request: Request{HeaderUp: bearer("{http.request.header.X-User}")}}, "denied", "denied"},
		{"a user by placeholder", Handler{Upstream: user}, "denied", "denied"},
		{"a user by placeholder, own token", Handler{Upstream: user, Request: Request{HeaderUp: bearer("key")}}, "stale", "denied"},
		{"a user by placeholder, own password", Handler{Upstream: user, Request: Request{BasicAuth: &upstream.BasicAuth{Username: "reader", Password: "secret"}}}, "stale", "denied"},
		{"forwarded", Handler{Request: Request{Forward: []string{"X-User"}}}, "denied", "denied"},
		{"forwarded, own password", Handler{Request: Request{Forward: []string{"X-User"}, BasicAuth: &upstream.BasicAuth{Username: "reader", Password: "secret"}}}, "stale", "denied"},
	} {
		for status, want := range map[int]string{401: test.unauthorized, 403: test.isForbidden} {
			t.Run(fmt.Sprint(strings.ReplaceAll(test.name, " ", "-"), "-", status), func(t *testing.T) {
				bubble(t, func(t *testing.T) {
					h := test.handler
					h.Interval = second
					r := newRig(t, &h)
					c := r.stream("X-User", "jo")
					c.expect("status …", "snapshot …")
					r.up.answer(answers(status, ""))
					time.Sleep(time.Second)
					c.expect(`status {"state":"` + want + `",…}`)
					if got, denied := r.get("X-User", "jo").Code, want == "denied"; c.ended() != denied || (got == status) != denied {
						t.Errorf("ended %v, GET %d; want %s", c.ended(), got, want)
					}
				})
				// The same with no document: the header of the answer waits for the upstream's word.
				bubble(t, func(t *testing.T) {
					h := test.handler
					r := newRig(t, &h)
					gate := make(chan struct{})
					r.up.answer(func(*http.Request) (*http.Response, error) { <-gate; return reply(status, ""), nil })
					c := r.stream("X-User", "jo")
					if waits := c.w.status() == 0; waits != r.request.Private() {
						t.Errorf("waits for the first poll: %v, want %v", waits, r.request.Private())
					}
					close(gate)
					c.next()
					if denied := want == "denied"; c.ended() != denied || (c.err != nil) != denied {
						t.Errorf("ended %v, error %v; want %s", c.ended(), c.err, want)
					}
				})
			})
		}
	}
}

// TestHeldHeader: with forwarded credentials the response header waits for
// the upstream's word.
func TestHeldHeader(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		r := newRig(t, &Handler{Request: Request{Forward: []string{"cookie:s"}}, Schedule: Schedule{Timeout: 5 * second}})
		gate := make(chan struct{})
		r.up.answer(func(*http.Request) (*http.Response, error) { <-gate; return reply(401, ""), nil })
		c := r.stream("Cookie", "s=1")
		if c.w.status() != 0 {
			t.Fatal("the header was written before the first poll had ended")
		}
		close(gate)
		c.next()
		if !c.ended() || c.err == nil {
			t.Errorf("ended %v, error %v; want 401", c.ended(), c.err)
		}
	})
}
