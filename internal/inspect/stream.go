package inspect

import (
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/pollsse/caddy-poll-sse/internal/upstream"
)

// StreamReport is what a poll_sse stream looks like from outside. Durations
// are in seconds.
type StreamReport struct {
	URL     string  `json:"url"` // without the values in its query
	Seconds float64 `json:"seconds"`

	// Reason is why there is no stream, Hint what to do about it; the rest is
	// then absent. It is a reason of docs/protocol.md, or no_stream if the
	// answer is no stream.
	Reason string `json:"reason,omitempty"`
	Detail string `json:"detail,omitempty"`
	Hint   string `json:"hint,omitempty"`

	Protocol   string         `json:"protocol,omitempty"` // HTTP version
	Via        string         `json:"via,omitempty"`      // proxies that say so
	FirstByte  float64        `json:"first_byte_seconds,omitempty"`
	FirstEvent float64        `json:"first_event_seconds,omitempty"`
	Events     map[string]int `json:"events,omitempty"` // by name
	State      string         `json:"state,omitempty"`  // the last one
	StateWhy   string         `json:"state_reason,omitempty"`

	Heartbeat  float64 `json:"heartbeat_seconds,omitempty"` // as announced
	Heartbeats int     `json:"heartbeats"`                  // that were seen
	Silence    float64 `json:"longest_silence_seconds"`

	Versions int     `json:"versions"`    // that could be compared with the document
	Lag      float64 `json:"lag_seconds"` // longest by which the stream was behind it

	Gzip    string  `json:"gzip"` // flushed, late, none
	GzipLag float64 `json:"gzip_lag_seconds,omitempty"`

	Resume string `json:"resume"` // header, query, none, unknown

	Problems []Problem `json:"problems"`
	Notes    []string  `json:"notes,omitempty"`
}

// Problem is something that is wrong between the server and here.
type Problem struct {
	What   string `json:"what"` // buffered, no_heartbeat, ended, gzip_late, no_resume
	Detail string `json:"detail"`
	Hint   string `json:"hint"`
}

const (
	// behind is how late an event may be. A proxy that holds events back holds
	// them until the next one comes, or for ever.
	behind = 2 * time.Second
	// documentEvery is the pause between two requests for the document while
	// the stream is read.
	documentEvery = time.Second
	// opening is how long a stream may take to begin.
	opening = 5 * time.Second
	// answering is how long a resumed stream is read.
	answering = 3 * time.Second
)

// StreamTarget is the stream that is checked.
type StreamTarget struct {
	URL       string
	Header    http.Header       // sent with each request
	Transport http.RoundTripper // must not decode gzip by itself
	For       time.Duration
}

// CheckStream reads a stream for a while, and at the same time the document of
// its URL, the same stream with gzip, and one that resumes. It makes at most
// one request a second and holds at most three streams. An error is a mistake
// in the target.
func CheckStream(ctx context.Context, t StreamTarget) (*StreamReport, error) {
	u, err := url.Parse(t.URL)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return nil, errors.New("need the URL of a stream, as in https://example.com/api/quotes")
	}
	begun := time.Now()
	ctx, cancel := context.WithTimeout(ctx, t.For)
	defer cancel()
	plain, zipped := newTap(t, "identity"), newTap(t, "gzip")
	document := &documentTap{StreamTarget: t}
	r := &StreamReport{URL: upstream.Redact(t.URL), Resume: "unknown", Gzip: "none", Problems: []Problem{}, Events: make(map[string]int)}
	var wait sync.WaitGroup
	for _, run := range []func(){
		func() {
			plain.run(ctx, t.URL, "")
			cancel() // it has ended too early; there is nothing more to see
		},
		func() { zipped.run(ctx, t.URL, "") },
		func() { document.run(ctx) },
		func() { r.Resume = plain.resume(ctx) },
	} {
		wait.Go(run)
	}
	wait.Wait()
	r.Seconds = time.Since(begun).Seconds()
	r.judge(plain, zipped, document, begun, t.For)
	return r, nil
}

