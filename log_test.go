package pollsse

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
	"time"

	"github.com/pollsse/caddy-poll-sse/jsondiff"
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
			frame, next, ended, _ := l.after(r.cursor, r.enc)
			r.cursor = next
			if ended {
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
			if bound := l.frameBound(); l.frameSize > bound {
				t.Fatalf("remembered frames hold %d bytes, the bound is %d", l.frameSize, bound)
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
				readers[rng.IntN(len(readers))] = fresh()
			case 6:
				l.mergeReaders.Store(int32(rng.IntN(2)))
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
			if frame, _, _, _ := l.after(r.cursor, r.enc); len(frame) != 0 {
				t.Fatalf("a reader at the head gets %q", frame)
			}
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
	publish(1)
	_, at, _, _ := l.after(cursor{}, enc)
	publish(2)
	a, _, _, _ := l.after(at, enc)
	b, _, _, _ := l.after(at, enc)
	if len(a) == 0 || &a[0] != &b[0] {
		t.Fatal("two readers at one place got frames of their own")
	}
	kept := string(a)
	for n := range 20 {
		publish(n + 3)
		l.after(at, enc)
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
	for n := range 3000 {
		doc, c, err := d.next([]byte(doc(n)), true)
		if err != nil {
			t.Fatal(err)
		}
		l.publish(publication{state: stateLive, doc: doc, change: c, at: time.Unix(int64(n), 0)})
		for i := range 20 {
			l.after(cursor{pos: uint64(max(1, n-i*3))}, enc)
			l.after(cursor{resume: version(nil, fmt.Append(nil, i))}, enc)
		}
		if size := 2 * len(doc.text); l.changeSize > size {
			t.Fatalf("%d bytes of changes for a document of %d", l.changeSize, len(doc.text))
		}
		if l.frameSize > l.frameBound() {
			t.Fatalf("%d bytes of frames, bound %d", l.frameSize, l.frameBound())
		}
	}
}
