package delivery

import (
	"bufio"
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
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

	"golang.org/x/sys/unix"

	"github.com/pollsse/caddy-poll-sse/internal/feed"
)

// directRig is a log without a poller, and writers of its own.
type directRig struct {
	t         *testing.T
	log       *feed.Log
	options   *Options
	mu        sync.Mutex
	open      int // streams
	ends      []End
	rendition *feed.Rendition // that the last stream joined
	ws        *writers
	exit      chan struct{}
	reload    chan struct{}
	n         int // versions published
	listen    net.Listener
	secure    *tls.Config // nil: connections are plain
	dialer    net.Dialer
}

func newDirectRig(t *testing.T) *directRig {
	exit, reload := make(chan struct{}), make(chan struct{})
	rig := &directRig{t: t, exit: exit, reload: reload, ws: &writers{exit: exit, patience: writeTimeout, retained: newRetained()}, log: feed.New(64, time.Now())}
	rig.options = &Options{Retry: time.Second, MaxAge: time.Hour, Reload: reload, CloseDelay: time.Nanosecond}
	var err error
	if rig.listen, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	rig.publish(0)
	t.Cleanup(func() {
		rig.stop()
		rig.listen.Close()
		after := rig.log.Join(testKey)
		defer after.Leave()
		if after == rig.rendition {
			t.Error("the rendition is left")
		}
		if n := rig.subscribers(); n != 0 {
			t.Errorf("%d subscribers are left", n)
		}
		if n := len(rig.ws.groups.of); n != 0 {
			t.Errorf("renditions of %d are left", n)
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
		p.Change.Patch = fmt.Appendf(nil, `[{"op":"replace","path":"/n","value":%d},{"op":"test","path":"/pad","value":"%s"}]`, rig.n, strings.Repeat("y", pad))
		p.Document.Text = append(bytes.TrimSuffix(p.Document.Text, []byte("}")), fmt.Appendf(nil, `,"more":"%s"}`, strings.Repeat("z", pad+200))...)
	}
	rig.n++
	rig.log.Publish(p)
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
	client, sock := rig.dial()
	if !rig.ws.adopt(rig.stream(sock)) {
		rig.t.Fatal("not adopted")
	}
	return client
}

// dial makes a connection and takes it over.
func (rig *directRig) dial() (directClient, socket) {
	c, err := rig.dialer.Dial("tcp", rig.listen.Addr().String())
	if err != nil {
		rig.t.Fatal(err)
	}
	rig.t.Cleanup(func() { c.Close() })
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
	if secure, ok := served.(*tls.Conn); ok && !reportsFreeSpace(secure) {
		rig.t.Fatal("the socket does not report its free space")
	}
	sock, err := newSocket(served)
	if err != nil {
		rig.t.Fatal(err)
	}
	return end, sock
}

// receive has clients dial with a buffer that does not grow with time, as the
// system's own does.
func (rig *directRig) receive(size int) {
	rig.dialer.Control = func(_, _ string, raw syscall.RawConn) error {
		return raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_RCVBUF, size) })
	}
}

// send has the streams' sockets take no more than so much for their clients,
// where the system's own would grow with time.
func (rig *directRig) send(size int) {
	raw, err := rig.listen.(*net.TCPListener).SyscallConn()
	if err == nil {
		err = raw.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_SNDBUF, size) })
	}
	if err != nil {
		rig.t.Fatal(err)
	}
}

// stream makes a stream on a socket.
func (rig *directRig) stream(sock socket) *direct {
	rig.mu.Lock()
	defer rig.mu.Unlock()
	rig.open++
	of := Stream{Log: rig.log, Key: testKey, Options: rig.options, Ended: func(e End) {
		rig.mu.Lock()
		defer rig.mu.Unlock()
		rig.open--
		rig.ends = append(rig.ends, e)
	}}
	rig.rendition = rig.log.Join(of.Key)
	return newDirect(sock, rig.rendition, of, netip.AddrPort{})
}

