package pollsse

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
	"unsafe"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// directRig is a source without a poller, and writers of its own.
type directRig struct {
	t      *testing.T
	source *source
	terms  *terms
	ws     *writers
	exit   chan struct{}
	reload chan struct{}
	n      int // versions published
	listen net.Listener
	secure *tls.Config // nil: connections are plain
	dialer net.Dialer
}

func newDirectRig(t *testing.T) *directRig {
	exit, reload := make(chan struct{}), make(chan struct{})
	p := &pool{sources: make(map[[32]byte]*source), endpoints: make(map[string]*endpoint)}
	rig := &directRig{t: t, exit: exit, reload: reload, ws: &writers{exit: exit}}
	rig.source = &source{log: newLog(64, time.Now()), endpoint: &endpoint{clients: map[string]int{}}}
	p.endpoints[""] = rig.source.endpoint
	rig.terms = &terms{key: testKey, retry: time.Second, age: time.Hour, pool: p, logger: nopLogger,
		drain: &drain{reload: reload, exit: exit, spread: time.Nanosecond}}
	var err error
	if rig.listen, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	rig.publish(0)
	t.Cleanup(func() {
		rig.stop()
		rig.listen.Close()
		if n := len(rig.source.log.renditions); n != 0 {
			t.Errorf("%d renditions are left", n)
		}
		if rig.source.subscribers != 0 {
			t.Errorf("%d subscribers are left", rig.source.subscribers)
		}
	})
	return rig
}

func (rig *directRig) stop() {
	if !isClosed(rig.exit) {
		close(rig.exit)
	}
	rig.ws.wait()
}

// publish publishes the next version, with some padding as part of the patch.
func (rig *directRig) publish(pad int) {
	p := testPublication(rig.n)
	if rig.n > 0 {
		p.change.patch = fmt.Appendf(nil, `[{"op":"replace","path":"/n","value":%d},{"op":"test","path":"/pad","value":"%s"}]`, rig.n, strings.Repeat("y", pad))
		p.doc.text = append(bytes.TrimSuffix(p.doc.text, []byte("}")), fmt.Appendf(nil, `,"more":"%s"}`, strings.Repeat("z", pad+200))...)
	}
	rig.n++
	rig.source.log.publish(p)
}

// eachWay runs a test on plain connections and on TLS.
func eachWay(t *testing.T, test func(*testing.T, *directRig)) {
	t.Run("plain", func(t *testing.T) { test(t, newDirectRig(t)) })
	t.Run("TLS", func(t *testing.T) {
		rig := newDirectRig(t)
		server := httptest.NewTLSServer(nil) // has a certificate
		t.Cleanup(server.Close)
		rig.secure = server.TLS
		test(t, rig)
	})
}

// directClient is a client's end of a connection.
type directClient struct {
	net.Conn
	tcp *net.TCPConn
}

// connect opens a stream and returns the client's end.
func (rig *directRig) connect() directClient {
	c, err := rig.dialer.Dial("tcp", rig.listen.Addr().String())
	if err != nil {
		rig.t.Fatal(err)
	}
	end := directClient{c, c.(*net.TCPConn)}
	served, err := rig.listen.Accept()
	if err != nil {
		rig.t.Fatal(err)
	}
	if rig.secure != nil {
		conn, secure := tls.Client(c, &tls.Config{InsecureSkipVerify: true}), tls.Server(served, rig.secure)
		shaken := make(chan error)
		go func() { shaken <- conn.Handshake() }()
		if err := errors.Join(secure.Handshake(), <-shaken); err != nil {
			rig.t.Fatal(err)
		}
		end.Conn, served = conn, secure
	}
	if secure, ok := served.(*tls.Conn); ok && !canMeasure(secure) {
		rig.t.Fatal("the socket cannot be measured")
	}
	sock, err := newSocket(served)
	if err != nil {
		rig.t.Fatal(err)
	}
	rig.terms.pool.mu.Lock()
	rig.source.subscribers++
	rig.source.endpoint.subscribers++
	rig.terms.pool.mu.Unlock()
	if !rig.ws.adopt(newDirect(sock, rig.source.log.join(rig.terms.key), rig.source, rig.terms, cursor{}, netip.AddrPort{}, false)) {
		rig.t.Fatal("not adopted")
	}
	rig.t.Cleanup(func() { c.Close() })
	return end
}

func (rig *directRig) subscribers() int {
	rig.terms.pool.mu.Lock()
	defer rig.terms.pool.mu.Unlock()
	return rig.source.subscribers
}

