package nats

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"go.uber.org/zap"

	"github.com/pollsse/caddy-poll-sse/cluster"
)

const (
	// pingInterval and pingsOutstanding have a network that says nothing
	// noticed after about six seconds.
	pingInterval     = 2 * time.Second
	pingsOutstanding = 2
	// reconnectWait is the pause between two attempts to connect, and with
	// jitter up to twice that.
	reconnectWait = 250 * time.Millisecond
	// inboxSize is how many messages wait for the goroutine that sorts them.
	// It waits for nothing itself; beyond this, every topic reads again.
	inboxSize = 8192
	// prepareTimeout bounds each request about the stream.
	prepareTimeout = 2 * time.Second
)

// connection is a connection to NATS, and what has joined over it.
type connection struct {
	NATS
	client *nats.Conn
	stream jetstream.JetStream
	inbox  chan *nats.Msg
	lost   chan struct{} // holds at most one note that the stream may have to be made
	cancel context.CancelFunc
	done   sync.WaitGroup

	troubles cluster.Troubles

	came  chan struct{} // holds at most one note that fresh has topics
	mu    sync.Mutex
	ready bool   // the stream is there
	found uint64 // after so many reconnects; callbacks may come late
	keys  map[string]*joined
	fresh map[*topic]struct{} // whose subscriptions may not have reached the server yet
}

// joined is one key that topics of this connection have joined.
type joined struct {
	subscription *nats.Subscription
	topics       map[*topic]struct{}
}

// Dial implements cluster.Dialer.
func (n *NATS) Dial() (cluster.Engine, error) {
	ctx, cancel := context.WithCancel(context.Background())
	c := &connection{
		NATS: *n, inbox: make(chan *nats.Msg, inboxSize), lost: make(chan struct{}, 1), came: make(chan struct{}, 1),
		cancel: cancel, keys: make(map[string]*joined), fresh: make(map[*topic]struct{}),
	}
	options := append(n.options(c.trouble),
		nats.Name("poll_sse"),
		nats.RetryOnFailedConnect(true), nats.MaxReconnects(-1), nats.IgnoreAuthErrorAbort(),
		nats.ReconnectWait(reconnectWait), nats.ReconnectJitter(reconnectWait, reconnectWait),
		nats.PingInterval(pingInterval), nats.MaxPingsOutstanding(pingsOutstanding),
		// What is written while the server is away must not arrive later.
		nats.ReconnectBufSize(-1),
		nats.ConnectHandler(func(*nats.Conn) { c.connected() }),
		nats.ReconnectHandler(func(*nats.Conn) { c.connected() }),
		nats.DisconnectErrHandler(func(_ *nats.Conn, err error) { c.disconnected(err) }),
		nats.ReconnectErrHandler(func(_ *nats.Conn, err error) { c.trouble(err) }), // the first attempt's, too
		nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) {
			c.trouble(err)
			c.mu.Lock()
			defer c.mu.Unlock()
			c.resync() // a slow consumer has lost messages
		}),
	)
	client, err := nats.Connect(strings.Join(n.Servers, ","), options...)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("cluster nats: %w", err)
	}
	c.client = client
	if c.stream, err = jetstream.New(client); err != nil {
		cancel()
		client.Close()
		return nil, fmt.Errorf("cluster nats: %w", err)
	}
	failed := client.StatusChanged(nats.RECONNECTING)
	c.done.Go(func() { c.sort(ctx) })
	c.done.Go(func() { c.prepare(ctx, failed) })
	c.done.Go(func() { c.confirm(ctx) })
	return c, nil
}

// Close implements cluster.Engine.
func (c *connection) Close() {
	c.cancel()
	c.client.Close()
	c.done.Wait()
}

// Up implements cluster.Engine.
func (c *connection) Up() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ready && c.client.IsConnected() && c.client.Stats().Reconnects == c.found
}

// connected has the stream looked for: a server may come back without it.
func (c *connection) connected() {
	select {
	case c.lost <- struct{}{}:
	default:
	}
}

func (c *connection) disconnected(err error) {
	c.mu.Lock()
	c.ready = false
	c.mu.Unlock()
	c.trouble(err)
}

// trouble logs an error that is news.
func (c *connection) trouble(err error) {
	if err != nil && c.troubles.News(err) {
		c.logger.Warn("cluster nats", zap.String("stream", c.Stream), zap.Error(err))
	}
}

// prepare makes the stream if it is not there, after each connect. In between,
// it logs why a server that answers does not let the node in: no handler is
// called with that.
func (c *connection) prepare(ctx context.Context, failed <-chan nats.Status) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-failed:
			c.trouble(c.client.LastError())
			continue
		case <-c.lost:
		}
		var found uint64
		for {
			found = c.client.Stats().Reconnects
			err := c.ensure(ctx)
			if ctx.Err() != nil {
				return
			}
			if err == nil {
				break
			}
			c.trouble(err)
			select {
			case <-ctx.Done():
				return
			case <-time.After(2 * reconnectWait):
			}
		}
		c.mu.Lock()
		c.ready, c.found = true, found
		// Under the same lock: what joins from now on is for confirm.
		c.resync()
		c.mu.Unlock()
		c.troubles.Over()
		c.logger.Info("cluster nats is up", zap.String("stream", c.Stream))
	}
}

