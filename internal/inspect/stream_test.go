package inspect

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// server is a poll_sse whose document changes every five seconds, with the
// proxies between it and the client.
type server struct {
	begun time.Time
	quiet bool // the document never changes

	hold     time.Duration // each byte of a stream is held back for so long
	clump    int           // so many pieces are held back until the next one comes
	gzip     bool          // streams are compressed
	unzipped bool          // and flushed only at the end
	mute     bool          // no heartbeats
	cut      time.Duration // streams end after this
	forget   bool          // Last-Event-ID is dropped
	amnesia  bool          // nothing resumes
	answer   func(*http.Request) *http.Response
	requests atomic.Int64
}

const changes = 5 * time.Second

func (s *server) version(at time.Time) string {
	n := 0
	if !s.quiet {
		n = int(at.Sub(s.begun) / changes)
	}
	return fmt.Sprintf("version-%014d", n)
}

func (s *server) RoundTrip(r *http.Request) (*http.Response, error) {
	s.requests.Add(1)
	if s.answer != nil {
		if resp := s.answer(r); resp != nil {
			return resp, nil
		}
	}
	resp := &http.Response{StatusCode: 200, Status: "200 OK", Proto: "HTTP/2.0", Header: make(http.Header), Request: r}
	if r.Header.Get("Accept") == "application/json" {
		resp.Header.Set("ETag", `"`+s.version(time.Now())+`"`)
		resp.Header.Set("Content-Type", "application/json")
		resp.Body = io.NopCloser(strings.NewReader(`{}`))
		if r.Header.Get("If-None-Match") == resp.Header.Get("ETag") {
			resp.StatusCode = 304
		}
		return resp, nil
	}
	resp.Header.Set("Content-Type", "text/event-stream")
	resp.Header.Set("Cache-Control", "no-store, no-transform")
	reader, pipe := io.Pipe()
	resp.Body = reader
	var out io.Writer = pipe
	flush := func() {}
	if s.gzip && r.Header.Get("Accept-Encoding") == "gzip" {
		resp.Header.Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(pipe)
		out = z
		if !s.unzipped {
			flush = func() { _ = z.Flush() }
		}
	}
	last := r.Header.Get("Last-Event-ID")
	if s.forget {
		last = ""
	}
	if last == "" {
		last = r.URL.Query().Get("last_event_id")
	}
	if s.amnesia {
		last = ""
	}
	go s.stream(r.Context(), last, out, flush, pipe)
	return resp, nil
}

