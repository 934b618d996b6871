package pollsse

import (
	"errors"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/pollsse/caddy-poll-sse/internal/feed"
	"github.com/pollsse/caddy-poll-sse/internal/member"
)

// maxNames is how many names may have metrics of their own. Further names count
// together as otherNames and have no gauges.
const (
	maxNames   = 1000
	otherNames = "(others)"
)

// metrics are what the sources of a pool count for Prometheus. The label name
// is the name in the configuration, never an expanded URL: clients could make
// any number of these, and they may hold secrets. Every other label has a
// closed set of values.
type metrics struct {
	polls      *prometheus.CounterVec // name, outcome
	pollTime   *prometheus.HistogramVec
	hostWait   *prometheus.CounterVec
	delayed    *prometheus.CounterVec // name, by
	pokes      *prometheus.CounterVec // name, origin
	received   *prometheus.CounterVec
	decoded    *prometheus.CounterVec
	changes    *prometheus.CounterVec // name, kind
	diffTime   *prometheus.HistogramVec
	streams    *prometheus.CounterVec // name, start
	ended      *prometheus.CounterVec // name, reason
	streamTime *prometheus.HistogramVec
	answers    *prometheus.CounterVec // name, result
	refused    *prometheus.CounterVec // name, reason
	savedCalls *prometheus.CounterVec
	savedBytes *prometheus.CounterVec
	collectors []prometheus.Collector // all of the above
}

func newMetrics() *metrics {
	m := new(metrics)
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "caddy_poll_sse_" + name, Help: help}, append([]string{"name"}, labels...))
		m.collectors = append(m.collectors, c)
		return c
	}
	histogram := func(name, help string, buckets ...float64) *prometheus.HistogramVec {
		h := prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "caddy_poll_sse_" + name, Help: help, Buckets: buckets,
			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100, NativeHistogramMinResetDuration: time.Hour,
		}, []string{"name"})
		m.collectors = append(m.collectors, h)
		return h
	}
	m.polls = counter("polls_total", "Polls that have ended, by outcome: changed, unchanged, not_modified, or the reason why there is no document.", "outcome")
	m.pollTime = histogram("poll_duration_seconds", "Time that polls took, including redirects, pages and bodies.", .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60)
	m.hostWait = counter("host_wait_seconds_total", "Time that polls have waited for their turn at their host.")
	m.delayed = counter("polls_delayed_total", "Polls that were put off beyond the interval, by cause: retry_after, cache_control, backoff, max_load or host_polls.", "by")
	m.pokes = counter("pokes_total", "Requests to poll now, by where they came from: webhook, write, admin or inspector.", "origin")
	m.received = counter("upstream_received_bytes_total", "Bytes of bodies received from the upstream, before they were decoded.")
	m.decoded = counter("upstream_decoded_bytes_total", "Bytes of documents received from the upstream, decoded.")
	m.changes = counter("changes_total", "Published versions, by what is sent to a reader that has the one before: patch, or snapshot if a patch is no smaller.", "kind")
	m.diffTime = histogram("diff_duration_seconds", "Time that it took to compare a decoded body with the document before.", .00001, .0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, 1)
	m.streams = counter("streams_total", "Event streams that were opened, by how they began: new, resumed, or forgotten if the history no longer has the client's version.", "start")
	m.ended = counter("streams_ended_total", "Event streams that have ended, by reason: client, write, memory, max_age, reload, exit, denied or kept.", "reason")
	m.streamTime = histogram("stream_duration_seconds", "How long the event streams that have ended had lasted.", 1, 5, 15, 30, 60, 120, 300, 600, 1800, 3600, 14400, 86400)
	m.answers = counter("answers_total", "Requests answered without a stream, by result: document, not_modified, denied, no_document or gone if the client went away first.", "result")
	m.refused = counter("refused_total", "Newcomers refused over a limit, by reason.", "reason")
	m.savedCalls = counter("requests_avoided_total", "Requests that the readers of streams would have made if each had polled at the interval.")
	m.savedBytes = counter("bytes_avoided_total", "Bytes of bodies that these requests would have brought if they had used ETags: none for an unchanged document.")
	return m
}

// counters are what the sources and streams of one name count.
type counters struct {
	*metrics
	name     string
	requests atomic.Int64 // to the upstream
	sent     feed.Sent

	told    causes // failures that were logged lately
	advised causes // reasons for handing on requests below a tree that were logged lately
}

func newCounters(m *metrics, name string) *counters { return &counters{metrics: m, name: name} }

// Outcomes of a good poll. That of a failed one is its reason.
const (
	outcomeChanged     = "changed"
	outcomeUnchanged   = "unchanged"
	outcomeNotModified = "not_modified"
)

// poll counts a poll that has ended.
func (c *counters) poll(p pollRecord) {
	c.polls.WithLabelValues(c.name, p.Outcome).Inc()
	c.pollTime.WithLabelValues(c.name).Observe(p.Took.Seconds())
	c.received.WithLabelValues(c.name).Add(float64(p.Received))
	c.decoded.WithLabelValues(c.name).Add(float64(p.Decoded))
}

