package system_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// TestThousand keeps 1,000 subscribers on one document that changes with every
// poll, for 30 intervals.
func TestThousand(t *testing.T) {
	const (
		subscribers = 1000
		intervals   = 30
		interval    = 200 * time.Millisecond
	)
	k := &ticker{owner: "everybody"}
	small := func(step int64) []byte {
		return fmt.Appendf(nil, `{"step":%d,"filler":%q}`, step, strings.Repeat("x", 300))
	}
	u := newUpstream(t, func(w http.ResponseWriter, r *http.Request) { writeJSON(w, r, small(k.step.Add(1))) })
	s := start(t, site{noTLS: true, directives: "poll_sse " + u.url("/doc") + " {\n\tinterval 200ms\n}"})
	client, base := s.client(http1)
	all := make([]*follower, subscribers)
	for i := range all {
		last := int64(0)
		all[i] = newFollower(t, fmt.Sprintf("subscriber %d", i), client, base+"/doc")
		all[i].check = func(f *follower) error {
			var step int64
			_, err := fmt.Sscan(fmt.Sprint(f.page.Doc.(map[string]any)["step"]), &step)
			if err == nil && step <= last {
				err = fmt.Errorf("step %d after step %d", step, last)
			}
			last = step
			return err
		}
		all[i].run()
	}
	for _, f := range all {
		f.await("a document", func() bool { return f.page.Doc != nil })
	}
	// From one poll on, the next 30 intervals.
	from := len(u.pollTimes())
	for _, f := range []*follower{all[0], all[subscribers-1]} {
		f.await("30 intervals", func() bool { return len(u.pollTimes()) >= from+intervals+1 })
	}
	times := u.pollTimes()
	end, polls := times[from-1].Add(intervals*interval), 0
	for _, at := range times[from-1:] {
		if !at.After(end) {
			polls++
		}
	}
	t.Logf("%d subscribers: %d polls in %d intervals", subscribers, polls, intervals)
	if polls > intervals+1 {
		t.Errorf("upstream was polled %d times in %d intervals, want at most %d", polls, intervals, intervals+1)
	}
	u.set(func(w http.ResponseWriter, r *http.Request) { writeJSON(w, r, small(k.step.Load())) })
	events := 0
	for _, f := range all {
		f.await("the last step", k.at(f, k.step.Load()))
		events += f.patches + f.snapshots
	}
	for _, f := range all {
		f.close()
		if f.err != nil || len(f.broken) > 0 || f.connections != 1 {
			t.Errorf("%s: %v, %d connections, broken %q", f.name, f.err, f.connections, f.broken)
		}
	}
	t.Logf("%d events reached the subscribers", events)
}

