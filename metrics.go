package pollsse

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// collector gives the pool's totals to Prometheus. The label is the name in
// the configuration: never an expanded URL, which clients could multiply and
// which may hold secrets.
type collector struct{ pool *pool }

var (
	sourcesDesc     = metric("sources", "Documents that are polled now.")
	subscribersDesc = metric("subscribers", "Streams and waiting requests now.")
	totals          = []struct {
		desc  *prometheus.Desc
		value func(*counters) int64
	}{
		{metric("polls_total", "Requests to the upstream."), func(c *counters) int64 { return c.polls.Load() }},
		{metric("poll_failures_total", "Requests to the upstream that brought no document."), func(c *counters) int64 { return c.failures.Load() }},
		{metric("changes_total", "Published versions."), func(c *counters) int64 { return c.changes.Load() }},
		{metric("upstream_bytes_total", "Bytes of documents received from the upstream, decoded."), func(c *counters) int64 { return c.upstreamBytes.Load() }},
		{metric("sent_bytes_total", "Bytes of events sent on streams that have ended."), func(c *counters) int64 { return c.sentBytes.Load() }},
		{metric("streams_total", "Event streams that were opened."), func(c *counters) int64 { return c.streams.Load() }},
		{metric("answers_total", "Requests answered with the document itself, or with 304."), func(c *counters) int64 { return c.answers.Load() }},
		{metric("refused_total", "Newcomers refused over a limit."), func(c *counters) int64 { return c.refused.Load() }},
	}
)

func metric(name, text string) *prometheus.Desc {
	return prometheus.NewDesc("caddy_poll_sse_"+name, text, []string{"name"}, nil)
}

// registerMetrics registers the collector with the registry of one
// configuration. There is one collector for the process, so the totals survive
// reloads.
func registerMetrics(registry *prometheus.Registry) error {
	err := registry.Register(collector{sources})
	if errors.As(err, new(prometheus.AlreadyRegisteredError)) {
		return nil // another handler of this configuration was first
	}
	return err
}

// Describe implements prometheus.Collector.
func (collector) Describe(ch chan<- *prometheus.Desc) {
	ch <- sourcesDesc
	ch <- subscribersDesc
	for _, t := range totals {
		ch <- t.desc
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	c.pool.mu.Lock()
	defer c.pool.mu.Unlock()
	for name, e := range c.pool.endpoints {
		ch <- prometheus.MustNewConstMetric(sourcesDesc, prometheus.GaugeValue, float64(e.sources), name)
		ch <- prometheus.MustNewConstMetric(subscribersDesc, prometheus.GaugeValue, float64(e.subscribers), name)
		for _, t := range totals {
			ch <- prometheus.MustNewConstMetric(t.desc, prometheus.CounterValue, float64(t.value(&e.counters)), name)
		}
	}
}
