package jsondiff

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

// decode reads a text with the standard library: the judge of these tests.
func decode(t testing.TB, text []byte) any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		t.Fatalf("decoding %s: %v", text, err)
	}
	return v
}

// judge applies what Diff writes to decoded values, by the letter of RFC 6902
// and without any code of the package.
func judge(t testing.TB, doc any, patch []byte) any {
	t.Helper()
	var ops []struct {
		Op, Path, From string
		Value          json.RawMessage
	}
	if err := json.Unmarshal(patch, &ops); err != nil {
		t.Fatalf("patch %s: %v", patch, err)
	}
	for _, op := range ops {
		switch op.Op {
		case "add", "replace":
			doc = edit(t, doc, tokens(op.Path), op.Op, decode(t, op.Value), nil)
		case "remove":
			doc = edit(t, doc, tokens(op.Path), "remove", nil, nil)
		case "move":
			var taken any
			doc = edit(t, doc, tokens(op.From), "remove", nil, &taken)
			doc = edit(t, doc, tokens(op.Path), "add", taken, nil)
		default:
			t.Fatalf("operation %q", op.Op)
		}
	}
	return doc
}

func tokens(pointer string) []string {
	if pointer == "" {
		return nil
	}
	parts := strings.Split(pointer[1:], "/")
	for i := range parts {
		parts[i] = strings.NewReplacer("~1", "/", "~0", "~").Replace(parts[i])
	}
	return parts
}

func edit(t testing.TB, doc any, path []string, op string, value any, taken *any) any {
	t.Helper()
	if len(path) == 0 {
		if taken != nil {
			*taken = doc
		}
		return value
	}
	switch d := doc.(type) {
	case map[string]any:
		old, ok := d[path[0]]
		if len(path) > 1 {
			if !ok {
				t.Fatalf("no member %q", path[0])
			}
			d[path[0]] = edit(t, old, path[1:], op, value, taken)
			return d
		}
		if !ok && op != "add" {
			t.Fatalf("%s of member %q, which is not there", op, path[0])
		}
		if taken != nil {
			*taken = old
		}
		if op == "remove" {
			delete(d, path[0])
		} else {
			d[path[0]] = value
		}
		return d
	case []any:
		i, err := strconv.Atoi(path[0])
		if err != nil || i < 0 || i > len(d) || i == len(d) && (op != "add" || len(path) > 1) {
			t.Fatalf("%s at index %q of %d elements", op, path[0], len(d))
		}
		switch {
		case len(path) > 1:
			d[i] = edit(t, d[i], path[1:], op, value, taken)
		case op == "add":
			d = append(d[:i:i], append([]any{value}, d[i:]...)...)
		case op == "remove":
			if taken != nil {
				*taken = d[i]
			}
			d = append(d[:i:i], d[i+1:]...)
		default:
			d[i] = value
		}
		return d
	}
	t.Fatalf("%s below a scalar", op)
	return nil
}

// random documents and edits.
type generator struct{ *rand.Rand }

func (g generator) scalar() string {
	switch g.IntN(10) {
	case 0:
		return "null"
	case 1:
		return "true"
	case 2:
		return "false"
	case 3:
		return []string{"0", "-0", "1.0", "1.10", "1E400", "12345678901234567890", "0.1000", "1e5", "-1.5e-3"}[g.IntN(9)]
	case 4:
		return []string{`"\u0041"`, `"A"`, `"\n"`, `"é"`, `"\u00e9"`, `"\ud83d\ude00"`, `"😀"`, `"~/"`, `"\/"`, `"\ud800"`, `""`}[g.IntN(11)]
	case 5:
		return strconv.Quote(strings.Repeat("x", g.IntN(60)))
	default:
		return strconv.Itoa(g.IntN(30))
	}
}

func (g generator) name() string {
	return []string{`"a"`, `"b"`, `"c"`, `"id"`, `"key"`, `"a/b"`, `"m~n"`, `""`, `"\u0061"`, `"ü"`, `"\""`, `"0"`, `"-"`, `"user_id"`, `"longer name"`}[g.IntN(15)]
}

func (g generator) space() string {
	if g.IntN(20) > 0 {
		return ""
	}
	return []string{" ", "\n", "\t", "\r\n  "}[g.IntN(4)]
}

