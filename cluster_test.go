package pollsse

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"go.uber.org/zap"

	"github.com/pollsse/caddy-poll-sse/cluster"
	"github.com/pollsse/caddy-poll-sse/cluster/clustertest"
	_ "github.com/pollsse/caddy-poll-sse/cluster/nodes"
	"github.com/pollsse/caddy-poll-sse/internal/feed"
	"github.com/pollsse/caddy-poll-sse/internal/member"
)

// memoryEngine is an engine in this process.
type memoryEngine struct {
	Server string `json:"server,omitempty"`
}

var memoryServer = clustertest.NewServer()

func init() { caddy.RegisterModule(new(memoryEngine)) }

func (*memoryEngine) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "poll_sse.cluster.memory", New: func() caddy.Module { return new(memoryEngine) }}
}

func (m *memoryEngine) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next()
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if d.Val() != "server" || !d.Args(&m.Server) {
			return d.ArgErr()
		}
	}
	return nil
}

func (*memoryEngine) Dial() (cluster.Engine, error) { return memoryServer.Dial() }

func TestGlobalOption(t *testing.T) {
	for _, c := range []struct{ name, option, want string }{
		{"engine alone", "poll_sse {\n\tcluster memory\n}", `{"cluster":{"engine":"memory"}}`},
		{"everything", "poll_sse {\n\tcluster memory {\n\t\tserver x\n\t}\n\tsecret {env.CLUSTER_TEST_SECRET}\n\tinclude_private\n\twhen_alone stale\n\tlease 5s\n}",
			`{"cluster":{"engine":"memory","server":"x"},"secret":"{env.CLUSTER_TEST_SECRET}","include_private":true,"when_alone":"stale","lease":5000000000}`},
		{"an engine that was not built in", "poll_sse {\n\tcluster nats\n}", "module not registered: poll_sse.cluster.nats"},
		{"unknown", "poll_sse {\n\tclustr memory\n}", "poll_sse has no global option clustr"},
		{"what the admin API shows", "poll_sse {\n\tadmin_documents\n\tadmin_addresses\n}", `{"admin_documents":true,"admin_addresses":true}`},
		{"misspelt", "poll_sse {\n\tadmin_adresses\n}", "did you mean admin_addresses?"},
		{"empty", "poll_sse {\n}", "the global option poll_sse is empty"},
		{"no cluster", "poll_sse {\n\tlease 3s\n}", "lease needs a cluster"},
		{"no cluster, but another option", "poll_sse {\n\tadmin_documents\n\tinclude_private\n}", "include_private needs a cluster"},
		{"a flag with a value", "poll_sse {\n\tadmin_documents on\n}", "wrong argument count"},
		{"twice", "poll_sse {\n\tcluster memory\n\tlease 3s\n\tlease 4s\n}", "lease is given twice"},
		{"short lease", "poll_sse {\n\tcluster memory\n\tlease 1ms\n}", "need 1s to 1m0s"},
		{"a lease that is none", "poll_sse {\n\tcluster memory\n\tlease soon\n}", "lease"},
		{"when_alone", "poll_sse {\n\tcluster memory\n\twhen_alone wait\n}", "when_alone wait: need poll or stale"},
		{"no value", "poll_sse {\n\tcluster memory\n\tsecret\n}", "secret: need a value"},
		{"too many values", "poll_sse {\n\tcluster memory\n\tinclude_private yes\n}", "wrong argument count"},
	} {
		t.Run(c.name, func(t *testing.T) {
			adapted, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte("{\n"+c.option+"\n}\n:80 {\n\trespond ok\n}\n"), nil)
			if !strings.HasPrefix(c.want, "{") {
				if err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), "Caddyfile:") {
					t.Errorf("got %v, want an error with file, line and %q", err, c.want)
				}
				return
			}
			var config struct {
				Apps map[string]json.RawMessage `json:"apps"`
			}
			if err != nil || json.Unmarshal(adapted, &config) != nil || string(config.Apps["poll_sse"]) != c.want {
				t.Errorf("got %s, %v; want %s", config.Apps["poll_sse"], err, c.want)
			}
		})
	}
}

