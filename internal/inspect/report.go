package inspect

import (
	"cmp"
	"errors"
	"maps"
	"math"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pollsse/caddy-poll-sse/internal/upstream"
)

// Report is what was learned from the answers of an API. Durations are in
// seconds, sizes in bytes.
type Report struct {
	URL     string  `json:"url"` // without the values in its query
	Seconds float64 `json:"seconds"`
	Polls   int     `json:"polls"`

	// Reason is why there was never a document, Hint what to do about it; the
	// rest is then absent.
	Reason string `json:"reason,omitempty"`
	Detail string `json:"detail,omitempty"`
	Hint   string `json:"hint,omitempty"`

	Failures   map[string]int `json:"failures,omitempty"` // polls that brought no document, by reason
	Answer     *AnswerReport  `json:"answer,omitempty"`
	Validators *Validators    `json:"validators,omitempty"`
	Changes    *Changes       `json:"changes,omitempty"`
	Volatile   []Volatile     `json:"volatile,omitempty"`
	Lists      []List         `json:"lists,omitempty"`
	Numbers    []Number       `json:"numbers,omitempty"`
	Savings    *Savings       `json:"savings,omitempty"`
	Notes      []string       `json:"notes,omitempty"`
	Caddyfile  string         `json:"caddyfile,omitempty"`
}

// AnswerReport describes the answers that have a document.
type AnswerReport struct {
	Status        int     `json:"status"`
	ContentType   string  `json:"content_type"`
	Coding        string  `json:"coding,omitempty"` // Content-Encoding
	DocumentBytes int     `json:"document_bytes"`   // median, decoded
	ReceivedBytes int     `json:"received_bytes"`   // median, header included, as the network carried them
	MedianSeconds float64 `json:"median_seconds"`   // of all polls that were answered
	P95Seconds    float64 `json:"p95_seconds"`
	Fresh         float64 `json:"fresh_seconds,omitempty"` // max-age, or s-maxage
}

// Validators is what the API does with conditional requests.
type Validators struct {
	ETag         string `json:"etag"` // strong, weak, none
	LastModified bool   `json:"last_modified"`
	NotModified  int    `json:"not_modified"`       // polls that were answered with 304
	Repeated     int    `json:"repeated"`           // polls that brought the same text under the same validators once more
	Renewed      int    `json:"renewed"`            // polls that brought the same text under new validators
	Checked      int    `json:"checked"`            // polls without a condition, to see whether the 304s before were right
	Wrong        int    `json:"wrong"`              // 304s although the document was another than the one that they were for
	WrongAt      string `json:"wrong_at,omitempty"` // a place where it was
	State        string `json:"state"`              // wrong, honoured, partly, ignored, renewed, unknown (the document was new each time), none
}

// Changes is how often and by how much the document changes.
type Changes struct {
	Count     int `json:"count"`     // polls that brought another document
	Published int `json:"published"` // of these, what is published with the advice followed
	Patches   int `json:"patches"`   // of these, sent as patches

	// Time between two that are published; 0 if there are fewer than two.
	Mean     float64 `json:"mean_seconds,omitempty"`
	Shortest float64 `json:"shortest_seconds,omitempty"`
	Longest  float64 `json:"longest_seconds,omitempty"`

	Document Size `json:"document"` // what is published, compact
	Event    Size `json:"event"`    // patch or document, as sent
	Gzip     Size `json:"gzip"`     // the same on a gzip stream
}

// Size is the size of several things, in bytes.
type Size struct {
	Median  int `json:"median"`
	Largest int `json:"largest"`
}

// Savings compares pages that poll with pages that read the stream, for
// Readers pages that poll every Interval.
type Savings struct {
	Readers  int     `json:"readers"`
	Interval float64 `json:"interval_seconds"`

	PollingRequests float64 `json:"polling_requests_per_second"`
	PollingBytes    float64 `json:"polling_bytes_per_second"`    // without conditional requests
	ValidatedBytes  float64 `json:"validating_bytes_per_second"` // with them, as the API answers them

	UpstreamRequests float64 `json:"upstream_requests_per_second"` // at most: a quiet document is polled less often
	StreamBytes      float64 `json:"stream_bytes_per_second"`      // to all readers, as gzip
	StreamPlainBytes float64 `json:"stream_plain_bytes_per_second"`
	OpeningBytes     int     `json:"opening_bytes"` // to each reader once, as gzip
}

