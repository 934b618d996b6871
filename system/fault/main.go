// Command fault runs Caddy with poll_sse between an upstream that fails in
// every way it knows and clients of every format, coding and version of HTTP,
// reloads, suspends, ends and kills it, and proves that nobody is ever shown a
// wrong document or an older one than before, and that nothing hangs.
//
//	go run ./system/fault --seed 1 --seconds 120
//
// It uses loopback addresses only. The exit status is 1 if anything was wrong.
package main

import (
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

func main() {
	seed := flag.Uint64("seed", uint64(time.Now().UnixNano()%1_000_000), "what the choices and documents are made from")
	seconds := flag.Int("seconds", 60, "how long to go on")
	race := flag.Bool("race", true, "build the server with the race detector")
	flag.Parse()
	ok, err := run(*seed, time.Duration(*seconds)*time.Second, *race)
	if err != nil {
		fmt.Fprintln(os.Stderr, "fault:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

// trial is one run: an upstream, a server, clients, and what is done to them.
type trial struct {
	*verdict
	rng      *rand.Rand
	upstream *upstream
	server   *server
	clients  []*client
	settings settings
	// kept says that a configuration of this process kept its streams across a
	// reload. They stay with their source if the document is changed, and that
	// source goes on by itself: a page that leaves it for the new one may then
	// see the last interval again.
	kept bool
}

// settings are those of the configuration. All but changes of the document are
// kept by the sources across a reload.
type settings struct {
	serial     int // makes each configuration another one
	interval   time.Duration
	history    int
	closeDelay string
	maxBody    int // KiB; decides the document
	bad        string
}

// places are where the site shows the documents.
var places = []struct {
	path, upstream string
	formats        []string
	options        string
}{
	{"", "/" + everybody, formats, ""},
	{"/own", "/own", formats, "forward X-User"},
	{"/" + selected, "/" + selected, []string{"merge"}, "select /result\n\t\tomit /noise"},
	{"/" + paged, "/" + paged, []string{"patch"}, "paginate /next {\n\t\t\tparam cursor\n\t\t\tlist /rows\n\t\t\tkey id\n\t\t}"},
	{"/" + appended, "/" + appended, []string{"patch"}, fmt.Sprintf("since after /step 0\n\t\tappend /events %d id", window)},
}

var formats = []string{"patch", "merge", "snapshot"}

// pathOf is where an owner's document is.
func pathOf(owner, format string) string {
	switch {
	case owner == everybody:
		return "/" + format
	case private(owner):
		return "/own/" + format
	default:
		return "/" + owner + "/" + format
	}
}

// caddyfile is the directives of the site.
func (t *trial) caddyfile() string {
	var b strings.Builder
	s := t.settings
	for _, p := range places {
		for _, format := range p.formats {
			fmt.Fprintf(&b, "\tpoll_sse %s/%s http://%s%s {\n\t\tformat %s\n\t\t%s\n\t\tinterval %s\n\t\thistory %d\n\t\ttimeout 700ms\n\t\tmax_interval 1s\n\t\tmax_load 100\n\t\tretry 200ms\n\t\theartbeat 1s\n\t\tlinger 2s\n\t\tmax_age 20s\n\t\tstream_close_delay %s\n\t\tmax_body %dKiB\n%s\t}\n",
				p.path, format, t.upstream.address, p.upstream, format, p.options, s.interval, s.history, s.closeDelay, s.maxBody, s.bad)
		}
	}
	b.WriteString("\t@write method POST\n\trespond @write 204\n")
	fmt.Fprintf(&b, "\theader Configuration %d\n", s.serial) // makes each another one, and tells which has answered
	return b.String()
}

// change makes other settings, which decide the document or do not.
func (t *trial) change(document bool) {
	s := &t.settings
	s.serial++
	s.interval = time.Duration(100+t.rng.IntN(60)) * time.Millisecond
	s.history = []int{0, 1, 5, 50, 256}[t.rng.IntN(5)]
	s.closeDelay = []string{"1ms", "300ms", "1s", "3s"}[t.rng.IntN(4)]
	if t.rng.IntN(12) == 0 {
		s.closeDelay = "-1s"
	}
	if document && !t.kept {
		s.maxBody = 1000 + t.rng.IntN(50)
	}
	t.kept = t.kept || s.closeDelay == "-1s"
}

func run(seed uint64, length time.Duration, race bool) (bool, error) {
	fmt.Printf("seed %d, %s\n", seed, length)
	dir, err := os.MkdirTemp("", "poll-sse-fault-")
	if err != nil {
		return false, err
	}
	defer os.RemoveAll(dir)
	v := newVerdict(os.Stdout)
	t := &trial{verdict: v, rng: rand.New(rand.NewPCG(seed, 0)), settings: settings{interval: 100 * time.Millisecond, history: 256, closeDelay: "1s", maxBody: 1000}}
	if t.upstream, err = startUpstream(newDocuments(seed), v, seed); err != nil {
		return false, err
	}
	defer t.upstream.down()
	t.server = &server{verdict: v, dir: dir, config: t.caddyfile}
	for _, address := range []*string{&t.server.admin, &t.server.plain, &t.server.tls} {
		if *address, err = freeAddress(); err != nil {
			return false, err
		}
	}
	if t.server.binary, err = build(dir, race); err != nil {
		return false, err
	}
	if err := t.server.start(); err != nil {
		return false, err
	}
	t.populate(seed)
	ctx, cancel := context.WithCancel(context.Background())
	var group sync.WaitGroup
	for _, c := range t.clients {
		group.Go(func() { c.run(ctx) })
	}
	group.Go(func() { t.watch(ctx) })
	t.begun = time.Now()
	err = t.disturb(length)
	if err == nil {
		t.settle()
	}
	cancel()
	group.Wait()
	if err == nil {
		t.server.end(syscall.SIGTERM)
	}
	v.report()
	return !v.failed(), err
}

// populate makes the clients: one of each format, coding and version of HTTP
// that is steady and one that returns, and some of the others.
func (t *trial) populate(seed uint64) {
	add := func(w wire, format string, zipped bool, behaviour, owner string) {
		t.clients = append(t.clients, &client{wire: w, format: format, gzip: zipped, behaviour: behaviour, owner: owner,
			server: t.server, upstream: t.upstream, verdict: t.verdict, rng: rand.New(rand.NewPCG(seed, uint64(100+len(t.clients))))})
	}
	n := 0
	for _, w := range wires {
		for _, format := range formats {
			for _, zipped := range []bool{false, true} {
				add(w, format, zipped, steady, everybody)
				add(w, format, zipped, returning, everybody)
			}
			n++
			add(w, format, n%2 == 0, steady, []string{alice, bob}[n%2])
		}
		add(w, "patch", false, slow, everybody)
		add(w, "snapshot", true, slow, everybody)
		add(w, "patch", n%2 == 0, asking, everybody)
		add(w, "merge", true, asking, bob)
		add(w, "merge", n%2 == 0, []string{steady, returning}[n%2], selected)
		add(w, "patch", n%2 == 0, []string{steady, returning}[n%2], paged)
		add(w, "patch", n%2 == 0, []string{returning, steady}[n%2], appended)
	}
	add(http2, "merge", true, asking, selected)
	add(http1, "patch", false, asking, paged)
	add(https1, "patch", true, asking, appended)
}

// watch looks for clients that wait for what does not come: an answer, or any
// byte of a stream whose heartbeat is one second.
func (t *trial) watch(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Second):
		}
		since, running := t.server.undisturbed()
		if !running {
			continue
		}
		t.atMost("most MiB of memory", t.server.residentMiB())
		for _, c := range t.clients {
			waits, from := c.silence()
			const giveUp = 3 * time.Second
			switch quiet := time.Since(from); {
			case from.Before(since):
				if from = since; waits != "" && c.wire == http3w && time.Since(since) > giveUp {
					// Nothing tells a client of HTTP/3 that the process at the
					// other end is another one.
					t.count("connections of HTTP/3 that were given up, as a new process knew nothing of them")
					c.drop()
					continue
				}
			case quiet > giveUp && c.wire == http3w && waits == "an answer" && t.server.reloading(from):
				// quic-go's server forgets a connection that it has accepted at
				// the moment in which a reload ends it, and nobody serves it or
				// tells the client: so does Caddy without this module.
				t.count("connections of HTTP/3 that were given up, as a reload had them forgotten")
				c.drop()
				continue
			}
			if waits != "" && time.Since(from) > patience {
				t.problem(hang, "%s waits for %s for %s", c, waits, time.Since(from).Round(time.Second))
				c.drop()
			}
		}
		select {
		case <-t.server.ended:
			if _, still := t.server.undisturbed(); still {
				t.problem(crash, "the process has ended by itself:\n%s", t.server.log.String())
				return
			}
		default:
		}
	}
}

// settle has the upstream stay where it is and be good, and waits until all
// clients have that.
func (t *trial) settle() {
	t.upstream.failing.Store(0)
	t.upstream.frozen.Store(true)
	defer t.upstream.frozen.Store(false)
	begun := time.Now()
	last := ""
	for {
		late := slices.IndexFunc(t.clients, func(c *client) bool { return !c.at(t.upstream.newest(c.owner)) })
		if late < 0 {
			t.say("all clients have the last step after %s; the last was a %s", time.Since(begun).Round(time.Millisecond), last)
			t.count("times that all clients had the last step")
			return
		}
		c := t.clients[late]
		last = c.String()
		if time.Since(begun) > patience {
			c.mu.Lock()
			defer c.mu.Unlock()
			t.problem(hang, "%s has step %d and the state %q after %s; the upstream is at step %d and good", c, c.last, c.state, patience, t.upstream.newest(c.owner))
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// disturb does one thing after another to the server and the upstream. It ends
// with the server running.
func (t *trial) disturb(length time.Duration) error {
	var deck []int // what is to come: all of them in some order, then again
	for time.Since(t.begun) < length {
		if len(deck) == 0 {
			deck = t.rng.Perm(len(disturbances))
		}
		t.upstream.failing.Store(int64([]int{0, 0, 10, 50, 95}[t.rng.IntN(5)]))
		time.Sleep(time.Duration(100+t.rng.IntN(1200)) * time.Millisecond)
		d := disturbances[deck[0]]
		deck = deck[1:]
		t.say("%s (%d %% of the polls fail; configuration %d: %+v)", d.name, t.upstream.failing.Load(), t.settings.serial, t.settings)
		t.count("disturbance: " + d.name)
		if err := d.do(t); err != nil {
			return err
		}
		if t.rng.IntN(3) == 0 {
			t.settle()
		}
	}
	return nil
}

// disturbances are what happens to a server in its life.
var disturbances = []struct {
	name string
	do   func(t *trial) error
}{
	{"nothing", func(*trial) error { return nil }},
	{"storm", func(t *trial) error {
		t.upstream.failing.Store(100)
		time.Sleep(time.Duration(1+t.rng.IntN(3)) * time.Second)
		return nil
	}},
	{"upstream down", func(t *trial) error {
		t.upstream.down()
		time.Sleep(time.Duration(200+t.rng.IntN(2000)) * time.Millisecond)
		return t.upstream.up()
	}},
	{"reload with the same settings", func(t *trial) error {
		t.settings.serial++
		return t.reload(http.StatusOK)
	}},
	{"reload with another schedule", func(t *trial) error {
		t.change(false)
		return t.reload(http.StatusOK)
	}},
	{"reloads with another document", func(t *trial) error {
		// The old source and the new one ask at the same time, and the answers
		// come in any order.
		t.upstream.slow.Store(true)
		defer t.upstream.slow.Store(false)
		for range 3 {
			time.Sleep(300 * time.Millisecond)
			t.change(true)
			if err := t.reload(http.StatusOK); err != nil {
				return err
			}
			time.Sleep(time.Second)
		}
		return nil
	}},
	{"reloads in a row", func(t *trial) error {
		for range 2 + t.rng.IntN(5) {
			t.change(t.rng.IntN(2) == 0)
			if err := t.reload(http.StatusOK); err != nil {
				return err
			}
			time.Sleep(time.Duration(t.rng.IntN(300)) * time.Millisecond)
		}
		return nil
	}},
	{"reload that is refused", func(t *trial) error {
		was, kept := t.settings, t.kept
		t.change(true)
		t.settings.bad = "\t\tformat xml\n"
		err := t.reload(http.StatusBadRequest)
		t.settings, t.kept = was, kept
		return err
	}},
	{"writes", func(t *trial) error {
		// Each makes its document polled at once.
		for range 20 {
			owner := []string{everybody, alice, selected, paged, appended}[t.rng.IntN(5)]
			format := "patch"
			if owner == selected {
				format = "merge"
			}
			if err := t.server.write(pathOf(owner, format), owner); err != nil {
				return err
			}
			time.Sleep(time.Duration(t.rng.IntN(60)) * time.Millisecond)
		}
		return nil
	}},
	{"SIGTERM", func(t *trial) error { return t.again(syscall.SIGTERM) }},
	{"SIGTERM during a reload", func(t *trial) error {
		t.change(t.rng.IntN(2) == 0)
		done := make(chan struct{})
		go func() {
			defer close(done)
			t.server.reload()
		}()
		time.Sleep(time.Duration(t.rng.IntN(60)) * time.Millisecond)
		t.server.end(syscall.SIGTERM)
		<-done
		return t.start()
	}},
	{"SIGKILL", func(t *trial) error { return t.again(syscall.SIGKILL) }},
	{"SIGSTOP", func(t *trial) error {
		t.server.suspend(time.Duration(500+t.rng.IntN(4000)) * time.Millisecond)
		return nil
	}},
}

func (t *trial) reload(want int) error {
	if got, answer := t.server.reload(); got != want {
		return fmt.Errorf("a reload is answered with %d, want %d: %s\nThe configuration:\n%s", got, want, answer, t.caddyfile())
	}
	return nil
}

// again ends the process and starts one with the same configuration.
func (t *trial) again(signal syscall.Signal) error {
	t.server.end(signal)
	return t.start()
}

// start runs a new process.
func (t *trial) start() error {
	t.kept = t.settings.closeDelay == "-1s"
	return t.server.start()
}
