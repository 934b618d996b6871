// Package pollsse is a Caddy v2 HTTP handler that lets a site stop polling: it
// polls an upstream JSON URL once on the server, works out what changed, and
// pushes only the change to every browser as Server-Sent Events.
package pollsse

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
	"go.uber.org/zap"
)

func init() {
	caddy.RegisterModule(Handler{})
	caddy.OnExit(func(context.Context) {
		endAll()
		directs.wait() // Caddy does not: their connections are not its own any more
		sources.closeAll()
	})
}

// Handler answers GET and HEAD requests from a JSON document that it polls at
// an upstream: as an event stream of the document and its changes where the
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
	// more, up to 1h. Default: 1m, or the longer of the intervals. From
	// quiet_interval to 24h.
	MaxInterval caddy.Duration `json:"max_interval,omitempty"`

	// Whether Cache-Control, Expires and X-Poll-Interval of the upstream
	// lengthen the interval, up to max_interval; they never shorten it.
	// Retry-After is obeyed in any case. Default: true.
	Honor *bool `json:"honor,omitempty"`

	// The largest share of the upstream's time that polls of one document
	// take, in percent: where a poll took 2s, 50 leaves it alone for the next
	// 2s. Default: 50. From 1 to 100.
	MaxLoad int `json:"max_load,omitempty"`

	// How many polls one upstream host gets at the same time, from every
	// poll_sse of this server together; the others wait for their turn,
	// first come, first served. Default: 16. At least 1.
	HostPolls int `json:"host_polls,omitempty"`

	// How long an upstream may go without a good answer, from the start of
	// the first poll that brought none, before its document is called stale.
	// Default: 0, stale with the first poll that fails. At most 24h.
	StaleAfter caddy.Duration `json:"stale_after,omitempty"`

	// How long one poll may take, from dial to the last byte, and how long a
	// request waits for the first document before it is answered with 504.
	// Default: 10s. From 100ms to 5m.
	Timeout caddy.Duration `json:"timeout,omitempty"`

	// The method of the polls: GET, POST, QUERY, SEARCH or REPORT.
	// Default: GET, or POST with a body.
	Method string `json:"method,omitempty"`

	// The body of the polls: JSON, a form, or, without placeholders of the
	// request, any other text; Content-Type follows from its look unless
	// header_up sets it. Placeholders have a dot in their name, so that
	// GraphQL keeps its braces. In a JSON string and in a form they are
	// escaped; elsewhere in JSON they are a number, true, false or null.
	// At most 1 MiB.
	Body string `json:"body,omitempty"`

	// The server's own user name and password at the upstream. Placeholders:
	// {env.*}, {file.*} and {system.*}.
	BasicAuth *basicAuth `json:"basic_auth,omitempty"`

	// The path of a file that holds the server's own bearer token at the
	// upstream. It is read for each poll, so that a renewed token is used at
	// once. At most 64 KiB.
	BearerFile string `json:"bearer_file,omitempty"`

	// The server's own OAuth2 client at the upstream: a token is asked for
	// with the client credentials grant, through the same transport, kept
	// for every source of the client, renewed a minute before its end (or a
	// quarter of its life where that is less), and once where the upstream
	// answers 401, at most once a minute.
	OAuth2 *oauth2Config `json:"oauth2,omitempty"`

	// Request header fields to set, add or delete on each poll. Values may
	// hold placeholders; those of the client's request make the document
	// that client's own. replace is not supported.
	HeaderUp *headers.HeaderOps `json:"header_up,omitempty"`

	// Header fields of the client to send to the upstream, and cookies as
	// cookie:NAME. Each combination of values has a poll and a document of
	// its own, which nobody else sees. At most 16 KiB a request.
	Forward []string `json:"forward,omitempty"`

	// How to reach the upstream: the http transport of reverse_proxy.
	TransportRaw json.RawMessage `json:"transport,omitempty" caddy:"namespace=http.reverse_proxy.transport inline_key=protocol"`

	// A JSON Pointer to the part of the upstream's document that is
	// published; without it there the poll has failed. Patterns of the other
	// options begin there. Default: all of it.
	Select string `json:"select,omitempty"`

	// What is left out of the document: JSON Pointers in which a token *
	// stands for any one token.
	Omit []string `json:"omit,omitempty"`

	// Places, as in omit, where a change alone sends nothing and travels with
	// the next real change. Each node that polls the upstream may then have
	// other versions for a while; prefer omit for what no page needs.
	Ignore []string `json:"ignore,omitempty"`

	// The members that tell the items of lists apart, so that a patch moves,
	// adds and removes items instead of rewriting them. The first pattern
	// that matches a list counts. Default: found in the document.
	Identify []identifyConfig `json:"identify,omitempty"`

	// Whether the document is polled from the start of the configuration to
	// its end, so that the first subscriber gets it at once. The upstream
	// request must not depend on the client's. Default: false.
	AlwaysOn bool `json:"always_on,omitempty"`

	// The largest body in bytes, decoded, that is taken for a document; what
	// is larger makes the document stale. Default: 10 MiB. At most 256 MiB.
	MaxBody int64 `json:"max_body,omitempty"`

	// Query parameters that tell the upstream what is known already, for one
	// that returns only what is new. A time is told by placeholders in the
	// query or the body: {poll_sse.last_success} (RFC 3339), with .unix,
	// .unix_ms or .http behind it, or with a colon and a layout of Go's time
	// package. It is the upstream's own time of the last good answer, and
	// the Unix epoch before there is one.
	Since []sinceConfig `json:"since,omitempty"`

	// How answers that hold only what is new become one document. Default:
	// each answer is the document.
	Append *appendConfig `json:"append,omitempty"`

	// How a document that comes in pages is put together. Default: it does
	// not come in pages.
	Paginate *paginateConfig `json:"paginate,omitempty"`

	// What the upstream's body is: json, ndjson (JSON texts on lines of their
	// own, or behind record separators, which become one list), or auto, by
	// its Content-Type. In any case the content codings gzip, deflate and
	// zstd, a byte order mark, the charset that Content-Type names, a prefix
	// such as )]}' that guards against inclusion as a script, and a JSONP
	// call are taken off. Default: auto.
	UpstreamFormat string `json:"upstream_format,omitempty"`

	// What a change is sent as: patch (RFC 6902), merge (RFC 7396, with a
	// snapshot where it cannot express the change) or snapshot.
	// Default: patch.
	Format string `json:"format,omitempty"`

	// Other names for the events snapshot, patch, merge and status, so that
	// {"snapshot": "message"} reaches a page's onmessage. At most 64 bytes,
	// not error or open; snapshot and the format's own event keep different
	// names.
	Events map[string]string `json:"events,omitempty"`

	// The silence after which a stream gets a comment, so that proxies keep
	// it open. Default: 15s. From 1s to 10m.
	Heartbeat caddy.Duration `json:"heartbeat,omitempty"`

	// How long a browser waits before it reconnects, spread by half either
	// way. Default: 3s. From 100ms to 1h.
	Retry caddy.Duration `json:"retry,omitempty"`

	// How many changes are kept for clients that return; one that was away
	// longer gets a snapshot. Changes that together are more than twice the
	// size of the document are dropped sooner. Default: 256. From 0 to
	// 100000.
	History *int `json:"history,omitempty"`

	// How long a document without subscribers is still polled.
	// Default: 30s. At most 1h.
	Linger caddy.Duration `json:"linger,omitempty"`

	// The age at which a stream is ended and resumes at once, so that
	// authentication in front is checked again; a tenth of it is jitter.
	// Default: 1h. From 1s to 7 days.
	MaxAge caddy.Duration `json:"max_age,omitempty"`

	// The longest that a request with Prefer: wait=N is held.
	// Default: 1m. From 1s to 10m.
	MaxWait caddy.Duration `json:"max_wait,omitempty"`

	// How streams are delivered: direct writes those on plain HTTP/1.1
	// straight to their sockets where that is safe, on Linux, and every other
	// stream as handler does, which keeps a goroutine and the request for
	// each. Default: direct.
	Delivery string `json:"delivery,omitempty"`

	// Whether streams are compressed for clients that accept gzip, once for
	// all of them: gzip or off. Default: gzip, but off where the document
	// depends on more than the public URL, as sizes then tell about
	// secrets to whoever can have the upstream reflect his input.
	Compress string `json:"compress,omitempty"`

	// The time over which a reload ends the streams of the old
	// configuration, each of which resumes at once. Negative: they stay
	// until they end by themselves. Default: 5m. At most 24h.
	StreamCloseDelay caddy.Duration `json:"stream_close_delay,omitempty"`

	// The most documents that are polled at the same time under this name.
	// Documents without subscribers give way to new ones; one client address
	// makes at most an eighth of them. A newcomer over the limit is refused.
	// Default: 1000. At least 1.
	MaxSources int `json:"max_sources,omitempty"`

	// The most streams and waiting requests at the same time under this
	// name. A newcomer over the limit is refused. Default: 20000. At least 1.
	MaxSubscribers int `json:"max_subscribers,omitempty"`

	// The name in logs, metrics and the admin API, for which the limits
	// count. Default: the upstream URL as configured.
	Name string `json:"name,omitempty"`

	request    *requestTemplate
	requestErr error // reported by Validate, with everything else
	settings   settings
	settingKey []byte
	link       link
	terms      terms
	gzipTerms  *terms // nil where streams are not compressed
	logger     *zap.Logger
}

