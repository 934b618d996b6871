package pollsse

import (
	"crypto/sha256"
	"encoding/json"
	"log/slog"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"

	"github.com/pollsse/caddy-poll-sse/cluster"
	"github.com/pollsse/caddy-poll-sse/internal/member"
)

func init() {
	httpcaddyfile.RegisterGlobalOption("poll_sse", parseGlobalOption)
}

// parseGlobalOption reads the global option:
//
//	poll_sse {
//		cluster <engine> { ... }
//		secret {env.<name>}|{file.<path>}
//		include_private
//		when_alone poll|stale
//		lease <duration>
//		admin_documents
//		admin_addresses
//	}
func parseGlobalOption(d *caddyfile.Dispenser, existing any) (any, error) {
	if existing != nil {
		return nil, d.Err("the global option poll_sse is given twice")
	}
	var app struct {
		Cluster        json.RawMessage `json:"cluster,omitempty"`
		Secret         string          `json:"secret,omitempty"`
		IncludePrivate bool            `json:"include_private,omitempty"`
		WhenAlone      string          `json:"when_alone,omitempty"`
		Lease          caddy.Duration  `json:"lease,omitempty"`
		AdminDocuments bool            `json:"admin_documents,omitempty"`
		AdminAddresses bool            `json:"admin_addresses,omitempty"`
	}
	flags := map[string]*bool{"include_private": &app.IncludePrivate, "admin_documents": &app.AdminDocuments, "admin_addresses": &app.AdminAddresses}
	d.Next() // the option's name
	if d.NextArg() {
		return nil, d.ArgErr()
	}
	given := make(map[string]bool)
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name := d.Val()
		if !slices.Contains(globalOptions, name) {
			if meant := nearest(name, globalOptions); meant != "" {
				return nil, d.Errf("poll_sse has no global option %s; did you mean %s?", name, meant)
			}
			return nil, d.Errf("poll_sse has no global option %s; it has %s", name, strings.Join(globalOptions, ", "))
		}
		if given[name] {
			return nil, d.Errf("%s is given twice", name)
		}
		given[name] = true
		var value string
		if flag := flags[name]; flag != nil {
			*flag = true
		} else if !d.Args(&value) {
			return nil, d.Errf("%s: need a value", name)
		}
		switch name {
		case "cluster":
			engine, err := caddyfile.UnmarshalModule(d, "poll_sse.cluster."+value)
			if err != nil {
				return nil, err
			}
			app.Cluster = caddyconfig.JSONModuleObject(engine, "engine", value, nil)
			continue // UnmarshalModule has read the rest
		case "secret":
			app.Secret = value
		case "when_alone":
			if value != alonePolls && value != aloneStale {
				return nil, d.Errf("when_alone %s: need %s or %s", value, alonePolls, aloneStale)
			}
			app.WhenAlone = value
		case "lease":
			lease, err := caddy.ParseDuration(value)
			if err != nil {
				return nil, durationError(d, name, value, "3s")
			}
			app.Lease = caddy.Duration(lease)
			if err := checkDuration(name, app.Lease, time.Second, time.Minute); err != nil {
				return nil, d.WrapErr(err)
			}
		}
		if d.NextArg() {
			return nil, d.ArgErr()
		}
	}
	if !given["cluster"] {
		for _, name := range []string{"secret", "include_private", "when_alone", "lease"} {
			if given[name] {
				return nil, d.Errf("%s needs a cluster", name)
			}
		}
	}
	if len(given) == 0 {
		return nil, d.Errf("the global option poll_sse is empty; it has %s", strings.Join(globalOptions, ", "))
	}
	return httpcaddyfile.App{Name: "poll_sse", Value: caddyconfig.JSON(app, nil)}, nil
}

// globalOptions are the names in the block of the global option.
var globalOptions = []string{"cluster", "secret", "include_private", "when_alone", "lease", "admin_documents", "admin_addresses"}

// clusterConfig is what one configuration says about its cluster.
type clusterConfig struct {
	id       [32]byte // equal ones have the same node
	dialer   cluster.Dialer
	settings member.Settings
	private  bool // private documents are shared, too
	log      *slog.Logger
}

