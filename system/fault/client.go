package main

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/pollsse/caddy-poll-sse/internal/judge"
)

// How a client behaves.
const (
	steady    = "steady"    // reads on, and returns as it is told
	returning = "returning" // hangs up after a few events and returns, mostly with what it has
	slow      = "slow"      // reads little at a time, as on a bad connection
	asking    = "asking"    // reads no stream: it asks for the document, and waits for changes
)

// client keeps a document up to date and judges all that it is sent.
type client struct {
	wire      wire
	format    string // patch, merge or snapshot
	gzip      bool
	behaviour string
	owner     string // whose document it reads
	server    *server
	upstream  *upstream
	verdict   *verdict
	rng       *rand.Rand

	t       http.RoundTripper
	base    string
	release func()
	etag    string // of the document that an asking client has

	mu     sync.Mutex
	page   judge.Page
	last   int64    // the step that it was shown last
	story  []string // what it has asked for and been sent lately
	state  string   // that it was told last
	heard  time.Time
	waits  string             // what for, "" for nothing
	cancel context.CancelFunc // of its request
}

func (c *client) String() string {
	coding := "identity"
	if c.gzip {
		coding = "gzip"
	}
	return fmt.Sprintf("%s %s client of %s over %s, %s", c.behaviour, c.format, c.owner, c.wire, coding)
}

// errHungUp is a client that has had enough.
var errHungUp = errors.New("hung up")

// run follows the document until the context ends.
func (c *client) run(ctx context.Context) {
	c.connectAnew()
	defer func() { c.release() }()
	for ctx.Err() == nil {
		pause, err := c.ask(ctx)
		if err != nil || c.behaviour == returning && c.rng.IntN(2) == 0 {
			c.connectAnew()
		}
		if c.behaviour == returning {
			pause = time.Duration(c.rng.IntN(2)) * 20 * time.Millisecond
		}
		select {
		case <-ctx.Done():
		case <-time.After(min(pause, 500*time.Millisecond)):
		}
	}
}

func (c *client) connectAnew() {
	if c.release != nil {
		c.release()
	}
	c.t, c.base, c.release = c.server.transport(c.wire, c.behaviour == slow)
}

// tell adds a line to the story of the client, which is written down if it is
// shown something wrong.
func (c *client) tell(format string, args ...any) {
	c.story = append(c.story, time.Now().Format("05.000 ")+fmt.Sprintf(format, args...))
	c.story = c.story[max(0, len(c.story)-30):]
}

// hear notes a sign of life, and what the client waits for now.
func (c *client) hear(waits string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.heard, c.waits = time.Now(), waits
}

// silence tells what the client has waited for, and since when.
func (c *client) silence() (waits string, since time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.waits, c.heard
}

// drop ends the request that is under way, as a network does that has gone.
func (c *client) drop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cancel != nil {
		c.cancel()
	}
}

// at reports whether the client has the step and has been told that it is live.
func (c *client) at(step int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last == step && (c.behaviour == asking || c.state == "live")
}

// ask makes one request and reads its answer to the end. It returns how long to
// wait before the next.
func (c *client) ask(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.base+pathOf(c.owner, c.format), nil)
	if err != nil {
		panic(err)
	}
	if c.gzip {
		req.Header.Set("Accept-Encoding", "gzip")
	}
	if private(c.owner) {
		req.Header.Set("X-User", c.owner)
	}
	if c.behaviour == asking {
		return c.askForDocument(ctx, req, cancel)
	}
	req.Header.Set("Accept", "text/event-stream")
	resumed := c.page.ID
	if c.behaviour == returning {
		switch c.rng.IntN(6) {
		case 0: // a page that was opened anew
			resumed = ""
		case 1:
			resumed = "BBBBBBBBBBBBBBBBBBBBBB"
		case 2:
			if resumed != "" {
				req.URL.RawQuery = "last_event_id=" + resumed
			}
		}
	}
	if resumed != "" && req.URL.RawQuery == "" {
		req.Header.Set("Last-Event-ID", resumed)
	}
	if resumed != c.page.ID {
		c.page = judge.Page{}
		if c.gzip {
			// A new page may be sent the document as it was a while ago, and
			// the changes since directly behind it.
			c.mu.Lock()
			c.last = 0
			c.mu.Unlock()
		}
	}
	return c.follow(ctx, req, cancel)
}

