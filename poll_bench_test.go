package pollsse

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/headers"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/pollsse/caddy-poll-sse/cluster/clustertest"
	"github.com/pollsse/caddy-poll-sse/internal/feed"
	"github.com/pollsse/caddy-poll-sse/internal/upstream"
)

// quotes is a document of so many rows, with the price of one of them.
func quotes(rows, price int) []byte {
	var b bytes.Buffer
	b.WriteString(`{"took":12,"data":[`)
	for i := range rows {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"symbol":"SYM%04d","bid":%d.25,"ask":%d.5,"volume":%d}`, i, price, price+1, 1000*i)
		price = 100
	}
	b.WriteString(`]}`)
	return b.Bytes()
}

// BenchmarkNext is what the differ does with each poll's body: the same again,
// or one row changed.
func BenchmarkNext(b *testing.B) {
	for _, f := range []struct {
		name string
		set  Reading
	}{
		{"whole", Reading{}},
		{"select", Reading{Select: "/data"}},
		{"omit", Reading{Omit: []string{"/took"}}},
		{"select-little", Reading{Select: "/data/0"}},
	} {
		parsed, err := f.set.filter()
		if err != nil {
			b.Fatal(err)
		}
		bodies := [][]byte{quotes(1200, 100), quotes(1200, 101)}
		for _, changes := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/changes=%v", f.name, changes), func(b *testing.B) {
				d := newDiffer(nil, parsed)
				if _, _, err := d.update(bytes.Clone(bodies[0]), false); err != nil {
					b.Fatal(err)
				}
				b.SetBytes(int64(len(bodies[0])))
				b.ReportAllocs()
				for n := 1; b.Loop(); n++ {
					body := bodies[0]
					if changes {
						body = bodies[n%2]
					}
					if doc, _, err := d.update(body, false); err != nil || (doc != nil) != changes {
						b.Fatal(doc, err)
					}
				}
			})
		}
	}
}

// fixedTransport answers every request with the same body.
type fixedTransport []byte

func (f fixedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	return &http.Response{
		StatusCode: 200, Status: "200 OK", ProtoMajor: 1, Header: http.Header{}, Request: r,
		Body: io.NopCloser(bytes.NewReader(f)), ContentLength: int64(len(f)),
	}, nil
}

func benchRequest(b *testing.B) *upstream.Request {
	b.Helper()
	template, err := upstream.Compile(upstream.Config{URL: "http://upstream.test/doc"}, nil)
	if err != nil {
		b.Fatal(err)
	}
	request, err := template.Expand(nil, nil)
	if err != nil {
		b.Fatal(err)
	}
	return request
}

// benchClient is a client of a document, and the differ of its source.
func benchClient(b *testing.B) (*upstream.Client, *differ) {
	b.Helper()
	return upstream.NewClient(benchRequest(b), upstream.Reading{MaxBody: 10 << 20}, new(upstream.Tokens), new(upstream.Reuse), new(atomic.Int64)), newDiffer(nil, filter{})
}

// poll is one poll as the poller makes it.
func poll(b *testing.B, c *upstream.Client, d *differ, transport http.RoundTripper) {
	b.Helper()
	got, err := c.Fetch(context.Background(), transport, nil)
	if err != nil {
		b.Fatal(err)
	}
	if _, _, err := d.update(got.Body, false); err != nil {
		b.Fatal(err)
	}
	c.Commit(got)
}

// BenchmarkUnchangedPoll is a 200 with the same 85 KB again; retained-B is what
// a source holds between two of them, its document included.
func BenchmarkUnchangedPoll(b *testing.B) {
	body := fixedTransport(quotes(1200, 100))
	const sources = 200
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.GC() // what pools hold goes with the second
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	clients, differs := make([]*upstream.Client, sources), make([]*differ, sources)
	for i := range sources {
		clients[i], differs[i] = benchClient(b)
		for range 3 {
			poll(b, clients[i], differs[i], body)
		}
	}
	retained := float64(heap()-before) / sources
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		poll(b, clients[n%sources], differs[n%sources], body)
		n++
	}
	b.ReportMetric(retained, "retained-B")
	runtime.KeepAlive(clients)
	runtime.KeepAlive(differs)
}

// BenchmarkChangedPoll is a 200 in which one of 1,200 rows has changed.
func BenchmarkChangedPoll(b *testing.B) {
	transports := [2]http.RoundTripper{fixedTransport(quotes(1200, 100)), fixedTransport(quotes(1200, 101))}
	c, d := benchClient(b)
	b.SetBytes(int64(len(quotes(1200, 100))))
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		poll(b, c, d, transports[n%2])
		n++
	}
}

// countedTransport answers a number of requests with bodies in turn, and then
// lets them wait.
type countedTransport struct {
	bodies [][]byte
	left   int
	done   chan struct{}
}

func (c *countedTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	if c.left--; c.left < 0 {
		close(c.done)
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	return fixedTransport(c.bodies[c.left%len(c.bodies)]).RoundTrip(r)
}

// BenchmarkSource is everything that a source does for a poll, and what it
// does besides if nodes of a cluster share it; their engine, in memory, keeps
// all that was ever sent. The bytes and allocations are what to compare.
func BenchmarkSource(b *testing.B) {
	for _, doc := range []struct {
		name   string
		bodies [][]byte
	}{
		{"unchanged", [][]byte{quotes(10, 100)}},
		{"changed", [][]byte{quotes(10, 100), quotes(10, 101)}},
	} {
		for _, shared := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/cluster=%t", doc.name, shared), func(b *testing.B) {
				e := newEngine()
				g := e.newGeneration()
				if shared {
					g.cluster = (&App{WhenAlone: alonePolls, Lease: caddy.Duration(3 * time.Second)}).cluster("", clustertest.NewServer(), nil, slog.New(slog.DiscardHandler))
				}
				h := &Handler{Upstream: "http://host.test/doc"}
				h.setDefaults()
				h.prepare(caddy.NewReplacer(), g)
				req, err := h.request.Expand(nil, nil)
				if err != nil {
					b.Fatal(err)
				}
				transport := &countedTransport{bodies: doc.bodies, left: b.N, done: make(chan struct{})}
				h.claim.environment = environment{transport, zap.NewNop(), g.number}
				h.claim.schedule.interval = 1 // the next poll is always due
				s := newSource(req, h.Reading, h.claim, newCounters(newMetrics(), "bench"))
				b.ReportAllocs()
				b.ResetTimer()
				s.start(e.pool)
				<-transport.done
				b.StopTimer()
				s.close()
			})
		}
	}
}

// BenchmarkReport is the cost of logging for a poll that brings no news, with a
// logger as Caddy has it.
func BenchmarkReport(b *testing.B) {
	core := zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(io.Discard), zapcore.InfoLevel)
	p := &poller{request: benchRequest(b), source: new(source)}
	p.source.environment.Store(&environment{logger: zap.New(core)})
	b.ReportAllocs()
	for b.Loop() {
		p.report(feed.Publication{State: feed.Live}, nil)
	}
}

// BenchmarkNoSpan is what traces cost a poll that has no span.
func BenchmarkNoSpan(b *testing.B) {
	p := &poller{request: benchRequest(b), source: new(source), traces: new(traces)}
	b.ReportAllocs()
	for b.Loop() {
		ctx, span := p.startSpan(context.Background(), time.Time{})
		if traceFields(ctx) != nil {
			b.Fatal("a poll without a span tells of one")
		}
		endSpan(span, pollRecord{})
	}
}

// BenchmarkExpand is the upstream request of a client's request, and its key.
func BenchmarkExpand(b *testing.B) {
	for _, bench := range []struct {
		name string
		h    Handler
	}{
		{"static", Handler{Upstream: "http://upstream.test/doc?limit=10", Request: Request{HeaderUp: &headers.HeaderOps{Set: http.Header{"Accept-Language": {"de"}}}}}},
		{"dynamic", Handler{Upstream: "http://upstream.test/doc?q={http.request.uri.query.q}"}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			h := bench.h
			h.setDefaults()
			h.prepare(caddy.NewReplacer(), new(engine).newGeneration())
			if err := h.Validate(); err != nil {
				b.Fatal(err)
			}
			r := request(context.Background(), "GET", "/api?q=x")
			b.ReportAllocs()
			for b.Loop() {
				req, err := h.expand(r)
				if err != nil {
					b.Fatal(err)
				}
				_ = req.Key(h.readingKey)
			}
		})
	}
}
