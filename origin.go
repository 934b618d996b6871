package pollsse

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/pollsse/caddy-poll-sse/internal/feed"
	"github.com/pollsse/caddy-poll-sse/internal/member"
)

// origin is where a source's documents come from. It runs in the source's
// goroutine, until ctx ends or the upstream has refused the client that the
// document is for.
type origin interface {
	run(ctx context.Context)
}

// local polls the upstream.
type local struct{ *source }

func (o local) run(ctx context.Context) {
	o.poller.run(ctx, o.differ, o.log, o.poke)
	o.log.Stop()
}

// shared has the nodes of a cluster poll the upstream in turn: this one polls,
// or shows what another one has published.
type shared struct {
	*source
	config   *clusterConfig
	clusters *clusterTable
	key      []byte
	member   atomic.Pointer[member.Part] // nil before run

	mu      sync.Mutex // of what is told last
	planned time.Time  // of the next poll
	every   time.Duration
	resume  []byte
}

// clusterVersion is the version of what nodes say to each other and of how
// texts are compared: nodes of different ones share no documents.
const clusterVersion = "poll_sse cluster document v1\x00"

// newShared makes the origin of a source whose key is the same on all nodes.
func newShared(s *source, c *claim, clusters *clusterTable) *shared {
	request := s.poller.request.Key(c.document[:])
	key := sha256.Sum256(append([]byte(clusterVersion), request[:]...))
	return &shared{source: s, config: c.cluster, clusters: clusters, key: key[:]}
}

func (o *shared) run(ctx context.Context) {
	defer o.log.Stop()
	defer func() { o.poller.succession.yield(false) }() // of what is left by then
	node, err := o.clusters.join(o.config)
	if err != nil {
		o.environment.Load().logger.Error("cannot join the cluster; this node polls for itself", zap.Error(err))
		o.poller.run(ctx, o.differ, o.log, o.poke)
		return
	}
	defer o.clusters.leave(o.config)
	m := node.Member(o.key, strings.ToLower(o.poller.request.Origin()), o, o.poke)
	o.member.Store(&m)
	m.Run(ctx)
}

// role returns this node's role for the document, empty without a cluster.
func (s *source) role() member.Role {
	o, ok := s.origin.(*shared)
	if !ok {
		return ""
	}
	if m := o.member.Load(); m != nil {
		return (*m).Role()
	}
	return member.Joins
}

// Poll implements member.Source.
func (o *shared) Poll(ctx context.Context, from member.Handover, turn *member.Turn) {
	o.poller.turn, o.poller.from = &pollTurn{o, turn}, from
	defer func() { o.poller.turn = nil }()
	ctx, cancel := context.WithCancel(ctx)
	var watch sync.WaitGroup
	watch.Go(func() { o.watch(ctx, turn) })
	o.poller.run(ctx, o.differ, o.log, turn.Poke)
	cancel()
	watch.Wait()
}

// watch tells the other nodes if the document is late, or if the admin API has
// paused it. The poller tells them everything else.
func (o *shared) watch(ctx context.Context, turn *member.Turn) {
	for {
		v := o.log.View()
		if v.Status.Reason == feed.ReasonLate || v.Status.Reason == reasonPaused {
			o.tell(turn, time.Time{})
		}
		select {
		case <-ctx.Done():
			return
		case <-v.Wake:
		}
	}
}

// tell sends the other nodes what the log shows. begun is the start of the poll
// that brought it, zero if none did.
func (o *shared) tell(turn *member.Turn, begun time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	v := o.log.View()
	s := member.State{
		State: v.Status.State, Reason: v.Status.Reason, Since: v.Status.Since, Validated: v.Validated, NoStore: v.NoStore,
		Begun: begun, Next: o.planned, Every: o.every, Resume: o.resume,
	}
	if v.Denial != nil {
		s.Status, s.Challenge = v.Denial.Status, v.Denial.Challenge
	}
	var text []byte
	if v.Document != nil {
		s.ID, text = v.Document.ID, v.Document.Text
	}
	turn.Tell(s, text)
}