// cluster is the configuration of an app that has an engine with such settings.
func (a *App) cluster(engine string, dialer cluster.Dialer, secret []byte, log *slog.Logger) *clusterConfig {
	c := &clusterConfig{
		dialer: dialer, private: a.IncludePrivate, log: log,
		settings: member.Settings{Lease: time.Duration(a.Lease), Secret: secret, StaleAlone: a.WhenAlone == aloneStale},
	}
	h := sha256.New()
	for _, part := range []string{engine, string(secret), time.Duration(a.Lease).String(), a.WhenAlone, strconv.FormatBool(a.IncludePrivate)} {
		sum := sha256.Sum256([]byte(part))
		h.Write(sum[:])
	}
	h.Sum(c.id[:0])
	return c
}

// clusterTable has this process's part in each cluster: one, except while a
// reload changes it.
type clusterTable struct {
	mu    sync.Mutex
	nodes map[[32]byte]*clusterNode
}

// clusterNode is a node and how many sources and configurations use it.
type clusterNode struct {
	member.Cluster
	uses int
}

func newClusterTable() *clusterTable { return &clusterTable{nodes: make(map[[32]byte]*clusterNode)} }

// join joins a cluster. Each success must be followed by one leave. A source
// uses a node, too: it goes on when its configuration has ended.
func (t *clusterTable) join(c *clusterConfig) (member.Cluster, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.nodes[c.id]
	if n == nil {
		engine, err := c.dialer.Dial()
		if err != nil {
			return nil, err
		}
		node, err := member.Open(engine, c.settings, c.log)
		if err != nil {
			return nil, err
		}
		n = &clusterNode{Cluster: node}
		t.nodes[c.id] = n
	}
	n.uses++
	return n.Cluster, nil
}

// leave undoes join; the last one leaves the cluster.
func (t *clusterTable) leave(c *clusterConfig) {
	t.mu.Lock()
	n := t.nodes[c.id]
	if n.uses--; n.uses == 0 {
		delete(t.nodes, c.id)
	} else {
		n = nil
	}
	t.mu.Unlock()
	if n != nil {
		n.Close()
	}
}

// all are the nodes of this process.
func (t *clusterTable) all() []member.Cluster {
	t.mu.Lock()
	defer t.mu.Unlock()
	var all []member.Cluster
	for _, n := range t.nodes {
		all = append(all, n.Cluster)
	}
	return all
}

// shared is the cluster whose nodes share the handler's documents; nil if each
// node polls them for itself.
func (h *Handler) shared(c *clusterConfig) *clusterConfig {
	if c == nil || h.request == nil {
		return nil
	}
	if !c.private && (h.request.Private() || h.hasCredentials()) {
		return nil
	}
	return c
}

// secretName matches names of fields and parameters that may hold a secret.
var secretName = regexp.MustCompile(`(?i)auth|key|token|secret|pass|cookie|session|sig`)

// hasCredentials reports whether the server may get the document with
// credentials of its own: by an option for them, a placeholder that keeps them
// out of the configuration, or a header field or query parameter with such a
// name.
func (h *Handler) hasCredentials() bool {
	if h.BasicAuth != nil || h.BearerFile != "" || h.OAuth2 != nil {
		return true
	}
	kept := func(text string) bool {
		return strings.Contains(text, "{env.") || strings.Contains(text, "{file.") || strings.Contains(text, "{system.")
	}
	address, query, _ := strings.Cut(h.Upstream, "?")
	if strings.Contains(address, "@") || kept(h.Body) {
		return true
	}
	// Scheme and host take these placeholders for other reasons.
	if _, rest, ok := strings.Cut(address, "://"); ok {
		if _, path, ok := strings.Cut(rest, "/"); ok && kept(path) {
			return true
		}
	}
	for param := range strings.SplitSeq(query, "&") {
		name, _, _ := strings.Cut(param, "=")
		if kept(param) || secretName.MatchString(name) {
			return true
		}
	}
	if h.HeaderUp == nil {
		return false
	}
	for _, fields := range []map[string][]string{h.HeaderUp.Set, h.HeaderUp.Add} {
		for name, values := range fields {
			if secretName.MatchString(name) || slices.ContainsFunc(values, kept) {
				return true
			}
		}
	}
	return false
}
