package pollsse

import (
	"cmp"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/pollsse/caddy-poll-sse/internal/feed"
)

func init() {
	caddy.RegisterModule(adminAPI{})
}

// adminAPI is what the admin API offers below /poll_sse/. It keeps no state:
// the pool has it. It shows no document, version, expanded URL or client: any
// of them may be one user's secret. AdminDocuments and AdminAddresses of
// the app are the exceptions.
type adminAPI struct{ engine *engine }

// CaddyModule returns the Caddy module information.
func (adminAPI) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "admin.api.poll_sse",
		New: func() caddy.Module { return &adminAPI{process} },
	}
}

// Routes implements caddy.AdminRouter.
func (a adminAPI) Routes() []caddy.AdminRoute {
	route := func(pattern string, do func(http.ResponseWriter, *http.Request) error) caddy.AdminRoute {
		return caddy.AdminRoute{Pattern: pattern, Handler: caddy.AdminHandlerFunc(do)}
	}
	return []caddy.AdminRoute{
		route("/poll_sse/sources", a.listSources),
		route("/poll_sse/sources/", a.oneSource),
		route("/poll_sse/streams", a.listStreams),
		route("/poll_sse/summary", a.showSummary),
		route("/poll_sse/cluster", a.showCluster),
		route("/poll_sse/drain", a.drain),
	}
}

// clusterStatus is this process's part in a cluster.
type clusterStatus struct {
	Node     string     `json:"node"` // a random name, until the process ends
	Up       bool       `json:"up"`   // the engine can be reached
	Nodes    int        `json:"nodes"`
	Owns     int        `json:"owns"` // documents
	Follows  int        `json:"follows"`
	Alone    int        `json:"alone"`
	Takeover *time.Time `json:"last_takeover,omitempty"` // of a document, from another node
}

// showCluster answers with this process's part in each cluster. There is one
// cluster, except while a reload changes it.
func (a adminAPI) showCluster(w http.ResponseWriter, r *http.Request) error {
	if err := only(http.MethodGet, r); err != nil {
		return err
	}
	all := []clusterStatus{}
	for _, n := range a.engine.pool.clusters.all() {
		s := clusterStatus{Node: n.ID(), Up: n.Up(), Nodes: n.Nodes()}
		s.Owns, s.Follows, s.Alone = n.Counts()
		if at := n.Takeover(); !at.IsZero() {
			s.Takeover = &at
		}
		all = append(all, s)
	}
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(all)
}

// sourceStatus is one row of the list. Durations are in seconds.
type sourceStatus struct {
	ID          string `json:"id"` // stable while the process runs, through reloads that keep the source
	Name        string `json:"name"`
	Upstream    string `json:"upstream"` // as configured, without what may be secret
	Private     bool   `json:"private"`
	Subscribers int    `json:"subscribers"` // streams, and requests that wait
	Streams     int    `json:"streams"`     // among them
	AlwaysOn    bool   `json:"always_on,omitempty"`
	Paused      bool   `json:"paused,omitempty"`
	// The role of this node in its cluster: owns, follows, alone, or joins
	// while that is not known. Absent if each node polls for itself.
	Cluster   string     `json:"cluster,omitempty"`
	State     string     `json:"state"`
	Since     time.Time  `json:"since"`
	Reason    string     `json:"reason,omitempty"`
	Validated *time.Time `json:"validated,omitempty"` // when the upstream last confirmed the document
	Bytes     int        `json:"bytes"`               // of the document

	Interval  float64     `json:"interval_seconds"`
	NextPoll  *time.Time  `json:"next_poll,omitempty"`  // as planned
	DelayedBy string      `json:"delayed_by,omitempty"` // what has put it off: retry_after, cache_control, backoff or max_load
	LastPoll  *pollStatus `json:"last_poll,omitempty"`
	Failures  int         `json:"failures_in_a_row,omitempty"`
	ETag      bool        `json:"etag"` // a poll was answered with 304

	LastChange  *time.Time `json:"last_change,omitempty"`
	ChangesHour int        `json:"changes_1h"` // in this minute and the 59 before
	History     struct {
		Changes int `json:"changes"`
		Bytes   int `json:"bytes"`
	} `json:"history"`
	Saved savings `json:"saved"` // what the readers would have cost the upstream if each had polled
}

