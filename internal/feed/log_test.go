package feed

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/pollsse/caddy-poll-sse/internal/judge"
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
	format string
	from   *Rendition
	cursor Cursor
	page   judge.Page
}

// events are the blocks of whole events.
func events(t *testing.T, b []byte) []judge.Event {
	t.Helper()
	var all []judge.Event
	for r := judge.NewReader(bytes.NewReader(b)); ; {
		e, err := r.Next()
		if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return all
		}
		if err != nil {
			t.Fatalf("%v in %q", err, b)
		}
		all = append(all, e)
	}
}

// parse parses JSON that is part of a test.
func parse(t *testing.T, text string) any {
	t.Helper()
	v, err := judge.Parse([]byte(text))
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return v
}

// poller makes of bodies what a poller publishes.
type poller struct {
	differ  *jsondiff.Differ
	current []byte
}

func newPoller() *poller { return &poller{differ: jsondiff.NewDiffer(jsondiff.Options{})} }

// update returns no document if the body says nothing new, and an error if it is
// not JSON.
func (p *poller) update(body []byte, merge bool) (*Document, Change, error) {
	result, err := p.differ.Next(bytes.Clone(body))
	if err != nil || result.Kind == jsondiff.Unchanged {
		return nil, Change{}, err
	}
	text := p.differ.Document()
	doc := &Document{ID: Version(nil, text), Text: text}
	c := Change{ID: doc.ID}
	if p.current != nil && len(result.Patch) < len(text) {
		c.Patch = result.Patch
		if merge {
			c.Merge, _ = jsondiff.MergeDiff(p.current, text) // nil if it cannot say it
		}
	}
	p.current = text
	return doc, c, nil
}

// filler makes documents large enough that a patch is smaller.
var filler = strings.Repeat("0123456789", 30)

func counter(n int) []byte { return fmt.Appendf(nil, `{"n":%d,"filler":%q}`, n, filler) }

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
		l := New(rng.IntN(12), time.Unix(0, 0))
		d := newPoller()
		published := map[string]string{}
		var order []string
		formats := []string{FormatPatch, FormatMerge, FormatSnapshot}
		fresh := func() *reader {
			r := &reader{format: formats[rng.IntN(len(formats))]}
			r.from = l.Join(Key{Format: r.format, Names: testNames, Heartbeat: time.Hour})
			if len(order) > 0 && rng.IntN(2) == 0 {
				// A page that knew a version when it left.
				id := order[rng.IntN(len(order))]
				r.cursor.Resume = id
				r.page = judge.Page{Doc: parse(t, published[id]), ID: id}
			}
			return r
		}
		readers := []*reader{fresh(), fresh(), fresh()}
		read := func(r *reader) {
			b, next, newest := r.from.After(r.cursor)
			r.cursor = next
			if newest.Ended {
				t.Fatalf("round %d: ended without a denial", round)
			}
			for _, e := range events(t, b.Payload()) {
				if err := r.page.Apply(e); err != nil {
					t.Fatalf("seed %d, round %d, format %s: %v", seed, round, r.format, err)
				}
			}
			if r.page.ID != "" {
				want, ok := published[r.page.ID]
				if !ok {
					t.Fatalf("round %d: the id %q was never published", round, r.page.ID)
				}
				if !judge.Equal(r.page.Doc, parse(t, want)) {
					t.Fatalf("seed %d, round %d, format %s: at %s a page has %v, published was %s; last block %q", seed, round, r.format, r.page.ID, r.page.Doc, want, b.Payload())
				}
			}
			if l.doc != nil && r.page.ID != l.doc.ID {
				t.Fatalf("seed %d, round %d: a reader of the newest block has %q, the log %q", seed, round, r.page.ID, l.doc.ID)
			}
			size := 0
			if l.doc != nil {
				size = len(l.doc.Text)
			}
			if most := r.from.catchUpBound() + 2*size + 64<<10; r.from.catchUpSize > most {
				t.Fatalf("blocks for readers that catch up hold %d bytes, at most %d", r.from.catchUpSize, most)
			}
		}
		l.mergeReaders.Store(int32(rng.IntN(2)))
		for step := range 150 {
			switch rng.IntN(10) {
			case 0:
				l.Publish(Publication{State: Stale, Reason: "status" + strconv.Itoa(rng.IntN(2)), At: time.Unix(int64(step), 0)})
			case 1, 2, 3, 4:
				doc, c, err := d.update([]byte(randomDocument(rng)), l.mergeReaders.Load() > 0)
				if err != nil {
					t.Fatal(err)
				}
				if doc != nil {
					if was, ok := published[doc.ID]; ok && was != string(doc.Text) && !judge.Equal(parse(t, was), parse(t, string(doc.Text))) {
						t.Fatalf("%s and %s share the id %s", was, doc.Text, doc.ID)
					}
					published[doc.ID] = string(doc.Text)
					order = append(order, doc.ID)
				}
				l.Publish(Publication{State: Live, Document: doc, Change: c, Validated: true, At: time.Unix(int64(step), 0)})
			case 5:
				i := rng.IntN(len(readers))
				readers[i].from.Leave()
				readers[i] = fresh()
			default:
				read(readers[rng.IntN(len(readers))])
			}
			size := 0
			for _, c := range l.changes {
				size += len(c.Patch) + len(c.Merge)
			}
			if size != l.changeSize || len(l.changes) > max(1, l.history) {
				t.Fatalf("the log holds %d changes of %d bytes, counts %d, keeps at most %d", len(l.changes), size, l.changeSize, l.history)
			}
		}
		for _, r := range readers {
			read(r)
			if b, _, _ := r.from.After(r.cursor); len(b.framed) != 0 {
				t.Fatalf("a reader of the newest block gets %q", b.framed)
			}
			r.from.Leave()
		}
	}
}

