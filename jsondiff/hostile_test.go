package jsondiff

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// listOf writes count elements in an order.
func listOf(order []int, format string) []byte {
	b := []byte{'['}
	for i, x := range order {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, strings.ReplaceAll(format, "#", strconv.Itoa(x))...)
	}
	return append(b, ']')
}

func upTo(n int) []int {
	order := make([]int, n)
	for i := range order {
		order[i] = i
	}
	return order
}

// checkApplied holds a patch against the package's own Apply, for documents
// that are too large for the judge.
func checkApplied(t testing.TB, old, new []byte) []byte {
	t.Helper()
	patch, err := Diff(old, new)
	if err != nil {
		t.Fatal(err)
	}
	got, err := Apply(old, patch)
	if err != nil {
		t.Fatalf("a patch of %d bytes, %.200s: %v", len(patch), patch, err)
	}
	if same, err := Equal(got, new); !same || err != nil {
		t.Fatalf("a patch of %d bytes, %.200s gives something else, %v", len(patch), patch, err)
	}
	if len(patch) > compactLen(new)+len(`[{"op":"replace","path":"","value":}]`) {
		t.Fatalf("a patch of %d bytes for a document of %d", len(patch), len(new))
	}
	return patch
}

func TestHugeArrays(t *testing.T) {
	n := 100_000
	if testing.Short() || raceEnabled {
		n = 5_000
	}
	r := rand.New(rand.NewPCG(1, 1))
	for _, format := range []string{"#", `{"id":#}`, `{"v":"some text that makes the element longer than a move is","id":#}`, `["#","content without a key that is longer than a move would be"]`} {
		old := upTo(n)
		reversed := slices.Clone(old)
		slices.Reverse(reversed)
		shuffled := slices.Clone(old)
		r.Shuffle(n, func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		rotated := append(slices.Clone(old[n/3:]), old[:n/3]...)
		for name, order := range map[string][]int{"reversed": reversed, "shuffled": shuffled, "rotated": rotated} {
			t.Run(name+" "+format[:1], func(t *testing.T) {
				checkApplied(t, listOf(old, format), listOf(order, format))
			})
		}
	}
}

func TestDeep(t *testing.T) {
	deep := func(open, inner, close string, n int) []byte {
		return []byte(strings.Repeat(open, n) + inner + strings.Repeat(close, n))
	}
	for _, c := range [][2]string{{"[", "]"}, {`{"a":`, "}"}, {`[{"` + strings.Repeat("/", 50) + `":`, "}]"}, {`[0,`, "]"}} {
		n := 1000 / (strings.Count(c[0], "[") + strings.Count(c[0], "{"))
		checkApplied(t, deep(c[0], "1", c[1], n), deep(c[0], "2", c[1], n))
		checkApplied(t, deep(c[0], `"`+strings.Repeat("x", 100_000)+`1"`, c[1], n), deep(c[0], `"`+strings.Repeat("x", 100_000)+`2"`, c[1], n))
		checkApplied(t, deep(c[0], "[1,2,3]", c[1], n-2), deep(c[0], "[3,1,{}]", c[1], n-2))
	}
	if _, err := Diff([]byte("[]"), bytes.Repeat([]byte("["), 1_000_000)); !errors.Is(err, ErrDepth) {
		t.Errorf("got %v, want ErrDepth", err)
	}
	if _, err := Diff([]byte("[[1]]"), deep("[", "1", "]", 1001)); !errors.Is(err, ErrDepth) {
		t.Errorf("got %v, want ErrDepth", err)
	}
	d := NewDiffer(Options{Limits: Limits{Depth: 2, Size: 20}})
	for text, want := range map[string]error{"[[]]": nil, "[[[]]]": ErrDepth, "[" + strings.Repeat(" ", 20) + "]": ErrSize} {
		if _, err := d.Next([]byte(text)); !errors.Is(err, want) {
			t.Errorf("%q: %v, want %v", text, err, want)
		}
	}
}

func TestWork(t *testing.T) {
	d := NewDiffer(Options{Limits: Limits{Work: 1}})
	old, text := listOf(upTo(1000), `{"id":#,"v":[1,2,3]}`), listOf(upTo(900), `{"id":#,"v":[3,2,1,0]}`)
	d.Next(old)
	change, err := d.Next(text)
	if err != nil || !change.Bound {
		t.Fatalf("%v, bound %v", err, change.Bound)
	}
	checkPatch(t, old, text, change.Patch)
}

func TestLongNames(t *testing.T) {
	name := strings.Repeat("long", 40_000)
	doc := func(v string) []byte { return []byte(`{"a":1,"` + name + `" : ` + v + `,"z":[1]}`) }
	checkApplied(t, doc("1"), doc("2"))
	checkApplied(t, doc("1"), []byte(`{"a":1}`))
	checkApplied(t, []byte(`{"a":1}`), doc("1"))
}

func TestShuffledMembers(t *testing.T) {
	r := rand.New(rand.NewPCG(2, 2))
	for _, n := range []int{3, 30, 300, 20_000} {
		order := upTo(n)
		text := func() []byte {
			b := listOf(order, `"name#":{"v":#}`)
			b[0], b[len(b)-1] = '{', '}'
			return b
		}
		old := text()
		r.Shuffle(n, func(i, j int) { order[i], order[j] = order[j], order[i] })
		if patch := checkApplied(t, old, text()); string(patch) != "[]" {
			t.Errorf("%d members: %.200s, want none", n, patch)
		}
		order = order[1:]
		order[0] = n
		checkApplied(t, old, text())
	}
}

// TestCorruptions changes bytes of documents at random: whatever way the text
// is read, it must be accepted exactly when it is valid.
func TestCorruptions(t *testing.T) {
	rounds := 20_000
	if testing.Short() || raceEnabled {
		rounds = 2_000
	}
	r := &randomJSON{Rand: rand.New(rand.NewPCG(4, 4)), spaces: true, duplicates: true}
	const bytesToUse = "\"\\{}[],:0123456789-+.eE tfnu/\n\x00\x1f\x7f\x80\xc3\xed\xff"
	for range rounds {
		doc := r.node(4)
		old := r.write(nil, doc)
		r.edit(doc)
		text := r.write(nil, doc)
		if r.IntN(2) == 0 {
			text = slices.Clone(old)
		}
		for range 1 + r.IntN(2) {
			i := r.IntN(len(text))
			switch c := bytesToUse[r.IntN(len(bytesToUse))]; r.IntN(4) {
			case 0:
				text = slices.Insert(text, i, c)
			case 1:
				text = slices.Delete(text, i, i+1)
			case 2:
				text = text[:i]
			default:
				text[i] = c
			}
			if len(text) == 0 {
				break
			}
		}
		checkAccepts(t, old, text)
	}
}

// checkAccepts compares what Next says of a text with the standard library.
func checkAccepts(t testing.TB, old, text []byte) {
	t.Helper()
	want := json.Valid(text) && utf8.Valid(text)
	d := NewDiffer(Options{})
	d.always = len(text)%4 == 0
	if _, err := d.Next(old); err != nil {
		t.Fatal(err)
	}
	before := slices.Clone(d.Document())
	change, err := d.Next(text)
	if (err == nil) != want {
		t.Fatalf("old %q\nnew %q\nvalid is %v, got %v", old, text, want, err)
	}
	if err == nil {
		patch := change.Patch
		if change.Kind == Unchanged {
			patch = []byte("[]")
		}
		checkPatch(t, before, text, patch)
		checkState(t, d, text)
		return
	}
	if !bytes.Equal(d.Document(), before) {
		t.Fatalf("after an error the document is %s, was %s", d.Document(), before)
	}
	var bad *SyntaxError
	if !errors.As(err, &bad) || bad.Offset > len(text) || bad.Line < 1 || bad.Column < 1 || bad.Expected == "" {
		t.Fatalf("new %q: %#v", text, err)
	}
	if _, plain := parse(text); plain == nil || plain.Error() != err.Error() {
		t.Fatalf("old %q\nnew %q\ngot  %v\nwant %v as without an old document", old, text, err, plain)
	}
}

func FuzzDiff(f *testing.F) {
	addCorpus(f)
	for c := range 40 {
		r := &randomJSON{Rand: rand.New(rand.NewPCG(uint64(c), 9)), spaces: c%2 == 0, duplicates: c%3 == 0}
		doc := r.node(3)
		old := r.write(nil, doc)
		r.edit(doc)
		f.Add(old, r.write(nil, doc))
	}
	f.Fuzz(func(t *testing.T, old, text []byte) {
		if _, err := parse(old); err != nil {
			return
		}
		if _, err := parse(text); errors.Is(err, ErrDepth) {
			return
		}
		checkAccepts(t, old, text)
	})
}

func TestUnchangedAllocatesNothing(t *testing.T) {
	text := listOf(upTo(1000), `{"id":#,"v":"x"}`)
	d := NewDiffer(Options{})
	d.Next(text)
	same := slices.Clone(text)
	if n := testing.AllocsPerRun(100, func() { d.Next(same) }); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
}

func TestChangedAllocatesLittle(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector drops pooled memory at random")
	}
	texts := [][]byte{listOf(upTo(1000), `{"id":#,"v":"x"}`), listOf(upTo(1001)[1:], `{"id":#,"v":"x"}`)}
	var buffer []byte
	var again Differ
	j := 0
	if n := testing.AllocsPerRun(100, func() {
		buffer, _, _ = again.AppendNext(buffer[:0], texts[j%2])
		j++
	}); n > 0 {
		t.Errorf("%v allocations with the same buffer, want none", n)
	}
	d := NewDiffer(Options{})
	i := 0
	n := testing.AllocsPerRun(100, func() {
		d.Next(texts[i%2])
		d.Document()
		i++
	})
	if n > 10 {
		t.Errorf("%v allocations, want at most 10", n)
	}
}

