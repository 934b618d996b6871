package cluster_test

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"reflect"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/nats-io/nats-server/v2/server"
	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pollsse/caddy-poll-sse/cluster"
	"github.com/pollsse/caddy-poll-sse/cluster/clustertest"
	"github.com/pollsse/caddy-poll-sse/cluster/nats"
)

// ports are below those that systems give to connections and to listeners that
// ask for any, so that nobody else takes one that was found free.
var ports atomic.Uint32

const firstPort, lastPort = 12000, 32000

// freePort finds a port that is free, and that no other test gets.
func freePort(t testing.TB) int {
	t.Helper()
	ports.CompareAndSwap(0, rand.Uint32N(lastPort-firstPort))
	for range lastPort - firstPort {
		port := firstPort + int(ports.Add(1)%(lastPort-firstPort))
		if l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port)); err == nil {
			l.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

// natsServer is a nats-server in this process that can be stopped and started.
type natsServer struct {
	t       testing.TB
	options server.Options
	server  *server.Server
}

func newNATS(t testing.TB, change func(*server.Options)) *natsServer {
	t.Helper()
	n := &natsServer{t: t, options: server.Options{
		Host: "127.0.0.1", Port: freePort(t), JetStream: true, StoreDir: t.TempDir(), NoSigs: true, NoLog: true,
	}}
	if change != nil {
		change(&n.options)
	}
	n.start()
	t.Cleanup(n.stop)
	return n
}

func (n *natsServer) start() {
	n.t.Helper()
	options := n.options
	s, err := server.NewServer(&options)
	if err != nil {
		n.t.Fatal(err)
	}
	s.Start()
	if !s.ReadyForConnections(30 * time.Second) {
		n.t.Fatal("nats-server is not ready")
	}
	n.server = s
}

func (n *natsServer) stop() {
	n.server.Shutdown()
	n.server.WaitForShutdown()
}

func (n *natsServer) url() string { return fmt.Sprintf("nats://127.0.0.1:%d", n.options.Port) }

// provisioned is the engine as Caddy provisions it.
func provisioned[M interface {
	caddy.Provisioner
	caddy.Validator
}](t testing.TB, m M) M {
	t.Helper()
	ctx, cancel := caddy.NewContext(caddy.Context{Context: context.Background()})
	t.Cleanup(cancel)
	if err := m.Provision(ctx); err != nil {
		t.Fatal(err)
	}
	if err := m.Validate(); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestNATSConforms(t *testing.T) {
	t.Parallel()
	clustertest.Conform(t, func(t *testing.T) clustertest.Rig {
		s := newNATS(t, nil)
		return clustertest.Rig{Dialer: provisioned(t, &nats.NATS{Servers: []string{s.url()}}), Stop: s.stop, Start: s.start}
	})
}

// TestNATSEmptied: a server without persistent data comes back empty, and the stream is
// made again.
func TestNATSEmptied(t *testing.T) {
	t.Parallel()
	s := newNATS(t, nil)
	e := dial(t, provisioned(t, &nats.NATS{Servers: []string{s.url()}}))
	awaitUp(t, e)
	topic, err := e.Join("key")
	if err != nil {
		t.Fatal(err)
	}
	defer topic.Close()
	if _, err := topic.Swap(within(t), 0, []byte("a")); err != nil {
		t.Fatal(err)
	}
	s.stop()
	// A request to a server that ends is answered by nobody.
	eventually(t, "the end of the server is noticed", func() bool { return !e.Up() })
	s.options.StoreDir = t.TempDir()
	s.start()
	awaitUp(t, e)
	if revision, record, err := topic.Owner(within(t)); err != nil || revision != 0 {
		t.Errorf("an emptied server has owner %d %q, %v", revision, record, err)
	}
	if _, err := topic.Swap(within(t), 0, []byte("b")); err != nil {
		t.Errorf("Swap on an emptied server: %v", err)
	}
}

// TestNATSJoins: a topic is not told to begin before the server knows of it.
func TestNATSJoins(t *testing.T) {
	t.Parallel()
	s := newNATS(t, nil)
	w := newWire(t, strings.TrimPrefix(s.url(), "nats://"))
	e := dial(t, provisioned(t, &nats.NATS{Servers: []string{"nats://" + w.address()}}))
	awaitUp(t, e)
	w.set(false, true)
	topic, err := e.Join("key")
	if err != nil {
		t.Fatal(err)
	}
	defer topic.Close()
	select {
	case m := <-topic.Messages():
		t.Errorf("got %+v though the server cannot have heard of the topic", m)
	case <-time.After(300 * time.Millisecond):
	}
	w.set(false, false)
	select {
	case m := <-topic.Messages():
		if !m.Resync {
			t.Errorf("got %+v, want a Resync", m)
		}
	case <-time.After(30 * time.Second):
		t.Error("no Resync")
	}
}

// TestNATSKeepsWhatAnotherOwnerPut: a node that owns a document again writes the
// parts of the next one where none of the stored one are, though another node has
// put that meanwhile.
func TestNATSKeepsWhatAnotherOwnerPut(t *testing.T) {
	t.Parallel()
	s := newNATS(t, func(o *server.Options) { o.MaxPayload, o.MaxPending = 4<<10, 1<<20 })
	module := provisioned(t, &nats.NATS{Servers: []string{s.url()}})
	var topics []cluster.Topic
	for range 2 {
		e := dial(t, module)
		awaitUp(t, e)
		topic, err := e.Join("key")
		if err != nil {
			t.Fatal(err)
		}
		defer topic.Close()
		topics = append(topics, topic)
	}
	client, err := natsgo.Connect(s.url())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	parts, err := client.SubscribeSync("poll_sse.s.key.p.*.*")
	if err != nil {
		t.Fatal(err)
	}
	if err := client.Flush(); err != nil {
		t.Fatal(err)
	}
	document := bytes.Repeat([]byte("x"), 5<<10) // two parts
	var revision uint64
	var slots []string
	for _, owner := range []int{0, 1, 0} {
		if revision, err = topics[owner].Swap(within(t), revision, []byte("record")); err != nil {
			t.Fatal(err)
		}
		if err := topics[owner].Put(within(t), revision, document); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			m, err := parts.NextMsgWithContext(within(t))
			if err != nil {
				t.Fatal(err)
			}
			slots = append(slots, strings.Split(m.Subject, ".")[4])
		}
	}
	for i := 2; i < len(slots); i++ {
		if slots[i] == slots[i-2] {
			t.Errorf("parts of one document after the other are in slots %v", slots)
			break
		}
	}
}

func dial(t testing.TB, d cluster.Dialer) cluster.Engine {
	t.Helper()
	e, err := d.Dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	return e
}

func awaitUp(t testing.TB, e cluster.Engine) {
	t.Helper()
	eventually(t, "the engine is up", e.Up)
}

// within bounds a call of an engine, which has no bound of its own.
func within(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}

// TestNATSPassword is refused with a wrong one, and in with the right one
// without a restart of the node once the server knows it.
func TestNATSPassword(t *testing.T) {
	t.Setenv("CLUSTER_TEST_PASSWORD", "correct horse")
	users := func(password string) func(*server.Options) {
		return func(o *server.Options) { o.Username, o.Password = "pollsse", password }
	}
	s := newNATS(t, users("something else"))
	e := dial(t, provisioned(t, &nats.NATS{Servers: []string{s.url()}, User: "pollsse", Password: "{env.CLUSTER_TEST_PASSWORD}"}))
	time.Sleep(1500 * time.Millisecond) // several attempts; what is looked for is that it does not give up
	if e.Up() {
		t.Error("up with a wrong password")
	}
	s.stop()
	users("correct horse")(&s.options)
	s.start()
	awaitUp(t, e)
}

// TestNATSPermissions has a node create the stream with no more than the
// documented rights; TestSecuredNATS has those for a stream that is there.
func TestNATSPermissions(t *testing.T) {
	publish, subscribe, create := rights(t)
	pages := func(rights ...string) (all []string) {
		for _, r := range rights {
			all = append(all, strings.ReplaceAll(r, "poll_sse", "pages"))
		}
		return all
	}
	t.Setenv("CLUSTER_TEST_PASSWORD", "correct horse")
	s := newNATS(t, func(o *server.Options) {
		o.Users = []*server.User{
			{Username: "node", Password: "correct horse", Permissions: &server.Permissions{
				Publish:   &server.SubjectPermission{Allow: pages(append(publish, create)...)},
				Subscribe: &server.SubjectPermission{Allow: pages(subscribe...)},
			}},
		}
	})
	e := dial(t, provisioned(t, &nats.NATS{Servers: []string{s.url()}, Stream: "pages", User: "node", Password: "{env.CLUSTER_TEST_PASSWORD}"}))
	awaitUp(t, e)
	topic, err := e.Join("key")
	if err != nil {
		t.Fatal(err)
	}
	defer topic.Close()
	owner, err := topic.Swap(within(t), 0, []byte("a"))
	if err != nil {
		t.Fatal(err)
	}
	if err := topic.Put(within(t), owner, make([]byte, 3<<20)); err != nil {
		t.Fatal(err)
	}
	if got, err := topic.Document(within(t)); err != nil || len(got) != 3<<20 {
		t.Fatalf("Document: %d bytes, %v", len(got), err)
	}
	if err := topic.Send([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	for {
		select {
		case m := <-topic.Messages():
			if string(m.Data) == "hello" {
				return
			}
		case <-within(t).Done():
			t.Fatal("no message")
		}
	}
}

// TestNATSUnfit is a stream of somebody else that does not serve: it is left
// as it is, and the engine is not up.
func TestNATSUnfit(t *testing.T) {
	t.Parallel()
	s := newNATS(t, nil)
	client, err := natsgo.Connect(s.url())
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	js, err := jetstream.New(client)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := js.CreateStream(within(t), jetstream.StreamConfig{Name: "poll_sse", Subjects: []string{"poll_sse.s.>"}, AllowDirect: true}); err != nil {
		t.Fatal(err)
	}
	e := dial(t, provisioned(t, &nats.NATS{Servers: []string{s.url()}}))
	time.Sleep(time.Second)
	if e.Up() {
		t.Error("up with a stream that keeps every message")
	}
}

func TestNATSCaddyfile(t *testing.T) {
	for text, want := range map[string]string{
		"servers":              "servers: need at least one URL",
		"servers a\nservers a": "servers is given twice",
		"token":                "token: need 1 values",
		"replicas many":        "need a number from 1 to 5",
		"nothing":              "it has servers, stream, replicas, credentials, nkey, user, token, trusted_ca and certificate",
		"stream s":             "need servers, as nats://host:4222",
	} {
		err := new(nats.NATS).UnmarshalCaddyfile(caddyfile.NewTestDispenser("nats {\n" + text + "\n}"))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want an error with %q", text, err, want)
		}
	}
	got := new(nats.NATS)
	err := got.UnmarshalCaddyfile(caddyfile.NewTestDispenser("nats {\nservers a b\nstream s\nreplicas 3\ncredentials c\nnkey n\nuser me {env.A}\ntoken {env.B}\ntrusted_ca ca\ncertificate cert key\n}"))
	want := nats.NATS{
		Servers: []string{"a", "b"}, Stream: "s", Replicas: 3, Credentials: "c", NKey: "n", User: "me", Password: "{env.A}", Token: "{env.B}",
		TrustedCA: "ca", Certificate: "cert", Key: "key",
	}
	if err != nil || !reflect.DeepEqual(*got, want) {
		t.Errorf("got %+v, %v, want %+v", *got, err, want)
	}
}

func TestNATSRefusesConfiguration(t *testing.T) {
	const page = "../../docs/cluster.md" // a file that is nothing of the kind
	for _, c := range []struct {
		name   string
		engine nats.NATS
		want   string
	}{
		{"no servers", nats.NATS{}, "need servers"},
		{"password in the URL", nats.NATS{Servers: []string{"nats://me:secret@127.0.0.1:4222"}}, "has a user in it"},
		{"another scheme", nats.NATS{Servers: []string{"http://127.0.0.1"}}, "need nats://host:4222"},
		{"stream", nats.NATS{Servers: []string{"nats://127.0.0.1"}, Stream: "a.b"}, "letters, digits"},
		{"credentials", nats.NATS{Servers: []string{"nats://127.0.0.1"}, Credentials: "/nowhere/to.creds"}, "credentials: nats: open /nowhere/to.creds"},
		{"no seed", nats.NATS{Servers: []string{"nats://127.0.0.1"}, NKey: page}, "nkey: nkeys: no nkey seed found"},
		{"no JWT", nats.NATS{Servers: []string{"nats://127.0.0.1"}, Credentials: page}, "credentials: "},
		{"two ways in", nats.NATS{Servers: []string{"nats://127.0.0.1"}, Credentials: page, Token: "{env.HOME}"}, "at most one of them"},
		{"token in the configuration", nats.NATS{Servers: []string{"nats://127.0.0.1"}, Token: "secret"}, "token: need it as {env.NAME} or {file.PATH}"},
		{"password that is not there", nats.NATS{Servers: []string{"nats://127.0.0.1"}, User: "me", Password: "{env.CLUSTER_TEST_NONE}"}, "password: {env.CLUSTER_TEST_NONE} has no value"},
		{"authorities", nats.NATS{Servers: []string{"nats://127.0.0.1"}, TrustedCA: page}, "trusted_ca: nats: failed to parse"},
		{"certificate", nats.NATS{Servers: []string{"nats://127.0.0.1"}, Certificate: page, Key: page}, "certificate: nats: "},
		{"key without certificate", nats.NATS{Servers: []string{"nats://127.0.0.1"}, Key: "k"}, "need the files of a certificate and its key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
			defer cancel()
			if err := c.engine.Provision(ctx); err != nil {
				t.Fatal(err)
			}
			err := c.engine.Validate()
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
			if err != nil && strings.Contains(err.Error(), "secret") {
				t.Errorf("the error shows the password: %v", err)
			}
		})
	}
}
