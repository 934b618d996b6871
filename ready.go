package pollsse

import (
	"net/http"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

func init() {
	caddy.RegisterModule(Ready{})
	httpcaddyfile.RegisterHandlerDirective("poll_sse_ready", func(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		r := &Ready{process}
		return r, r.UnmarshalCaddyfile(h.Dispenser)
	})
	httpcaddyfile.RegisterDirectiveOrder("poll_sse_ready", httpcaddyfile.After, "encode")
}

// Ready answers the health checks of a load balancer: 200 if every document
// that is always on is live, which includes one whose upstream has failed for
// less than stale_after, and 503 if not. It shows no names: GET
// /poll_sse/summary of the admin API does. A process with nothing that is
// always on is ready.
type Ready struct{ engine *engine }

// CaddyModule returns the Caddy module information.
func (Ready) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.poll_sse_ready",
		New: func() caddy.Module { return &Ready{process} },
	}
}

// ServeHTTP answers as the type's comment says.
func (h Ready) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		return caddyhttp.Error(http.StatusMethodNotAllowed, nil)
	}
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	status, text := http.StatusOK, "ready\n"
	if len(h.engine.pool.notReady()) > 0 || h.engine.drained.Load() || caddy.Exiting() {
		status, text = http.StatusServiceUnavailable, "not ready\n"
	}
	w.WriteHeader(status)
	if r.Method == http.MethodGet {
		_, _ = strings.NewReader(text).WriteTo(w)
	}
	return nil
}

// UnmarshalCaddyfile sets up the handler from a directive:
//
//	poll_sse_ready [<matcher>]
func (*Ready) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the directive's name
	if d.NextArg() {
		return d.ArgErr()
	}
	if d.NextBlock(d.Nesting()) {
		return d.Err("poll_sse_ready has no options")
	}
	return nil
}

// Interface guards.
var (
	_ caddyhttp.MiddlewareHandler = (*Ready)(nil)
	_ caddyfile.Unmarshaler       = (*Ready)(nil)
)
