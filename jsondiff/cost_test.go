package jsondiff

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"
)

// recipe makes two documents that once were slow or large to compare.
type recipe struct {
	name string
	make func(n int) (old, new []byte)
	n    int
}

// nested puts n levels around a text.
func nested(n int, open func(level int) string, inner string, shut func(level int) string) []byte {
	var b strings.Builder
	for i := range n {
		b.WriteString(open(i))
	}
	b.WriteString(inner)
	for i := n - 1; i >= 0; i-- {
		b.WriteString(shut(i))
	}
	return []byte(b.String())
}

func always(s string) func(int) string { return func(int) string { return s } }

func numbers(n int, first string) string {
	return "[" + first + strings.Repeat(",0", n-1) + "]"
}

var recipes = []recipe{
	{"a long element behind 31 strings at each level", func(n int) (old, new []byte) {
		texts := func(level int, between string) string {
			var b strings.Builder
			for i := range 31 {
				fmt.Fprintf(&b, `%s"%040d",`, between, level*100+i)
			}
			return b.String()
		}
		zeros := strings.Repeat("0,", 30)
		old = nested(n, func(l int) string { return `[{"id":"j"},` + texts(l, zeros) + `{"id":"big","c":` }, numbers(25_000, "0"), always("}]"))
		new = nested(n, func(l int) string { return `[` + texts(l, "") + `{"id":"big","c":` }, numbers(25_000, "1"), always("}]"))
		return old, new
	}, 160},
	{"a name twice at each level", func(n int) (old, new []byte) {
		inner := numbers(150_000, "0")
		return nested(n, always(`{"c":`), inner, always("}")), nested(n, always(`{"c":`), inner, always(`,"x":1,"x":2}`))
	}, 900},
	{"blanks and half replaced at each level", func(n int) (old, new []byte) {
		blank := strings.Repeat(" ", 3)
		inner := strings.ReplaceAll(numbers(40_000, "0"), ",", blank+","+blank)
		other := strings.ReplaceAll("["+strings.Repeat("0,", 20_000)+strings.Repeat("1,", 19_999)+"1]", ",", blank+","+blank)
		return nested(n, always(`{ "c" : `), inner, always(" } ")), nested(n, always(`{ "c" : `), other, always(`, "x" : 1 } `))
	}, 900},
	{"matches after 31 others, of 128 escaped names", func(n int) (old, new []byte) {
		element := func(id, value int) string {
			var b strings.Builder
			b.WriteString("{")
			if id == 1_000_000 { // the first one, which tells what the key is
				fmt.Fprintf(&b, `"id":%d,`, id)
			}
			for i := range 126 {
				fmt.Fprintf(&b, `"\u0041%d":%d,`, i, value)
			}
			fmt.Fprintf(&b, `"\u0041":0,"id":%d}`, id)
			return b.String()
		}
		var olds, news []string
		for i := range n {
			for k := range 31 {
				olds = append(olds, element(1_000_000+i*31+k, 0))
			}
			olds, news = append(olds, element(i, 0)), append(news, element(i, 1))
		}
		return []byte("[" + strings.Join(olds, ",") + "]"), []byte("[" + strings.Join(news, ",") + "]")
	}, 60},
	{"zeros, every second one a one", func(n int) (old, new []byte) {
		return []byte(numbers(n, "0")), []byte("[" + strings.Repeat("0,1,", n/2-1) + "0,1]")
	}, 500_000},
	{"escaped names shuffled", func(n int) (old, new []byte) {
		names := make([]string, n)
		for i := range names {
			names[i] = `"\u0041` + strconv.Itoa(i) + `":0`
		}
		old = []byte("{" + strings.Join(names, ",") + "}")
		rand.New(rand.NewPCG(1, 1)).Shuffle(n, func(i, j int) { names[i], names[j] = names[j], names[i] })
		return old, []byte("{" + strings.Join(names, ",") + "}")
	}, 200_000},
	{"escaped long names, equal but for the end", func(n int) (old, new []byte) {
		names := make([]string, n)
		for i := range names {
			names[i] = `"` + strings.Repeat(`\u0041`, 500) + strconv.Itoa(i) + `":0`
		}
		old = []byte("{" + strings.Join(names, ",") + "}")
		rand.New(rand.NewPCG(1, 1)).Shuffle(n, func(i, j int) { names[i], names[j] = names[j], names[i] })
		return old, []byte("{" + strings.Join(names, ",") + "}")
	}, 300},
	{"elements crossing at each level", func(n int) (old, new []byte) {
		a, b, c := `{"id":1,"v":"some text"}`, `{"id":2,"v":"other text"}`, `{"id":3,"v":"third text"}`
		inner := numbers(50_000, "0")
		return nested(n, always("["+a+","+b+","+c+`,{"id":4,"v":`), inner, always("}]")),
			nested(n, always("["+c+","+b+","+a+`,{"id":4,"v":`), "[1"+inner[2:], always("}]"))
	}, 300},
	{"content equal but for the innermost", func(n int) (old, new []byte) {
		inner := numbers(30_000, "0")
		return nested(n, always(`[{"a":1,"b":2},`), inner, always("]")), nested(n, always(`[{"b":2,"a":1},`), inner[:len(inner)-2]+"1]", always("]"))
	}, 400},
	{"long prefix equal at each level", func(n int) (old, new []byte) {
		long := `"` + strings.Repeat("p", 2000) + `"`
		return nested(n, always("["+long+`,{"k":1,"c":`), "1", always("}]")), nested(n, always("["+long+`,{"c":`), "2", always(`,"k":1}]`))
	}, 400},
	{"numbers shuffled", func(n int) (old, new []byte) {
		order := upTo(n)
		old = listOf(order, "#")
		rand.New(rand.NewPCG(1, 1)).Shuffle(n, func(i, j int) { order[i], order[j] = order[j], order[i] })
		return old, listOf(order, "#")
	}, 100_000},
	{"empty objects and arrays", func(n int) (old, new []byte) {
		return []byte("[" + strings.Repeat("[],", n) + "{}]"), []byte("[" + strings.Repeat("{},[],", n/2) + "[]]")
	}, 200_000},
	{"an array that grows", func(n int) (old, new []byte) { return []byte("[0]"), []byte(numbers(n, "0")) }, 500_000},
	{"an array that shrinks", func(n int) (old, new []byte) { return []byte(numbers(n, "0")), []byte("[0]") }, 500_000},
}

