package jsondiff

import (
	"bytes"
	"testing"
)

// BenchmarkNext polls two documents in turn: the smallest of the shapes that
// bench/ compares with other libraries, for tuning.
func BenchmarkNext(b *testing.B) {
	rows := listOf(upTo(2000), `{"id":#,"name":"row #","price":#.25,"tags":["a","b"]}`)
	for _, c := range []struct {
		name     string
		old, new []byte
	}{
		{"unchanged", rows, bytes.Clone(rows)},
		{"leaf", rows, bytes.Replace(rows, []byte(":1000.25"), []byte(":1000.50"), 1)},
		{"insert", rows, append([]byte(`[{"id":-1,"name":"new"},`), rows[1:]...)},
		{"prices", rows, bytes.ReplaceAll(rows, []byte("7.25"), []byte("7.5"))},
	} {
		b.Run(c.name, func(b *testing.B) {
			d := NewDiffer(Options{})
			texts := [2][]byte{c.old, c.new}
			b.SetBytes(int64(len(c.new)))
			b.ReportAllocs()
			size := 0
			for i := 0; b.Loop(); i++ {
				change, err := d.Next(texts[i%2])
				if err != nil {
					b.Fatal(err)
				}
				size = len(change.Patch)
			}
			b.ReportMetric(float64(size), "patch-B")
		})
	}
}

// BenchmarkDocument changes one leaf of a large document, and writes it.
func BenchmarkDocument(b *testing.B) {
	text := listOf(upTo(40_000), `{"id":#,"name":"row #","price":#.25,"tags":["a","b"],"note":"some more text to make the row larger"}`)
	patches := [2][]byte{[]byte(`[{"op":"replace","path":"/20000/price","value":1}]`), []byte(`[{"op":"replace","path":"/20000/price","value":2}]`)}
	b.Run("Document", func(b *testing.B) {
		d, err := ParseDocument(text)
		if err != nil {
			b.Fatal(err)
		}
		b.SetBytes(int64(len(text)))
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if err := d.Apply(patches[i%2]); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("AppendTo", func(b *testing.B) {
		d, err := ParseDocument(text)
		if err != nil {
			b.Fatal(err)
		}
		if err := d.Apply(patches[0]); err != nil {
			b.Fatal(err)
		}
		var out []byte
		b.SetBytes(int64(len(text)))
		for b.Loop() {
			if out, err = d.AppendTo(out[:0]); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("Apply", func(b *testing.B) {
		b.SetBytes(int64(len(text)))
		b.ReportAllocs()
		for i := 0; b.Loop(); i++ {
			if _, err := Apply(text, patches[i%2]); err != nil {
				b.Fatal(err)
			}
		}
	})
}
