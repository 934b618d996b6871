package pollsse

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.opentelemetry.io/otel/baggage"
	"go.opentelemetry.io/otel/codes"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/pollsse/caddy-poll-sse/internal/upstream"
)

// tracedRig is a rig whose clients' requests have spans, as Caddy's directive
// tracing makes them.
type tracedRig struct {
	*rig
	ended  *tracetest.SpanRecorder
	tracer trace.Tracer
}

func newTracedRig(t *testing.T, h *Handler, options ...sdktrace.TracerProviderOption) *tracedRig {
	t.Helper()
	ended := tracetest.NewSpanRecorder()
	provider := sdktrace.NewTracerProvider(append(options, sdktrace.WithSpanProcessor(ended))...)
	return &tracedRig{newRig(t, h), ended, provider.Tracer("test")}
}

// do serves a request within a span and returns that.
func (r *tracedRig) do(method, target string, fields ...string) trace.SpanContext {
	r.t.Helper()
	state, _ := trace.ParseTraceState("mallory=1")
	client := trace.NewSpanContext(trace.SpanContextConfig{TraceID: trace.TraceID{1}, SpanID: trace.SpanID{1}, TraceFlags: trace.FlagsSampled, TraceState: state, Remote: true})
	ctx, span := r.tracer.Start(trace.ContextWithSpanContext(context.Background(), client), "request")
	defer span.End()
	member, _ := baggage.NewMember("user", "mallory")
	bag, _ := baggage.New(member)
	ctx = baggage.ContextWithBaggage(ctx, bag)
	next := caddyhttp.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) error {
		w.WriteHeader(http.StatusNoContent)
		return nil
	})
	if err := r.ServeHTTP(httptest.NewRecorder(), request(ctx, method, target, fields...), next); err != nil {
		r.t.Errorf("%s %s: %v", method, target, err)
	}
	return span.SpanContext()
}

// polls returns the spans of polls that have ended.
func (r *tracedRig) polls() []sdktrace.ReadOnlySpan { return pollsOf(r.ended) }

func pollsOf(ended *tracetest.SpanRecorder) (all []sdktrace.ReadOnlySpan) {
	for _, s := range ended.Ended() {
		if s.InstrumentationScope().Name == tracerName {
			all = append(all, s)
		}
	}
	return all
}

// traceparents returns the field of each request that the upstream has got.
func (r *rig) traceparents() (all []string) {
	r.up.mu.Lock()
	defer r.up.mu.Unlock()
	for _, req := range r.up.requests {
		all = append(all, req.Header.Get("Traceparent"))
	}
	return all
}

func traceparentOf(s trace.SpanContext) string {
	return fmt.Sprintf("00-%s-%s-%s", s.TraceID(), s.SpanID(), s.TraceFlags())
}

func attributesOf(s sdktrace.ReadOnlySpan) map[string]string {
	all := make(map[string]string)
	for _, a := range s.Attributes() {
		all[string(a.Key)] = a.Value.String()
	}
	return all
}

