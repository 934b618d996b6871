package pollsse

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
)

func TestPollingStartsWithTheFirstSubscriber(t *testing.T) {
	bubble(t, func(t *testing.T) {
		r := newRig(t, &Handler{Interval: caddy.Duration(time.Second), Linger: caddy.Duration(10 * time.Second)})
		time.Sleep(time.Minute)
		if n := r.up.count(); n != 0 {
			t.Fatalf("%d polls without a subscriber, want none", n)
		}
		c := r.stream()
		c.expect(`status {"state":"waiting"…`, `status {"state":"live"…`, `snapshot {"n":1}`)
		d := r.stream()
		d.expect(`status {"state":"live"…`, `snapshot {"n":1}`)
		time.Sleep(5*time.Second + 500*time.Millisecond)
		synctest.Wait()
		if n := r.up.count(); n != 6 {
			t.Fatalf("%d polls in 5.5s at an interval of 1s, want 6", n)
		}
		r.up.mu.Lock()
		for i := 1; i < len(r.up.times); i++ {
			if d := r.up.times[i].Sub(r.up.times[i-1]); d != time.Second {
				t.Errorf("poll %d came %s after the one before, want 1s", i, d)
			}
		}
		r.up.mu.Unlock()
	})
}