// TestDeadReaders mixes clients that read their streams with clients that open
// streams and never read them.
func TestDeadReaders(t *testing.T) {
	t.Parallel()
	k := &ticker{owner: "everybody"}
	big := strings.Repeat("0123456789abcdef", 16<<10) // 256 KiB
	text := func(step int64) []byte { return fmt.Appendf(nil, `{"step":%d,"filler":"%d%s"}`, step, step, big) }
	u := newUpstream(t, func(w http.ResponseWriter, r *http.Request) { writeJSON(w, r, text(k.step.Add(1))) })
	s := start(t, site{directives: formats(u.url("/doc"), "interval 100ms")})

	for range 6 {
		c, err := net.Dial("tcp", s.plain)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		_ = c.(*net.TCPConn).SetReadBuffer(4 << 10)
		if _, err := c.Write([]byte("GET /snapshot HTTP/1.1\r\nHost: " + s.plain + "\r\nAccept: text/event-stream\r\n\r\n")); err != nil {
			t.Fatal(err)
		}
	}
	var overQUIC []io.Closer
	for _, w := range []wire{http2, http2, http3w, http3w} {
		client, base := s.client(w)
		req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, base+"/snapshot", nil)
		req.Header.Set("Accept", "text/event-stream")
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = resp.Body.Close() })
		if w == http3w {
			overQUIC = append(overQUIC, resp.Body)
		}
	}
	var healthy []*follower
	for _, w := range wires {
		client, base := s.client(w)
		f := newFollower(t, "healthy "+string(w), client, base+"/snapshot")
		f.raw = true
		healthy = append(healthy, f.run())
	}
	reach := func(step int64) {
		for _, f := range healthy {
			f.await("a step", func() bool {
				raw := fmt.Sprint(string(asRaw(f.page.Doc)))
				var at int64
				_, _ = fmt.Sscanf(raw, `{"step":%d,`, &at)
				return at >= step
			})
		}
	}
	reach(20)
	before := s.residentBytes()
	reach(80)
	after := s.residentBytes()
	times := u.pollTimes()
	t.Logf("10 dead readers: %d MiB resident after 20 steps, %d MiB after 80; 60 polls in %s", before>>20, after>>20, times[79].Sub(times[19]).Round(time.Millisecond))
	// 60 documents held for each would be 150 MiB.
	if after-before > 100<<20 {
		t.Errorf("memory grew by %d MiB in 60 steps of 256 KiB with 10 dead readers", (after-before)>>20)
	}
	for _, f := range healthy {
		if c, _, broken := f.counted(); c != 1 || broken > 0 {
			t.Errorf("%s: %d connections, broken %q", f.name, c, f.broken)
		}
		f.lastStream()
	}
	// A client that keeps an HTTP/3 connection open holds up the exit of any
	// Caddy without a grace_period, whatever its handlers do.
	for _, body := range overQUIC {
		_ = body.Close()
	}
	took := s.terminate()
	t.Logf("the process ended in %s with 8 dead readers", took)
	if took > exitWithin {
		t.Errorf("the process ended in %s with dead readers, want %s", took, exitWithin)
	}
	for _, f := range healthy {
		within(t, "end of "+f.name, f.ended)
	}
	wantClean(t, healthy)
}

// TestExitCold ends the process while requests wait for an upstream that does
// not answer.
func TestExitCold(t *testing.T) {
	t.Parallel()
	asked := make(chan struct{}, 16)
	u := newUpstream(t, func(_ http.ResponseWriter, r *http.Request) {
		asked <- struct{}{}
		<-r.Context().Done()
	})
	s := start(t, site{directives: "respond /ready ready\npoll_sse /public " + u.url("/public") + " {\n\ttimeout 1m\n}\n" +
		"poll_sse /own " + u.url("/own") + " {\n\ttimeout 1m\n\tforward Authorization\n}\n"})
	done := make(chan error, 16)
	n := 0
	for _, w := range wires {
		client, base := s.client(w)
		// A connection that Go's HTTP/2 server accepts while it shuts down
		// misses the GOAWAY and stays, so each client connects before.
		get200(t, client, base+"/ready", nil)
		for _, path := range []string{"/public", "/own"} {
			for _, accept := range []string{"text/event-stream", "application/json"} {
				if path == "/public" && accept == "text/event-stream" {
					continue // answered at once
				}
				n++
				go func() {
					req, _ := http.NewRequest(http.MethodGet, base+path, nil)
					req.Header.Set("Accept", accept)
					req.Header.Set("Authorization", "Bearer "+string(w))
					resp, err := client.Do(req)
					if err == nil {
						_ = resp.Body.Close()
					}
					done <- err
				}()
			}
		}
	}
	// One poll for the public document and one for each user.
	for range 4 {
		select {
		case <-asked:
		case <-time.After(patience):
			t.Fatal("the upstream is not asked")
		}
	}
	for deadline := time.Now().Add(patience); s.subscribers() < n; {
		if time.Now().After(deadline) {
			t.Fatalf("%d of %d requests wait for a document", s.subscribers(), n)
		}
		<-time.After(20 * time.Millisecond)
	}
	took := s.terminate()
	t.Logf("the process ended in %s with %d requests waiting", took, n)
	if took > exitWithin {
		t.Errorf("the process ended in %s with requests waiting for a first document, want %s", took, exitWithin)
	}
	for range n {
		<-done
	}
}
