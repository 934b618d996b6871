// Package nats lets the nodes of poll_sse share NATS with JetStream. It is a
// module of its own, so that only those who use it build it:
//
//	xcaddy build --with github.com/pollsse/caddy-poll-sse --with github.com/pollsse/caddy-poll-sse/cluster/nats
package nats

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/nats-io/nats.go"
	"go.uber.org/zap"

	"github.com/pollsse/caddy-poll-sse/cluster"
	_ "github.com/pollsse/caddy-poll-sse/cluster/nodes" // what nodes do with an engine
)

func init() { caddy.RegisterModule(new(NATS)) }

// NATS is the engine NATS with JetStream, nats-server 2.11 or newer. Documents
// and owners are in one stream; messages between nodes are core messages.
//
// What the account may do on these subjects is what it may do to the pages:
// who can write them decides what all nodes show. With the stream already
// there, nodes need no more than
//
//	publish:   <stream>.s.> <stream>.m.> $JS.API.DIRECT.GET.<stream>.> $JS.API.STREAM.INFO.<stream>
//	subscribe: <stream>.m.> _INBOX.>
//
// and to create it $JS.API.STREAM.CREATE.<stream>.
type NATS struct {
	// The URLs of servers of one NATS cluster, as nats://host:4222 or
	// tls://host:4222. The others of the cluster are learned from them.
	// Required.
	Servers []string `json:"servers,omitempty"`

	// The stream, and the first token of every subject. Pages with other
	// streams have nothing to do with one another. Letters, digits, "-" and
	// "_". Default: poll_sse.
	Stream string `json:"stream,omitempty"`

	// How many servers store the stream, 1 to 5, if this node is the one that
	// creates it. A stream that is there is left as it is. Default: 1.
	Replicas int `json:"replicas,omitempty"`

	// The file with the user's JWT and seed (.creds). This file, and every
	// other one below, is read for each connection, so that what has been
	// renewed counts for the next one.
	Credentials string `json:"credentials,omitempty"`

	// The file with the seed of the user's nkey. Another user's seed needs
	// another file and a reload.
	NKey string `json:"nkey,omitempty"`

	// The user's name, and the password as {env.NAME} or {file.PATH}.
	User     string         `json:"user,omitempty"`
	Password cluster.Secret `json:"password,omitempty"`

	// The token, as {env.NAME} or {file.PATH}. At most one of credentials,
	// nkey, user and token.
	Token cluster.Secret `json:"token,omitempty"`

	// The file with the certificates (PEM) of the authorities that the servers'
	// certificates are checked against. With it, with a certificate, or with a
	// tls:// URL, connections use TLS. Default: the system's.
	TrustedCA string `json:"trusted_ca,omitempty"`

	// The files with this node's own certificate and key (PEM).
	Certificate string `json:"certificate,omitempty"`
	Key         string `json:"key,omitempty"`

	logger *zap.Logger
}

// CaddyModule returns the Caddy module information.
func (*NATS) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "poll_sse.cluster.nats", New: func() caddy.Module { return new(NATS) }}
}

// Provision sets defaults. It makes no connection.
func (n *NATS) Provision(ctx caddy.Context) error {
	n.logger = ctx.Logger()
	if n.Stream == "" {
		n.Stream = "poll_sse"
	}
	if n.Replicas == 0 {
		n.Replicas = 1
	}
	return nil
}

