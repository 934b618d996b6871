package jsondiff

import (
	"encoding/json"
	"flag"
	"math/rand/v2"
	"strconv"
	"testing"

	"github.com/pollsse/caddy-poll-sse/internal/judge"
)

// checkPatch fails the test if a patch does not lead from old to new, by the
// word of a witness that shares no code with the package.
func checkPatch(t testing.TB, old, new, patch []byte) {
	t.Helper()
	doc, err := judge.Parse(old)
	if err != nil {
		t.Fatalf("decoding %s: %v", old, err)
	}
	page := judge.Page{Doc: doc, ID: "old"}
	if string(patch) != "[]" {
		err = page.Apply(judge.Event{Name: "patch", ID: "new", Data: string(patch)})
	}
	if err != nil || !says(t, page.Doc, new) {
		t.Fatalf("old   %s\nnew   %s\npatch %s\ngot   %v, %v", old, new, patch, page.Doc, err)
	}
	if len(patch) > compactLen(new)+len(`[{"op":"replace","path":"","value":}]`) {
		t.Fatalf("old   %s\nnew   %s\npatch %s\nis larger than the document", old, new, patch)
	}
}

// says tells whether a text says the value v.
func says(t testing.TB, v any, text []byte) bool {
	want, err := judge.Parse(text)
	if err != nil {
		t.Fatalf("decoding %s: %v", text, err)
	}
	return judge.Equal(v, want)
}

// randomJSON writes random documents and random edits of them.
type randomJSON struct {
	*rand.Rand
	spaces     bool
	duplicates bool
}

// node is a document that can be edited and written in many spellings.
type testNode struct {
	kind  byte // '{', '[', or 0
	text  string
	names []string
	items []*testNode
}

var testNames = []string{"a", "b", "c", "id", "name", "a/b", "~", "~1", "ü", "日本", `q\"`, `\u0041`, "A", `\/`, "0", "-", "", "*", `\ud83d`, `\ud83d\ude00`, "😀", `\n`, "\u2028"}

var testScalars = []string{"0", "-0", "1", "1.0", "1e0", "12345678901234567890", "0.1000", "1E400", "-1.5e-7", "true", "false", "null", `""`, `"A"`, `"\u0041"`, `"a"`, `"b"`, `"\\"`, `"\/"`, `"/"`, `"ü"`, `"\u00fc"`, `"😀"`, `"\ud83d\ude00"`, `"\""`, `"long enough to be worth a move, or nearly so"`, "[]", "{}"}

func (r *randomJSON) node(depth int) *testNode {
	n := &testNode{}
	switch k := r.IntN(10); {
	case depth == 0 || k < 4:
		if n.text = testScalars[r.IntN(len(testScalars))]; n.text == "[]" || n.text == "{}" {
			n.kind, n.text = n.text[0], ""
		} else if r.IntN(4) == 0 {
			n.text = strconv.Itoa(r.IntN(1000))
		}
	case k < 7:
		n.kind = '['
		count := r.IntN(6)
		if r.IntN(8) == 0 {
			count = r.IntN(60)
		}
		keyed := r.IntN(2) == 0
		for i := range count {
			item := r.node(depth - 1)
			if keyed {
				item = &testNode{kind: '{', names: []string{"id", "v"}, items: []*testNode{{text: strconv.Itoa(i)}, item}}
				if r.IntN(3) == 0 {
					item.names[0], item.names[1] = item.names[1], item.names[0]
					item.items[0], item.items[1] = item.items[1], item.items[0]
				}
			}
			n.items = append(n.items, item)
		}
	default:
		n.kind = '{'
		count := r.IntN(6)
		if r.IntN(20) == 0 {
			count = r.IntN(60)
		}
		for i := range count {
			name := testNames[r.IntN(len(testNames))]
			if count > 10 {
				name += strconv.Itoa(i)
			}
			n.names = append(n.names, name)
			n.items = append(n.items, r.node(depth-1))
		}
		if !r.duplicates {
			n.dedupe()
		}
	}
	return n
}

func (n *testNode) dedupe() {
	seen := map[string]bool{}
	names, items := n.names[:0], n.items[:0]
	for i, name := range n.names {
		var s string
		json.Unmarshal([]byte(`"`+name+`"`), &s)
		if !seen[s] {
			seen[s] = true
			names, items = append(names, name), append(items, n.items[i])
		}
	}
	n.names, n.items = names, items
}

func (n *testNode) clone() *testNode {
	c := *n
	c.names = append([]string(nil), n.names...)
	c.items = nil
	for _, item := range n.items {
		c.items = append(c.items, item.clone())
	}
	return &c
}

