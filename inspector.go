package pollsse

import (
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"mime"
	"net/http"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"

	browser "github.com/pollsse/caddy-poll-sse/client"
)

func init() {
	caddy.RegisterModule(Inspector{})
	httpcaddyfile.RegisterHandlerDirective("poll_sse_inspector", func(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		i := new(Inspector)
		return i, i.UnmarshalCaddyfile(h.Dispenser)
	})
	httpcaddyfile.RegisterDirectiveOrder("poll_sse_inspector", httpcaddyfile.After, "encode")
}

// Inspector serves a page for the person who sets poll_sse up. It shows the
// documents of the configured streams as trees whose changes flash, their
// events with size and age, and what the streams save. The page reads the
// streams as any page of the site does, with the visitor's own rights. It also
// learns the state of the configured names, their number of readers, and the
// time and outcome of the last polls, but nothing about documents that are for
// one client alone.
//
// Put it behind a login: anyone who sees the page sees how busy the names are.
type Inspector struct {
	// The streams that the page shows. At least one, at most 100.
	Streams []InspectedStream `json:"streams,omitempty"`

	// Whether the page has a button that polls a name at once, by a POST from the
	// same origin. Default: false.
	PollNow bool `json:"poll_now,omitempty"`

	engine *engine
	app    *App
}

// InspectedStream is a stream that the inspector shows.
type InspectedStream struct {
	// The name of the poll_sse: its option name. Required.
	Name string `json:"name,omitempty"`

	// The path, with its query, at which pages of this site read it. Required.
	URL string `json:"url,omitempty"`
}

const maxInspected = 100

//go:embed inspector/inspector.html inspector/inspector.css inspector/inspector.js
var inspectorFiles embed.FS

// CaddyModule returns the Caddy module information.
func (Inspector) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.poll_sse_inspector",
		New: func() caddy.Module { return new(Inspector) },
	}
}

// Provision finds the configuration's other handlers.
func (i *Inspector) Provision(ctx caddy.Context) error {
	if i.engine == nil {
		i.engine = process
	}
	app, err := ctx.App("poll_sse")
	if err != nil {
		return err
	}
	i.app = app.(*App)
	return nil
}

// Validate reports everything that is wrong with the configuration at once.
func (i *Inspector) Validate() error {
	var errs []error
	if n := len(i.Streams); n == 0 || n > maxInspected {
		errs = append(errs, fmt.Errorf("poll_sse_inspector: need 1 to %d streams, as in stream quotes /api/quotes", maxInspected))
	}
	seen := make(map[string]bool)
	for _, s := range i.Streams {
		if !strings.HasPrefix(s.URL, "/") || strings.HasPrefix(s.URL, "//") || s.Name == "" {
			errs = append(errs, fmt.Errorf("poll_sse_inspector: stream %q %q: need the name of a poll_sse and a path of this site", s.Name, s.URL))
		}
		if seen[s.Name] {
			errs = append(errs, fmt.Errorf("poll_sse_inspector: stream %q is given twice", s.Name))
		}
		seen[s.Name] = true
	}
	return errors.Join(errs...)
}

// ServeHTTP serves the page. The last segment of the path says what is asked
// for, so the page works below any path.
func (i *Inspector) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-cache")
	h.Set("Referrer-Policy", "no-referrer")
	dir, file := path.Split(r.URL.Path)
	if file == "poll" {
		return i.poll(w, r)
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		h.Set("Allow", "GET, HEAD")
		return caddyhttp.Error(http.StatusMethodNotAllowed, nil)
	}
	switch file {
	case "":
		h.Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		return serveAsset(w, r, inspectorFiles, "inspector/inspector.html")
	case "inspector.css", "inspector.js":
		return serveAsset(w, r, inspectorFiles, "inspector/"+file)
	case "client.js", "numbers.js":
		return serveAsset(w, r, browser.Files, "dist/"+file)
	case "names.json":
		return i.names(w)
	case "upstream.json":
		return i.upstream(w, r.URL.Query().Get("name"))
	}
	if path.Ext(file) == "" && path.Base(dir) != file {
		// Relative, as handle_path may have removed the beginning of the path.
		h.Set("Location", "./"+file+"/")
		w.WriteHeader(http.StatusPermanentRedirect)
		return nil
	}
	return caddyhttp.Error(http.StatusNotFound, nil)
}

// serveAsset answers with an embedded file.
func serveAsset(w http.ResponseWriter, r *http.Request, files fs.FS, name string) error {
	text, err := fs.ReadFile(files, name)
	if err != nil {
		return caddyhttp.Error(http.StatusNotFound, err)
	}
	w.Header().Set("Content-Type", mime.TypeByExtension(path.Ext(name)))
	if r.Method == http.MethodGet {
		_, _ = w.Write(text)
	}
	return nil
}

