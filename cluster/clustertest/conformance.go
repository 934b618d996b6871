package clustertest

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/pollsse/caddy-poll-sse/cluster"
)

// Rig is an engine under test.
type Rig struct {
	// Dialer connects another node to the server of this rig.
	Dialer cluster.Dialer
	// Stop has the server answer nobody, Start has it back with all that it
	// has stored. It is up at the beginning.
	Stop, Start func()
}

// patience bounds every wait for what must happen; nothing is measured by it.
const patience = 30 * time.Second

// Conform tests that an engine does what the interfaces of package cluster
// say.
func Conform(t *testing.T, begin func(t *testing.T) Rig) {
	for _, c := range []struct {
		name string
		run  func(t *testing.T, r Rig)
	}{
		{"swap", swap},
		{"one of many swaps wins", contest},
		{"fence", fence},
		{"documents", documents},
		{"a document is whole while others are put", whole},
		{"messages", messages},
		{"a message that is too large", tooLarge},
		{"overflow", overflow},
		{"leaving", leaving},
		{"server away and back", reconnect},
		{"server away at first", late},
		{"context", deadline},
	} {
		t.Run(c.name, func(t *testing.T) { c.run(t, begin(t)) })
	}
}

func key() string {
	var b [16]byte
	_, _ = rand.Read(b[:])
	return hex.EncodeToString(b[:])
}

// node connects a node and waits until it is up.
func node(t *testing.T, r Rig) cluster.Engine {
	t.Helper()
	e, err := r.Dialer.Dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	eventually(t, "a new node is up", e.Up)
	return e
}

// join joins a key and waits for the first Resync.
func join(t *testing.T, e cluster.Engine, key string) cluster.Topic {
	t.Helper()
	topic, err := e.Join(key)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(topic.Close)
	resync(t, topic)
	return topic
}

func resync(t *testing.T, topic cluster.Topic) {
	t.Helper()
	for !take(t, topic).Resync {
	}
}

// take waits for a message or a Resync.
func take(t *testing.T, topic cluster.Topic) cluster.Message {
	t.Helper()
	select {
	case m := <-topic.Messages():
		return m
	case <-time.After(patience):
		t.Fatalf("no message within %s", patience)
		return cluster.Message{}
	}
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !holds(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within %s", what, patience)
		}
	}
}

func within(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

func mustSwap(t *testing.T, topic cluster.Topic, revision uint64, record string) uint64 {
	t.Helper()
	next, err := topic.Swap(within(t), revision, []byte(record))
	if err != nil {
		t.Fatalf("Swap(%d, %q): %v", revision, record, err)
	}
	if next <= revision {
		t.Fatalf("Swap(%d, %q) gives revision %d, which is not larger", revision, record, next)
	}
	return next
}

func mustPut(t *testing.T, topic cluster.Topic, owner uint64, document []byte) {
	t.Helper()
	if err := topic.Put(within(t), owner, document); err != nil {
		t.Fatalf("Put of %d bytes: %v", len(document), err)
	}
}

// reads waits until a topic shows an owner: reads may lag for a moment.
func reads(t *testing.T, topic cluster.Topic, revision uint64, record string) {
	t.Helper()
	var got []byte
	var at uint64
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if at, got, err = topic.Owner(within(t)); err == nil && at == revision && string(got) == record {
			return
		}
	}
	t.Fatalf("Owner: got %d, %q, %v; want %d, %q", at, got, err, revision, record)
}

func holds(t *testing.T, topic cluster.Topic, document []byte) {
	t.Helper()
	var got []byte
	var err error
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if got, err = topic.Document(within(t)); err == nil && bytes.Equal(got, document) {
			return
		}
	}
	t.Fatalf("Document: got %d bytes, %v; want %d bytes", len(got), err, len(document))
}

func swap(t *testing.T, r Rig) {
	k := key()
	a, b, other := join(t, node(t, r), k), join(t, node(t, r), k), join(t, node(t, r), key())
	reads(t, a, 0, "")
	first := mustSwap(t, a, 0, "a")
	reads(t, b, first, "a")
	reads(t, other, 0, "")
	for _, stale := range []uint64{0, first + 1} {
		if _, err := b.Swap(within(t), stale, []byte("b")); !errors.Is(err, cluster.ErrConflict) {
			t.Errorf("Swap(%d) at revision %d: got %v, want ErrConflict", stale, first, err)
		}
	}
	reads(t, b, first, "a")
	second := mustSwap(t, b, first, "b")
	reads(t, a, second, "b")
	if _, err := a.Swap(within(t), first, []byte("a again")); !errors.Is(err, cluster.ErrConflict) {
		t.Errorf("Swap with the revision before: got %v, want ErrConflict", err)
	}
	reads(t, a, second, "b")
}