func (rig *directRig) awaitSubscribers(want int) {
	rig.t.Helper()
	for end := time.Now().Add(10 * time.Second); rig.subscribers() != want; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			rig.t.Fatalf("%d subscribers, want %d", rig.subscribers(), want)
		}
	}
}

// follow reads a stream until version last, and tells how many patches it saw.
// It fails where a version is lost, repeated or out of order.
func (rig *directRig) follow(c net.Conn, last int) (patches int) {
	rig.t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	at := -1
	for lines := bufio.NewReaderSize(httputil.NewChunkedReader(c), 1<<10); at < last; {
		line, err := lines.ReadString('\n')
		if err != nil {
			rig.t.Fatalf("after version %d: %v", at, err)
		}
		var n int
		if _, err := fmt.Sscanf(line, `data: {"n":%d`, &n); err == nil {
			if n < at {
				rig.t.Fatalf("snapshot of %d after %d", n, at)
			}
			at = n
		}
		for part := range strings.SplitSeq(line, `"path":"/n","value":`) {
			if strings.HasPrefix(part, "data:") {
				continue
			}
			if _, err := fmt.Sscanf(part, "%d", &n); err == nil {
				if n != at+1 {
					rig.t.Fatalf("patch to %d after %d", n, at)
				}
				at = n
				patches++
			}
		}
	}
	return patches
}

func TestDirectStreamsGetEveryChange(t *testing.T) {
	eachWay(t, func(t *testing.T, rig *directRig) {
		const clients, versions = 300, 20
		done := make(chan int)
		for range clients {
			c := rig.connect()
			go func() { done <- rig.follow(c, versions) }()
		}
		for range versions {
			rig.publish(100)
			time.Sleep(2 * time.Millisecond)
		}
		for range clients {
			<-done
		}
	})
}

func TestDirectStreamEndsCleanlyAtExit(t *testing.T) {
	eachWay(t, func(t *testing.T, rig *directRig) {
		c := rig.connect()
		rig.follow(c, 0)
		var rest []byte
		read := make(chan error)
		go func() {
			var err error
			rest, err = io.ReadAll(c)
			read <- err
		}()
		rig.connect() // never reads
		for range 40 {
			rig.publish(1 << 20)
		}
		begun := time.Now()
		close(rig.exit)
		rig.ws.wait()
		if d := time.Since(begun); d > writeTimeout/2 {
			t.Errorf("the exit took %v: it waited for the client that never reads", d)
		}
		if err := <-read; err != nil || !bytes.HasSuffix(rest, []byte("\n\n\r\n"+lastChunk)) {
			t.Errorf("err %v, the stream ended with %q", err, rest[max(0, len(rest)-60):])
		}
	})
}

func TestDirectStreamEndsAfterReloadAndAge(t *testing.T) {
	for _, why := range []string{endedReload, endedAge} {
		rig := newDirectRig(t)
		if why == endedAge {
			rig.terms.age = time.Second
		}
		c := rig.connect()
		if why == endedReload {
			close(rig.reload)
		}
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		all, err := io.ReadAll(httputil.NewChunkedReader(c))
		if err != nil || strings.Count(string(all), "retry: ") != 2 {
			t.Errorf("%s: err %v, got %q", why, err, all)
		}
		rig.awaitSubscribers(0)
		if n := len(rig.source.endpoint.returning); n != 1 {
			t.Errorf("%s: %d places are kept, want 1", why, n)
		}
	}
}

func TestDirectClientThatLeavesIsNoticed(t *testing.T) {
	eachWay(t, func(t *testing.T, rig *directRig) {
		var clients []directClient
		for range 200 {
			clients = append(clients, rig.connect())
		}
		for i, c := range clients {
			if i%2 == 0 {
				_ = c.tcp.SetLinger(0) // a reset
			}
			c.Close()
		}
		rig.awaitSubscribers(0)
	})
}

// A client that does not read must cost its neighbours nothing, and when it
// reads again it must find a document that fits.
func TestDirectSlowClientIsMovedForward(t *testing.T) {
	eachWay(t, func(t *testing.T, rig *directRig) {
		slow, quick := rig.connect(), rig.connect()
		const versions = 200
		done := make(chan int)
		go func() { done <- rig.follow(quick, versions) }()
		for range versions {
			rig.publish(64 << 10)
			time.Sleep(time.Millisecond)
		}
		if n := <-done; n < versions/2 {
			t.Errorf("the quick client got only %d patches", n)
		}
		begun := time.Now()
		n := rig.follow(slow, versions)
		t.Logf("the slow client got %d patches, in %v", n, time.Since(begun))
		if n == versions {
			t.Error("the slow client was never moved forward: the test shows nothing")
		}
	})
}

