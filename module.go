// Package pollsse is a Caddy v2 HTTP handler that lets a site stop polling: it
// polls an upstream JSON URL once on the server, works out what changed, and
// pushes only the change to every browser as Server-Sent Events.
package pollsse

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
	"go.uber.org/zap"

	"github.com/pollsse/caddy-poll-sse/internal/delivery"
	"github.com/pollsse/caddy-poll-sse/internal/feed"
	"github.com/pollsse/caddy-poll-sse/internal/upstream"
)

func init() {
	caddy.RegisterModule(Handler{})
}

// Handler answers GET and HEAD requests from a JSON document that it polls at
// an upstream: as an event stream of the document and its changes if the
// client prefers text/event-stream, else as JSON. Every other request goes to
// the next handler.
//
// The upstream is polled once an interval however many clients there are, from
// the first subscriber until some time after the last.
type Handler struct {
	// The URL to poll: http or https, absolute. Placeholders are expanded for
	// each client request and escaped for their place, and requests that
	// expand alike share one poll; scheme and host take only {env.*},
	// {file.*} and {system.*}. Required.
	Upstream string `json:"upstream,omitempty"`

	Request
	Reading
	Schedule
	Streaming
	Limits

	// Whether the document is polled from the start of the configuration to
	// its end, so that the first subscriber gets it at once. The upstream
	// request must not depend on the client's. Default: false.
	AlwaysOn bool `json:"always_on,omitempty"`

	// Whether the document is polled at once when the next handler answers a
	// POST, PUT, PATCH or DELETE through this one with success. Turn it off
	// for pages that read by POST. It has no effect on poll_sse_poke.
	// Default: true.
	Poke *bool `json:"poke,omitempty"`

	// Paths, as in Caddy's path matcher, whose requests go straight to the next
	// handler. Only with tree. Default: none.
	Except []string `json:"except,omitempty"`

	// The name in logs, metrics and the admin API, for which the limits count.
	// Default: scheme, host and path of the URL, ?… for a query, #2 if another
	// one looks the same. At most 256 bytes.
	Name string `json:"name,omitempty"`

	engine      *engine
	except      caddyhttp.MatchPath // Except, provisioned
	request     *upstream.Template
	requestErr  error  // reported by Validate, with everything else
	readingKey  []byte // digest of Reading
	claim       *claim
	key         feed.Key // of streams
	zipped      bool     // streams and answers are compressed for clients that accept it
	errorRoutes bool     // the server has pages for errors of its own
	causes      *causes  // why requests were refused lately
	vary        string   // the request header fields that answers depend on
	streams     *delivery.Options
	drains      *drainable
	logger      *zap.Logger
	// logged means that the end of a direct stream is logged at level info, as
	// the server has an access log; otherwise it is at level debug.
	logged bool
}

// Request is what is asked of the upstream besides its URL. A source is keyed by
// its expansion for the client.
type Request struct {
	// The method of the polls: GET, POST, QUERY, SEARCH or REPORT.
	// Default: GET, or POST with a body.
	Method string `json:"method,omitempty"`

	// The body of the polls: JSON, a form, or, without placeholders of the
	// request, any other text; Content-Type is chosen by its form unless
	// header_up sets it. Placeholders have a dot in their name, so that GraphQL
	// keeps its braces. In a JSON string and in a form they are escaped;
	// elsewhere in JSON they are a number, true, false or null. At most 1 MiB.
	Body string `json:"body,omitempty"`

	// The server's own user name and password at the upstream. Placeholders:
	// {env.*}, {file.*} and {system.*}.
	BasicAuth *upstream.BasicAuth `json:"basic_auth,omitempty"`

	// The path of a regular file, or of a link to one, that holds the server's
	// own bearer token at the upstream. It is read for each poll, so that a
	// renewed token is used at once. At most 64 KiB.
	BearerFile string `json:"bearer_file,omitempty"`

	// The server's own OAuth2 client at the upstream: a token is asked for
	// with the client credentials grant, through the same transport, kept
	// for every source of the client, renewed a minute before its end (or a
	// quarter of its life if that is less), and once if the upstream answers
	// 401, at most once a minute.
	OAuth2 *upstream.OAuth2 `json:"oauth2,omitempty"`

	// Request header fields to set, add or delete on each poll. Values may
	// hold placeholders; those of the client's request make the document
	// that client's own. replace is not supported.
	HeaderUp *headers.HeaderOps `json:"header_up,omitempty"`

	// Header fields of the client to send to the upstream, and cookies as
	// cookie:NAME. Each combination of values has a poll and a document of
	// its own, which nobody else sees. At most 16 KiB a request.
	Forward []string `json:"forward,omitempty"`

	// Whether every GET that reaches this handler is for a document of its
	// own: the client's path, escaped as it came, behind that of the URL, and
	// its query. A URL is polled while a stream is open on it, or once it is
	// read again within linger; every other request, and whatever is no JSON
	// document, goes to the next handler. Default: false.
	Tree bool `json:"tree,omitempty"`

	// The parameters of the client's query that are part of the document's
	// URL, or, with ! before each, those that are not; !* leaves out all. Only
	// with tree.
	// Default: all.
	Query []string `json:"query,omitempty"`

	// Which requests with a body only read, so that they are documents of
	// their own, too. Only with tree. Default: none.
	Reads *upstream.Reads `json:"reads,omitempty"`

	// A JSON Pointer to the member of a body that reads, a number or string,
	// that does not decide the document and that its answer returns, as the id
	// of JSON-RPC. Only with reads. Default: none.
	Echo string `json:"echo,omitempty"`
}