// Show implements member.Source.
func (o *shared) Show(s member.State, text []byte) error {
	o.showing <- struct{}{}
	defer func() { <-o.showing }()
	if o.yields.Load() > 0 && s.Status == 0 {
		return member.ErrLater // a source that takes the place of this one must not have shown less
	}
	if s.State == feed.Waiting && s.Reason == "" {
		return nil // no poll has ended: clients that wait for the first one wait on
	}
	o.parents.take() // another node's poll was the answer
	p := feed.Publication{State: s.State, Reason: s.Reason, At: time.Now(), Since: s.Since, NoStore: s.NoStore}
	if !s.Validated.IsZero() {
		p.Validated, p.Confirmed = true, s.Validated
	}
	if s.Status != 0 {
		p.Denial = &feed.Denial{Status: s.Status, Challenge: s.Challenge}
		o.poller.succession.yield(false)
		o.log.Publish(p)
		return nil
	}
	if text != nil {
		var err error
		if p.Document, p.Change, err = o.differ.adopt(s.ID, text, o.log.WantsMerge()); err != nil {
			return err
		}
	}
	if o.poller.succession != nil {
		if p.Document != nil {
			o.poller.held, p.Document = p.Document, nil
		}
		switch {
		case s.State != feed.Live || o.poller.held == nil:
			o.poller.succession.yield(false)
			p.State, p.Validated = feed.Waiting, false
		case !o.poller.succeed(s.Validated.Add(-s.Took), o.differ, o.log, &p):
			return nil // until the owner has polled again
		}
	}
	if p.Document != nil {
		o.poller.total.publication(p.Change)
	}
	o.log.Publish(p)
	return nil
}

// Document implements member.Source.
func (o *shared) Document() (id string, text []byte) {
	o.showing <- struct{}{}
	held := o.poller.held
	<-o.showing
	if held != nil {
		return held.ID, held.Text // the owner's next poll has it shown, also if that changes nothing
	}
	if v := o.log.View(); v.Document != nil {
		return v.Document.ID, v.Document.Text
	}
	return "", nil
}

// MaxBody implements member.Source.
func (o *shared) MaxBody() int64 { return o.poller.reading.MaxBody }

// pollTurn is the turn of a poller that polls for all nodes.
type pollTurn struct {
	origin *shared
	turn   *member.Turn
}

// may waits until a poll may begin; false if ctx ends first.
func (t *pollTurn) may(ctx context.Context) bool { return t == nil || t.turn.May(ctx) }

// stretch lengthens a pause if several nodes poll.
func (t *pollTurn) stretch(begun, planned time.Time) time.Time {
	if t == nil {
		return planned
	}
	return begun.Add(planned.Sub(begun) * time.Duration(t.turn.Stretch()))
}

// part is how many polls of a host this node may have in flight if all nodes
// together may have limit; 0 is no limit.
func (t *pollTurn) part(limit int) int {
	if t == nil || limit <= 0 {
		return limit
	}
	return t.turn.Part(limit)
}

// tell tells the other nodes what a poll has brought, after it was published.
func (t *pollTurn) tell(p *poller, pace *pace, begun, planned time.Time) {
	if t == nil {
		return
	}
	o := t.origin
	resume, err := json.Marshal(handover{
		Client: p.client.Progress(p.raw || o.config.settings.Secret != nil), Failures: pace.failures, Interval: pace.current,
		Refused: !pace.refused.IsZero(),
	})
	if err != nil {
		resume = nil
	}
	o.mu.Lock()
	o.planned, o.every, o.resume = planned, planned.Sub(begun), resume
	o.mu.Unlock()
	o.tell(t.turn, begun)
}

// tellStale tells the other nodes that the document has become stale without
// the end of a poll.
func (t *pollTurn) tellStale() {
	if t != nil {
		t.origin.tell(t.turn, time.Time{})
	}
}

// handover is what the owner of a document leaves to the next one.
type handover struct {
	Client   json.RawMessage `json:"client,omitempty"` // upstream.Client.Progress
	Failures int             `json:"failures,omitempty"`
	Interval time.Duration   `json:"interval,omitempty"`
	Refused  bool            `json:"refused,omitempty"` // by Retry-After, until the next poll
}

// takeOver goes on from where the previous owner stopped, and waits until that
// one would have polled. It returns false if ctx ends first.
func (p *poller) takeOver(ctx context.Context, l *feed.Log, pace *pace, poke <-chan struct{}) bool {
	if p.turn == nil {
		return true
	}
	pace.schedule = p.source.upkeep.Load().schedule
	var h handover
	if json.Unmarshal(p.from.Resume, &h) == nil {
		p.client.Resume(h.Client)
		pace.failures, pace.current = h.Failures, h.Interval
		if h.Refused {
			pace.refused = p.from.Next
		}
	}
	pace.current = max(pace.interval, min(pace.current, pace.quiet))
	// As if it had polled itself, should the schedule change meanwhile.
	pace.last.begun = p.from.Next.Add(-max(pace.current, pace.interval))
	pace.last.ended = pace.last.begun
	return p.pause(ctx, l, pace, p.from.Next, poke)
}