// ensure has the stream there: created as it is needed, or as it is, if that
// serves. Nothing that exists is changed.
func (c *connection) ensure(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, prepareTimeout)
	defer cancel()
	// Direct reads tell whether it is there without a right to ask for it.
	_, err := c.get(ctx, c.subject("none", "o"))
	if err != nil && !errors.Is(err, nats.ErrNoResponders) {
		return fmt.Errorf("looking for the stream: %w", err)
	}
	if err == nil {
		return c.check(ctx)
	}
	_, err = c.stream.CreateStream(ctx, jetstream.StreamConfig{
		Name: c.Stream, Description: "documents that nodes of poll_sse share", Subjects: []string{c.Stream + ".s.>"},
		MaxMsgsPerSubject: 1, MaxAge: cluster.Retention, AllowDirect: true, Replicas: c.Replicas,
		Storage: jetstream.FileStorage, Discard: jetstream.DiscardNew, Duplicates: time.Second,
	})
	if errors.Is(err, jetstream.ErrStreamNameAlreadyInUse) {
		return c.check(ctx)
	}
	if err != nil {
		return fmt.Errorf("creating the stream: %w", err)
	}
	return nil
}

// check refuses a stream that was made by somebody else and does not serve.
func (c *connection) check(ctx context.Context) error {
	s, err := c.stream.Stream(ctx, c.Stream)
	if err != nil {
		return nil //nolint:nilerr // no right to ask: whoever made it has been told what it has to be
	}
	config := s.CachedInfo().Config
	switch {
	case config.MaxMsgsPerSubject != 1:
		return fmt.Errorf("stream %s keeps %d messages of a subject, need 1", c.Stream, config.MaxMsgsPerSubject)
	case !config.AllowDirect:
		return fmt.Errorf("stream %s allows no direct reads, need allow_direct", c.Stream)
	case config.MaxAge != 0 && config.MaxAge < cluster.Retention:
		return fmt.Errorf("stream %s keeps messages for %s, need %s or no limit", c.Stream, config.MaxAge, cluster.Retention)
	}
	return nil
}

// sort passes messages on to the topics that they are for. It waits for none.
func (c *connection) sort(ctx context.Context) {
	prefix := len(c.Stream) + len(".m.")
	for {
		select {
		case <-ctx.Done():
			return
		case m := <-c.inbox:
			c.mu.Lock()
			if j := c.keys[m.Subject[prefix:]]; j != nil {
				for t := range j.topics {
					t.box.Deliver(cluster.Message{Data: m.Data})
				}
			}
			c.mu.Unlock()
		}
	}
}

// resync has every topic read again. c.mu is held.
func (c *connection) resync() {
	if !c.ready {
		return
	}
	for _, j := range c.keys {
		for t := range j.topics {
			t.box.Deliver(cluster.Message{Resync: true})
		}
	}
}

// Join implements cluster.Engine. All keys of a connection share a channel and
// a goroutine: nats.go has one for each subscription else.
func (c *connection) Join(key string) (cluster.Topic, error) {
	t := &topic{connection: c, key: key, box: cluster.NewMailbox()}
	c.mu.Lock()
	defer c.mu.Unlock()
	j := c.keys[key]
	if j == nil {
		s, err := c.client.ChanSubscribe(c.Stream+".m."+key, c.inbox)
		if err != nil {
			return nil, fmt.Errorf("cluster nats: joining: %w", err)
		}
		j = &joined{subscription: s, topics: make(map[*topic]struct{})}
		c.keys[key] = j
	}
	j.topics[t] = struct{}{}
	c.fresh[t] = struct{}{}
	select {
	case c.came <- struct{}{}:
	default:
	}
	return t, nil
}

// confirm tells topics that they hear everything from now on, once the server
// has their subscriptions: it answers in the order of what it is sent.
func (c *connection) confirm(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.came:
		}
		c.mu.Lock()
		fresh := slices.Collect(maps.Keys(c.fresh))
		c.mu.Unlock()
		within, cancel := context.WithTimeout(ctx, prepareTimeout)
		err := c.client.FlushWithContext(within)
		cancel()
		if err != nil {
			select {
			case <-ctx.Done():
				return
			case <-time.After(reconnectWait):
			}
			select {
			case c.came <- struct{}{}:
			default:
			}
			continue
		}
		c.mu.Lock()
		for _, t := range fresh {
			t.box.Deliver(cluster.Message{Resync: true})
			delete(c.fresh, t)
		}
		c.mu.Unlock()
	}
}

func (c *connection) subject(key, kind string) string { return c.Stream + ".s." + key + "." + kind }

// stored is the last message of a subject; sequence 0: there is none.
type stored struct {
	sequence uint64
	text     []byte
}

// get reads the last message of a subject with one request that any replica
// answers.
func (c *connection) get(ctx context.Context, subject string) (stored, error) {
	m, err := c.client.RequestWithContext(ctx, "$JS.API.DIRECT.GET."+c.Stream+"."+subject, nil)
	if err != nil {
		return stored{}, err
	}
	switch status := m.Header.Get("Status"); status {
	case "":
		sequence, err := strconv.ParseUint(m.Header.Get(jetstream.SequenceHeader), 10, 64)
		return stored{sequence, m.Data}, err
	case "404":
		return stored{}, nil
	default:
		return stored{}, fmt.Errorf("direct read: %s %s", status, m.Header.Get("Description"))
	}
}