// Target is the API that is polled, and how.
type Target struct {
	URL      string
	Header   http.Header   // sent with each request
	Interval time.Duration // between the starts of two polls
}

// readers is how many pages the savings are worked out for.
const readers = 100

// heartbeat is a comment and the silence before it, by default.
const (
	heartbeatBytes   = len(": heartbeat 15\n")
	heartbeatSilence = 15.0
)

// Analyse says what the answers of an API mean. Answers stand in the order in
// which they were asked for.
func Analyse(t Target, answers []Answer) (*Report, error) {
	if len(answers) == 0 {
		return nil, errors.New("no answers")
	}
	last := answers[len(answers)-1]
	r := &Report{URL: upstream.Redact(t.URL), Polls: len(answers), Failures: make(map[string]int)}
	r.Seconds = last.At.Add(last.Took).Sub(answers[0].At).Seconds()
	for _, a := range answers {
		if a.Reason != "" {
			r.Failures[a.Reason]++
			r.Reason, r.Detail = a.Reason, a.Detail
		}
	}
	documents := slices.DeleteFunc(slices.Clone(answers), func(a Answer) bool { return !a.isDocument() })
	if len(documents) == 0 {
		r.Hint = hint(r.Reason, last)
		return r, nil
	}
	r.Reason, r.Detail = "", ""
	r.Answer = describe(answers, documents)
	r.Validators = validators(answers)
	versions, at := distinct(documents)

	volatile, found, err := r.content(documents)
	if err != nil {
		return nil, err
	}
	r.Volatile = volatile.found()
	var s settings
	for _, v := range r.Volatile {
		switch v.Advice {
		case "omit":
			s.omit = append(s.omit, v.Path)
		case "ignore":
			s.ignore = append(s.ignore, v.Path)
		}
	}
	identify(found, lastOf(versions), s, func(list string) bool {
		items := volatile.scalars[list+"/"+anyItem]
		return items != nil && items.shape
	})
	s.identify = make(map[string]string)
	for _, l := range found {
		if l.Identify != "" {
			s.identify[l.Path] = l.Identify
		}
	}
	r.Lists = found[:min(len(found), maxListed)]
	if err := r.Validators.judge(answers, s); err != nil {
		return nil, err
	}
	got, err := measure(versions, s)
	if err != nil {
		return nil, err
	}
	published := make([]time.Time, 0, len(got.published))
	for _, i := range got.published {
		published = append(published, at[i])
	}
	r.Changes = rhythm(published)
	r.Changes.Count, r.Changes.Published, r.Changes.Patches = len(versions)-1, len(got.events), got.patches
	r.Changes.Document, r.Changes.Event, r.Changes.Gzip = size(got.documents), size(got.events), size(got.zipped)
	interval, quiet := schedule(t.Interval, r)
	r.Savings = savings(t.Interval, interval, r, answers, documents, got)
	r.Notes = notes(r, documents)
	r.Caddyfile = caddyfile(t, interval, quiet, s, r.Validators.State == "wrong")
	return r, nil
}

// maxListed is the most lists that are listed.
const maxListed = 8

// trialBytes is the most bytes of versions that keys are tried on.
const trialBytes = 64 << 20

// lastOf returns the last versions within the bound.
func lastOf(versions [][]byte) [][]byte {
	total := 0
	for i := len(versions) - 1; i >= 0; i-- {
		if total += len(versions[i]); total > trialBytes {
			return versions[i+1:]
		}
	}
	return versions
}

