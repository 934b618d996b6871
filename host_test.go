package pollsse

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap/zaptest/observer"

	"github.com/pollsse/caddy-poll-sse/internal/feed"
)

// TestOneClientCannotStopAHost: documents that one client makes, from an
// upstream that is slow with them, leave the others their turns.
func TestOneClientCannotStopAHost(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		public := newRig(t, &Handler{Upstream: "http://host.test/pub", Schedule: Schedule{Interval: second}})
		asked := newRig(t, &Handler{Upstream: "http://host.test/q?s={http.request.uri.query.s}", Schedule: Schedule{Interval: second}})
		asked.up.answer(func(*http.Request) (*http.Response, error) {
			time.Sleep(9500 * time.Millisecond)
			return reply(200, `{}`), nil
		})
		c := public.stream()
		for i := range 100 {
			asked.open(fmt.Sprint("/api?s=", i), "client", "203.0.113.66")
		}
		time.Sleep(20 * time.Second)
		other := asked.open("/api?s=other", "client", "203.0.113.7")
		time.Sleep(20 * time.Second)
		if n := public.up.count(); n < 39 {
			t.Errorf("/pub was polled %d times in 40s at an interval of 1s", n)
		}
		asked.up.mu.Lock()
		if asked.up.most > 7 {
			t.Errorf("%d polls at the same time for one client and one newcomer, want 6 and 1 of 16", asked.up.most)
		}
		asked.up.mu.Unlock()
		if got := other.next(); len(got) == 0 || got[len(got)-1].name != feed.KindSnapshot {
			t.Errorf("another client got %v in 20s from an upstream that takes 9.5s, want a document", got)
		}
		c.next()
		if s := metricOf(t, "host_wait_seconds_total", "name", asked.Name); s < 300 {
			t.Errorf("the metric says that the polls of 100 documents have waited for %gs together", s)
		}
	})
}

// at holds what a test has acquired of a host.
type at struct {
	host *host
	t    *testing.T
	mu   *sync.Mutex // held for note
}

// poll acquires a turn in a goroutine and keeps it until done is closed.
func (h at) poll(a account, limit int, note func(), done <-chan struct{}) {
	go func() {
		if h.host.acquire(h.t.Context(), a, limit) {
			h.mu.Lock()
			note()
			h.mu.Unlock()
			<-done
			h.host.release(a)
		}
	}()
	synctest.Wait() // polls ask one after the other
}

func addr(i int) account {
	return account{client: netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})}
}

// TestShareOfAHost: how many of a host's polls each account may have.
func TestShareOfAHost(t *testing.T) {
	for _, test := range []struct{ limit, one, clients, all int }{
		{1, 1, 1, 1}, {2, 1, 1, 2}, {3, 1, 2, 3}, {4, 1, 3, 4}, {16, 6, 12, 16}, {100, 37, 75, 100},
	} {
		synctest.Test(t, func(t *testing.T) {
			host, _ := newHostTable().register("http://share.test")
			h, done, polls := at{host, t, new(sync.Mutex)}, make(chan struct{}), 0
			poll := func(a account) {
				h.poll(a, test.limit, func() { polls++ }, done)
			}
			for range 200 {
				poll(addr(1))
			}
			one := polls
			for range 200 {
				poll(addr(2))
				poll(account{name: "shared"})
				poll(addr(3))
			}
			clients := polls
			for range 200 {
				poll(account{})
			}
			if one != test.one || clients != test.clients || polls != test.all {
				t.Errorf("of %d: one client polls %d, all clients %d, everybody %d; want %+v", test.limit, one, clients, polls, test)
			}
			close(done)
			synctest.Wait()
			if host.polls != 0 || host.made != 0 || len(host.lines) != 0 || len(host.ring) != 0 || len(host.own) != 0 {
				t.Errorf("left over: %+v", host)
			}
		})
	}
}

// TestTurnsOfAHost: the configuration's documents go first, but one turn in
// four is a client's; clients take turns among themselves.
func TestTurnsOfAHost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		host, _ := newHostTable().register("http://turns.test")
		h, order := at{host, t, new(sync.Mutex)}, ""
		step := make(chan struct{})
		poll := func(a account, name string) {
			h.poll(a, 1, func() { order += name }, step)
		}
		poll(account{}, ".")
		for range 3 {
			poll(addr(1), "a")
		}
		for range 2 {
			poll(addr(2), "b")
			poll(account{name: "shared"}, "s")
		}
		for range 9 {
			poll(account{}, "o")
		}
		for range 17 {
			step <- struct{}{}
			synctest.Wait()
		}
		if want := ".oooaooobooosabsa"; order != want {
			t.Errorf("turns %q, want %q", order, want)
		}
	})
}