// tap is one stream, as it comes.
type tap struct {
	StreamTarget
	coding string

	begun  time.Time
	opened chan struct{} // closed when there is an event with an id, or never will be

	mu       sync.Mutex
	response *http.Response
	problem  string // reason of an answer that is no stream
	err      error
	first    time.Time // byte
	last     time.Time
	silence  time.Duration
	events   []event // without their data, but states
	versions map[string]time.Time
	lastID   string
	raw      int64
	once     sync.Once
}

func newTap(t StreamTarget, coding string) *tap {
	return &tap{StreamTarget: t, coding: coding, opened: make(chan struct{}), versions: make(map[string]time.Time)}
}

// maxEvents is the most events that are remembered.
const maxEvents = 100_000

func (s *tap) run(ctx context.Context, target, lastID string) {
	defer s.once.Do(func() { close(s.opened) })
	s.begun = time.Now()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		s.err = err
		return
	}
	req.Header = s.Header.Clone()
	if req.Header == nil {
		req.Header = make(http.Header)
	}
	req.Header.Set("Accept", "text/event-stream")
	req.Header.Set("Accept-Encoding", s.coding)
	if lastID != "" {
		req.Header.Set("Last-Event-ID", lastID)
	}
	resp, err := (&http.Client{Transport: s.Transport}).Do(req)
	if err != nil {
		var about *url.Error // names the URL, which may hold a secret
		if errors.As(err, &about) {
			err = about.Err
		}
		s.err = err
		return
	}
	defer resp.Body.Close()
	s.mu.Lock()
	s.response = resp
	s.mu.Unlock()
	if kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); resp.StatusCode != http.StatusOK || kind != "text/event-stream" {
		s.problem = noStream(resp)
		return
	}
	var body io.Reader = &clocked{s, resp.Body}
	if resp.Header.Get("Content-Encoding") == "gzip" {
		z, err := gzip.NewReader(body)
		if err != nil {
			s.err = err
			return
		}
		body = z
	}
	s.err = readEvents(body, s.note)
}

// noStream returns the reason of an answer that is no stream.
func noStream(resp *http.Response) string {
	switch resp.StatusCode {
	case http.StatusUnauthorized:
		return "unauthorized"
	case http.StatusForbidden:
		return "forbidden"
	case http.StatusTooManyRequests:
		return "rate_limited"
	case http.StatusOK:
		return "no_stream"
	}
	var problem struct{ Reason string }
	if json.NewDecoder(io.LimitReader(resp.Body, 64<<10)).Decode(&problem) == nil && problem.Reason != "" {
		return problem.Reason
	}
	return "status"
}

// clocked is a body that notes when its bytes come.
type clocked struct {
	*tap
	r io.Reader
}

func (c *clocked) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.mu.Lock()
	defer c.mu.Unlock()
	if n > 0 {
		now := time.Now()
		if c.first.IsZero() {
			c.first = now
		} else {
			c.silence = max(c.silence, now.Sub(c.last))
		}
		c.last = now
		c.raw += int64(n)
	}
	return n, err
}

func (s *tap) note(e event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e.id != "" {
		if _, known := s.versions[e.id]; !known && len(s.versions) < maxEvents {
			s.versions[e.id] = e.at
		}
		s.lastID = e.id
		s.once.Do(func() { close(s.opened) })
	}
	if !strings.HasPrefix(e.data, `{"state":`) {
		e.data = ""
	}
	if len(s.events) < maxEvents {
		s.events = append(s.events, e)
	}
}

// resume opens another stream from the version that this one has. It reports
// whether the server sends what this one has already.
func (s *tap) resume(ctx context.Context) string {
	select {
	case <-s.opened:
	case <-ctx.Done():
		return "unknown"
	}
	document, _ := s.firstVersion()
	whole := document.name // what a whole document is called here
	if whole == "" {
		return "unknown"
	}
	for _, way := range []string{"header", "query"} {
		for range 3 {
			s.mu.Lock()
			id := s.lastID
			s.mu.Unlock()
			again := newTap(s.StreamTarget, "identity")
			target, header := s.URL, id
			if way == "query" {
				u, _ := url.Parse(target) // CheckStream has parsed it
				q := u.Query()
				q.Set("last_event_id", id)
				u.RawQuery = q.Encode()
				target, header = u.String(), ""
			}
			short, cancel := context.WithTimeout(ctx, answering)
			again.run(short, target, header)
			cancel()
			first, began := again.firstVersion()
			switch {
			case first.id == id:
			case first.id == "" && began, first.id != "" && first.name != whole:
				return way // nothing is sent, or a change that needs what this client has
			case ctx.Err() != nil || first.id == "":
				return "unknown"
			default:
				continue // the document has changed meanwhile: a whole one says nothing
			}
			break
		}
	}
	return "none"
}