func (rig *directRig) subscribers() int {
	rig.mu.Lock()
	defer rig.mu.Unlock()
	return rig.open
}

// ended returns how many streams have ended.
func (rig *directRig) ended() int {
	rig.mu.Lock()
	defer rig.mu.Unlock()
	return len(rig.ends)
}

// holding returns how many streams have begun a block that their socket does
// not take.
func (rig *directRig) holding() (n int) {
	rig.ws.retained.mu.Lock()
	defer rig.ws.retained.mu.Unlock()
	for _, blocks := range rig.ws.retained.of {
		for _, b := range blocks {
			n += len(b.holders)
		}
	}
	return n
}

// await waits for something that the writers do. Their sockets are real, so they
// cannot run in fake time.
func (rig *directRig) await(what string, holds func() bool) {
	rig.t.Helper()
	for end := time.Now().Add(time.Minute); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			rig.t.Fatalf("waiting for %s: not within a minute", what)
		}
	}
}

func (rig *directRig) awaitSubscribers(want int) {
	rig.t.Helper()
	rig.await(fmt.Sprintf("%d subscribers", want), func() bool { return rig.subscribers() == want })
}

// follow reads a stream until version last, and returns how many patches it saw.
// It fails if a version is lost, repeated or out of order.
func (rig *directRig) follow(c net.Conn, last int) (patches int) {
	rig.t.Helper()
	return rig.followEach(c, last, func(int) {})
}

// publishTo publishes versions, each once c has read the one before, and fails
// unless c gets every change.
func (rig *directRig) publishTo(c net.Conn, versions, pad int) {
	rig.t.Helper()
	last := rig.n - 1 + versions
	read, done := make(chan int), make(chan int, 1)
	go func() {
		defer close(done)
		defer close(read) // also if the stream is not as it should be
		done <- rig.followEach(c, last, func(n int) { read <- n })
	}()
	for at, ok := <-read; ok && at < last; at, ok = <-read {
		rig.publish(pad)
	}
	if patches := <-done; patches != versions {
		rig.t.Errorf("the client that reads got %d patches of %d", patches, versions)
	}
}

// followEach is follow that calls read with each version that it has reached.
func (rig *directRig) followEach(c net.Conn, last int, read func(n int)) (patches int) {
	rig.t.Helper()
	at := -1
	for lines := bufio.NewReaderSize(httputil.NewChunkedReader(c), 1<<10); at < last; {
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
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
			read(at)
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
				read(at)
			}
		}
	}
	return patches
}

