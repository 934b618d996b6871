package pollsse

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/pollsse/caddy-poll-sse/internal/feed"
)

// audit counts everything again that the pool has counted.
func audit(t *testing.T) {
	t.Helper()
	testEngine(t).pool.mu.Lock()
	defer testEngine(t).pool.mu.Unlock()
	perName, readers := map[string]int{}, 0
	perClient := map[string]map[netip.Addr]tally{}
	for key, n := range testEngine(t).pool.entries {
		if n.key != key {
			t.Errorf("a source stands under a key that is not its own")
		}
		perName[n.endpoint.name]++
		if perClient[n.endpoint.name] == nil {
			perClient[n.endpoint.name] = map[netip.Addr]tally{}
		}
		c := perClient[n.endpoint.name][n.client]
		c.sources++
		perClient[n.endpoint.name][n.client] = c
		readers += n.subscribers
		if (n.subscribers == 0) != (n.idle != nil) {
			t.Errorf("a source with %d subscribers: idle %v", n.subscribers, n.idle != nil)
		}
	}
	total := 0
	for name, e := range testEngine(t).pool.endpoints {
		if e.sources != perName[name] {
			t.Errorf("%s counts %d sources, there are %d", name, e.sources, perName[name])
		}
		subscribers, kept := 0, 0
		for client, n := range e.clients {
			if n.sources != perClient[name][client].sources || n == (tally{}) {
				t.Errorf("%s counts %+v of %s, it has %d sources", name, n, client, perClient[name][client].sources)
			}
			subscribers += n.subscribers
			kept += n.kept
		}
		places := 0
		for _, all := range e.places {
			places += len(all)
		}
		if e.subscribers != subscribers || e.kept != kept || kept != places {
			t.Errorf("%s counts %d subscribers and %d places; its clients %d and %d, there are %d places", name, e.subscribers, e.kept, subscribers, kept, places)
		}
		total += e.subscribers
	}
	if readers > total {
		t.Errorf("sources have %d subscribers, their names only %d", readers, total)
	}
}

func TestMaxSubscribers(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		r := newRig(t, &Handler{Limits: Limits{MaxSubscribers: 2}})
		a, b := r.stream(), r.stream()
		c := r.stream()
		c.expect(`status {"state":"refused",…"reason":"too_many_streams"}`)
		if !c.ended() || c.err != nil || c.w.status() != 200 {
			t.Errorf("a refused stream: ended %v, error %v, status %d", c.ended(), c.err, c.w.status())
		}
		if n := c.parser.retries; len(n) != 1 || n[0] < 15_000 || n[0] > 45_000 {
			t.Errorf("retries %v, want one of 15000 to 45000", n)
		}
		got := r.get()
		if after, _ := strconv.Atoi(got.Header().Get("Retry-After")); got.Code != 503 || after < 15 || after > 46 {
			t.Errorf("a plain GET over the limit: %d, Retry-After %q", got.Code, got.Header().Get("Retry-After"))
		}
		a.next()
		b.next()
		if a.ended() || b.ended() {
			t.Error("the newcomer cost somebody a stream")
		}
		a.close()
		r.stream().expect(`status {"state":"live"…`, "snapshot …")
		audit(t)
	})
}

func TestMaxSources(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		r := newRig(t, &Handler{Upstream: "http://upstream.test/{http.request.uri.query.q}", Limits: Limits{MaxSources: 2}})
		a := r.open("/api?q=1", "client", "192.0.2.1")
		b := r.open("/api?q=2", "client", "192.0.2.2")
		synctest.Wait()
		c := r.open("/api?q=3", "client", "192.0.2.3")
		c.expect(`status {"state":"refused",…"reason":"too_many_documents"}`)
		if got := r.do("GET", "/api?q=3", "client", "192.0.2.3"); got.Code != 503 || got.Header().Get("Retry-After") == "" {
			t.Errorf("a plain GET over the limit: %d %v", got.Code, got.Header())
		}
		if got := r.do("GET", "/api?q=1", "client", "192.0.2.3"); got.Code != 200 {
			t.Errorf("a GET of a document that is polled anyway: %d", got.Code)
		}
		a.close() // idle now: it gives way, the other does not
		d := r.open("/api?q=4", "client", "192.0.2.4")
		d.expect(`status {"state":"live"…`, "snapshot …")
		b.next()
		if b.ended() || poolSize(t) != 2 {
			t.Errorf("ended %v, %d sources; want the stream open and 2", b.ended(), poolSize(t))
		}
		audit(t)
	})
}