// do sends the request. The caller is told of what is no answer.
func (c *client) do(req *http.Request, cancel context.CancelFunc) (*http.Response, error) {
	c.mu.Lock()
	c.cancel = cancel
	c.mu.Unlock()
	c.hear("an answer")
	resp, err := c.t.RoundTrip(req)
	c.hear("")
	return resp, err
}

// follow reads one event stream.
func (c *client) follow(ctx context.Context, req *http.Request, cancel context.CancelFunc) (time.Duration, error) {
	ends, exiting := c.server.exits()
	resp, err := c.do(req, cancel)
	if err != nil {
		return 50 * time.Millisecond, err
	}
	defer resp.Body.Close()
	if resp.StatusCode == 401 || resp.StatusCode == 403 {
		if !private(c.owner) {
			c.verdict.problem(protocolError, "%s: %s", c, resp.Status)
		}
		c.verdict.count("denied requests")
		return 500 * time.Millisecond, nil
	}
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "text/event-stream" {
		body, _ := io.ReadAll(io.LimitReader(resp.Body, 1000))
		c.verdict.problem(protocolError, "%s: no event stream: %s, %v: %s", c, resp.Status, resp.Header, body)
		return 500 * time.Millisecond, nil
	}
	c.verdict.count("streams over " + string(c.wire))
	c.tell("stream of configuration %s, asked for with Last-Event-ID %q, query %q", resp.Header.Get("Configuration"), req.Header.Get("Last-Event-ID"), req.URL.RawQuery)
	err = c.read(resp)
	c.hear("")
	switch {
	case ctx.Err() != nil || errors.Is(err, errHungUp):
		return 0, err
	case errors.Is(err, io.EOF):
		c.verdict.count("streams that ended in order")
		return 100 * time.Millisecond, nil
	}
	var bad *breach
	if errors.As(err, &bad) {
		c.verdict.problem(bad.kind, "%s: %v\n%s", c, err, strings.Join(c.story, "\n"))
		c.page = judge.Page{} // as a page that starts again
		return 0, err
	}
	now, _ := c.server.exits()
	switch {
	case now != ends || exiting:
		// An exit, before the stream or after, ends streams in order, but waits
		// half a second only for what a client has to take yet.
		c.verdict.count("streams that an exit cut off")
	case c.behaviour == slow && c.wire == http2:
		// After a reload, net/http closes a connection one second after its
		// last stream has ended, whatever the client has to read yet.
		c.verdict.count("slow streams that the end of their connection of HTTP/2 cut off")
	default:
		c.verdict.problem(cutStream, "%s: %v", c, err)
	}
	return 0, err
}

// breach is an event that is wrong.
type breach struct {
	kind string
	err  error
}

func (b *breach) Error() string { return b.err.Error() }

// body is a response body that notes each sign of life, and takes its time.
type body struct {
	c *client
	r io.Reader
}

func (b *body) Read(p []byte) (int, error) {
	if b.c.behaviour == slow {
		p = p[:min(len(p), 4<<10)]
	}
	n, err := b.r.Read(p)
	if n > 0 {
		b.c.hear("events")
	}
	if b.c.behaviour == slow {
		time.Sleep(time.Duration(n) * time.Second / 200_000)
	}
	return n, err
}

// unended is a gzip stream, which ends without its trailer.
type unended struct{ r io.Reader }

func (u unended) Read(p []byte) (int, error) {
	n, err := u.r.Read(p)
	if err == io.ErrUnexpectedEOF {
		err = io.EOF
	}
	return n, err
}

// read judges the events of a stream. It returns io.EOF if the stream ended in
// order.
func (c *client) read(resp *http.Response) error {
	c.hear("events")
	in := &body{c, resp.Body}
	var r io.Reader = in
	if coding := resp.Header.Get("Content-Encoding"); coding == "gzip" && c.gzip {
		z, err := gzip.NewReader(in)
		if err != nil {
			return err
		}
		// What the wire below says counts, not the missing trailer.
		r = unended{z}
	} else if coding != "" {
		return &breach{protocolError, fmt.Errorf("Content-Encoding %q", coding)}
	}
	events := judge.NewReader(r)
	left := -1
	if c.behaviour == returning {
		left = 1 + c.rng.IntN(12)
	}
	for first := true; ; first = false {
		e, err := events.Next()
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return err
		case errors.Is(err, judge.ErrMalformed):
			return &breach{protocolError, err}
		case err != nil:
			return err
		case first && e.Retry == 0:
			return &breach{protocolError, fmt.Errorf("the stream starts with %+v, not with retry", e)}
		}
		if err := c.take(e); err != nil {
			return err
		}
		if left--; left == 0 {
			return errHungUp
		}
	}
}

