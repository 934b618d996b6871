package system_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	spans "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"
)

// TestTrace has a real server send its spans to a collector: the poll that a
// request has caused is in the request's trace, and so is what the upstream is
// told; polls that nobody has asked for begin traces of their own.
func TestTrace(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var sent bytes.Buffer // to the collector
	polls := make(map[string]*spans.Span)
	more := make(chan struct{}, 1)
	otlp := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var batch collector.ExportTraceServiceRequest
		if err != nil || r.URL.Path != "/v1/traces" || proto.Unmarshal(body, &batch) != nil {
			t.Errorf("%s: %v, %q", r.URL, err, body)
		}
		mu.Lock()
		sent.Write(body)
		for _, of := range batch.ResourceSpans {
			for _, scope := range of.ScopeSpans {
				if scope.Scope.Name != "github.com/pollsse/caddy-poll-sse" {
					continue
				}
				for _, s := range scope.Spans {
					polls[traceparent(s)] = s
				}
			}
		}
		mu.Unlock()
		select {
		case more <- struct{}{}:
		default:
		}
		w.Header().Set("Content-Type", "application/x-protobuf")
	}))
	t.Cleanup(otlp.Close)

	told := make(map[string][]string) // traceparent, by path
	u := newUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		told[r.URL.Path] = append(told[r.URL.Path], r.Header.Get("Traceparent"))
		mu.Unlock()
		if r.Header.Get("Baggage") != "" || r.Header.Get("Tracestate") != "" {
			t.Errorf("the upstream gets what a client has sent: %v", r.Header)
		}
		fmt.Fprint(w, `{"n":1}`)
	})
	block := func(name string) string {
		return "poll_sse /" + name + " " + u.url("/"+name) + "?key=s3cret {\n\tname " + name + "\n\tinterval 200ms\n\tlinger 1h\n}\n"
	}
	c := site{
		noTLS:      true,
		directives: "log\ntracing /traced\n" + block("traced") + block("plain"),
		env:        []string{"OTEL_EXPORTER_OTLP_ENDPOINT=" + otlp.URL, "OTEL_BSP_SCHEDULE_DELAY=100"},
	}
	s := start(t, c)
	const client = "0123456789abcdef0123456789abcdef"
	for _, path := range []string{"/plain", "/traced"} {
		req, err := http.NewRequest(http.MethodGet, "http://"+s.plain+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Traceparent", "00-"+client+"-0123456789abcdef-01")
		req.Header.Set("Tracestate", "eve=1")
		req.Header.Set("Baggage", "user=mallory")
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		if got := readAll(t, resp.Body); resp.StatusCode != http.StatusOK || got != `{"n":1}` {
			t.Fatalf("%s: %d %s", path, resp.StatusCode, got)
		}
		resp.Body.Close()
	}
	s.awaitLog(`"traceID"`)
	var access struct{ TraceID, SpanID string }
	for line := range strings.Lines(s.log.String()) {
		if strings.Contains(line, `"traceID"`) {
			if err := json.Unmarshal([]byte(line), &access); err != nil {
				t.Fatal(err)
			}
		}
	}
	if access.TraceID != client {
		t.Errorf("the access log has trace %q, want %q", access.TraceID, client)
	}

	// The first polls and one more of each have reached the collector.
	for deadline := time.After(patience); ; {
		mu.Lock()
		done := true
		for _, path := range []string{"/traced", "/plain"} {
			done = done && len(told[path]) > 1 && polls[told[path][0]] != nil && polls[told[path][1]] != nil
		}
		mu.Unlock()
		if done {
			break
		}
		select {
		case <-more:
		case <-deadline:
			t.Fatalf("the collector got %v, the upstream %v", polls, told)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	caused := polls[told["/traced"][0]]
	if hex.EncodeToString(caused.TraceId) != access.TraceID || hex.EncodeToString(caused.ParentSpanId) != access.SpanID {
		t.Errorf("the first poll: %v, want a child of %+v", caused, access)
	}
	for _, parent := range []string{told["/traced"][1], told["/plain"][0], told["/plain"][1]} {
		if s := polls[parent]; len(s.ParentSpanId) > 0 || hex.EncodeToString(s.TraceId) == client {
			t.Errorf("a poll that no traced request has caused: %v", s)
		}
	}
	if strings.Contains(sent.String(), "s3cret") || strings.Contains(sent.String(), "mallory") || !strings.Contains(sent.String(), "poll_sse.outcome") {
		t.Errorf("the collector got %q", sent.String())
	}
}

func traceparent(s *spans.Span) string {
	return fmt.Sprintf("00-%x-%x-01", s.TraceId, s.SpanId)
}
