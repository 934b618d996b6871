package main

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"

	"github.com/pollsse/caddy-poll-sse/internal/judge"
)

// documents makes the documents of the upstream: one for each owner and step,
// the same for the same seed. Every step differs from the one before in places
// that depend on it, so that a change that is applied twice, or to another
// step, leads to a document that no step has.
type documents struct {
	seed uint64

	mu    sync.Mutex
	texts map[version][]byte // the last few, as many clients ask for the same
	order []version
}

// Whose the documents are, as they say. What is alice's and bob's is for them
// alone; the others are for all who ask.
const (
	everybody = "everybody"
	alice     = "alice"
	bob       = "bob"
	selected  = "selected" // is a part of what the upstream answers with
	paged     = "paged"    // comes in pages
	appended  = "appended" // each answer holds only what is new
)

func private(owner string) bool { return owner == alice || owner == bob }

type version struct {
	owner string
	step  int64
}

func newDocuments(seed uint64) *documents {
	return &documents{seed: seed, texts: map[version][]byte{}}
}

// text is the document of a step as JSON without white space.
func (d *documents) text(owner string, step int64) []byte {
	v := version{owner, step}
	d.mu.Lock()
	defer d.mu.Unlock()
	if text := d.texts[v]; text != nil {
		return text
	}
	text := d.write(owner, step)
	if len(d.order) == 200 {
		delete(d.texts, d.order[0])
		d.order = d.order[1:]
	}
	d.texts[v] = text
	d.order = append(d.order, v)
	return text
}

// rng is a source of its own for each part of a document; the part changes
// when the step has gone on by period.
func (d *documents) rng(owner, part string, step, period int64) *rand.Rand {
	h := fnv.New64a()
	_, _ = h.Write([]byte(owner + "/" + part))
	return rand.New(rand.NewPCG(d.seed^h.Sum64(), uint64(step/period)))
}

func (d *documents) write(owner string, step int64) []byte {
	switch {
	case owner == paged:
		return d.page(step, 0)
	case owner == appended:
		return d.events(step, 0)
	case step%23 == 22: // another root, which no patch gets to
		b := fmt.Appendf(nil, `[%d,%q,`, step, owner)
		return append(randomJSON(b, d.rng(owner, "root", step, 1), 4), ']')
	}
	b := fmt.Appendf(nil, `{"step":%d,"owner":%q,"parity":%t,"price":%d.%02d0`, step, owner, step%2 == 0, step, step%100)
	// A list with keys: items come, go, move and change.
	b = append(b, `,"items":[`...)
	order := d.rng(owner, "order", step, 4).Perm(20)
	for n, i := range order {
		if n > 0 {
			b = append(b, ',')
		}
		id := (step+int64(i))/20*20 + int64(i)
		b = fmt.Appendf(b, `{"id":%d,"since":%d,"value":`, id, (step+int64(i)*3)/7)
		b = append(randomJSON(b, d.rng(owner, "item"+strconv.Itoa(i), step, int64(3+i)), 1), '}')
	}
	// A list without: it shifts by one with each step.
	b = append(b, `],"recent":[`...)
	for i := max(0, step-15); i < step; i++ {
		b = append(strconv.AppendInt(b, i, 10), ',')
	}
	b = append(strconv.AppendInt(b, step, 10), `],"rows":{`...)
	for i := range int64(12) {
		if i > 0 {
			b = append(b, ',')
		}
		b = fmt.Appendf(b, `"row%d":{"at":%d,"filler":"%s"}`, i, (step+i)/12, strings.Repeat("abcdefgh", 8))
	}
	b = append(b, `},"random":`...)
	b = randomJSON(b, d.rng(owner, "random", step, 2), 4)
	if step%61 < 3 {
		b = append(b, `,"bulk":[`...)
		for i := range 4000 {
			if i > 0 {
				b = append(b, ',')
			}
			b = fmt.Appendf(b, `{"n":%d,"text":"row %d of the bulk"}`, i, i)
		}
		b = append(b, ']')
	}
	return append(b, '}')
}

// pages is how many there are of the document that is paged.
const pages = 3

