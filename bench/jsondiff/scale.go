package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand"
	"runtime"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/pollsse/caddy-poll-sse/jsondiff"
)

func scaling() error {
	for _, table := range []func() error{documents, arrays, corruptions} {
		if err := table(); err != nil {
			return err
		}
		runtime.GC()
	}
	return nil
}

// step times one change from old to new, best of a few, and gives the patch.
func step(old, new []byte) (best time.Duration, patch []byte, err error) {
	run, rewind := ours(old)
	end := time.Now().Add(500 * time.Millisecond)
	for n := 0; n < 3 || n < 500 && time.Now().Before(end); n++ {
		if err := rewind(); err != nil {
			return 0, nil, err
		}
		given := withRoom(new)
		from := time.Now()
		p, err := run(given)
		took := time.Since(from)
		if err != nil {
			return 0, nil, err
		}
		if best == 0 || took < best {
			best = took
		}
		patch = p
	}
	return best, slices.Clone(patch), nil
}

// retained is the memory a Differ holds after two documents.
func retained(old, new []byte) (int, error) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&before)
	d := jsondiff.NewDiffer(jsondiff.Options{})
	for _, text := range [][]byte{old, new} {
		// A copy, so that what is kept of the caller's bytes counts as well.
		if _, err := d.NextOwned(withRoom(text)); err != nil {
			return 0, err
		}
		d.Document() // as who publishes it does
	}
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&after)
	runtime.KeepAlive(d)
	runtime.KeepAlive(old)
	runtime.KeepAlive(new)
	return int(after.HeapAlloc) - int(before.HeapAlloc), nil
}

func documents() error {
	fmt.Print("## Documents from 10 KB to 50 MB\n\nRows of 220 bytes. In brackets, nanoseconds for each byte of the document.\n\n" +
		"| document | first | unchanged | one leaf | head insert | 1 % of rows | every row | retained / document |\n|--:|--:|--:|--:|--:|--:|--:|--:|\n")
	for _, n := range []int{45, 450, 4500, 45_000, 225_000} {
		v := newRows(n)
		old := withRoom([]byte(v.text()))
		held, err := retained(old, []byte(v.leaf().text()))
		if err != nil {
			return err
		}
		first := time.Duration(0)
		for range 3 {
			from := time.Now()
			if _, err := jsondiff.NewDiffer(jsondiff.Options{}).Next(old); err != nil {
				return err
			}
			if took := time.Since(from); first == 0 || took < first {
				first = took
			}
		}
		cell := func(d time.Duration) string {
			return fmt.Sprintf("%s (%.3f)", span(d), float64(d)/float64(len(old)))
		}
		line := fmt.Sprintf("| %s | %s ", size(len(old)), cell(first))
		for _, new := range []string{
			string(old), v.leaf().text(), `[{"id":99999999,"name":"first"},` + string(old[1:]),
			v.edit(max(1, n/100)).text(), v.edit(n).text(),
		} {
			last := withRoom([]byte(new))
			best, patch, err := step(old, last)
			if err != nil {
				return err
			}
			got, err := jsondiff.Apply(old, patch)
			if err != nil {
				return err
			}
			if same, err := jsondiff.Equal(got, last); err != nil || !same {
				return fmt.Errorf("%d rows: the patch gives another document (%v)", n, err)
			}
			line += "| " + cell(best) + " "
		}
		fmt.Printf("%s| %.2f |\n", line, float64(held)/float64(len(old)))
	}
	fmt.Println()
	return nil
}

