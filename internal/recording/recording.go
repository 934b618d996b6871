// Package recording reads recorded APIs for tests.
package recording

import (
	"archive/tar"
	"errors"
	"io"
	"iter"
	"os"
	"path/filepath"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// Versions returns the versions of a recorded API, in order. It skips the test
// if shared/recordings next to the repository does not have the recording.
func Versions(t testing.TB, name string) iter.Seq[[]byte] {
	t.Helper()
	file, err := os.Open(filepath.Join(repository(t), "..", "shared", "recordings", name+".tar.zst"))
	if err != nil {
		t.Skipf("needs the recording %s.tar.zst in shared/recordings next to the repository", name)
	}
	t.Cleanup(func() { _ = file.Close() })
	return func(yield func([]byte) bool) {
		t.Helper()
		z, err := zstd.NewReader(file, zstd.WithDecoderMaxWindow(128<<20), zstd.WithDecoderConcurrency(1))
		if err != nil {
			t.Fatal(err)
		}
		defer z.Close()
		for archive := tar.NewReader(z); ; {
			header, err := archive.Next()
			if errors.Is(err, io.EOF) {
				return
			}
			if err != nil {
				t.Fatalf("%s: %v", file.Name(), err)
			}
			if header.Typeflag != tar.TypeReg {
				continue
			}
			text, err := io.ReadAll(archive)
			if err != nil {
				t.Fatalf("%s: %s: %v", file.Name(), header.Name, err)
			}
			if !yield(text) {
				return
			}
		}
	}
}

// repository returns the folder of the module's go.mod.
func repository(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		above := filepath.Dir(dir)
		if above == dir {
			t.Fatal("no go.mod here or above")
		}
		dir = above
	}
}
