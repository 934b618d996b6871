package jsondiff

import (
	"bytes"
	"fmt"
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

func ExampleDiff() {
	patch, _ := Diff(
		[]byte(`[{"id":1,"price":0.1000},{"id":2,"price":5}]`),
		[]byte(`[{"id":3,"price":1E400},{"id":1,"price":0.1000},{"id":2,"price":6}]`))
	fmt.Println(string(patch))
	// Output: [{"op":"add","path":"/0","value":{"id":3,"price":1E400}},{"op":"replace","path":"/2/price","value":6}]
}
