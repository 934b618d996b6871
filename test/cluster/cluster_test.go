package cluster_test

import (
	"flag"
	"strings"
	"syscall"
	"testing"
	"time"
)

const (
	interval = time.Second
	lease    = 3 * time.Second
	// slack is what a busy machine may add to a pause; what is promised is less,
	// and logged.
	slack = 10 * time.Second
	// held is how long a busy machine may hold up a poll. More than that ahead of
	// one an interval means that there was a poll too many.
	held = interval * 9 / 10
)

const natsBlock = "\tcluster nats {\n\t\tservers nats://ENGINE\n\t}"

// overNATS is a site whose nodes share a document through NATS.
func overNATS(o *origin) site {
	return site{cluster: natsBlock, directives: "\tpoll_sse /doc " + o.URL + "/doc {\n\t\tinterval 1s\n\t\tlinger 2s\n\t\tretry 200ms\n\t}"}
}

func nodes(t testing.TB, s site, engine string, names ...string) []*node {
	t.Helper()
	var all []*node
	for _, name := range names {
		all = append(all, newNode(t, name, s, engine))
	}
	return all
}

// owner is the node that owns the document, once there is one and all others
// follow.
func owner(t testing.TB, all ...*node) (own *node, rest []*node) {
	t.Helper()
	eventually(t, "one node owns the document and the others follow", func() bool {
		own, rest = nil, nil
		for _, n := range all {
			switch {
			case n.is("owns") && own == nil:
				own = n
			case n.is("follows"):
				rest = append(rest, n)
			default:
				return false
			}
		}
		return own != nil
	})
	return own, rest
}

// steadily fails unless the upstream sees one poll an interval for some time.
func steadily(t testing.TB, o *origin, long time.Duration) {
	t.Helper()
	from := time.Now()
	time.Sleep(long)
	polls := o.since(from)
	t.Logf("%d polls in %s", len(polls), long)
	if len(polls) > int(long/interval)+2 {
		t.Errorf("%d polls in %s", len(polls), long)
	}
	paced(t, polls, interval)
}

// paced fails if there was a poll too many, or none for longer than most.
func paced(t testing.TB, polls []time.Time, most time.Duration) {
	t.Helper()
	ahead, longest := pace(polls)
	t.Logf("%d polls are up to %s apart, and up to %s early", len(polls), longest, ahead)
	if ahead > held {
		t.Errorf("polls are %s ahead of one each %s: there was one too many", ahead, interval)
	}
	if longest > most+slack {
		t.Errorf("nobody has polled for %s, want %s at most", longest, most)
	}
}

// judged fails if any client has seen what it should not, or a snapshot beyond
// its first.
func (c *crowd) judged() {
	c.t.Helper()
	c.judgedAlike()
	if n := c.snapshots.Load(); n != int64(len(c.readers)) {
		c.t.Errorf("%d snapshots for %d clients: a resume has failed", n, len(c.readers))
	}
}

// judgedAlike is judged if clients have gone to nodes that had no history.
func (c *crowd) judgedAlike() {
	c.t.Helper()
	c.settled()
	if c.back.Load() > 0 || c.bad.Load() > 0 {
		c.t.Errorf("%d steps back, %d wrong documents", c.back.Load(), c.bad.Load())
	}
	c.t.Logf("%d clients: %d streams, %d snapshots, %d documents judged, no step back", len(c.readers), c.opened.Load(), c.snapshots.Load(), c.documents.Load())
}

func TestOnePollForThreeNodes(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	e := startNATS(t, "")
	all := nodes(t, overNATS(o), e.address(), "a", "b", "c")
	first := newCrowd(t, o, "/doc", 10, nil, all[0])
	first.settled()
	crowd := newCrowd(t, o, "/doc", 20, nil, all[1:]...)
	own, _ := owner(t, all...)
	if own != all[0] {
		t.Errorf("%s owns the document, want the first that had it, a", own.name)
	}
	steadily(t, o, 6*time.Second)
	first.judged()
	crowd.judged()
	if n := crowd.waiting.Load(); n > 0 {
		t.Errorf("%d clients of followers were told to wait", n)
	}
	if s := crowd.states(); s["live"] != 20 {
		t.Errorf("clients of followers see %v", s)
	}
}