func TestAppRefuses(t *testing.T) {
	t.Setenv("CLUSTER_TEST_SECRET", "long enough for a secret")
	t.Setenv("CLUSTER_TEST_SHORT", "short")
	for _, c := range []struct{ name, app, want string }{
		{"nothing", `{}`, ""},
		{"a cluster", `{"cluster":{"engine":"memory"},"secret":"{env.CLUSTER_TEST_SECRET}","include_private":true}`, ""},
		{"private without a secret", `{"cluster":{"engine":"memory"},"include_private":true}`, "include_private: need a secret"},
		{"a secret in the configuration", `{"cluster":{"engine":"memory"},"secret":"long enough for a secret"}`, "need the secret as {env.NAME}"},
		{"a short secret", `{"cluster":{"engine":"memory"},"secret":"{env.CLUSTER_TEST_SHORT}"}`, "shorter than 16 bytes"},
		{"no cluster", `{"when_alone":"stale"}`, "need a cluster"},
		{"when_alone", `{"cluster":{"engine":"memory"},"when_alone":"wait"}`, "when_alone wait"},
		{"lease", `{"cluster":{"engine":"memory"},"lease":"1ms"}`, "lease 1ms: need 1s to 1m0s"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var config *caddy.Config
			if err := json.Unmarshal([]byte(`{"admin":{"disabled":true},"apps":{"poll_sse":`+c.app+`}}`), &config); err != nil {
				t.Fatal(err)
			}
			err := caddy.Validate(config)
			if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
				t.Errorf("got %v, want %q", err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), "long enough") {
				t.Errorf("the error shows the secret: %v", err)
			}
		})
	}
}

// TestCredentialsStay: each node polls for itself what may need credentials of
// the server.
func TestCredentialsStay(t *testing.T) {
	for options, want := range map[string]bool{
		"http://a/doc":                                                 false,
		"http://a/doc?page=1":                                          false,
		"http://{env.UPSTREAM}/doc":                                    false,
		"http://a/doc?api_key=1":                                       true,
		"http://a/doc?x={env.KEY}":                                     true,
		"http://a/{env.KEY}/doc":                                       true,
		"http://a/doc {\n\tbasic_auth a b\n}":                          true,
		"http://a/doc {\n\tbearer_file /x\n}":                          true,
		"http://a/doc {\n\theader_up X-Key 1\n}":                       true,
		"http://a/doc {\n\theader_up Accept application/json\n}":       false,
		"http://a/doc {\n\theader_up X-Tenant {env.TENANT}\n}":         true,
		"http://a/doc {\n\toauth2 https://a/token id {env.KEY}\n}":     true,
		"http://a/doc {\n\tmethod POST\n\tbody {\"q\":\"{env.Q}\"}\n}": true,
	} {
		h := new(Handler)
		if err := h.UnmarshalCaddyfile(caddyfile.NewTestDispenser("poll_sse " + options)); err != nil {
			t.Errorf("%s: %v", options, err)
			continue
		}
		if got := h.hasCredentials(); got != want {
			t.Errorf("%s: has credentials: %t, want %t", options, got, want)
		}
	}
}

// TestClusterID: a configuration of another cluster has other sources.
func TestClusterID(t *testing.T) {
	base := &App{WhenAlone: alonePolls, Lease: caddy.Duration(3 * time.Second)}
	id := base.cluster(`{"server":"a"}`, nil, nil, nil).id
	if id != base.cluster(`{"server":"a"}`, nil, nil, nil).id {
		t.Error("the same configuration has two ids")
	}
	other := *base
	other.Lease++
	for what, c := range map[string]*clusterConfig{
		"engine": base.cluster(`{"server":"b"}`, nil, nil, nil),
		"secret": base.cluster(`{"server":"a"}`, nil, []byte("x"), nil),
		"lease":  other.cluster(`{"server":"a"}`, nil, nil, nil),
	} {
		if c.id == id {
			t.Errorf("another %s has the same id", what)
		}
	}
}

// TestTakeOver: a new owner goes on with the backoff and the Retry-After of
// the one before, and makes nothing of what no owner says.
func TestTakeOver(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		resume string
		poked  time.Duration // until the poll that a poke asks for
		failed time.Duration // at most until the next poll, if that fails
	}{
		"after a good poll":    {`{"interval":2000000000}`, 0, 10 * time.Second},
		"after failures":       {`{"failures":3}`, 0, time.Minute},
		"after a Retry-After":  {`{"failures":1,"refused":true}`, 30 * time.Second, 20 * time.Second},
		"of no owner":          {`{"failures":-9000000000000000000,"interval":-9000000000000000000}`, 0, 10 * time.Second},
		"of no owner, forever": {`{"failures":9000000000000000000,"interval":9000000000000000000}`, 0, time.Minute},
		"of nothing":           {`null`, 0, 10 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u := &fakeUpstream{script: func(int, *http.Request) *http.Response { return reply(500, "") }}
				s, _ := startSource(t, &Handler{}, u)
				s.close()
				begun := time.Now()
				p := s.poller
				p.turn, p.from = new(pollTurn), member.Handover{Next: begun.Add(30 * time.Second), Resume: json.RawMessage(c.resume)}
				pace := pace{schedule: s.claim.schedule}
				poke := make(chan struct{}, 1)
				poke <- struct{}{}
				if !p.takeOver(t.Context(), s.log, &pace, poke) {
					t.Fatal("it has ended")
				}
				if got := time.Since(begun); got != c.poked {
					t.Errorf("a poke is followed by a poll after %s, want %s", got, c.poked)
				}
				if d := pace.current; d < s.claim.schedule.interval || d > max(s.claim.schedule.interval, s.claim.schedule.quiet) {
					t.Errorf("the interval becomes %s", d)
				}
				now := time.Now()
				if next := pace.after(outcome{begun: now, ended: now, failed: true}).Sub(now); next < s.claim.schedule.interval || next > c.failed {
					t.Errorf("after one more failure it polls after %s, want %s to %s", next, s.claim.schedule.interval, c.failed)
				}
			})
		})
	}
}

