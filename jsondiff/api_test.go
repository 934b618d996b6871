package jsondiff

import (
	"go/ast"
	goparser "go/parser"
	"go/token"
	"os"
	"regexp"
	"strings"
	"testing"
)

// TestEveryExportHasAnExample: what nobody shows how to use, nobody should have
// to keep. An example is no test: one has to name the export as well.
func TestEveryExportHasAnExample(t *testing.T) {
	files, err := os.ReadDir(".")
	if err != nil {
		t.Fatal(err)
	}
	var examples, tests []byte
	for _, file := range files {
		if !strings.HasSuffix(file.Name(), "_test.go") {
			continue
		}
		text, err := os.ReadFile(file.Name())
		if err != nil {
			t.Fatal(err)
		}
		if file.Name() == "example_test.go" {
			examples = text
		} else {
			tests = append(tests, text...)
		}
	}
	exports := 0
	for _, file := range files {
		if !strings.HasSuffix(file.Name(), ".go") || strings.HasSuffix(file.Name(), "_test.go") {
			continue
		}
		f, err := goparser.ParseFile(token.NewFileSet(), file.Name(), nil, goparser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		check := func(name *ast.Ident, doc *ast.CommentGroup) {
			if !name.IsExported() || name.Name == "Error" || name.Name == "Unwrap" || name.Name == "String" {
				return
			}
			exports++
			// A type is shown, and tested, by what gives its values.
			end := `\b`
			if name.Obj != nil && name.Obj.Kind == ast.Typ {
				end = ""
			}
			word := regexp.MustCompile(`(\b|_)` + name.Name + end)
			if !word.Match(examples) {
				t.Errorf("%s: %s has no example", file.Name(), name.Name)
			}
			if !word.Match(tests) && name.Name != "MarshalJSON" { // which encoding/json calls
				t.Errorf("%s: %s has no test", file.Name(), name.Name)
			}
			if doc.Text() == "" {
				t.Errorf("%s: %s has no comment", file.Name(), name.Name)
			}
		}
		for _, d := range f.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Recv == nil || ast.IsExported(strings.TrimPrefix(receiver(d), "*")) {
					check(d.Name, d.Doc)
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					switch spec := spec.(type) {
					case *ast.TypeSpec:
						check(spec.Name, d.Doc)
					case *ast.ValueSpec:
						for _, name := range spec.Names {
							doc := spec.Doc
							if doc == nil {
								doc = spec.Comment
							}
							if doc == nil {
								doc = d.Doc
							}
							check(name, doc)
						}
					}
				}
			}
		}
	}
	if exports < 40 {
		t.Errorf("only %d exports were found", exports)
	}
}

func receiver(f *ast.FuncDecl) string {
	switch r := f.Recv.List[0].Type.(type) {
	case *ast.StarExpr:
		return "*" + r.X.(*ast.Ident).Name
	case *ast.Ident:
		return r.Name
	}
	return ""
}