// Reading is what is read from the upstream's answers, and what of it is
// published. Two handlers share a source only if all of it is the same: a source
// is keyed by its JSON, defaults filled in.
type Reading struct {
	// How to reach the upstream: the http transport of reverse_proxy, and no
	// other. Default: plain http or https.
	TransportRaw json.RawMessage `json:"transport,omitempty" caddy:"namespace=http.reverse_proxy.transport inline_key=protocol"`

	// The largest body in bytes, decoded, that is accepted; a larger one makes
	// the document stale. Default: 10MiB. At most 256 MiB.
	MaxBody int64 `json:"max_body,omitempty"`

	// What the upstream's body is: json, ndjson (JSON texts on lines of their
	// own, or behind record separators, which become one list), or auto, by
	// its Content-Type. In any case the content codings gzip, deflate and
	// zstd, a byte order mark, the charset that Content-Type names, a prefix
	// such as )]}' that guards against inclusion as a script, and a JSONP
	// call are taken off. Default: auto.
	UpstreamFormat string `json:"upstream_format,omitempty"`

	// Query parameters that tell the upstream what is known already, for one
	// that returns only what is new. A time is sent by placeholders in the
	// query or the body: {poll_sse.last_success} (RFC 3339), with .unix,
	// .unix_ms or .http behind it, or with a colon and a layout of Go's time
	// package. It is the upstream's own time of the last good answer, and
	// the Unix epoch before there is one.
	Since []upstream.Since `json:"since,omitempty"`

	// How answers that hold only what is new become one document. Default: off,
	// each answer is the document.
	Append *upstream.Append `json:"append,omitempty"`

	// How a document that comes in pages is put together. Default: off, it
	// does not come in pages.
	Paginate *upstream.Pages `json:"paginate,omitempty"`

	// A JSON Pointer to the part of the upstream's document that is published;
	// if nothing is there, the poll has failed. Patterns of the other options
	// begin there. Default: all of it.
	Select string `json:"select,omitempty"`

	// What is left out of the document: JSON Pointers in which a token *
	// stands for any one token. If an item of a list is left out, those after
	// it move up.
	Omit []string `json:"omit,omitempty"`

	// Places, as in omit, where a change alone sends nothing; it travels with
	// the next change elsewhere. Each node that polls the upstream may then
	// have other versions for a while; prefer omit for what no page needs.
	Ignore []string `json:"ignore,omitempty"`

	// The members that tell the items of lists apart, so that a patch moves,
	// adds and removes items instead of rewriting them. The first pattern
	// that matches a list counts. Default: found by itself.
	Identify []identifyConfig `json:"identify,omitempty"`
}

