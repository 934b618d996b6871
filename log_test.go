package pollsse

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"
)

// randomDocument makes a document from a small space, so that versions recur.
func randomDocument(rng *rand.Rand) string {
	switch rng.IntN(12) {
	case 0:
		return []string{`null`, `{}`, `[]`, `0`, `""`, `false`}[rng.IntN(6)]
	case 1, 2:
		b := `[`
		for i := range rng.IntN(12) {
			if i > 0 {
				b += ","
			}
			b += fmt.Sprintf(`{"id":%d,"p":%q}`, rng.IntN(6), filler[:rng.IntN(30)])
		}
		return b + `]`
	}
	b := fmt.Sprintf(`{"filler":%q`, filler)
	for i := range 5 {
		switch rng.IntN(6) {
		case 0:
			b += fmt.Sprintf(`,"k%d":null`, i)
		case 1:
			b += fmt.Sprintf(`,"k%d/~":[%d,[null],"\u000a\r"]`, i, rng.IntN(3))
		case 2, 3:
			b += fmt.Sprintf(`,"k%d":{"x":%d}`, i, rng.IntN(3))
		case 4:
			b += fmt.Sprintf(`,"k%d":1.%d0`, i, rng.IntN(2))
		}
	}
	return b + `}`
}

// reader is one simulated client of a log.
type reader struct {
	enc    encoding
	from   *rendition
	cursor cursor
	parser sseParser
	page   replica
}

// TestModel publishes at random and lets readers of every format read at
// random moments, lag, leave and return with the id of any version. At each
// step, what a page has made of its events is the very document that was
// published under the id that it saw last.
func TestModel(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rounds := 60
	if testing.Short() {
		rounds = 10
	}
	for round := range rounds {
		rng := rand.New(rand.NewPCG(seed, uint64(round)))
		l := newLog(rng.IntN(12), time.Unix(0, 0))
		d := newDiffer(nil, filter{})
		published := map[string]string{}
		var order []string
		encodings := []encoding{
			{formatPatch, kindSnapshot, kindPatch, kindMerge, kindStatus},
			{formatMerge, kindSnapshot, kindPatch, kindMerge, kindStatus},
			{formatSnapshot, kindSnapshot, kindPatch, kindMerge, kindStatus},
		}
		fresh := func() *reader {
			r := &reader{enc: encodings[rng.IntN(len(encodings))]}
			r.page.t = t
			r.from = l.join(renditionKey{enc: r.enc, heartbeat: time.Hour})
			if len(order) > 0 && rng.IntN(2) == 0 {
				// A page that knew a version when it left.
				id := order[rng.IntN(len(order))]
				r.cursor.resume, r.parser.id, r.parser.lastID = id, id, id
				r.page.doc, r.page.id, r.page.has = decodeJSON(t, published[id]), id, true
			}
			return r
		}
		readers := []*reader{fresh(), fresh(), fresh()}
		read := func(r *reader) {
			b, next, tail := r.from.after(r.cursor)
			frame := b.payload()
			r.cursor = next
			if tail.ended {
				t.Fatalf("round %d: ended without a denial", round)
			}
			r.page.apply(r.parser.parse(t, frame)...)
			if r.page.has && r.page.id != "" {
				want, ok := published[r.page.id]
				if !ok {
					t.Fatalf("round %d: the id %q was never published", round, r.page.id)
				}
				if got := canonical(r.page.doc); got != canonical(decodeJSON(t, want)) {
					t.Fatalf("seed %d, round %d, format %s: at %s a page has %s, published was %s; last frame %q", seed, round, r.enc.format, r.page.id, got, want, frame)
				}
			}
			if l.doc != nil && r.page.id != l.doc.id {
				t.Fatalf("seed %d, round %d: a reader at the head has %q, the log %q", seed, round, r.page.id, l.doc.id)
			}
			size := 0
			if l.doc != nil {
				size = len(l.doc.text)
			}
			if most := r.from.forwardBound() + 2*size + 64<<10; r.from.forwardSize > most {
				t.Fatalf("remembered blocks hold %d bytes, at most %d", r.from.forwardSize, most)
			}
		}
		l.mergeReaders.Store(int32(rng.IntN(2)))
		for step := range 150 {
			switch rng.IntN(10) {
			case 0:
				l.publish(publication{state: stateStale, reason: reasonStatus + strconv.Itoa(rng.IntN(2)), at: time.Unix(int64(step), 0)})
			case 1, 2, 3, 4:
				doc, c, err := d.next([]byte(randomDocument(rng)), l.mergeReaders.Load() > 0)
				if err != nil {
					t.Fatal(err)
				}
				if doc != nil {
					if was, ok := published[doc.id]; ok && was != string(doc.text) && canonical(decodeJSON(t, was)) != canonical(decodeJSON(t, string(doc.text))) {
						t.Fatalf("%s and %s share the id %s", was, doc.text, doc.id)
					}
					published[doc.id] = string(doc.text)
					order = append(order, doc.id)
				}
				l.publish(publication{state: stateLive, doc: doc, change: c, validated: true, at: time.Unix(int64(step), 0)})
			case 5:
				i := rng.IntN(len(readers))
				readers[i].from.leave()
				readers[i] = fresh()
			default:
				read(readers[rng.IntN(len(readers))])
			}
			size := 0
			for _, c := range l.changes {
				size += len(c.patch) + len(c.merge)
			}
			if size != l.changeSize || len(l.changes) > max(1, l.limit) {
				t.Fatalf("the log holds %d changes of %d bytes, counts %d, keeps at most %d", len(l.changes), size, l.changeSize, l.limit)
			}
		}
		for _, r := range readers {
			read(r)
			if b, _, _ := r.from.after(r.cursor); len(b.framed) != 0 {
				t.Fatalf("a reader at the head gets %q", b.framed)
			}
			r.from.leave()
		}
	}
}