// names answers with the streams of the page.
func (i *Inspector) names(w http.ResponseWriter) error {
	type named struct {
		Name     string            `json:"name"`
		URL      string            `json:"url"`
		Interval int64             `json:"interval_ms"`
		PollNow  bool              `json:"poll_now"`
		Events   map[string]string `json:"events,omitempty"` // names of the renamed ones, by kind
	}
	var all []named
	for _, s := range i.Streams {
		interval := i.app.limits[s.Name].interval
		if interval == 0 {
			interval = 5 * time.Second // until there is one
		}
		all = append(all, named{s.Name, s.URL, interval.Milliseconds(), i.PollNow, i.app.events[s.Name]})
	}
	return answerJSON(w, map[string]any{"names": all})
}

// inspected is what the page learns about the upstream of a name.
type inspected struct {
	State    string          `json:"state,omitempty"`
	Reason   string          `json:"reason,omitempty"`
	Interval int64           `json:"interval_ms,omitempty"`
	Latency  *float64        `json:"latency_ms,omitempty"` // median of the last polls
	Readers  int             `json:"readers"`
	Polls    []inspectedPoll `json:"polls"`
}

type inspectedPoll struct {
	At      int64   `json:"at"` // milliseconds since 1970
	Took    float64 `json:"took_ms"`
	Outcome string  `json:"outcome"`
}

// upstream answers with what the page may know about the upstream of a name.
func (i *Inspector) upstream(w http.ResponseWriter, name string) error {
	if !i.shows(name) {
		return caddyhttp.Error(http.StatusNotFound, nil)
	}
	return answerJSON(w, i.engine.pool.inspect(name))
}

func (i *Inspector) shows(name string) bool {
	return slices.ContainsFunc(i.Streams, func(s InspectedStream) bool { return s.Name == name })
}

// inspect describes the document of a name that has the most readers. Documents
// that are for one client alone do not count.
func (p *pool) inspect(name string) inspected {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := inspected{Polls: []inspectedPoll{}}
	if e := p.endpoints[name]; e != nil {
		out.Readers = e.subscribers
	}
	var best *entry
	for _, n := range p.entries {
		if _, ok := n.names[name]; ok && !n.source.private && (best == nil || n.subscribers > best.subscribers) {
			best = n
		}
	}
	if best == nil {
		return out
	}
	now := time.Now()
	v := best.source.log.ViewAt(now)
	out.State, out.Reason, out.Interval = v.Status.State, v.Status.Reason, best.source.upkeep.Load().schedule.interval.Milliseconds()
	var took []float64
	for _, r := range best.source.records.read(now).last {
		ms := float64(r.Took) / float64(time.Millisecond)
		took = append(took, ms)
		out.Polls = append(out.Polls, inspectedPoll{r.At.UnixMilli(), ms, r.Outcome})
	}
	if len(took) > 0 {
		slices.Sort(took)
		out.Latency = &took[len(took)/2]
	}
	return out
}

// poll polls a name at once, if that is configured and the page itself asks.
func (i *Inspector) poll(w http.ResponseWriter, r *http.Request) error {
	if !i.PollNow {
		return caddyhttp.Error(http.StatusNotFound, nil)
	}
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return caddyhttp.Error(http.StatusMethodNotAllowed, nil)
	}
	fromBrowser := r.Header.Get("Sec-Fetch-Site") != "" || r.Header.Get("Origin") != ""
	if err := http.NewCrossOriginProtection().Check(r); err != nil || !fromBrowser {
		return caddyhttp.Error(http.StatusForbidden, errors.Join(errors.New("only the inspector's own page may poll"), err))
	}
	r.Body = http.MaxBytesReader(w, r.Body, 4<<10)
	name := r.PostFormValue("name")
	if !i.shows(name) {
		return caddyhttp.Error(http.StatusNotFound, nil)
	}
	i.engine.pool.poke(r.Context(), name, pokedByInspector)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// UnmarshalCaddyfile sets up the handler from a directive:
//
//	poll_sse_inspector [<matcher>] {
//		stream <name> <path>
//		poll_now
//	}
func (i *Inspector) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the directive's name
	if d.NextArg() {
		return d.ArgErr()
	}
	var errs []error
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name, args := d.Val(), d.RemainingArgs()
		switch {
		case name == "stream" && len(args) == 2:
			i.Streams = append(i.Streams, InspectedStream{args[0], args[1]})
		case name == "stream":
			errs = append(errs, d.Errf("stream: need the name of a poll_sse and the path at which it is read"))
		case name == "poll_now" && len(args) == 0:
			i.PollNow = true
		case name == "poll_now":
			errs = append(errs, d.Errf("poll_now takes no value"))
		default:
			meant := nearest(name, []string{"stream", "poll_now"})
			if meant != "" {
				meant = "; did you mean " + meant + "?"
			}
			errs = append(errs, d.Errf("poll_sse_inspector has no option %s%s", name, meant))
		}
	}
	if len(errs) == 0 {
		if err := i.Validate(); err != nil {
			errs = append(errs, d.WrapErr(err))
		}
	}
	return errors.Join(errs...)
}

// Interface guards.
var (
	_ caddy.Provisioner           = (*Inspector)(nil)
	_ caddy.Validator             = (*Inspector)(nil)
	_ caddyhttp.MiddlewareHandler = (*Inspector)(nil)
	_ caddyfile.Unmarshaler       = (*Inspector)(nil)
)