func TestDocumentIsNeverWritten(t *testing.T) {
	r := &randomJSON{Rand: rand.New(rand.NewPCG(6, 6))}
	d := NewDiffer(Options{})
	doc := r.node(4)
	var given, copies [][]byte
	for range 300 {
		if _, err := d.Next(r.write(nil, doc)); err != nil {
			t.Fatal(err)
		}
		given = append(given, d.Document())
		copies = append(copies, slices.Clone(d.Document()))
		r.edit(doc)
	}
	for i := range given {
		if !bytes.Equal(given[i], copies[i]) {
			t.Fatalf("document %d became %s, was %s", i, given[i], copies[i])
		}
	}
}

func TestRecordings(t *testing.T) {
	files, _ := filepath.Glob(filepath.Join("..", "..", "shared", "recordings", "*.tar.zst"))
	if len(files) == 0 {
		t.Skip("../shared/recordings is missing")
	}
	tar, err := exec.LookPath("tar")
	if err != nil {
		t.Skip("tar is missing")
	}
	for _, file := range files {
		dir := t.TempDir()
		if out, err := exec.Command(tar, "--zstd", "-xf", file, "-C", dir).CombinedOutput(); err != nil {
			t.Skipf("zstd is missing: %v, %s", err, out)
		}
		var texts []string
		filepath.WalkDir(dir, func(path string, e os.DirEntry, err error) error {
			if err == nil && !e.IsDir() {
				texts = append(texts, path)
			}
			return err
		})
		slices.Sort(texts)
		if testing.Short() || raceEnabled {
			texts = texts[:min(len(texts), 20)]
		}
		d := NewDiffer(Options{})
		changed, sent, total := 0, 0, 0
		for _, path := range texts {
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if !json.Valid(text) || !utf8.Valid(text) {
				if _, err := d.Next(text); err == nil {
					t.Errorf("%s was accepted", path)
				}
				continue
			}
			before := d.Document()
			change, err := d.Next(text)
			if err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			if change.Kind == Changed {
				checkPatch(t, before, text, change.Patch)
				changed, sent, total = changed+1, sent+len(change.Patch), total+len(text)
			}
			if change.Kind != First {
				checkState(t, d, text)
			}
		}
		t.Logf("%s: %d texts, %d changes, %d of %d bytes", filepath.Base(file), len(texts), changed, sent, total)
	}
}

// TestPatchOfSpacedDocument: where white space is most of a text, a patch is
// still no larger than the document without it, and an envelope.
func TestPatchOfSpacedDocument(t *testing.T) {
	blank := strings.Repeat(" ", 60)
	spaced := func(s string) []byte {
		return []byte(strings.NewReplacer(":", blank+":"+blank, ",", blank+","+blank, "[", "["+blank).Replace(s))
	}
	for _, c := range [][2]string{
		{`{"a":1,"b":2,"c":3,"d":4}`, `{"a":5,"b":6,"c":7,"d":8}`},
		{`[[1,2,3],[4,5,6]]`, `[[2,3,1],[5,6,4]]`},
		{`{"a":{"x":1,"y":2},"b":{"x":1,"y":2}}`, `{"a":{"x":3,"y":4},"b":{"x":5,"y":6}}`},
	} {
		old, text := spaced(c[0]), spaced(c[1])
		patch, err := Diff(old, text)
		if envelope := len(`[{"op":"replace","path":"","value":}]`); err != nil || len(patch) > len(c[1])+envelope {
			t.Errorf("%s to %s: a patch of %d bytes, %s, %v", c[0], c[1], len(patch), patch, err)
		}
		checkPatch(t, old, text, patch)
	}
}
