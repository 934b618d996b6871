package member

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"reflect"
	"runtime/metrics"
	"strings"
	"testing"
	"time"

	"github.com/pollsse/caddy-poll-sse/cluster"
	"github.com/pollsse/caddy-poll-sse/cluster/clustertest"
)

// envelopes are examples of what nodes write.
func envelopes() []*envelope {
	now := time.Now()
	s := State{ID: "v1", State: live, Since: now.Add(-time.Hour), Validated: now, Next: now.Add(time.Second), Every: time.Second, Resume: json.RawMessage(`{"a":1}`)}
	refused := State{State: denied, Status: 401, Challenge: "Basic", Since: now}
	late := State{ID: "v1", State: stale, Reason: late, Since: now, NoStore: true, Took: time.Second}
	packed, _ := newPacker().pack([]byte("a text"), nil)
	next, _ := newPacker().pack([]byte("a text, and more"), []byte("a text"))
	return []*envelope{
		{Kind: kindAsk, Nonce: "NONCE"}, {Kind: kindAsk, WantText: true}, {Kind: kindPoke}, {Kind: kindOwner, Revision: 2},
		{Kind: kindOwner, Revision: 2, Free: true, State: s.wire(now)}, {Kind: kindRecord, Free: true, State: s.wire(now)},
		{Kind: kindState, Revision: 1, Sequence: 2, State: s.wire(now), Text: full, Size: 6, bytes: packed, Nonces: []string{"NONCE"}},
		{Kind: kindState, Revision: 1, Sequence: 3, State: s.wire(now), Text: delta, Base: "v0", Size: 16, bytes: next},
		{Kind: kindState, Revision: 1, State: refused.wire(now)}, {Kind: kindState, Revision: 1, State: late.wire(now), Unpolled: true},
		{Kind: kindDocument, State: s.wire(now), Text: full, Size: 6, bytes: packed},
		{Kind: kindBeat, beat: beat{Beat: 3, Round: 2, Hosts: map[string]int{"host": 2}}, bytes: entry{mark: mark{1, 2}, next: now, every: time.Second, validated: now}.append(nil, subject(nil, []byte("key")), now)},
		{Kind: kindBeat, beat: beat{Bye: true}},
	}
}

// allocated is how many bytes run allocates, or anything else meanwhile.
func allocated(run func()) uint64 {
	count := []metrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	metrics.Read(count)
	before := count[0].Value.Uint64()
	run()
	metrics.Read(count)
	return count[0].Value.Uint64() - before
}

// mayAllocate is what reading so many bytes may allocate: a message may not
// make a node take memory out of all proportion.
func mayAllocate(size int) uint64 { return 4<<20 + 300*uint64(size) }

// FuzzDecode: what is read is what was written, and times stay within bounds.
func FuzzDecode(f *testing.F) {
	for _, e := range envelopes() {
		e.Node, e.From = "node", "node/1"
		f.Add(e.encode())
	}
	next := int64(-5)
	f.Add((&envelope{Kind: kindState, State: &wireState{State: live, Next: &next}}).encode())
	f.Add((&envelope{Kind: kindState, State: &wireState{State: "live\"\n"}}).encode())
	f.Add((&envelope{Kind: kindState, State: &wireState{State: stale, Reason: "\x00"}}).encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		var e *envelope
		var err error
		if n := allocated(func() { e, err = decode(b) }); n > mayAllocate(len(b)) {
			t.Errorf("%d bytes allocate %d", len(b), n)
		}
		if err != nil {
			return
		}
		written := e.encode()
		again, err := decode(written)
		if err != nil {
			t.Fatalf("%q is written as %q: %v", b, written, err)
		}
		if got := again.encode(); !bytes.Equal(got, written) {
			t.Fatalf("%q is read, and then written as %q", written, got)
		}
		if e.State == nil {
			return
		}
		if strings.ContainsAny(e.State.State+e.State.Reason, "\"\n\r \x00") {
			t.Errorf("%q %q would be sent to clients", e.State.State, e.State.Reason)
		}
		now := time.Now()
		s := e.State.state(now)
		stored := e.State.stored(now)
		for _, at := range []time.Time{s.Since, s.Validated, s.Next, stored.Since, stored.Validated, stored.Next} {
			const years = 3 * 366 * 24 * time.Hour
			if !at.IsZero() && (at.Sub(now) > years || now.Sub(at) > years) {
				t.Errorf("%+v has a time of %s", e.State, at)
			}
		}
		if got := s.wire(now).state(now); !reflect.DeepEqual(got, s) {
			t.Errorf("%+v comes back as %+v", s, got)
		}
	})
}