// TestFramesAreMadeOnce: readers at one place share one frame, and its bytes
// are never written again.
func TestFramesAreMadeOnce(t *testing.T) {
	l, d := New(10, time.Unix(0, 0)), newPoller()
	publish := func(n int) {
		doc, c, err := d.update(counter(n), false)
		if err != nil {
			t.Fatal(err)
		}
		l.Publish(Publication{State: Live, Document: doc, Change: c, At: time.Unix(int64(n), 0)})
	}
	r := l.Join(Key{Format: FormatPatch, Names: testNames, Heartbeat: time.Hour})
	defer r.Leave()
	publish(1)
	_, at, _ := r.After(Cursor{})
	publish(2)
	first, _, _ := r.After(at)
	second, _, _ := r.After(at)
	a, b := first.framed, second.framed
	if len(a) == 0 || &a[0] != &b[0] {
		t.Fatal("two readers at one place got frames of their own")
	}
	kept := string(a)
	for n := range 20 {
		publish(n + 3)
		r.After(at)
	}
	if string(a) != kept {
		t.Errorf("a frame was written again: %q, was %q", a, kept)
	}
}

// TestLogMemory: neither changes nor frames grow with time, with the number of
// readers or with where they stand.
func TestLogMemory(t *testing.T) {
	l, d := New(100_000, time.Unix(0, 0)), newPoller()
	r := l.Join(Key{Format: FormatPatch, Names: testNames, Heartbeat: time.Hour})
	defer r.Leave()
	for n := range 3000 {
		doc, c, err := d.update(counter(n), true)
		if err != nil {
			t.Fatal(err)
		}
		l.Publish(Publication{State: Live, Document: doc, Change: c, At: time.Unix(int64(n), 0)})
		for i := range 20 {
			r.After(Cursor{seq: 1, pos: uint64(max(1, n-i*3))})
			r.After(Cursor{Resume: Version(nil, fmt.Append(nil, i))})
		}
		if size := 2 * len(doc.Text); l.changeSize > size {
			t.Fatalf("%d bytes of changes for a document of %d", l.changeSize, len(doc.Text))
		}
		if most := r.catchUpBound() + 2*len(doc.Text) + 1<<10; r.catchUpSize > most {
			t.Fatalf("%d bytes of blocks, at most %d", r.catchUpSize, most)
		}
	}
}