// Schedule is when a source polls and what it keeps. It does not decide the
// document and is not part of a source's key: handlers of one configuration that
// share a source agree on one schedule, see claim.
type Schedule struct {
	// The time from the start of one poll to the start of the next.
	// Default: 5s. From 100ms to 24h.
	Interval caddy.Duration `json:"interval,omitempty"`

	// What the interval grows to, by half with each poll, while the document
	// does not change; the first change takes it back to interval. The second
	// argument of interval in a Caddyfile. Default: the interval, which then
	// does not grow. From interval to 24h.
	QuietInterval caddy.Duration `json:"quiet_interval,omitempty"`

	// The longest pause that failures, or the wishes of the upstream that
	// honor follows, can make between polls. Only Retry-After can ask for
	// more, up to 1h. Default: 1m, or the interval if that is
	// longer. From interval to 24h.
	MaxInterval caddy.Duration `json:"max_interval,omitempty"`

	// Whether Cache-Control, Expires and X-Poll-Interval of the upstream
	// lengthen the interval, up to max_interval; they never shorten it.
	// Retry-After is obeyed in any case. Default: true.
	Honor *bool `json:"honor,omitempty"`

	// The largest share of the upstream's time that polls of one document
	// take, in percent: after a poll of 2s, 50 leaves it alone for the next
	// 2s. Default: 50. From 1 to 100.
	MaxLoad int `json:"max_load,omitempty"`

	// How many polls one upstream host gets at the same time, from every
	// poll_sse of this server together; the others wait for their turn. The
	// nodes of a cluster divide them by the documents that each polls.
	// Documents that clients make, by placeholders or forwarded fields, leave
	// a quarter of them free for the others, at least one if there are more
	// than one, and one client address holds at most half of the rest. If
	// that makes intervals longer, the log has a warning.
	// Default: 16. At least 1.
	HostPolls int `json:"host_polls,omitempty"`

	// How long an upstream may go without a good answer, from the start of
	// the first poll that brought none, before its document is called stale.
	// Default: at the first failure. At most 24h.
	StaleAfter caddy.Duration `json:"stale_after,omitempty"`

	// How long one poll may take, from dial to the last byte, and how long a
	// request waits for the first document before it is answered with 504.
	// Default: 10s. From 100ms to 5m.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// How many changes are kept for clients that return; one that was away
	// longer gets a snapshot. Changes that together are more than twice the
	// size of the document are dropped sooner. Default: 256. From 0 to
	// 100000.
	History *int `json:"history,omitempty"`

	// How long a document without subscribers is still polled.
	// Default: 30s. From 1ms to 1h.
	Linger caddy.Duration `json:"linger,omitempty"`
}

// Streaming is what decides a stream, and answers with the document.
type Streaming struct {
	// How a change is sent: as patch (RFC 6902), merge (RFC 7396, with a
	// snapshot if it cannot express the change) or snapshot.
	// Default: patch.
	Format string `json:"format,omitempty"`

	// Other names for the events snapshot, patch, merge and status, so that
	// {"snapshot": "message"} reaches a page's onmessage. Default: the kind.
	// At most 64 bytes, not error or open; snapshot and the format's own event
	// keep different names.
	Events map[string]string `json:"events,omitempty"`

	// The silence after which a stream gets a comment, so that proxies keep
	// it open. Default: 15s. From 1s to 10m.
	Heartbeat caddy.Duration `json:"heartbeat,omitempty"`

	// How long a browser waits before it reconnects, spread by half either
	// way. Default: 3s. From 100ms to 1h.
	Retry caddy.Duration `json:"retry,omitempty"`

	// The age at which a stream is ended and resumes at once, so that
	// authentication in front is checked again; a tenth of it is jitter.
	// Default: 1h. From 1s to 168h.
	MaxAge caddy.Duration `json:"max_age,omitempty"`

	// The longest that a request with Prefer: wait=N is held.
	// Default: 1m. From 1s to 10m.
	MaxWait caddy.Duration `json:"max_wait,omitempty"`

	// How streams are delivered: on Linux, direct writes those on HTTP/1.1,
	// plain or over TLS, straight to their sockets if that is safe. Every
	// other stream is delivered as handler does it, which keeps a goroutine
	// and the request for each. Default: direct.
	Delivery string `json:"delivery,omitempty"`

	// Whether streams and documents are compressed for clients that accept
	// gzip, once for all of them: gzip or off. Default: gzip; off for private
	// documents, those that depend on more than the public URL: their size
	// would reveal secrets to anyone whose input the upstream reflects.
	Compress string `json:"compress,omitempty"`

	// The time over which a reload ends the streams of the old
	// configuration, each of which resumes at once; at most 30s if a setting
	// has changed that decides the document. Negative: they stay until they
	// end by themselves, and their document is polled on.
	// Default: 5m. At most 24h.
	StreamCloseDelay caddy.Duration `json:"stream_close_delay,omitempty"`
}

