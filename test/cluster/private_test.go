package cluster_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
)

// record has all that goes over the nodes' wires kept.
func record(all ...*node) {
	for _, n := range all {
		n.wire.mu.Lock()
		n.wire.keeps = true
		n.wire.mu.Unlock()
	}
}

// recorded is what went over the wires.
func recorded(all ...*node) []byte {
	var text []byte
	for _, n := range all {
		n.wire.mu.Lock()
		text = append(text, n.wire.bytes.Bytes()...)
		n.wire.mu.Unlock()
	}
	return text
}

// TestPrivate: what is one client's does not leave its node, unless it is
// encrypted; and once it is denied it is shown nowhere.
func TestPrivate(t *testing.T) {
	t.Parallel()
	const login, secret = "Bearer let-me-in", "only for whom it is for"
	private := func(o *origin, more string) site {
		return site{
			cluster: natsBlock + more, env: []string{"CLUSTER_SECRET=a secret of the whole cluster"},
			directives: "\tpoll_sse /doc " + o.URL + "/doc {\n\t\tinterval 1s\n\t\tlinger 2s\n\t\tretry 200ms\n\t\tforward Authorization\n\t}",
		}
	}
	header := http.Header{"Authorization": {login}}

	t.Run("alone", func(t *testing.T) {
		t.Parallel()
		o := newOrigin(t)
		o.secret = secret
		e := startNATS(t, "")
		all := nodes(t, private(o, ""), e.address(), "a", "b")
		record(all...)
		crowds := []*crowd{newCrowd(t, o, "/doc", 3, header, all[0]), newCrowd(t, o, "/doc", 3, header, all[1])}
		for _, c := range crowds {
			c.settled()
		}
		from := time.Now()
		time.Sleep(5 * time.Second)
		if n := len(o.since(from)); n < 8 || n > 12 {
			t.Errorf("%d polls in five intervals of two nodes that each poll for themselves", n)
		}
		text := recorded(all...)
		for _, clear := range []string{"let-me-in", secret, "item 1", "stays the same"} {
			if bytes.Contains(text, []byte(clear)) {
				t.Errorf("the engine was sent %q", clear)
			}
		}
		if len(text) == 0 {
			t.Error("nothing was recorded")
		}
	})

	t.Run("encrypted", func(t *testing.T) {
		t.Parallel()
		o := newOrigin(t)
		o.secret = secret
		e := startNATS(t, "")
		all := nodes(t, private(o, "\n\tsecret {env.CLUSTER_SECRET}\n\tinclude_private"), e.address(), "a", "b")
		record(all...)
		first := newCrowd(t, o, "/doc", 3, header, all[0])
		first.settled()
		second := newCrowd(t, o, "/doc", 3, header, all[1])
		second.settled()
		other := newCrowd(t, o, "/doc", 1, http.Header{"Authorization": {"Bearer another"}}, all[1])
		other.settled()
		eventually(t, "one node polls each document", func() bool { return len(all[0].roles()) == 1 && len(all[1].roles()) == 2 })
		other.stop()
		time.Sleep(4 * time.Second) // its document lingers
		steadily(t, o, 5*time.Second)
		first.judged()
		second.judged()
		text := recorded(all...)
		for _, clear := range []string{"let-me-in", "another", secret, "item 1", "stays the same", `"n":`, "etag", `"kind"`, `"validated"`, "Bearer"} {
			if bytes.Contains(text, []byte(clear)) {
				t.Errorf("the engine was sent %q", clear)
			}
		}
		o.set(func() { o.denies = true })
		eventually(t, "both nodes deny it", func() bool {
			for _, c := range []*crowd{first, second} {
				if c.streams.Load() > 0 || c.denied.Load() == 0 {
					return false
				}
			}
			return true
		})
		for name, c := range map[string]*crowd{"a": first, "b": second} {
			if s := c.states(); s["denied"] != 3 {
				t.Errorf("clients at %s were told %v, want denied", name, s)
			}
		}
		o.set(func() { o.denies = false })
		first.settled()
		second.settled()
	})
}