func TestOwnerIsKilled(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	e := startNATS(t, "")
	all := nodes(t, overNATS(o), e.address(), "a", "b", "c")
	crowd := newCrowd(t, o, "/doc", 30, nil, all...)
	own, rest := owner(t, all...)
	crowd.settled()
	time.Sleep(2 * time.Second)
	crowd.send(rest...)
	crowd.settled() // what the owner alone has seen yet is lost with it
	killed := time.Now()
	own.end(syscall.SIGKILL)
	owner(t, rest...)
	time.Sleep(3 * time.Second)
	paced(t, o.since(killed.Add(-interval)), lease+interval)
	steadily(t, o, 4*time.Second)
	crowd.judged()
	own, rest = owner(t, rest...)
	crowd.send(own)
	killed = time.Now()
	rest[0].end(syscall.SIGKILL) // a follower
	crowd.settled()
	time.Sleep(2 * time.Second)
	paced(t, o.since(killed.Add(-interval)), interval)
	crowd.judged()
}

var sigterms = flag.Int("sigterms", 8, "how many owners TestOwnerIsStopped stops, one after the other")

func TestOwnerIsStopped(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	e := startNATS(t, "")
	s := overNATS(o)
	s.directives = strings.Replace(s.directives, "linger 2s", "always_on", 1)
	all := nodes(t, s, e.address(), "a", "b", "c")
	crowd := newCrowd(t, o, "/doc", 30, nil, all...)
	crowd.settled()
	from := time.Now()
	for range *sigterms {
		own, rest := owner(t, all...)
		crowd.send(rest...)
		stopped := time.Now()
		own.end(syscall.SIGTERM)
		own.begin()
		crowd.send(all...)
		eventually(t, "the next owner polls", func() bool { return len(o.since(stopped)) > 0 })
		crowd.settled()
	}
	t.Logf("%d owners were stopped", *sigterms)
	paced(t, o.since(from), interval)
	crowd.judgedAlike()
}

func TestOwnerIsFrozen(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	e := startNATS(t, "")
	all := nodes(t, overNATS(o), e.address(), "a", "b", "c")
	crowd := newCrowd(t, o, "/doc", 30, nil, all...)
	own, rest := owner(t, all...)
	crowd.settled()
	from := time.Now()
	own.signal(syscall.SIGSTOP)
	time.Sleep(8 * time.Second)
	own.signal(syscall.SIGCONT)
	time.Sleep(3 * time.Second)
	paced(t, o.since(from.Add(-interval)), lease+interval)
	if now, _ := owner(t, all...); now == own {
		t.Errorf("%s owns the document again; others were %v", own.name, rest)
	}
	crowd.judged()
}

// TestEngineFaults: whatever becomes of the engine, streams stay, and nobody
// goes back when it returns.
func TestEngineFaults(t *testing.T) {
	t.Parallel()
	for _, f := range []struct {
		name      string
		happens   func(e *engine, all []*node)
		ends      func(e *engine, all []*node)
		connected int // nodes that go on together
	}{
		{"killed", func(e *engine, _ []*node) { e.end(syscall.SIGKILL) }, func(e *engine, _ []*node) { e.start() }, 0},
		{"emptied", func(e *engine, _ []*node) { e.end(syscall.SIGKILL); e.empty() }, func(e *engine, _ []*node) { e.start() }, 0},
		{"hung", func(e *engine, _ []*node) { e.signal(syscall.SIGSTOP) }, func(e *engine, _ []*node) { e.signal(syscall.SIGCONT) }, 0},
		{"cut off at the owner", func(_ *engine, all []*node) { all[0].wire.set(true, false) }, func(_ *engine, all []*node) { all[0].wire.set(false, false) }, 2},
		{"mute at the owner", func(_ *engine, all []*node) { all[0].wire.set(false, true) }, func(_ *engine, all []*node) { all[0].wire.set(false, false) }, 2},
	} {
		t.Run(f.name, func(t *testing.T) {
			t.Parallel()
			o := newOrigin(t)
			e := startNATS(t, "")
			all := nodes(t, overNATS(o), e.address(), "a", "b", "c")
			crowd := newCrowd(t, o, "/doc", 30, nil, all...)
			own, rest := owner(t, all...)
			all = append([]*node{own}, rest...)
			crowd.settled()
			opened := crowd.opened.Load()
			from := time.Now()
			f.happens(e, all)
			for _, n := range all[:len(all)-f.connected] {
				eventually(t, n.name+" is alone", func() bool { return n.is("alone") })
			}
			t.Logf("alone after %s", time.Since(from).Round(time.Millisecond))
			if f.connected > 0 {
				owner(t, rest...)
			}
			time.Sleep(10 * time.Second)
			if _, most := pace(o.since(from.Add(-interval))); most > lease+interval+slack+time.Second {
				t.Errorf("nobody has polled for %s", most)
			}
			polls := len(o.since(time.Now().Add(-5 * interval)))
			if polls > 3*5+3 {
				t.Errorf("%d polls in five intervals of three nodes", polls)
			}
			f.ends(e, all)
			back := time.Now()
			owner(t, all...)
			t.Logf("together again after %s", time.Since(back).Round(time.Millisecond))
			steadily(t, o, 5*time.Second)
			if n := crowd.opened.Load() - opened; n > 0 {
				t.Errorf("%d streams have ended", n)
			}
			crowd.judged()
		})
	}
}

