package cluster_test

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pollsse/caddy-poll-sse/internal/judge"
)

// crowd is many clients, spread over the nodes. Each applies every event,
// holds each version against what the upstream has sent, and resumes at
// another node when its stream ends.
type crowd struct {
	t      testing.TB
	origin *origin
	path   string
	header http.Header
	client *http.Client
	cancel context.CancelFunc
	all    sync.WaitGroup

	mu    sync.Mutex
	nodes []*node // that clients are sent to

	streams   atomic.Int64 // that are open
	opened    atomic.Int64
	snapshots atomic.Int64
	documents atomic.Int64 // versions that were judged
	back      atomic.Int64 // steps back
	bad       atomic.Int64
	denied    atomic.Int64
	waiting   atomic.Int64 // status events of a stream without a document
	readers   []*reader

	// apart is by how many versions two pollers may differ, as each of their
	// polls makes one. A client that moves from one to the other may go back so
	// far.
	apart atomic.Int64
}

// reader is one client.
type reader struct {
	mu     sync.Mutex
	page   judge.Page
	n      int
	state  string
	node   *node
	closed context.CancelFunc
}

func newCrowd(t testing.TB, o *origin, path string, size int, header http.Header, nodes ...*node) *crowd {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c := &crowd{t: t, origin: o, path: path, header: header, nodes: nodes, cancel: cancel, client: &http.Client{
		Transport: &http.Transport{DisableCompression: true, MaxIdleConnsPerHost: -1},
	}}
	for i := range size {
		r := &reader{node: nodes[i%len(nodes)]}
		c.readers = append(c.readers, r)
		c.all.Go(func() { c.follow(ctx, r) })
	}
	t.Cleanup(c.stop)
	return c
}

func (c *crowd) stop() {
	c.cancel()
	c.all.Wait()
	c.client.CloseIdleConnections()
}

// send has clients resume at these nodes.
func (c *crowd) send(nodes ...*node) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.nodes = nodes
}

func (c *crowd) pick() *node {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.nodes[rand.IntN(len(c.nodes))]
}

func (c *crowd) follow(ctx context.Context, r *reader) {
	for ctx.Err() == nil {
		c.stream(ctx, r)
		select {
		case <-ctx.Done():
		case <-time.After(rand.N(300 * time.Millisecond)):
		}
		r.mu.Lock()
		r.node = c.pick()
		r.mu.Unlock()
	}
}

func (c *crowd) stream(ctx context.Context, r *reader) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r.mu.Lock()
	target, id := r.node, r.page.ID
	r.closed = cancel
	r.mu.Unlock()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+target.plain+c.path, nil)
	if err != nil {
		c.t.Error(err)
		return
	}
	for name, values := range c.header {
		req.Header[name] = values
	}
	req.Header.Set("Accept", "text/event-stream")
	if id != "" {
		req.Header.Set("Last-Event-ID", id)
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusForbidden {
		c.denied.Add(1)
	}
	if resp.StatusCode != http.StatusOK {
		return
	}
	c.streams.Add(1)
	c.opened.Add(1)
	defer c.streams.Add(-1)
	events := judge.NewReaderSize(resp.Body, 4<<10)
	for {
		e, err := events.Next()
		if err != nil {
			return
		}
		c.take(r, e)
	}
}

// take applies one event and judges what comes of it.
func (c *crowd) take(r *reader, e judge.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if e.Name == "status" {
		s, err := judge.ParseStatus(e.Data)
		if err != nil {
			c.bad.Add(1)
			c.t.Error(err)
		}
		r.state = s.State
		if s.State == "waiting" {
			c.waiting.Add(1)
		}
		return
	}
	if e.Name == "snapshot" {
		c.snapshots.Add(1)
	}
	before := r.page.ID
	if err := r.page.Apply(e); err != nil {
		if c.bad.Add(1) < 5 {
			c.t.Errorf("a client cannot apply an event: %v", err)
		}
		return
	}
	if r.page.ID == before || r.page.Doc == nil {
		return
	}
	n := count(r.page.Doc)
	if want := c.origin.document(n); want == nil || !judge.Equal(r.page.Doc, want) {
		if c.bad.Add(1) < 5 {
			c.t.Errorf("version %s has count %d and is not what the upstream has sent", r.page.ID, n)
		}
	}
	if n < r.n-int(c.apart.Load()) {
		if c.back.Add(1) < 5 {
			c.t.Errorf("a client at %s goes back from %d to %d", r.node.name, r.n, n)
		}
	}
	r.n = max(r.n, n)
	c.documents.Add(1)
}

// count is a document's.
func count(doc any) int {
	members, _ := doc.(map[string]any)
	number, _ := members["n"].(json.Number)
	n, _ := number.Int64()
	return int(n)
}

// at is the least and the highest count that any client has.
func (c *crowd) at() (least, most int) {
	least = 1 << 60
	for _, r := range c.readers {
		r.mu.Lock()
		least, most = min(least, r.n), max(most, r.n)
		r.mu.Unlock()
	}
	return least, most
}

// states counts the clients by the state that they were told.
func (c *crowd) states() map[string]int {
	all := make(map[string]int)
	for _, r := range c.readers {
		r.mu.Lock()
		all[r.state]++
		r.mu.Unlock()
	}
	return all
}

// settled waits until every client has a stream and what the upstream has sent
// last, or less than a second ago.
func (c *crowd) settled() {
	c.t.Helper()
	eventually(c.t, "every client has a stream", func() bool { return int(c.streams.Load()) == len(c.readers) })
	var now int
	c.origin.set(func() { now = c.origin.n })
	eventually(c.t, "every client is up to date", func() bool { least, _ := c.at(); return least >= now })
}