// TestTrace: a poll that a request causes is a child of its span, and the upstream
// is told so; no other poll has a span or tells the upstream of one.
func TestTrace(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newTracedRig(t, &Handler{
			Upstream: "https://h.test/doc?key=s3cret&n=1", Name: "traced", Schedule: Schedule{Interval: caddy.Duration(10 * time.Second), Linger: caddy.Duration(time.Hour)},
			Request: Request{BasicAuth: &upstream.BasicAuth{Username: "u", Password: "s3cret"}},
		})
		first := r.do("GET", "/api", "traceparent", "00-11111111111111111111111111111111-2222222222222222-01", "baggage", "user=mallory")
		wait(25 * time.Second)
		r.up.answer(func(*http.Request) (*http.Response, error) { return reply(403, "s3cret"), nil })
		written := r.do("POST", "/api")
		synctest.Wait()
		r.up.set(`{"n":2}`)
		wait(100 * time.Millisecond)

		ctx, span := r.tracer.Start(context.Background(), "webhook")
		r.engine.pool.poke(ctx, "traced", pokedByWebhook)
		span.End()
		webhook := span.SpanContext()
		synctest.Wait()

		got, sent := r.polls(), r.traceparents()
		if len(got) != 3 || len(sent) != 5 {
			t.Fatalf("%d spans and %d requests, want 3 and 5", len(got), len(sent))
		}
		for i, want := range []struct {
			request int
			parent  trace.SpanContext
			outcome string
			status  string
			failed  bool
		}{{0, first, "changed", "200", false}, {3, written, "forbidden", "403", true}, {4, webhook, "changed", "200", false}} {
			s := got[i]
			if s.Parent().SpanID() != want.parent.SpanID() || s.SpanContext().TraceID() != want.parent.TraceID() || len(s.Links()) != 0 {
				t.Errorf("poll %d: parent %v, want %v", i, s.Parent(), want.parent)
			}
			if sent[want.request] != traceparentOf(s.SpanContext()) {
				t.Errorf("poll %d: the upstream got %q, want %q", i, sent[want.request], traceparentOf(s.SpanContext()))
			}
			wants := map[string]string{
				"http.request.method": "GET", "url.full": "https://h.test/doc?…", "server.address": "h.test", "server.port": "443",
				"poll_sse.name": "traced", "poll_sse.outcome": want.outcome, "http.response.status_code": want.status,
			}
			if want.failed {
				wants["error.type"] = want.outcome
			}
			if a := attributesOf(s); fmt.Sprint(a) != fmt.Sprint(wants) {
				t.Errorf("poll %d: attributes %v, want %v", i, a, wants)
			}
			if s.Name() != "GET traced" || s.SpanKind() != trace.SpanKindClient || (s.Status().Code == codes.Error) != want.failed {
				t.Errorf("poll %d: %q, %s, %v", i, s.Name(), s.SpanKind(), s.Status())
			}
			if strings.Contains(fmt.Sprint(s.Attributes(), s.Events(), s.Status()), "s3cret") {
				t.Errorf("poll %d: a secret in %v", i, s)
			}
		}
		if sent[1] != "" || sent[2] != "" {
			t.Errorf("polls that nobody has asked for have told the upstream of %q", sent[1:3])
		}
		for _, req := range r.up.requests {
			if req.Header.Get("Baggage") != "" || req.Header.Get("Tracestate") != "" || strings.Contains(req.Header.Get("Traceparent"), "1111111111") {
				t.Errorf("what a client has sent reaches the upstream: %v", req.Header)
			}
		}
	})
}

// TestTraceOfSeveral: one poll is the answer to several requests. It is a child of
// the first, and linked to some of the others.
func TestTraceOfSeveral(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newTracedRig(t, &Handler{Upstream: "https://h.test/doc", Schedule: Schedule{Interval: caddy.Duration(10 * time.Second), Linger: caddy.Duration(time.Hour)}})
		r.do("GET", "/api")
		r.up.answer(func(req *http.Request) (*http.Response, error) {
			time.Sleep(time.Second)
			return reply(200, `{"n":2}`), nil
		})
		slow := r.do("POST", "/api")
		synctest.Wait()
		var asked []trace.SpanContext
		for range maxParents + 3 {
			asked = append(asked, r.do("POST", "/api")) // that poll does not count for them
		}
		wait(5 * time.Second)
		got := r.polls()
		if len(got) != 3 || got[1].Parent().SpanID() != slow.SpanID() || got[2].Parent().SpanID() != asked[0].SpanID() {
			t.Fatalf("%d polls: %v", len(got), got)
		}
		links := got[2].Links()
		if len(links) != maxParents-1 || links[0].SpanContext.SpanID() != asked[1].SpanID() {
			t.Errorf("%d links, want %d: %v", len(links), maxParents-1, links)
		}
	})
}

// TestTraceIsNotSampled: the upstream is told what Caddy has decided.
func TestTraceIsNotSampled(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newTracedRig(t, &Handler{Upstream: "https://h.test/doc"}, sdktrace.WithSampler(sdktrace.NeverSample()))
		s := r.do("GET", "/api")
		synctest.Wait()
		if got := r.traceparents(); len(got) != 1 || !strings.HasPrefix(got[0], "00-"+s.TraceID().String()) || !strings.HasSuffix(got[0], "-00") || len(r.polls()) != 0 {
			t.Errorf("the upstream got %q, want the trace %s and that it is not sampled; %d spans", got, s.TraceID(), len(r.polls()))
		}
	})
}

// TestTraceWithoutSpan: no field of a client's reaches the upstream unless Caddy
// has made a span of it.
func TestTraceWithoutSpan(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, &Handler{Upstream: "https://h.test/doc"})
		r.get("traceparent", "00-11111111111111111111111111111111-2222222222222222-01", "tracestate", "a=b", "baggage", "c=d")
		synctest.Wait()
		for _, field := range []string{"Traceparent", "Tracestate", "Baggage"} {
			if got := r.up.requests[0].Header.Values(field); len(got) > 0 {
				t.Errorf("%s: %q", field, got)
			}
		}
	})
}

