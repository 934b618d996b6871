package system_test

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pollsse/caddy-poll-sse/internal/judge"
)

// upstream is the legacy API: a real server on a port of its own. A test
// decides its answers one by one, and it counts the requests.
type upstream struct {
	t       testing.TB
	address string // host:port, kept through down and up
	polls   atomic.Int64
	handler atomic.Pointer[http.HandlerFunc]
	tls     *tls.Config // nil: in the clear

	mu     sync.Mutex
	server *http.Server
	times  []time.Time // of each poll
}

func newUpstream(t testing.TB, h http.HandlerFunc) *upstream {
	u := &upstream{t: t, address: "127.0.0.1:0"}
	u.set(h)
	u.up()
	t.Cleanup(u.down)
	return u
}

func (u *upstream) set(h http.HandlerFunc) { u.handler.Store(&h) }

func (u *upstream) url(path string) string {
	if u.tls != nil {
		return "https://" + u.address + path
	}
	return "http://" + u.address + path
}

// up starts to listen, on the port it had before.
func (u *upstream) up() {
	u.t.Helper()
	l, err := net.Listen("tcp", u.address)
	if err != nil {
		u.t.Fatal(err)
	}
	u.address = l.Addr().String()
	if u.tls != nil {
		l = tls.NewListener(l, u.tls)
	}
	server := &http.Server{ReadHeaderTimeout: patience, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		u.polls.Add(1)
		u.mu.Lock()
		u.times = append(u.times, time.Now())
		u.mu.Unlock()
		(*u.handler.Load())(w, r)
	})}
	u.mu.Lock()
	u.server = server
	u.mu.Unlock()
	go func() { _ = server.Serve(l) }()
}

// down closes the port and every connection to it.
func (u *upstream) down() {
	u.mu.Lock()
	defer u.mu.Unlock()
	_ = u.server.Close()
}

// pollTimes returns when each poll arrived.
func (u *upstream) pollTimes() []time.Time {
	u.mu.Lock()
	defer u.mu.Unlock()
	return append([]time.Time(nil), u.times...)
}

// writeJSON answers as a good upstream does: with validators, and with 304 if
// they match.
func writeJSON(w http.ResponseWriter, r *http.Request, body []byte) {
	sum := sha256.Sum256(body)
	tag := fmt.Sprintf(`"%x"`, sum[:8])
	w.Header().Set("ETag", tag)
	if r.Header.Get("If-None-Match") == tag {
		w.WriteHeader(http.StatusNotModified)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	if len(body) > 4<<10 && len(body) < 400<<10 && strings.Contains(r.Header.Get("Accept-Encoding"), "gzip") {
		w.Header().Set("Content-Encoding", "gzip")
		z, _ := gzip.NewWriterLevel(w, gzip.BestSpeed)
		_, _ = z.Write(body)
		_ = z.Close()
		return
	}
	_, _ = w.Write(body)
}

// ticker is an upstream document that is different in every part at each step:
// every member is bound to the step, and the list shifts by one. So a patch
// that is applied twice, or to another step, makes a document that no step has.
type ticker struct {
	step  atomic.Int64
	owner string
}

func (k *ticker) text(step int64) []byte {
	doc := map[string]any{"step": step, "owner": k.owner, "parity": []string{"even", "odd"}[step%2]}
	var recent []int64
	for i := max(0, step-9); i <= step; i++ {
		recent = append(recent, i)
	}
	doc["recent"] = recent
	rows := make(map[string]any)
	for i := range int64(20) {
		// Each row changes every 20 steps.
		rows[fmt.Sprintf("row%02d", i)] = map[string]any{"at": (step + i) / 20, "filler": strings.Repeat("abcdefgh", 40)}
	}
	doc["rows"] = rows
	b, _ := json.Marshal(doc)
	return b
}

// check reports whether a document is one of the steps, and which.
func (k *ticker) check(doc any) (int64, error) {
	object, _ := doc.(map[string]any)
	n, _ := object["step"].(json.Number)
	step, err := n.Int64()
	if err != nil {
		return 0, fmt.Errorf("document has no step: %w", err)
	}
	if text := k.text(step); !judge.Matches(doc, text) {
		got, _ := json.Marshal(doc)
		return 0, fmt.Errorf("document is not that of step %d\ngot  %s\nwant %s", step, got, text)
	}
	if now := k.step.Load(); step > now {
		return 0, fmt.Errorf("document of step %d, but the upstream is at %d", step, now)
	}
	return step, nil
}

// serve answers every poll with the current step. With advance, each poll first
// moves on by one step.
func (k *ticker) serve(advance bool) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		step := k.step.Load()
		if advance {
			step = k.step.Add(1)
		}
		writeJSON(w, r, k.text(step))
	}
}

// follow makes a follower that is checked against the ticker: its steps never
// go backwards.
func (k *ticker) follow(f *follower) *follower {
	last := int64(-1)
	f.check = func(f *follower) error {
		step, err := k.check(f.page.Doc)
		if err == nil && step < last {
			err = fmt.Errorf("step %d after step %d", step, last)
		}
		last = step
		return err
	}
	return f
}

// at reports whether a follower's document is that of a step. The follower must
// be locked.
func (k *ticker) at(f *follower, step int64) func() bool {
	return func() bool {
		object, ok := f.page.Doc.(map[string]any)
		return ok && object["step"] == json.Number(fmt.Sprint(step))
	}
}

// gzipped is a gzip body that is small and expands to n bytes of white space.
func gzipped(n int) []byte {
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.BestCompression)
	blank := bytes.Repeat([]byte(" "), 1<<16)
	for ; n > 0; n -= len(blank) {
		_, _ = z.Write(blank[:min(n, len(blank))])
	}
	_ = z.Close()
	return b.Bytes()
}
