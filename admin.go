package pollsse

import (
	"cmp"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/caddyserver/caddy/v2"
)

func init() {
	caddy.RegisterModule(adminSources{})
}

// adminSources lists the sources at /poll_sse/sources of the admin API. It
// keeps no state: the pool has it.
type adminSources struct{}

// sourceStatus is one row of the list. It tells of no document, no version
// and no expanded URL: any of them may be one user's secret.
type sourceStatus struct {
	Name        string     `json:"name"`
	Upstream    string     `json:"upstream"` // as configured
	Private     bool       `json:"private"`
	Subscribers int        `json:"subscribers"`
	AlwaysOn    bool       `json:"always_on,omitempty"`
	State       string     `json:"state"`
	Since       time.Time  `json:"since"`
	Reason      string     `json:"reason,omitempty"`
	Validated   *time.Time `json:"validated,omitempty"` // when the upstream last confirmed the document
	Bytes       int        `json:"bytes"`               // of the document
}

// CaddyModule returns the Caddy module information.
func (adminSources) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "admin.api.poll_sse",
		New: func() caddy.Module { return new(adminSources) },
	}
}

// Routes implements caddy.AdminRouter.
func (adminSources) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{{Pattern: "/poll_sse/sources", Handler: caddy.AdminHandlerFunc(listSources)}}
}

func listSources(w http.ResponseWriter, r *http.Request) error {
	if r.Method != http.MethodGet {
		return caddy.APIError{HTTPStatus: http.StatusMethodNotAllowed, Err: errors.New("method not allowed")}
	}
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(sources.list())
}

// list describes every source, in order of name and age of its state.
func (p *pool) list() []sourceStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	rows := make([]sourceStatus, 0, len(p.sources))
	for _, s := range p.sources {
		v := s.log.view()
		row := sourceStatus{
			Name: s.endpoint.name, Upstream: s.display, Private: s.private, Subscribers: s.subscribers - s.holders, AlwaysOn: s.holders > 0,
			State: v.status.state, Since: v.status.since, Reason: v.status.reason,
		}
		if v.doc != nil {
			row.Bytes, row.Validated = len(v.doc.text), &v.validated
		}
		rows = append(rows, row)
	}
	slices.SortFunc(rows, func(a, b sourceStatus) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), a.Since.Compare(b.Since))
	})
	return rows
}

// Interface guard.
var _ caddy.AdminRouter = adminSources{}