// TestUpstreamFails: all nodes say the same of it, and the next owner goes on
// with the pauses of the one before.
func TestUpstreamFails(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	e := startNATS(t, "")
	s := overNATS(o)
	s.directives = strings.Replace(s.directives, "linger 2s", "linger 2s\n\t\tmax_interval 5s", 1)
	all := nodes(t, s, e.address(), "a", "b", "c")
	crowd := newCrowd(t, o, "/doc", 9, nil, all...)
	own, rest := owner(t, all...)
	crowd.settled()
	o.set(func() { o.fails = true })
	eventually(t, "every client is told that the document is stale", func() bool { return crowd.states()["stale"] == 9 })
	failures := func(n *node) int { return n.sources()[0].Failures }
	eventually(t, "it has failed three times", func() bool { return failures(own) >= 3 })
	var want source
	for _, n := range all {
		s := n.sources()[0]
		if n == all[0] {
			want = s
		}
		if s.State != "stale" || s.Reason != want.Reason || s.Since.Sub(want.Since).Abs() > time.Second {
			t.Errorf("%s says %+v, another one %+v", n.name, s, want)
		}
	}
	from := time.Now()
	crowd.send(rest...)
	own.end(syscall.SIGTERM)
	owner(t, rest...)
	time.Sleep(4 * interval)
	// Three failures in a row have doubled the interval twice.
	if n := len(o.since(from)); n > 2 {
		t.Errorf("%d polls in %s after a change of owners, want the pauses of the one before", n, time.Since(from).Round(time.Second))
	}
	o.set(func() { o.fails = false })
	crowd.judged()
	eventually(t, "every client is told that the document is live", func() bool { return crowd.states()["live"] == 9 })
}

// TestPoke: a page's write at any node is shown at all of them at once.
func TestPoke(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	o.steady = true
	e := startNATS(t, "")
	s := site{cluster: natsBlock, directives: "\troute {\n\t\tpoll_sse /doc " + o.URL + "/doc {\n\t\t\tinterval 1m\n\t\t}\n\t\trespond 204\n\t}"}
	all := nodes(t, s, e.address(), "a", "b", "c")
	crowd := newCrowd(t, o, "/doc", 6, nil, all...)
	_, rest := owner(t, all...)
	crowd.settled()
	o.set(func() { o.n++ })
	if status := post(t, "http://"+rest[0].plain+"/doc"); status != 204 {
		t.Fatalf("POST is answered with %d", status)
	}
	crowd.settled()
	if n := len(o.since(time.Time{})); n != 2 {
		t.Errorf("%d polls, want the first and the poked one", n)
	}
}

// TestAllRestarted: what the engine has is what clients resume from, and is
// shown as stale until the first poll.
func TestAllRestarted(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	e := startNATS(t, "")
	all := nodes(t, overNATS(o), e.address(), "a", "b")
	crowd := newCrowd(t, o, "/doc", 10, nil, all...)
	owner(t, all...)
	crowd.settled()
	crowd.send(all[0])
	for _, n := range all {
		n.end(syscall.SIGKILL)
	}
	time.Sleep(2 * interval)
	all[0].begin()
	eventually(t, "clients are told that the document is stale", func() bool { return crowd.states()["stale"] > 0 })
	owner(t, all[0])
	crowd.judged()
}

func TestMetricsAndAdmin(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	e := startNATS(t, "")
	all := nodes(t, overNATS(o), e.address(), "a", "b")
	crowd := newCrowd(t, o, "/doc", 4, nil, all...)
	own, rest := owner(t, all...)
	crowd.settled()
	for n, want := range map[*node][]string{
		own:     {`"up":true`, `"nodes":2`, `"owns":1`, `"last_takeover"`},
		rest[0]: {`"up":true`, `"nodes":2`, `"follows":1`},
	} {
		for _, text := range want {
			eventually(t, n.name+" shows "+text, func() bool { return strings.Contains(n.get("/poll_sse/cluster"), text) })
		}
	}
	metrics := own.get("/metrics")
	for _, line := range []string{"caddy_poll_sse_cluster_up 1", "caddy_poll_sse_cluster_nodes 2", `caddy_poll_sse_cluster_documents{role="owns"} 1`, "caddy_poll_sse_cluster_last_takeover_timestamp_seconds 1."} {
		if !strings.Contains(metrics, line) {
			t.Errorf("the metrics do not have %s", line)
		}
	}
}