// page is one page of that document, or all that they make together: 0. The
// rows are others, or in another order, now and then.
func (d *documents) page(step int64, page int) []byte {
	const each = 10
	b := fmt.Appendf(nil, `{"step":%d,"owner":%q,"rows":[`, step, paged)
	order := d.rng(paged, "order", step, 6).Perm(pages * each)
	if page > 0 {
		order = order[(page-1)*each : page*each]
	}
	for n, i := range order {
		if n > 0 {
			b = append(b, ',')
		}
		b = fmt.Appendf(b, `{"id":%d,"value":`, (step+int64(i))/30*30+int64(i))
		b = append(randomJSON(b, d.rng(paged, "row"+strconv.Itoa(i), step, int64(1+i)), 2), '}')
	}
	b = append(b, ']')
	if page < pages {
		b = fmt.Appendf(b, `,"next":"%d.%d"`, step, max(page, 1)+1)
	}
	return append(b, '}')
}

// window is how many events are kept of those that came.
const window = 50

// events is the answer with those that came after a step, and, as upstreams do,
// with the last one before them once more. After step 0 it is the document.
func (d *documents) events(step, after int64) []byte {
	b := fmt.Appendf(nil, `{"step":%d,"owner":%q,"events":[`, step, appended)
	first := max(1, after, step-window+1)
	for i := first; i <= step; i++ {
		if i > first {
			b = append(b, ',')
		}
		b = fmt.Appendf(b, `{"id":%d,"value":`, i)
		b = append(randomJSON(b, d.rng(appended, "event", i, 1), 3), '}')
	}
	return append(b, "]}"...)
}

var (
	scalars = []string{"0", "-0", "1.0", "1e0", "12345678901234567890", "0.1000", "1E400", "-1.5e-7", "true", "false", "null", `""`, `"A"`, `"\u0041b"`, `"\\\"\/"`, `"ü"`, `"😀"`, `"\ud83d\ude00!"`, `"\ud800"`, `"\udc01"`, `"\n\r\u2028"`, `"data: x\n\nevent: y"`, "[]", "{}"}
	names   = []string{"a", "b", "id", "name", "a/b", "~", "~1", "ü", `q\"`, "0", "-", "", `\ud800`, `\ud801`, "😀"}
)

// randomJSON appends a value of a depth at most.
func randomJSON(b []byte, r *rand.Rand, depth int) []byte {
	switch n := r.IntN(10); {
	case depth == 0 || n < 3:
		if r.IntN(3) == 0 {
			return strconv.AppendInt(b, int64(r.IntN(1000)), 10)
		}
		return append(b, scalars[r.IntN(len(scalars))]...)
	case n < 6:
		b = append(b, '[')
		for i := range r.IntN(6) {
			if i > 0 {
				b = append(b, ',')
			}
			b = randomJSON(b, r, depth-1)
		}
		return append(b, ']')
	}
	b = append(b, '{')
	for i, n := range r.Perm(len(names))[:r.IntN(6)] {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(append(append(b, '"'), names[n]...), `":`...)
		b = randomJSON(b, r, depth-1)
	}
	return append(b, '}')
}

// poison is a document that the upstream never means: if a client has it, an
// answer was taken for a document that is none.
const poison = `{"step":1000000000,"owner":"poison"}`

// stepOf reads which step of which owner a document claims to be.
func stepOf(doc any) (owner string, step int64, err error) {
	var n, o any
	switch v := doc.(type) {
	case map[string]any:
		n, o = v["step"], v["owner"]
	case []any:
		if len(v) > 1 {
			n, o = v[0], v[1]
		}
	}
	number, _ := n.(json.Number)
	owner, _ = o.(string)
	if step, err = number.Int64(); err != nil {
		return "", 0, fmt.Errorf("the document has no step: %.200v", doc)
	}
	return owner, step, nil
}

// check tells which step a document is, or why it is none of owner's.
func (d *documents) check(doc any, owner string, newest int64) (int64, error) {
	of, step, err := stepOf(doc)
	switch {
	case err != nil:
		return 0, err
	case of != owner:
		return 0, fmt.Errorf("the document is that of %q", of)
	case step > newest || step < 1:
		return 0, fmt.Errorf("the document says step %d, the upstream is at %d", step, newest)
	case !judge.Matches(doc, d.text(owner, step)):
		got, _ := json.Marshal(doc)
		return 0, fmt.Errorf("the document is not that of step %d:\ngot  %s\nwant %s", step, got, d.text(owner, step))
	}
	return step, nil
}