// basicAuth is a user name and password, RFC 7617.
type basicAuth struct {
	// The user name, without a colon. Required.
	Username string `json:"username,omitempty"`
	// The password.
	Password string `json:"password,omitempty"`
}

// oauth2Config is the client credentials grant, RFC 6749 section 4.4.
// Placeholders: {env.*}, {file.*} and {system.*}.
type oauth2Config struct {
	// The token endpoint: http or https, absolute. Required.
	TokenURL string `json:"token_url,omitempty"`
	// The client's id. Required.
	ClientID string `json:"client_id,omitempty"`
	// The client's secret.
	ClientSecret string `json:"client_secret,omitempty"`
	// The scopes to ask for. Default: none, the endpoint decides.
	Scopes []string `json:"scopes,omitempty"`
	// Further parameters for the endpoint, such as audience.
	Params map[string]string `json:"params,omitempty"`
	// Where id and secret go: header (HTTP Basic) or body.
	// Default: header.
	Auth string `json:"auth,omitempty"`
}

// identifyConfig names the member by which items of lists are known.
type identifyConfig struct {
	// A JSON Pointer to the lists, in which a token * stands for any one
	// token. Default: the document.
	Pattern string `json:"pattern,omitempty"`
	// The member, a scalar that differs between items. Required.
	Member string `json:"member,omitempty"`
}

