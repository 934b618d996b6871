package main

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/pollsse/caddy-poll-sse/jsondiff"
)

// every is how often a recorded pair goes to the peers as well.
const every = 20

// recordings replays what real APIs answered, version by version.
func recordings(dir string) error {
	files, _ := filepath.Glob(filepath.Join("..", "..", "shared", "recordings", "*.tar.zst"))
	if len(files) == 0 {
		fmt.Print("The recordings are not there.\n\n")
		return nil
	}
	fmt.Printf("## Recordings\n\nEvery pair by jsondiff, patches judged; every %dth pair by the peers too, whose rows hold those pairs alone.\n\n"+
		"| recording | | pairs | changed | documents | patches | of documents | time | exact |\n|---|---|--:|--:|--:|--:|--:|--:|--:|\n", every)
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".tar.zst")
		versions, err := unpack(file)
		if err != nil {
			fmt.Printf("| %s | %v | | | | | | | |\n", name, err)
			continue
		}
		if err := replay(dir, name, versions); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	fmt.Println()
	return nil
}

func unpack(file string) ([][]byte, error) {
	cmd := exec.Command("zstd", "-dc", "--long=27", file)
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	var versions [][]byte
	for r := tar.NewReader(out); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			cmd.Process.Kill()
			cmd.Wait()
			return nil, err
		}
		if h.Typeflag != tar.TypeReg {
			continue
		}
		text, err := io.ReadAll(r)
		if err != nil {
			return nil, err
		}
		versions = append(versions, text)
	}
	return versions, cmd.Wait()
}

type tally struct {
	name                  string
	pairs, changed, exact int
	documents, patches    int
	took                  time.Duration
	start                 func([]byte) (func([]byte) ([]byte, error), func() error)
	failed                string
}

func (t *tally) count(old, new, patch []byte, took time.Duration) error {
	t.pairs++
	t.took += took
	t.documents += len(new)
	if len(patch) > len("[]") {
		t.changed++
		t.patches += len(patch)
	}
	err := wrongPatch(old, new, patch, false)
	if err == nil {
		t.exact++
	}
	return err
}

func replay(dir, name string, versions [][]byte) error {
	all := &tally{name: "jsondiff, every pair"}
	some := &tally{name: "jsondiff"}
	tallies := []*tally{some}
	for _, c := range contenders() {
		switch c.name {
		case "gomodules", "mattbaird", "wI2L go-json", "wI2L LCS rationalize go-json":
			tallies = append(tallies, &tally{name: c.name, start: c.start})
		}
	}
	oldFile, newFile := filepath.Join(dir, "old.json"), filepath.Join(dir, "new.json")
	d := jsondiff.NewDiffer(jsondiff.Options{})
	var old []byte
	n := 0
	for i, new := range versions {
		from := time.Now()
		c, err := d.Next(new)
		took := time.Since(from)
		if err != nil {
			var syntax *jsondiff.SyntaxError
			if errors.As(err, &syntax) {
				continue // the upstream answered so; the document stays
			}
			return fmt.Errorf("version %d: %w", i, err)
		}
		if c.Kind == jsondiff.First {
			old = new
			continue
		}
		patch := []byte("[]")
		if c.Kind == jsondiff.Changed {
			patch = append([]byte(nil), c.Patch...)
		}
		if err := all.count(old, new, patch, took); err != nil {
			return fmt.Errorf("version %d: %w", i, err)
		}
		if n++; n%every == 0 {
			some.count(old, new, patch, took)
			if err := os.WriteFile(oldFile, old, 0o600); err != nil {
				return err
			}
			if err := os.WriteFile(newFile, new, 0o600); err != nil {
				return err
			}
			for _, t := range tallies[1:] {
				if t.failed != "" {
					continue
				}
				if t.pairs == 0 {
					if t.failed = try(t.name, oldFile, newFile); t.failed != "" {
						continue
					}
				}
				run, _ := t.start(old)
				from := time.Now()
				patch, err := run(new)
				took := time.Since(from)
				if err != nil {
					t.failed = err.Error()
					continue
				}
				t.count(old, new, patch, took)
			}
		}
		old = new
	}
	for _, t := range append([]*tally{all}, tallies...) {
		if t.failed != "" {
			fmt.Printf("| %s | %s | %s | | | | | | |\n", name, t.name, t.failed)
			continue
		}
		fmt.Printf("| %s | %s | %d | %d | %s | %s | %.2f %% | %s | %d |\n", name, t.name, t.pairs, t.changed, size(t.documents), size(t.patches),
			100*float64(t.patches)/float64(max(1, t.documents)), span(t.took), t.exact)
	}
	return nil
}
