package system_test

import (
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// exitWithin is the bound on an exit in these tests. The promise is one
// second; the rest is for a busy machine. What was measured is logged.
const exitWithin = 5 * time.Second

// trio is a client of each format over one version of HTTP.
func trio(t testing.TB, s *server, k *ticker, w wire) []*follower {
	t.Helper()
	var all []*follower
	for _, format := range []string{"patch", "merge", "snapshot"} {
		client, base := s.client(w)
		all = append(all, k.follow(newFollower(t, string(w)+" "+format, client, base+"/"+format)).run())
	}
	for _, f := range all {
		f.await("a document", func() bool { return f.page.Doc != nil && f.status.State == "live" })
	}
	return all
}

// onEveryWire is a trio over each version of HTTP.
func onEveryWire(t testing.TB, s *server, k *ticker) []*follower {
	t.Helper()
	var all []*follower
	for _, w := range wires {
		all = append(all, trio(t, s, k, w)...)
	}
	return all
}

func (f *follower) counted() (connections, clean, broken int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.connections, f.clean, len(f.broken)
}

// settle stops the upstream at its present step and waits until every client
// has that.
func settle(u *upstream, k *ticker, all []*follower) {
	u.t.Helper()
	u.set(k.serve(false))
	for _, f := range all {
		f.await("the last step", func() bool { return k.at(f, k.step.Load())() })
	}
}

// wantClean fails unless every stream that has ended did so in order: with the
// last chunk, END_STREAM or FIN.
func wantClean(t testing.TB, all []*follower) {
	t.Helper()
	for _, f := range all {
		f.mu.Lock()
		if f.err != nil || len(f.broken) > 0 {
			t.Errorf("%s: streams did not all end cleanly: %v, broken %q", f.name, f.err, f.broken)
		}
		f.mu.Unlock()
	}
}

const lifeOptions = "interval 200ms\nretry 100ms\nlinger 10s\nstream_close_delay "

// TestReload reloads with clients of every format and version of HTTP
// connected, while the document changes with every poll.
func TestReload(t *testing.T) {
	t.Parallel()
	k := &ticker{owner: "everybody"}
	u := newUpstream(t, k.serve(true))
	config := func(options string, n int) site {
		return site{directives: formats(u.url("/doc"), options) + fmt.Sprintf("respond /config %d\n", n)}
	}
	s := start(t, config(lifeOptions+"300ms", 0))
	all := onEveryWire(t, s, k)

	t.Run("same settings", func(t *testing.T) {
		polls, begun := len(u.pollTimes()), time.Now()
		for n := 1; n <= 3; n++ {
			before := make([]int, len(all))
			for i, f := range all {
				before[i], _, _ = f.counted()
			}
			s.mustReload(config(lifeOptions+"300ms", n))
			for i, f := range all {
				f.await("a return after the reload", func() bool {
					return f.connections > before[i] && f.returned[len(f.returned)-1] != ""
				})
			}
		}
		// One poll each interval, and one for each end of the time measured.
		if got, most := len(u.pollTimes())-polls, int(time.Since(begun)/(200*time.Millisecond))+2; got > most {
			t.Errorf("upstream was polled %d times in %s, want at most %d", got, time.Since(begun), most)
		}
		wantClean(t, all)
		for _, f := range all {
			f.mu.Lock()
			for _, first := range f.returned {
				if first != "" && !strings.HasSuffix(f.name, first) {
					t.Errorf("%s: got a %s on return; all returns: %q", f.name, first, f.returned)
					break
				}
			}
			f.mu.Unlock()
		}
	})

	t.Run("rejected", func(t *testing.T) {
		before := make([]int, len(all))
		for i, f := range all {
			before[i], _, _ = f.counted()
		}
		was := s.adminGet("/config/")
		for _, bad := range []string{"interval 1ms", "interval 200ms\nformat xml", "interval 200ms\ntransport fastcgi"} {
			if status := s.reload(config(bad, 9)); status != http.StatusBadRequest {
				t.Errorf("reload with %q: got status %d, want 400", bad, status)
			}
		}
		if now := s.adminGet("/config/"); now != was {
			t.Errorf("configuration changed by a rejected reload:\n%s\nwas\n%s", now, was)
		}
		step := k.step.Load() + 3
		for i, f := range all {
			f.await("three more steps", func() bool { return k.step.Load() > step && k.at(f, k.step.Load())() })
			if now, _, _ := f.counted(); now != before[i] {
				t.Errorf("%s: %d connections after rejected reloads, %d before", f.name, now, before[i])
			}
		}
	})

	// Each follower fails if it ever goes back a step.
	changed := func(t *testing.T, n int, options string) {
		before := make([]int, len(all))
		for i, f := range all {
			before[i], _, _ = f.counted()
		}
		s.mustReload(config(options, n))
		for i, f := range all {
			f.await("a return after the reload", func() bool { return f.connections > before[i] && f.returned[len(f.returned)-1] != "" })
		}
		wantClean(t, all)
	}
	t.Run("changed schedule", func(t *testing.T) {
		for n := 10; n < 15; n++ {
			polls, begun := len(u.pollTimes()), time.Now()
			changed(t, n, strings.Replace(lifeOptions, "200ms", fmt.Sprint(140+n, "ms"), 1)+fmt.Sprintf("300ms\nhistory %d\ntimeout %ds", 100+n, n))
			if got, most := len(u.pollTimes())-polls, int(time.Since(begun)/(140*time.Millisecond))+3; got > most {
				t.Errorf("upstream was polled %d times in %s, want at most %d", got, time.Since(begun), most)
			}
			if list := s.adminGet("/poll_sse/sources"); strings.Count(list, `"state"`) != 1 {
				t.Errorf("want one source, got %s", list)
			}
		}
	})
	t.Run("changed document", func(t *testing.T) {
		for n := 15; n < 20; n++ {
			changed(t, n, lifeOptions+fmt.Sprintf("300ms\nmax_body %dMiB", n))
		}
		settle(u, k, all)
		if list := s.adminGet("/poll_sse/sources"); strings.Count(list, `"state"`) != 1 {
			t.Errorf("want one source, got %s", list)
		}
	})

	for _, f := range all {
		f.close()
	}
}

// TestReloadAlone reloads with a single client. While it is away nobody reads
// the source, and what it missed must be there all the same.
func TestReloadAlone(t *testing.T) {
	t.Parallel()
	for _, format := range []string{"patch", "merge"} {
		t.Run(format, func(t *testing.T) {
			t.Parallel()
			k := &ticker{owner: "everybody"}
			u := newUpstream(t, k.serve(true))
			config := func(n int) site {
				return site{noTLS: true, directives: formats(u.url("/doc"), "interval 100ms\nstream_close_delay 100ms") + fmt.Sprintf("respond /config %d\n", n)}
			}
			s := start(t, config(0))
			client, base := s.client(http1)
			f := k.follow(newFollower(t, format, client, base+"/"+format)).run()
			f.await("changes", func() bool { return f.patches+f.merges > 2 })
			for n := 1; n <= 3; n++ {
				s.mustReload(config(n))
				f.await("a return after the reload", func() bool { return f.connections > n && f.returned[n-1] != "" })
			}
			f.close()
			wantClean(t, []*follower{f})
			if f.snapshots != 1 {
				t.Errorf("got %d snapshots, want the first alone; returns: %q", f.snapshots, f.returned)
			}
		})
	}
}

// TestExit ends the process while clients of every format and version of HTTP
// are connected.
func TestExit(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		delay string // stream_close_delay
		end   func(t *testing.T, s *server, next site) time.Duration
	}{
		{"SIGTERM", "5m", func(_ *testing.T, s *server, _ site) time.Duration { return s.terminate() }},
		{"caddy stop", "5m", func(_ *testing.T, s *server, _ site) time.Duration { return s.stop() }},
		{"reload then SIGTERM", "5m", func(_ *testing.T, s *server, next site) time.Duration {
			s.mustReload(next)
			return s.terminate()
		}},
		{"reload that keeps streams then caddy stop", "-1s", func(_ *testing.T, s *server, next site) time.Duration {
			s.mustReload(next)
			return s.stop()
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			k := &ticker{owner: "everybody"}
			u := newUpstream(t, k.serve(true))
			config := site{directives: formats(u.url("/doc"), lifeOptions+c.delay)}
			s := start(t, config)
			all := onEveryWire(t, s, k)
			for _, f := range all {
				f.await("patches", func() bool { return f.patches+f.merges+f.snapshots > 2 })
			}
			settle(u, k, all)
			for _, f := range all {
				f.lastStream()
			}
			config.directives += "respond /other 1\n"
			took := c.end(t, s, config)
			t.Logf("the process ended in %s", took)
			if took > exitWithin {
				t.Errorf("the process ended in %s, want %s", took, exitWithin)
			}
			for _, f := range all {
				within(t, "end of the stream of "+f.name, f.ended)
				if !k.at(f, k.step.Load())() {
					t.Errorf("%s: ended without the last document: %v", f.name, f.page.Doc)
				}
				if f.clean != 1 {
					t.Errorf("%s: %d streams ended cleanly, want 1", f.name, f.clean)
				}
			}
			wantClean(t, all)
		})
	}
}