// Limits bound what clients can have under one name. They refuse newcomers and
// evict nobody.
type Limits struct {
	// The most documents that are polled at the same time under this name.
	// Documents without subscribers give way to new ones; one client address
	// makes at most an eighth of them. A newcomer over the limit is refused.
	// Default: 1000. At least 1.
	MaxSources int `json:"max_sources,omitempty"`

	// The most streams and waiting requests at the same time under this
	// name. A newcomer over the limit is refused. Default: 20000. At least 1.
	MaxSubscribers int `json:"max_subscribers,omitempty"`

	// The most streams and waiting requests of one client address, or IPv6
	// /64, at the same time under this name. A newcomer over it is refused.
	// It does not count for loopback, nor for private addresses that send
	// forwarding fields (Forwarded, X-Forwarded-For, X-Real-IP): those are
	// proxies, and trusted_proxies of the server lets their clients count
	// each by itself. Default: an eighth of max_subscribers, or 8 if that is
	// more. At least 1.
	MaxStreamsPerClient int `json:"max_streams_per_client,omitempty"`
}

// identifyConfig names the member by which items of lists are known.
type identifyConfig struct {
	// A JSON Pointer to the lists, in which a token * stands for any one
	// token. Default: the document.
	Pattern string `json:"pattern,omitempty"`
	// The member, a scalar that differs between items. Required.
	Member string `json:"member,omitempty"`
}

// CaddyModule returns the Caddy module information.
func (Handler) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.poll_sse",
		New: func() caddy.Module { return new(Handler) },
	}
}

// Provision sets the defaults and prepares the upstream request. It does no
// network input or output and touches no source: caddy validate runs it too.
func (h *Handler) Provision(ctx caddy.Context) error {
	if h.engine == nil {
		h.engine = process
	}
	h.logger = ctx.Logger()
	h.causes = new(causes)
	at, _ := places.LoadAndDelete(h.place())
	if h.Name == "" {
		h.Name = h.engine.names.name(h.Upstream)
	}
	h.setDefaults()
	if registry := ctx.GetMetricsRegistry(); registry != nil {
		if err := registerMetrics(registry, h.engine.pool); err != nil {
			return fmt.Errorf("registering metrics: %w", err)
		}
	}
	on, err := h.app(ctx)
	if err != nil {
		return err
	}
	h.prepare(caddy.NewReplacer(), on.generation)
	transport, err := h.loadTransport(ctx)
	h.requestErr = errors.Join(h.requestErr, err)
	h.claim.environment = environment{transport, h.logger, on.generation.number}
	on.take(h)

	h.except = slices.Clone(caddyhttp.MatchPath(h.Except))
	if err := h.except.Provision(ctx); err != nil {
		return fmt.Errorf("except: %w", err)
	}

	h.drains = &drainable{reload: make(chan struct{})}
	h.key = feed.Key{
		Format:    h.Format,
		Names:     feed.Names{Snapshot: h.eventName(feed.KindSnapshot), Patch: h.eventName(feed.KindPatch), Merge: h.eventName(feed.KindMerge), Status: h.eventName(feed.KindStatus)},
		Heartbeat: time.Duration(h.Heartbeat),
	}
	h.streams = &delivery.Options{
		Name:       h.Name,
		Direct:     h.Delivery == deliveryDirect,
		Retry:      time.Duration(h.Retry),
		MaxAge:     time.Duration(h.MaxAge),
		Reload:     h.drains.reload,
		CloseDelay: time.Duration(h.StreamCloseDelay),
	}
	if server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); ok && server != nil {
		if w := time.Duration(server.WriteTimeout); w > 0 {
			h.streams.MaxAge = min(h.streams.MaxAge, w*9/10)
			h.logger.Warn("the server's write timeout ends every stream; leave timeouts { write } unset on this server",
				zap.String("poll_sse", h.Name), zap.Duration("write_timeout", w), zap.Duration("streams_end_after", h.streams.MaxAge))
		}
		place, _ := at.(string)
		h.lintServer(server, place)
		h.logged = server.Logs != nil
		h.errorRoutes = server.Errors != nil && len(server.Errors.Routes) > 0
		if h.Delivery == deliveryDirect {
			server.RegisterConnContext(connContext)
		}
		// Cleanup is too late to end streams: on an exit the http app waits
		// for them before it cleans up.
		server.RegisterOnShutdown(sync.OnceFunc(func() { h.engine.shutdown(h.drains.last()) }))
	}
	if h.requestErr != nil {
		return nil // Validate says why
	}
	h.zipped = h.Compress == compressGzip || h.Compress == "" && !h.request.Private()
	h.key.Gzip = h.zipped
	vary := []string{"Accept", "Prefer"}
	if h.zipped {
		vary = append(vary, "Accept-Encoding")
	}
	h.warnOfForeign()
	if on.generation.cluster != nil && h.claim.cluster == nil {
		h.logger.Info("each node of the cluster polls this for itself, as it depends on a client or on credentials; include_private shares it, encrypted")
	}
	h.lintProvisioned()
	h.vary = strings.Join(append(vary, h.request.Vary()...), ", ")
	return nil
}

