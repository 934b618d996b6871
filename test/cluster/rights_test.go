package cluster_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"
)

// rights are what docs/cluster.md says that a node needs at NATS: with the
// stream there, and to create it.
func rights(t testing.TB) (publish, subscribe []string, create string) {
	t.Helper()
	text := clusterPage(t)
	list := func(what string) []string {
		_, rest, ok := strings.Cut(text, "\n"+what+":")
		line, _, _ := strings.Cut(rest, "\n")
		if fields := strings.Fields(line); ok && len(fields) > 0 {
			return fields
		}
		t.Fatalf("docs/cluster.md does not say what a node may %s", what)
		return nil
	}
	create = regexp.MustCompile(`\$JS\.API\.STREAM\.CREATE\.\w+`).FindString(text)
	if create == "" {
		t.Fatal("docs/cluster.md does not say what creates the stream")
	}
	return list("publish"), list("subscribe"), create
}

// redisRights are those of docs/cluster.md for Redis.
func redisRights(t testing.TB) string {
	t.Helper()
	found := regexp.MustCompile("`(resetkeys [^`]*)`").FindStringSubmatch(clusterPage(t))
	if found == nil {
		t.Fatal("docs/cluster.md does not say what a node may do at Redis")
	}
	return found[1]
}

// TestRightsAreTheSameInCode holds what the modules' documentation says to what
// docs/cluster.md says, which tests run with.
func TestRightsAreTheSameInCode(t *testing.T) {
	words := func(file, name string) string {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(strings.Fields(strings.ReplaceAll(strings.ReplaceAll(string(text), "//", ""), name, "poll_sse")), " ")
	}
	publish, subscribe, create := rights(t)
	code := words("../../cluster/nats/module.go", "<stream>")
	for _, want := range []string{"publish: " + strings.Join(publish, " "), "subscribe: " + strings.Join(subscribe, " "), create} {
		if !strings.Contains(code, want) {
			t.Errorf("cluster/nats does not say %q", want)
		}
	}
	if code, want := words("../../cluster/redis/module.go", "<prefix>"), redisRights(t); !strings.Contains(code, want) {
		t.Errorf("cluster/redis does not say %q", want)
	}
}

// authority issues certificates for this machine.
type authority struct {
	t    testing.TB
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	dir  string
	file string // its certificate
}

func newAuthority(t testing.TB) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "authority of a test"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	a.file, _ = a.issue("authority", template)
	return a
}

// issue writes a certificate, signed by itself if it is the first, and its key.
func (a *authority) issue(name string, template *x509.Certificate) (certificate, key string) {
	a.t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		a.t.Fatal(err)
	}
	parent, signer := a.cert, a.key
	if parent == nil {
		parent, signer = template, private
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &private.PublicKey, signer)
	if err != nil {
		a.t.Fatal(err)
	}
	if a.cert == nil {
		a.key = private
		if a.cert, err = x509.ParseCertificate(der); err != nil {
			a.t.Fatal(err)
		}
	}
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		a.t.Fatal(err)
	}
	write := func(ending, kind string, der []byte) string {
		return written(a.t, filepath.Join(a.dir, name+ending), string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})))
	}
	return write(".crt", "CERTIFICATE", der), write(".key", "PRIVATE KEY", secret)
}

// pair is a certificate for a server on this machine, or for a node.
func (a *authority) pair(name string) (certificate, key string) {
	a.t.Helper()
	return a.issue(name, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	})
}

// written writes a file and returns its path.
func written(t testing.TB, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// operator is who signs the accounts of a NATS server, and the account of pages.
type operator struct {
	t                        testing.TB
	operator, account        nkeys.KeyPair
	operatorText, systemText string // JWTs
	system                   string // an account's public key
	claims                   *jwt.AccountClaims
}

func public(t testing.TB, key nkeys.KeyPair) string {
	t.Helper()
	text, err := key.PublicKey()
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func made(t testing.TB, make func() (nkeys.KeyPair, error)) nkeys.KeyPair {
	t.Helper()
	key, err := make()
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newOperator(t testing.TB) *operator {
	t.Helper()
	o := &operator{t: t, operator: made(t, nkeys.CreateOperator), account: made(t, nkeys.CreateAccount)}
	o.system = public(t, made(t, nkeys.CreateAccount))
	claims := jwt.NewOperatorClaims(public(t, o.operator))
	claims.SystemAccount = o.system
	var err error
	if o.operatorText, err = claims.Encode(o.operator); err == nil {
		o.systemText, err = jwt.NewAccountClaims(o.system).Encode(o.operator)
	}
	if err != nil {
		t.Fatal(err)
	}
	o.claims = jwt.NewAccountClaims(public(t, o.account))
	o.claims.Limits.JetStreamLimits = jwt.JetStreamLimits{MemoryStorage: jwt.NoLimit, DiskStorage: jwt.NoLimit, Streams: jwt.NoLimit, Consumer: jwt.NoLimit}
	return o
}

// config is the server's.
func (o *operator) config() string {
	account, err := o.claims.Encode(o.operator)
	if err != nil {
		o.t.Fatal(err)
	}
	return fmt.Sprintf("operator: %s\nsystem_account: %s\nresolver: MEMORY\nresolver_preload: {\n%s: %s\n%s: %s\n}\n",
		o.operatorText, o.system, o.system, o.systemText, public(o.t, o.account), account)
}

// credentials writes the file of a new user with these rights, all if there are
// none, and returns the user's public key.
func (o *operator) credentials(path string, publish, subscribe []string) (user string) {
	o.t.Helper()
	key := made(o.t, nkeys.CreateUser)
	user = public(o.t, key)
	claims := jwt.NewUserClaims(user)
	claims.Permissions.Pub.Allow = publish
	claims.Permissions.Sub.Allow = subscribe
	text, err := claims.Encode(o.account)
	if err != nil {
		o.t.Fatal(err)
	}
	seed, err := key.Seed()
	if err != nil {
		o.t.Fatal(err)
	}
	file, err := jwt.FormatUserConfig(text, seed)
	if err != nil {
		o.t.Fatal(err)
	}
	written(o.t, path, string(file))
	return user
}