// TestNoLeak compares the goroutines of the process before and after many
// clients and reloads.
func TestNoLeak(t *testing.T) {
	t.Parallel()
	k := &ticker{owner: "everybody"}
	u := newUpstream(t, k.serve(true))
	config := func(n int) site {
		return site{directives: formats(u.url("/doc"), "interval 100ms\nretry 100ms\nlinger 100ms\nstream_close_delay 100ms") + fmt.Sprintf("respond /config %d\n", n)}
	}
	s := start(t, config(0))
	round := func(n int) {
		all := onEveryWire(t, s, k)
		s.mustReload(config(n))
		for _, f := range all {
			f.await("a return", func() bool { return f.connections > 1 && f.returned[0] != "" })
		}
		for _, f := range all {
			f.close()
			f.client.CloseIdleConnections()
			if c, ok := f.client.Transport.(interface{ Close() error }); ok {
				_ = c.Close()
			}
		}
	}
	round(1) // what Caddy itself starts once
	count := func(most int) (int, string) {
		deadline := time.Now().Add(15 * time.Second)
		for {
			n, stacks := s.goroutines()
			if n <= most || time.Now().After(deadline) {
				return n, stacks
			}
			<-time.After(50 * time.Millisecond)
		}
	}
	// The module's own goroutines must all go, except for a few: the writers of
	// direct streams, which start with the first stream and wait for the next
	// until the exit, the one that ends writes at the exit, and the queue of
	// events, of which each configuration has one. The process's main goroutine
	// begins in this test's binary.
	stays := regexp.MustCompile(`caddy-poll-sse(/internal/delivery\.\(\*(writer\)\.(run|watch)|writeTimers\)\.expireAtExit)|\.\(\*eventQueue\)\.start|/system_test\.)`)
	gone := func() {
		deadline := time.Now().Add(patience)
		for {
			_, stacks := s.goroutines()
			left := slices.DeleteFunc(strings.Split(stacks, "\n\n"), func(g string) bool {
				return !strings.Contains(g, "pollsse/caddy-poll-sse") || stays.MatchString(g)
			})
			if len(left) == 0 {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("goroutines of the module are left without clients:\n%s", strings.Join(left, "\n\n"))
			}
			<-time.After(50 * time.Millisecond)
		}
	}
	gone()
	before, _ := s.goroutines()
	for n := 2; n <= 6; n++ {
		round(n)
	}
	gone()
	after, stacks := count(before + 5)
	t.Logf("%d goroutines before, %d after", before, after)
	if after > before+5 {
		t.Errorf("%d goroutines after 5 rounds, %d before:\n%s", after, before, stacks)
	}
}
