package pollsse

import (
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// TestImports keeps Caddy out of the files that do not face it, and everything
// but the standard library out of jsondiff.
func TestImports(t *testing.T) {
	facing := []string{"module.go", "options.go", "caddyfile.go", "admin.go", "metrics.go", "command.go", "app.go", "poke.go", "serve.go"}
	checked := 0
	check := func(pattern string, allowed func(file, path string) bool) {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
			if err != nil {
				t.Fatal(err)
			}
			checked++
			for _, i := range f.Imports {
				path, _ := strconv.Unquote(i.Path.Value)
				if !allowed(file, path) {
					t.Errorf("%s must not import %s", file, path)
				}
			}
		}
	}
	standard := func(path string) bool { return !strings.Contains(strings.Split(path, "/")[0], ".") }
	check("*.go", func(file, path string) bool {
		return !strings.HasPrefix(path, "github.com/caddyserver/") || slices.Contains(facing, file)
	})
	check("jsondiff/*.go", func(_, path string) bool { return standard(path) })
	if checked < 15 {
		t.Errorf("only %d files were looked at", checked)
	}
}
