package feed

import (
	"bytes"
	"testing"
	"time"
	"unsafe"
)

// slept is t as it reads when the machine has slept: the wall clock has gone
// on, the monotonic one has not.
func slept(t time.Time, d time.Duration) time.Time {
	wall := (*uint64)(unsafe.Pointer(&t)) // seconds above 30 bits of nanoseconds
	*wall += uint64(d/time.Second) << 30
	return t
}

// TestSleepIsNoticed: neither a reader nor a pause relies on a clock that
// stands still while a machine sleeps.
func TestSleepIsNoticed(t *testing.T) {
	now := time.Now()
	if d := slept(now, time.Minute).Sub(now); d != 0 {
		t.Fatalf("the monotonic clock went on by %s", d)
	}
	next := now.Add(5 * time.Second)
	for _, test := range []struct {
		now  time.Time
		want time.Duration
	}{
		{now, 5 * time.Second},
		{slept(now, 3*time.Second), 2 * time.Second},
		{slept(now, time.Minute), -55 * time.Second},
		{slept(now.Add(2*time.Second), -3600*time.Second), 3 * time.Second}, // set back
	} {
		if got := Until(next, test.now); got != test.want {
			t.Errorf("%s until the next poll, want %s", got, test.want)
		}
	}
	l := New(1, now)
	defer l.Stop()
	l.Publish(Publication{Document: &Document{ID: "x", Text: []byte("1")}, State: Live, At: now, Validated: true, Late: now.Add(time.Hour)})
	if v := l.ViewAt(slept(now, 2*time.Hour)); v.Status.Reason != ReasonLate {
		t.Errorf("%+v after two hours of sleep, want late", v.Status)
	}
	if v := l.ViewAt(now); v.Status.State != Live {
		t.Errorf("%+v, want live", v.Status)
	}
	// A stream that begins before the timer runs is told, too.
	l.Publish(Publication{State: Live, At: now, Validated: true, Late: slept(now.Add(time.Hour), -2*time.Hour)})
	r := l.Join(Key{Format: FormatPatch, Heartbeat: time.Hour})
	defer r.Leave()
	if b, _, _ := r.After(Cursor{}); !bytes.Contains(b.Payload(), []byte(`"reason":"late"`)) {
		t.Errorf("a stream begins with %q after two hours of sleep, want late", b.Payload())
	}
}
