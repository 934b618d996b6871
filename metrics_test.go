package pollsse

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pollsse/caddy-poll-sse/internal/upstream"
)

// gather reads the metrics of the process: name{label="value",...} to value;
// of histograms the count.
func gather(t *testing.T) map[string]float64 {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	if err := registerMetrics(registry, testEngine(t).pool); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	out := make(map[string]float64)
	for _, f := range families {
		for _, m := range f.Metric {
			var labels []string
			for _, l := range m.Label {
				labels = append(labels, fmt.Sprintf("%s=%q", l.GetName(), l.GetValue()))
			}
			key := strings.TrimPrefix(f.GetName(), "caddy_poll_sse_") + "{" + strings.Join(labels, ",") + "}"
			switch {
			case m.Counter != nil:
				out[key] = m.Counter.GetValue()
			case m.Gauge != nil:
				out[key] = m.Gauge.GetValue()
			case m.Histogram != nil:
				out[key] = float64(m.Histogram.GetSampleCount())
			}
		}
	}
	return out
}

// metricOf reads one metric; labels are names in alphabetical order, and values.
func metricOf(t *testing.T, name string, labels ...string) float64 {
	t.Helper()
	var pairs []string
	for i := 0; i < len(labels); i += 2 {
		pairs = append(pairs, fmt.Sprintf("%s=%q", labels[i], labels[i+1]))
	}
	return gather(t)[name+"{"+strings.Join(pairs, ",")+"}"]
}

// TestMetrics: each metric counts what its help says, while streams are open.
func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const counted = "counted"
		r := newRig(t, &Handler{Upstream: "http://h/metrics", Name: counted, Streaming: Streaming{Compress: "off"}}) // every 5 s
		filler := strings.Repeat("x", 500)
		r.up.set(`{"n":0,"filler":"` + filler + `"}`)
		c := r.stream()
		c.next()
		d := r.stream()
		d.next()
		at := func(name string, labels ...string) float64 {
			return metricOf(t, name, labels...)
		}
		check := func(want float64, name string, labels ...string) {
			t.Helper()
			if got := at(name, labels...); got != want {
				t.Errorf("%s%v: got %g, want %g", name, labels, got, want)
			}
		}
		check(1, "polls_total", "name", counted, "outcome", "changed")
		check(2, "subscribers", "kind", "stream", "name", counted)
		check(0, "subscribers", "kind", "wait", "name", counted)
		check(1, "sources", "name", counted, "state", "live")
		check(2, "streams_total", "name", counted, "start", "new")
		sent := at("sent_bytes_total", "name", counted)
		if sent < 1000 {
			t.Errorf("%g bytes sent while streams are open, want two snapshots", sent)
		}
		success := at("last_success_timestamp_seconds", "name", counted)

		// A change after 10 intervals, of which each reader would have polled 10.
		avoided := at("requests_avoided_total", "name", counted)
		time.Sleep(46 * time.Second)
		r.up.set(`{"n":1,"filler":"` + filler + `"}`)
		time.Sleep(5 * time.Second)
		synctest.Wait()
		c.next()
		d.next()
		if got := at("requests_avoided_total", "name", counted) - avoided; got < 18 || got > 22 {
			t.Errorf("two readers have avoided %g requests in 50 s, want about 20", got)
		}
		body := float64(len(filler) + len(`{"n":1,"filler":""}`))
		check(2*body, "bytes_avoided_total", "name", counted)
		check(2, "polls_total", "name", counted, "outcome", "changed")
		if n := at("polls_total", "name", counted, "outcome", "unchanged") + at("polls_total", "name", counted, "outcome", "not_modified"); n < 8 {
			t.Errorf("%g polls brought nothing new in 50 s, want 8 or more", n)
		}
		check(1, "changes_total", "kind", "patch", "name", counted)
		check(1, "changes_total", "kind", "snapshot", "name", counted)
		check(2, "sent_events_total", "kind", "patch", "name", counted)
		check(2, "sent_events_total", "kind", "snapshot", "name", counted)
		// What a stream begins with is no delivery, as nothing has waited for it. The
		// first stream may have been there before the document.
		patches, beats := at("sent_events_total", "kind", "patch", "name", counted), at("sent_events_total", "kind", "heartbeat", "name", counted)
		if n := at("delivery_seconds", "name", counted); n < patches+beats || n > patches+beats+1 {
			t.Errorf("%g deliveries, want %g patches and %g heartbeats, and a snapshot at most", n, patches, beats)
		}
		check(0, "streams_waiting", "name", counted)
		if n := at("sent_events_total", "kind", "heartbeat", "name", counted); n < 4 {
			t.Errorf("%g heartbeats on two streams in 45 s, want 4 or more", n)
		}
		if got := at("last_success_timestamp_seconds", "name", counted) - success; got < 45 || got > 55 {
			t.Errorf("last success moved by %g s in 51 s", got)
		}
		check(body, "document_bytes", "name", counted)

		// Failures have their reason, and what they put off has its own.
		r.up.answer(func(*http.Request) (*http.Response, error) { return reply(429, "", "Retry-After", "20"), nil })
		time.Sleep(10 * time.Second)
		synctest.Wait()
		check(1, "polls_total", "name", counted, "outcome", upstream.ReasonRateLimited)
		check(1, "polls_delayed_total", "by", "retry_after", "name", counted)
		check(1, "sources", "name", counted, "state", "stale")
		c.close()
		synctest.Wait()
		check(1, "streams_ended_total", "name", counted, "reason", "client")
		check(1, "stream_duration_seconds", "name", counted)
		check(1, "subscribers", "kind", "stream", "name", counted)

		// Without a stream.
		if w := r.get(); w.Code != 200 {
			t.Fatal(w.Code)
		} else if again := r.get("If-None-Match", w.Header().Get("ETag")); again.Code != 304 {
			t.Fatal(again.Code)
		}
		check(1, "answers_total", "name", counted, "result", "document")
		check(1, "answers_total", "name", counted, "result", "not_modified")
	})
}

