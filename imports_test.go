package pollsse

import (
	"bytes"
	"cmp"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/pollsse/caddy-poll-sse"

type wall struct {
	folder  string
	imports []string
}

// mayImport is the table of inner walls: a folder and what its code may import
// besides the standard library, packages below included. Tests may import more.
// The root, which is not in it, faces Caddy; see TestFilesThatFaceCaddy.
var mayImport = []wall{
	{"jsondiff", nil},
	{"internal/upstream", []string{
		module + "/jsondiff",
		"github.com/klauspost/compress/zstd",
		"golang.org/x/net/http/httpguts",
		"golang.org/x/oauth2",
		"golang.org/x/sync/singleflight",
		"golang.org/x/text",
	}},
	{"internal/feed", nil},
	{"internal/delivery", []string{module + "/internal/feed", "golang.org/x/sys"}},
	{"internal/inspect", []string{module + "/jsondiff", module + "/internal/upstream"}},
	{"internal/judge", nil},
	{"internal/process", nil},
	{"internal/recording", []string{"github.com/klauspost/compress/zstd"}},
	{"client", nil},
	{"cluster", nil},
	{"cluster/clustertest", []string{module + "/cluster"}},
	{"cluster/nodes", []string{module + "/cluster", module + "/internal/member"}},
	{"internal/member", []string{module + "/cluster", "github.com/klauspost/compress/zstd"}},
}

// TestImports holds every folder to the table, and the table to every folder.
func TestImports(t *testing.T) {
	for _, row := range mayImport {
		for file, paths := range importsOf(t, row.folder) {
			for _, path := range paths {
				allowed := func(prefix string) bool { return path == prefix || strings.HasPrefix(path, prefix+"/") }
				if !isStandard(path) && !slices.ContainsFunc(row.imports, allowed) {
					t.Errorf("%s must not import %s", file, path)
				}
			}
		}
	}
	folders, err := filepath.Glob("internal/*")
	if err != nil || len(folders) == 0 {
		t.Fatalf("no folders in internal: %v", err)
	}
	for _, folder := range folders {
		if !slices.ContainsFunc(mayImport, func(w wall) bool { return w.folder == filepath.ToSlash(folder) }) {
			t.Errorf("%s has no row in the table of imports", folder)
		}
	}
}

// TestOnlyEnginesLinkNodes: what nodes do is in no build without an engine.
// The root knows it by interfaces: one call of a method of Node or Member
// links nearly all of it, 176 KB.
func TestOnlyEnginesLinkNodes(t *testing.T) {
	for file, paths := range importsOf(t, ".") {
		if slices.Contains(paths, module+"/cluster/nodes") {
			t.Errorf("%s must not import cluster/nodes", file)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if name := regexp.MustCompile(`\bmember\.(NewNode|Node|Member|Link)\b`).Find(text); name != nil {
			t.Errorf("%s must not name %s", file, name)
		}
	}
	for _, engine := range []string{"nats", "redis"} {
		imported := false
		for _, paths := range importsOf(t, "cluster/"+engine) {
			imported = imported || slices.Contains(paths, module+"/cluster/nodes")
		}
		if !imported {
			t.Errorf("cluster/%s does not import cluster/nodes: it would be refused", engine)
		}
	}
	// Fields of a type that reflection can reach link its methods, too.
	text, err := os.ReadFile("internal/member/turn.go")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(text, []byte("\n\tm polled\n}")) {
		t.Error("a Turn names more than an interface")
	}
}

// TestFilesThatFaceCaddy keeps Caddy out of the root's other files.
func TestFilesThatFaceCaddy(t *testing.T) {
	facing := []string{"module.go", "options.go", "blocks.go", "transport.go", "exit.go", "caddyfile.go", "admin.go", "metrics.go", "command.go", "app.go", "cluster.go", "poke.go", "serve.go", "tree.go", "tree_admin.go", "paging.go", "problem.go", "pages.go", "placeholder.go", "admission.go", "inspect_command.go", "ready.go", "inspector.go", "events.go", "lint.go", "drain.go"}
	for file, paths := range importsOf(t, ".") {
		for _, path := range paths {
			if strings.HasPrefix(path, "github.com/caddyserver/") && !slices.Contains(facing, file) {
				t.Errorf("%s must not import %s", file, path)
			}
		}
	}
}

// TestMapNamesEveryFile: the map in docs/design.md has a row for each file of the
// folders that have a table there, and no row for a file that is gone.
func TestMapNamesEveryFile(t *testing.T) {
	text, err := os.ReadFile("docs/design.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, ok := bytes.Cut(text, []byte("\n## The map\n"))
	text, _, end := bytes.Cut(text, []byte("\n## "))
	if !ok || !end {
		t.Fatal("docs/design.md has no section The map")
	}
	table := regexp.MustCompile("^(?:(Root)|`([a-z/]+)`)[,:]")
	file := regexp.MustCompile("`([a-z0-9_-]+\\.(?:go|js))`")
	mapped := make(map[string][]string) // files by folder
	folder := ""
	for line := range strings.Lines(string(text)) {
		if m := table.FindStringSubmatch(line); m != nil {
			folder = cmp.Or(m[2], ".")
		}
		if folder != "" && strings.HasPrefix(line, "|") {
			for _, m := range file.FindAllStringSubmatch(line, -1) {
				mapped[folder] = append(mapped[folder], m[1])
			}
		}
	}
	if len(mapped) < 6 {
		t.Fatalf("the map has tables for %d folders", len(mapped))
	}
	for folder, names := range mapped {
		entries, err := os.ReadDir(folder)
		if err != nil {
			t.Fatal(err)
		}
		var files []string
		for _, e := range entries {
			if name := e.Name(); (strings.HasSuffix(name, ".go") || strings.HasSuffix(name, ".js")) && !strings.HasSuffix(name, "_test.go") {
				files = append(files, name)
			}
		}
		for _, name := range files {
			if !slices.Contains(names, name) {
				t.Errorf("the map in docs/design.md has no row for %s", filepath.Join(folder, name))
			}
		}
		for _, name := range names {
			if !slices.Contains(files, name) {
				t.Errorf("the map in docs/design.md names %s, which is gone", filepath.Join(folder, name))
			}
		}
	}
	for _, row := range mayImport {
		if strings.HasPrefix(row.folder, "internal/") && !bytes.Contains(text, []byte("`"+row.folder+"`")) {
			t.Errorf("the map in docs/design.md does not name %s", row.folder)
		}
	}
}

// importsOf returns what the files of a folder import, tests left out.
func importsOf(t *testing.T, folder string) map[string][]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	imports := make(map[string][]string)
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ImportsOnly)
		if err != nil {
			t.Fatal(err)
		}
		imports[file] = nil
		for _, i := range f.Imports {
			path, _ := strconv.Unquote(i.Path.Value)
			imports[file] = append(imports[file], path)
		}
	}
	if len(imports) == 0 {
		t.Fatalf("%s has no Go files", folder)
	}
	return imports
}

// isStandard reports whether a package is of the standard library: no domain
// begins its path.
func isStandard(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".")
}