func TestDirectStreamsGetEveryChange(t *testing.T) {
	eachWay(t, func(t *testing.T, rig *directRig) {
		const clients, versions = 300, 20
		first, others := rig.connect(), make([]directClient, clients)
		for i := range others {
			others[i] = rig.connect()
		}
		var all sync.WaitGroup
		for _, c := range others {
			all.Go(func() { rig.follow(c, versions) })
		}
		rig.publishTo(first, versions, 100)
		all.Wait()
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

func TestDirectStreamSaysWhenToReturn(t *testing.T) {
	for _, why := range []Reason{endedReload, endedAge, endedExit} {
		rig := newDirectRig(t)
		rig.options.Retry = 10 * time.Second
		if why == endedAge {
			rig.options.MaxAge = time.Second
		}
		c := rig.connect()
		switch why {
		case endedReload:
			close(rig.reload)
		case endedExit:
			rig.follow(c, 0)
			go rig.stop()
		}
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		all, err := io.ReadAll(httputil.NewChunkedReader(c))
		// The client comes back at once, but not before the server can be
		// back.
		var retry int
		_, scanErr := fmt.Sscanf(string(all[max(0, bytes.LastIndex(all, []byte("retry: "))):]), "retry: %d", &retry)
		if err != nil || scanErr != nil || (why == endedExit) != (retry >= 5000) || (why != endedExit) != (retry <= 1050) {
			t.Errorf("%s: err %v, got %q", why, err, all)
		}
		rig.awaitSubscribers(0)
		if e := rig.ends; len(e) != 1 || e[0].Reason != why || why.Returns() != (why != endedExit) {
			t.Errorf("%s: ended as %v", why, e)
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
func TestDirectSlowClientCatchesUp(t *testing.T) {
	eachWay(t, func(t *testing.T, rig *directRig) {
		slow, quick := rig.connect(), rig.connect()
		const versions = 200
		rig.publishTo(quick, versions, 64<<10)
		begun := time.Now()
		n := rig.follow(slow, versions)
		t.Logf("the slow client got %d patches, in %v", n, time.Since(begun))
		if n == versions {
			t.Error("the slow client never caught up: the test shows nothing")
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
		rig.publishTo(quick, 40, 64<<10)
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
	rigs[1].log.Publish(feed.Publication{State: feed.Live, At: time.Now(),
		Document: &feed.Document{ID: "other", Text: []byte(`{"other":true}`)}, Change: feed.Change{ID: "other"}})
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
	w, err := newWriter(writeTimeout, newRetained())
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

// directWriter is a writer that the test drives itself.
func (rig *directRig) directWriter() *writer {
	w, err := newWriter(writeTimeout, rig.ws.retained)
	if err != nil {
		rig.t.Fatal(err)
	}
	rig.t.Cleanup(func() { w.epoll.Close() })
	return w
}

// give hands a stream on a socket to a writer that the test drives itself.
func (rig *directRig) give(w *writer, sock socket) *direct {
	s := rig.stream(sock)
	s.group = rig.ws.groups.join(s.rendition, []*writer{w})
	w.mail.give(s)
	w.collect()
	return s
}

// serveDue has a writer write what has been published.
func (w *writer) serveDue() {
	w.collect()
	for len(w.due) > 0 {
		w.round()
	}
}

// pair makes a connection; the client's end does not block.
func (rig *directRig) pair() (sock socket, client int) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		rig.t.Fatal(err)
	}
	rig.t.Cleanup(func() { _ = unix.Close(fds[1]) })
	return socket{fd: int32(fds[0])}, fds[1]
}

// TestDirectNewcomersDelayNoOther has streams join while a round goes on that
// began in the middle: nobody is to be left out until the next change.
func TestDirectNewcomersDelayNoOther(t *testing.T) {
	rig := newDirectRig(t)
	w := rig.directWriter()
	var all []*direct
	join := func(n int) {
		for range n {
			sock, _ := rig.pair()
			all = append(all, rig.give(w, sock))
		}
	}
	join(8)
	rig.publish(10)
	w.collect()
	all[0].group.at = 5
	join(3)
	w.serveDue()
	for i, s := range all {
		if b, _, _ := s.rendition.After(s.cursor); b.Chunk() != nil {
			t.Errorf("stream %d has not read %q", i, b.Chunk())
		}
		w.close(s, endedClient)
	}
}

// TestDirectDeliveryAllocatesNothing: what a delivery costs is a system call.
func TestDirectDeliveryAllocatesNothing(t *testing.T) {
	rig := newDirectRig(t)
	w := rig.directWriter()
	var all []*direct
	var clients []int
	for range 50 {
		sock, client := rig.pair()
		all, clients = append(all, rig.give(w, sock)), append(clients, client)
	}
	received := make([]byte, 64<<10)
	drain := func() {
		for i, fd := range clients {
			if n, err := unix.Read(fd, received); n <= 0 {
				t.Fatalf("stream %d got nothing: %v", i, err)
			}
		}
	}
	drain()
	next := func() { rig.publish(10) }
	next()
	w.serveDue() // what grows once has grown
	drain()
	var before, after runtime.MemStats
	const rounds = 10
	allocated := uint64(0)
	for range rounds {
		next()
		runtime.ReadMemStats(&before)
		w.serveDue()
		runtime.ReadMemStats(&after)
		allocated += after.Mallocs - before.Mallocs
		drain()
	}
	// Other goroutines of the process may allocate a little meanwhile.
	if allocated >= rounds {
		t.Errorf("%d allocations in %d deliveries", allocated, rounds*len(all))
	}
	for _, s := range all {
		w.close(s, endedClient)
	}
}

// TestDirectStreamIsSmall holds what a delivery touches to two lines of cache.
func TestDirectStreamIsSmall(t *testing.T) {
	var s direct
	if hot, all := unsafe.Offsetof(s.slot), unsafe.Sizeof(s); hot > 128 || all > 256 {
		t.Errorf("a stream has %d bytes, of which a delivery touches %d; want at most 256 and 128", all, hot)
	}
}

// TestDirectSlowReader has a client that takes a little of a large block now and
// then: enough, but so little of a large buffer that epoll tells of no room in
// time, or less than it must.
func TestDirectSlowReader(t *testing.T) {
	const size = 16 << 20
	for _, test := range []struct {
		name string
		rate int // bytes in each half of writeTimeout
		want bool
	}{
		{"enough", size / writePieces / 2 * 5 / 4, true},
		{"half of it", size / writePieces / 4, false},
		{"64 KiB", 64 << 10, false}, // enough for a small block
	} {
		t.Run(test.name, func(t *testing.T) {
			eachWay(t, func(t *testing.T, rig *directRig) {
				rig.receive(1 << 20)
				w := rig.directWriter()
				client, sock := rig.dial()
				s := rig.give(w, sock)
				rig.publish(size)
				w.serveDue()
				if !s.blocked {
					t.Fatal("the socket takes everything: the test shows nothing")
				}
				piece := make([]byte, test.rate)
				for range 8 {
					if _, err := io.ReadFull(client, piece); err != nil {
						t.Fatal(err)
					}
					w.clock += writeTimeout / 2
					w.sweep()
					if w.streams == 0 {
						break
					}
				}
				if kept := w.streams == 1; kept != test.want {
					t.Errorf("a stream that takes %d bytes each %s is kept: %v, want %v; bytes %d", test.rate, writeTimeout/2, kept, test.want, s.bytes)
				}
				if w.streams > 0 {
					w.close(s, endedClient)
				}
			})
		})
	}
}

// TestDirectSlowReadersRetainLittle: one reader after the other begins a document
// that changes meanwhile and does not go on. Those that retain too many versions
// of it are ended, the latest first.
func TestDirectSlowReadersRetainLittle(t *testing.T) {
	eachWay(t, func(t *testing.T, rig *directRig) {
		const size, readers = 4 << 20, 20
		rig.receive(64 << 10)
		rig.send(64 << 10)
		quick := rig.connect()
		go func() { _, _ = io.Copy(io.Discard, quick) }()
		for n := range readers {
			rig.publish(size)
			rig.connect() // never reads
			rig.await("the reader to begin its block", func() bool { return rig.holding()+rig.ended() > n })
		}
		rig.publish(size)
		rig.connect()
		// Of the old documents 16 MiB are allowed, and the newest twice: as what
		// brings a new reader up to date, and as what all others get.
		rig.await("the readers to retain little", func() bool {
			rig.ws.retained.mu.Lock()
			defer rig.ws.retained.mu.Unlock()
			return rig.ws.retained.size <= mostRetainedEach+2*(size+1<<16)
		})
		rig.mu.Lock()
		defer rig.mu.Unlock()
		for _, e := range rig.ends {
			if e.Reason != endedMemory {
				t.Errorf("ended as %+v", e)
			}
		}
		if len(rig.ends) < readers/2 || rig.open < 4 {
			t.Errorf("%d streams ended, %d go on", len(rig.ends), rig.open)
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

// TestDirectMovesOver: another source has taken the place of the stream's own.
func TestDirectMovesOver(t *testing.T) {
	rig := newDirectRig(t)
	c := rig.connect()
	rig.follow(c, 0)
	rig.log.Supersede(true)
	rig.publish(0) // goes nowhere
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
	all, err := io.ReadAll(httputil.NewChunkedReader(c))
	if err != nil || !bytes.Contains(all, []byte("retry: ")) || bytes.Contains(all, []byte("event: patch")) {
		t.Errorf("err %v, got %q", err, all)
	}
	rig.awaitSubscribers(0)
	if e := rig.ends; len(e) != 1 || e[0].Reason != endedReload {
		t.Errorf("ended as %v", e)
	}
}

// TestDirectEndCopiesNoBlock: a thousand slow streams that end together share what
// they still have to read.
func TestDirectEndCopiesNoBlock(t *testing.T) {
	rig := newDirectRig(t)
	w := rig.directWriter()
	sock, client := rig.pair()
	s := rig.give(w, sock)
	rig.publish(1 << 20)
	w.serveDue()
	if !s.blocked || s.held == nil {
		t.Fatal("the socket takes everything: the test shows nothing")
	}
	was := &s.rest[0]
	w.end(s, endedReload)
	if &s.rest[0] != was {
		t.Error("the block was copied")
	}
	var got []byte
	for received := make([]byte, 64<<10); ; {
		n, err := unix.Read(client, received)
		if n == 0 {
			break
		}
		if err == nil {
			got = append(got, received[:n]...)
			continue
		}
		if w.streams == 1 {
			w.serve(s)
		}
	}
	all, err := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(got)))
	if err != nil || bytes.Count(all, []byte("\nretry: ")) != 1 || !bytes.HasSuffix(all, []byte("\n\n")) {
		t.Errorf("the stream ends with %q, %v", all[max(0, len(all)-60):], err)
	}
	if rs := rig.ws.retained; rs.size != 0 || len(rs.of) != 0 {
		t.Errorf("%d bytes are still counted", rs.size)
	}
}

// TestOneWriteForTheBeginning: header, opening and a small first document reach
// the client in one segment, so they left in one write.
func TestOneWriteForTheBeginning(t *testing.T) {
	for _, direct := range []bool{true, false} {
		l := feed.New(4, time.Now())
		l.Publish(testPublication(0))
		exit := make(chan struct{})
		srv := NewServer(exit, nil)
		ends := make(chan End, 1)
		s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			srv.Serve(w, r, Stream{Log: l, Key: testKey, Ended: func(e End) { ends <- e }, Options: &Options{Direct: direct, Retry: time.Second, MaxAge: time.Hour}})
		}))
		s.Config.ConnContext = ConnContext
		s.Start()
		c, err := net.Dial("tcp", s.Listener.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(c, "GET / HTTP/1.1\r\nHost: h\r\n\r\n")
		_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
		var got []byte
		for piece := make([]byte, 64<<10); !bytes.Contains(got, []byte("event: snapshot")); {
			n, err := c.Read(piece)
			if err != nil {
				t.Fatalf("after %q: %v", got, err)
			}
			got = append(got, piece[:n]...)
		}
		raw, _ := c.(*net.TCPConn).SyscallConn()
		var info *unix.TCPInfo
		_ = raw.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) })
		if err != nil || info.Data_segs_in != 1 {
			t.Errorf("direct %v: %d segments until the document, %v; want 1", direct, info.Data_segs_in, err)
		}
		l.Publish(testPublication(1))
		if _, err := io.ReadFull(c, make([]byte, 20)); err != nil { // it goes on
			t.Error(err)
		}
		c.Close()
		if e := <-ends; e.Frames != 2 || e.Bytes < 400 || e.Direct != direct {
			t.Errorf("ended as %+v", e)
		}
		close(exit)
		srv.Wait()
		s.Close()
	}
}