func TestDirectStuckClientIsGivenUp(t *testing.T) {
	eachWay(t, func(t *testing.T, rig *directRig) {
		rig.ws.patience = 500 * time.Millisecond
		rig.connect() // never reads
		trickle, quick := rig.connect(), rig.connect()
		go func() {
			for one := make([]byte, 1); ; time.Sleep(20 * time.Millisecond) {
				if _, err := trickle.Read(one); err != nil {
					return
				}
			}
		}()
		go func() { _, _ = io.Copy(io.Discard, quick) }()
		for range 40 {
			rig.publish(1 << 20)
		}
		rig.awaitSubscribers(1)
	})
}

// A client with a tiny window, which it never opens, makes each segment cost far
// more memory than it has bytes. A write that blocked on it would stop everybody
// and end the stream.
func TestDirectTinyWindowStopsNobody(t *testing.T) {
	eachWay(t, func(t *testing.T, rig *directRig) {
		rig.dialer.Control = func(_, _ string, raw syscall.RawConn) error {
			return raw.Control(func(fd uintptr) {
				_ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, 1)
				_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_MAXSEG, 88)
			})
		}
		for range 4 {
			rig.connect() // never reads
		}
		rig.dialer.Control = nil
		quick := rig.connect()
		const versions = 40
		done := make(chan int)
		go func() { done <- rig.follow(quick, versions) }()
		for range versions {
			rig.publish(64 << 10)
			time.Sleep(2 * time.Millisecond)
		}
		<-done
		if n := rig.subscribers(); n != 5 {
			t.Errorf("%d streams are left of 5", n)
		}
	})
}

func TestDirectClientMaySendBytes(t *testing.T) {
	eachWay(t, func(t *testing.T, rig *directRig) {
		c := rig.connect()
		if _, err := c.Write(bytes.Repeat([]byte("GET / HTTP/1.1\r\n\r\n"), 5000)); err != nil {
			t.Fatal(err)
		}
		rig.publish(10)
		rig.follow(c, 1)
		rig.stop()
		if _, err := io.ReadAll(c); err != nil {
			t.Errorf("the end was lost: %v", err)
		}
	})
}

// A descriptor number comes back at once for the next connection. What was
// meant for the earlier client must not reach the later.
func TestDirectDescriptorsAreReusedSafely(t *testing.T) {
	rigs := []*directRig{newDirectRig(t), newDirectRig(t)}
	rigs[1].ws, rigs[1].exit = rigs[0].ws, rigs[0].exit // the same writers, another source
	rigs[1].source.log.publish(publication{state: stateLive, at: time.Now(),
		doc: &document{id: "other", text: []byte(`{"other":true}`)}, change: change{id: "other"}})
	stop := make(chan struct{})
	published := make(chan struct{})
	go func() {
		defer close(published)
		for !isClosed(stop) {
			rigs[0].publish(100)
			time.Sleep(time.Millisecond)
		}
	}()
	for i := range 300 {
		a := rigs[0].connect()
		b := rigs[1].connect()
		if i%3 == 0 {
			_ = a.tcp.SetLinger(0)
		}
		a.Close()
		var got []byte
		_ = b.SetReadDeadline(time.Now().Add(20 * time.Second))
		for piece := make([]byte, 4<<10); !bytes.Contains(got, []byte(`"other"`)); {
			n, err := b.Read(piece)
			if got = append(got, piece[:n]...); err != nil {
				t.Fatalf("%v; the other source's client got %q", err, got)
			}
		}
		// Something may be on its way still.
		_ = b.SetReadDeadline(time.Now().Add(5 * time.Millisecond))
		rest, _ := io.ReadAll(b)
		if got = append(got, rest...); bytes.Contains(got, []byte(`"n"`)) {
			t.Fatalf("the other source's client got %q", got)
		}
		b.Close()
	}
	close(stop)
	<-published
	rigs[0].awaitSubscribers(0)
	rigs[0].stop()
}

func TestDirectStaleEventIsIgnored(t *testing.T) {
	w, err := newWriter(writeTimeout)
	if err != nil {
		t.Fatal(err)
	}
	defer w.epoll.Close()
	w.slots = []slot{{stream: &direct{}, generation: 7}}
	w.events[0].Events, w.events[0].Fd, w.events[0].Pad = 0xffff, 0, 6
	w.handle(1) // would close descriptor 0 and crash
	if w.slots[0].stream == nil {
		t.Error("an event about an earlier stream ended the present one")
	}
}

