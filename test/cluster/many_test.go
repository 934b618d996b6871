package cluster_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

var (
	manyDocuments = flag.Int("documents", 200, "how many documents TestMany has; docs/cluster.md has the figures for 10,000")
	manyIdle      = flag.Duration("idle", 10*time.Second, "for how long TestMany counts messages while nothing changes")
)

// tally is an upstream with any number of documents, of about 1 KB, that do not
// change.
type tally struct {
	*httptest.Server
	polls, now, most atomic.Int64
	seen             sync.Map // by document, since the last reset
	asked            atomic.Int64
}

func newTally(t testing.TB) *tally {
	t.Helper()
	u := new(tally)
	u.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for now, most := u.now.Add(1), u.most.Load(); now > most && !u.most.CompareAndSwap(most, now); most = u.most.Load() {
		}
		defer u.now.Add(-1)
		u.polls.Add(1)
		n := r.URL.Query().Get("n")
		if _, again := u.seen.LoadOrStore(n, nil); !again {
			u.asked.Add(1)
		}
		time.Sleep(5 * time.Millisecond)
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("ETag", `"1"`)
		if r.Header.Get("If-None-Match") == `"1"` {
			w.WriteHeader(http.StatusNotModified)
			return
		}
		fmt.Fprintf(w, `{"n":%q,"text":%q}`, n, strings.Repeat("0123456789", 100))
	}))
	t.Cleanup(u.Close)
	return u
}

// part is a node's in the cluster, as the admin API says.
type part struct {
	Owns    int `json:"owns"`
	Follows int `json:"follows"`
	Alone   int `json:"alone"`
}

func (n *node) part() part {
	var all []part
	_ = json.Unmarshal([]byte(n.get("/poll_sse/cluster")), &all)
	if len(all) != 1 {
		return part{}
	}
	return all[0]
}

// ask has a node get a document each, so that it has them for the time of
// linger.
func (n *node) ask(documents int) {
	n.t.Helper()
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 32}}
	defer client.CloseIdleConnections()
	var next atomic.Int64
	var all sync.WaitGroup
	for range 32 {
		all.Go(func() {
			for i := next.Add(1); i <= int64(documents); i = next.Add(1) {
				resp, err := client.Get(fmt.Sprintf("http://%s/doc?n=%d", n.plain, i))
				if err != nil {
					n.t.Error(err)
					return
				}
				body, _ := io.ReadAll(resp.Body)
				resp.Body.Close()
				if resp.StatusCode != http.StatusOK || !strings.Contains(string(body), fmt.Sprintf(`"n":"%d"`, i)) {
					n.t.Errorf("document %d: %s %.200s", i, resp.Status, body)
					return
				}
			}
		})
	}
	all.Wait()
}

// heap is what the node's objects take after a collection, in bytes.
func (n *node) heap() int {
	resp, err := http.Get("http://" + n.admin + "/debug/pprof/heap?gc=1&debug=1")
	if err != nil {
		n.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(resp.Body)
	found := regexp.MustCompile(`# HeapAlloc = (\d+)`).FindSubmatch(text)
	if found == nil {
		n.t.Fatalf("no heap: %.200s", text)
	}
	size, _ := strconv.Atoi(string(found[1]))
	return size
}

// TestMany is many documents that nobody reads and that do not change: what
// they take, and how they are taken over.
func TestMany(t *testing.T) {
	t.Parallel()
	u := newTally(t)
	monitor := freePort(t)
	e := startNATS(t, fmt.Sprintf("http: 127.0.0.1:%d", monitor))
	total := *manyDocuments
	s := site{cluster: natsBlock, directives: fmt.Sprintf("\tpoll_sse /doc %s/doc?n={query.n} {\n\t\tinterval 1m\n\t\tlinger 1h\n\t\tmax_sources %d\n\t}", u.URL, 9*total)}
	if raced {
		s.cluster += "\n\tlease 15s" // many documents keep a process busy
	}
	all := nodes(t, s, e.address(), "a", "b", "c")
	lone := site{directives: s.directives}
	all = append(all, newNode(t, "without a cluster", lone, e.address()))
	before := make(map[*node]int)
	for _, n := range all {
		before[n] = n.heap()
	}
	for i, n := range all {
		from := time.Now()
		n.ask(total)
		t.Logf("%s has %d documents after %s", n.name, total, time.Since(from).Round(10*time.Millisecond))
		if i < 3 {
			eventually(t, n.name+" has joined all", func() bool { p := n.part(); return p.Owns+p.Follows == total })
		}
	}
	owned := func(by ...*node) bool {
		owns, alone := 0, 0
		for _, n := range by {
			p := n.part()
			owns, alone = owns+p.Owns, alone+p.Alone
		}
		return owns == total && alone == 0
	}
	eventually(t, "each document has one owner", func() bool { return owned(all[:3]...) })
	messages := func() (in, out int) {
		resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/varz", monitor))
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		var count struct {
			In  int `json:"in_msgs"`
			Out int `json:"out_msgs"`
		}
		if err := json.NewDecoder(resp.Body).Decode(&count); err != nil {
			t.Fatal(err)
		}
		return count.In, count.Out
	}
	time.Sleep(2 * lease)
	in, out := messages()
	polls, from := u.polls.Load(), time.Now()
	time.Sleep(*manyIdle)
	inThen, outThen := messages()
	long := time.Since(from).Seconds()
	rate := float64(inThen-in) / long
	t.Logf("idle: %.1f messages a second to the engine, %.1f from it, %.0f polls a second", rate, float64(outThen-out)/long, float64(u.polls.Load()-polls)/long)
	if rate > 10 {
		t.Errorf("%.1f messages a second with %d documents, want at most 10", rate, total)
	}
	for _, n := range all {
		t.Logf("%s: %.1f KB of heap for each document; %+v", n.name, float64(n.heap()-before[n])/float64(total)/1000, n.part())
	}

	u.most.Store(0)
	u.seen.Clear()
	u.asked.Store(0)
	all[3].end(syscall.SIGTERM)
	killed := time.Now()
	all[0].end(syscall.SIGKILL)
	// A node that was alone for a document meanwhile follows after the owner's
	// next poll, an interval later.
	for logged := killed; !owned(all[1:3]...); time.Sleep(20 * time.Millisecond) {
		if time.Since(killed) > 3*time.Minute {
			t.Fatalf("the others do not own all documents: %+v and %+v", all[1].part(), all[2].part())
		}
		if time.Since(logged) > 10*time.Second {
			logged = time.Now()
			t.Logf("after %s: %+v and %+v", time.Since(killed).Round(10*time.Millisecond), all[1].part(), all[2].part())
		}
	}
	t.Logf("%d documents were taken over after %s, %d by one and %d by the other", total, time.Since(killed).Round(10*time.Millisecond), all[1].part().Owns, all[2].part().Owns)
	for deadline := time.Now().Add(3 * time.Minute); int(u.asked.Load()) < total; time.Sleep(50 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d documents are polled again", u.asked.Load(), total)
		}
	}
	t.Logf("all are polled again after %s, at most %d at once", time.Since(killed).Round(10*time.Millisecond), u.most.Load())
	if most := u.most.Load(); most > 2*16 {
		t.Errorf("%d polls at once by two nodes, want host_polls each, 16", most)
	}
}
