package system_test

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pollsse/caddy-poll-sse/internal/judge"
)

// crowdSize is how many clients do the same thing at once. With the race
// detector a process may have 8,128 goroutines at a time, and every connection
// begins with one or two. So the crowd is 2,000 then, and test/run also runs
// the whole one without the detector.
func crowdSize() int {
	if raced {
		return 2000
	}
	return 10000
}

// steps is an upstream whose document changes when the test says so.
type steps struct {
	*upstream
	step atomic.Int64
}

func newSteps(t *testing.T) *steps {
	c := &steps{}
	c.step.Store(1)
	c.upstream = newUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		writeJSON(w, r, fmt.Appendf(nil, `{"step":%d,"filler":%q}`, c.step.Load(), strings.Repeat("x", 300)))
	})
	return c
}

// site has no heartbeat: one could wake a client that a change has missed.
func (c *steps) site() site {
	return site{noTLS: true, directives: "poll_sse " + c.url("/doc") + " {\n\tinterval 100ms\n\theartbeat 10m\n}"}
}

// crowd is many clients in little memory. Each one's goroutine parses its
// stream; the test's goroutine judges what they receive. A client gets a
// snapshot only as often as the test allows, and every step in between.
type crowd struct {
	t         *testing.T
	members   []*member
	heard     chan heard
	gone      chan struct{}
	snapshots int           // that all have had
	reached   map[int64]int // how many have reached a step
	connected int           // streams that began
	ended     int           // streams that ended in order
}

// member is one client.
type member struct {
	conn net.Conn // set before anything is heard
	id   string   // of the last event
	step int64
}

// heard is an event of a member, or how its stream ended.
type heard struct {
	*member
	event judge.Event
	err   error
}

func newCrowd(t *testing.T, n int) *crowd {
	c := &crowd{t: t, heard: make(chan heard, 1024), gone: make(chan struct{}), reached: map[int64]int{}}
	for range n {
		c.members = append(c.members, &member{})
	}
	t.Cleanup(c.leave)
	return c
}

// connect connects all clients at once, each with the version that it has.
func (c *crowd) connect(s *server) {
	c.ended = 0
	for _, m := range c.members {
		request := "GET /doc HTTP/1.1\r\nHost: " + s.plain + "\r\nAccept: text/event-stream\r\n"
		if m.id != "" {
			request += "Last-Event-ID: " + m.id + "\r\n"
		}
		go func() {
			err := m.follow(s.plain, request+"\r\n", c)
			c.tell(heard{member: m, err: err})
		}()
	}
}

func (m *member) follow(address, request string, c *crowd) error {
	conn, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return err
	}
	defer conn.Close()
	m.conn = conn
	if _, err := io.WriteString(conn, request); err != nil {
		return err
	}
	resp, err := http.ReadResponse(bufio.NewReaderSize(conn, 1<<10), nil)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	stream := judge.NewReaderSize(resp.Body, 1<<10)
	for {
		e, err := stream.Next()
		if err != nil {
			return err
		}
		c.tell(heard{member: m, event: e})
	}
}

// tell hands something to the test, unless all clients have left.
func (c *crowd) tell(h heard) {
	select {
	case c.heard <- h:
	case <-c.gone:
	}
}

// leave closes every connection in one moment, without waiting for the server.
func (c *crowd) leave() {
	select {
	case <-c.gone:
		return
	default:
		close(c.gone)
	}
	for _, m := range c.members {
		if m.conn != nil {
			// A reset, so that no port is left waiting for a minute.
			_ = m.conn.(*net.TCPConn).SetLinger(0)
			_ = m.conn.Close()
		}
	}
}

// await judges what the clients receive until done reports true.
func (c *crowd) await(what string, done func() bool) {
	c.t.Helper()
	for deadline := time.After(patience); !done(); {
		select {
		case h := <-c.heard:
			if err := c.judge(h); err != nil {
				c.t.Fatal(err)
			}
		case <-deadline:
			c.t.Fatalf("%s: not within %s; reached: %v, ended: %d", what, patience, c.reached, c.ended)
		}
	}
}

// awaitStep waits until every client has reached a step.
func (c *crowd) awaitStep(step int64) {
	c.t.Helper()
	c.await(fmt.Sprintf("step %d", step), func() bool { return c.reached[step] == len(c.members) })
}

// judge compares what a member received with what it had.
func (c *crowd) judge(h heard) error {
	if errors.Is(h.err, io.EOF) && !errors.Is(h.err, io.ErrUnexpectedEOF) {
		c.ended++
		return nil
	}
	if h.err != nil {
		return h.err
	}
	step := int64(0)
	switch h.event.Name {
	case "snapshot":
		var doc struct{ Step int64 }
		if err := json.Unmarshal([]byte(h.event.Data), &doc); err != nil {
			return err
		}
		if step = doc.Step; step <= h.step {
			return fmt.Errorf("snapshot of step %d after step %d", step, h.step)
		}
		c.snapshots++
	case "patch":
		var patch []struct {
			Op, Path string
			Value    int64
		}
		if err := json.Unmarshal([]byte(h.event.Data), &patch); err != nil {
			return err
		}
		if len(patch) != 1 || patch[0].Op != "replace" || patch[0].Path != "/step" || patch[0].Value != h.step+1 {
			return fmt.Errorf("patch %s after step %d", h.event.Data, h.step)
		}
		step = patch[0].Value
	default:
		if h.event.Retry > 0 {
			c.connected++ // a stream begins with it, and may end with another
		}
		return nil
	}
	h.member.step, h.id = step, h.event.ID
	c.reached[step]++
	return nil
}