// TestDirectNewcomersTakeNoTurn has streams join while a round goes on that
// began in the middle: nobody is to be left out until the next change.
func TestDirectNewcomersTakeNoTurn(t *testing.T) {
	rig := newDirectRig(t)
	w, err := newWriter(writeTimeout)
	if err != nil {
		t.Fatal(err)
	}
	defer w.epoll.Close()
	var all []*direct
	join := func(n int) {
		for range n {
			fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = unix.Close(fds[1]) })
			rig.source.subscribers++
			rig.source.endpoint.subscribers++
			s := newDirect(socket{fd: int32(fds[0])}, rig.source.log.join(rig.terms.key), rig.source, rig.terms, cursor{}, netip.AddrPort{}, false)
			s.group = s.rendition.seat([]*writer{w})
			w.mail.give(s)
			all = append(all, s)
		}
		w.collect()
	}
	join(8)
	rig.publish(10)
	w.collect()
	all[0].group.at = 5
	join(3)
	for len(w.due) > 0 {
		w.round()
	}
	for i, s := range all {
		if want := s.rendition.tail.Load().seq; s.cursor.seq != want {
			t.Errorf("stream %d has read up to block %d, want %d", i, s.cursor.seq, want)
		}
		w.close(s, endedClient)
	}
}

func TestDirectDeliveryAllocatesNothing(t *testing.T) {
	rig := newDirectRig(t)
	const clients = 200
	for range clients {
		c := rig.connect()
		go func() { _, _ = io.Copy(io.Discard, c) }()
	}
	rig.publish(10)
	time.Sleep(50 * time.Millisecond)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const rounds = 20
	for range rounds {
		rig.source.log.publish(publication{state: []string{stateStale, stateLive}[rig.n%2], at: time.Now()})
		rig.n++
		time.Sleep(10 * time.Millisecond)
	}
	runtime.ReadMemStats(&after)
	if n := after.Mallocs - before.Mallocs; n > rounds*clients/4 {
		t.Errorf("%d allocations for %d deliveries", n, rounds*clients)
	}
}

var nopLogger = zap.NewNop()

// TestDirectStreamIsSmall holds what a delivery touches to two lines of cache.
func TestDirectStreamIsSmall(t *testing.T) {
	var s direct
	if hot, all := unsafe.Offsetof(s.slot), unsafe.Sizeof(s); hot > 128 || all > 256 {
		t.Errorf("a stream has %d bytes, of which a delivery touches %d; want at most 256 and 128", all, hot)
	}
}

// TestDirectSlowReaderKeepsItsStream has a client that takes more than it must,
// but so little of a large buffer that epoll tells of no room in time.
func TestDirectSlowReaderKeepsItsStream(t *testing.T) {
	eachWay(t, func(t *testing.T, rig *directRig) {
		rig.ws.patience = 2 * time.Second
		c := rig.connect()
		rig.follow(c, 0)
		rig.publish(16 << 20)
		piece := make([]byte, 64<<10)
		for end := time.Now().Add(3 * rig.ws.patience); time.Now().Before(end); time.Sleep(200 * time.Millisecond) {
			if _, err := io.ReadFull(c, piece); err != nil {
				t.Fatal(err)
			}
			if n := rig.subscribers(); n != 1 {
				t.Fatal("the stream of a client that reads was given up")
			}
		}
	})
}

// A write that goes on as the client reads is left alone, however long all of
// them take. One that nobody reads is ended.
func TestWatchdogEndsBlockedWrite(t *testing.T) {
	server := httptest.NewTLSServer(nil) // has a certificate
	defer server.Close()
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		defer near.Close()
		config := server.TLS.Clone()
		config.SessionTicketsDisabled = true // their bytes would need a reader, too
		conn, client := tls.Server(near, config), tls.Client(far, &tls.Config{InsecureSkipVerify: true})
		go func() { _ = client.Handshake() }()
		if err := conn.Handshake(); err != nil {
			t.Fatal(err)
		}
		var d watchdog
		done := make(chan struct{})
		var running sync.WaitGroup
		running.Go(func() { d.run(done) })
		const writes = 10
		go func() {
			for range writes {
				time.Sleep(longestWrite * 9 / 10)
				_, _ = client.Read(make([]byte, 64))
			}
		}()
		for range writes {
			if err := d.write(conn, []byte("event")); err != nil {
				t.Fatal(err)
			}
		}
		begun := time.Now()
		err := d.write(conn, []byte("event"))
		if took := time.Since(begun); !errors.Is(err, os.ErrDeadlineExceeded) || took < longestWrite || took > 2*longestWrite {
			t.Errorf("after %s: %v", took, err)
		}
		close(done)
		running.Wait()
	})
}
