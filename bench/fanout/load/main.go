// Command load opens event streams and measures when events arrive: one
// thread and one epoll instance, so that it costs little beside the server.
//
// An event carries the time of its publication as @NANOSECONDS@, and is counted
// by it: for each stream, times only rise. Compressed streams are kept as they
// come and decoded at the end. TLS is decrypted at once, which takes time from
// a server on the same cores. HTTP/2 is read as it is: an event begins with a
// frame of its own and has its time within its first bytes, so no frame header
// comes between.
//
//	load <address> <path> <streams> <identity|gzip|tls|h2> <connecting at once>
//
// It prints one line of JSON when every stream has begun, and another, with
// the results, when its standard input ends.
package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
	"golang.org/x/sys/unix"
)

// result is what load prints at the end.
type result struct {
	Delivered int     // events, over all streams
	P50, P99  float64 // ms, over all deliveries
	Last      float64 // ms, of the last stream; median of the events
	Bytes     float64 // on the wire for a delivery
	Ended     int     // streams that ended early
}

type client struct {
	socket
	in    io.Reader // the socket, or TLS over it
	state int       // digits of a time seen so far, -1 outside of one
	value int64     // so far
	last  int64     // time seen
	kept  []piece   // of a compressed stream
}

// piece is what one read brought, and when; 0: before the measuring.
type piece struct {
	at    int64
	bytes []byte
}

var (
	clients  []client
	delays   = map[int64][]int64{}
	received int64 // bytes
	ended    int
)

func main() {
	log.SetFlags(0)
	runtime.GOMAXPROCS(2) // one for the loop, one for standard input
	address, path := os.Args[1], os.Args[2]
	n, _ := strconv.Atoi(os.Args[3])
	mode := os.Args[4]
	atOnce, _ := strconv.Atoi(os.Args[5])
	to := netip.MustParseAddrPort(address)
	ep, err := unix.EpollCreate1(0)
	if err != nil {
		log.Fatal(err)
	}
	request := "GET " + path + " HTTP/1.1\r\nHost: " + address + "\r\nAccept: text/event-stream\r\n"
	if mode == "gzip" {
		request += "Accept-Encoding: gzip\r\n"
	}
	request += "\r\n"
	clients = make([]client, n)
	events := make([]unix.EpollEvent, 512)
	buf := make([]byte, 256<<10)
	opened, begun := 0, 0
	started := time.Now()
	stop := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		close(stop)
	}()
	// First everybody connects, with few at a time on their way.
	heard := make([]bool, n)
	poll := func(wait int, measuring bool) {
		k, err := unix.EpollWait(ep, events, wait)
		if err != nil && err != unix.EINTR {
			log.Fatal(err)
		}
		now := time.Now().UnixNano()
		for i := range max(0, k) {
			at := int(events[i].Fd)
			c := &clients[at]
			for {
				got, err := c.in.Read(buf)
				if err == unix.EAGAIN {
					break
				}
				if err != nil {
					if measuring {
						ended++
					}
					_ = unix.EpollCtl(ep, unix.EPOLL_CTL_DEL, c.fd, nil)
					break
				}
				if !heard[at] {
					heard[at] = true
					begun++
					if mode != "h2" && !bytes.HasPrefix(buf[:got], []byte("HTTP/1.1 200")) {
						log.Fatalf("answer: %.200q", buf[:got])
					}
				}
				switch {
				case mode == "gzip" && measuring:
					c.kept = append(c.kept, piece{now, bytes.Clone(buf[:got])})
				case mode == "gzip":
					c.kept = append(c.kept, piece{0, bytes.Clone(buf[:got])})
				case measuring:
					c.scan(buf[:got], now)
				}
			}
		}
	}
	for begun < n {
		for opened < n && opened-begun < atOnce {
			c := &clients[opened]
			c.state = -1
			if err := c.open(to, opened, mode, request); err != nil {
				log.Fatal("asking: ", err)
			}
			e := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(opened)}
			if err := unix.EpollCtl(ep, unix.EPOLL_CTL_ADD, c.fd, &e); err != nil {
				log.Fatal(err)
			}
			opened++
			poll(0, false)
		}
		poll(100, false)
		if time.Since(started) > time.Minute {
			log.Fatalf("only %d of %d streams began", begun, n)
		}
	}
	// A last second for what comes with the beginning, as snapshots do.
	took := time.Since(started)
	for end := time.Now().Add(time.Second); time.Now().Before(end); {
		poll(50, false)
	}
	received = 0
	fmt.Printf(`{"Connects":%f}`+"\n", float64(n)/took.Seconds())
	for running := true; running; {
		poll(20, true)
		select {
		case <-stop:
			running = false
		default:
		}
	}
	// What is late is late, not missing.
	for was := int64(-1); was != received; {
		was = received
		for end := time.Now().Add(time.Second); time.Now().Before(end); {
			poll(20, true)
		}
	}
	if mode == "gzip" {
		var z gzip.Reader
		for i := range clients {
			clients[i].decode(&z, buf)
		}
	}
	report()
}

