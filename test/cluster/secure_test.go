package cluster_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	natsgo "github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"
)

// TestSecuredNATS runs nodes with the documented rights and no others, over TLS
// with certificates on either side. Then their credentials are renewed.
func TestSecuredNATS(t *testing.T) {
	t.Parallel()
	ca, o, dir := newAuthority(t), newOperator(t), t.TempDir()
	publish, subscribe, _ := rights(t)
	file := filepath.Join(dir, "poll_sse.creds")
	first := o.credentials(file, publish, subscribe)
	o.credentials(filepath.Join(dir, "admin.creds"), nil, nil)
	serverCert, serverKey := ca.pair("server")
	nodeCert, nodeKey := ca.pair("node")
	tls := fmt.Sprintf("tls { cert_file: %q, key_file: %q, ca_file: %q, verify: true }\n", serverCert, serverKey, ca.file)
	e := startNATS(t, tls+o.config())
	prepareStream(t, "tls://"+e.address(), natsgo.UserCredentials(filepath.Join(dir, "admin.creds")), natsgo.RootCAs(ca.file), natsgo.ClientCert(nodeCert, nodeKey))

	up := newOrigin(t)
	s := overNATS(up)
	s.cluster = fmt.Sprintf("\tcluster nats {\n\t\tservers tls://ENGINE\n\t\tcredentials %s\n\t\ttrusted_ca %s\n\t\tcertificate %s %s\n\t}", file, ca.file, nodeCert, nodeKey)
	renewed(t, up, s, e.address(), "Permissions Violation", func() {
		o.claims.Revoke(first)
		o.credentials(file, publish, subscribe)
		e.end(syscall.SIGTERM)
		e.configure(tls + o.config())
		e.start()
	})
}

// TestSecuredRedis is TestSecuredNATS for Redis.
func TestSecuredRedis(t *testing.T) {
	t.Parallel()
	ca, dir := newAuthority(t), t.TempDir()
	file := written(t, filepath.Join(dir, "password"), "first-password\n")
	serverCert, serverKey := ca.pair("server")
	nodeCert, nodeKey := ca.pair("node")
	acl := "user node on >PASSWORD " + redisRights(t)
	r := newRedis(t, strings.Replace(acl, "PASSWORD", "first-password", 1), "user default off",
		"tls-cert-file "+serverCert, "tls-key-file "+serverKey, "tls-ca-cert-file "+ca.file, "tls-auth-clients yes")
	up := newOrigin(t)
	s := overNATS(up)
	s.cluster = fmt.Sprintf("\tcluster redis {\n\t\tserver ENGINE\n\t\tuser node {file.%s}\n\t\ttrusted_ca %s\n\t\tcertificate %s %s\n\t}", file, ca.file, nodeCert, nodeKey)
	renewed(t, up, s, r.address(), "NOPERM", func() {
		written(t, file, "second-password\n")
		r.stop()
		r.replace("first-password", "second-password")
		r.start()
	})
}

// renewed runs nodes, has their credentials renewed, and looks whether they are
// together again without a stream's end or a reload. Then they go through a
// reload, and lose their owner.
func renewed(t *testing.T, o *origin, s site, engine, refused string, renew func()) {
	t.Helper()
	all := nodes(t, s, engine, "a", "b")
	crowd := newCrowd(t, o, "/doc", 6, nil, all...)
	owner(t, all...)
	crowd.settled()
	opened := crowd.opened.Load()
	renew()
	for _, n := range all {
		eventually(t, n.name+" has noticed", func() bool { return strings.Contains(n.get("/poll_sse/cluster"), `"up":false`) || n.count("is up") > 1 })
	}
	owner(t, all...)
	for _, n := range all {
		n.reload(s)
	}
	own, rest := owner(t, all...)
	if n := crowd.opened.Load() - opened; n > 0 {
		t.Errorf("%d streams have ended", n)
	}
	crowd.send(rest...)
	crowd.settled()
	own.end(syscall.SIGKILL)
	owner(t, rest...)
	crowd.judged()
	for _, n := range all {
		if n.count(refused) > 0 {
			t.Errorf("%s needs more than the documented rights:\n%s", n.name, n.text())
		}
		for _, secret := range []string{"SUA", "eyJ", "first-password", "second-password"} { // a seed, a JWT
			if n.count(secret) > 0 {
				t.Errorf("%s has logged %s", n.name, secret)
			}
		}
	}
}