// FuzzEntry: what a beat tells of a document is read as it was written.
func FuzzEntry(f *testing.F) {
	for _, e := range envelopes() {
		f.Add(e.bytes)
	}
	now := time.Now()
	f.Add(entry{next: now.Add(-5 * time.Millisecond)}.append(nil, subject(nil, []byte("key")), now))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < entrySize {
			return
		}
		now := time.Now()
		key, e := parseEntry(b, now)
		written := e.append(nil, key, now)
		if len(written) != entrySize {
			t.Fatalf("an entry has %d bytes", len(written))
		}
		if gotKey, got := parseEntry(written, now); gotKey != key || !reflect.DeepEqual(got, e) {
			t.Errorf("%s %+v comes back as %s %+v", key, e, gotKey, got)
		}
	})
}

// FuzzPack: a text comes back, from what is small also if it is long.
func FuzzPack(f *testing.F) {
	f.Add([]byte("a text"), []byte(nil), uint32(0))
	f.Add([]byte("a text, and more"), []byte("a text"), uint32(0))
	f.Add([]byte("a"), []byte("a text"), uint32(3<<20))
	f.Add([]byte("[]"), []byte(nil), uint32(3<<20))
	p := newPacker()
	f.Fuzz(func(t *testing.T, text, base []byte, repeat uint32) {
		if n := int(repeat % (4 << 20)); len(text) > 0 && n > len(text) {
			text = bytes.Repeat(text, n/len(text))
		}
		packed, err := p.pack(text, base)
		if err != nil {
			t.Fatal(err)
		}
		got, err := p.unpack(packed, base, int64(len(text)), int64(len(text)))
		if err != nil || !bytes.Equal(got, text) {
			t.Errorf("%d bytes come back as %d: %v", len(text), len(got), err)
		}
		if _, err := p.unpack(packed, base, int64(len(text))+1, int64(len(text))+1); err == nil {
			t.Error("a text is taken for a longer one")
		}
		if len(text) > 0 {
			if _, err := p.unpack(packed, base, int64(len(text))-1, int64(len(text))); err == nil {
				t.Error("a text is taken for a shorter one")
			}
		}
	})
}

// FuzzUnpack: bytes that are no text take no more memory than they are worth.
func FuzzUnpack(f *testing.F) {
	p := newPacker()
	for _, base := range [][]byte{nil, []byte("a text")} {
		packed, _ := p.pack([]byte("a text, and more"), base)
		f.Add(packed, base, int64(16))
		f.Add(packed, base, int64(1<<40))
		f.Add(packed, base, int64(200<<20))
	}
	f.Fuzz(func(t *testing.T, packed, base []byte, size int64) {
		var text []byte
		var err error
		if n := allocated(func() { text, err = p.unpack(packed, base, size, 256<<20) }); n > mayAllocate(len(packed)+len(base)) {
			t.Errorf("%d bytes that follow on %d allocate %d", len(packed), len(base), n)
		}
		if err == nil && int64(len(text)) != size {
			t.Errorf("%d bytes are taken for %d", len(text), size)
		}
	})
}

