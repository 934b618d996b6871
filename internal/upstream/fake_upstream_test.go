package upstream

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

// fakeUpstream answers the requests of clients, one at a time, and keeps them.
type fakeUpstream struct {
	answer   func(n int, r *http.Request) *http.Response // n counts from 1; nil: no connection
	requests []*http.Request
	bodies   []string // of the requests
}

func (u *fakeUpstream) RoundTrip(r *http.Request) (*http.Response, error) {
	body := ""
	if r.Body != nil {
		b, _ := io.ReadAll(r.Body)
		r.Body.Close()
		body = string(b)
	}
	u.requests, u.bodies = append(u.requests, r), append(u.bodies, body)
	resp := u.answer(len(u.requests), r)
	if resp == nil {
		return nil, errors.New("connection refused")
	}
	resp.Request = r
	return resp, nil
}

// respond makes an answer with the header fields given as "Name: value".
func respond(status int, body string, fields ...string) *http.Response {
	h := make(http.Header)
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		h.Add(name, value)
	}
	return &http.Response{
		StatusCode: status, Status: fmt.Sprintf("%d %s", status, http.StatusText(status)),
		Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1,
		Header: h, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)),
	}
}

// lookupIn returns the values of a map.
func lookupIn(values map[string]string) Lookup {
	return func(name string) (string, bool) { v, ok := values[name]; return v, ok }
}

// newClient makes a client of a configuration without placeholders of a client's
// request. It is closed when the test ends. MaxBody is 10 MiB if it is not set.
func newClient(t testing.TB, config Config, reading Reading) *Client {
	t.Helper()
	config.URL = cmp.Or(config.URL, "http://upstream.test/doc")
	reading.MaxBody = cmp.Or(reading.MaxBody, 10<<20)
	template, err := Compile(config, lookupIn(nil))
	if err != nil {
		t.Fatal(err)
	}
	request, err := template.Expand(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := NewClient(request, reading, new(Tokens), new(Reuse), new(atomic.Int64))
	t.Cleanup(c.Close)
	return c
}

// pollOnce makes one poll and returns the document, or the reason why there is none.
// It refuses what is not JSON, as a source does.
func pollOnce(t testing.TB, c *Client, u http.RoundTripper) string {
	t.Helper()
	got, err := c.Fetch(t.Context(), u, nil)
	var fault *Fault
	switch {
	case errors.As(err, &fault):
		return fault.Reason
	case err != nil:
		t.Fatalf("%v is no fault", err)
	case got.Body != nil && !json.Valid(got.Body):
		c.Discard()
		return ReasonNotJSON
	}
	text := string(got.Body)
	c.Commit(got)
	return text
}
