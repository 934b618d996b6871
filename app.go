package pollsse

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/caddyserver/caddy/v2"
	"go.uber.org/zap"

	"github.com/pollsse/caddy-poll-sse/cluster"
	"github.com/pollsse/caddy-poll-sse/internal/member"
)

func init() {
	caddy.RegisterModule(new(App))
}

// App is the part of poll_sse that is configured once for the whole server. In
// a Caddyfile that is the global option poll_sse; without it, the server polls
// for itself.
//
// It also holds the documents that are always on. It does that because a handler
// is not told when its configuration starts: caddy validate provisions handlers,
// too, and must not poll. The new configuration's app starts before the old
// one's stops, so that a reload leaves no gap.
type App struct {
	// The engine through which several nodes share their polls, so that each
	// document is polled by one of them; see docs/cluster.md. Default: none.
	ClusterRaw json.RawMessage `json:"cluster,omitempty" caddy:"namespace=poll_sse.cluster inline_key=engine"`

	// The secret that all nodes of the cluster have, as {env.NAME} or
	// {file.PATH}, read when the configuration is loaded. At least 16 bytes.
	// With it, all that nodes write to the engine is encrypted, and nobody
	// without it can make up a document. Default: nothing is encrypted.
	Secret string `json:"secret,omitempty"`

	// Whether nodes also share private documents, which depend on a client's
	// request, and documents that the server gets with credentials of its own.
	// It needs a secret. Default: false, each node polls those for itself.
	IncludePrivate bool `json:"include_private,omitempty"`

	// What a node does if it cannot reach the engine: it polls for itself, at
	// longer intervals if there are more than four nodes, or shows what it has
	// as stale. Default: poll.
	WhenAlone string `json:"when_alone,omitempty"`

	// How long the node that polls a document may be silent before another
	// one takes over. All nodes need the same. Default: 3s. From 1s to 1m.
	Lease caddy.Duration `json:"lease,omitempty"`

	// Whether the admin API shows documents, at
	// /poll_sse/sources/{id}/document: those that the configuration alone
	// decides, never one of which a client decides any part. Default: false.
	AdminDocuments bool `json:"admin_documents,omitempty"`

	// Whether the admin API shows the addresses of those who read, in
	// /poll_sse/streams. Default: false.
	AdminAddresses bool `json:"admin_addresses,omitempty"`

	engine     *engine
	generation *generation // of every handler of the configuration
	// handlers and limits are written while they are provisioned, held from Start
	// on.
	limits   map[string]limits            // by name
	events   map[string]map[string]string // names of renamed ones, by name and kind
	handlers []*Handler                   // that are always on
	all      []*Handler
	held     []*subscription
	started  bool        // and perhaps stopped since
	before   *generation // what engine.started was; nil once that has ended
	drained  bool        // what engine.drained was
	joined   bool        // the cluster
	err      error       // reported by Validate

	emit        func(event)
	queue       *eventQueue // from Start on
	queueBefore *eventQueue
	appBefore   *App // nil once it has ended
	logger      *zap.Logger
}

// Values of when_alone.
const (
	alonePolls = "poll"
	aloneStale = "stale"
)

// CaddyModule returns the Caddy module information.
func (*App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "poll_sse",
		New: func() caddy.Module { return new(App) },
	}
}

// Provision begins a generation and loads the engine. It makes no connection.
func (a *App) Provision(ctx caddy.Context) (err error) {
	a.engine, a.logger = process, ctx.Logger()
	if a.emit, err = emitTo(ctx); err != nil {
		return err
	}
	a.generation = a.engine.newGeneration()
	a.limits, a.events = make(map[string]limits), make(map[string]map[string]string)
	setDefault(&a.WhenAlone, alonePolls)
	setDefault(&a.Lease, caddy.Duration(3*time.Second))
	if a.ClusterRaw == nil {
		return nil
	}
	settings := string(a.ClusterRaw) // LoadModule clears it
	engine, err := ctx.LoadModule(a, "ClusterRaw")
	if err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	dialer, ok := engine.(cluster.Dialer)
	if !ok {
		return fmt.Errorf("cluster: %T is no engine", engine)
	}
	if err := member.Linked(); err != nil {
		return fmt.Errorf("cluster: %w", err)
	}
	var secret []byte
	if a.Secret != "" {
		text, err := readSecret(a.Secret, caddy.NewReplacer().GetString)
		secret, a.err = []byte(text), err
	}
	a.generation.cluster = a.cluster(settings, dialer, secret, ctx.Slogger())
	return nil
}

// Validate reports everything that is wrong with the configuration at once.
func (a *App) Validate() error {
	errs := []error{a.err}
	switch {
	case a.generation.cluster == nil && (a.Secret != "" || a.IncludePrivate || a.WhenAlone != alonePolls):
		errs = append(errs, errors.New("secret, include_private and when_alone need a cluster"))
	case a.IncludePrivate && a.Secret == "":
		errs = append(errs, errors.New("include_private: need a secret, as private documents are encrypted at the engine"))
	}
	if a.WhenAlone != alonePolls && a.WhenAlone != aloneStale {
		errs = append(errs, fmt.Errorf("when_alone %s: need %s or %s", a.WhenAlone, alonePolls, aloneStale))
	}
	errs = append(errs, checkDuration("lease", a.Lease, time.Second, time.Minute))
	for i, err := range errs {
		if err != nil {
			errs[i] = fmt.Errorf("global option poll_sse: %w", err)
		}
	}
	return errors.Join(errs...)
}

