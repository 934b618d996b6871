package pollsse

import (
	"net/netip"
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// BenchmarkDirect tells the processor time of one delivery, system included,
// to clients that do not read meanwhile: for one source with all streams, and
// for many with two each.
func BenchmarkDirect(b *testing.B) {
	const streams = 1000
	for _, each := range []int{streams, 2} {
		b.Run(strconv.Itoa(streams/each)+"x"+strconv.Itoa(each), func(b *testing.B) {
			exit := make(chan struct{})
			ws := &writers{exit: exit}
			p := &pool{sources: make(map[[32]byte]*source), endpoints: map[string]*endpoint{"": {clients: map[string]int{}, subscribers: streams}}}
			use := &terms{key: testKey, retry: time.Second, age: time.Hour, pool: p, drain: &drain{exit: exit}, logger: nopLogger}
			var all []*source
			for range streams / each {
				src := &source{log: newLog(8, time.Now()), endpoint: p.endpoints[""], subscribers: each}
				src.log.publish(testPublication(0))
				for range each {
					fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
					if err != nil {
						b.Skip(err) // too few descriptors
					}
					defer unix.Close(fds[1])
					ws.adopt(newDirect(socket{fd: int32(fds[0])}, src.log.join(use.key), src, use, cursor{}, netip.AddrPort{}, false))
				}
				all = append(all, src)
			}
			time.Sleep(100 * time.Millisecond)
			// Each state is one small event; a socket holds many, and what
			// it does not hold is not a delivery.
			states := []string{stateStale, stateLive}
			var before, after unix.Rusage
			_ = unix.Getrusage(unix.RUSAGE_SELF, &before)
			rounds := min(b.N, 200)
			for i := range rounds {
				for _, src := range all {
					src.log.publish(publication{state: states[i%2], at: time.Now()})
				}
				time.Sleep(5 * time.Millisecond)
			}
			_ = unix.Getrusage(unix.RUSAGE_SELF, &after)
			used := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
			b.ReportMetric(float64(used)/float64(rounds*streams), "cpu-ns/delivery")
			b.ReportMetric(0, "ns/op")
			close(exit)
			ws.wait()
		})
	}
}