// take applies and judges one event.
func (c *client) take(e judge.Event) error {
	if err := e.Check(); err != nil {
		return &breach{protocolError, err}
	}
	if e.Name == "status" {
		s, err := judge.ParseStatus(e.Data)
		if err != nil {
			return &breach{protocolError, err}
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		c.state = s.State
		c.verdict.count("statuses: " + s.State + " " + s.Reason)
		return nil
	}
	if err := c.page.Apply(e); err != nil {
		return &breach{wrongDocument, err}
	}
	if e.Name == "" {
		return nil
	}
	c.verdict.count("events: " + e.Name)
	c.tell("%s %s", e.Name, e.ID)
	return c.see(c.page.Doc)
}

// see judges a document that the client is shown.
func (c *client) see(doc any) error {
	c.verdict.count("documents judged: " + c.owner)
	step, err := c.upstream.documents.check(doc, c.owner, c.upstream.newest(c.owner))
	if err != nil {
		return &breach{wrongDocument, err}
	}
	c.tell("step %d, version %s", step, c.page.ID)
	c.mu.Lock()
	defer c.mu.Unlock()
	if step < c.last {
		return &breach{stepBack, fmt.Errorf("step %d after step %d", step, c.last)}
	}
	c.last = step
	return nil
}

// askForDocument asks for the document, and mostly for a change of it.
func (c *client) askForDocument(ctx context.Context, req *http.Request, cancel context.CancelFunc) (time.Duration, error) {
	if c.etag != "" {
		req.Header.Set("If-None-Match", c.etag)
		if c.rng.IntN(4) > 0 {
			req.Header.Set("Prefer", "wait=3")
		}
	}
	ends, exiting := c.server.exits()
	resp, err := c.do(req, cancel)
	if err != nil {
		return 50 * time.Millisecond, err
	}
	defer resp.Body.Close()
	c.hear("a body")
	defer c.hear("")
	var r io.Reader = resp.Body
	if resp.Header.Get("Content-Encoding") == "gzip" {
		if r, err = gzip.NewReader(resp.Body); err != nil {
			return 0, err
		}
	}
	text, err := io.ReadAll(r)
	if err != nil {
		if now, _ := c.server.exits(); now == ends && !exiting && ctx.Err() == nil {
			c.verdict.problem(cutStream, "%s: an answer ends with %v", c, err)
		}
		return 0, err
	}
	c.verdict.count(fmt.Sprintf("answers with %d to clients", resp.StatusCode))
	c.tell("%d of configuration %s, asked for with If-None-Match %q, Prefer %q", resp.StatusCode, resp.Header.Get("Configuration"), req.Header.Get("If-None-Match"), req.Header.Get("Prefer"))
	pause := 50 * time.Millisecond
	switch resp.StatusCode {
	case 200:
		doc, err := judge.Parse(text)
		if err != nil {
			err = &breach{wrongDocument, err}
		} else {
			err = c.see(doc)
		}
		var bad *breach
		if errors.As(err, &bad) {
			c.verdict.problem(bad.kind, "%s: %v\n%s", c, err, strings.Join(c.story, "\n"))
		}
		c.etag = resp.Header.Get("ETag")
	case 304:
	case 401, 403:
		if !private(c.owner) {
			c.verdict.problem(protocolError, "%s: %s", c, resp.Status)
		}
		pause = 500 * time.Millisecond
	case 502, 503, 504:
		if got := resp.Header.Get("Content-Type"); got != "application/problem+json" {
			c.verdict.problem(protocolError, "%s: %s with Content-Type %q", c, resp.Status, got)
		}
		pause = 200 * time.Millisecond
	default:
		c.verdict.problem(protocolError, "%s: %s", c, resp.Status)
	}
	return pause, nil
}