// content looks into the documents twice, since it needs the keys of lists to
// compare their items.
func (r *Report) content(documents []Answer) (*volatiles, []List, error) {
	var all lists
	for i, a := range documents {
		if i > 0 && same(a.Text, documents[i-1].Text) {
			continue
		}
		doc, err := parse(a.Text)
		if err != nil {
			return nil, nil, err
		}
		all.add(doc)
		r.Numbers = numbers(r.Numbers, doc)
	}
	keys := all.keys()
	volatile := newVolatiles()
	var before any
	for i, a := range documents {
		if i > 0 && same(a.Text, documents[i-1].Text) {
			volatile.same()
			continue
		}
		doc, err := parse(a.Text)
		if err != nil {
			return nil, nil, err
		}
		if i > 0 {
			volatile.differ(before, doc, a.At, keys)
		}
		before = doc
	}
	return volatile, all.found(), nil
}

func same(a, b []byte) bool { return len(a) == len(b) && string(a) == string(b) }

// distinct returns the texts that differ from the one before, and when they
// came.
func distinct(documents []Answer) (versions [][]byte, at []time.Time) {
	for i, a := range documents {
		if i == 0 || !same(a.Text, documents[i-1].Text) {
			versions, at = append(versions, a.Text), append(at, a.At)
		}
	}
	return versions, at
}

func describe(answers, documents []Answer) *AnswerReport {
	last := documents[len(documents)-1]
	out := &AnswerReport{Status: last.Status, ContentType: last.Header.Get("Content-Type"), Coding: last.Header.Get("Content-Encoding")}
	var text, received []int
	for _, a := range documents {
		text, received = append(text, len(a.Text)), append(received, int(a.Received))
	}
	out.DocumentBytes, out.ReceivedBytes = size(text).Median, size(received).Median
	var took []float64
	for _, a := range answers {
		if a.Status != 0 {
			took = append(took, a.Took.Seconds())
		}
	}
	slices.Sort(took)
	out.MedianSeconds, out.P95Seconds = took[len(took)/2], took[min(len(took)-1, len(took)*95/100)]
	out.Fresh = fresh(last.Header).Seconds()
	return out
}

// fresh returns how long an answer is good for a shared cache, RFC 9111 section
// 5.2.2; zero if Cache-Control does not say so.
func fresh(h http.Header) time.Duration {
	var age time.Duration
	for directive := range strings.SplitSeq(strings.Join(h.Values("Cache-Control"), ","), ",") {
		name, value, _ := strings.Cut(strings.TrimSpace(directive), "=")
		seconds, err := strconv.ParseUint(strings.Trim(value, `"`), 10, 31)
		if err != nil {
			continue
		}
		switch strings.ToLower(name) {
		case "s-maxage":
			return time.Duration(seconds) * time.Second
		case "max-age":
			age = time.Duration(seconds) * time.Second
		}
	}
	return age
}

func validators(answers []Answer) *Validators {
	out := &Validators{ETag: "none"}
	var before *Answer
	for i, a := range answers {
		switch {
		case a.isUnmodified():
			out.NotModified++
		case a.Unconditional:
			out.Checked++
		case a.isDocument():
			etag, modified := a.Header.Get("ETag"), a.Header.Get("Last-Modified")
			if before != nil && same(before.Text, a.Text) {
				if etag == before.Header.Get("ETag") && modified == before.Header.Get("Last-Modified") {
					out.Repeated++
				} else {
					out.Renewed++
				}
			}
			before = &answers[i]
			switch {
			case strings.HasPrefix(etag, "W/"):
				out.ETag = "weak"
			case etag != "":
				out.ETag = "strong"
			}
			out.LastModified = out.LastModified || modified != ""
		}
	}
	switch {
	case out.ETag == "none" && !out.LastModified:
		out.State = "none"
	case out.NotModified > 0 && out.Repeated == 0:
		out.State = "honoured"
	case out.NotModified > 0:
		out.State = "partly"
	case out.Repeated > 0:
		out.State = "ignored"
	case out.Renewed > 0:
		out.State = "renewed"
	default:
		out.State = "unknown"
	}
	return out
}

