package cluster_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pollsse/caddy-poll-sse/internal/judge"
)

// origin is a document that counts the polls, so that every poll changes it
// and its versions have an order, and the log of who has asked.
type origin struct {
	*httptest.Server

	mu     sync.Mutex
	n      int
	polls  []time.Time
	parsed map[int]any // documents by their count
	fails  bool
	denies bool
	steady bool   // it does not change
	secret string // part of the document
}

func newOrigin(t testing.TB) *origin {
	t.Helper()
	o := &origin{parsed: make(map[int]any)}
	o.Server = httptest.NewServer(http.HandlerFunc(o.serve))
	t.Cleanup(o.Close)
	return o
}

func (o *origin) serve(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.polls = append(o.polls, time.Now())
	switch {
	case o.fails:
		http.Error(w, "no", http.StatusServiceUnavailable)
		return
	case o.denies:
		http.Error(w, "no", http.StatusForbidden)
		return
	case !o.steady || o.n == 0:
		o.n++
	}
	text := o.text(o.n)
	if o.parsed[o.n] == nil {
		o.parsed[o.n], _ = judge.Parse([]byte(text))
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write([]byte(text))
}

// text is the document with a count.
func (o *origin) text(n int) string {
	var items []string
	for i := range 12 {
		items = append(items, fmt.Sprintf(`{"id":"item %d","value":%d,"text":"what is said of it stays the same"}`, i, n/(i+1)))
	}
	return fmt.Sprintf(`{"n":%d,"secret":%q,"items":[%s]}`, n, o.secret, strings.Join(items, ","))
}

// document is what there was with a count.
func (o *origin) document(n int) any {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.parsed[n]
}

func (o *origin) set(change func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	change()
}

// since are the polls from a time on.
func (o *origin) since(at time.Time) []time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	i, _ := slices.BinarySearchFunc(o.polls, at, time.Time.Compare)
	return slices.Clone(o.polls[i:])
}

// pace is by how much polls ever were ahead of one an interval, and the longest
// time between two of them. A poll too many is ahead by an interval, and one
// after another that a busy machine has held up by as much as that.
func pace(polls []time.Time) (ahead, most time.Duration) {
	var latest time.Duration
	for i := 1; i < len(polls); i++ {
		behind := polls[i].Sub(polls[0]) - time.Duration(i)*interval
		ahead, latest = max(ahead, latest-behind), max(latest, behind)
		most = max(most, polls[i].Sub(polls[i-1]))
	}
	return ahead.Round(time.Millisecond), most.Round(time.Millisecond)
}