// publication counts a version that was published.
func (c *counters) publication(change feed.Change) {
	kind := feed.BlockPatch
	if change.Patch == nil {
		kind = feed.BlockSnapshot
	}
	c.changes.WithLabelValues(c.name, kind.String()).Inc()
}

// avoided counts what the readers of a source would have cost since the last
// poll if each had polled: one request an interval, and the body if it changed.
// The count is low, as it leaves out headers and answers without a body.
func (c *counters) avoided(readers int64, since, interval time.Duration, p pollRecord) {
	if readers <= 0 || since <= 0 {
		return
	}
	c.savedCalls.WithLabelValues(c.name).Add(float64(readers) * since.Seconds() / interval.Seconds())
	if p.Outcome == outcomeChanged {
		c.savedBytes.WithLabelValues(c.name).Add(float64(readers * p.Received))
	}
}

// collector passes the metrics of a pool to Prometheus.
type collector struct{ pool *pool }

func metric(name, text string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("caddy_poll_sse_"+name, text, labels, nil)
}

var (
	sourcesDesc          = metric("sources", "Documents that are polled now, by state.", "name", "state")
	sourcesLimitDesc     = metric("sources_limit", "Documents that max_sources allows.", "name")
	subscribersDesc      = metric("subscribers", "Readers now: streams, and requests that wait.", "name", "kind")
	subscribersLimitDesc = metric("subscribers_limit", "Readers that max_subscribers allows.", "name")
	intervalDesc         = metric("interval_seconds", "Time between the starts of two polls, as configured.", "name")
	lastSuccessDesc      = metric("last_success_timestamp_seconds", "When the upstream last confirmed a document of the name: of those that have readers, the one that it confirmed longest ago.", "name")
	documentDesc         = metric("document_bytes", "The largest document of the name.", "name")
	requestsDesc         = metric("upstream_requests_total", "Requests to the upstream: polls, their pages and redirects, and those that were sent again over a new connection.", "name")
	sentBytesDesc        = metric("sent_bytes_total", "Bytes written to streams, counted while they are open.", "name")
	sentEventsDesc       = metric("sent_events_total", "Events written to streams, counted while they are open: heartbeat, status, snapshot, patch, merge, and catch_up for a client that returns or fell behind.", "name", "kind")
	deliveryDesc         = metric("delivery_seconds", "Time from the moment at which there was something to tell a stream until it was written; for a client that takes it slowly, until it has taken it.", "name")
	waitingDesc          = metric("streams_waiting", "Streams whose client has not yet taken all of what is being written to it.", "name")
	compressorsDesc      = metric("compressors", "Compressors that streams share, in use.")
	compressorsLimitDesc = metric("compressors_limit", "The most compressors that streams may share; beyond them, each event is compressed by itself.")
)

// registerMetrics registers the collector with the registry of one
// configuration. There is one pool for the process, so the totals survive
// reloads.
func registerMetrics(registry *prometheus.Registry, p *pool) error {
	err := registry.Register(collector{p})
	if errors.As(err, new(prometheus.AlreadyRegisteredError)) {
		return nil // another handler of this configuration was first
	}
	return err
}

// Metrics of a cluster have no name: they cover all documents that its nodes
// share.
var (
	clusterUpDesc        = clusterMetric("up", "Whether the engine can be reached: 1, or 0.")
	clusterNodesDesc     = clusterMetric("nodes", "Nodes, as last known, this one included.")
	clusterDocumentsDesc = clusterMetric("documents", "Documents that this node owns and polls for all nodes, that it follows, and that it polls alone.", "role")
	clusterTakeoverDesc  = clusterMetric("last_takeover_timestamp_seconds", "When this node last took a document over; 0: never.")
)

func clusterMetric(name, text string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("caddy_poll_sse_cluster_"+name, text, labels, nil)
}

// collectCluster reports this process's part in a cluster, if there is one.
func (c collector) collectCluster(ch chan<- prometheus.Metric) {
	nodes := c.pool.clusters.all()
	if len(nodes) == 0 {
		return
	}
	// More than one only while a reload changes the cluster.
	up, most, takeover := 1.0, 0, time.Time{}
	documents := make(map[member.Role]int)
	for _, n := range nodes {
		if !n.Up() {
			up = 0
		}
		most = max(most, n.Nodes())
		if at := n.Takeover(); at.After(takeover) {
			takeover = at
		}
		owns, follows, alone := n.Counts()
		documents[member.Owns] += owns
		documents[member.Follows] += follows
		documents[member.Alone] += alone
	}
	gauge := func(desc *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, labels...)
	}
	gauge(clusterUpDesc, up)
	gauge(clusterNodesDesc, float64(most))
	for role, n := range documents {
		gauge(clusterDocumentsDesc, float64(n), string(role))
	}
	at := 0.0
	if !takeover.IsZero() {
		at = float64(takeover.UnixMilli()) / 1000
	}
	gauge(clusterTakeoverDesc, at)
}

