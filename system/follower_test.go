package system_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/pollsse/caddy-poll-sse/internal/judge"
)

// follower is a client as a careful user would write it: it keeps a document
// up to date, comes back when its stream ends, and trusts nothing.
type follower struct {
	t      testing.TB
	name   string
	client *http.Client
	url    string
	header http.Header
	// check judges the document after each event that carries one. It runs
	// on the follower's goroutine.
	check func(f *follower) error
	// hangUp, if set, reports whether to drop the connection after an event.
	hangUp func(f *follower) bool
	// read, if set, wraps each response body.
	read func(io.Reader) io.Reader
	// raw keeps the document of a snapshot as a json.RawMessage.
	raw bool

	ctx    context.Context
	cancel context.CancelFunc
	ended  chan struct{} // closed when the follower has given up
	noMore bool          // give up at the next clean end

	mu          sync.Mutex
	news        chan struct{} // closed and replaced at each event
	page        judge.Page
	retry       time.Duration
	status      judge.Status
	connections int
	clean       int // streams that ended in order
	broken      []string
	snapshots   int // events
	patches     int
	merges      int
	statuses    []judge.Status
	returned    []string // the first document event of each later connection, "" if none yet
	dataBytes   map[string]int64
	wireBytes   int64
	err         error
	lastResp    *http.Response
}

func newFollower(t testing.TB, name string, client *http.Client, url string) *follower {
	f := &follower{t: t, name: name, client: client, url: url, header: http.Header{}, news: make(chan struct{}), ended: make(chan struct{}), dataBytes: map[string]int64{}, retry: 3 * time.Second}
	f.ctx, f.cancel = context.WithCancel(context.Background())
	return f
}

// run follows until the follower is cancelled or something is wrong.
func (f *follower) run() *follower {
	f.t.Cleanup(func() {
		f.close()
	})
	go func() {
		defer close(f.ended)
		err := f.follow()
		f.mu.Lock()
		defer f.mu.Unlock()
		if f.ctx.Err() == nil {
			f.err = err
		}
		close(f.news)
		f.news = make(chan struct{})
	}()
	return f
}

func (f *follower) close() {
	f.cancel()
	<-f.ended
}

func (f *follower) follow() error {
	for {
		err := f.connect()
		switch {
		case f.ctx.Err() != nil:
			return nil
		case errors.Is(err, errHungUp):
			continue
		case errors.Is(err, io.EOF):
			f.mu.Lock()
			f.clean++
			stop := f.noMore
			f.mu.Unlock()
			if stop {
				return nil
			}
		default:
			var refused *notServed
			if errors.As(err, &refused) || f.stops() {
				return err
			}
			var bad *badEvent
			if errors.As(err, &bad) {
				return err
			}
			f.mu.Lock()
			f.broken = append(f.broken, err.Error())
			f.mu.Unlock()
		}
		select {
		case <-f.ctx.Done():
			return nil
		case <-time.After(f.retry):
		}
	}
}

func (f *follower) stops() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.noMore
}

// lastStream makes the follower give up at the end of its current stream.
func (f *follower) lastStream() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.noMore = true
}

var errHungUp = errors.New("hung up")

// notServed is an answer that is no stream, badEvent an event that breaks the
// protocol or the document.
type (
	notServed struct{ status string }
	badEvent  struct{ err error }
)

func (e *notServed) Error() string { return "no event stream: " + e.status }
func (e *badEvent) Error() string  { return e.err.Error() }

// connect reads one stream to its end.
func (f *follower) connect() error {
	ctx, cancel := context.WithCancel(f.ctx)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, f.url, nil)
	if err != nil {
		return &badEvent{err}
	}
	req.Header = f.header.Clone()
	req.Header.Set("Accept", "text/event-stream")
	if f.page.ID != "" {
		req.Header.Set("Last-Event-ID", f.page.ID)
	}
	resp, err := f.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if got := resp.Header.Get("Content-Type"); resp.StatusCode != http.StatusOK || got != "text/event-stream" {
		return &notServed{fmt.Sprintf("%s, Content-Type %q", resp.Status, got)}
	}
	f.mu.Lock()
	f.connections++
	f.lastResp = resp
	if f.connections > 1 {
		f.returned = append(f.returned, "")
	}
	f.mu.Unlock()
	var body io.Reader = resp.Body
	if f.read != nil {
		body = f.read(body)
	}
	s := judge.NewReader(body)
	first := true
	for {
		e, err := s.Next()
		if err != nil {
			f.mu.Lock()
			f.wireBytes += s.Bytes
			f.mu.Unlock()
			if errors.Is(err, judge.ErrMalformed) {
				return &badEvent{err}
			}
			return err
		}
		if first && e.Retry == 0 {
			return &badEvent{fmt.Errorf("stream starts with %+v, not with retry", e)}
		}
		first = false
		if err := f.take(e); err != nil {
			return &badEvent{err}
		}
		if f.hangUp != nil && f.hangUp(f) {
			return errHungUp
		}
	}
}

// take applies one event.
func (f *follower) take(e judge.Event) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer func() {
		close(f.news)
		f.news = make(chan struct{})
	}()
	if e.Retry != 0 {
		f.retry = e.Retry
	}
	err := e.Check()
	switch {
	case err != nil:
	case e.Name == "status":
		f.status, err = judge.ParseStatus(e.Data)
		f.statuses = append(f.statuses, f.status)
	case e.Name == "snapshot" && f.raw:
		f.page = judge.Page{Doc: json.RawMessage(e.Data), ID: e.ID}
	default:
		err = f.page.Apply(e)
	}
	switch e.Name {
	case "snapshot":
		f.snapshots++
	case "patch":
		f.patches++
	case "merge":
		f.merges++
	}
	if e.Name != "" {
		f.dataBytes[e.Name] += int64(len(e.Data))
	}
	if err != nil || e.Name == "" || e.Name == "status" {
		return err
	}
	if n := len(f.returned); n > 0 && f.returned[n-1] == "" {
		f.returned[n-1] = e.Name
	}
	if f.check != nil {
		if err := f.check(f); err != nil {
			return fmt.Errorf("event %s %s: %w: %.300s", e.Name, e.ID, err, e.Data)
		}
	}
	return nil
}

// await waits until ready returns true. It calls ready after every event, with
// the follower locked. A follower that gets one version after another may take
// its time.
func (f *follower) await(what string, ready func() bool) {
	f.t.Helper()
	if err := f.wait(what, ready); err != nil {
		f.t.Fatal(err)
	}
}

func (f *follower) wait(what string, ready func() bool) error {
	deadline, last := time.After(patience), ""
	for {
		f.mu.Lock()
		ok, news, err, id := ready(), f.news, f.err, f.page.ID
		f.mu.Unlock()
		if id != last {
			deadline, last = time.After(patience), id
		}
		if err != nil {
			return fmt.Errorf("%s: %w", f.name, err)
		}
		if ok {
			return nil
		}
		select {
		case <-news:
		case <-f.ended:
			f.mu.Lock()
			ok, err := ready(), f.err
			f.mu.Unlock()
			if ok {
				return nil
			}
			return fmt.Errorf("%s: %s: the stream ended before: %v", f.name, what, err)
		case <-deadline:
			f.mu.Lock()
			defer f.mu.Unlock()
			return fmt.Errorf("%s: %s: did not happen within %s; status %+v, %d connections, broken %q, last id %s", f.name, what, patience, f.status, f.connections, f.broken, f.page.ID)
		}
	}
}

// asRaw is a document that was kept as its text.
func asRaw(doc any) []byte {
	raw, _ := doc.(json.RawMessage)
	return raw
}
