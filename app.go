package pollsse

import (
	"net/http"

	"github.com/caddyserver/caddy/v2"
)

func init() {
	caddy.RegisterModule(new(alwaysOn))
}

// alwaysOn is the app that holds the sources of handlers that are always on.
// It is there because a handler is not told when its configuration starts:
// caddy validate provisions handlers, too, and must not poll. The new
// configuration's app starts before the old one's stops, so that a reload
// leaves no gap. It needs no configuration of its own.
type alwaysOn struct {
	// handlers is written while they are provisioned, held from Start on.
	handlers []*Handler
	held     []*source
}

// CaddyModule returns the Caddy module information.
func (*alwaysOn) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "poll_sse",
		New: func() caddy.Module { return new(alwaysOn) },
	}
}

// Start implements caddy.App.
func (a *alwaysOn) Start() error {
	for _, h := range a.handlers {
		// Validate has seen to it that there is nothing to expand.
		req, err := h.request.expand(func(string) (string, bool) { return "", false }, &http.Request{Header: http.Header{}})
		if err != nil {
			return err
		}
		key := req.key(h.settingKey)
		s := sources.hold(key, h.Name, func(total *counters) *source {
			return newSource(key, req, h.settings, h.link, total)
		})
		s.adopt(h.link)
		a.held = append(a.held, s)
	}
	return nil
}

// Stop implements caddy.App.
func (a *alwaysOn) Stop() error {
	for _, s := range a.held {
		sources.release(s)
	}
	a.held = nil
	return nil
}

// Interface guard.
var _ caddy.App = (*alwaysOn)(nil)