// open connects and asks, and leaves the socket to epoll. TLS and HTTP/2 are
// set up here, one connection after the other.
func (c *client) open(to netip.AddrPort, i int, mode, request string) (err error) {
	if c.fd, err = dial(to, i); err != nil {
		return err
	}
	c.in = &c.socket
	switch mode {
	case "tls":
		secure := tls.Client(&c.socket, &tls.Config{InsecureSkipVerify: true})
		if _, err := io.WriteString(secure, request); err != nil {
			return err
		}
		c.in = secure
	case "h2":
		secure := tls.Client(&c.socket, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2"}})
		if err := askH2(secure, to.String(), strings.Fields(request)[1]); err != nil {
			return err
		}
		c.in = secure
	default:
		if _, err := io.WriteString(&c.socket, request); err != nil {
			return err
		}
	}
	c.polled = true
	return unix.SetNonblock(c.fd, true)
}

// askH2 opens the only stream of a connection, with windows that need no
// updates, and reads until the header of the answer.
func askH2(c net.Conn, address, path string) error {
	if _, err := io.WriteString(c, http2.ClientPreface); err != nil {
		return err
	}
	const window = 1<<31 - 1
	var header bytes.Buffer
	encoder := hpack.NewEncoder(&header)
	for _, f := range []hpack.HeaderField{
		{Name: ":method", Value: "GET"},
		{Name: ":scheme", Value: "https"},
		{Name: ":authority", Value: address},
		{Name: ":path", Value: path},
		{Name: "accept", Value: "text/event-stream"},
	} {
		if err := encoder.WriteField(f); err != nil {
			return err
		}
	}
	framer := http2.NewFramer(c, c)
	framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	if err := framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: window}); err != nil {
		return err
	}
	if err := framer.WriteWindowUpdate(0, window-65535); err != nil {
		return err
	}
	if err := framer.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: header.Bytes(), EndHeaders: true, EndStream: true}); err != nil {
		return err
	}
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			return err
		}
		switch frame := frame.(type) {
		case *http2.SettingsFrame:
			if !frame.IsAck() {
				if err := framer.WriteSettingsAck(); err != nil {
					return err
				}
			}
		case *http2.MetaHeadersFrame:
			if status := frame.PseudoValue("status"); status != "200" {
				return fmt.Errorf("status %s", status)
			}
			return nil
		}
	}
}

// socket is a connection's descriptor as TLS wants it. When epoll watches it,
// a read that finds nothing more is EAGAIN, after which TLS can go on.
type socket struct {
	net.Conn // nil: nobody asks for more
	fd       int
	polled   bool
	empty    bool // the last read took all there was
}

func (s *socket) Read(b []byte) (int, error) {
	if s.empty {
		s.empty = false
		return 0, unix.EAGAIN
	}
	n, err := unix.Read(s.fd, b)
	for err == unix.EINTR {
		n, err = unix.Read(s.fd, b)
	}
	if err != nil {
		return 0, err
	}
	if n == 0 {
		return 0, io.EOF
	}
	s.empty = s.polled && n < len(b)
	received += int64(n)
	return n, nil
}

func (s *socket) Write(b []byte) (int, error) { return unix.Write(s.fd, b) }

// dial opens a connection from one of many loopback addresses: one has not
// enough ports. The socket is reset when it is closed, so that no port waits.
func dial(to netip.AddrPort, i int) (int, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1)
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, byte(2 + i%8)}}); err != nil {
		return -1, err
	}
	_ = unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}); err != nil {
		return -1, err
	}
	return fd, nil
}

// scan finds times in b, which may begin or end within one.
func (c *client) scan(b []byte, now int64) {
	for i := 0; i < len(b); i++ {
		if c.state < 0 {
			j := bytes.IndexByte(b[i:], '@')
			if j < 0 {
				return
			}
			i += j
			c.state, c.value = 0, 0
			continue
		}
		switch ch := b[i]; {
		case ch >= '0' && ch <= '9':
			c.value = c.value*10 + int64(ch-'0')
			c.state++
		case ch == '@' && c.state >= 18:
			if c.value <= c.last {
				log.Fatalf("an event of %d after one of %d", c.value, c.last)
			}
			delays[c.value] = append(delays[c.value], now-c.value)
			c.last, c.state = c.value, -1
		default:
			c.state = -1
		}
	}
}

// decode reads a compressed stream again, with the times at which it came.
func (c *client) decode(z *gzip.Reader, buf []byte) {
	r := &replay{left: c.kept}
	resp, err := http.ReadResponse(bufio.NewReader(r), nil)
	if err != nil || resp.StatusCode != http.StatusOK || resp.Header.Get("Content-Encoding") != "gzip" {
		log.Fatal("not compressed: ", resp, err)
	}
	if err := z.Reset(resp.Body); err != nil {
		log.Fatal("decoding: ", err)
	}
	for {
		n, err := z.Read(buf)
		if r.at > 0 {
			c.scan(buf[:n], r.at)
		}
		if err == io.ErrUnexpectedEOF {
			return // streams do not end
		}
		if err != nil {
			log.Fatal("decoding: ", err)
		}
	}
}

// replay gives what was kept, read by read.
type replay struct {
	left []piece
	at   int64 // when the piece that was read last came
}

func (r *replay) Read(b []byte) (int, error) {
	if len(r.left) == 0 {
		return 0, io.EOF
	}
	p := &r.left[0]
	n := copy(b, p.bytes)
	r.at, p.bytes = p.at, p.bytes[n:]
	if len(p.bytes) == 0 {
		r.left = r.left[1:]
	}
	return n, nil
}

func report() {
	var res result
	var all, last []int64
	for _, d := range delays {
		all = append(all, d...)
		last = append(last, slices.Max(d))
	}
	res.Delivered, res.Ended = len(all), ended
	if len(all) > 0 {
		slices.Sort(all)
		slices.Sort(last)
		ms := func(ns int64) float64 { return float64(ns) / 1e6 }
		res.P50, res.P99, res.Last = ms(all[len(all)/2]), ms(all[len(all)*99/100]), ms(last[len(last)/2])
		res.Bytes = float64(received) / float64(len(all))
	}
	_ = json.NewEncoder(os.Stdout).Encode(res)
	// The server's processor time is read before it sees us leave.
	time.Sleep(300 * time.Millisecond)
}
