package jsondiff

import (
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// readCases reads a txtar file whose sections are named CASE/PART and calls do
// with each case's parts.
func readCases(t *testing.T, file string, do func(t *testing.T, parts map[string]string)) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string]map[string]string{}
	var order []string
	name, part := "", ""
	for line := range strings.Lines(string(data)) {
		if s, ok := strings.CutPrefix(line, "-- "); ok {
			name, part = path.Split(strings.TrimSuffix(strings.TrimSpace(s), " --"))
			if cases[name] == nil {
				cases[name] = map[string]string{}
				order = append(order, name)
			}
			if _, again := cases[name][part]; again {
				t.Fatalf("%s: %s%s occurs twice", file, name, part)
			}
			cases[name][part] = ""
			continue
		}
		if name != "" {
			cases[name][part] += line
		}
	}
	if len(order) == 0 {
		t.Fatalf("%s has no cases", file)
	}
	for _, name := range order {
		for part, text := range cases[name] {
			cases[name][part] = strings.TrimSuffix(text, "\n")
		}
		t.Run(strings.TrimSuffix(name, "/"), func(t *testing.T) { do(t, cases[name]) })
	}
}

// conformance gives a file of the public suites, which lie beside the
// repository; it skips the test where they are not there.
func conformance(t *testing.T, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "..", "shared", "conformance", name))
	if err != nil {
		t.Skip("the conformance suites are not there: ", err)
	}
	return data
}

// seed reads every case's parts as a fuzz target's seeds.
func seed(f *testing.F, file string, parts ...string) [][]string {
	f.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		f.Fatal(err)
	}
	cases := map[string][]string{}
	for _, section := range strings.Split(string(data), "\n-- ") {
		head, body, _ := strings.Cut(section, " --\n")
		name, part := path.Split(head)
		if i := slices.Index(parts, part); i >= 0 {
			if cases[name] == nil {
				cases[name] = make([]string, len(parts))
			}
			cases[name][i] = body
		}
	}
	var all [][]string
	for _, c := range cases {
		all = append(all, c)
	}
	return all
}