// prepareStream makes the stream that nodes expect if they must not create it.
func prepareStream(t testing.TB, url string, options ...natsgo.Option) {
	t.Helper()
	client, err := natsgo.Connect(url, append(options, natsgo.RetryOnFailedConnect(true), natsgo.MaxReconnects(100), natsgo.ReconnectWait(100*time.Millisecond))...)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	js, err := jetstream.New(client)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the stream is made", func() bool {
		_, err = js.CreateStream(within(t), jetstream.StreamConfig{Name: "poll_sse", Subjects: []string{"poll_sse.s.>"}, MaxMsgsPerSubject: 1, AllowDirect: true})
		return err == nil
	})
}

// refusal is an engine that a node cannot use, and what its log says then.
type refusal struct{ name, cluster, want string }

// refused loads one refusal after the other on a node, which says so, without a
// secret and not again and again, and goes on alone.
func refused(t *testing.T, secrets []string, all ...refusal) {
	t.Helper()
	first := overNATS(newOrigin(t))
	first.env = []string{"RIGHT=right"}
	n := newNode(t, "a", first, "127.0.0.1:1") // where nobody is
	for _, c := range all {
		t.Run(c.name, func(t *testing.T) {
			up := newOrigin(t)
			s := overNATS(up)
			s.cluster = c.cluster + "\n\tlease 1s"
			before := len(n.text())
			n.reload(s)
			crowd := newCrowd(t, up, "/doc", 3, nil, n)
			eventually(t, "the node is alone", func() bool { return n.is("alone") })
			eventually(t, "the log says "+c.want, func() bool { return strings.Contains(n.text()[before:], c.want) })
			eventually(t, "clients have a document", func() bool { least, _ := crowd.at(); return least > 0 })
			time.Sleep(time.Second) // several attempts
			text := n.text()[before:]
			if lines := strings.Count(text, `"logger":"poll_sse.cluster.`); lines > 5 {
				t.Errorf("%d lines of the log:\n%s", lines, n.tail())
			}
			for _, secret := range secrets {
				if strings.Contains(text, secret) {
					t.Errorf("the log has %s", secret)
				}
			}
		})
	}
}

// wrongSecret is a file with a password that is none.
func wrongSecret(t *testing.T) (placeholder string) {
	t.Helper()
	return "{file." + written(t, filepath.Join(t.TempDir(), "password"), "wrong-secret") + "}"
}

func TestRefusedByNATS(t *testing.T) {
	t.Parallel()
	ca, other, o, dir := newAuthority(t), newAuthority(t), newOperator(t), t.TempDir()
	cert, key := ca.pair("server")
	strange, strangeKey := other.pair("node")
	foreign, few := filepath.Join(dir, "foreign.creds"), filepath.Join(dir, "few.creds")
	newOperator(t).credentials(foreign, nil, nil)
	publish, _, _ := rights(t)
	o.credentials(few, publish, []string{"_INBOX.>"})
	seed, err := made(t, nkeys.CreateUser).Seed()
	if err != nil {
		t.Fatal(err)
	}
	nkey := written(t, filepath.Join(dir, "user.nk"), string(seed))
	secured := startNATS(t, fmt.Sprintf("tls { cert_file: %q, key_file: %q, ca_file: %q, verify: true }\n", cert, key, ca.file))
	password := startNATS(t, "authorization { user: node, password: right }")
	token := startNATS(t, "authorization { token: right }")
	accounts := startNATS(t, o.config())
	at := func(e *engine, scheme, more string) string {
		return "\tcluster nats {\n\t\tservers " + scheme + "://" + e.address() + "\n\t\t" + more + "\n\t}"
	}
	wrong := wrongSecret(t)
	refused(t, []string{"wrong-secret", string(seed), "eyJ"}, // a JWT
		refusal{"another authority", at(secured, "tls", "trusted_ca "+other.file), "certificate signed by unknown authority"},
		refusal{"no certificate", at(secured, "tls", "trusted_ca "+ca.file), "certificate required"},
		refusal{"certificate of another authority", at(secured, "tls", "trusted_ca "+ca.file+"\n\t\tcertificate "+strange+" "+strangeKey), "tls"},
		refusal{"no TLS", at(password, "tls", "trusted_ca "+ca.file), "secure connection not available"},
		refusal{"password", at(password, "nats", "user node "+wrong), "Authorization Violation"},
		refusal{"token", at(token, "nats", "token "+wrong), "Authorization Violation"},
		refusal{"no nkeys", at(password, "nats", "nkey "+nkey), "nkeys not supported"},
		refusal{"nkey", at(accounts, "nats", "nkey "+nkey), "Authorization Violation"},
		refusal{"credentials", at(accounts, "nats", "credentials "+foreign), "Authorization Violation"},
		refusal{"rights", at(accounts, "nats", "credentials "+few), "Permissions Violation for Subscription"},
	)
}

