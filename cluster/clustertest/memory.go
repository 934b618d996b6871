// Package clustertest has an engine in memory, and the test that every engine
// passes.
package clustertest

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/pollsse/caddy-poll-sse/cluster"
)

// Server is an engine in memory with the faults of real ones. It starts no
// goroutine, so that it can be used in a bubble of testing/synctest.
type Server struct {
	mu       sync.Mutex
	revision uint64
	owners   map[string]record
	texts    map[string][]byte
	nodes    []*Connection
	stopped  bool
	readOnly bool // no write is answered
	stored   int  // writes that took effect
	sent     int  // messages, each once
	traffic  [][]byte
}

type record struct {
	revision uint64
	text     []byte
}

// MaxMessage is the size of the largest message that a Server takes, in bytes.
const MaxMessage = 64 << 10

// NewServer makes an engine that is up and empty.
func NewServer() *Server {
	return &Server{owners: make(map[string]record), texts: make(map[string][]byte)}
}

var errAway = errors.New("the engine cannot be reached")

// Dial implements cluster.Dialer.
func (s *Server) Dial() (cluster.Engine, error) { return s.Connect(), nil }

// Connect is Dial for a test that wants to cut the connection.
func (s *Server) Connect() *Connection {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &Connection{server: s, topics: make(map[string][]*topic)}
	s.nodes = append(s.nodes, c)
	return c
}

// Stop has the engine answer nobody; what it has stored stays.
func (s *Server) Stop() { s.set(func() { s.stopped = true }) }

// Start ends a Stop.
func (s *Server) Start() { s.set(func() { s.stopped = false }) }

// StopWrites has the engine pass on messages and answer reads, but no writes:
// as a cluster of servers does that has lost its leader.
func (s *Server) StopWrites() { s.set(func() { s.readOnly = true }) }

// StartWrites ends a StopWrites.
func (s *Server) StartWrites() { s.set(func() { s.readOnly = false }) }

// Empty has the engine forget all that it has stored.
func (s *Server) Empty() { s.set(func() { clear(s.owners); clear(s.texts) }) }

// Counts tells how many writes took effect and how many messages were sent.
func (s *Server) Counts() (stored, sent int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.stored, s.sent
}

// Traffic is all that nodes have sent to the engine.
func (s *Server) Traffic() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Join(s.traffic, nil)
}

// set changes what the engine does, and tells the nodes that come back by it.
func (s *Server) set(change func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var away []*Connection
	for _, c := range s.nodes {
		if !c.up() {
			away = append(away, c)
		}
	}
	change()
	for _, c := range away {
		if c.up() {
			for _, all := range c.topics {
				for _, t := range all {
					t.box.Deliver(cluster.Message{Resync: true})
				}
			}
		}
	}
}

// Connection is one node's connection to a Server.
type Connection struct {
	server *Server
	cut    bool
	closed bool
	topics map[string][]*topic // by key
}

// Cut cuts the connection; the engine goes on for other nodes.
func (c *Connection) Cut() { c.server.set(func() { c.cut = true }) }

// Heal ends a Cut.
func (c *Connection) Heal() { c.server.set(func() { c.cut = false }) }

func (c *Connection) up() bool { return !c.closed && !c.cut && !c.server.stopped }

// Join implements cluster.Engine.
func (c *Connection) Join(key string) (cluster.Topic, error) {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	t := &topic{connection: c, key: key, box: cluster.NewMailbox()}
	c.topics[key] = append(c.topics[key], t)
	if c.up() {
		t.box.Deliver(cluster.Message{Resync: true})
	}
	return t, nil
}

// Up implements cluster.Engine.
func (c *Connection) Up() bool {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	return c.up()
}

// Close implements cluster.Engine.
func (c *Connection) Close() {
	c.server.mu.Lock()
	defer c.server.mu.Unlock()
	c.closed = true
	c.server.nodes = slices.DeleteFunc(c.server.nodes, func(n *Connection) bool { return n == c })
}

type topic struct {
	connection *Connection
	key        string
	box        *cluster.Mailbox
}

func (t *topic) Messages() <-chan cluster.Message { return t.box.Messages() }

func (t *topic) Send(message []byte) error {
	if len(message) > MaxMessage {
		return cluster.ErrTooLarge
	}
	s := t.connection.server
	s.mu.Lock()
	defer s.mu.Unlock()
	if !t.connection.up() {
		return errAway
	}
	message = bytes.Clone(message)
	s.sent++
	s.traffic = append(s.traffic, message)
	for _, c := range s.nodes {
		for _, to := range c.topics[t.key] {
			if c.up() {
				to.box.Deliver(cluster.Message{Data: message})
			}
		}
	}
	return nil
}

// reach waits as long as an engine that does not answer makes its caller wait.
func (t *topic) reach(ctx context.Context, write bool) error {
	s := t.connection.server
	s.mu.Lock()
	away := !t.connection.up()
	hangs := write && s.readOnly
	s.mu.Unlock()
	switch {
	case away:
		return errAway
	case hangs:
		timer := time.NewTimer(5 * time.Second)
		defer timer.Stop()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-timer.C:
			return errAway
		}
	}
	return ctx.Err()
}

func (t *topic) Owner(ctx context.Context) (uint64, []byte, error) {
	if err := t.reach(ctx, false); err != nil {
		return 0, nil, err
	}
	s := t.connection.server
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.owners[t.key]
	return r.revision, r.text, nil
}

func (t *topic) Swap(ctx context.Context, revision uint64, text []byte) (uint64, error) {
	if err := t.reach(ctx, true); err != nil {
		return 0, err
	}
	s := t.connection.server
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owners[t.key].revision != revision {
		return 0, cluster.ErrConflict
	}
	s.revision++
	s.stored++
	text = bytes.Clone(text)
	s.traffic = append(s.traffic, text)
	s.owners[t.key] = record{s.revision, text}
	return s.revision, nil
}

func (t *topic) Document(ctx context.Context) ([]byte, error) {
	if err := t.reach(ctx, false); err != nil {
		return nil, err
	}
	s := t.connection.server
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.texts[t.key], nil
}

func (t *topic) Put(ctx context.Context, owner uint64, document []byte) error {
	if err := t.reach(ctx, true); err != nil {
		return err
	}
	s := t.connection.server
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.owners[t.key].revision != owner {
		return cluster.ErrConflict
	}
	s.stored++
	document = bytes.Clone(document)
	s.traffic = append(s.traffic, document)
	s.texts[t.key] = document
	return nil
}

func (t *topic) Close() {
	t.connection.server.mu.Lock()
	defer t.connection.server.mu.Unlock()
	rest := slices.DeleteFunc(t.connection.topics[t.key], func(o *topic) bool { return o == t })
	if t.connection.topics[t.key] = rest; len(rest) == 0 {
		delete(t.connection.topics, t.key)
	}
}

// Interface guards.
var (
	_ cluster.Dialer = (*Server)(nil)
	_ cluster.Engine = (*Connection)(nil)
	_ cluster.Topic  = (*topic)(nil)
)
