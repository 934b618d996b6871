package delivery

import (
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pollsse/caddy-poll-sse/internal/feed"
)

// BenchmarkDirect tells the processor time of one delivery, publishing and the
// system included, to clients that do not read meanwhile: for one source with
// all streams, and for many with two each.
func BenchmarkDirect(b *testing.B) {
	const streams = 9000 // of the 20,000 descriptors that are common
	connect := loopback(b)
	for _, each := range []int{streams, 2} {
		b.Run(strconv.Itoa(streams/each)+"x"+strconv.Itoa(each), func(b *testing.B) {
			exit := make(chan struct{})
			ws := &writers{exit: exit, patience: writeTimeout, retained: newRetained()}
			options := &Options{Retry: time.Second, MaxAge: time.Hour}
			sent := new(feed.Sent) // as those of one name share it
			var logs []*feed.Log
			var clients []int
			for range streams / each {
				l := feed.New(8, time.Now())
				l.Sent = sent
				l.Publish(testPublication(0))
				for range each {
					server, client, err := connect()
					if err != nil {
						b.Fatal(err) // too few descriptors
					}
					defer unix.Close(client)
					clients = append(clients, client)
					ws.adopt(newDirect(socket{fd: int32(server)}, l.Join(testKey), Stream{Options: options, Ended: func(End) {}}, netip.AddrPort{}))
				}
				logs = append(logs, l)
			}
			received := make([]byte, 4<<10)
			// wait waits until every client has got something.
			wait := func() {
				for _, fd := range clients {
					for {
						if n, _, _ := unix.Recvfrom(fd, received, unix.MSG_DONTWAIT); n > 0 {
							break
						}
						time.Sleep(time.Millisecond)
					}
				}
			}
			wait()
			patch := []byte(`[{"op":"replace","path":"/pad","value":"` + strings.Repeat("x", 100) + `"}]`)
			var used int64
			rounds := min(b.N, 100)
			for i := range rounds {
				next := testPublication(i + 1)
				next.Change.Patch = patch
				before := processorTime()
				for _, l := range logs {
					l.Publish(next)
				}
				time.Sleep(100 * time.Millisecond)
				used += processorTime() - before
				wait()
			}
			b.ReportMetric(float64(used)/float64(rounds*streams), "cpu-ns/delivery")
			b.ReportMetric(0, "ns/op")
			close(exit)
			ws.wait()
		})
	}
}

// loopback listens, and returns what makes the two ends of a TCP connection.
func loopback(b *testing.B) func() (server, client int, err error) {
	listener, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { unix.Close(listener) })
	if err := unix.Listen(listener, 1); err != nil { // at a free port
		b.Fatal(err)
	}
	address, err := unix.Getsockname(listener)
	if err != nil {
		b.Fatal(err)
	}
	return func() (server, client int, err error) {
		client, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		if err != nil {
			return 0, 0, err
		}
		if err = unix.Connect(client, address); err == nil {
			server, _, err = unix.Accept4(listener, unix.SOCK_NONBLOCK)
		}
		if err == nil {
			err = unix.SetsockoptInt(server, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
		}
		return server, client, err
	}
}

// processorTime is what this process has used, in ns.
func processorTime() int64 {
	var use unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &use)
	return use.Utime.Nano() + use.Stime.Nano()
}
