package redis

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/zap"

	"github.com/pollsse/caddy-poll-sse/cluster"
)

const (
	// answerTime bounds a connection attempt and a command.
	answerTime = 2 * time.Second
	// pingInterval is how long the subscription may be silent before it is
	// asked whether it is still there, and how long it may take to answer.
	pingInterval = 2 * time.Second
	// reconnectWait is the pause between two attempts to subscribe.
	reconnectWait = 250 * time.Millisecond
)

// connection is a connection to Redis: one for subscriptions, and a pool for
// commands.
type connection struct {
	Redis
	client *redis.Client
	cancel context.CancelFunc
	done   sync.WaitGroup

	troubles cluster.Troubles

	mu      sync.Mutex
	up      bool
	keys    map[string]*joined
	left    map[string]struct{} // to be unsubscribed, unless joined again
	changed chan struct{}       // holds at most one note that keys or left have changed
}

// joined is one key that topics of this connection have joined.
type joined struct {
	topics    map[*topic]struct{}
	asked     bool // to be subscribed
	confirmed bool // it is: what is published from now on comes
}

// Dial implements cluster.Dialer.
func (r *Redis) Dial() (cluster.Engine, error) {
	ctx, cancel := context.WithCancel(context.Background())
	c := &connection{
		Redis: *r, cancel: cancel, keys: make(map[string]*joined), left: make(map[string]struct{}), changed: make(chan struct{}, 1),
		client: redis.NewClient(&redis.Options{
			Addr: r.Server, DB: r.Database, DisableIdentity: true, Dialer: r.dial,
			DialTimeout: answerTime, ReadTimeout: answerTime, WriteTimeout: answerTime, PoolTimeout: answerTime,
			ContextTimeoutEnabled: true,
			MaxRetries:            -1, // a script that was retried could meet itself, and be taken for a conflict
			CredentialsProviderContext: func(context.Context) (string, string, error) {
				password, err := r.login()
				return r.User, password, err
			},
		}),
	}
	c.done.Go(func() { c.run(ctx) })
	return c, nil
}

// dial makes a connection for the client. The files for TLS are read each time,
// as certificates are renewed.
func (r *Redis) dial(ctx context.Context, network, address string) (net.Conn, error) {
	config, err := r.tlsConfig()
	if err != nil {
		return nil, err
	}
	plain := &net.Dialer{Timeout: answerTime}
	if config == nil {
		return plain.DialContext(ctx, network, address)
	}
	return (&tls.Dialer{NetDialer: plain, Config: config}).DialContext(ctx, network, address)
}

// Close implements cluster.Engine.
func (c *connection) Close() {
	c.cancel()
	_ = c.client.Close() // all it can say is that it is closed
	c.done.Wait()
}

// Up implements cluster.Engine.
func (c *connection) Up() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.up
}

// trouble logs an error that is news.
func (c *connection) trouble(err error) {
	if c.troubles.News(err) {
		c.logger.Warn("cluster redis", zap.String("server", c.Server), zap.Error(err))
	}
}

// run subscribes again and again, until ctx ends.
func (c *connection) run(ctx context.Context) {
	for {
		err := c.session(ctx)
		c.mu.Lock()
		c.up = false
		for _, j := range c.keys {
			j.asked, j.confirmed = false, false
		}
		clear(c.left)
		c.mu.Unlock()
		if ctx.Err() != nil {
			return
		}
		c.trouble(err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(reconnectWait):
		}
	}
}

// session is one connection for subscriptions, until it fails.
func (c *connection) session(ctx context.Context) error {
	if err := c.check(ctx); err != nil {
		return err
	}
	// Its confirmation shows that the server answers, and lets the user subscribe.
	subscriptions := c.client.Subscribe(ctx, c.channel(nobodys))
	defer subscriptions.Close()
	// go-redis would make a new connection by itself, without telling.
	ctx, cancel := context.WithCancel(ctx)
	var writer sync.WaitGroup
	defer writer.Wait()
	defer cancel()
	failed := make(chan error, 1)
	writer.Go(func() { failed <- c.subscribe(ctx, subscriptions) })
	pinged := true
	for {
		got, err := subscriptions.ReceiveTimeout(ctx, pingInterval)
		select {
		case err := <-failed:
			return err
		default:
		}
		if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
			if pinged {
				return errors.New("the server does not answer")
			}
			pinged = true
			if err := subscriptions.Ping(ctx); err != nil {
				return err
			}
			continue
		}
		if err != nil {
			return err
		}
		pinged = false
		switch got := got.(type) {
		case *redis.Pong:
			c.answered()
		case *redis.Subscription:
			if got.Kind == "subscribe" {
				c.answered()
				c.confirm(got.Channel)
			}
		case *redis.Message:
			c.deliver(got)
		}
	}
}