// take notes a handler of the configuration.
func (a *App) take(h *Handler) {
	if a.limits != nil { // else no server has it
		a.events[h.Name] = h.Events
		own := limits{h.MaxSources, h.MaxSubscribers, time.Duration(h.Interval)}
		a.lintName(h, own)
		a.limits[h.Name] = a.limits[h.Name].with(own)
	}
	a.all = append(a.all, h)
	if h.AlwaysOn {
		a.handlers = append(a.handlers, h)
	}
}

// Start implements caddy.App.
func (a *App) Start() error {
	a.started = true
	a.before, a.appBefore = a.engine.started.Swap(a.generation), a.engine.app.Swap(a)
	a.drained = a.engine.drained.Swap(false)
	if c := a.generation.cluster; c != nil {
		if _, err := a.engine.pool.clusters.join(c); err != nil {
			return errors.Join(err, a.Stop())
		}
		a.joined = true
	}
	a.engine.pool.announce(a.limits)
	if a.emit != nil {
		a.queue = newEventQueue()
		a.queue.start(a.emit, a.logger)
		a.queueBefore = a.engine.pool.events.Swap(a.queue)
	}
	if err := a.engine.pool.traces.start(); err != nil {
		a.logger.Error("polls are not traced", zap.Error(err))
	}
	a.tell()
	if err := a.hold(); err != nil {
		return errors.Join(err, a.Stop())
	}
	return nil
}

// hold holds the sources of what is always on.
func (a *App) hold() error {
	for _, h := range a.handlers {
		// Validate has seen to it that there is nothing to expand.
		req, err := h.request.Expand(func(string) (string, bool) { return "", false }, &http.Request{Header: http.Header{}})
		if err != nil {
			return err
		}
		a.held = append(a.held, a.engine.pool.hold(req.Key(h.readingKey), req.Key(nil), h.claim, func(total *counters) *source {
			return newSource(req, h.Reading, h.claim, total)
		}))
	}
	return nil
}

// tell logs what the module does, and warns if the process may not have as many
// streams as the limits allow.
func (a *App) tell() {
	if len(a.limits) == 0 {
		return
	}
	readers := 0
	for _, l := range a.limits {
		readers += l.subscribers
	}
	_, descriptors := descriptors()
	a.logger.Info("polling for those who read", zap.Int("names", len(a.limits)), zap.Int("always_on", len(a.handlers)), zap.Int("max_subscribers", readers), zap.Int("descriptors", descriptors))
	if need := readers + spareDescriptors; descriptors > 0 && need > descriptors {
		a.logger.Warn("the process may open fewer descriptors than max_subscribers allows streams: raise the limit, as LimitNOFILE of systemd or ulimit -n, or lower max_subscribers",
			zap.Int("descriptors", descriptors), zap.Int("needed", need), zap.Int("max_subscribers", readers))
	}
}

// spareDescriptors is what a process needs besides its streams: polls, listeners,
// logs, the connections of other sites.
const spareDescriptors = 512

// Stop implements caddy.App. The configuration ends, as a newer one or none has taken
// over, or it is given up, as another one of its apps could not start.
func (a *App) Stop() (err error) {
	failed := a.engine.started.CompareAndSwap(a.generation, a.before) && a.before != nil
	a.engine.app.CompareAndSwap(a, a.appBefore)
	if newest := a.engine.app.Load(); newest != nil && newest.appBefore == a {
		newest.before, newest.appBefore, newest.queueBefore = nil, nil, nil // nobody goes back to them
	}
	a.before, a.appBefore = nil, nil
	if a.queue != nil {
		a.engine.pool.events.CompareAndSwap(a.queue, a.queueBefore)
		a.queue.stop(a.logger)
		a.queue = nil
	}
	for _, s := range a.held {
		s.unsubscribe(0)
	}
	a.held = nil
	if failed {
		if a.drained {
			a.engine.drained.Store(true)
		}
		err = a.giveUp()
	} else {
		a.engine.pool.retire(a.generation)
	}
	if a.joined {
		a.engine.pool.clusters.leave(a.generation.cluster)
		a.joined = false
	}
	return err
}

// giveUp lets the configuration before this one go on, as this one could not start.
func (a *App) giveUp() error {
	a.engine.pool.abandon(a.generation)
	running := a.engine.app.Load()
	if running == nil {
		return nil
	}
	a.engine.pool.announce(running.limits)
	// Sources of this configuration may have taken the place of those that it holds.
	held := running.held
	running.held = nil
	err := running.hold()
	for _, s := range held {
		s.unsubscribe(0)
	}
	return err
}

// Cleanup implements caddy.CleanerUpper. Apps start in any order: if one could not
// before this one was to, handlers may have had requests all the same.
func (a *App) Cleanup() error {
	if a.generation == nil || a.started || !a.engine.pool.isNewest(a.generation) {
		return nil
	}
	return a.giveUp()
}

// Interface guards.
var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.Validator    = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
)