func TestEvictionTakesTheLongestIdle(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		r := newRig(t, &Handler{Upstream: "http://upstream.test/?q={http.request.uri.query.q}", Limits: Limits{MaxSources: 3}, Schedule: Schedule{Linger: 3600 * second, Interval: 3600 * second}})
		read := func(q, client string) int {
			before := r.up.count()
			if got := r.do("GET", "/api?q="+q, "client", client); got.Code != 200 {
				t.Fatalf("q=%s: %d", q, got.Code)
			}
			time.Sleep(time.Second)
			return r.up.count() - before
		}
		for i, q := range []string{"a", "b", "c", "a", "d"} { // d evicts b
			read(q, fmt.Sprint("192.0.2.", i))
		}
		if n := read("a", "192.0.2.9"); n != 0 {
			t.Error("the source that was read last had to go")
		}
		if n := read("c", "192.0.2.9"); n != 0 {
			t.Error("the source that was read second last had to go")
		}
		if n := read("b", "192.0.2.9"); n != 1 {
			t.Error("the longest idle source stayed")
		}
		audit(t)
	})
}

// TestOneClientCannotTakeAllSources: random queries and cookies, held open or
// not, leave room for others.
func TestOneClientCannotTakeAllSources(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		r := newRig(t, &Handler{Upstream: "http://upstream.test/?q={http.request.uri.query.q}", Request: Request{Forward: []string{"cookie:c"}}, Limits: Limits{MaxSources: 80}})
		victim := r.open("/api?q=victim", "client", "198.51.100.7")
		victim.next()
		for i := range 300 {
			target, cookie := fmt.Sprintf("/api?q=%d", rand.Int()), fmt.Sprintf("c=%d", rand.Int())
			// An IPv6 client has as many addresses as it likes.
			client := fmt.Sprintf("2001:db8:0:1::%x", i)
			if i%2 == 0 {
				r.open(target, "Cookie", cookie, "client", client)
			} else {
				r.do("GET", target, "Cookie", cookie, "client", client)
			}
		}
		synctest.Wait()
		if n := poolSize(t); n > 11 {
			t.Errorf("one client made %d of 80 sources, want an eighth at most", n-1)
		}
		audit(t)
		r.open("/api?q=new", "client", "198.51.100.8").expect(`status {"state":"live"…`, "snapshot …")
		victim.next()
		if victim.ended() {
			t.Error("the attack ended another's stream")
		}
	})
}

// TestSharedSourceHasNoShare: if clients decide nothing, there is only one source,
// however small the limit and no matter who asks.
func TestSharedSourceHasNoShare(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		r := newRig(t, &Handler{Limits: Limits{MaxSources: 1}})
		for i := range 10 {
			r.open(fmt.Sprintf("/api?x=%d", i), "Cookie", fmt.Sprint("c=", i)).expect(`status {"state":"live"…`, "snapshot …")
		}
		if r.up.count() != 1 || poolSize(t) != 1 {
			t.Errorf("%d polls and %d sources for one URL", r.up.count(), poolSize(t))
		}
	})
}

