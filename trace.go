package pollsse

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/contrib/exporters/autoexport"
	"go.opentelemetry.io/contrib/propagators/autoprop"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/trace"
	"go.opentelemetry.io/otel/trace/noop"

	"github.com/pollsse/caddy-poll-sse/internal/upstream"
)

const (
	// tracerName is the instrumentation scope of the spans.
	tracerName = "github.com/pollsse/caddy-poll-sse"
	// maxParents bounds how many requests the span of one poll names. Further
	// ones are left out.
	maxParents = 8
	// tracesEnd is how long an exit waits until the last spans have been sent.
	tracesEnd = time.Second
)

// parents are the spans of the requests that have asked for a source's next poll.
// The zero value is empty.
type parents struct {
	mu    sync.Mutex
	spans []parent
}

// parent is all that is kept of a request's span, which may end before the poll.
type parent struct {
	trace.SpanContext
	provider trace.TracerProvider
}

// add takes in the span of a request, if it has one. Caddy's directive tracing
// makes it; what a client says of itself counts for nothing without that. The trace
// state may be the client's own words, so it is left out: a document is everybody's.
func (p *parents) add(ctx context.Context) {
	span := trace.SpanFromContext(ctx)
	of := span.SpanContext().WithTraceState(trace.TraceState{})
	if !of.IsValid() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.spans) < maxParents {
		p.spans = append(p.spans, parent{of, span.TracerProvider()})
	}
}

// take returns the spans that were taken in since the last call.
func (p *parents) take() []parent {
	p.mu.Lock()
	defer p.mu.Unlock()
	spans := p.spans
	p.spans = nil
	return spans
}

// startSpan begins the span of a poll. Its parent is the span of the request that
// has asked for the poll, and so is its provider, which is Caddy's. If several
// requests have asked, the span has links to the others. Polls that no request has
// asked for have spans only if the environment asks for traces. The span must be
// ended.
func (p *poller) startSpan(ctx context.Context, begun time.Time) (context.Context, trace.Span) {
	provider := p.traces.provider()
	var links []trace.Link
	for i, parent := range p.source.parents.take() {
		if i > 0 {
			links = append(links, trace.Link{SpanContext: parent.SpanContext})
			continue
		}
		provider = parent.provider
		ctx = trace.ContextWithSpanContext(ctx, parent.SpanContext)
	}
	if provider == nil {
		return ctx, noop.Span{}
	}
	method, attributes := spanAttributes(p.request)
	return provider.Tracer(tracerName, trace.WithSchemaURL(semconv.SchemaURL)).Start(ctx, method+" "+p.source.claimed,
		trace.WithSpanKind(trace.SpanKindClient), trace.WithTimestamp(begun), trace.WithLinks(links...),
		trace.WithAttributes(append(attributes, attribute.String("poll_sse.name", p.source.claimed))...))
}

// spanAttributes returns what the semantic conventions of HTTP clients have spans
// begin with, and the method for the name. The URL is the configured one without
// its query, as in logs: the expanded one may hold a secret.
func spanAttributes(r *upstream.Request) (method string, all []attribute.KeyValue) {
	switch method = r.Method(); method {
	case http.MethodGet, http.MethodPost, "QUERY":
		all = append(all, semconv.HTTPRequestMethodKey.String(method))
	default:
		all = append(all, semconv.HTTPRequestMethodOther, semconv.HTTPRequestMethodOriginal(method))
		method = "HTTP"
	}
	all = append(all, semconv.URLFull(r.Display()))
	u, err := url.Parse(r.Display())
	if err != nil {
		return method, all // a placeholder in the host
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	all = append(all, semconv.ServerAddress(u.Hostname()))
	if n, err := strconv.Atoi(port); err == nil {
		all = append(all, semconv.ServerPort(n))
	}
	return method, all
}

// endSpan ends the span of a poll. It says no more of a failure than its reason.
func endSpan(span trace.Span, r pollRecord) {
	if !span.IsRecording() {
		return
	}
	span.SetAttributes(attribute.String("poll_sse.outcome", r.Outcome))
	status := r.Status
	switch r.Outcome {
	case outcomeChanged, outcomeUnchanged:
		status = http.StatusOK
	case outcomeNotModified:
		status = http.StatusNotModified
	default:
		span.SetAttributes(semconv.ErrorTypeKey.String(r.Outcome))
		span.SetStatus(codes.Error, r.Outcome)
	}
	if status != 0 {
		span.SetAttributes(semconv.HTTPResponseStatusCode(status))
	}
	span.End(trace.WithTimestamp(r.At.Add(r.Took)))
}

var propagator = sync.OnceValue(func() propagation.TextMapPropagator { return autoprop.NewTextMapPropagator() })

// traceFields returns the header fields that tell the upstream of the span in ctx:
// traceparent, or what OTEL_PROPAGATORS names. There is no baggage in a poll's
// context.
func traceFields(ctx context.Context) http.Header {
	if !trace.SpanContextFromContext(ctx).IsValid() {
		return nil
	}
	fields := make(http.Header)
	propagator().Inject(ctx, propagation.HeaderCarrier(fields))
	return fields
}

// traces makes the spans of the polls that no request has asked for, if the usual
// variables of OpenTelemetry are set. Caddy's own provider cannot be had but from
// the span of a request, so this is one like it, made by the same library. The
// zero value makes no spans.
type traces struct {
	once sync.Once
	sdk  atomic.Pointer[sdktrace.TracerProvider] // nil: none
}

// tracesAsked reports whether the environment asks for traces.
func tracesAsked() bool {
	if os.Getenv("OTEL_SDK_DISABLED") == "true" {
		return false
	}
	switch os.Getenv("OTEL_TRACES_EXPORTER") {
	case "none":
		return false
	case "":
		return os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT") != "" || os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") != ""
	}
	return true
}

// start begins to trace polls if the environment asks for it. Once is enough for
// the process, whose environment does not change.
func (t *traces) start() (err error) {
	t.once.Do(func() {
		if !tracesAsked() {
			return
		}
		exporter, failure := autoexport.NewSpanExporter(context.Background())
		if failure != nil {
			err = fmt.Errorf("the OTEL_ variables of the environment: %w", failure)
			return
		}
		t.sdk.Store(sdktrace.NewTracerProvider(sdktrace.WithBatcher(exporter)))
	})
	return err
}

// provider returns nil if polls are not traced.
func (t *traces) provider() trace.TracerProvider {
	if p := t.sdk.Load(); p != nil {
		return p
	}
	return nil
}

// stop sends what is left and ends the goroutine that sends.
func (t *traces) stop() {
	if p := t.sdk.Load(); p != nil {
		ctx, cancel := context.WithTimeout(context.Background(), tracesEnd)
		defer cancel()
		_ = p.Shutdown(ctx) // what cannot be sent by then is lost
	}
}
