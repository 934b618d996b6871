package inspect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync/atomic"
	"time"

	"github.com/pollsse/caddy-poll-sse/internal/upstream"
	"github.com/pollsse/caddy-poll-sse/jsondiff"
)

// maxKept is the most bytes of answers that are kept. Polling ends there.
const maxKept = 256 << 20

// pollTimeout is how long one poll may take.
const pollTimeout = 30 * time.Second

// maxBody is the largest body that is read, in bytes: the default of max_body.
const maxBody = 10 << 20

// checkAfter is after how many 304s the API is asked once without a condition, to see
// whether they were right.
const checkAfter = 8

// Poll polls an API for a time, as poll_sse would, and writes a line about each
// answer. It asks every interval, but never takes more than half of the API's
// time, and obeys Retry-After. If ctx ends first, it returns what there is. An
// error is a mistake in the target.
func Poll(ctx context.Context, t Target, d time.Duration, transport http.RoundTripper, progress io.Writer) ([]Answer, error) {
	none := func(string) (string, bool) { return "", false }
	template, err := upstream.Compile(upstream.Config{URL: braces.Replace(t.URL), Set: t.Header}, none)
	if err != nil {
		return nil, err
	}
	request, err := template.Expand(none, nil)
	if err != nil {
		return nil, err
	}
	tokens, reuse := new(upstream.Tokens), new(upstream.Reuse)
	newClient := func() *upstream.Client {
		return upstream.NewClient(request, upstream.Reading{MaxBody: maxBody}, tokens, reuse, new(atomic.Int64))
	}
	client, checker := newClient(), newClient()
	defer client.Close()
	defer checker.Close()
	var answers []Answer
	var next checks
	kept := 0
	wire := &wireTap{transport: transport}
	end := time.Now().Add(d)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return answers, nil
		case <-timer.C:
		}
		asks := client
		if next.due() {
			asks = checker
			checker.Discard()
		}
		a, retryAfter := fetch(ctx, asks, wire)
		a.Unconditional = asks == checker
		if ctx.Err() != nil {
			return answers, nil
		}
		if a.Text != nil {
			if last := lastText(answers); last != nil && same(last, a.Text) {
				a.Text = last
			} else {
				kept += len(a.Text)
			}
		}
		fmt.Fprintln(progress, line(a, answers))
		answers = append(answers, a)
		next.note(a)
		at := a.At.Add(max(t.Interval, 2*a.Took, a.Took+retryAfter))
		if !at.Before(end) {
			return answers, nil
		}
		if kept > maxKept {
			fmt.Fprintf(progress, "%s are kept, which is enough\n", bytesText(float64(kept)))
			return answers, nil
		}
		timer.Reset(time.Until(at))
	}
}

// checks says when the API is to be asked without a condition: after some 304s, and
// once more after a 304 that follows another document than the one that it is for.
// Between two others, it was not that one's.
type checks struct {
	validated []byte // the document that the validators are of
	other     bool   // the last check brought another one
	suspect   bool   // there was a 304 since
	count     int    // 304s since the last check
}

func (c *checks) due() bool { return c.suspect || c.count >= checkAfter }

func (c *checks) note(a Answer) {
	switch {
	case a.Unconditional:
		c.count, c.suspect = 0, false
		c.other = !c.other && a.Text != nil && !same(a.Text, c.validated)
	case a.isUnmodified():
		c.count++
		c.suspect = c.other
	case a.isDocument():
		c.validated, c.other = a.Text, false
	}
}

// fetch makes one poll, conditional if it can be.
func fetch(ctx context.Context, client *upstream.Client, wire *wireTap) (a Answer, retryAfter time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, pollTimeout)
	defer cancel()
	wire.reset()
	a.At = time.Now()
	got, err := client.Fetch(ctx, wire, nil)
	a.Took = time.Since(a.At)
	a.Status, a.Header, a.Received = wire.status, wire.header, wire.received
	var fault *upstream.Fault
	switch {
	case errors.As(err, &fault):
		a.Reason, a.Detail = fault.Reason, fault.Err.Error()
		return a, fault.RetryAfter
	case got.Body == nil:
	default:
		if _, err := jsondiff.NewDiffer(jsondiff.Options{}).Next(slices.Clip(got.Body)); err != nil {
			client.Discard()
			a.Reason, a.Detail = upstream.ReasonNotJSON, err.Error()
			if errors.Is(err, jsondiff.ErrDepth) {
				a.Reason = upstream.ReasonTooDeep
			}
			return a, 0
		}
		a.Text = bytes.Clone(got.Body)
	}
	client.Commit(got)
	return a, 0
}

func lastText(answers []Answer) []byte {
	for i := len(answers) - 1; i >= 0; i-- {
		if answers[i].Text != nil {
			return answers[i].Text
		}
	}
	return nil
}

// line returns the line that the progress has for an answer.
func line(a Answer, before []Answer) string {
	what := "changed"
	switch last := lastText(before); {
	case a.Reason != "":
		what = a.Reason + ": " + a.Detail
	case a.Text == nil:
		what = "not modified"
	case last == nil:
		what = "first"
	case same(a.Text, last):
		what = "the same again"
	}
	if a.Unconditional {
		what += ", asked without a condition"
	}
	return fmt.Sprintf("%s  %3d  %9s  %7s  %s", a.At.Format(time.TimeOnly), a.Status, bytesText(float64(a.Received)), seconds(a.Took.Seconds()), what)
}

// wireTap is a transport that notes what comes over the network: the header of
// the last answer, and the number of bytes since reset.
type wireTap struct {
	transport http.RoundTripper
	status    int
	header    http.Header
	received  int64
}

func (w *wireTap) reset() { w.status, w.header, w.received = 0, nil, 0 }

// RoundTrip implements http.RoundTripper.
func (w *wireTap) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := w.transport.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	w.status, w.header = resp.StatusCode, resp.Header.Clone()
	w.received += headerBytes(resp)
	resp.Body = countedBody{resp.Body, w}
	return resp, nil
}

// headerBytes returns the size of a header in HTTP/1.1. HTTP/2 compresses it.
func headerBytes(resp *http.Response) int64 {
	n := len("HTTP/1.1 200 \r\n\r\n") + len(http.StatusText(resp.StatusCode))
	for name, values := range resp.Header {
		for _, value := range values {
			n += len(name) + len(": \r\n") + len(value)
		}
	}
	return int64(n)
}

// countedBody counts what is read.
type countedBody struct {
	io.ReadCloser
	w *wireTap
}

func (b countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.w.received += int64(n)
	return n, err
}
