package pollsse

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

// TestReasonsAreDocumented: docs/protocol.md has every reason that a status can
// have, and no other. Those of a failed poll have a row in docs/upstreams.md
// and a sentence in error responses, too.
func TestReasonsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	polls, err := os.ReadFile("docs/upstreams.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "| reason | meaning |")
	table, _, _ = strings.Cut(table, "\n## ")
	var files []string
	for _, folder := range []string{".", "internal/upstream", "internal/feed"} {
		found, err := filepath.Glob(filepath.Join(folder, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	reasons := 0
	for _, file := range files {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			v, ok := n.(*ast.ValueSpec)
			if !ok || len(v.Values) != 1 || !strings.HasPrefix(strings.ToLower(v.Names[0].Name), "reason") {
				return true
			}
			literal, ok := v.Values[0].(*ast.BasicLit)
			if !ok {
				return true // a copy
			}
			reason, err := strconv.Unquote(literal.Value)
			if err != nil {
				t.Fatal(err)
			}
			if reasons++; !strings.Contains(table, "\n| `"+reason+"` |") {
				t.Errorf("docs/protocol.md does not explain %q", reason)
			}
			if strings.HasPrefix(file, "internal/upstream/") {
				if !regexp.MustCompile("(?m)^\\| .*`" + reason + "`.* \\| ").Match(polls) {
					t.Errorf("docs/upstreams.md does not explain %q", reason)
				}
				if upstreamProblems[reason] == "" {
					t.Errorf("upstreamProblems has no sentence for %q", reason)
				}
			}
			return true
		})
	}
	if rows := strings.Count(table, "\n| `"); rows != reasons {
		t.Errorf("docs/protocol.md explains %d reasons, the code has %d", rows, reasons)
	}
}

// TestMetricsAreDocumented: docs/operate/README.md has every metric, and no other.
func TestMetricsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("docs/operate/README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "| metric | labels |")
	table, _, ok := strings.Cut(table, "\n\n")
	if !ok {
		t.Fatal("docs/operate/README.md has no table of metrics")
	}
	var documented []string
	for line := range strings.Lines(table) {
		first, _, _ := strings.Cut(strings.TrimPrefix(line, "|"), "|")
		for _, m := range regexp.MustCompile("`([a-z0-9_]+)`").FindAllStringSubmatch(first, -1) {
			documented = append(documented, m[1])
		}
	}
	described := make(chan *prometheus.Desc)
	go func() {
		defer close(described)
		collector{newPool()}.Describe(described)
	}()
	var metrics []string
	for d := range described {
		_, name, _ := strings.Cut(d.String(), `fqName: "caddy_poll_sse_`)
		name, _, _ = strings.Cut(name, `"`)
		metrics = append(metrics, name)
	}
	for _, name := range metrics {
		if !slices.Contains(documented, name) {
			t.Errorf("docs/operate/README.md has no row for %s", name)
		}
	}
	for _, name := range documented {
		if !slices.Contains(metrics, name) {
			t.Errorf("docs/operate/README.md has %s, which does not exist", name)
		}
	}
}

// TestDesignNamesWhatExists: each `Type.member` and `package.Name` in
// docs/design.md is declared in the package or in one below internal.
func TestDesignNamesWhatExists(t *testing.T) {
	text, err := os.ReadFile("docs/design.md")
	if err != nil {
		t.Fatal(err)
	}
	declared := make(map[string]bool)
	for _, folder := range []string{".", "internal/upstream", "internal/feed", "internal/delivery", "internal/member", "internal/inspect", "jsondiff", "cluster"} {
		files, err := filepath.Glob(filepath.Join(folder, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, name := range declaredIn(f) {
				declared[name], declared[f.Name.Name+"."+name] = true, true
			}
		}
	}
	named := regexp.MustCompile("`([A-Za-z]+(?:\\.[A-Za-z]+)+)`").FindAllStringSubmatch(string(text), -1)
	checked := 0
	for _, m := range named {
		name := m[1]
		switch filepath.Ext(name) {
		case ".go", ".js", ".md", ".json":
			continue // files
		}
		if strings.HasPrefix(name, "caddy.") || strings.HasPrefix(name, "tls.") {
			continue
		}
		if checked++; !declared[name] {
			t.Errorf("docs/design.md names %s, which does not exist", name)
		}
	}
	if checked < 20 {
		t.Errorf("docs/design.md names %d functions and fields, or this test misses them", checked)
	}
}

// declaredIn returns the names of a file: functions and types by themselves,
// methods and fields behind their type.
func declaredIn(f *ast.File) (names []string) {
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			name := d.Name.Name
			if d.Recv != nil {
				of := d.Recv.List[0].Type
				if p, ok := of.(*ast.StarExpr); ok {
					of = p.X
				}
				if of, ok := of.(*ast.Ident); ok {
					name = of.Name + "." + name
				}
			}
			names = append(names, name)
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				spec, ok := spec.(*ast.TypeSpec)
				if !ok {
					continue
				}
				names = append(names, spec.Name.Name)
				if s, ok := spec.Type.(*ast.StructType); ok {
					for _, field := range s.Fields.List {
						for _, name := range field.Names {
							names = append(names, spec.Name.Name+"."+name.Name)
						}
					}
				}
			}
		}
	}
	return names
}