// edit changes something somewhere.
func (r *randomJSON) edit(n *testNode) {
	for n.kind != 0 && len(n.items) > 0 && r.IntN(3) > 0 {
		n = n.items[r.IntN(len(n.items))]
	}
	if n.kind == 0 || len(n.items) == 0 {
		*n = *r.node(2)
		return
	}
	i, j := r.IntN(len(n.items)), r.IntN(len(n.items))
	swap := func(i, j int) {
		n.items[i], n.items[j] = n.items[j], n.items[i]
		if n.kind == '{' {
			n.names[i], n.names[j] = n.names[j], n.names[i]
		}
	}
	switch r.IntN(9) {
	case 0: // remove
		swap(i, len(n.items)-1)
		n.items = n.items[:len(n.items)-1]
		if n.kind == '{' {
			n.names = n.names[:len(n.items)]
		}
	case 1, 2: // insert
		n.items = append(n.items[:i:i], append([]*testNode{r.node(2)}, n.items[i:]...)...)
		if n.kind == '{' {
			n.names = append(n.names[:i:i], append([]string{testNames[r.IntN(len(testNames))]}, n.names[i:]...)...)
			if !r.duplicates {
				n.dedupe()
			}
		}
	case 3:
		swap(i, j)
	case 4:
		r.Shuffle(len(n.items), swap)
	case 5: // rotate
		n.items = append(append([]*testNode(nil), n.items[i:]...), n.items[:i]...)
		if n.kind == '{' {
			n.names = append(append([]string(nil), n.names[i:]...), n.names[:i]...)
		}
	case 6: // drop the head, append at the tail
		if n.kind == '[' {
			n.items = append(n.items[1:len(n.items):len(n.items)], r.node(2))
		}
	case 7: // remove in the middle, keeping the order
		if n.kind == '[' {
			n.items = append(n.items[:i:i], n.items[i+1:]...)
		}
	case 8:
		n.items[i] = n.items[j].clone()
	}
}

func (r *randomJSON) write(b []byte, n *testNode) []byte {
	space := func() {
		if r.spaces && r.IntN(4) == 0 {
			b = append(b, []string{" ", "\n", "\t", "\r\n  "}[r.IntN(4)]...)
		}
	}
	space()
	if n.kind == 0 {
		b = append(b, n.text...)
	} else {
		b = append(b, n.kind)
		for i, item := range n.items {
			if i > 0 {
				b = append(b, ',')
			}
			if n.kind == '{' {
				space()
				b = append(append(append(b, '"'), n.names[i]...), '"')
				space()
				b = append(b, ':')
			}
			b = r.write(b, item)
		}
		space()
		b = append(b, n.kind+2)
	}
	space()
	return b
}

var randomPairs = flag.Int("pairs", 100_000, "how many pairs of documents TestRandom compares")

// TestRandom compares chains of random documents, each an edit of the one
// before, and holds every patch and every retained state against a witness.
func TestRandom(t *testing.T) {
	pairs := *randomPairs
	if testing.Short() || raceEnabled {
		pairs = 5_000
	}
	const chain = 10
	for c := range pairs / chain {
		r := &randomJSON{Rand: rand.New(rand.NewPCG(uint64(c), 3)), spaces: c%3 == 0, duplicates: c%5 == 0}
		d := NewDiffer(Options{})
		d.always = c%4 == 0
		doc := r.node(4)
		old := r.write(nil, doc)
		if _, err := d.Next(old); err != nil {
			t.Fatalf("%s: %v", old, err)
		}
		for range chain {
			if r.IntN(20) == 0 {
				doc = r.node(4)
			}
			for range 1 + r.IntN(4) {
				r.edit(doc)
			}
			text := r.write(nil, doc)
			before := append([]byte(nil), d.Document()...)
			change, err := d.Next(text)
			if err != nil {
				t.Fatalf("old %s\nnew %s\n%v", old, text, err)
			}
			patch := change.Patch
			if change.Kind == Unchanged {
				patch = []byte("[]")
			} else if string(patch) == "[]" {
				t.Fatalf("old %s\nnew %s\nchanged without a change", old, text)
			}
			checkPatch(t, before, text, patch)
			checkState(t, d, text)
			old = text
		}
	}
}

// tape is the retained one.
func (d *Differ) tape() tape {
	if d.packed != nil {
		return unpackTape(nil, d.packed)
	}
	return d.base.tape
}

// checkState holds the retained tape against one parsed anew.
func checkState(t testing.TB, d *Differ, text []byte) {
	t.Helper()
	fresh, err := parse(text)
	if err != nil {
		t.Fatal(err)
	}
	if string(d.base.text) != string(text) {
		t.Fatalf("retained %s\nwant     %s", d.base.text, text)
	}
	if fresh.spaced && !d.base.spaced || fresh.escaped && !d.base.escaped {
		t.Fatalf("%s: retained flags lost", text)
	}
	tape := d.tape()
	if len(fresh.tape) != len(tape) {
		t.Fatalf("%s: a tape of %d, want %d", text, len(tape), len(fresh.tape))
	}
	for i, want := range fresh.tape {
		got := tape[i]
		if got&lastFlag == 0 {
			got &^= distinctFlag
		}
		if got != want {
			t.Fatalf("%s: word %d is %#x, want %#x", text, i, got, want)
		}
	}
	if document, err := judge.Parse(d.Document()); err != nil || !says(t, document, text) {
		t.Fatalf("document %s\nwant     %s", d.Document(), text)
	}
}