// judge counts the 304s that were wrong: those between two answers without a
// condition that both brought another document, as it is published, than the one
// that the 304s were for. One that is there for a moment proves nothing.
func (v *Validators) judge(answers []Answer, s settings) error {
	var validated []byte // the document that the conditions are of
	other, suspects := false, 0
	for _, a := range answers {
		switch {
		case a.isDocument() && !a.Unconditional:
			validated, other, suspects = a.Text, false, 0
		case a.isDocument() && validated != nil:
			place, differs, err := "", false, error(nil)
			if !same(a.Text, validated) {
				if place, differs, err = s.difference(validated, a.Text); err != nil {
					return err
				}
			}
			if differs && suspects > 0 {
				v.Wrong += suspects
				v.WrongAt = place
			}
			other, suspects = differs, 0
		case a.isUnmodified() && other:
			suspects++
		}
	}
	if v.Wrong > 0 {
		v.State = "wrong"
	}
	return nil
}

// rhythm returns how long the publications were apart.
func rhythm(at []time.Time) *Changes {
	out := new(Changes)
	if len(at) < 3 {
		return out // one change says nothing about the time between two
	}
	out.Shortest = math.Inf(1)
	for i := 2; i < len(at); i++ {
		gap := at[i].Sub(at[i-1]).Seconds()
		out.Shortest, out.Longest = min(out.Shortest, gap), max(out.Longest, gap)
	}
	out.Mean = at[len(at)-1].Sub(at[1]).Seconds() / float64(len(at)-2)
	return out
}

// steps are the intervals that a person would write.
var steps = []time.Duration{
	100 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond, time.Second, 2 * time.Second, 5 * time.Second, 10 * time.Second, 15 * time.Second,
	30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 30 * time.Minute, time.Hour,
}

// step is the longest of these that is no longer than d.
func step(d time.Duration) time.Duration {
	out := steps[0]
	for _, s := range steps {
		if s <= d+d/20 { // polls are a few milliseconds late
			out = s
		}
	}
	return out
}