// onNode starts a source on a node of its own, which has that name.
func onNode(t *testing.T, server *clustertest.Server, name string, h *Handler, u *fakeUpstream) *source {
	t.Helper()
	s, _ := startSourceOf(t, newConfiguration(t, server, name), h, u)
	return s
}

// newConfiguration is the next configuration of a node.
func newConfiguration(t *testing.T, server *clustertest.Server, node string) *generation {
	g := testEngine(t).newGeneration()
	g.cluster = (&App{WhenAlone: alonePolls, Lease: caddy.Duration(3 * time.Second)}).cluster(node, server, nil, slog.New(slog.DiscardHandler))
	return g
}

// TestStaleAfterOnEveryNode: when stale_after is over, a document is stale on
// every node, also during a poll and between two.
func TestStaleAfterOnEveryNode(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]func() *http.Response{
		"between polls": func() *http.Response { return reply(503, "", "Retry-After", "3600") },
		"during one":    func() *http.Response { time.Sleep(10 * time.Minute); return nil },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				server := clustertest.NewServer()
				u := &fakeUpstream{script: func(n int, _ *http.Request) *http.Response {
					if n > 20 {
						return answer()
					}
					return reply(200, "1")
				}}
				var all []*source
				for _, node := range []string{"first", "second"} {
					h := &Handler{Upstream: "http://host.test/doc", Schedule: Schedule{Interval: caddy.Duration(time.Second), StaleAfter: caddy.Duration(10 * time.Second), Timeout: caddy.Duration(5 * time.Minute)}}
					all = append(all, onNode(t, server, node, h, u))
					wait(5 * time.Second)
				}
				wait(time.Minute)
				for _, s := range all {
					if got := s.log.View().Status; got.State != feed.Stale {
						t.Errorf("the node that %s the document shows it as %s %s", s.role(), got.State, got.Reason)
					}
				}
				for _, s := range all {
					s.close()
				}
			})
		})
	}
}

// TestPausedBeforeTheFirstPoll: all nodes show that a document is paused whose
// new owner has not polled it yet.
func TestPausedBeforeTheFirstPoll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server, u := clustertest.NewServer(), &fakeUpstream{body: `1`}
		var all []*source
		for _, node := range []string{"first", "second", "third"} {
			all = append(all, onNode(t, server, node, &Handler{Upstream: "http://host.test/doc", Schedule: Schedule{Interval: caddy.Duration(10 * time.Minute)}}, u))
			wait(5 * time.Second)
		}
		all[0].close()
		wait(5 * time.Second)
		for _, s := range all[1:] {
			if s.role() == member.Owns {
				s.setPaused(true)
			}
		}
		wait(time.Hour)
		for _, s := range all[1:] {
			if got := s.log.View().Status; got.State != feed.Stale || got.Reason != reasonPaused {
				t.Errorf("the node that %s the document shows it as %s %s", s.role(), got.State, got.Reason)
			}
		}
		for _, s := range all[1:] {
			s.close()
		}
	})
}

// hold has a configuration hold a document, as always_on does.
func hold(t *testing.T, g *generation, h *Handler, u *fakeUpstream) *source {
	t.Helper()
	req := expanded(t, g, h)
	h.claim.environment = environment{u, zap.NewNop(), g.number}
	return testEngine(t).pool.hold(req.Key(h.readingKey), req.Key(nil), h.claim, func(c *counters) *source { return newSource(req, h.Reading, h.claim, c) }).source
}

