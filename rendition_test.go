package pollsse

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

var testKey = renditionKey{enc: encoding{formatPatch, kindSnapshot, kindPatch, kindMerge, kindStatus}, heartbeat: 15 * time.Second}

// testPublication is version n of a document, as a poll would publish it.
func testPublication(n int) publication {
	text := fmt.Sprintf(`{"n":%d,"pad":"%s"}`, n, strings.Repeat("x", 200))
	p := publication{state: stateLive, at: time.Now(), validated: true}
	p.doc = &document{id: version(nil, []byte(text)), text: []byte(text)}
	p.change = change{id: p.doc.id}
	if n > 0 {
		p.change.patch = fmt.Appendf(nil, `[{"op":"replace","path":"/n","value":%d}]`, n)
	}
	return p
}

func TestReadersAtTheTailShareOneBlock(t *testing.T) {
	l := newLog(16, time.Now())
	r := l.join(testKey)
	defer r.leave()
	l.publish(testPublication(0))
	b, a, _ := r.after(cursor{})
	if got := string(b.payload()); !strings.HasPrefix(got, "event: status\n") || !strings.Contains(got, "event: snapshot\n") {
		t.Fatalf("a new reader got %q", got)
	}
	_, late, _ := r.after(cursor{})
	l.publish(testPublication(1))
	b1, a, _ := r.after(a)
	b2, _, _ := r.after(late)
	if &b1.framed[0] != &b2.framed[0] {
		t.Error("two readers at the tail got different bytes")
	}
	if want := fmt.Sprintf("%x\r\n%s\r\n", len(b1.payload()), b1.payload()); string(b1.framed) != want {
		t.Errorf("chunk is %q, want %q", b1.framed, want)
	}
	l.publish(testPublication(2))
	l.publish(testPublication(3))
	b, next, tail := r.after(a)
	if got := strings.Count(string(b.payload()), "event: patch"); got != 1 || !strings.Contains(string(b.payload()), `"value":2},{`) {
		t.Errorf("a reader two behind got %q, want one squashed patch", b.payload())
	}
	if again, same, _ := r.after(next); again.framed != nil || same != next || next.seq != tail.seq {
		t.Errorf("a reader at the tail got %q", again.payload())
	}
	if n := testing.AllocsPerRun(100, func() { r.after(cursor{seq: next.seq - 1, pos: 3}) }); n != 0 {
		t.Errorf("reading the newest block allocates %v times", n)
	}
}

func TestResumeFindsItsPlace(t *testing.T) {
	l := newLog(16, time.Now())
	r := l.join(testKey)
	defer r.leave()
	unknown := version(nil, []byte("unknown"))
	b, c, _ := r.after(cursor{resume: unknown})
	if c.resume != unknown || strings.Contains(string(b.payload()), "snapshot") {
		t.Fatalf("before there is a document: %q, cursor %v", b.payload(), c)
	}
	for n := range 4 {
		l.publish(testPublication(n))
	}
	for name, test := range map[string]struct{ id, want, not string }{
		"unknown": {unknown, "event: snapshot", "event: patch"},
		"behind":  {testPublication(2).doc.id, `"value":3`, `"value":2`},
		"current": {testPublication(3).doc.id, "event: status", "id:"},
	} {
		b, c, _ := r.after(cursor{resume: test.id})
		if got := string(b.payload()); !strings.Contains(got, test.want) || strings.Contains(got, test.not) || c.resume != "" {
			t.Errorf("%s: got %q, want %s and no %s", name, got, test.want, test.not)
		}
	}
}

func TestSilenceIsBrokenOnceForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLog(16, time.Now())
		r := l.join(testKey)
		l.publish(testPublication(0))
		_, c, tail := r.after(cursor{})
		time.Sleep(10 * time.Second)
		l.publish(testPublication(1))
		<-tail.wake
		_, c, tail = r.after(c)
		begun := time.Now()
		<-tail.wake
		if got := time.Since(begun); got != testKey.heartbeat {
			t.Errorf("silence was broken after %v, want %v", got, testKey.heartbeat)
		}
		b, c2, _ := r.after(c)
		if string(b.payload()) != ":\n\n" {
			t.Errorf("got %q, want a comment", b.payload())
		}
		time.Sleep(10 * testKey.heartbeat)
		if b, _, _ := r.after(c); string(b.payload()) != ":\n\n" {
			t.Errorf("who missed only comments got %q", b.framed)
		}
		r.leave()
		seq := r.tail.Load().seq
		time.Sleep(10 * testKey.heartbeat)
		if r.tail.Load().seq != seq || len(l.renditions) != 0 || c2.pos != c.pos {
			t.Error("a rendition without readers goes on")
		}
	})
}