// TestRecords: changes are counted for an hour, and the last polls are kept.
func TestRecords(t *testing.T) {
	var r records
	begun := time.Unix(1_800_000_030, 0)
	for i := range 120 { // one change a minute for two hours
		r.add(pollRecord{At: begun.Add(time.Duration(i) * time.Minute), Outcome: outcomeChanged, Received: 10}, 2, 30*time.Second)
	}
	last := begun.Add(119 * time.Minute)
	got := r.read(last)
	if got.changes != 60 || !got.changed.Equal(last) || len(got.last) != keptRecords || !got.last[keptRecords-1].At.Equal(last) || got.saved.Bytes != 2400 || got.saved.Requests != 2*2*119 {
		t.Errorf("%+v", got)
	}
	if got := r.read(last.Add(30 * time.Minute)); got.changes != 30 {
		t.Errorf("%d changes half an hour later, want 30", got.changes)
	}
	if got := r.read(last.Add(48 * time.Hour)); got.changes != 0 || !got.changed.Equal(last) {
		t.Errorf("%d changes two days later", got.changes)
	}
	r.add(pollRecord{At: last.Add(49 * time.Hour), Outcome: upstream.ReasonTimeout}, 0, time.Second)
	r.add(pollRecord{At: last.Add(50 * time.Hour), Outcome: upstream.ReasonTimeout}, 0, time.Second)
	if got := r.read(last.Add(50 * time.Hour)); got.failures != 2 || got.changes != 0 {
		t.Errorf("%+v", got)
	}
}

// TestMetricsOfManyNames: names beyond a bound count together.
func TestMetricsOfManyNames(t *testing.T) {
	p := newPool()
	for i := range maxNames + 5 {
		c := p.endpoint(fmt.Sprint("name ", i)).counters
		c.pokes.WithLabelValues(c.name, pokedByAdmin).Inc()
	}
	q := newPool()
	if c := q.endpoint("\xff").counters; c != q.others {
		t.Error("a name that is no UTF-8, which Prometheus does not take, has metrics of its own")
	}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(collector{p})
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if len(f.Metric) > 7*(maxNames+1) {
			t.Errorf("%s has %d series", f.GetName(), len(f.Metric))
		}
		if f.GetName() != "caddy_poll_sse_pokes_total" {
			continue
		}
		others := 0.0
		for _, m := range f.Metric {
			if m.Label[0].GetValue() == otherNames {
				others = m.Counter.GetValue()
			}
		}
		if len(f.Metric) != maxNames+1 || others != 5 {
			t.Errorf("%d series of pokes, %g of other names; want %d and 5", len(f.Metric), others, maxNames+1)
		}
	}
}
