package pollsse

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// TestReasonsAreDocumented: docs/protocol.md has every reason that a status can
// give, and no other.
func TestReasonsAreDocumented(t *testing.T) {
	text, err := os.ReadFile("docs/protocol.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "| reason | meaning |")
	table, _, _ = strings.Cut(table, "\n## ")
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	reasons := 0
	for _, file := range files {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		ast.Inspect(f, func(n ast.Node) bool {
			v, ok := n.(*ast.ValueSpec)
			if !ok || len(v.Values) != 1 || !strings.HasPrefix(v.Names[0].Name, "reason") {
				return true
			}
			reason, err := strconv.Unquote(v.Values[0].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			if reasons++; !strings.Contains(table, "\n| `"+reason+"` |") {
				t.Errorf("docs/protocol.md does not explain %q", reason)
			}
			return true
		})
	}
	if rows := strings.Count(table, "\n| `"); rows != reasons {
		t.Errorf("docs/protocol.md explains %d reasons, the code has %d", rows, reasons)
	}
}