func (g generator) value(depth int) any {
	if depth <= 0 || g.IntN(4) == 0 {
		return g.scalar()
	}
	n := g.IntN(5)
	if g.IntN(8) == 0 {
		n = g.IntN(40)
	}
	if g.IntN(2) == 0 {
		out := make([]any, n)
		rows := g.IntN(3) == 0
		for i := range out {
			if out[i] = g.value(depth - 1); rows {
				out[i] = &object{[]string{`"id"`, `"v"`}, []any{strconv.Itoa(i + g.IntN(3)*100), g.value(depth - 1)}}
			}
		}
		return out
	}
	o := new(object)
	for range n {
		o.names = append(o.names, g.name())
		o.values = append(o.values, g.value(depth-1))
	}
	return o
}

type object struct {
	names  []string
	values []any
}

func (g generator) write(b *strings.Builder, v any) {
	b.WriteString(g.space())
	switch v := v.(type) {
	case string:
		b.WriteString(v)
	case []any:
		b.WriteByte('[')
		for i, e := range v {
			if i > 0 {
				b.WriteByte(',')
			}
			g.write(b, e)
		}
		b.WriteByte(']')
	case *object:
		b.WriteByte('{')
		for i, e := range v.values {
			if i > 0 {
				b.WriteByte(',')
			}
			b.WriteString(g.space() + v.names[i] + g.space() + ":")
			g.write(b, e)
		}
		b.WriteByte('}')
	}
	b.WriteString(g.space())
}

// edit returns v with some random edits.
func (g generator) edit(v any, depth int) any {
	if g.IntN(12) == 0 {
		return g.value(depth)
	}
	switch v := v.(type) {
	case []any:
		out := append([]any(nil), v...)
		for range g.IntN(4) {
			switch k := g.IntN(6); {
			case k == 0:
				i := g.IntN(len(out) + 1)
				out = append(out[:i:i], append([]any{g.value(depth - 1)}, out[i:]...)...)
			case len(out) == 0:
			case k == 1:
				i := g.IntN(len(out))
				out = append(out[:i:i], out[i+1:]...)
			case k == 2:
				i, j := g.IntN(len(out)), g.IntN(len(out))
				out[i], out[j] = out[j], out[i]
			case k == 3 && g.IntN(4) == 0:
				g.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
			default:
				i := g.IntN(len(out))
				out[i] = g.edit(out[i], depth-1)
			}
		}
		return out
	case *object:
		out := &object{append([]string(nil), v.names...), append([]any(nil), v.values...)}
		for range g.IntN(4) {
			switch k := g.IntN(6); {
			case k == 0:
				out.names, out.values = append(out.names, g.name()), append(out.values, g.value(depth-1))
			case len(out.names) == 0:
			case k == 1:
				i := g.IntN(len(out.names))
				out.names, out.values = append(out.names[:i:i], out.names[i+1:]...), append(out.values[:i:i], out.values[i+1:]...)
			case k == 2:
				g.Shuffle(len(out.names), func(i, j int) {
					out.names[i], out.names[j] = out.names[j], out.names[i]
					out.values[i], out.values[j] = out.values[j], out.values[i]
				})
			default:
				i := g.IntN(len(out.names))
				out.values[i] = g.edit(out.values[i], depth-1)
			}
		}
		return out
	}
	if g.IntN(3) == 0 {
		return g.value(depth)
	}
	return v
}

func (g generator) text(v any) []byte {
	var b strings.Builder
	g.write(&b, v)
	return []byte(b.String())
}

// TestRandom follows chains of random edits: every patch leads from one
// document to the next, by Apply and by a judge of its own, and the retained
// state equals a fresh parse.
func TestRandom(t *testing.T) {
	pairs := 100_000
	if testing.Short() || raceEnabled {
		pairs = 5_000
	}
	g := generator{rand.New(rand.NewPCG(1, 2))}
	for done := 0; done < pairs; {
		v := g.value(1 + g.IntN(3))
		text := g.text(v)
		var d Differ
		if c, err := d.Next(text); err != nil || c.Kind != First {
			t.Fatalf("first %s: %v %v", text, c, err)
		}
		for range 10 {
			done++
			v = g.edit(v, 4)
			next := g.text(v)
			check(t, &d, text, next)
			text = next
		}
	}
}