// TestThreeServers: a cluster of servers that loses its leader stores nothing
// for seconds, and nobody notices.
func TestThreeServers(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	ports := []int{freePort(t), freePort(t), freePort(t)}
	routes := []int{freePort(t), freePort(t), freePort(t)}
	var servers []*engine
	var urls []string
	config := block(t, "hocon")
	for i, r := range routes {
		config = replaced(t, config, fmt.Sprintf("nats://n%d:6222", i+1), fmt.Sprintf("nats://127.0.0.1:%d", r))
	}
	for i, port := range ports {
		e := newEngine(t, port)
		written(t, filepath.Join(e.dir, "nats.conf"), replaced(t, config, "server_name: n1", fmt.Sprintf("server_name: n%d", i),
			"0.0.0.0:4222", e.address(), "0.0.0.0:6222", fmt.Sprintf("127.0.0.1:%d", routes[i]), "/var/lib/nats", filepath.Join(e.dir, "store")))
		e.start()
		servers = append(servers, e)
		urls = append(urls, "nats://"+e.address())
	}
	s := overNATS(o)
	s.cluster = "\tcluster nats {\n\t\tservers " + strings.Join(urls, " ") + "\n\t\treplicas 3\n\t}\n\tlease 10s"
	all := nodes(t, s, servers[0].address(), "a", "b", "c")
	crowd := newCrowd(t, o, "/doc", 30, nil, all...)
	owner(t, all...)
	crowd.settled()

	client, err := natsgo.Connect(strings.Join(urls, ","))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	js, err := jetstream.New(client)
	if err != nil {
		t.Fatal(err)
	}
	stream, err := js.Stream(within(t), "poll_sse")
	if err != nil {
		t.Fatal(err)
	}
	info, err := stream.Info(within(t))
	if err != nil || info.Cluster == nil || len(info.Cluster.Replicas) != 2 {
		t.Fatalf("the stream is not stored three times: %+v, %v", info, err)
	}
	var leader *engine
	for i, server := range servers {
		if info.Cluster.Leader == fmt.Sprintf("n%d", i) {
			leader = server
		}
	}
	if leader == nil {
		t.Fatalf("no leader: %+v", info.Cluster)
	}
	var alone atomic.Bool
	watch, stop := context.WithCancel(t.Context())
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		for watch.Err() == nil {
			for _, n := range all {
				if n.is("alone") {
					alone.Store(true)
				}
			}
			time.Sleep(100 * time.Millisecond)
		}
	}()
	from := time.Now()
	leader.end(syscall.SIGKILL)
	time.Sleep(12 * interval)
	stop()
	<-watched
	if alone.Load() {
		t.Error("a node was alone")
	}
	paced(t, o.since(from.Add(-interval)), interval)
	crowd.judged()
}

// TestRollingChange: one node after the other gets another configuration.
func TestRollingChange(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	e := startNATS(t, "")
	s := overNATS(o)
	s.directives = strings.Replace(s.directives, "linger 2s", "linger 2s\n\t\tstream_close_delay 1s", 1)
	all := nodes(t, s, e.address(), "a", "b", "c")
	crowd := newCrowd(t, o, "/doc", 30, nil, all...)
	owner(t, all...)
	crowd.settled()

	// The schedule decides no document: all nodes go on sharing it.
	from := time.Now()
	history := s
	history.directives = strings.Replace(s.directives, "retry 200ms", "retry 200ms\n\t\thistory 100", 1)
	for _, n := range all {
		n.reload(history)
		time.Sleep(interval)
	}
	owner(t, all...)
	crowd.settled()
	paced(t, o.since(from), interval)
	if n := crowd.snapshots.Load(); n != 30 {
		t.Errorf("%d snapshots for 30 clients", n)
	}

	// What is left out does: there is a poller for each kind of node.
	crowd.apart.Store(2)
	from = time.Now()
	other := history
	other.directives = strings.Replace(history.directives, "retry 200ms", "retry 200ms\n\t\tomit /nothing", 1)
	for _, n := range all {
		n.reload(other)
		time.Sleep(3 * interval)
	}
	time.Sleep(3 * interval)
	long := time.Since(from)
	if n := len(o.since(from)); n > 2*int(long/interval)+4 {
		t.Errorf("%d polls in %s of two kinds of node", n, long)
	}
	owner(t, all...)
	steadily(t, o, 4*time.Second)
	crowd.judgedAlike()
	if n := crowd.snapshots.Load(); n > 60+30 {
		t.Errorf("%d snapshots for 30 clients that have moved twice at most", n)
	}
}

