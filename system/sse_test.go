package system_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"
)

// event is one dispatched event, or a field that dispatches nothing.
type event struct {
	name  string
	id    string // as in the event itself; "" where it has none
	data  string
	retry time.Duration // set for a block that holds a retry field only
}

// sseReader parses an event stream, HTML standard section 9.2.6, and refuses
// what that section allows but this protocol never sends.
type sseReader struct {
	r     *bufio.Reader
	line  []byte
	first bool
	bytes int64
}

func newSSEReader(r io.Reader) *sseReader {
	return &sseReader{r: bufio.NewReaderSize(r, 64<<10), first: true}
}

var versionID = regexp.MustCompile(`^[A-Za-z0-9_-]{22}$`)

// next returns the next block. io.EOF comes only between blocks: a stream that
// ends in the middle of one is io.ErrUnexpectedEOF.
func (s *sseReader) next() (event, error) {
	var e event
	lines := 0
	var seen []string
	for {
		line, err := s.readLine()
		if err != nil {
			if errors.Is(err, io.EOF) && lines > 0 {
				err = fmt.Errorf("stream ends inside an event after %q: %w", e.name, io.ErrUnexpectedEOF)
			}
			return e, err
		}
		if s.first {
			s.first = false
			if bytes.HasPrefix(line, []byte("\ufeff")) {
				return e, errors.New("stream starts with a byte order mark")
			}
		}
		switch {
		case len(line) == 0:
			if lines == 0 {
				return e, errors.New("two empty lines in a row")
			}
			if len(seen) == 0 {
				lines = 0 // a comment
				continue
			}
			return e, e.check(seen)
		case line[0] == ':':
			lines++
			continue
		}
		lines++
		field, value, ok := bytes.Cut(line, []byte(": "))
		if !ok {
			return e, fmt.Errorf("line %.80q is no field", line)
		}
		if !utf8.Valid(value) || bytes.ContainsAny(value, "\x00\r") {
			return e, fmt.Errorf("field %s holds NUL, CR or what is not UTF-8", field)
		}
		for _, f := range seen {
			if f == string(field) {
				return e, fmt.Errorf("field %s twice in one event", field)
			}
		}
		seen = append(seen, string(field))
		switch string(field) {
		case "event":
			e.name = string(value)
		case "id":
			e.id = string(value)
		case "data":
			e.data = string(value)
		case "retry":
			ms, err := strconv.Atoi(string(value))
			if err != nil || ms < 1 {
				return e, fmt.Errorf("retry %q", value)
			}
			e.retry = time.Duration(ms) * time.Millisecond
		default:
			return e, fmt.Errorf("unknown field %q", field)
		}
	}
}

// check holds one block against the protocol.
func (e *event) check(fields []string) error {
	switch all := strings.Join(fields, ","); all {
	case "retry":
		return nil
	case "id":
		if !versionID.MatchString(e.id) {
			return fmt.Errorf("id %q is no version", e.id)
		}
		return nil
	case "event,data":
		if e.name != "status" {
			return fmt.Errorf("event %s has no id", e.name)
		}
	case "event,id,data":
		if e.name != "snapshot" && e.name != "patch" && e.name != "merge" {
			return fmt.Errorf("event %q with an id", e.name)
		}
		if !versionID.MatchString(e.id) {
			return fmt.Errorf("id %q is no version", e.id)
		}
	default:
		return fmt.Errorf("fields %s", all)
	}
	if e.data == "" {
		return fmt.Errorf("event %s has no data", e.name)
	}
	return nil
}

func (s *sseReader) readLine() ([]byte, error) {
	s.line = s.line[:0]
	for {
		part, err := s.r.ReadSlice('\n')
		s.bytes += int64(len(part))
		s.line = append(s.line, part...)
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && len(s.line) > 0:
			return nil, fmt.Errorf("stream ends inside the line %.80q: %w", s.line, io.ErrUnexpectedEOF)
		case err != nil:
			return nil, err
		}
		return s.line[:len(s.line)-1], nil
	}
}

// statusData is what a status event says.
type statusData struct {
	State  string `json:"state"`
	Since  string `json:"since"`
	Reason string `json:"reason"`
}

