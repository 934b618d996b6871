package system_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
)

// TestEvents: Caddy's events app gets an event when an upstream goes down, and
// the events app of the next configuration gets one when it is back. The log
// says what the module does, with the name in every line.
func TestEvents(t *testing.T) {
	t.Parallel()
	var broken atomic.Bool
	u := newUpstream(t, func(w http.ResponseWriter, r *http.Request) {
		if broken.Load() {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		fmt.Fprint(w, `{"n":1}`)
	})
	c := site{noTLS: true, directives: "poll_sse /doc " + u.url("/doc?key=s3cret") + " {\n\tname quotes\n\tinterval 100ms\n\tmax_interval 500ms\n\talways_on\n\tmax_subscribers 2000000000\n}"}
	s := start(t, c)
	s.awaitLog(`"msg":"polling for those who read","names":1,"always_on":1,"max_subscribers":2000000000`)
	s.awaitLog("LimitNOFILE")
	broken.Store(true)
	s.awaitLog(`"name":"poll_sse.down"`)
	c.directives += "\nrespond /new 204"
	s.mustReload(c)
	broken.Store(false)
	s.awaitLog(`"name":"poll_sse.up"`)
	for line := range strings.Lines(s.log.String()) {
		if strings.Contains(line, "upstream does not") || strings.Contains(line, "upstream is back") {
			if !strings.Contains(line, `"poll_sse":"quotes"`) {
				t.Errorf("no name in %s", line)
			}
		}
		// Caddy writes the whole configuration at level debug.
		if strings.Contains(line, "s3cret") && !strings.Contains(line, "adjusted config") {
			t.Errorf("a secret in %s", line)
		}
	}
}

// TestDrain drains the streams of a running server over every version of HTTP.
// They come back at once.
func TestDrain(t *testing.T) {
	t.Parallel()
	k := &ticker{owner: "everybody"}
	u := newUpstream(t, k.serve(false))
	s := start(t, site{directives: "poll_sse /doc " + u.url("/doc") + " {\n\tname doc\n\tinterval 100ms\n}\npoll_sse_ready /ready"})
	var all []*follower
	for _, w := range wires {
		client, base := s.client(w)
		f := k.follow(newFollower(t, string(w), client, base+"/doc"))
		f.run()
		all = append(all, f)
	}
	for _, f := range all {
		f.await("a document", func() bool { return f.page.Doc != nil })
	}
	if got := call(t, "POST", "http://"+s.admin+"/poll_sse/drain?over=2s", ""); !strings.Contains(got, `"handlers":2`) {
		t.Errorf("drain: %s", got)
	}
	if resp, err := http.Get("http://" + s.plain + "/ready"); err != nil || resp.StatusCode != http.StatusServiceUnavailable {
		t.Errorf("ready while it drains: %v %v", resp, err)
	}
	for _, f := range all {
		f.await("a second stream", func() bool { return f.connections >= 2 })
	}
	step := k.step.Add(1)
	for _, f := range all {
		f.await("a step after it", k.at(f, step))
		if f.close(); f.err != nil || len(f.broken) > 0 {
			t.Errorf("%s: %v, broken %q", f.name, f.err, f.broken)
		}
	}
}