func check(t *testing.T, d *Differ, old, next []byte) {
	t.Helper()
	c, err := d.Next(next)
	if err != nil {
		t.Fatalf("old %s\nnew %s\n%v", old, next, err)
	}
	want := decode(t, next)
	switch c.Kind {
	case Unchanged:
		if !reflect.DeepEqual(decode(t, old), want) {
			t.Fatalf("old %s\nnew %s\nunchanged", old, next)
		}
	case Changed:
		if got := judge(t, decode(t, old), c.Patch); !reflect.DeepEqual(got, want) {
			t.Fatalf("old   %s\nnew   %s\npatch %s\ngot   %v\nwant  %v", old, next, c.Patch, got, want)
		}
		got, err := Apply(old, c.Patch)
		if err != nil || !reflect.DeepEqual(decode(t, got), want) {
			t.Fatalf("old   %s\nnew   %s\npatch %s\nApply %s %v", old, next, c.Patch, got, err)
		}
		if most := len(next) + 64; len(c.Patch) > most {
			t.Fatalf("old   %s\nnew   %s\npatch %s\nis longer than the document", old, next, c.Patch)
		}
		if doc, err := Compact(nil, next); err != nil || !bytes.Equal(doc, d.Document()) {
			t.Fatalf("new %s\ndocument %s\nwant     %s", next, d.Document(), doc)
		}
	default:
		t.Fatalf("kind %v", c.Kind)
	}
	fresh, err := parse(next)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(fresh.tape, d.last.tape) {
		t.Fatalf("old %s\nnew %s\ntape %v\nwant %v", old, next, d.last.tape, fresh.tape)
	}
}

// TestCorruption accepts a damaged text exactly when the standard library does,
// fresh or against the text it came from.
func TestCorruption(t *testing.T) {
	g := generator{rand.New(rand.NewPCG(3, 4))}
	for range 20_000 {
		v := g.value(3)
		text := g.text(v)
		var d Differ
		if _, err := d.Next(text); err != nil {
			t.Fatal(err)
		}
		bad := bytes.Clone(text)
		for range 1 + g.IntN(3) {
			i := g.IntN(len(bad))
			switch g.IntN(3) {
			case 0:
				bad[i] = byte(g.IntN(256))
			case 1:
				bad[i] = `{}[],:"\ 0e.-u`[g.IntN(14)]
			default:
				bad = append(bad[:i:i], bad[i+1:]...)
			}
			if len(bad) == 0 {
				bad = []byte{'1'}
			}
		}
		want := json.Valid(bad) && utf8.Valid(bad)
		if _, err := parse(bad); (err == nil) != want {
			t.Fatalf("parse of %q: %v, want valid %v", bad, err, want)
		}
		if _, err := d.Next(bad); (err == nil) != want {
			t.Fatalf("%q after %q: %v, want valid %v", bad, text, err, want)
		}
	}
}

func TestHostile(t *testing.T) {
	const n = 100_000
	numbers := make([]string, n)
	for i := range numbers {
		numbers[i] = fmt.Sprintf(`{"id":%d,"name":"row number %d"}`, i, i)
	}
	join := func(rows []string) []byte { return []byte("[" + strings.Join(rows, ",") + "]") }
	old := join(numbers)
	reversed := make([]string, n)
	for i := range numbers {
		reversed[n-1-i] = numbers[i]
	}
	shuffled := append([]string(nil), numbers...)
	rand.New(rand.NewPCG(5, 6)).Shuffle(n, func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	for name, rows := range map[string][]string{"reversed": reversed, "shuffled": shuffled, "rotated": append(append([]string(nil), numbers[777:]...), numbers[:777]...)} {
		t.Run(name, func(t *testing.T) {
			var d Differ
			if _, err := d.Next(old); err != nil {
				t.Fatal(err)
			}
			check(t, &d, old, join(rows))
		})
	}
	t.Run("deep", func(t *testing.T) {
		if _, err := parse(bytes.Repeat([]byte{'['}, 1_000_000)); err == nil || !strings.Contains(err.Error(), ErrDepth.Error()) {
			t.Fatalf("a million brackets: %v", err)
		}
	})
}