// TestQueueOfAHostLosesNobody: a poll that is given up makes room.
func TestQueueOfAHostLosesNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		host, _ := newHostTable().register("http://queue.test")
		for _, a := range []account{{}, addr(1), {name: "n"}} {
			if !host.acquire(t.Context(), a, 2) {
				t.Fatal("a free host gives no turn")
			}
			ctx, cancel := context.WithCancel(t.Context())
			given := make(chan bool)
			for range 5 {
				go func() { given <- host.acquire(ctx, a, 1) }()
			}
			synctest.Wait()
			cancel()
			for range 5 {
				if <-given {
					t.Error("a turn over the limit")
				}
			}
			host.release(a)
			if host.polls != 0 || host.made != 0 || len(host.lines) != 0 || len(host.ring) != 0 || len(host.own) != 0 {
				t.Errorf("left over: %+v", host)
			}
		}
	})
}

// TestDocumentOfTwoAddresses: the first client does not pay for a document that
// others read, too.
func TestDocumentOfTwoAddresses(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		r := newRig(t, &Handler{Upstream: "http://host.test/q?s={http.request.uri.query.s}", Name: "q"})
		payer := func() account {
			testEngine(t).pool.mu.Lock()
			defer testEngine(t).pool.mu.Unlock()
			for _, n := range testEngine(t).pool.entries {
				return *n.source.account.Load()
			}
			return account{}
		}
		r.open("/api?s=1", "client", "192.0.2.1")
		synctest.Wait()
		r.do("GET", "/api?s=1", "client", "192.0.2.1")
		if got := payer(); got != addr(1) {
			t.Errorf("charged to %+v, want the one reader", got)
		}
		r.do("GET", "/api?s=1", "client", "192.0.2.2")
		r.do("GET", "/api?s=1", "client", "192.0.2.1")
		if got := payer(); got != (account{name: "q"}) {
			t.Errorf("charged to %+v, want the name", got)
		}
		own := newRig(t, &Handler{Upstream: "http://host.test/q?s=1", Name: "own"})
		own.do("GET", "/api", "client", "192.0.2.3")
		r.do("GET", "/api?s=1", "client", "192.0.2.4")
		if got := payer(); got != (account{}) || poolSize(t) != 1 {
			t.Errorf("charged to %+v of %d sources, want the configuration", got, poolSize(t))
		}
	})
}

// TestStretchedIntervalsAreTold: a host whose polls wait gets one warning, and
// the metric has the time.
func TestStretchedIntervalsAreTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := &fakeUpstream{script: func(int, *http.Request) *http.Response {
			time.Sleep(100 * time.Millisecond)
			return reply(200, "1")
		}}
		var all []*observer.ObservedLogs
		for i := range 40 {
			_, logs := startSource(t, &Handler{Upstream: fmt.Sprintf("http://stretched.test/%d", i), Schedule: Schedule{HostPolls: 1, Interval: second}}, u)
			all = append(all, logs)
		}
		warnings := func() (n int) {
			for _, logs := range all {
				n += logs.FilterMessageSnippet("host_polls").Len()
			}
			return n
		}
		wait(3900 * time.Millisecond)
		if n := warnings(); n != 0 {
			t.Errorf("%d warnings while all start together", n)
		}
		wait(time.Minute)
		if n := warnings(); n != 1 {
			t.Errorf("%d warnings that polls at 1s come every 4s, want 1", n)
		}
	})
}

// TestPausedInTheQueue: a source that is paused while it waits for its turn does not
// poll.
func TestPausedInTheQueue(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		slow := newRig(t, &Handler{Upstream: "http://host.test/slow", Schedule: Schedule{Timeout: 60 * second, HostPolls: 1}})
		counting(slow.up, 20*time.Second)
		slow.stream()
		r := newRig(t, &Handler{Upstream: "http://host.test/a", Name: "a", Schedule: Schedule{Interval: second, HostPolls: 1}})
		c := r.stream()
		wait(time.Second)
		source := testEngine(t).pool.all("a")[0].source
		source.setPaused(true)
		wait(time.Minute)
		if n := r.up.count(); n != 0 {
			t.Errorf("%d polls while it is paused", n)
		}
		source.setPaused(false)
		wait(time.Minute)
		if n := r.up.count(); n == 0 {
			t.Error("no poll after it was resumed")
		}
		c.next()
	})
}