// TestNamesHaveLimitsOfTheirOwn: two names may share a source, but not their
// limits.
func TestNamesHaveLimitsOfTheirOwn(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		a := newRig(t, &Handler{Name: "a", Limits: Limits{MaxSubscribers: 2}})
		b := newRig(t, &Handler{Name: "b", Limits: Limits{MaxSubscribers: 1}})
		live := `status {"state":"live"…`
		one := a.stream()
		one.expect(live, "snapshot …")
		two := b.stream()
		two.expect(live, "snapshot …")
		if b.up.count() != 0 || poolSize(t) != 1 {
			t.Fatalf("%d sources, want one for both names", poolSize(t))
		}
		b.stream().expect(`status …refused…`)
		a.stream().expect(live, "snapshot …")
		a.stream().expect(`status …refused…`)
		one.close()
		a.stream().expect(live, "snapshot …")
		two.close()
		b.stream().expect(live, "snapshot …")
		audit(t)
	})
}

// TestPlacesExpire: a place that nobody comes back to is free again.
func TestPlacesExpire(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		r := newRig(t, &Handler{Streaming: Streaming{MaxAge: 20 * second}, Limits: Limits{MaxSubscribers: 3}, Schedule: Schedule{Linger: 1 * second}})
		var old []*client
		for range 3 {
			old = append(old, r.stream())
		}
		time.Sleep(21 * time.Second)
		for _, c := range old {
			c.next()
			if !c.ended() {
				t.Fatal("max_age did not end the stream")
			}
		}
		r.stream().expect(`status …refused…`)
		id := old[0].parser.lastID
		for range 3 {
			r.stream("Last-Event-ID", id).expect(`status {"state":"live"…`)
		}
		r.stream("Last-Event-ID", id).expect(`status …refused…`)
		time.Sleep(21 * time.Second)
		synctest.Wait()
		r.stream().expect(`status …refused…`)
		time.Sleep(keepPlace)
		r.stream().expect(`status …live…`, "snapshot …")
		audit(t)
	})
}

// TestDeniedMakesRoom: a denial is forgotten without a trace.
func TestDeniedMakesRoom(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		r := newRig(t, &Handler{Request: Request{Forward: []string{"Authorization"}}, Limits: Limits{MaxSources: 8, MaxSubscribers: 8}})
		r.up.answer(answers(401, ""))
		for i := range 100 {
			if got := r.get("Authorization", fmt.Sprint(i)); got.Code != 401 {
				t.Fatalf("request %d: %d, want the upstream's 401", i, got.Code)
			}
		}
		audit(t)
		// One after the other with the same credentials, across the time
		// for which a denial is remembered.
		for range 30 {
			r.stream("Authorization", "same")
			r.get("Authorization", "same")
			time.Sleep(700 * time.Millisecond)
			audit(t)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := poolSize(t); n != 0 {
			t.Errorf("%d sources a minute after the last denial", n)
		}
	})
}

