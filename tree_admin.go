package pollsse

import (
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"
)

func init() {
	caddy.RegisterModule(adminTree{})
}

// adminTree lists what is below the trees, at /poll_sse/tree of the admin API: the
// documents with their paths, and the paths whose requests went to the next
// handler, with the reason. It is apart from the list of sources because a path
// may be a client's secret. It shows no query, no header field and no document.
type adminTree struct{ engine *engine }

// treeStatus is one row of the list: of a document, or of a path that has none.
type treeStatus struct {
	Name        string     `json:"name"`
	Path        string     `json:"path"`
	Source      string     `json:"source,omitempty"` // id of a document's, as in the list of sources
	Subscribers int        `json:"subscribers"`
	State       string     `json:"state,omitempty"`     // of a document
	Reason      string     `json:"reason,omitempty"`    // why it is not live, or why requests were handed on
	HandedOn    *time.Time `json:"handed_on,omitempty"` // when the last request was, for this reason
}

// CaddyModule returns the Caddy module information.
func (adminTree) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "admin.api.poll_sse_tree",
		New: func() caddy.Module { return &adminTree{process} },
	}
}

// Routes implements caddy.AdminRouter.
func (a adminTree) Routes() []caddy.AdminRoute {
	return []caddy.AdminRoute{{Pattern: "/poll_sse/tree", Handler: caddy.AdminHandlerFunc(a.listTree)}}
}

// listTree answers GET /poll_sse/tree?name=…&limit=…&after=…, in order of name and path.
func (a adminTree) listTree(w http.ResponseWriter, r *http.Request) error {
	if err := only(http.MethodGet, r); err != nil {
		return err
	}
	rows, err := page(w, r, a.engine.pool.listTree(r.URL.Query().Get("name")), func(row treeStatus) string {
		return row.Name + "\n" + row.Path + "\n" + row.Source + row.Reason
	})
	if err != nil {
		return err
	}
	return answerJSON(w, rows)
}

// listTree describes what is below the trees of a name, or of every name if that is
// empty.
func (p *pool) listTree(name string) []treeStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	rows := []treeStatus{}
	for _, n := range p.entries {
		if request := n.source.poller.request; request.Tree() && (name == "" || n.endpoint.name == name) {
			status := n.source.log.View().Status
			rows = append(rows, treeStatus{Name: n.endpoint.name, Path: shorten(request.Path()), Source: n.id, Subscribers: n.subscribers, State: status.State, Reason: status.Reason})
		}
	}
	for of, e := range p.endpoints {
		if name != "" && of != name {
			continue
		}
		for _, o := range e.urls.handedOnLately() {
			rows = append(rows, treeStatus{Name: of, Path: o.path, Reason: o.reason, HandedOn: &o.at})
		}
	}
	return rows
}

// Interface guard.
var _ caddy.AdminRouter = adminTree{}