func (s *server) stream(ctx context.Context, last string, out io.Writer, flush func(), pipe *io.PipeWriter) {
	defer pipe.Close()
	if s.cut > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, s.cut)
		defer cancel()
	}
	stop := context.AfterFunc(ctx, func() { pipe.CloseWithError(io.EOF) })
	defer stop()
	var held []string
	write := func(text string) {
		held = append(held, text)
		if len(held) <= s.clump {
			return
		}
		select {
		case <-time.After(s.hold):
		case <-ctx.Done():
			return
		}
		for _, text := range held {
			_, _ = io.WriteString(out, text)
		}
		held = nil
		flush()
	}
	write("retry: 3000\n: heartbeat 15\n\n")
	write("event: status\ndata: {\"state\":\"live\",\"since\":\"2026-01-02T03:04:05Z\"}\n\n")
	silent := time.Now()
	first := last == ""
	for tick := 0; ctx.Err() == nil; tick++ {
		if now := s.version(time.Now()); now != last {
			name := "patch"
			if first {
				name, first = "snapshot", false
			}
			write(fmt.Sprintf("event: %s\nid: %s\ndata: %s\n\n", name, now, strings.Repeat("x", 10_000)))
			last, silent = now, time.Now()
		} else if !s.mute && time.Since(silent) >= 15*time.Second {
			write(": \n")
			silent = time.Now()
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// TestCheckStream: everything that is wrong on the way is reported, and nothing
// else.
func TestCheckStream(t *testing.T) {
	answer := func(status int, kind, body string) func(*http.Request) *http.Response {
		return func(r *http.Request) *http.Response {
			if r.Header.Get("Accept") != "text/event-stream" {
				return nil
			}
			return &http.Response{StatusCode: status, Status: http.StatusText(status), Header: http.Header{"Content-Type": {kind}}, Body: io.NopCloser(strings.NewReader(body)), Request: r}
		}
	}
	for name, c := range map[string]struct {
		server *server
		want   []string // problems, or the reason
	}{
		"all is well":                 {&server{}, nil},
		"with gzip":                   {&server{gzip: true}, nil},
		"a quiet document":            {&server{quiet: true}, nil},
		"held back for 4 seconds":     {&server{hold: 4 * time.Second}, []string{"buffered"}},
		"held back until there are 3": {&server{clump: 3}, []string{"buffered"}},
		"heartbeats in pairs":         {&server{quiet: true, clump: 1}, []string{"buffered"}},
		"no heartbeats":               {&server{quiet: true, mute: true}, []string{"no_heartbeat"}},
		"nothing ever comes":          {&server{clump: 1 << 20}, []string{"buffered"}},
		"gzip without flush":          {&server{gzip: true, unzipped: true}, []string{"gzip_late"}},
		"cut after 20 seconds":        {&server{cut: 20 * time.Second}, []string{"ended"}},
		"Last-Event-ID is dropped":    {&server{forget: true}, []string{"no_resume"}},
		"nothing resumes":             {&server{amnesia: true}, []string{"no_resume"}},
		"401":                         {&server{answer: answer(401, "text/html", "")}, []string{"reason unauthorized"}},
		"404":                         {&server{answer: answer(404, "text/html", "no")}, []string{"reason status"}},
		"503":                         {&server{answer: answer(503, "application/problem+json", `{"reason":"too_many_streams"}`)}, []string{"reason too_many_streams"}},
		"JSON":                        {&server{answer: answer(200, "application/json", "{}")}, []string{"reason no_stream"}},
		"refused": {&server{answer: answer(200, "text/event-stream", "retry: 60000\n\nevent: status\ndata: {\"state\":\"refused\",\"reason\":\"too_many_of_client\"}\n\n")},
			[]string{"reason too_many_of_client"}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := c.server
				s.begun = time.Now()
				r, err := CheckStream(t.Context(), StreamTarget{URL: "https://site.example/api?token=s3cret", Transport: s, For: 64 * time.Second})
				if err != nil {
					t.Fatal(err)
				}
				var got []string
				if r.Reason != "" {
					got = append(got, "reason "+r.Reason)
				}
				for _, p := range r.Problems {
					if !slices.Contains(got, p.What) {
						got = append(got, p.What)
					}
				}
				slices.Sort(got)
				var text strings.Builder
				_ = r.WriteText(&text)
				if !slices.Equal(got, c.want) || r.Good() != (len(c.want) == 0) {
					t.Errorf("got %q, want %q\n%s", got, c.want, text.String())
				}
				if strings.Contains(text.String(), "s3cret") {
					t.Error("a secret in the text")
				}
				if name == "with gzip" && (r.Gzip != "flushed" || r.Resume != "header" || r.Events["snapshot"] != 1 || r.Events["patch"] != 12 || r.State != "live" || r.Heartbeat != 15 || r.Versions != 13) {
					t.Errorf("%+v", r)
				}
				if name == "a quiet document" && (r.Heartbeats != 4 || r.Versions != 1) {
					t.Errorf("%+v", r)
				}
				if s.requests.Load() > 75 {
					t.Errorf("%d requests in 64 s", s.requests.Load())
				}
			})
		})
	}
}

// TestUnreachable: a server that cannot be reached has a reason, too, and no
// secret shows.
func TestUnreachable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, err := CheckStream(t.Context(), StreamTarget{URL: "https://h/?token=s3cret", Transport: failing{}, For: time.Minute})
		if err != nil || r.Reason != "unreachable" || strings.Contains(r.Detail, "s3cret") || r.Seconds > 2 {
			t.Errorf("%+v %v", r, err)
		}
		if _, err := CheckStream(t.Context(), StreamTarget{URL: "site.example/s3cret"}); err == nil || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("a URL without scheme: %v", err)
		}
	})
}

type failing struct{}

func (failing) RoundTrip(*http.Request) (*http.Response, error) {
	return nil, errors.New("connection refused")
}

// FuzzReadEvents: no stream, however broken, makes the reader fail or keep more
// than a bound.
func FuzzReadEvents(f *testing.F) {
	f.Add("event: a\nid: b\ndata: c\n\n: comment\n\r\ndata\ndata: d\ndata: e\n\n")
	f.Add(strings.Repeat("x", 9000) + "\ndata: " + strings.Repeat("y", 9000) + "\n\n")
	f.Fuzz(func(t *testing.T, text string) {
		err := readEvents(strings.NewReader(text), func(e event) {
			if len(e.data) > 2*maxData+16 || e.size > len(text) {
				t.Errorf("%d bytes of data kept, size %d of %d", len(e.data), e.size, len(text))
			}
		})
		if err != io.EOF {
			t.Errorf("ends with %v", err)
		}
	})
}