// sinceConfig is a query parameter whose value is taken from the last good
// answer.
type sinceConfig struct {
	// The parameter's name. Required.
	Param string `json:"param,omitempty"`
	// A JSON Pointer to its value, a string, number or true, in the answer;
	// in a list the token - is the last item. An answer without it leaves
	// the value as it was.
	Pointer string `json:"pointer,omitempty"`
	// The value before there is an answer. Default: the parameter is left
	// out.
	Initial string `json:"initial,omitempty"`
}

// appendConfig adds each answer's list to the one that is kept.
type appendConfig struct {
	// A JSON Pointer to the list. Default: the whole answer. The rest of the
	// document is the last answer's.
	List string `json:"list,omitempty"`
	// The most items that are kept; the oldest go first. Together they are no
	// larger than max_body. Default: 1000. From 1 to 100000.
	Max int `json:"max,omitempty"`
	// The member by which an item is known: a new one takes the place of the
	// old. An item without it is known by all it is. Default: id.
	Key string `json:"key,omitempty"`
}

// paginateConfig walks the pages of a document. The pages are asked for
// unconditionally, until two walks in a row give the same items in the same
// order: one where nothing came or went since the last poll, two where
// something did, at most five. All of them together have one timeout and one
// max_body, and stay on the upstream's scheme and host.
type paginateConfig struct {
	// Where the next page is: link (the Link header's rel="next"), or a JSON
	// Pointer to its URI, absolute or relative, or to the value of param.
	// Required.
	Next string `json:"next,omitempty"`
	// The query parameter that takes what next points to. Default: none,
	// it is a URI.
	Param string `json:"param,omitempty"`
	// A JSON Pointer to the list of which each page has a part. Default: the
	// whole page. The rest of the document is the first page's.
	List string `json:"list,omitempty"`
	// The member by which an item is known, as an item can be on two pages
	// while the list changes. Default: id.
	Key string `json:"key,omitempty"`
	// The most pages. A document with more is a failure. Default: 100. From
	// 2 to 1000.
	MaxPages int `json:"max_pages,omitempty"`
}

