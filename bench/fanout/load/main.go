// Command load opens event streams and measures when events arrive: one
// thread and one epoll instance, so that it costs little beside the server.
//
// An event carries the time of its publication as @NANOSECONDS@. Compressed
// streams are counted by the sync flush that ends each event, and a few of
// them are decoded for the times.
//
//	load <address> <path> <streams> <events> <gzip|identity>
//
// It prints one line of JSON when every stream has begun, and another, with
// the results, when its standard input ends.
package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http/httputil"
	"net/netip"
	"os"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"time"

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
	fd      int
	state   int   // digits of a time seen so far, -1 outside of one
	value   int64 // so far
	events  int
	zeros   int // of a sync flush: 00 00 ff ff
	decoder *io.PipeWriter
}

var (
	clients   []client
	arrivals  [][]int64 // by event, compressed: when it came
	delays    = map[int64][]int64{}
	times     = make(chan int64, 1<<16) // of decoded events
	received  int64
	delivered int
	ended     int
)

var stamp = regexp.MustCompile(`@(\d{18,})@`)

// decoded is how many compressed streams are decoded.
const decoded = 3

func main() {
	log.SetFlags(0)
	runtime.GOMAXPROCS(2) // one for the loop, one for standard input and decoders
	address, path := os.Args[1], os.Args[2]
	n, _ := strconv.Atoi(os.Args[3])
	expected, _ := strconv.Atoi(os.Args[4])
	zip := os.Args[5] == "gzip"
	to := netip.MustParseAddrPort(address)
	ep, err := unix.EpollCreate1(0)
	if err != nil {
		log.Fatal(err)
	}
	request := "GET " + path + " HTTP/1.1\r\nHost: " + address + "\r\nAccept: text/event-stream\r\n"
	if zip {
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
			got, err := unix.Read(c.fd, buf)
			if err == unix.EAGAIN || err == unix.EINTR {
				continue
			}
			if got <= 0 {
				if measuring {
					ended++
				}
				_ = unix.EpollCtl(ep, unix.EPOLL_CTL_DEL, c.fd, nil)
				continue
			}
			if !heard[at] {
				heard[at] = true
				begun++
				if !bytes.HasPrefix(buf[:got], []byte("HTTP/1.1 200")) {
					log.Fatalf("answer: %.200q", buf[:got])
				}
			}
			if c.decoder != nil {
				_, _ = c.decoder.Write(buf[:got])
			}
			if !measuring {
				continue
			}
			received += int64(got)
			if zip {
				c.flushes(buf[:got], now)
			} else {
				c.scan(buf[:got], now)
			}
		}
	}
	for begun < n {
		for opened < n && opened-begun < 512 {
			c := &clients[opened]
			if c.fd, err = dial(to, opened); err != nil {
				log.Fatal("connecting: ", err)
			}
			c.state = -1
			if zip && opened < decoded {
				c.decoder = decode()
			}
			if _, err := unix.Write(c.fd, []byte(request)); err != nil {
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
	for len(times) > 0 {
		<-times // published before we measure
	}
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
	for end := time.Now().Add(5 * time.Second); delivered < n*expected && time.Now().Before(end); {
		poll(20, true)
	}
	report(zip, n)
}

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
	_ = unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
	if err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}); err != nil {
		return -1, err
	}
	return fd, unix.SetNonblock(fd, true)
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
			delays[c.value] = append(delays[c.value], now-c.value)
			delivered++
			c.state = -1
		default:
			c.state = -1
		}
	}
}

// flushes counts the sync flushes in b.
func (c *client) flushes(b []byte, now int64) {
	for i := 0; i < len(b); {
		switch ch := b[i]; {
		case c.zeros == 0:
			j := bytes.IndexByte(b[i:], 0)
			if j < 0 {
				return
			}
			i += j + 1
			c.zeros = 1
			continue
		case c.zeros == 1 && ch == 0, c.zeros == 2 && ch == 0xff:
			c.zeros++
		case c.zeros == 2 && ch == 0: // three zeros: the last two may begin one
		case c.zeros == 3 && ch == 0xff:
			c.zeros = 0
			for len(arrivals) <= c.events {
				arrivals = append(arrivals, nil)
			}
			arrivals[c.events] = append(arrivals[c.events], now)
			c.events++
			delivered++
		case ch == 0:
			c.zeros = 1
		default:
			c.zeros = 0
		}
		i++
	}
}

// decode decodes one compressed stream and reports the times in it.
func decode() *io.PipeWriter {
	r, w := io.Pipe()
	go func() {
		defer func() { _, _ = io.Copy(io.Discard, r) }()
		var head []byte
		one := make([]byte, 1)
		for !bytes.HasSuffix(head, []byte("\r\n\r\n")) {
			if _, err := r.Read(one); err != nil {
				return
			}
			head = append(head, one...)
		}
		if !bytes.Contains(head, []byte("Content-Encoding: gzip")) {
			log.Fatalf("not compressed: %q", head)
		}
		z, err := gzip.NewReader(httputil.NewChunkedReader(r))
		if err != nil {
			log.Fatal("decoding: ", err)
		}
		for lines := bufio.NewReaderSize(z, 1<<20); ; {
			line, err := lines.ReadBytes('\n')
			if at := stamp.FindSubmatch(line); at != nil {
				published, _ := strconv.ParseInt(string(at[1]), 10, 64)
				select {
				case times <- published:
				default:
				}
			}
			if err != nil {
				return
			}
		}
	}()
	return w
}

func report(zip bool, n int) {
	if zip {
		var published []int64
		for len(times) > 0 {
			published = append(published, <-times)
		}
		slices.Sort(published)
		published = slices.Compact(published)
		delays = map[int64][]int64{}
		for i, at := range arrivals {
			if i < len(published) {
				for _, now := range at {
					delays[published[i]] = append(delays[published[i]], now-published[i])
				}
			}
		}
	}
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