// TestEngineFull: what cannot be stored reaches the others all the same.
func TestEngineFull(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	e := startNATS(t, "")
	e.end(syscall.SIGTERM)
	e.limit(t, "max_file_store: 2MB")
	e.start()
	all := nodes(t, overNATS(o), e.address(), "a", "b", "c")
	crowd := newCrowd(t, o, "/doc", 30, nil, all...)
	own, rest := owner(t, all...)
	crowd.settled()
	client, err := natsgo.Connect("nats://" + e.address())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	js, err := jetstream.New(client)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(within(t), jetstream.StreamConfig{Name: "fill", Subjects: []string{"fill"}}); err != nil {
		t.Fatal(err)
	}
	full := false
	for size := 100 << 10; size > 10; size /= 2 {
		for range 100 {
			if _, err := js.Publish(within(t), "fill", make([]byte, size)); err != nil {
				full = true
				break
			}
		}
	}
	if !full {
		t.Fatal("the engine is not full")
	}
	steadily(t, o, 5*time.Second)
	crowd.judged()
	// Nobody can become the owner.
	crowd.send(rest...)
	crowd.settled()
	killed := time.Now()
	own.end(syscall.SIGKILL)
	for _, n := range rest {
		eventually(t, n.name+" is alone", func() bool { return n.is("alone") })
	}
	if _, most := pace(o.since(killed.Add(-interval))); most > lease+2*interval+slack {
		t.Errorf("nobody has polled for %s", most)
	}
	crowd.settled()
	if err := js.DeleteStream(within(t), "fill"); err != nil {
		t.Fatal(err)
	}
	owner(t, rest...)
	steadily(t, o, 4*time.Second)
	crowd.judged()
}

// TestWrongPassword: nodes that the engine refuses poll for themselves.
func TestWrongPassword(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	e := startNATS(t, "authorization { user: node, password: right }")
	s := overNATS(o)
	s.env = []string{"NATS_PASSWORD=wrong"}
	s.cluster = strings.Replace(s.cluster, "\n\t}", "\n\t\tuser node {env.NATS_PASSWORD}\n\t}", 1)
	all := nodes(t, s, e.address(), "a", "b")
	crowd := newCrowd(t, o, "/doc", 10, nil, all...)
	for _, n := range all {
		eventually(t, n.name+" is alone", func() bool { return n.is("alone") })
		if !strings.Contains(n.get("/poll_sse/cluster"), `"up":false`) {
			t.Errorf("%s says that the engine is up", n.name)
		}
		if strings.Contains(n.text(), "wrong") {
			t.Errorf("%s has logged the password", n.name)
		}
	}
	eventually(t, "every client has a document", func() bool { return crowd.documents.Load() >= 10 })
}