func (c *crowd) wantSnapshots(each int) {
	c.t.Helper()
	if want := each * len(c.members); c.snapshots != want {
		c.t.Errorf("%d clients got %d snapshots, want %d", len(c.members), c.snapshots, want)
	}
}

// awaitSubscribers waits until the server counts n subscribers, and its metrics
// say the same.
func awaitSubscribers(t *testing.T, s *server, n int) {
	t.Helper()
	for deadline := time.Now().Add(patience); s.subscribers() != n; {
		if time.Now().After(deadline) {
			t.Fatalf("%d subscribers after %s, want %d", s.subscribers(), patience, n)
		}
		<-time.After(20 * time.Millisecond)
	}
	sum := 0.0
	for _, metric := range regexp.MustCompile(`(?m)^caddy_poll_sse_subscribers\{.*\} (\S+)$`).FindAllStringSubmatch(s.adminGet("/metrics"), -1) {
		got, err := strconv.ParseFloat(metric[1], 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += got // streams, and requests that wait
	}
	if sum != float64(n) {
		t.Errorf("metric: %g subscribers, want %d", sum, n)
	}
}

// TestCrowdArrives connects all clients at once. The document comes while they
// connect. All of them get it, and every change.
func TestCrowdArrives(t *testing.T) {
	u := newSteps(t)
	answer, half := *u.handler.Load(), make(chan struct{})
	u.set(func(w http.ResponseWriter, r *http.Request) {
		<-half
		answer(w, r)
	})
	s := start(t, u.site())
	c := newCrowd(t, crowdSize())
	begun := time.Now()
	c.connect(s)
	c.await("half of the crowd", func() bool { return c.connected >= len(c.members)/2 })
	close(half)
	c.awaitStep(1)
	t.Logf("%d clients have the document after %s", len(c.members), time.Since(begun).Round(time.Millisecond))
	for range 5 {
		c.awaitStep(u.step.Add(1))
	}
	c.wantSnapshots(1)
	awaitSubscribers(t, s, len(c.members))
}

// TestCrowdLeaves disconnects all clients but one in one moment, three times.
// The one gets every change, and the others leave nothing behind.
func TestCrowdLeaves(t *testing.T) {
	u := newSteps(t)
	s := start(t, u.site())
	neighbour := newCrowd(t, 1)
	neighbour.connect(s)
	neighbour.awaitStep(1)
	before := s.residentBytes()
	var heap, resident []int64
	for range 3 {
		c := newCrowd(t, crowdSize())
		c.connect(s)
		c.awaitStep(u.step.Load())
		neighbour.awaitStep(u.step.Add(1))
		c.awaitStep(u.step.Load())
		u.step.Add(1) // while they leave
		c.leave()
		neighbour.awaitStep(u.step.Load())
		for range 3 {
			neighbour.awaitStep(u.step.Add(1))
		}
		awaitSubscribers(t, s, 1)
		heap = append(heap, s.heapBytes())
		// Memory that is no longer used goes back to the system little by
		// little; the race detector keeps what it has used.
		deadline := time.Now().Add(patience)
		for !raced && s.residentBytes() > before+32<<20 {
			if time.Now().After(deadline) {
				t.Fatalf("%d KiB are resident %s after the crowd has left, %d before any came", s.residentBytes()>>10, patience, before>>10)
			}
			<-time.After(100 * time.Millisecond)
			s.heapBytes()
		}
		resident = append(resident, s.residentBytes())
	}
	neighbour.wantSnapshots(1)
	t.Logf("after %d clients have left: heap %d, resident %d KiB, before %d KiB", crowdSize(), kib(heap), kib(resident), before>>10)
	if grown := heap[2] - heap[0]; grown > int64(crowdSize())<<10 {
		t.Errorf("the heap has grown by %d KiB in two rounds", grown>>10)
	}
}

func kib(all []int64) (out []int64) {
	for _, n := range all {
		out = append(out, n>>10)
	}
	return out
}

// heapBytes reads the size of the process's heap. It collects twice first, as
// pools keep what they have for two collections.
func (s *server) heapBytes() (n int64) {
	s.t.Helper()
	for range 3 {
		match := regexp.MustCompile(`# HeapAlloc = (\d+)`).FindStringSubmatch(s.adminGet("/debug/pprof/heap?gc=1&debug=1"))
		if match == nil {
			s.t.Fatal("the heap profile does not tell HeapAlloc")
		}
		n, _ = strconv.ParseInt(match[1], 10, 64)
	}
	return n
}

// TestCrowdReturns restarts the server while its clients are connected. They
// come back at once, first to the document that they have, then to another.
func TestCrowdReturns(t *testing.T) {
	u := newSteps(t)
	s := start(t, u.site())
	c := newCrowd(t, crowdSize())
	c.connect(s)
	c.awaitStep(1)
	c.awaitStep(u.step.Add(1))

	storm := func(meanwhile func()) {
		s.terminate()
		c.await("the end of every stream", func() bool { return c.ended == len(c.members) })
		meanwhile()
		s.again(u.site())
		begun := time.Now()
		c.connect(s)
		awaitSubscribers(t, s, len(c.members))
		client, base := s.client(http1)
		get200(t, client, base+"/doc", nil) // the server has a document
		t.Logf("%d clients are back after %s", len(c.members), time.Since(begun).Round(time.Millisecond))
	}
	storm(func() {})
	c.awaitStep(u.step.Add(1))
	c.wantSnapshots(1)
	storm(func() { u.step.Add(1) })
	c.awaitStep(u.step.Load())
	c.wantSnapshots(2)
}