// pollStatus is one poll.
type pollStatus struct {
	At       time.Time `json:"at"`
	Took     float64   `json:"took_seconds"`
	Outcome  string    `json:"outcome"`          // changed, unchanged, not_modified, or a reason
	Status   int       `json:"status,omitempty"` // of an answer that was no document
	Received int64     `json:"received_bytes"`   // on the way
	Decoded  int       `json:"decoded_bytes"`
	Change   int       `json:"change_bytes,omitempty"` // of the patch, or of the document if that was sent
}

func (r pollRecord) status() pollStatus {
	return pollStatus{r.At, r.Took.Seconds(), r.Outcome, r.Status, r.Received, r.Decoded, r.Change}
}

// sourceDetail is one source with the options that it follows.
type sourceDetail struct {
	sourceStatus
	Polls   []pollStatus `json:"polls"` // the last ones, oldest first
	Options struct {
		QuietInterval float64 `json:"quiet_interval_seconds,omitempty"`
		MaxInterval   float64 `json:"max_interval_seconds"`
		Timeout       float64 `json:"timeout_seconds"`
		StaleAfter    float64 `json:"stale_after_seconds"`
		MaxLoad       int     `json:"max_load"`
		HostPolls     int     `json:"host_polls"`
		Honor         bool    `json:"honor"`
		History       int     `json:"history"`
		Linger        float64 `json:"linger_seconds"`
	} `json:"options"` // in effect: of all handlers that read it
}

// idSecret keeps ids from revealing the request: it may hold credentials that
// could be guessed from a plain hash.
var idSecret = func() []byte {
	b := make([]byte, 32)
	_, _ = rand.Read(b) // never fails
	return b
}()

// adminID makes the name of a source in the admin API of its key.
func adminID(key [32]byte) string {
	h := hmac.New(sha256.New, idSecret)
	h.Write(key[:])
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:12])
}

// status describes a source. The pool's mutex is held.
func (n *entry) status(now time.Time) sourceStatus {
	v, r, s := n.source.log.ViewAt(now), n.source.records.read(now), n.source.upkeep.Load().schedule
	row := sourceStatus{
		ID: n.id, Name: n.endpoint.name, Upstream: n.source.display, Private: n.source.private,
		Subscribers: n.subscribers - n.holders, Streams: int(n.source.readers.Load()), AlwaysOn: n.holders > 0, Paused: n.source.paused.Load(), Cluster: string(n.source.role()),
		State: v.Status.State, Since: v.Status.Since, Reason: v.Status.Reason,
		Interval: s.interval.Seconds(), DelayedBy: r.delayed, Failures: r.failures, ETag: r.etag, ChangesHour: r.changes, Saved: r.saved,
	}
	row.Saved.Requests = math.Round(row.Saved.Requests)
	if v.Document != nil {
		row.Bytes, row.Validated = len(v.Document.Text), &v.Validated
	}
	if !r.planned.IsZero() && !row.Paused {
		row.NextPoll = &r.planned
	}
	if k := len(r.last); k > 0 {
		last := r.last[k-1].status()
		row.LastPoll = &last
	}
	if !r.changed.IsZero() {
		row.LastChange = &r.changed
	}
	row.History.Changes, row.History.Bytes = n.source.log.History()
	return row
}

// all returns the sources of a name, or every source if it is empty. What never
// changes of an entry may be read without the mutex: its id, source and endpoint.
func (p *pool) all(name string) []*entry {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]*entry, 0, len(p.entries))
	for _, n := range p.entries {
		if name == "" || n.endpoint.name == name {
			all = append(all, n)
		}
	}
	return all
}

// describe describes sources.
func (p *pool) describe(all []*entry) []sourceStatus {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	rows := make([]sourceStatus, 0, len(all))
	for _, n := range all {
		rows = append(rows, n.status(now))
	}
	return rows
}

// byID finds a source; the mutex is held.
func (p *pool) byID(id string) *entry {
	for _, n := range p.entries {
		if n.id == id {
			return n
		}
	}
	return nil
}

// detail describes one source; false if there is none with this id.
func (p *pool) detail(id string) (sourceDetail, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.byID(id)
	if n == nil {
		return sourceDetail{}, false
	}
	now := time.Now()
	d := sourceDetail{sourceStatus: n.status(now), Polls: []pollStatus{}}
	for _, r := range n.source.records.read(now).last {
		d.Polls = append(d.Polls, r.status())
	}
	u := n.source.upkeep.Load()
	o, s := &d.Options, u.schedule
	o.QuietInterval, o.MaxInterval, o.Timeout, o.StaleAfter = s.quiet.Seconds(), s.longest.Seconds(), s.timeout.Seconds(), s.stale.Seconds()
	o.MaxLoad, o.HostPolls, o.Honor, o.History, o.Linger = s.load, s.hostPolls, !s.ignore, u.history, u.linger.Seconds()
	return d, true
}