// states and reasons are those that docs/protocol.md lists.
var (
	states  = map[string]bool{"waiting": true, "live": true, "stale": true, "denied": true, "refused": true}
	reasons = map[string]bool{
		"unreachable": true, "tls": true, "timeout": true, "redirect": true, "status": true, "rate_limited": true,
		"empty": true, "truncated": true, "too_large": true, "not_json": true, "too_deep": true, "encoding": true,
		"unauthorized": true, "forbidden": true, "too_many_streams": true, "too_many_documents": true,
	}
)

func parseStatus(data string) (statusData, error) {
	var s statusData
	d := json.NewDecoder(strings.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return s, fmt.Errorf("status %q: %w", data, err)
	}
	if !states[s.State] || s.Reason != "" && !reasons[s.Reason] || (s.State == "stale") != (s.Reason != "") && s.State != "waiting" && s.State != "denied" && s.State != "refused" {
		return s, fmt.Errorf("status %q: state or reason is not one of those documented", data)
	}
	if _, err := time.Parse(time.RFC3339, s.Since); err != nil {
		return s, fmt.Errorf("status %q: %w", data, err)
	}
	return s, nil
}

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
	// hangUp, if set, tells whether to drop the connection after an event.
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
	doc         any
	lastID      string
	retry       time.Duration
	status      statusData
	connections int
	clean       int // streams that ended in order
	broken      []string
	snapshots   int // events
	patches     int
	merges      int
	statuses    []statusData
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

// notServed is an answer that is no stream, badEvent one that breaks the
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
	if f.lastID != "" {
		req.Header.Set("Last-Event-ID", f.lastID)
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
	s := newSSEReader(body)
	first := true
	for {
		e, err := s.next()
		if err != nil {
			f.mu.Lock()
			f.wireBytes += s.bytes
			f.mu.Unlock()
			return err
		}
		if first && e.retry == 0 {
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
func (f *follower) take(e event) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer func() {
		close(f.news)
		f.news = make(chan struct{})
	}()
	if e.retry != 0 {
		f.retry = e.retry
		return nil
	}
	f.dataBytes[e.name] += int64(len(e.data))
	var err error
	switch e.name {
	case "":
		f.lastID = e.id
		return nil
	case "status":
		f.status, err = parseStatus(e.data)
		f.statuses = append(f.statuses, f.status)
		return err
	case "snapshot":
		f.snapshots++
		if f.raw {
			f.doc = json.RawMessage(e.data)
			break
		}
		f.doc, err = parse([]byte(e.data))
	case "patch":
		f.patches++
		if f.lastID == "" {
			return errors.New("a patch without a snapshot before it")
		}
		f.doc, err = applyPatch(f.doc, []byte(e.data))
	case "merge":
		f.merges++
		if f.lastID == "" {
			return errors.New("a merge patch without a snapshot before it")
		}
		var patch any
		if patch, err = parse([]byte(e.data)); err == nil {
			f.doc = applyMerge(f.doc, patch)
		}
	}
	if err != nil {
		return fmt.Errorf("event %s %s after %s: %w: %.300s", e.name, e.id, f.lastID, err, e.data)
	}
	if n := len(f.returned); n > 0 && f.returned[n-1] == "" {
		f.returned[n-1] = e.name
	}
	f.lastID = e.id
	if f.check != nil {
		if err := f.check(f); err != nil {
			return fmt.Errorf("event %s %s: %w: %.300s", e.name, e.id, err, e.data)
		}
	}
	return nil
}

// await waits until ready says so, which it is asked after every event with
// the follower locked.
func (f *follower) await(what string, ready func() bool) {
	f.t.Helper()
	if err := f.wait(what, ready); err != nil {
		f.t.Fatal(err)
	}
}

func (f *follower) wait(what string, ready func() bool) error {
	deadline := time.After(patience)
	for {
		f.mu.Lock()
		ok, news, err := ready(), f.news, f.err
		f.mu.Unlock()
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
			return fmt.Errorf("%s: %s: did not happen within %s; status %+v, %d connections, broken %q, last id %s", f.name, what, patience, f.status, f.connections, f.broken, f.lastID)
		}
	}
}

// asRaw is a document that was kept as its text.
func asRaw(doc any) []byte {
	raw, _ := doc.(json.RawMessage)
	return raw
}
