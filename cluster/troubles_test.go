package cluster_test

import (
	"errors"
	"fmt"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pollsse/caddy-poll-sse/cluster"
)

func TestTroubles(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var troubles cluster.Troubles
		news := func(n int) (all int) {
			for i := range n {
				if troubles.News(fmt.Errorf("error %d", i)) {
					all++
				}
			}
			return all
		}
		if got := news(2) + news(2); got != 2 {
			t.Errorf("two errors that come twice are news %d times", got)
		}
		if got := news(100); got != 6 {
			t.Errorf("of 100 others, %d are news, want 6", got)
		}
		troubles.Over()
		if !troubles.News(errors.New("error 0")) {
			t.Error("an error is no news after the engine was up")
		}
		broken := func(port int) error {
			return fmt.Errorf("connecting: %w", &net.OpError{Op: "read", Net: "tcp", Source: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port}, Addr: &net.TCPAddr{Port: 1}, Err: errors.New("reset")})
		}
		if !troubles.News(broken(40001)) || troubles.News(broken(40002)) {
			t.Error("one error with two ports of this machine's is not news once")
		}
		time.Sleep(9 * time.Minute)
		if troubles.News(errors.New("error 0")) {
			t.Error("an error is news again after 9 minutes")
		}
		time.Sleep(time.Minute)
		if !troubles.News(errors.New("error 0")) {
			t.Error("an error is no news after 10 minutes")
		}
	})
}