// generations numbers configurations, so that a source follows the newest.
var generations atomic.Uint64

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
	h.logger = ctx.Logger()
	h.setDefaults()
	if registry := ctx.GetMetricsRegistry(); registry != nil {
		if err := registerMetrics(registry); err != nil {
			return fmt.Errorf("registering metrics: %w", err)
		}
	}
	h.prepare(caddy.NewReplacer())
	transport, err := h.loadTransport(ctx)
	h.requestErr = errors.Join(h.requestErr, err)
	h.link = link{transport, h.logger, generations.Add(1)}

	if h.AlwaysOn {
		app, err := ctx.App("poll_sse")
		if err != nil {
			return err
		}
		on := app.(*alwaysOn)
		on.handlers = append(on.handlers, h)
	}

	reload := make(chan struct{})
	h.terms = terms{
		key: renditionKey{
			enc:       encoding{h.Format, h.eventName(kindSnapshot), h.eventName(kindPatch), h.eventName(kindMerge), h.eventName(kindStatus)},
			heartbeat: time.Duration(h.Heartbeat),
		},
		retry:  time.Duration(h.Retry),
		age:    time.Duration(h.MaxAge),
		drain:  &drain{reload: reload, exit: exit, spread: time.Duration(h.StreamCloseDelay)},
		pool:   sources,
		name:   h.Name,
		logger: h.logger,
	}
	if server, ok := ctx.Value(caddyhttp.ServerCtxKey).(*caddyhttp.Server); ok && server != nil {
		if w := time.Duration(server.WriteTimeout); w > 0 {
			h.terms.age = min(h.terms.age, w*9/10)
			h.logger.Warn("the server's write timeout ends every stream; leave timeouts { write } unset on this server",
				zap.Duration("write_timeout", w), zap.Duration("streams_end_after", h.terms.age))
		}
		h.terms.logged = server.Logs != nil
		if h.Delivery == deliveryDirect {
			server.RegisterConnContext(noteConn)
		}
		// Cleanup is too late to end streams: on an exit the http app waits
		// for them before it cleans up.
		server.RegisterOnShutdown(sync.OnceFunc(func() {
			if caddy.Exiting() {
				endAll()
				return
			}
			close(reload)
			watchExit(h.terms.pool)
		}))
	}
	if h.Compress == compressGzip || h.Compress == "" && h.request != nil && !h.request.private {
		zipped := h.terms
		zipped.key.gzip = true
		h.gzipTerms = &zipped
	}
	return nil
}

// prepare makes the upstream request and the settings of its sources.
func (h *Handler) prepare(repl *caddy.Replacer) {
	h.request, h.requestErr = h.compile(repl)
	h.settings = settings{
		Schedule:  h.schedule(),
		MaxBody:   h.MaxBody,
		Format:    h.UpstreamFormat,
		Since:     h.sinceParams(),
		Filter:    h.filterSettings(),
		History:   *h.History,
		Linger:    time.Duration(h.Linger),
		Transport: string(h.TransportRaw),
	}
	if a := h.Append; a != nil {
		h.settings.Append = appended{true, a.List, a.Max, a.Key}
	}
	if p := h.Paginate; p != nil {
		h.settings.Pages = pagination{p.Next, p.Param, p.List, p.Key, p.MaxPages}
	}
	h.settingKey = fmt.Appendf(nil, "%#v", h.settings)
}

func (h *Handler) filterSettings() filterSettings {
	f := filterSettings{Select: h.Select, Omit: h.Omit, Ignore: h.Ignore}
	for _, id := range h.Identify {
		f.Identify = append(f.Identify, identity{id.Pattern, id.Member})
	}
	return f
}

func (h *Handler) sinceParams() []sinceParam {
	var params []sinceParam
	for _, s := range h.Since {
		params = append(params, sinceParam{s.Param, s.Pointer, s.Initial})
	}
	return params
}

// schedule is when this configuration has its sources polled.
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

// loadTransport loads the configured transport, or a plain http one.
func (h *Handler) loadTransport(ctx caddy.Context) (http.RoundTripper, error) {
	if h.TransportRaw == nil {
		t := new(reverseproxy.HTTPTransport)
		if err := t.Provision(ctx); err != nil {
			return nil, fmt.Errorf("transport: %w", err)
		}
		return pollTransport{t}, nil
	}
	module, err := ctx.LoadModule(h, "TransportRaw")
	if err != nil {
		return nil, fmt.Errorf("transport: %w", err)
	}
	t, ok := module.(*reverseproxy.HTTPTransport)
	if !ok {
		return nil, errors.New("transport: only http is supported")
	}
	if t.ProxyProtocol != "" {
		return nil, errors.New("transport: proxy_protocol is not supported: a poll stands for no single client")
	}
	return pollTransport{t}, nil
}

// pollTransport gives every poll a fresh Replacer, without which the transport
// crashes on tls_server_name with a placeholder.
type pollTransport struct{ *reverseproxy.HTTPTransport }

func (t pollTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	return t.HTTPTransport.RoundTrip(r.WithContext(context.WithValue(r.Context(), caddy.ReplacerCtxKey, caddy.NewReplacer())))
}

// CloseIdleConnections serves http.Client.CloseIdleConnections.
func (t pollTransport) CloseIdleConnections() { t.Transport.CloseIdleConnections() }