// listSources answers GET /poll_sse/sources?name=…&state=…&limit=…&after=…, in order
// of name and id.
func (a adminAPI) listSources(w http.ResponseWriter, r *http.Request) error {
	if err := only(http.MethodGet, r); err != nil {
		return err
	}
	query := r.URL.Query()
	all := a.engine.pool.all(query.Get("name"))
	if state := query.Get("state"); state != "" {
		all = slices.DeleteFunc(all, func(n *entry) bool { return n.source.log.View().Status.State != state })
	}
	all, err := page(w, r, all, func(n *entry) string { return n.endpoint.name + "\n" + n.id })
	if err != nil {
		return err
	}
	return answerJSON(w, a.engine.pool.describe(all))
}

// oneSource answers GET /poll_sse/sources/{id} and …/{id}/document, and POST
// …/{id}/poll, /pause and /resume.
func (a adminAPI) oneSource(w http.ResponseWriter, r *http.Request) error {
	id, action, _ := strings.Cut(strings.TrimPrefix(r.URL.Path, "/poll_sse/sources/"), "/")
	if action == "" {
		if err := only(http.MethodGet, r); err != nil {
			return err
		}
		d, ok := a.engine.pool.detail(id)
		if !ok {
			return errNoSource
		}
		return answerJSON(w, d)
	}
	if action == "document" {
		return a.showDocument(w, r, id)
	}
	do := map[string]func(*entry, http.ResponseWriter) error{"poll": (*entry).pollByAdmin, "pause": (*entry).pause, "resume": (*entry).resume}[action]
	if do == nil {
		return caddy.APIError{HTTPStatus: http.StatusNotFound, Err: errors.New("need document, poll, pause or resume after the id")}
	}
	if err := only(http.MethodPost, r); err != nil {
		return err
	}
	a.engine.pool.mu.Lock()
	n := a.engine.pool.byID(id)
	a.engine.pool.mu.Unlock()
	if n == nil {
		return errNoSource
	}
	return do(n, w)
}

// showDocument answers GET /poll_sse/sources/{id}/document with the document, as
// readers get it, if that is configured. One of which a client decides any part may
// be that client's secret, and is never shown.
func (a adminAPI) showDocument(w http.ResponseWriter, r *http.Request, id string) error {
	if err := only(http.MethodGet, r); err != nil {
		return err
	}
	if app := a.engine.app.Load(); app == nil || !app.AdminDocuments {
		return caddy.APIError{HTTPStatus: http.StatusForbidden, Err: errors.New("documents are shown only if the global option poll_sse has admin_documents")}
	}
	a.engine.pool.mu.Lock()
	n := a.engine.pool.byID(id)
	a.engine.pool.mu.Unlock()
	if n == nil {
		return errNoSource
	}
	if n.source.private || n.source.poller.request.PerClient() {
		return caddy.APIError{HTTPStatus: http.StatusForbidden, Err: errors.New("a client decides a part of the request for this document: it is never shown")}
	}
	v := n.source.log.View()
	if v.Document == nil {
		return caddy.APIError{HTTPStatus: http.StatusNotFound, Err: errors.New("there is no document yet")}
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Cache-Control", "no-store")
	_, err := w.Write(v.Document.Text)
	return err
}

var errNoSource = caddy.APIError{HTTPStatus: http.StatusNotFound, Err: errors.New("no source with this id is polled now")}

// pollByAdmin polls a source at once, unless the upstream has asked to be left
// alone.
func (n *entry) pollByAdmin(w http.ResponseWriter) error {
	now := time.Now()
	if n.source.paused.Load() {
		return caddy.APIError{HTTPStatus: http.StatusConflict, Err: errors.New("it is paused: resume it")}
	}
	if r := n.source.records.read(now); r.delayed == delayedByRetryAfter && r.planned.After(now) {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(r.planned.Sub(now).Seconds()))))
		return caddy.APIError{HTTPStatus: http.StatusTooManyRequests, Err: errors.New("the upstream has asked to be left alone until then")}
	}
	c := n.source.poller.total
	c.pokes.WithLabelValues(c.name, pokedByAdmin).Inc()
	n.source.pollNow(context.Background()) // Caddy's admin endpoint makes no spans
	w.WriteHeader(http.StatusAccepted)
	return nil
}