// TestTraceOfEveryPoll: with the usual variables every poll has a span. One that
// nobody has asked for begins a trace.
func TestTraceOfEveryPoll(t *testing.T) {
	t.Setenv("TRACE_TEST_HOST", "expanded.test")
	bubble(t, func(t *testing.T) {
		r := newTracedRig(t, &Handler{Upstream: "https://{env.TRACE_TEST_HOST}/doc", Name: "every", Request: Request{Method: "REPORT"}, Schedule: Schedule{Interval: caddy.Duration(10 * time.Second), Linger: caddy.Duration(time.Hour)}})
		own := tracetest.NewSpanRecorder()
		r.engine.pool.traces.sdk.Store(sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(own)))
		asked := r.do("GET", "/api")
		wait(25 * time.Second)
		got, sent := append(r.polls(), pollsOf(own)...), r.traceparents()
		if len(got) != 3 || len(sent) != 3 || len(r.polls()) != 1 || got[0].Parent().SpanID() != asked.SpanID() {
			t.Fatalf("%d spans and %d requests, want 3 and 3: %v", len(got), len(sent), got)
		}
		for i, s := range got {
			if sent[i] != traceparentOf(s.SpanContext()) {
				t.Errorf("poll %d: the upstream got %q, want %q", i, sent[i], traceparentOf(s.SpanContext()))
			}
			if s.Name() != "HTTP every" {
				t.Errorf("poll %d: name %q", i, s.Name())
			}
			a := attributesOf(s)
			if a["http.request.method"] != "_OTHER" || a["http.request.method_original"] != "REPORT" || a["url.full"] != "https://{env.TRACE_TEST_HOST}/doc" || strings.Contains(fmt.Sprint(a), "expanded.test") {
				t.Errorf("poll %d: attributes %v", i, a)
			}
		}
		if got[1].Parent().IsValid() || got[1].SpanContext().TraceID() == got[2].SpanContext().TraceID() {
			t.Errorf("polls that nobody has asked for: %v, %v", got[1], got[2])
		}
	})
}

// TestEndOfSpan: the status is that of the answer, if it is known.
func TestEndOfSpan(t *testing.T) {
	for _, c := range []struct {
		record pollRecord
		want   string
	}{
		{pollRecord{Outcome: outcomeNotModified}, "map[http.response.status_code:304 poll_sse.outcome:not_modified]"},
		{pollRecord{Outcome: upstream.ReasonStatus, Status: 502}, "map[error.type:status http.response.status_code:502 poll_sse.outcome:status]"},
		{pollRecord{Outcome: upstream.ReasonUnreachable}, "map[error.type:unreachable poll_sse.outcome:unreachable]"},
	} {
		ended := tracetest.NewSpanRecorder()
		_, span := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(ended)).Tracer("test").Start(t.Context(), "poll")
		c.record.At, c.record.Took = time.Now(), time.Minute
		endSpan(span, c.record)
		if got := ended.Ended(); len(got) != 1 || fmt.Sprint(attributesOf(got[0])) != c.want || !got[0].EndTime().Equal(c.record.At.Add(time.Minute)) {
			t.Errorf("%+v: %v, want %s", c.record, got, c.want)
		}
	}
}

// TestTracesAsked is what the environment asks for.
func TestTracesAsked(t *testing.T) {
	for _, c := range []struct {
		env  string
		want bool
	}{
		{"", false},
		{"OTEL_SERVICE_NAME=caddy", false},
		{"OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318", true},
		{"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT=http://127.0.0.1:4318/v1/traces", true},
		{"OTEL_TRACES_EXPORTER=console", true},
		{"OTEL_TRACES_EXPORTER=none OTEL_EXPORTER_OTLP_ENDPOINT=http://127.0.0.1:4318", false},
		{"OTEL_SDK_DISABLED=true OTEL_TRACES_EXPORTER=otlp", false},
	} {
		t.Run(c.env, func(t *testing.T) {
			for _, name := range []string{"OTEL_SDK_DISABLED", "OTEL_TRACES_EXPORTER", "OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"} {
				t.Setenv(name, "")
			}
			for pair := range strings.FieldsSeq(c.env) {
				name, value, _ := strings.Cut(pair, "=")
				t.Setenv(name, value)
			}
			if got := tracesAsked(); got != c.want {
				t.Errorf("%s: got %v, want %v", c.env, got, c.want)
			}
			var made traces
			if err := made.start(); err != nil || (made.provider() != nil) != c.want {
				t.Errorf("%s: %v, %v", c.env, made.provider(), err)
			}
			made.stop()
		})
	}
	t.Setenv("OTEL_TRACES_EXPORTER", "zipkin")
	var made traces
	if err := made.start(); err == nil || !strings.Contains(err.Error(), "OTEL_") || made.provider() != nil {
		t.Errorf("an exporter that there is not: %v", err)
	}
}
