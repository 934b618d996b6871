package cluster_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"

	"github.com/pollsse/caddy-poll-sse/cluster/clustertest"
	"github.com/pollsse/caddy-poll-sse/cluster/redis"
)

// redisServer is a process of redis-server that can be stopped and started.
type redisServer struct {
	t      testing.TB
	port   int
	config string   // its file
	args   []string // besides it
	cmd    *exec.Cmd
}

// newRedis starts one with these lines in its configuration. With a certificate
// it speaks TLS only.
func newRedis(t testing.TB, lines ...string) *redisServer {
	t.Helper()
	return runRedis(t, nil, append(lines, "appendonly yes", `save ""`)...)
}

func runRedis(t testing.TB, args []string, lines ...string) *redisServer {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Fatal("needs redis-server; on Debian: apt-get install redis-server")
	}
	dir := t.TempDir()
	r := &redisServer{t: t, port: freePort(t), config: filepath.Join(dir, "redis.conf"), args: args}
	port := "port " + strconv.Itoa(r.port)
	if slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, "tls-cert-file") }) {
		port = "port 0\ntls-" + port
	}
	written(t, r.config, strings.Join(append(lines, port, "bind 127.0.0.1", "dir "+dir), "\n"))
	r.start()
	t.Cleanup(r.stop)
	return r
}

func (r *redisServer) start() {
	r.t.Helper()
	r.cmd = exec.Command("redis-server", append([]string{r.config}, r.args...)...)
	if err := r.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
}

func (r *redisServer) stop() {
	if r.cmd == nil {
		return
	}
	_ = r.cmd.Process.Signal(syscall.SIGTERM)
	_ = r.cmd.Wait()
	r.cmd = nil
}

// replace changes the configuration that it starts with.
func (r *redisServer) replace(old, by string) {
	r.t.Helper()
	text, err := os.ReadFile(r.config)
	if err != nil {
		r.t.Fatal(err)
	}
	written(r.t, r.config, replaced(r.t, string(text), old, by))
}

func (r *redisServer) address() string { return "127.0.0.1:" + strconv.Itoa(r.port) }

func TestRedisConforms(t *testing.T) {
	t.Parallel()
	clustertest.Conform(t, func(t *testing.T) clustertest.Rig {
		s := newRedis(t)
		return clustertest.Rig{Dialer: provisioned(t, &redis.Redis{Server: s.address()}), Stop: s.stop, Start: s.start}
	})
}

// TestRedisUser is a node with no more than the documented rights.
func TestRedisUser(t *testing.T) {
	t.Setenv("CLUSTER_TEST_PASSWORD", "correcthorse")
	acl := "user node on >correcthorse " + strings.ReplaceAll(redisRights(t), "poll_sse:", "pages:")
	s := newRedis(t, acl, "user default off")
	t.Setenv("CLUSTER_TEST_WRONG", "wrong")
	wrong := dial(t, provisioned(t, &redis.Redis{Server: s.address(), Prefix: "pages", User: "node", Password: "{env.CLUSTER_TEST_WRONG}"}))
	e := dial(t, provisioned(t, &redis.Redis{Server: s.address(), Prefix: "pages", Database: 3, User: "node", Password: "{env.CLUSTER_TEST_PASSWORD}"}))
	awaitUp(t, e)
	if wrong.Up() {
		t.Error("up with a wrong password")
	}
	topic, err := e.Join("key")
	if err != nil {
		t.Fatal(err)
	}
	defer topic.Close()
	owner, err := topic.Swap(within(t), 0, []byte("a"))
	if err != nil {
		t.Fatal(err)
	}
	if err := topic.Put(within(t), owner, []byte("document")); err != nil {
		t.Fatal(err)
	}
	if got, err := topic.Document(within(t)); err != nil || string(got) != "document" {
		t.Fatalf("Document: %q, %v", got, err)
	}
	if m := <-topic.Messages(); !m.Resync {
		t.Errorf("first message: %q, want a Resync", m.Data)
	}
	if err := topic.Send([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	select {
	case m := <-topic.Messages():
		if string(m.Data) != "hello" {
			t.Errorf("got %q", m.Data)
		}
	case <-time.After(30 * time.Second):
		t.Error("no message")
	}
}

// TestRedisHangs notices a server that answers nothing, though its connections
// stay.
func TestRedisHangs(t *testing.T) {
	t.Parallel()
	s := newRedis(t)
	e := dial(t, provisioned(t, &redis.Redis{Server: s.address()}))
	awaitUp(t, e)
	if err := s.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(30 * time.Second); e.Up(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("still up after 30s")
		}
	}
	if err := s.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	awaitUp(t, e)
}

func TestRedisCaddyfile(t *testing.T) {
	for text, want := range map[string]string{
		"server a:1 b:2":                    "need one server, as host:6379; Redis Sentinel and Redis Cluster are not supported",
		"servers a:1 b:2":                   "Redis Cluster are not supported",
		"sentinels a:1 b:2":                 "Redis Sentinel and",
		"user me {env.A}\npassword {env.A}": "password is for the user that has no name",
		"user me":                           "user: need 2 values",
		"nothing":                           "it has server, database, prefix, user, password, tls, trusted_ca and certificate",
		"tls":                               "need server, as host:6379",
	} {
		err := new(redis.Redis).UnmarshalCaddyfile(caddyfile.NewTestDispenser("redis {\n" + text + "\n}"))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want an error with %q", text, err, want)
		}
	}
	got := new(redis.Redis)
	err := got.UnmarshalCaddyfile(caddyfile.NewTestDispenser("redis {\nserver a:1\ndatabase 2\nprefix p\nuser me {env.A}\ntls\ntrusted_ca ca\ncertificate cert key\n}"))
	want := redis.Redis{Server: "a:1", Database: 2, Prefix: "p", User: "me", Password: "{env.A}", TLS: true, TrustedCA: "ca", Certificate: "cert", Key: "key"}
	if err != nil || *got != want {
		t.Errorf("got %+v, %v, want %+v", *got, err, want)
	}
}

func TestRedisRefusesConfiguration(t *testing.T) {
	for _, c := range []struct {
		name   string
		engine redis.Redis
		want   string
	}{
		{"no server", redis.Redis{}, "need host:port"},
		{"no port", redis.Redis{Server: "localhost"}, "need host:port"},
		{"prefix", redis.Redis{Server: "localhost:1", Prefix: "a:b"}, "letters, digits"},
		{"user without password", redis.Redis{Server: "localhost:1", User: "me"}, "need a name and a password"},
		{"password in the configuration", redis.Redis{Server: "localhost:1", Password: "secret"}, "password: need it as {env.NAME} or {file.PATH}"},
		{"password that is not there", redis.Redis{Server: "localhost:1", Password: "{file./nowhere}"}, "password: open /nowhere"},
		{"trusted_ca", redis.Redis{Server: "localhost:1", TrustedCA: "/nowhere"}, "trusted_ca: open /nowhere"},
		{"key alone", redis.Redis{Server: "localhost:1", Key: "/nowhere"}, "need the files of a certificate and its key"},
	} {
		t.Run(c.name, func(t *testing.T) {
			ctx, cancel := caddy.NewContext(caddy.Context{Context: t.Context()})
			defer cancel()
			if err := c.engine.Provision(ctx); err != nil {
				t.Fatal(err)
			}
			if err := c.engine.Validate(); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got %v, want an error with %q", err, c.want)
			}
		})
	}
}