// compile makes the template of the upstream request.
func (h *Handler) compile(repl *caddy.Replacer) (*requestTemplate, error) {
	t, err := compileURL(h.Upstream, repl.GetString)
	if err != nil {
		return nil, err
	}
	_ = t.addForward(h.Forward) // checkForward reports it
	var errs []error
	if ops := h.HeaderUp; ops != nil {
		t.set, err = t.compileFields(ops.Set, repl.GetString)
		errs = append(errs, err)
		t.add, err = t.compileFields(ops.Add, repl.GetString)
		errs = append(errs, err)
		t.remove = ops.Delete
		if len(ops.Replace) > 0 {
			errs = append(errs, errors.New("header_up: replace is not supported; set the field instead"))
		}
	}
	errs = append(errs, t.compileBody(h.Method, h.Body, repl.GetString))
	t.credentials, err = h.credentials(repl.GetString)
	if h.AlwaysOn && t.dynamic() {
		errs = append(errs, errors.New("always_on: the upstream request depends on the client's; there is none to start with"))
	}
	return t, errors.Join(append(errs, err)...)
}

// credentials expands the server's own credentials.
func (h *Handler) credentials(config lookup) (credentials, error) {
	var errs []error
	expand := func(option, text string) string {
		t := parseTemplate(text, verbatim)
		for _, name := range t.placeholders() {
			if !isConfigPlaceholder(name) {
				errs = append(errs, fmt.Errorf("%s: only {env.*}, {file.*} and {system.*} may stand here, not {%s}; forward sends what is the client's", option, name))
				return ""
			}
		}
		value, err := t.expand(config)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", option, err))
		}
		return value
	}
	var c credentials
	if b := h.BasicAuth; b != nil {
		user := expand("basic_auth", b.Username)
		if user == "" || strings.Contains(user, ":") {
			errs = append(errs, errors.New("basic_auth: need a user name, without a colon"))
		}
		c.basic = user + ":" + expand("basic_auth", b.Password)
	}
	c.bearerFile = expand("bearer_file", h.BearerFile)
	if o := h.OAuth2; o != nil {
		params := make(url.Values)
		for name, value := range o.Params {
			params.Set(name, expand("oauth2", value))
		}
		c.oauth2 = oauth2Client{
			tokenURL: expand("oauth2", o.TokenURL), id: expand("oauth2", o.ClientID), secret: expand("oauth2", o.ClientSecret),
			scopes: strings.Join(o.Scopes, " "), params: params.Encode(), inBody: o.Auth == "body",
		}
		u, err := url.Parse(c.oauth2.tokenURL)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
			errs = append(errs, errors.New("oauth2: need the absolute URL of the token endpoint, without credentials"))
		}
		if c.oauth2.id == "" {
			errs = append(errs, errors.New("oauth2: need a client_id"))
		}
		if o.Auth != "" && o.Auth != "header" && o.Auth != "body" {
			errs = append(errs, fmt.Errorf("oauth2: auth %q: need header or body", o.Auth))
		}
	}
	return c, errors.Join(errs...)
}

// Validate reports everything that is wrong with the configuration at once.
func (h *Handler) Validate() error {
	return errors.Join(h.requestErr, h.checkOptions())
}

// exit is closed when the process exits, and ends every stream of every
// configuration.
var (
	exit    = make(chan struct{})
	endAll  = sync.OnceFunc(func() { close(exit); go cutOff() })
	directs = &writers{exit: exit}
)

// Values of the options delivery and compress.
const (
	deliveryDirect  = "direct"
	deliveryHandler = "handler"

	compressGzip = "gzip"
	compressOff  = "off"
)

// exitWatch looks for the exit on behalf of streams that outlived their
// configuration: their own server's shutdown hook has fired already, and no
// other module is told in time.
var exitWatch struct {
	mu      sync.Mutex
	running bool
	until   time.Time // for streams that are only about to subscribe
}

// watchExit has the exit watched for until there are no streams left in p.
func watchExit(p *pool) {
	w := &exitWatch
	w.mu.Lock()
	defer w.mu.Unlock()
	w.until = time.Now().Add(5 * time.Second)
	if w.running {
		return
	}
	w.running = true
	go func() {
		for {
			time.Sleep(100 * time.Millisecond)
			if caddy.Exiting() {
				endAll()
				return
			}
			w.mu.Lock()
			if time.Now().After(w.until) && !p.subscribed() {
				w.running = false
				w.mu.Unlock()
				return
			}
			w.mu.Unlock()
		}
	}()
}

// Interface guards.
var (
	_ caddy.Provisioner           = (*Handler)(nil)
	_ caddy.Validator             = (*Handler)(nil)
	_ caddyhttp.MiddlewareHandler = (*Handler)(nil)
)
