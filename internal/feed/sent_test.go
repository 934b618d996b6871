package feed

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestDelays(t *testing.T) {
	var d Delays
	d.add(2, 0)
	d.add(3, time.Millisecond)
	d.add(1, 300*time.Millisecond)
	d.add(1, time.Minute)
	count, sum, upTo := d.Read()
	if count != 7 || sum < 60.302 || sum > 60.304 || len(upTo) != len(delayBounds) {
		t.Errorf("%d deliveries, %g s, %v", count, sum, upTo)
	}
	for bound, want := range map[float64]uint64{.001: 5, .25: 5, .5: 6, 10: 6} {
		if upTo[bound] != want {
			t.Errorf("%d within %g s, want %d", upTo[bound], bound, want)
		}
	}
}

// TestOutdated: a reader knows since when it has lacked a block, however many
// there have been.
func TestOutdated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(8, time.Now())
		r := l.Join(Key{Format: FormatPatch, Names: Names{Snapshot: "snapshot", Patch: "patch", Status: "status"}, Heartbeat: time.Second})
		defer r.Leave()
		_, at, newest := r.After(Cursor{})
		if d, n := newest.Outdated(), r.Missed(at); d != 0 || n != 0 {
			t.Errorf("up to date: %s, %d blocks", d, n)
		}
		if n := r.Missed(Cursor{}); n != 1 {
			t.Errorf("one that has read nothing has missed %d blocks, want 1", n)
		}
		time.Sleep(3500 * time.Millisecond) // 3 heartbeats
		if d, n := newest.Outdated(), r.Missed(at); d != 2500*time.Millisecond || n != 3 {
			t.Errorf("after three blocks: %s, %d blocks", d, n)
		}
	})
}
