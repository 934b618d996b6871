// Package redis lets the nodes of poll_sse share Redis or Valkey. It is a
// module of its own, so that only those who use it build it:
//
//	xcaddy build --with github.com/pollsse/caddy-poll-sse --with github.com/pollsse/caddy-poll-sse/cluster/redis
package redis

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"strconv"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"go.uber.org/zap"

	"github.com/pollsse/caddy-poll-sse/cluster"
	_ "github.com/pollsse/caddy-poll-sse/cluster/nodes" // what nodes do with an engine
)

func init() { caddy.RegisterModule(new(Redis)) }

// Redis is the engine Redis 7 or newer, or Valkey. Each document is a hash
// with its owner, written by scripts; messages between nodes are published.
//
// What the user may do on these keys is what it may do to the pages: who can
// write them decides what all nodes show. Nodes need no more than
//
//	resetkeys ~<prefix>:* resetchannels &<prefix>:* +hmget +hget +eval +evalsha +hset +pexpire +time +publish +subscribe +unsubscribe +ping +hello +select
//
// A failover of Redis is asynchronous and may lose the newest owner: two nodes
// then poll for a moment; no wrong document comes of it.
type Redis struct {
	// The server, as host:port. One that stands for itself and is written to:
	// no replica, no Sentinel, no server of Redis Cluster. Required.
	Server string `json:"server,omitempty"`

	// The number of the database. Messages are for every database: pages of
	// different ones need different prefixes. Default: 0.
	Database int `json:"database,omitempty"`

	// The first part of every key and channel. Letters, digits, "-" and "_".
	// Default: poll_sse.
	Prefix string `json:"prefix,omitempty"`

	// The user's name, and the password as {env.NAME} or {file.PATH}. This file,
	// and every other one below, is read for each connection, so that what has
	// been renewed counts for the next one. Default for the name: Redis's own
	// user "default".
	User     string         `json:"user,omitempty"`
	Password cluster.Secret `json:"password,omitempty"`

	// TLS is used if this is true, or if there is a trusted_ca or a
	// certificate.
	TLS bool `json:"tls,omitempty"`

	// The file with the certificates (PEM) of the authorities that the
	// server's certificate is checked against. Default: the system's.
	TrustedCA string `json:"trusted_ca,omitempty"`

	// The files with this node's own certificate and key (PEM).
	Certificate string `json:"certificate,omitempty"`
	Key         string `json:"key,omitempty"`

	logger *zap.Logger
}

// CaddyModule returns the Caddy module information.
func (*Redis) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "poll_sse.cluster.redis", New: func() caddy.Module { return new(Redis) }}
}

// Provision sets defaults. It makes no connection.
func (r *Redis) Provision(ctx caddy.Context) error {
	r.logger = ctx.Logger()
	if r.Prefix == "" {
		r.Prefix = "poll_sse"
	}
	return nil
}

var prefixName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// tlsConfig reads what is needed for TLS; nil without TLS.
func (r *Redis) tlsConfig() (*tls.Config, error) {
	if !r.TLS && r.TrustedCA == "" && r.Certificate == "" && r.Key == "" {
		return nil, nil
	}
	host, _, _ := net.SplitHostPort(r.Server)
	config := &tls.Config{ServerName: host}
	if r.TrustedCA != "" {
		pem, err := os.ReadFile(r.TrustedCA)
		if err != nil {
			return nil, fmt.Errorf("trusted_ca: %w", err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("trusted_ca: %s has no certificate in PEM", r.TrustedCA)
		}
	}
	if (r.Certificate == "") != (r.Key == "") {
		return nil, errors.New("certificate: need the files of a certificate and its key")
	}
	if r.Certificate != "" {
		own, err := tls.LoadX509KeyPair(r.Certificate, r.Key)
		if err != nil {
			return nil, fmt.Errorf("certificate: %w", err)
		}
		config.Certificates = []tls.Certificate{own}
	}
	return config, nil
}

// Validate reports everything that is wrong with the configuration at once.
func (r *Redis) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("cluster redis: "+format, args...)) }
	if host, port, err := net.SplitHostPort(r.Server); err != nil || host == "" || port == "" {
		bad("server %q: need host:port", r.Server)
	}
	if !prefixName.MatchString(r.Prefix) {
		bad("prefix %q: need 1 to 64 letters, digits, - and _", r.Prefix)
	}
	if r.Database < 0 {
		bad("database %d: need 0 or more", r.Database)
	}
	if r.User != "" && r.Password == "" {
		bad("user: need a name and a password")
	}
	if _, err := r.login(); err != nil {
		bad("%w", err)
	}
	if _, err := r.tlsConfig(); err != nil {
		bad("%w", err)
	}
	return errors.Join(errs...)
}

// login reads the password; empty without one.
func (r *Redis) login() (password string, err error) {
	if r.Password == "" {
		return "", nil
	}
	if password, err = r.Password.Read(); err != nil {
		return "", fmt.Errorf("password: %w", err)
	}
	return password, nil
}

// UnmarshalCaddyfile sets up the engine from the global option:
//
//	cluster redis {
//		server <host:port>
//		database <number>
//		prefix <name>
//		user <name> {env.<name>}|{file.<path>}
//		password {env.<name>}|{file.<path>}
//		tls
//		trusted_ca <file>
//		certificate <file> <key file>
//	}
func (r *Redis) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the engine's name
	if d.NextArg() {
		return d.ArgErr()
	}
	given := make(map[string]bool)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name := d.Val()
		if given[name] {
			return d.Errf("%s is given twice", name)
		}
		given[name] = true
		values := map[string][]*string{
			"server": {&r.Server}, "prefix": {&r.Prefix}, "password": {(*string)(&r.Password)}, "trusted_ca": {&r.TrustedCA},
			"user": {&r.User, (*string)(&r.Password)}, "certificate": {&r.Certificate, &r.Key},
		}[name]
		args := d.RemainingArgs()
		switch {
		case name == "tls" && len(args) == 0:
			r.TLS = true
		case name == "database" && len(args) == 1:
			n, err := strconv.Atoi(args[0])
			if err != nil || n < 0 {
				return d.Errf("database %s: need a number, 0 or more", args[0])
			}
			r.Database = n
		case name == "tls", name == "database":
			return d.ArgErr()
		case name == "server" && len(args) != 1, name == "servers", name == "sentinels":
			return d.Errf("%s: need one server, as host:6379; Redis Sentinel and Redis Cluster are not supported", name)
		case values == nil:
			return d.Errf("cluster redis has no option %s; it has server, database, prefix, user, password, tls, trusted_ca and certificate", name)
		case len(args) != len(values):
			return d.Errf("%s: need %d values", name, len(values))
		default:
			for i := range values {
				*values[i] = args[i]
			}
		}
	}
	if given["user"] && given["password"] {
		return d.Errf("user has the password as its second value; password is for the user that has no name")
	}
	if r.Server == "" {
		return d.Errf("cluster redis: need server, as host:6379")
	}
	return nil
}

// Interface guards.
var (
	_ caddy.Provisioner     = (*Redis)(nil)
	_ caddy.Validator       = (*Redis)(nil)
	_ caddyfile.Unmarshaler = (*Redis)(nil)
	_ cluster.Dialer        = (*Redis)(nil)
)