// pause stops the polls of a source until it is resumed or ends, linger after its last
// subscriber: the next one makes another source, which polls.
func (n *entry) pause(w http.ResponseWriter) error { return n.setPaused(w, true) }

func (n *entry) resume(w http.ResponseWriter) error { return n.setPaused(w, false) }

func (n *entry) setPaused(w http.ResponseWriter, paused bool) error {
	n.source.setPaused(paused)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// processSummary is what one process has and does. Sizes are in bytes.
type processSummary struct {
	Version  string         `json:"version"` // of the module
	Uptime   float64        `json:"uptime_seconds"`
	Ready    bool           `json:"ready"` // see poll_sse_ready
	NotReady []string       `json:"not_ready,omitempty"`
	Drained  bool           `json:"drained,omitempty"`
	Sources  map[string]int `json:"sources"` // by state
	Streams  int            `json:"streams"`
	Waiting  int            `json:"waiting"` // requests that wait for a document or a change
	Names    []nameSummary  `json:"names"`

	Descriptors struct {
		Used  int `json:"used,omitempty"`
		Limit int `json:"limit,omitempty"`
	} `json:"descriptors"` // absent if the system does not say
	Memory struct {
		Documents int `json:"documents"`
		History   int `json:"history"`
		Heap      int `json:"heap"` // of the whole process
	} `json:"memory"`
	Compressors int `json:"compressors"` // shared ones, in use
}

type nameSummary struct {
	Name        string `json:"name"`
	Sources     int    `json:"sources"`
	MaxSources  int    `json:"max_sources,omitempty"`
	Subscribers int    `json:"subscribers"`
	MaxReaders  int    `json:"max_subscribers,omitempty"`
}

var processStarted = time.Now()

// showSummary answers GET /poll_sse/summary.
func (a adminAPI) showSummary(w http.ResponseWriter, r *http.Request) error {
	if err := only(http.MethodGet, r); err != nil {
		return err
	}
	out := processSummary{Version: moduleVersion(), Uptime: time.Since(processStarted).Seconds(), Sources: make(map[string]int), Names: []nameSummary{}}
	out.NotReady = a.engine.pool.notReady()
	out.Drained = a.engine.drained.Load()
	out.Ready = len(out.NotReady) == 0 && !out.Drained
	for _, s := range a.engine.pool.summaries() {
		one := nameSummary{Name: s.name, Subscribers: s.subscribers, MaxSources: s.limits.sources, MaxReaders: s.limits.subscribers}
		for state, n := range s.states {
			one.Sources += n
			out.Sources[state] += n
		}
		out.Streams += s.streams
		out.Waiting += s.subscribers - s.streams
		out.Names = append(out.Names, one)
	}
	slices.SortFunc(out.Names, func(a, b nameSummary) int { return cmp.Compare(a.Name, b.Name) })
	for _, n := range a.engine.pool.all("") {
		if d := n.source.log.View().Document; d != nil {
			out.Memory.Documents += len(d.Text)
		}
		_, size := n.source.log.History()
		out.Memory.History += size
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	out.Memory.Heap = int(m.HeapAlloc)
	out.Descriptors.Used, out.Descriptors.Limit = descriptors()
	out.Compressors = feed.CompressorsInUse()
	return answerJSON(w, out)
}

// notReady returns the names of documents that are always on and not live.
func (p *pool) notReady() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var names []string
	for _, n := range p.entries {
		if n.holders > 0 && n.source.log.View().Status.State != feed.Live && !slices.Contains(names, n.endpoint.name) {
			names = append(names, n.endpoint.name)
		}
	}
	slices.Sort(names)
	return names
}

// moduleVersion is the version of this module in the binary.
func moduleVersion() string {
	const path = "github.com/pollsse/caddy-poll-sse"
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	if info.Main.Path == path {
		return info.Main.Version
	}
	for _, m := range info.Deps {
		if m.Path == path {
			return m.Version
		}
	}
	return ""
}

func only(method string, r *http.Request) error {
	if r.Method == method {
		return nil
	}
	return caddy.APIError{HTTPStatus: http.StatusMethodNotAllowed, Err: errors.New("need " + method)}
}

func answerJSON(w http.ResponseWriter, v any) error {
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(v)
}

// Interface guard.
var _ caddy.AdminRouter = adminAPI{}