func contest(t *testing.T, r Rig) {
	k := key()
	var topics []cluster.Topic
	for range 3 {
		e := node(t, r)
		for range 4 {
			topics = append(topics, join(t, e, k))
		}
	}
	revision := uint64(0)
	for round := range 10 {
		var mu sync.Mutex
		var won []uint64
		var all sync.WaitGroup
		for i, topic := range topics {
			all.Go(func() {
				next, err := topic.Swap(within(t), revision, []byte{byte(i)})
				switch {
				case err == nil:
					mu.Lock()
					won = append(won, next)
					mu.Unlock()
				case !errors.Is(err, cluster.ErrConflict):
					t.Errorf("round %d: %v, want success or ErrConflict", round, err)
				}
			})
		}
		all.Wait()
		if len(won) != 1 {
			t.Fatalf("round %d: %d of %d swaps won, want one", round, len(won), len(topics))
		}
		revision = won[0]
	}
}

func fence(t *testing.T, r Rig) {
	k := key()
	a, b := join(t, node(t, r), k), join(t, node(t, r), k)
	if err := a.Put(within(t), 7, []byte("x")); !errors.Is(err, cluster.ErrConflict) {
		t.Errorf("Put without any owner: got %v, want ErrConflict", err)
	}
	first := mustSwap(t, a, 0, "a")
	mustPut(t, a, first, []byte("by a"))
	holds(t, b, []byte("by a"))
	second := mustSwap(t, b, first, "b")
	if err := a.Put(within(t), first, []byte("by a, too late")); !errors.Is(err, cluster.ErrConflict) {
		t.Errorf("Put of an owner that was deposed: got %v, want ErrConflict", err)
	}
	if err := a.Put(within(t), first, random(3<<20)); !errors.Is(err, cluster.ErrConflict) {
		t.Errorf("Put of a large document by an owner that was deposed: got %v, want ErrConflict", err)
	}
	holds(t, a, []byte("by a"))
	mustPut(t, b, second, []byte("by b"))
	holds(t, a, []byte("by b"))
}

func random(size int) []byte {
	b := make([]byte, size)
	_, _ = rand.Read(b)
	return b
}

func documents(t *testing.T, r Rig) {
	k := key()
	a, b := join(t, node(t, r), k), join(t, node(t, r), k)
	holds(t, b, nil)
	owner := mustSwap(t, a, 0, "a")
	for _, size := range []int{1, 1 << 10, 1<<20 - 200, 1 << 20, 5<<20 + 1, 100, 12 << 20, 3} {
		document := random(size)
		mustPut(t, a, owner, document)
		holds(t, b, document)
	}
	if owner, _, err := b.Owner(within(t)); err != nil || owner == 0 {
		t.Errorf("owner after the documents: %d, %v", owner, err)
	}
}

func whole(t *testing.T, r Rig) {
	k := key()
	a, b := join(t, node(t, r), k), join(t, node(t, r), k)
	owner := mustSwap(t, a, 0, "a")
	document := func(i int) []byte { return bytes.Repeat([]byte{byte(i)}, 1+(i%3)*(1500<<10)) }
	mustPut(t, a, owner, document(1))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i := 2; i < 40; i++ {
			if err := a.Put(within(t), owner, document(i)); err != nil {
				t.Errorf("put %d: %v", i, err)
			}
		}
	}()
	defer func() { <-done }()
	read := 0
	for last := 0; last < 39; {
		got, err := b.Document(within(t))
		if err != nil {
			continue // torn apart too often: an error, not a wrong document
		}
		read++
		i := int(got[0])
		if !bytes.Equal(got, document(i)) {
			t.Fatalf("document %d is not as it was put: %d bytes", i, len(got))
		}
		select {
		case <-done:
			last = max(last, i)
		default:
		}
	}
	t.Logf("%d reads", read)
}

// next is the next message that is not a Resync.
// next waits for a message.
func next(t *testing.T, topic cluster.Topic) string {
	t.Helper()
	for {
		if m := take(t, topic); !m.Resync {
			return string(m.Data)
		}
	}
}

func messages(t *testing.T, r Rig) {
	k := key()
	a, b, other := join(t, node(t, r), k), join(t, node(t, r), k), join(t, node(t, r), key())
	for i := range byte(10) {
		if err := a.Send([]byte{'a', i}); err != nil {
			t.Fatal(err)
		}
	}
	for i := range byte(10) {
		for name, topic := range map[string]cluster.Topic{"the sender": a, "the other node": b} {
			if got, want := next(t, topic), string([]byte{'a', i}); got != want {
				t.Errorf("%s gets %q, want %q", name, got, want)
			}
		}
	}
	large := string(random(64 << 10))
	if err := b.Send([]byte(large)); err != nil {
		t.Errorf("64 KiB: %v", err)
	}
	if got := next(t, a); got != large {
		t.Errorf("64 KiB come as %d bytes", len(got))
	}
	if err := other.Send([]byte("other")); err != nil {
		t.Fatal(err)
	}
	if got := next(t, other); got != "other" {
		t.Errorf("another key gets %q", got)
	}
	select {
	case m := <-a.Messages():
		t.Errorf("a key gets %q of another key", m.Data)
	default:
	}
}

