package jsondiff

import (
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// addCorpus adds what fuzzing has found of interest so far, in
// testdata/corpus/TARGET.gz: files as go test keeps them, one behind the other.
// Short tests do without.
func addCorpus(f *testing.F) {
	f.Helper()
	if testing.Short() {
		return
	}
	file, err := os.Open(filepath.Join("testdata", "corpus", f.Name()+".gz"))
	if err != nil {
		f.Fatal(err)
	}
	defer file.Close()
	unzipped, err := gzip.NewReader(file)
	if err != nil {
		f.Fatal(err)
	}
	text, err := io.ReadAll(unzipped)
	if err != nil {
		f.Fatal(err)
	}
	inputs := strings.Split(string(text), "go test fuzz v1\n")[1:]
	if len(inputs) == 0 {
		f.Fatal("the corpus is empty")
	}
	for _, input := range inputs {
		var values []any
		for line := range strings.Lines(input) {
			kind, literal, _ := strings.Cut(strings.TrimSuffix(line, ")\n"), "(")
			var value any
			var err error
			switch kind {
			case "string":
				value, err = strconv.Unquote(literal)
			case "[]byte":
				var s string
				s, err = strconv.Unquote(literal)
				value = []byte(s)
			case "byte":
				var r rune
				r, _, _, err = strconv.UnquoteChar(literal[1:len(literal)-1], '\'')
				value = byte(r)
			case "bool":
				value, err = strconv.ParseBool(literal)
			default:
				f.Fatalf("%q is no value", line)
			}
			if err != nil {
				f.Fatalf("%q: %v", line, err)
			}
			values = append(values, value)
		}
		f.Add(values...)
	}
}
