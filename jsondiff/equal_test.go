package jsondiff

import (
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
)

// TestEqualInsideElements has elements that are told apart by their bytes only:
// by content they are the ones that were there before, in the same order.
func TestEqualInsideElements(t *testing.T) {
	member := func(i int) string {
		return `{"u":"user ` + strconv.Itoa(i%3) + `","t":"a message that is long enough to be worth a move","n":[{"a":1},{"b":2}]}`
	}
	other := func(i int) string {
		return `{"n":[{"a":1},{ "b":2}],"t":"a message that is long enough to be worth a move","u":"\u0075ser ` + strconv.Itoa(i%3) + `"}`
	}
	list := func(n int, spell func(i int) string) string {
		items := make([]string, n)
		for i := range items {
			items[i] = spell(i)
		}
		return "[" + strings.Join(items, ",") + "]"
	}
	odd := func(i int) string {
		if i%2 == 0 {
			return member(i)
		}
		return other(i)
	}
	for _, c := range [][2]string{
		{`[{"a":1,"b":2},{"b":2,"a":1}]`, `[{"b":2,"a":1},{"a":1,"b":2}]`},
		{`[{ },{}]`, `[{},{ }]`},
		{`["A","\u0041"]`, `["\u0041","A"]`},
		{`[1,["A","\u0041",["A"]],2]`, `[1,["\u0041","A",["\u0041"]],2]`},
		{`[{"a":1,"a":2},{"a":2}]`, `[{"a":2},{"a":1,"a":2}]`},
		{`[{"x":{"a":1,"\u0061":2}},{"x":{"a":2}}]`, `[{"x":{"a":2}},{"x":{"\u0061":2}}]`},
		{list(40, odd), list(40, func(i int) string {
			if i%2 == 0 {
				return other(i)
			}
			return member(i)
		})},
		{list(70, member), list(70, odd)},
	} {
		for _, pair := range [][2]string{{c[0], c[1]}, {c[1], c[0]}} {
			old, text := []byte(pair[0]), []byte(pair[1])
			if same, err := Equal(old, text); !same || err != nil {
				t.Errorf("%.200s\n%.200s\nequal: %v, %v", old, text, same, err)
			}
			if patch, err := Diff(old, text); string(patch) != "[]" || err != nil {
				t.Errorf("%.200s\n%.200s\npatch %.200s, %v", old, text, patch, err)
			}
		}
	}
}

// TestMovedInsideElements moves elements that are the same by content only, and
// so large that to compare two of them takes a table of their names.
func TestMovedInsideElements(t *testing.T) {
	const n, members = 12, fewMembers + 6
	element := func(i int, respelt bool) string {
		var b strings.Builder
		for k := range members {
			if respelt {
				k = members - 1 - k
			}
			b.WriteString(`,"n` + strconv.Itoa(k) + `":[` + strconv.Itoa(i) + `]`)
		}
		return "{" + b.String()[1:] + "}"
	}
	for _, name := range []string{"n", `\u006e`} {
		var olds, news []string
		for i := range n {
			olds = append(olds, strings.ReplaceAll(element(i, false), `"n`, `"`+name))
			news = append(news, strings.ReplaceAll(element(n-1-i, true), `"n`, `"`+name))
		}
		old, text := []byte("["+strings.Join(olds, ",")+"]"), []byte("["+strings.Join(news, ",")+"]")
		patch, err := Diff(old, text)
		if err != nil {
			t.Fatal(err)
		}
		checkPatch(t, old, text, patch)
		if most := n * len(`{"op":"move","from":"/10","path":"/10"},`); len(patch) > most {
			t.Errorf("a patch of %d bytes, want at most %d: %.200s", len(patch), most, patch)
		}
	}
}

// respell writes a document again: members in another order, strings with other
// escapes, white space elsewhere, a hidden duplicate now and then.
func (r *randomJSON) respell(b []byte, n *testNode) []byte {
	c := n.clone()
	var walk func(n *testNode)
	walk = func(n *testNode) {
		if n.kind == '{' {
			last := map[string]int{}
			for i, name := range n.names {
				last[unquoted(name)] = i
			}
			var names []string
			var items []*testNode
			for i, name := range n.names {
				if last[unquoted(name)] != i {
					continue // hidden: as good as absent
				}
				names, items = append(names, r.spell(name)), append(items, n.items[i])
			}
			r.Shuffle(len(names), func(i, j int) {
				names[i], names[j] = names[j], names[i]
				items[i], items[j] = items[j], items[i]
			})
			n.names, n.items = names, items
		}
		if n.kind == 0 && n.text[0] == '"' {
			n.text = `"` + r.spell(n.text[1:len(n.text)-1]) + `"`
		}
		for _, item := range n.items {
			walk(item)
		}
	}
	walk(c)
	return r.write(b, c)
}

func unquoted(s string) string { return string(unescape([]byte(s))) }

// spell writes the inside of a string with other escapes.
func (r *randomJSON) spell(s string) string {
	if r.IntN(2) == 0 {
		return s
	}
	var b strings.Builder
	for _, c := range unquoted(s) {
		if c < 0x80 && c > ' ' && (r.IntN(2) == 0 || c == '"' || c == '\\') {
			b.WriteString(`\u00` + strconv.FormatInt(int64(c)+0x100, 16)[1:])
			continue
		}
		if c == 0xfffd || c < ' ' {
			return s // half a surrogate pair
		}
		b.WriteRune(c)
	}
	return b.String()
}

// TestRespelled writes random documents in two ways and wants no change between
// them, whatever the search for a small patch may cost.
func TestRespelled(t *testing.T) {
	rounds := 10_000
	if testing.Short() || raceEnabled {
		rounds = 1_000
	}
	for c := range rounds {
		r := &randomJSON{Rand: rand.New(rand.NewPCG(uint64(c), 17)), spaces: c%3 == 0, duplicates: c%5 == 0}
		doc := r.node(2 + c%2)
		if r.IntN(2) == 0 {
			// A list whose elements hold the same in different spellings.
			list := &testNode{kind: '['}
			for range 2 + r.IntN(12) {
				list.items = append(list.items, doc)
			}
			doc = list
		}
		d := NewDiffer(Options{Limits: Limits{Work: []int{0, 1, 10, 100, 1000}[r.IntN(5)]}})
		old := r.respell(nil, doc)
		d.Next(old)
		for range 3 {
			text := r.respell(nil, doc)
			if change, err := d.Next(text); err != nil || change.Kind != Unchanged {
				t.Fatalf("old %s\nnew %s\n%v, %v, patch %s", old, text, change.Kind, err, change.Patch)
			}
			checkState(t, d, text)
			old = text
		}
	}
}