// cost compares two documents as Next does and gives what was counted: work, and
// memory taken in bytes beside what is retained.
func cost(t testing.TB, old, new []byte) (spent, memory int, took time.Duration) {
	t.Helper()
	var d Differ
	if _, err := d.Next(old); err != nil {
		t.Fatal(err)
	}
	var s scratch
	limits := Limits{}.withDefaults()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	s.load(new, limits, false)
	from := time.Now()
	base := d.base
	base.tape = d.tape()
	s.walk.start(base, &d.options)
	s.walk.run()
	patch := s.walk.appendPatch(nil)
	took = time.Since(from)
	runtime.ReadMemStats(&after)
	if s.walk.new.err != nil {
		t.Fatal(s.walk.new.err)
	}
	memory = int(after.TotalAlloc-before.TotalAlloc) - len(new)
	if words := len(s.walk.new.tape) + int(s.walk.spliced); len(new) > maxPacked {
		memory -= 8 * words // is retained
	}
	if len(patch) > compactLen(new)+len(`[{"op":"replace","path":"","value":}]`) {
		t.Errorf("a patch of %d bytes for a document of %d", len(patch), len(new))
	}
	return s.walk.spent, memory, took
}

// Bounds for each byte of both documents, and what is free.
const (
	workBound   = 3
	memoryBound = 6
	freeWork    = 16_384
	freeMemory  = 1 << 20
)

func checkCost(t testing.TB, old, new []byte) {
	t.Helper()
	size := len(old) + len(new)
	spent, memory, took := cost(t, old, new)
	if spent > workBound*size+freeWork {
		t.Errorf("%d bytes cost %d units of work, %.1f for each", size, spent, float64(spent)/float64(size))
	}
	if memory > memoryBound*size+freeMemory {
		t.Errorf("%d bytes take %d of memory, %.1f for each", size, memory, float64(memory)/float64(size))
	}
	t.Logf("%d bytes: work %.2f, memory %.2f, %.0f ns for each byte of the larger document", size, float64(spent)/float64(size), float64(memory)/float64(size), float64(took)/float64(max(len(old), len(new))))
}

func TestCost(t *testing.T) {
	for _, r := range recipes {
		t.Run(r.name, func(t *testing.T) {
			n := r.n
			if testing.Short() || raceEnabled {
				n /= 4
			}
			old, new := r.make(n)
			checkCost(t, old, new)
			checkCost(t, new, old)
			if len(old)+len(new) < 4_000_000 {
				checkApplied(t, old, new)
				checkApplied(t, new, old)
			}
		})
	}
}

// FuzzCost hunts for documents that cost too much: it repeats a beginning and an
// end around something, side by side and into each other.
func FuzzCost(f *testing.F) {
	addCorpus(f)
	f.Add(`[{"id":"j"},"a","b",{"c":`, `[0,0,0]`, `}]`, `["a","b",{"c":`, `[1,0,0]`, `}]`, uint8(40), false)
	f.Add(`{"c":`, `[0]`, `}`, `{"c":`, `[0]`, `,"x":1,"x":2}`, uint8(40), false)
	f.Add(`{ "c" : `, `[0 , 0]`, ` } `, `{ "c" : `, `[1 , 1]`, ` , "x":1}`, uint8(40), false)
	f.Add(`{"\u0041":1,"b":2}`, `,`, `{"a":0}`, `{"b":2,"A":1}`, `,`, `{"c":0}`, uint8(40), true)
	f.Add(`0`, `,`, `0`, `0,1`, `,`, `0`, uint8(200), true)
	f.Add(`[[1,2],[3]`, `,1`, `]`, `[[3],[1,2]`, `,2`, `]`, uint8(90), false)
	f.Fuzz(func(t *testing.T, open1, inner1, shut1, open2, inner2, shut2 string, n uint8, flat bool) {
		make := func(open, inner, shut string) []byte {
			k := int(n)
			if flat {
				return []byte("[" + strings.Repeat(open+inner, k*8) + shut + "]")
			}
			return []byte(strings.Repeat(open, k) + inner + strings.Repeat(shut, k))
		}
		old, new := make(open1, inner1, shut1), make(open2, inner2, shut2)
		if len(old)+len(new) > 1<<18 {
			return
		}
		if _, err := parse(old); err != nil {
			return
		}
		if _, err := parse(new); err != nil {
			return
		}
		checkCost(t, old, new)
		checkCost(t, new, old)
		if len(old)+len(new) < 1<<13 {
			checkPatchOf(t, old, new)
		}
	})
}

// checkPatchOf holds what Diff makes of two documents against the judge.
func checkPatchOf(t testing.TB, old, new []byte) {
	t.Helper()
	patch, err := Diff(old, new)
	if err != nil {
		t.Fatal(err)
	}
	checkPatch(t, old, new, patch)
}