// app returns the app of the handler's configuration. A handler outside of a
// server has one of its own.
func (h *Handler) app(ctx caddy.Context) (*App, error) {
	if server, _ := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); server == nil && !h.AlwaysOn {
		return &App{generation: h.engine.newGeneration()}, nil
	}
	app, err := ctx.App("poll_sse")
	if err != nil {
		return nil, err
	}
	return app.(*App), nil
}

// prepare makes the upstream request, and what else the key of a source and
// its upkeep are made of. The defaults are filled in.
func (h *Handler) prepare(repl *caddy.Replacer, g *generation) {
	h.request, h.requestErr = h.compile(h.requestConfig(), repl.GetString)
	h.requestErr = errors.Join(h.requestErr, h.checkAlwaysOn(h.request))
	reading, err := json.Marshal(h.Reading)
	if err != nil {
		panic("BUG: a configuration cannot be written as JSON: " + err.Error())
	}
	sum := sha256.Sum256(reading)
	part, err := json.Marshal([]any{h.Select, h.Omit})
	if err != nil {
		panic("BUG: select and omit cannot be written as JSON: " + err.Error())
	}
	document, shared := sum, h.shared(g.cluster)
	if shared != nil {
		// A reload that changes the cluster, or joins or leaves one, makes
		// other sources, which take the place of those that there are.
		sum = sha256.Sum256(append(sum[:], shared.id[:]...))
	}
	h.readingKey = sum[:]
	h.claim = &claim{
		cluster:    shared,
		document:   document,
		use:        use{h.Name, sum},
		upkeep:     upkeep{h.schedule(), *h.History, time.Duration(h.Linger)},
		part:       sha256.Sum256(part),
		generation: g,
		stays:      h.StreamCloseDelay < 0,
	}
	g.uses[h.claim.use] = struct{}{}
}

// schedule returns when this configuration wants its sources polled.
func (h *Handler) schedule() schedule {
	return schedule{
		interval:  time.Duration(h.Interval),
		quiet:     time.Duration(h.QuietInterval),
		longest:   time.Duration(h.MaxInterval),
		timeout:   time.Duration(h.Timeout),
		load:      h.MaxLoad,
		hostPolls: h.HostPolls,
		stale:     time.Duration(h.StaleAfter),
		ignore:    !*h.Honor,
	}
}

// requestConfig returns what this configuration asks of the upstream.
func (h *Handler) requestConfig() upstream.Config {
	c := upstream.Config{
		URL: h.Upstream, Method: h.Method, Body: h.Body, Forward: h.Forward,
		Tree: h.Tree, Query: h.Query, BasicAuth: h.BasicAuth, BearerFile: h.BearerFile, OAuth2: h.OAuth2,
	}
	if ops := h.HeaderUp; ops != nil {
		c.Set, c.Add, c.Delete = ops.Set, ops.Add, ops.Delete
	}
	return c
}

// compile makes the template of the upstream request and reports everything
// that is wrong with it.
func (h *Handler) compile(c upstream.Config, lookup upstream.Lookup) (*upstream.Template, error) {
	t, err := upstream.Compile(c, lookup)
	errs := []error{err, checkPlaceholders(t)}
	if h.HeaderUp != nil && len(h.HeaderUp.Replace) > 0 {
		errs = append(errs, errors.New("header_up: replace is not supported; set the field instead"))
	}
	return t, errors.Join(errs...)
}

// checkAlwaysOn refuses always_on if clients decide a part of the request.
func (h *Handler) checkAlwaysOn(parts ...*upstream.Template) error {
	if h.AlwaysOn && slices.ContainsFunc(parts, (*upstream.Template).PerClient) {
		return errors.New("always_on: the upstream request depends on the client's; there is none to start with")
	}
	return nil
}

// Validate reports everything that is wrong with the configuration at once.
func (h *Handler) Validate() error {
	var errs []error
	for _, err := range problems(errors.Join(h.requestErr, h.checkOptions())) {
		errs = append(errs, fmt.Errorf("poll_sse %s: %w", h.Name, err))
	}
	return errors.Join(errs...)
}

// Values of the options delivery and compress.
const (
	deliveryDirect  = "direct"
	deliveryHandler = "handler"

	compressGzip = "gzip"
	compressOff  = "off"
)

// Interface guards.
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.Validator             = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