func arrays() error {
	fmt.Print("## Arrays of 100,000 elements in another order\n\n| elements | order | document | time | patch | of document |\n|---|---|--:|--:|--:|--:|\n")
	const n = 100_000
	r := rand.New(rand.NewSource(1))
	for _, kind := range []struct {
		name string
		make func(i int) string
	}{
		{"numbers", func(i int) string { return fmt.Sprint(i) }},
		{"few different numbers", func(i int) string { return fmt.Sprint(i * 7919 % 10) }},
		{"strings", func(i int) string { return fmt.Sprintf(`"%s %d"`, strings.Fields(words)[i%24], i) }},
		{"objects with id", func(i int) string {
			return fmt.Sprintf(`{"id":%d,"name":"%s","value":%d}`, i, strings.Fields(words)[i%24], i*31%1000)
		}},
		{"objects without", func(i int) string { return fmt.Sprintf(`{"x":%d,"y":%d}`, i/300, i%300) }},
	} {
		items := make([]string, n)
		for i := range items {
			items[i] = kind.make(i)
		}
		old := []byte(list(items))
		for _, order := range []struct {
			name string
			do   func([]string) []string
		}{
			{"reversed", func(s []string) []string { slices.Reverse(s); return s }},
			{"shuffled", func(s []string) []string { r.Shuffle(n, func(i, j int) { s[i], s[j] = s[j], s[i] }); return s }},
			{"rotated by one", func(s []string) []string { return append(s[1:], s[0]) }},
			{"rotated by half", func(s []string) []string { return append(s[n/2:], s[:n/2]...) }},
			{"sorted as text", func(s []string) []string { slices.Sort(s); return s }},
			{"every second dropped", func(s []string) []string {
				var kept []string
				for i := 0; i < n; i += 2 {
					kept = append(kept, s[i])
				}
				return kept
			}},
		} {
			new := []byte(list(order.do(slices.Clone(items))))
			best, patch, err := step(old, new)
			if err != nil {
				return err
			}
			got, err := jsondiff.Apply(old, patch)
			if err != nil {
				return fmt.Errorf("%s, %s: %w", kind.name, order.name, err)
			}
			if same, err := jsondiff.Equal(got, new); err != nil || !same {
				return fmt.Errorf("%s, %s: the patch gives another document (%v)", kind.name, order.name, err)
			}
			fmt.Printf("| %s | %s | %s | %s | %d | %.2f %% |\n", kind.name, order.name, size(len(new)), span(best), len(patch), 100*float64(len(patch))/float64(len(new)))
		}
	}
	fmt.Println()
	return nil
}

// corruptions changes, drops and doubles single bytes: what is accepted must be
// exactly what encoding/json and unicode/utf8 accept together.
func corruptions() error {
	r := rand.New(rand.NewSource(1))
	fmt.Print("## Corruptions\n\n| document | corruptions | still valid | wrongly accepted | wrongly refused |\n|---|--:|--:|--:|--:|\n")
	for _, c := range []struct {
		name string
		text string
	}{
		{"chat", list(newChat(30))}, {"stations, pretty", pretty(newStations(30).text())}, {"time series", series(0)}, {"jobs", newJobs(40).text()},
	} {
		const n = 20_000
		old := []byte(c.text)
		d := jsondiff.NewDiffer(jsondiff.Options{})
		if _, err := d.Next(old); err != nil {
			return err
		}
		valid, accepted, refused := 0, 0, 0
		for range n {
			text, at := slices.Clone(old), r.Intn(len(old))
			switch r.Intn(4) {
			case 0:
				text[at] = byte(r.Intn(256))
			case 1:
				text = slices.Delete(text, at, at+1)
			case 2:
				text = slices.Insert(text, at, text[at])
			case 3:
				text[at] ^= 1 << r.Intn(8)
			}
			want := json.Valid(text) && utf8.Valid(text)
			_, err := d.Next(text)
			switch got := err == nil; {
			case got && want:
				valid++
				if _, err := d.Next(old); err != nil {
					return err
				}
			case got:
				accepted++
				if _, err := d.Next(old); err != nil {
					return err
				}
			case want:
				refused++
			}
			if !bytes.Equal(d.Document(), compact(old)) {
				return fmt.Errorf("%s: the retained document changed", c.name)
			}
		}
		fmt.Printf("| %s, %s | %d | %d | %d | %d |\n", c.name, size(len(old)), n, valid, accepted, refused)
		if accepted+refused > 0 {
			return fmt.Errorf("%s: %d wrongly accepted, %d wrongly refused", c.name, accepted, refused)
		}
	}
	fmt.Println()
	return nil
}

func compact(text []byte) []byte {
	var b bytes.Buffer
	if err := json.Compact(&b, text); err != nil {
		panic("BUG: " + err.Error())
	}
	return b.Bytes()
}