// Describe implements prometheus.Collector.
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		sourcesDesc, sourcesLimitDesc, subscribersDesc, subscribersLimitDesc, intervalDesc, lastSuccessDesc, documentDesc,
		requestsDesc, sentBytesDesc, sentEventsDesc, deliveryDesc, waitingDesc, compressorsDesc, compressorsLimitDesc,
		clusterUpDesc, clusterNodesDesc, clusterDocumentsDesc, clusterTakeoverDesc,
	} {
		ch <- d
	}
	for _, all := range c.pool.metrics.collectors {
		all.Describe(ch)
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(ch chan<- prometheus.Metric) {
	for _, all := range c.pool.metrics.collectors {
		all.Collect(ch)
	}
	c.collectCluster(ch)
	gauge := func(d *prometheus.Desc, value float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, value, labels...)
	}
	total := func(d *prometheus.Desc, value int64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value), labels...)
	}
	gauge(compressorsDesc, float64(feed.CompressorsInUse()))
	gauge(compressorsLimitDesc, feed.MaxCompressors)
	counted := make(map[*counters]bool)
	for _, s := range c.pool.summaries() {
		if n := s.counters; !counted[n] {
			counted[n] = true
			total(requestsDesc, n.requests.Load(), n.name)
			total(sentBytesDesc, n.sent.Bytes.Load(), n.name)
			for kind := feed.BlockHeartbeat; kind < feed.BlockKinds; kind++ {
				total(sentEventsDesc, n.sent.Blocks[kind].Load(), n.name, kind.String())
			}
			count, sum, upTo := n.sent.Delays.Read()
			ch <- prometheus.MustNewConstHistogram(deliveryDesc, count, sum, upTo, n.name)
			gauge(waitingDesc, float64(n.sent.Waiting.Load()), n.name)
		}
		if s.counters.name == otherNames {
			continue
		}
		for _, state := range []string{feed.Waiting, feed.Live, feed.Stale, feed.Denied} {
			gauge(sourcesDesc, float64(s.states[state]), s.name, state)
		}
		gauge(subscribersDesc, float64(s.streams), s.name, "stream")
		gauge(subscribersDesc, float64(s.subscribers-s.streams), s.name, "wait")
		if s.limits.interval > 0 {
			gauge(sourcesLimitDesc, float64(s.limits.sources), s.name)
			gauge(subscribersLimitDesc, float64(s.limits.subscribers), s.name)
			gauge(intervalDesc, s.limits.interval.Seconds(), s.name)
		}
		if !s.validated.IsZero() {
			gauge(lastSuccessDesc, float64(s.validated.UnixMilli())/1000, s.name)
			gauge(documentDesc, float64(s.largest), s.name)
		}
	}
}

// limits are the limits and the interval that the handlers of one name have.
type limits struct {
	sources     int
	subscribers int
	interval    time.Duration
}

// with returns the limits that count if two handlers have the same name.
func (l limits) with(o limits) limits {
	if l.interval == 0 {
		return o
	}
	return limits{max(l.sources, o.sources), max(l.subscribers, o.subscribers), min(l.interval, o.interval)}
}

// announce notes the limits of a configuration that has started.
func (p *pool) announce(all map[string]limits) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range p.endpoints {
		e.limits = limits{}
	}
	for name, l := range all {
		p.endpoint(name).limits = l
	}
}

// summary is the state of one name, for gauges.
type summary struct {
	name        string
	counters    *counters
	limits      limits
	subscribers int
	streams     int
	states      map[string]int
	validated   time.Time // of the documents that are read, the oldest; zero: there is none
	largest     int       // document, in bytes
}

// summaries describes every name.
func (p *pool) summaries() []summary {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make(map[*endpoint]*summary, len(p.endpoints))
	for name, e := range p.endpoints {
		all[e] = &summary{name: name, counters: e.counters, limits: e.limits, subscribers: e.subscribers, streams: e.streams, states: make(map[string]int)}
	}
	read := make(map[*endpoint]bool) // validated is that of a document that is read
	for _, n := range p.entries {
		s, v := all[n.endpoint], n.source.log.View()
		s.states[v.Status.State]++
		if v.Document == nil {
			continue
		}
		s.largest = max(s.largest, len(v.Document.Text))
		switch is := n.subscribers > 0; {
		case is && !read[n.endpoint]:
			s.validated, read[n.endpoint] = v.Validated, true
		case is == read[n.endpoint] && (s.validated.IsZero() || v.Validated.Before(s.validated)):
			s.validated = v.Validated
		}
	}
	out := make([]summary, 0, len(all))
	for _, s := range all {
		out = append(out, *s)
	}
	return out
}