// TestOverRedis: the same nodes, with Redis between them.
func TestOverRedis(t *testing.T) {
	t.Parallel()
	o := newOrigin(t)
	r := newRedis(t)
	s := overNATS(o)
	s.cluster = "\tcluster redis {\n\t\tserver ENGINE\n\t}"
	all := nodes(t, s, r.address(), "a", "b", "c")
	crowd := newCrowd(t, o, "/doc", 30, nil, all...)
	owner(t, all...)
	crowd.settled()
	steadily(t, o, 5*time.Second)
	r.stop()
	for _, n := range all {
		eventually(t, n.name+" is alone", func() bool { return n.is("alone") })
	}
	time.Sleep(3 * time.Second)
	r.start()
	owner(t, all...)
	steadily(t, o, 4*time.Second)
	crowd.judged()
	own, rest := owner(t, all...)
	crowd.send(rest...)
	crowd.settled()
	killed := time.Now()
	own.end(syscall.SIGKILL)
	owner(t, rest...)
	paced(t, o.since(killed.Add(-interval)), lease+interval)
	crowd.judged()
}

// TestValidateConnectsNowhere: caddy validate leaves the engine alone.
func TestValidateConnectsNowhere(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var connections atomic.Int32
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			c.Close()
		}
	}()
	for _, block := range []string{natsBlock, "\tcluster redis {\n\t\tserver ENGINE\n\t}"} {
		n := &node{name: "a", admin: "127.0.0.1:0", plain: "127.0.0.1:0"}
		n.process = process{t: t, env: []string{asCaddy + "=1"}, dir: t.TempDir()}
		n.configure(site{cluster: block, directives: "\tpoll_sse /doc http://" + l.Addr().String() + "/doc {\n\t\talways_on\n\t}"}, l.Addr().String())
		n.args = []string{"validate", "--config", n.dir + "/Caddyfile", "--adapter", "caddyfile"}
		n.start()
		if err := n.cmd.Wait(); err != nil {
			t.Errorf("validate: %v\n%s", err, n.text())
		}
	}
	if n := connections.Load(); n > 0 {
		t.Errorf("caddy validate has made %d connections", n)
	}
}

// TestCrowd is 3,000 clients, through one fault after the other; with the race
// detector a tenth of them.
func TestCrowd(t *testing.T) {
	size := 3000
	if raced {
		size /= 10
	}
	o := newOrigin(t)
	e := startNATS(t, "")
	s := overNATS(o)
	s.directives = strings.Replace(s.directives, "linger 2s", "linger 1m", 1)
	all := nodes(t, s, e.address(), "a", "b", "c")
	crowd := newCrowd(t, o, "/doc", size, nil, all...)
	owner(t, all...)
	crowd.settled()

	own, rest := owner(t, all...)
	crowd.send(rest...)
	crowd.settled()
	own.end(syscall.SIGKILL)
	owner(t, rest...)
	crowd.judged()
	t.Log("killed: no snapshot")

	own.begin()
	warm := newCrowd(t, o, "/doc", 1, nil, own) // so that it has the history, too
	warm.settled()
	crowd.send(all...)
	own, rest = owner(t, all...)
	crowd.send(rest...)
	own.end(syscall.SIGTERM)
	owner(t, rest...)
	crowd.judged()
	t.Log("stopped: no snapshot")

	own, _ = owner(t, rest...)
	own.signal(syscall.SIGSTOP)
	time.Sleep(2 * lease)
	own.signal(syscall.SIGCONT)
	owner(t, rest...)
	crowd.judged()
	t.Log("frozen: no snapshot")

	own, _ = owner(t, rest...)
	own.wire.set(true, false)
	eventually(t, "it is alone", func() bool { return own.is("alone") })
	time.Sleep(2 * interval)
	own.wire.set(false, false)
	owner(t, rest...)
	crowd.judged()
	t.Log("cut off: no snapshot")

	e.end(syscall.SIGKILL)
	time.Sleep(2 * lease)
	e.start()
	owner(t, rest...)
	crowd.judged()
	t.Log("engine restarted: no snapshot")
	steadily(t, o, 5*time.Second)
	crowd.judged()
}