// schedule returns the interval to configure, and the interval that it may grow
// to while nothing changes; 0 if it need not grow.
func schedule(polled time.Duration, r *Report) (interval, quiet time.Duration) {
	seconds := func(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
	interval = polled
	switch c := r.Changes; {
	case c.Published == 0:
		quiet = step(min(15*polled, time.Minute))
	case c.Mean > 0:
		interval = max(polled, step(min(seconds(c.Shortest), time.Minute)))
		quiet = step(seconds(2 * c.Mean))
	}
	if f := seconds(r.Answer.Fresh); f > interval {
		interval = min(f, time.Hour)
	}
	if quiet <= 2*interval {
		quiet = 0
	}
	return interval, quiet
}

func savings(polled, interval time.Duration, r *Report, answers, documents []Answer, got sizes) *Savings {
	out := &Savings{Readers: readers, Interval: polled.Seconds(), OpeningBytes: got.opening}
	out.PollingRequests = readers / polled.Seconds()
	out.UpstreamRequests = 1 / interval.Seconds()
	var whole, conditional float64
	for _, a := range documents {
		whole += float64(a.Received)
	}
	// The polls were conditional, as those of a page are that has the
	// browser's cache to help it. The first one cannot be.
	polls := 0
	for i, a := range answers {
		if i > 0 && !a.Unconditional && (a.isDocument() || a.isUnmodified()) {
			conditional += float64(a.Received)
			polls++
		}
	}
	out.PollingBytes = out.PollingRequests * whole / float64(len(documents))
	out.ValidatedBytes = out.PollingBytes
	if r.Validators.NotModified > 0 {
		out.ValidatedBytes = out.PollingRequests * conditional / float64(polls)
	}
	if r.Seconds > 0 {
		// A heartbeat breaks only a silence, so this is the most they can be.
		silence := readers * float64(heartbeatBytes) / heartbeatSilence
		if len(got.events) > 0 && r.Seconds/float64(len(got.events)) < heartbeatSilence {
			silence = 0
		}
		out.StreamBytes = readers*float64(sum(got.zipped))/r.Seconds + silence
		out.StreamPlainBytes = readers*float64(sum(got.events))/r.Seconds + silence
	}
	return out
}

func sum(list []int) (total int) {
	for _, n := range list {
		total += n
	}
	return total
}

func size(list []int) Size {
	if len(list) == 0 {
		return Size{}
	}
	sorted := slices.Sorted(slices.Values(list))
	return Size{sorted[len(sorted)/2], sorted[len(sorted)-1]}
}

// hint says what to do about an API that returns no document.
func hint(reason string, last Answer) string {
	kind, _, _ := mime.ParseMediaType(last.Header.Get("Content-Type"))
	switch reason {
	case upstream.ReasonUnreachable:
		return "check the host, the port and the network between: nothing answers"
	case upstream.ReasonTLS:
		return "if the certificate is of your own authority: transport http { tls_trust_pool file <path> }"
	case upstream.ReasonTimeout:
		return "raise timeout, or ask for less: no complete answer came in time"
	case upstream.ReasonRedirect:
		return "use the URL that it redirects to: another scheme or host is not followed"
	case upstream.ReasonStatus:
		return "check the path and the query; some APIs want a method or a field: method, header_up"
	case upstream.ReasonRateLimited:
		return "raise interval: the API answers 429"
	case upstream.ReasonUnauthorized, upstream.ReasonForbidden:
		return "send credentials: -H here; bearer_file, basic_auth, oauth2 or header_up in the configuration, or forward for those of each user"
	case upstream.ReasonEmpty:
		return "the answer has no body: is it the right URL?"
	case upstream.ReasonTruncated:
		return "the answer ends early: look at the API, or at a proxy before it"
	case upstream.ReasonTooLarge:
		return "raise max_body, or ask for less: pages, a filter in the query"
	case upstream.ReasonNotJSON:
		if kind == "" || strings.Contains(kind, "json") {
			return "the body is not JSON, or several JSON texts: see upstream_format ndjson"
		}
		return "the body is " + kind + ", not JSON: is there another path, or a query such as format=json? See upstream_format"
	case upstream.ReasonTooDeep:
		return "the document is nested more than 1,000 levels deep: select a part that is not"
	case upstream.ReasonEncoding:
		return "the content coding or charset is broken, or one that nobody asked for"
	}
	return ""
}

// notes are what else is worth knowing.
func notes(r *Report, documents []Answer) []string {
	var out []string
	last := documents[len(documents)-1]
	if strings.Contains(strings.Join(last.Header.Values("Link"), ","), `rel="next"`) {
		out = append(out, "the document comes in pages: paginate link reads them all")
	}
	if r.Changes.Published == 0 {
		out = append(out, "nothing has changed in this time: look longer, with --for, before you believe the interval")
	}
	if r.Answer.Fresh > 0 && r.Answer.Fresh > r.Savings.Interval {
		out = append(out, "Cache-Control says that nothing changes for "+seconds(r.Answer.Fresh)+"; if that is not so: honor off")
	}
	if r.Validators.State == "wrong" {
		out = append(out, "the API answers 304 although the document has changed, so changes come late or never: mend that, or keep the parameter _ of the query, which makes each poll unconditional")
	}
	if r.Validators.State == "ignored" {
		out = append(out, "the API has validators, but sends the document again although nothing has changed")
	}
	if r.Changes.Published > 0 && 2*r.Changes.Patches < r.Changes.Published {
		out = append(out, "most changes are no smaller as a patch: see LISTS and VOLATILE, or select a part")
	}
	if r.Answer.Coding == "" && r.Answer.DocumentBytes > 4<<10 {
		out = append(out, "the API does not compress: each poll carries the document as it is")
	}
	for _, reason := range slices.SortedFunc(maps.Keys(r.Failures), cmp.Compare[string]) {
		out = append(out, strconv.Itoa(r.Failures[reason])+" of "+strconv.Itoa(r.Polls)+" polls failed: "+reason)
	}
	return out
}