// firstVersion returns the first event that has an id, and whether there was
// any event at all.
func (s *tap) firstVersion() (e event, began bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	i := slices.IndexFunc(s.events, func(e event) bool { return e.id != "" })
	if i < 0 {
		return event{}, len(s.events) > 0
	}
	return s.events[i], true
}

// documentTap reads the document while the stream is read.
type documentTap struct {
	StreamTarget
	answered time.Duration // how long the first answer took; 0: there was none
	versions map[string]time.Time
}

func (d *documentTap) run(ctx context.Context) {
	d.versions = make(map[string]time.Time)
	etag := ""
	tick := time.NewTicker(documentEvery)
	defer tick.Stop()
	for {
		begun := time.Now()
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, d.URL, nil)
		if err != nil {
			return
		}
		req.Header = d.Header.Clone()
		if req.Header == nil {
			req.Header = make(http.Header)
		}
		req.Header.Set("Accept", "application/json")
		req.Header.Set("Accept-Encoding", "identity")
		if etag != "" {
			req.Header.Set("If-None-Match", etag)
		}
		if resp, err := (&http.Client{Transport: d.Transport}).Do(req); err == nil {
			// Read to its end within reason, so that the connection can be used again.
			_, _ = io.CopyN(io.Discard, resp.Body, 64<<10)
			resp.Body.Close()
			if tag := resp.Header.Get("ETag"); resp.StatusCode == http.StatusOK && tag != "" {
				etag = tag
				d.answered = max(time.Since(begun), 1)
				version := strings.TrimSuffix(strings.Trim(strings.TrimPrefix(tag, "W/"), `"`), "-gzip")
				if _, known := d.versions[version]; !known && len(d.versions) < maxEvents {
					d.versions[version] = time.Now()
				}
			}
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (r *StreamReport) judge(plain, zipped *tap, document *documentTap, begun time.Time, planned time.Duration) {
	switch {
	case plain.problem != "":
		r.Reason, r.Detail = plain.problem, plain.response.Status+", "+plain.response.Header.Get("Content-Type")
		r.Hint = streamHint(r.Reason)
		return
	case plain.response == nil && !isTimeout(plain.err):
		r.Reason, r.Detail = "unreachable", plain.err.Error()
		r.Hint = streamHint(r.Reason)
		return
	case plain.response == nil:
		r.Reason = "timeout"
		r.Detail = "no answer within " + seconds(r.Seconds)
		if document.answered > 0 {
			r.Detail += ", while the document came in " + seconds(document.answered.Seconds())
		}
		r.Hint = bufferedHint
		return
	}
	problem := func(what, hint, format string, args ...any) {
		r.Problems = append(r.Problems, Problem{what, fmt.Sprintf(format, args...), hint})
	}
	r.Protocol, r.Via = plain.response.Proto, plain.response.Header.Get("Via")
	var heartbeats []time.Time
	for _, e := range plain.events {
		if e.comment != "" || e.name == "" {
			if n, ok := strings.CutPrefix(e.comment, "heartbeat "); ok && r.Heartbeat == 0 {
				if s, err := strconv.ParseFloat(n, 64); err == nil {
					r.Heartbeat = s
				}
			}
			if e.at.Sub(plain.first) > time.Second {
				heartbeats = append(heartbeats, e.at)
			}
			continue
		}
		r.Events[e.name]++
		if e.id != "" && r.FirstEvent == 0 {
			r.FirstEvent = e.at.Sub(plain.begun).Seconds()
		}
		var status struct{ State, Reason string }
		if e.data != "" && json.Unmarshal([]byte(e.data), &status) == nil {
			r.State, r.StateWhy = status.State, status.Reason
		}
	}
	if r.State == "refused" || r.State == "denied" {
		r.Reason, r.Detail, r.Hint = r.StateWhy, "the stream is "+r.State, streamHint(r.StateWhy)
		return
	}
	r.Heartbeats = len(heartbeats)
	if plain.first.IsZero() {
		problem("buffered", bufferedHint, "the header came, and not one byte of the stream in %s", seconds(r.Seconds))
		return
	}
	r.FirstByte = plain.first.Sub(plain.begun).Seconds()
	r.Silence = max(plain.silence, begun.Add(time.Duration(r.Seconds*float64(time.Second))).Sub(plain.last)).Seconds()
	if plain.first.Sub(plain.begun) > opening {
		problem("buffered", bufferedHint, "the first byte came after %s: the server sends it at once", seconds(r.FirstByte))
	}
	end := begun.Add(time.Duration(r.Seconds * float64(time.Second)))
	r.Versions, r.Lag = lag(document.versions, plain.versions, end)
	if r.Lag > behind.Seconds() {
		problem("buffered", bufferedHint, "the stream was %s behind the document", seconds(r.Lag))
	}
	together := 0
	for i := 1; i < len(heartbeats); i++ {
		if r.Heartbeat > 0 && heartbeats[i].Sub(heartbeats[i-1]).Seconds() < r.Heartbeat/2 {
			together++
		}
	}
	if together > 0 {
		problem("buffered", bufferedHint, "%s came together with the one before", count(together, "heartbeat"))
	}
	// Twice the announced silence: the connection would be taken for dead.
	if r.Heartbeat > 0 && r.Silence > 2*r.Heartbeat {
		problem("no_heartbeat", bufferedHint, "nothing came for %s, and a heartbeat is due every %s", seconds(r.Silence), seconds(r.Heartbeat))
	}
	if r.Seconds < planned.Seconds()-1 {
		problem("ended", "a proxy or its time limit has cut the stream, or the server was reloaded: look at the time limits for reading and idling of what lies between", "the stream ended after %s", seconds(r.Seconds))
	}
	r.judgeGzip(plain, zipped, end, problem)
	switch r.Resume {
	case "query":
		problem("no_resume", "something between drops the field Last-Event-ID: let it pass, in CORS, too", "the stream resumes with ?last_event_id= only, not with the field Last-Event-ID")
	case "none":
		problem("no_resume", "is history 0, or do several servers answer that poll different upstreams?", "a client that comes back is sent the whole document again")
	}
	if r.Protocol == "HTTP/1.1" {
		r.Notes = append(r.Notes, "HTTP/1.1: a browser opens six connections to a site, and each stream is one; HTTP/2 has no such limit")
	}
	if !strings.Contains(plain.response.Header.Get("Cache-Control"), "no-transform") {
		r.Notes = append(r.Notes, "Cache-Control has no no-transform any more: something between may compress the stream, and hold it back")
	}
	if r.Heartbeat == 0 {
		r.Notes = append(r.Notes, "no heartbeat is announced: is this a poll_sse stream?")
	} else if r.Seconds < 2*r.Heartbeat {
		r.Notes = append(r.Notes, "too short to tell of heartbeats: --for "+strconv.Itoa(int(3*r.Heartbeat))+"s")
	}
	if r.Versions < 2 {
		r.Notes = append(r.Notes, "the document has not changed: whether events are held back is not known")
	}
}

// judgeGzip compares the compressed stream with the plain one.
func (r *StreamReport) judgeGzip(plain, zipped *tap, end time.Time, problem func(what, hint, format string, args ...any)) {
	const hint = "something between compresses the stream and does not flush: keep it from compressing text/event-stream"
	switch {
	case zipped.response == nil || zipped.problem != "":
		problem("gzip_late", hint, "with Accept-Encoding: gzip there is no stream")
		return
	case zipped.response.Header.Get("Content-Encoding") == "":
		r.Gzip = "none"
		return
	}
	_, late := lag(plain.versions, zipped.versions, end)
	r.Gzip, r.GzipLag = "flushed", late
	if late > behind.Seconds() {
		r.Gzip = "late"
		problem("gzip_late", hint, "with gzip, events come %s later than without", seconds(late))
	}
}

// lag returns how many versions both have, and the longest time by which the
// second got one later than the first. One that it never got counts, too.
func lag(first, second map[string]time.Time, end time.Time) (both int, longest float64) {
	for version, at := range first {
		then, has := second[version]
		switch {
		case has:
			both++
			longest = max(longest, then.Sub(at).Seconds())
		case !later(second, at):
			longest = max(longest, end.Sub(at).Seconds())
		}
	}
	return both, longest
}

// later reports whether any version came after a time: one in between may be
// missing, as a client that has fallen behind catches up with the newest one.
func later(versions map[string]time.Time, at time.Time) bool {
	for _, then := range versions {
		if then.After(at) {
			return true
		}
	}
	return false
}

const bufferedHint = "a proxy between holds the stream back: nginx proxy_buffering off (or let X-Accel-Buffering pass), no compression of text/event-stream, no cache before it"

func streamHint(reason string) string {
	switch reason {
	case "no_stream":
		return "the answer is no event stream: is it the path of poll_sse, and does something between drop Accept?"
	case "unauthorized", "forbidden":
		return "send what a page sends: -H 'Cookie: …' or -H 'Authorization: …'"
	case "unreachable":
		return "check the host, the port and the network between"
	case "too_many_streams", "too_many_documents", "too_many_of_client":
		return "the server is at a limit: see max_subscribers, max_sources and max_streams_per_client, and trusted_proxies behind a proxy"
	case "timeout":
		return bufferedHint
	}
	return "look at the answer with curl -i"
}

func isTimeout(err error) bool { return errors.Is(err, context.DeadlineExceeded) }

// Good reports whether nothing is wrong with the stream.
func (r *StreamReport) Good() bool { return r.Reason == "" && len(r.Problems) == 0 }

// WriteText writes a report for people.
func (r *StreamReport) WriteText(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintln(&b, r.URL)
	if r.Reason != "" {
		fmt.Fprintf(&b, "  no stream: %s (%s)\n  %s\n", r.Reason, r.Detail, r.Hint)
		_, err := io.WriteString(w, b.String())
		return err
	}
	via := ""
	if r.Via != "" {
		via = ", via " + r.Via
	}
	fmt.Fprintf(&b, "  %s%s   first byte after %s, document after %s\n", r.Protocol, via, seconds(r.FirstByte), seconds(r.FirstEvent))
	state := r.State
	if r.StateWhy != "" {
		state += " (" + r.StateWhy + ")"
	}
	fmt.Fprintf(&b, "  state      %s\n", state)
	fmt.Fprintf(&b, "  heartbeat  announced every %s, %d seen; longest silence %s\n", seconds(r.Heartbeat), r.Heartbeats, seconds(r.Silence))
	fmt.Fprintf(&b, "  delay      %s compared with the document; at most %s behind it\n", count(r.Versions, "version"), seconds(r.Lag))
	gzipText := map[string]string{"none": "not compressed", "flushed": "flushed with each event", "late": "not flushed"}[r.Gzip]
	fmt.Fprintf(&b, "  gzip       %s\n", gzipText)
	resume := map[string]string{"header": "resumes by Last-Event-ID", "query": "resumes by ?last_event_id= only", "none": "does not resume", "unknown": "not known"}[r.Resume]
	fmt.Fprintf(&b, "  resume     %s\n", resume)
	for _, p := range r.Problems {
		fmt.Fprintf(&b, "\nPROBLEM    %s: %s\n           %s\n", p.What, p.Detail, p.Hint)
	}
	for i, n := range r.Notes {
		head := "           "
		if i == 0 {
			head = "\nNOTES      "
		}
		fmt.Fprintf(&b, "%s%s\n", head, n)
	}
	if len(r.Problems) == 0 {
		fmt.Fprintf(&b, "\nNothing is wrong on the way.\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
