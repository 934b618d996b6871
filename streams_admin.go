package pollsse

import (
	"net/http"

	"github.com/pollsse/caddy-poll-sse/internal/delivery"
	"github.com/pollsse/caddy-poll-sse/internal/feed"
)

// streamStatus is one open stream, and how far it is behind. Durations are in
// seconds, sizes in bytes.
type streamStatus struct {
	Name     string  `json:"name"`
	Source   string  `json:"source,omitempty"` // its id, while there is one
	Client   string  `json:"client,omitempty"` // address and port of the other end, if configured
	Delivery string  `json:"delivery"`         // direct or handler
	Age      float64 `json:"age_seconds"`
	Events   int64   `json:"sent_events"` // heartbeats included
	Bytes    int64   `json:"sent_bytes"`

	Missed  int     `json:"missed_events"`   // that the stream has not been sent whole; it gets those that it has not begun as one
	Left    int     `json:"unwritten_bytes"` // of the one that it has begun
	Waiting float64 `json:"waiting_seconds"` // since the client took a piece of that
	// What the system has taken for it and the client not acknowledged; absent
	// if that is not known, as with delivery handler.
	Unacknowledged *int `json:"unacknowledged_bytes,omitempty"`
}

// slowestStreams is how many streams are shown by default.
const slowestStreams = 20

// listStreams answers GET /poll_sse/streams?name=…&slowest=…: the streams that are
// furthest behind, the slowest first.
func (a adminAPI) listStreams(w http.ResponseWriter, r *http.Request) error {
	if err := only(http.MethodGet, r); err != nil {
		return err
	}
	query := r.URL.Query()
	most, err := countParam(query, "slowest", slowestStreams)
	if err != nil {
		return err
	}
	app := a.engine.app.Load()
	all := a.engine.delivery.Slowest(r.Context(), query.Get("name"), most)
	sources := a.engine.pool.idsOf(all)
	rows := make([]streamStatus, 0, len(all))
	for _, l := range all {
		row := streamStatus{
			Name: l.Name, Source: sources[l.Log], Delivery: deliveryHandler, Age: l.Age.Seconds(), Events: l.Frames, Bytes: l.Bytes,
			Missed: l.Missed, Left: l.Left, Waiting: l.Waiting.Seconds(),
		}
		if l.Direct {
			row.Delivery = deliveryDirect
		}
		if l.Unacknowledged >= 0 {
			row.Unacknowledged = &l.Unacknowledged
		}
		if app != nil && app.AdminAddresses && l.Client.IsValid() {
			row.Client = l.Client.String()
		}
		rows = append(rows, row)
	}
	return answerJSON(w, rows)
}

// idsOf returns the ids of the sources that streams read.
func (p *pool) idsOf(all []delivery.Lag) map[*feed.Log]string {
	ids := make(map[*feed.Log]string)
	for _, l := range all {
		ids[l.Log] = ""
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, n := range p.entries {
		if _, ok := ids[n.source.log]; ok {
			ids[n.source.log] = n.id
		}
	}
	return ids
}