// FuzzSeal: only what was sealed for this place and subject is opened.
func FuzzSeal(f *testing.F) {
	here := newSeal([]byte("a secret of the cluster"), subject(nil, []byte("here")))
	elsewhere := newSeal([]byte("a secret of the cluster"), subject(nil, []byte("elsewhere")))
	for _, e := range envelopes() {
		f.Add(here.close(placeMessage, e), uint16(0))
		f.Add(e.encode(), uint16(20))
	}
	f.Fuzz(func(t *testing.T, b []byte, at uint16) {
		// The fuzzer cannot know a tag: what it makes up is never opened, but
		// for its examples.
		if e, err := here.open(placeMessage, b); err == nil {
			b = e.encode()
		}
		e, err := decode(b)
		if err != nil {
			return
		}
		sealed := here.close(placeMessage, e)
		if opened, err := here.open(placeMessage, sealed); err != nil || !bytes.Equal(opened.encode(), e.encode()) {
			t.Errorf("%q comes back as %+v: %v", b, opened, err)
		}
		if _, err := here.open(placeRecord, sealed); err == nil {
			t.Error("a message is taken for a record")
		}
		if _, err := elsewhere.open(placeMessage, sealed); err == nil {
			t.Error("one document's message is taken for another's")
		}
		sealed[int(at)%len(sealed)] ^= 1
		if _, err := here.open(placeMessage, sealed); err == nil {
			t.Errorf("byte %d was changed, and nothing noticed", int(at)%len(sealed))
		}
	})
}

// keeper is a Source that shows everything.
type keeper struct {
	id   string
	text []byte
}

func (k *keeper) Poll(ctx context.Context, _ Handover, _ *Turn) { <-ctx.Done() }
func (k *keeper) Document() (string, []byte)                    { return k.id, k.text }
func (k *keeper) MaxBody() int64                                { return 256 << 20 }
func (k *keeper) Show(s State, text []byte) error {
	if text != nil {
		k.id, k.text = s.ID, text
	}
	if s.denied() {
		k.id, k.text = "", nil
	}
	return nil
}

// FuzzHear: whatever others send or store, a node goes on, and keeps little of
// it.
func FuzzHear(f *testing.F) {
	p := newPacker()
	for i, e := range envelopes() {
		e.Node, e.From = "node", "node/1"
		for role := range 3 {
			f.Add(e.encode(), envelopes()[(i+1)%len(envelopes())].encode(), uint8(role))
		}
	}
	f.Fuzz(func(t *testing.T, first, second []byte, role uint8) {
		s := clustertest.NewServer()
		n, err := NewNode(s.Connect(), Settings{Lease: time.Minute}, slog.New(slog.NewTextHandler(io.Discard, nil)))
		if err != nil {
			t.Fatal(err)
		}
		n.packer = p
		m := n.Member([]byte("key"), "host", &keeper{id: "v0", text: []byte("a text")}, nil)
		m.topic, err = s.Connect().Join(m.seal.subject)
		if err != nil {
			t.Fatal(err)
		}
		ctx := t.Context()
		used := allocated(func() {
			for _, b := range [][]byte{first, second} {
				if e, err := n.seal.open(placeMessage, b); err == nil {
					n.hear(e)
				}
				e := m.receive(cluster.Message{Data: b})
				if e == nil {
					continue
				}
				switch role % 3 {
				case 0:
					following := &following{Member: m, owned: true}
					m.revision = 1
					following.hear(e)
					following.audit()
					if !following.fetch.IsZero() {
						_, _, _ = m.readDocument(ctx)
					}
				case 1:
					m.polls = &polls{poke: make(chan struct{}, 1)}
					owning := &owning{Member: m, nonces: make(map[string]time.Time)}
					owning.hear(ctx, e)
					owning.say(nil, true)
				case 2:
					solitude := &solitude{Member: m, returns: true, nonce: "NONCE"}
					solitude.hear(e)
				}
			}
			// As if they were stored.
			_, _ = m.topic.Swap(ctx, 0, first)
			revision, _, _ := m.topic.Owner(ctx)
			_ = m.topic.Put(ctx, revision, second)
			_, _ = m.readOwner(ctx)
			_, _, _ = m.readDocument(ctx)
		})
		if used > mayAllocate(len(first)+len(second)) {
			t.Errorf("%d and %d bytes allocate %d", len(first), len(second), used)
		}
		m.topic.Close()
		n.Close()
	})
}