// TestPoolUnderLoad lets clients come and go at random and counts again.
func TestPoolUnderLoad(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		seed := rand.Uint64()
		rng := rand.New(rand.NewPCG(seed, 0))
		t.Logf("seed %d", seed)
		r := newRig(t, &Handler{Upstream: "http://upstream.test/?q={http.request.uri.query.q}", Request: Request{Forward: []string{"Authorization"}}, Limits: Limits{MaxSources: 16, MaxSubscribers: 20}, Schedule: Schedule{Linger: 2 * second, Interval: second}, Streaming: Streaming{MaxAge: 5 * second}})
		other := newRig(t, &Handler{Upstream: r.Upstream, Request: Request{Forward: r.Forward}, Name: "other", Limits: Limits{MaxSources: 16, MaxSubscribers: 5}, Schedule: Schedule{Linger: 2 * second, Interval: second}, Streaming: Streaming{MaxAge: 3 * second}})
		r.up.answer(func(q *http.Request) (*http.Response, error) {
			switch q.Header.Get("Authorization") {
			case "1":
				return reply(401, ""), nil
			case "2":
				return reply(500, ""), nil
			}
			return reply(200, `{}`), nil
		})
		other.claim.environment.transport = r.up
		var open []*client
		for range 1500 {
			rig := r
			if rng.IntN(4) == 0 {
				rig = other
			}
			fields := []string{"client", fmt.Sprint("192.0.2.", rng.IntN(6)), "Authorization", strconv.Itoa(rng.IntN(4))}
			target := fmt.Sprint("/api?q=", rng.IntN(8))
			switch rng.IntN(6) {
			case 0, 1:
				if rng.IntN(2) == 0 {
					fields = append(fields, "Last-Event-ID", feed.Version(nil, []byte("x")))
				}
				open = append(open, rig.open(target, fields...))
			case 2:
				rig.do("GET", target, fields...)
			case 3:
				rig.do("POST", target, fields...)
			case 4:
				if len(open) > 0 {
					i := rng.IntN(len(open))
					open[i].close()
					open = append(open[:i], open[i+1:]...)
				}
			case 5:
				time.Sleep(time.Duration(rng.IntN(800)) * time.Millisecond)
			}
			synctest.Wait()
			audit(t)
			if t.Failed() {
				return
			}
			if n := poolSize(t); n > 32 {
				t.Fatalf("%d sources with max_sources 16 under each of two names", n)
			}
		}
		for _, c := range open {
			c.close()
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		audit(t)
		if n := poolSize(t); n != 0 {
			t.Errorf("%d sources a minute after everybody left", n)
		}
		for name, e := range testEngine(t).pool.endpoints {
			e.expire(time.Now())
			if e.subscribers != 0 || e.sources != 0 || len(e.clients) != 0 {
				t.Errorf("%s: %d subscribers, %d sources, %d clients after everybody left", name, e.subscribers, e.sources, len(e.clients))
			}
		}
	})
}

// TestCloseAllStopsEveryPoller: nothing polls after an exit.
func TestCloseAllStopsEveryPoller(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		r := newRig(t, &Handler{Upstream: "http://upstream.test/?q={http.request.uri.query.q}", Schedule: Schedule{Interval: second}})
		for i := range 20 {
			r.open(fmt.Sprint("/api?q=", i))
		}
		synctest.Wait()
		testEngine(t).pool.closeAll()
		n := r.up.count()
		time.Sleep(time.Minute)
		if m := r.up.count(); n != 20 || m != n {
			t.Errorf("%d polls before the end, %d after", n, m-n)
		}
	})
}

// TestNewerConfigurationTakesOver: the next poll of a living source goes
// through the transport of the newest configuration.
func TestNewerConfigurationTakesOver(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		before := newRig(t, &Handler{Schedule: Schedule{Interval: second}})
		c := before.stream()
		c.next()
		after := newRig(t, &Handler{Schedule: Schedule{Interval: second}})
		after.up.set(doc(7))
		d := after.stream("Last-Event-ID", c.parser.lastID)
		d.expect(`status {"state":"live"…`)
		before.stream().expect(`status {"state":"live"…`, "snapshot …") // does not turn it back
		time.Sleep(1500 * time.Millisecond)
		c.expect("snapshot …7…")
		d.expect("snapshot …7…")
		if n := before.up.count(); n != 1 {
			t.Errorf("the old transport polled %d times, want once", n)
		}
		time.Sleep(10 * time.Second)
	})
}