func TestRefusedByRedis(t *testing.T) {
	t.Parallel()
	ca, other := newAuthority(t), newAuthority(t)
	cert, key := ca.pair("server")
	r := newRedis(t, "user node on >right "+redisRights(t), "user few on >right resetkeys ~poll_sse:* resetchannels +@all", "user default off")
	secured := newRedis(t, "tls-cert-file "+cert, "tls-key-file "+key, "tls-ca-cert-file "+ca.file, "tls-auth-clients yes")
	fleet := newRedis(t, "cluster-enabled yes", "cluster-config-file nodes.conf")
	replica := newRedis(t, "replicaof 127.0.0.1 "+strconv.Itoa(fleet.port))
	sentinel := runRedis(t, []string{"--sentinel"})
	at := func(r *redisServer, more string) string {
		return "\tcluster redis {\n\t\tserver " + r.address() + "\n\t\t" + more + "\n\t}"
	}
	refused(t, []string{"wrong-secret"},
		refusal{"another authority", at(secured, "trusted_ca "+other.file), "certificate signed by unknown authority"},
		refusal{"no certificate", at(secured, "trusted_ca "+ca.file), "certificate required"},
		refusal{"password", at(r, "user node "+wrongSecret(t)), "WRONGPASS"},
		refusal{"rights", at(r, "user few {env.RIGHT}"), "NOPERM"},
		refusal{"Redis Cluster", at(fleet, ""), "one of Redis Cluster, which is not supported"},
		refusal{"replica", at(replica, ""), "a replica, which is not written to"},
		refusal{"Sentinel", at(sentinel, ""), "a Redis Sentinel, which is not supported"},
	)
}

// TestNKeyAndToken: the ways in that other tests do not go.
func TestNKeyAndToken(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	key := made(t, nkeys.CreateUser)
	seed, err := key.Seed()
	if err != nil {
		t.Fatal(err)
	}
	file, secret := written(t, filepath.Join(dir, "user.nk"), string(seed)), written(t, filepath.Join(dir, "token"), "a token\n")
	byKey := startNATS(t, "authorization { users: [ { nkey: "+public(t, key)+" } ] }")
	byToken := startNATS(t, `authorization { token: "a token" }`)
	o := newOrigin(t)
	s := overNATS(o)
	s.cluster = strings.Replace(s.cluster, "\n\t}", "\n\t\tnkey "+file+"\n\t}", 1)
	n := newNode(t, "a", s, byKey.address())
	crowd := newCrowd(t, o, "/doc", 2, http.Header{}, n)
	owner(t, n)
	s.cluster = "\tcluster nats {\n\t\tservers nats://" + byToken.address() + "\n\t\ttoken {file." + secret + "}\n\t}"
	n.reload(s)
	eventually(t, "the node is up again", func() bool { return n.count("is up") >= 2 })
	owner(t, n)
	crowd.judgedAlike()
}