var streamName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,64}$`)

// Validate reports everything that is wrong with the configuration at once.
func (n *NATS) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf("cluster nats: "+format, args...)) }
	if len(n.Servers) == 0 {
		bad("need servers, as nats://host:4222")
	}
	for i, server := range n.Servers {
		u, err := url.Parse(server)
		switch {
		case err != nil:
			bad("servers: number %d is not a URL", i+1)
		case u.User != nil:
			bad("servers: %s has a user in it; give it with user or credentials, so that the password is not part of the configuration", u.Redacted())
		case u.Scheme != "nats" && u.Scheme != "tls" || u.Hostname() == "":
			bad("servers: %s: need nats://host:4222 or tls://host:4222", server)
		}
	}
	if !streamName.MatchString(n.Stream) {
		bad("stream %q: need 1 to 64 letters, digits, - and _", n.Stream)
	}
	if n.Replicas < 1 || n.Replicas > 5 {
		bad("replicas %d: need 1 to 5", n.Replicas)
	}
	logins := 0
	for _, is := range []string{n.Credentials, n.NKey, n.User, string(n.Token)} {
		if is != "" {
			logins++
		}
	}
	if logins > 1 {
		bad("credentials, nkey, user and token: need at most one of them")
	}
	if (n.User == "") != (n.Password == "") {
		bad("user: need a name and a password")
	}
	if (n.Certificate == "") != (n.Key == "") {
		bad("certificate: need the files of a certificate and its key")
	}
	if len(errs) == 0 {
		// What is read for each connection can be read now.
		var o nats.Options
		for _, option := range n.options(func(err error) { bad("%w", err) }) {
			if err := option(&o); err != nil {
				bad("%w", err)
			}
		}
		if o.UserJWT != nil {
			if _, err := o.SignatureCB(nil); err != nil {
				bad("credentials: %w", err)
			}
		}
		if o.UserInfo != nil {
			o.UserInfo()
		}
		if o.TokenHandler != nil {
			o.TokenHandler()
		}
	}
	return errors.Join(errs...)
}

// UnmarshalCaddyfile sets up the engine from the global option:
//
//	cluster nats {
//		servers <url>...
//		stream <name>
//		replicas <number>
//		credentials <file>
//		nkey <file>
//		user <name> {env.<name>}|{file.<path>}
//		token {env.<name>}|{file.<path>}
//		trusted_ca <file>
//		certificate <file> <key file>
//	}
func (n *NATS) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
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
			"stream": {&n.Stream}, "credentials": {&n.Credentials}, "nkey": {&n.NKey}, "trusted_ca": {&n.TrustedCA},
			"user": {&n.User, (*string)(&n.Password)}, "token": {(*string)(&n.Token)}, "certificate": {&n.Certificate, &n.Key},
		}[name]
		args := d.RemainingArgs()
		switch {
		case name == "servers":
			if len(args) == 0 {
				return d.Errf("servers: need at least one URL, as nats://host:4222")
			}
			n.Servers = args
		case name == "replicas":
			if len(args) != 1 {
				return d.Errf("replicas: need one number")
			}
			if _, err := fmt.Sscan(args[0], &n.Replicas); err != nil || n.Replicas < 1 || n.Replicas > 5 {
				return d.Errf("replicas %s: need a number from 1 to 5", args[0])
			}
		case values == nil:
			return d.Errf("cluster nats has no option %s; it has servers, stream, replicas, credentials, nkey, user, token, trusted_ca and certificate", name)
		case len(args) != len(values):
			return d.Errf("%s: need %d values", name, len(values))
		default:
			for i := range values {
				*values[i] = args[i]
			}
		}
	}
	if len(n.Servers) == 0 {
		return d.Errf("cluster nats: need servers, as nats://host:4222")
	}
	return nil
}

// options are who the node is, and whom it trusts. All files are read for each
// connection. If a secret cannot be read, failed is told, and the server refuses
// the node.
func (n *NATS) options(failed func(error)) []nats.Option {
	var all []nats.Option
	read := func(option string, secret cluster.Secret) string {
		text, err := secret.Read()
		if err != nil {
			failed(fmt.Errorf("%s: %w", option, err))
		}
		return text
	}
	switch {
	case n.Credentials != "":
		all = append(all, named("credentials", nats.UserCredentials(n.Credentials)))
	case n.NKey != "":
		all = append(all, named("nkey", func(o *nats.Options) error {
			option, err := nats.NkeyOptionFromSeed(n.NKey)
			if err != nil {
				return err
			}
			return option(o)
		}))
	case n.User != "":
		all = append(all, nats.UserInfoHandler(func() (string, string) { return n.User, read("password", n.Password) }))
	case n.Token != "":
		all = append(all, nats.TokenHandler(func() string { return read("token", n.Token) }))
	}
	if n.TrustedCA != "" {
		all = append(all, named("trusted_ca", nats.RootCAs(n.TrustedCA)))
	}
	if n.Certificate != "" {
		all = append(all, named("certificate", nats.ClientCert(n.Certificate, n.Key)))
	}
	return all
}

// named has what is wrong with an option's value say which option it is.
func named(name string, option nats.Option) nats.Option {
	return func(o *nats.Options) error {
		if err := option(o); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	}
}

// Interface guards.
var (
	_ caddy.Provisioner     = (*NATS)(nil)
	_ caddy.Validator       = (*NATS)(nil)
	_ caddyfile.Unmarshaler = (*NATS)(nil)
	_ cluster.Dialer        = (*NATS)(nil)
)