// TestEachSettingMakesItsOwnSource: what decides the document is part of the
// key; when it is polled, and what belongs to the stream, is not.
func TestEachSettingMakesItsOwnSource(t *testing.T) {
	key := func(h *Handler) [32]byte {
		t.Helper()
		h.Upstream = "http://upstream.test/"
		ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
		defer cancel()
		if err := h.Provision(ctx); err != nil {
			t.Fatal(err)
		}
		req, err := h.expand(request(context.Background(), "GET", "/api", "Authorization", "a", "X-A", "b"))
		if err != nil {
			t.Fatal(err)
		}
		return req.Key(h.readingKey)
	}
	base := key(new(Handler))
	for name, h := range map[string]*Handler{
		"max_body": {Reading: Reading{MaxBody: 1}}, "select": {Reading: Reading{Select: "/a"}}, "omit": {Reading: Reading{Omit: []string{"/a"}}}, "upstream_format": {Reading: Reading{UpstreamFormat: "ndjson"}}, "transport": {Reading: Reading{TransportRaw: []byte(`{"protocol":"http","dial_timeout":1000000000}`)}},
		"forward": {Request: Request{Forward: []string{"Authorization"}}}, "forward another": {Request: Request{Forward: []string{"X-A"}}},
	} {
		if key(h) == base {
			t.Errorf("%s does not make a source of its own", name)
		}
	}
	for name, h := range map[string]*Handler{
		"interval": {Schedule: Schedule{Interval: second}}, "quiet_interval": {Schedule: Schedule{QuietInterval: 60 * second}}, "max_interval": {Schedule: Schedule{MaxInterval: 120 * second}}, "honor": {Schedule: Schedule{Honor: new(false)}},
		"max_load": {Schedule: Schedule{MaxLoad: 1}}, "host_polls": {Schedule: Schedule{HostPolls: 1}}, "stale_after": {Schedule: Schedule{StaleAfter: second}}, "timeout": {Schedule: Schedule{Timeout: second}},
		"history": {Schedule: Schedule{History: new(1)}}, "linger": {Schedule: Schedule{Linger: second}}, "always_on": {AlwaysOn: false},
		"format": {Streaming: Streaming{Format: "merge"}}, "events": {Streaming: Streaming{Events: map[string]string{"snapshot": "message"}}}, "heartbeat": {Streaming: Streaming{Heartbeat: second}},
		"retry": {Streaming: Streaming{Retry: second}}, "max_age": {Streaming: Streaming{MaxAge: second}}, "max_wait": {Streaming: Streaming{MaxWait: second}}, "stream_close_delay": {Streaming: Streaming{StreamCloseDelay: second}},
		"max_sources": {Limits: Limits{MaxSources: 1}}, "max_subscribers": {Limits: Limits{MaxSubscribers: 1}}, "name": {Name: "x"},
	} {
		if key(h) != base {
			t.Errorf("%s makes a source of its own", name)
		}
	}
}

// TestCookiesAreForwardedOneByOne: cookies that nobody named neither reach the
// upstream nor make a source.
func TestCookiesAreForwardedOneByOne(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		r := newRig(t, &Handler{Request: Request{Forward: []string{"cookie:session", "cookie:lang"}}})
		for i := range 20 {
			r.get("Cookie", fmt.Sprintf("_ga=%d; session=me; xsession=evil", i))
		}
		if n := r.up.count(); n != 1 {
			t.Errorf("%d polls for 20 analytics cookies", n)
		}
		if got := r.up.last().Header.Values("Cookie"); len(got) != 1 || got[0] != "session=me" {
			t.Errorf("the upstream got the cookies %q", got)
		}
		r.get("Cookie", "lang=de; session=me")
		if got := r.up.last().Header.Values("Cookie"); len(got) != 1 || got[0] != "session=me; lang=de" {
			t.Errorf("the upstream got the cookies %q", got)
		}
		for _, name := range []string{"X-Forwarded-For", "Last-Event-Id", "Authorization"} {
			r.get("Cookie", "session=me", name, "x")
		}
		if n := r.up.count(); n != 2 {
			t.Errorf("%d polls, want 2: fields that nobody named make no source", n)
		}
		if got := r.get("Cookie", "session="+strings.Repeat("x", 16<<10+1)); got.Code != 400 {
			t.Errorf("more than 16 KiB: %d, want 400", got.Code)
		}
	})
}