// TestFramesAreMadeOnce: readers at one place share one frame, and its bytes
// are never written again.
func TestFramesAreMadeOnce(t *testing.T) {
	l, d := newLog(10, time.Unix(0, 0)), newDiffer(nil, filter{})
	publish := func(n int) {
		doc, c, err := d.next([]byte(doc(n)), false)
		if err != nil {
			t.Fatal(err)
		}
		l.publish(publication{state: stateLive, doc: doc, change: c, at: time.Unix(int64(n), 0)})
	}
	enc := encoding{formatPatch, kindSnapshot, kindPatch, kindMerge, kindStatus}
	r := l.join(renditionKey{enc: enc, heartbeat: time.Hour})
	defer r.leave()
	publish(1)
	_, at, _ := r.after(cursor{})
	publish(2)
	first, _, _ := r.after(at)
	second, _, _ := r.after(at)
	a, b := first.framed, second.framed
	if len(a) == 0 || &a[0] != &b[0] {
		t.Fatal("two readers at one place got frames of their own")
	}
	kept := string(a)
	for n := range 20 {
		publish(n + 3)
		r.after(at)
	}
	if string(a) != kept {
		t.Errorf("a frame was written again: %q, was %q", a, kept)
	}
}

// TestLogMemory: neither changes nor frames grow with time, with the number of
// readers or with where they stand.
func TestLogMemory(t *testing.T) {
	l, d := newLog(100_000, time.Unix(0, 0)), newDiffer(nil, filter{})
	enc := encoding{formatPatch, kindSnapshot, kindPatch, kindMerge, kindStatus}
	r := l.join(renditionKey{enc: enc, heartbeat: time.Hour})
	defer r.leave()
	for n := range 3000 {
		doc, c, err := d.next([]byte(doc(n)), true)
		if err != nil {
			t.Fatal(err)
		}
		l.publish(publication{state: stateLive, doc: doc, change: c, at: time.Unix(int64(n), 0)})
		for i := range 20 {
			r.after(cursor{seq: 1, pos: uint64(max(1, n-i*3))})
			r.after(cursor{resume: version(nil, fmt.Append(nil, i))})
		}
		if size := 2 * len(doc.text); l.changeSize > size {
			t.Fatalf("%d bytes of changes for a document of %d", l.changeSize, len(doc.text))
		}
		if most := r.forwardBound() + 2*len(doc.text) + 1<<10; r.forwardSize > most {
			t.Fatalf("%d bytes of blocks, at most %d", r.forwardSize, most)
		}
	}
}