// TestSuccessorThatFollows: a source that takes the place of another one, and
// follows a node that polls already what it is to show, shows it after that one's
// next poll, though it brings nothing new.
func TestSuccessorThatFollows(t *testing.T) {
	t.Parallel()
	for _, apart := range []time.Duration{300 * time.Millisecond, 700 * time.Millisecond} { // the polls of the two documents
		synctest.Test(t, func(t *testing.T) {
			server, u := clustertest.NewServer(), &fakeUpstream{body: `{"n":1,"x":1}`}
			handler := func(omit ...string) *Handler {
				return &Handler{Name: "a", Upstream: "http://host.test/doc", Reading: Reading{Omit: omit}, Schedule: Schedule{Interval: caddy.Duration(time.Second)}}
			}
			other := onNode(t, server, "first", handler("/x"), u)
			wait(5*time.Second + apart)
			hold(t, newConfiguration(t, server, "second"), handler(), u)
			wait(5 * time.Second)
			after := hold(t, newConfiguration(t, server, "second"), handler("/x"), u)
			wait(5 * time.Second)
			if v := after.log.View(); v.Document == nil || string(v.Document.Text) != `{"n":1}` {
				t.Errorf("%s apart: a node that %s the document shows %+v, %s", apart, after.role(), v.Document, v.Status.State)
			}
			other.close()
			testEngine(t).pool.closeAll()
		})
	}
}

// TestChangeWhileYielding: a source that follows shows a change that has come
// while it yielded to another one, if that does not take its place.
func TestChangeWhileYielding(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server, u := clustertest.NewServer(), &fakeUpstream{body: `1`}
		var all []*source
		for _, node := range []string{"first", "second"} {
			all = append(all, onNode(t, server, node, &Handler{Upstream: "http://host.test/doc", Schedule: Schedule{Interval: caddy.Duration(time.Second)}}, u))
			wait(5 * time.Second)
		}
		all[1].yields.Add(1)
		u.set(`2`)
		wait(1500 * time.Millisecond)
		if got := all[1].log.View().Document.Text; string(got) != "1" {
			t.Errorf("while it yields, a source shows %s", got)
		}
		all[1].yields.Add(-1)
		wait(10 * time.Second)
		if got := all[1].log.View(); string(got.Document.Text) != "2" || got.Status.State != feed.Live {
			t.Errorf("later it shows %s, %s", got.Document.Text, got.Status.State)
		}
		for _, s := range all {
			s.close()
		}
	})
}

// polling is a document of another node.
type polling struct{}

func (polling) Poll(ctx context.Context, _ member.Handover, _ *member.Turn) { <-ctx.Done() }
func (polling) Show(member.State, []byte) error                             { return nil }
func (polling) Document() (id string, text []byte)                          { return "", nil }
func (polling) MaxBody() int64                                              { return 1 }

// TestNodesShareHostPolls: a node takes as many of a host's polls as it has of
// the documents there.
func TestNodesShareHostPolls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := clustertest.NewServer()
		connection, _ := server.Dial()
		other, err := member.NewNode(connection, member.Settings{Lease: 3 * time.Second}, slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		ctx, stop := context.WithCancel(t.Context())
		var running sync.WaitGroup
		for i := range 12 {
			m := other.Member([]byte{byte(i)}, "http://host.test", polling{}, nil)
			running.Go(func() { m.Run(ctx) })
		}
		wait(5 * time.Second)
		g := testEngine(t).newGeneration()
		g.cluster = (&App{WhenAlone: alonePolls, Lease: caddy.Duration(3 * time.Second)}).cluster("memory", server, nil, slog.New(slog.DiscardHandler))
		most := func(host string) int {
			u := &fakeUpstream{script: func(int, *http.Request) *http.Response {
				time.Sleep(time.Second)
				return reply(200, "1")
			}}
			var all []*source
			for i := range 6 {
				s, _ := startSourceOf(t, g, &Handler{Upstream: fmt.Sprintf("%s/%d", host, i), Schedule: Schedule{HostPolls: 6, Interval: caddy.Duration(20 * time.Second)}}, u)
				all = append(all, s)
			}
			wait(8 * time.Second) // polls begin before the node has heard anything
			u.mu.Lock()
			u.most = 0
			u.mu.Unlock()
			wait(25 * time.Second)
			for _, s := range all {
				if s.role() != member.Owns || s.log.View().Status.State != feed.Live {
					t.Errorf("the node %s a document, which is %s", s.role(), s.log.View().Status.State)
				}
				s.pollNow(t.Context())
				s.close()
			}
			u.mu.Lock()
			defer u.mu.Unlock()
			return u.most
		}
		if got := most("http://Host.test"); got != 2 {
			t.Errorf("a node with 6 of 18 documents has %d of 6 polls, want 2", got)
		}
		if got := most("http://another.test"); got < 3 {
			t.Errorf("%d polls of a host that only one node polls, want more", got)
		}
		stop()
		running.Wait()
		other.Close()
	})
}