// nobodys is a key that nobody joins.
const nobodys = "-"

// check refuses a server that does not serve, or not this user. It would take
// subscriptions all the same.
func (c *connection) check(ctx context.Context) error {
	one := c.client.Conn()
	defer one.Close()
	server, err := one.Hello(ctx, 3, "", "", "").Result()
	if err != nil {
		return err
	}
	switch mode, role := server["mode"], server["role"]; {
	case mode == "sentinel":
		return errors.New("the server is a Redis Sentinel, which is not supported: need the server that it watches")
	case mode == "cluster":
		return errors.New("the server is one of Redis Cluster, which is not supported: need a server that stands for itself")
	case role == "replica":
		return errors.New("the server is a replica, which is not written to: need the server that it follows")
	}
	name := c.channel(nobodys)
	if err := c.client.HMGet(ctx, name, "r", "o").Err(); err != nil {
		return err
	}
	// With a revision that is none, nothing is written.
	if err := swap.Run(ctx, c.client, []string{name}, 1, "", 1).Err(); err != nil {
		return err
	}
	return c.client.Publish(ctx, name, "").Err()
}

// commands is what sends commands, if the subscription is there, too: a node
// that hears nobody must not become an owner.
func (c *connection) commands() (*redis.Client, error) {
	if !c.Up() {
		return nil, errors.New("the server cannot be reached")
	}
	return c.client, nil
}

// answered notes that the server has answered.
func (c *connection) answered() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.up {
		return
	}
	c.up = true
	c.troubles.Over()
	c.logger.Info("cluster redis is up", zap.String("server", c.Server))
}

// subscribe keeps the subscriptions those of the keys that were joined.
func (c *connection) subscribe(ctx context.Context, subscriptions *redis.PubSub) error {
	for {
		var add, remove []string
		c.mu.Lock()
		for key, j := range c.keys {
			if !j.asked {
				j.asked = true
				add = append(add, c.channel(key))
			}
		}
		for key := range c.left {
			if c.keys[key] == nil {
				remove = append(remove, c.channel(key))
			}
		}
		clear(c.left)
		c.mu.Unlock()
		// No more than a command can reasonably have.
		for channels := range slices.Chunk(add, 1000) {
			if err := subscriptions.Subscribe(ctx, channels...); err != nil {
				return err
			}
		}
		for channels := range slices.Chunk(remove, 1000) {
			if err := subscriptions.Unsubscribe(ctx, channels...); err != nil {
				return err
			}
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-c.changed:
		}
	}
}

func (c *connection) channel(key string) string { return c.Prefix + ":" + key }

func (c *connection) key(channel string) string { return channel[len(c.Prefix)+1:] }

func (c *connection) confirm(channel string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	j := c.keys[c.key(channel)]
	if j == nil {
		return
	}
	j.confirmed = true
	for t := range j.topics {
		t.box.Deliver(cluster.Message{Resync: true})
	}
}

func (c *connection) deliver(m *redis.Message) {
	text := []byte(m.Payload)
	c.mu.Lock()
	defer c.mu.Unlock()
	if j := c.keys[c.key(m.Channel)]; j != nil {
		for t := range j.topics {
			t.box.Deliver(cluster.Message{Data: text})
		}
	}
}

// note has the subscriptions looked at.
func (c *connection) note() {
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// Join implements cluster.Engine.
func (c *connection) Join(key string) (cluster.Topic, error) {
	t := &topic{connection: c, key: key, box: cluster.NewMailbox()}
	c.mu.Lock()
	defer c.mu.Unlock()
	j := c.keys[key]
	if j == nil {
		j = &joined{topics: make(map[*topic]struct{})}
		c.keys[key] = j
		c.note()
	}
	j.topics[t] = struct{}{}
	if j.confirmed {
		t.box.Deliver(cluster.Message{Resync: true})
	}
	return t, nil
}
