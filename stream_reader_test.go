package pollsse

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pollsse/caddy-poll-sse/internal/feed"
	"github.com/pollsse/caddy-poll-sse/internal/judge"
)

// client is one open event stream.
type client struct {
	t      *testing.T
	w      *pipeWriter
	cancel context.CancelFunc
	done   chan struct{}
	err    error
	parser sseParser
}

// open starts a stream; fields as in request.
func (r *rig) open(target string, fields ...string) *client {
	r.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c := &client{t: r.t, w: newPipeWriter(), cancel: cancel, done: make(chan struct{})}
	req := request(ctx, "GET", target, append([]string{"Accept", "text/event-stream"}, fields...)...)
	go func() {
		defer close(c.done)
		c.err = r.ServeHTTP(c.w, req, noNext)
	}()
	r.t.Cleanup(func() { cancel(); <-c.done })
	return c
}

// stream opens a stream and waits until it is quiet.
func (r *rig) stream(fields ...string) *client {
	r.t.Helper()
	c := r.open("/api", fields...)
	synctest.Wait()
	return c
}

// close is the client going away.
func (c *client) close() {
	c.cancel()
	<-c.done
}

// ended reports whether the server has ended the stream.
func (c *client) ended() bool {
	select {
	case <-c.done:
		return true
	default:
		return false
	}
}

// next waits until everything is quiet and returns the events since the last
// call.
func (c *client) next() []sseEvent {
	c.t.Helper()
	synctest.Wait()
	return c.parser.parse(c.t, c.w.take())
}

// expect checks the events since the last call against "name data" lines, in
// which … stands for anything.
func (c *client) expect(want ...string) {
	c.t.Helper()
	got := c.next()
	var lines []string
	for _, e := range got {
		// A first poll may end before its stream has looked for the first
		// time: whether it is told to wait is no part of the protocol.
		if line := e.name + " " + e.data; !like(line, `status {"state":"waiting","since":"…Z"}`) {
			lines = append(lines, line)
		}
	}
	if len(lines) != len(want) {
		c.t.Fatalf("got %d events %q, want %q", len(lines), lines, want)
	}
	for i := range want {
		if !like(lines[i], want[i]) {
			c.t.Fatalf("event %d is %q, want %q; all: %q", i, lines[i], want[i], lines)
		}
	}
}

// like matches got against a pattern in which … stands for anything.
func like(got, pattern string) bool {
	parts := strings.Split(pattern, "…")
	for i, part := range parts {
		switch {
		case i == 0 && !strings.HasPrefix(got, part):
			return false
		case i > 0 && i == len(parts)-1:
			return strings.HasSuffix(got, part)
		}
		at := strings.Index(got, part)
		if at < 0 {
			return false
		}
		got = got[at+len(part):]
	}
	return got == ""
}

// sseEvent is a dispatched event.
type sseEvent struct{ name, data, id string }

// sseParser is one stream as the judge reads it, piece by piece.
type sseParser struct {
	lastID   string
	retries  []int // in milliseconds
	comments int
}

// parse takes a piece of the stream, which ends with a whole block.
func (p *sseParser) parse(t *testing.T, b []byte) []sseEvent {
	t.Helper()
	var events []sseEvent
	piece := judge.NewReader(bytes.NewReader(b))
	defer func() { p.comments += piece.Comments }()
	for {
		e, err := piece.Next()
		if err == io.EOF {
			return events
		}
		if err != nil {
			t.Errorf("%v; the stream holds %q", err, b)
			return events
		}
		p.lastID = cmp.Or(e.ID, p.lastID)
		if e.Retry > 0 {
			p.retries = append(p.retries, int(e.Retry/time.Millisecond))
		}
		if e.Name != "" {
			events = append(events, sseEvent{e.Name, e.Data, p.lastID})
		}
	}
}

// replica is what a page makes of the events: a document and its version.
type replica struct {
	t   *testing.T
	doc any
	id  string // empty: there is no document
}

func (r *replica) apply(events ...sseEvent) {
	r.t.Helper()
	page := judge.Page{Doc: r.doc, ID: r.id}
	for _, e := range events {
		switch e.name {
		case feed.KindSnapshot, feed.KindPatch, feed.KindMerge:
			if err := page.Apply(judge.Event{Name: e.name, ID: e.id, Data: e.data}); err != nil {
				r.t.Fatal(err)
			}
		case feed.KindStatus:
		default:
			r.t.Fatalf("event of unknown name %q", e.name)
		}
	}
	r.doc, r.id = page.Doc, page.ID
}

func decodeJSON(t *testing.T, text string) any {
	t.Helper()
	v, err := judge.Parse([]byte(text))
	if err != nil {
		t.Fatalf("%q is not JSON: %v", text, err)
	}
	return v
}

// canonical writes v with sorted keys and numbers as they were.
func canonical(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(b)
}
