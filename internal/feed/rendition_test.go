package feed

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var testKey = Key{Format: FormatPatch, Names: testNames, Heartbeat: 15 * time.Second}

var testNames = Names{KindSnapshot, KindPatch, KindMerge, KindStatus}

// testPublication is version n of a document, as a poll would publish it.
func testPublication(n int) Publication {
	text := fmt.Sprintf(`{"n":%d,"pad":"%s"}`, n, strings.Repeat("x", 200))
	p := Publication{State: Live, At: time.Now(), Validated: true}
	p.Document = &Document{ID: Version(nil, []byte(text)), Text: []byte(text)}
	p.Change = Change{ID: p.Document.ID}
	if n > 0 {
		p.Change.Patch = fmt.Appendf(nil, `[{"op":"replace","path":"/n","value":%d}]`, n)
	}
	return p
}

func TestReadersOfTheNewestShareOneBlock(t *testing.T) {
	l := New(16, time.Now())
	r := l.Join(testKey)
	defer r.Leave()
	l.Publish(testPublication(0))
	b, a, _ := r.After(Cursor{})
	if got := string(b.Payload()); !strings.HasPrefix(got, "event: status\n") || !strings.Contains(got, "event: snapshot\n") {
		t.Fatalf("a new reader got %q", got)
	}
	_, late, _ := r.After(Cursor{})
	l.Publish(testPublication(1))
	b1, a, _ := r.After(a)
	b2, _, _ := r.After(late)
	if &b1.framed[0] != &b2.framed[0] {
		t.Error("two readers of the newest block got different bytes")
	}
	if want := fmt.Sprintf("%x\r\n%s\r\n", len(b1.Payload()), b1.Payload()); string(b1.framed) != want {
		t.Errorf("chunk is %q, want %q", b1.framed, want)
	}
	l.Publish(testPublication(2))
	l.Publish(testPublication(3))
	b, next, newest := r.After(a)
	if got := strings.Count(string(b.Payload()), "event: patch"); got != 1 || !strings.Contains(string(b.Payload()), `"value":2},{`) {
		t.Errorf("a reader two behind got %q, want one squashed patch", b.Payload())
	}
	if again, same, _ := r.After(next); again.framed != nil || same != next || next.seq != newest.seq {
		t.Errorf("a reader that is up to date got %q", again.Payload())
	}
	if n := testing.AllocsPerRun(100, func() { r.After(Cursor{seq: next.seq - 1, pos: 3}) }); n != 0 {
		t.Errorf("reading the newest block allocates %v times", n)
	}
}

func TestResumeFindsItsPlace(t *testing.T) {
	l := New(16, time.Now())
	r := l.Join(testKey)
	defer r.Leave()
	unknown := Version(nil, []byte("unknown"))
	b, c, _ := r.After(Cursor{Resume: unknown})
	if c.Resume != unknown || strings.Contains(string(b.Payload()), "snapshot") {
		t.Fatalf("before there is a document: %q, cursor %v", b.Payload(), c)
	}
	for n := range 4 {
		l.Publish(testPublication(n))
	}
	for name, test := range map[string]struct{ id, want, not string }{
		"unknown": {unknown, "event: snapshot", "event: patch"},
		"behind":  {testPublication(2).Document.ID, `"value":3`, `"value":2`},
		"current": {testPublication(3).Document.ID, "event: status", "id:"},
	} {
		b, c, _ := r.After(Cursor{Resume: test.id})
		if got := string(b.Payload()); !strings.Contains(got, test.want) || strings.Contains(got, test.not) || c.Resume != "" {
			t.Errorf("%s: got %q, want %s and no %s", name, got, test.want, test.not)
		}
	}
}

func TestSilenceIsBrokenOnceForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(16, time.Now())
		r := l.Join(testKey)
		l.Publish(testPublication(0))
		_, c, newest := r.After(Cursor{})
		time.Sleep(10 * time.Second)
		l.Publish(testPublication(1))
		<-newest.Wake
		_, c, newest = r.After(c)
		begun := time.Now()
		<-newest.Wake
		if got := time.Since(begun); got != testKey.Heartbeat {
			t.Errorf("silence was broken after %v, want %v", got, testKey.Heartbeat)
		}
		b, c2, _ := r.After(c)
		if string(b.Payload()) != ":\n\n" {
			t.Errorf("got %q, want a comment", b.Payload())
		}
		time.Sleep(10 * testKey.Heartbeat)
		if b, _, _ := r.After(c); string(b.Payload()) != ":\n\n" {
			t.Errorf("a reader that missed only comments got %q", b.framed)
		}
		r.Leave()
		seq := r.newest.Load().seq
		time.Sleep(10 * testKey.Heartbeat)
		if r.newest.Load().seq != seq || len(l.renditions) != 0 || c2.pos != c.pos {
			t.Error("a rendition without readers goes on")
		}
	})
}

func TestPublicationsWakeUntilStopped(t *testing.T) {
	l := New(16, time.Now())
	r := l.Join(testKey)
	defer r.Leave()
	var woken [3]int
	var stops []func()
	for i := range woken {
		stops = append(stops, r.OnPublish(func() { woken[i]++ }))
	}
	l.Publish(testPublication(0))
	stops[1]()
	l.Publish(testPublication(1))
	stops[0]()
	stops[2]()
	l.Publish(testPublication(2))
	if woken != [3]int{2, 1, 2} {
		t.Errorf("woken %v times, want 2, 1 and 2", woken)
	}
}