func tooLarge(t *testing.T, r Rig) {
	a := join(t, node(t, r), key())
	if err := a.Send(random(80 << 20)); !errors.Is(err, cluster.ErrTooLarge) {
		t.Errorf("80 MiB: got %v, want ErrTooLarge", err)
	}
	if err := a.Send([]byte("small")); err != nil {
		t.Fatal(err)
	}
	if got := next(t, a); got != "small" {
		t.Errorf("got %q after it", got)
	}
}

func overflow(t *testing.T, r Rig) {
	k := key()
	a, b := join(t, node(t, r), k), join(t, node(t, r), k)
	e := node(t, r)
	beside := join(t, e, key())
	for resynced := false; !resynced; {
		for range 100 {
			if err := a.Send([]byte("one of many")); err != nil {
				t.Fatal(err)
			}
		}
		resynced = take(t, b).Resync
	}
	// The last message may be the one that there is no room for.
	for last := (cluster.Message{Resync: true}); string(last.Data) != "the end"; last = take(t, b) {
		if last.Resync {
			if err := a.Send([]byte("the end")); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := beside.Send([]byte("unmoved")); err != nil {
		t.Fatal(err)
	}
	if got := next(t, beside); got != "unmoved" {
		t.Errorf("another key gets %q", got)
	}
}

func leaving(t *testing.T, r Rig) {
	k := key()
	a, e := join(t, node(t, r), k), node(t, r)
	b, err := e.Join(k)
	if err != nil {
		t.Fatal(err)
	}
	resync(t, b)
	b.Close()
	again := join(t, e, k)
	for i := range 40 { // more than a mailbox holds
		if err := a.Send([]byte{byte(i)}); err != nil {
			t.Fatal(err)
		}
		if got := next(t, again); got != string([]byte{byte(i)}) {
			t.Fatalf("message %d comes as %q", i, got)
		}
	}
	select {
	case m := <-b.Messages():
		t.Errorf("a topic that was left gets %q", m.Data)
	default:
	}
}

func reconnect(t *testing.T, r Rig) {
	k := key()
	ea, eb := node(t, r), node(t, r)
	a, b := join(t, ea, k), join(t, eb, k)
	owner := mustSwap(t, a, 0, "a")
	mustPut(t, a, owner, []byte("kept"))
	r.Stop()
	eventually(t, "a server that is away is noticed", func() bool { return !ea.Up() && !eb.Up() })
	short, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	if _, err := a.Swap(short, owner, []byte("lost")); err == nil || errors.Is(err, cluster.ErrConflict) {
		t.Errorf("Swap without a server: got %v, want another error than ErrConflict", err)
	}
	if err := a.Put(short, owner, []byte("lost")); err == nil || errors.Is(err, cluster.ErrConflict) {
		t.Errorf("Put without a server: got %v, want another error than ErrConflict", err)
	}
	if _, err := a.Document(short); err == nil {
		t.Error("Document without a server: no error")
	}
	_ = a.Send([]byte("lost"))
	r.Start()
	eventually(t, "the server is back", func() bool { return ea.Up() && eb.Up() })
	resync(t, a)
	resync(t, b)
	reads(t, a, owner, "a")
	holds(t, b, []byte("kept"))
	if err := a.Send([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if got := next(t, b); got != "hello" {
		t.Errorf("the first message after the return is %q: what was sent while the server was away must not come late", got)
	}
	reads(t, b, mustSwap(t, b, owner, "b"), "b")
}

func late(t *testing.T, r Rig) {
	r.Stop()
	e, err := r.Dialer.Dial()
	if err != nil {
		t.Fatalf("Dial without a server: %v", err)
	}
	t.Cleanup(e.Close)
	topic, err := e.Join(key())
	if err != nil {
		t.Fatalf("Join without a server: %v", err)
	}
	t.Cleanup(topic.Close)
	if e.Up() {
		t.Error("up without a server")
	}
	r.Start()
	eventually(t, "the server is there", e.Up)
	resync(t, topic)
	mustPut(t, topic, mustSwap(t, topic, 0, "a"), []byte("x"))
	holds(t, topic, []byte("x"))
}

func deadline(t *testing.T, r Rig) {
	a := join(t, node(t, r), key())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := a.Owner(ctx); err == nil {
		t.Error("Owner with a context that has ended: no error")
	}
	if _, err := a.Swap(ctx, 0, []byte("a")); err == nil {
		t.Error("Swap with a context that has ended: no error")
	}
	if err := a.Put(ctx, 1, []byte("a")); err == nil || errors.Is(err, cluster.ErrConflict) {
		t.Errorf("Put with a context that has ended: %v", err)
	}
}
