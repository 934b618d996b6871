package pollsse

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
)

// On recorded documents, a compressed delivery is a quarter of a plain one or
// less, for a client that is there all the time.
func TestWireBytesOnRecordings(t *testing.T) {
	if testing.Short() {
		t.Skip("replays recordings")
	}
	paths, _ := filepath.Glob("../shared/recordings/*.tar.zst")
	if len(paths) == 0 {
		t.Skip("needs the recordings in shared/recordings beside the repository")
	}
	for _, path := range paths {
		file, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		z, err := zstd.NewReader(file, zstd.WithDecoderMaxWindow(128<<20), zstd.WithDecoderConcurrency(1))
		if err != nil {
			t.Fatal(err)
		}
		key, zipped := testKey, testKey
		zipped.gzip = true
		d, l := newDiffer(nil, filter{}), newLog(256, time.Now())
		readers := []*rendition{l.join(key), l.join(zipped)}
		cursors, sizes := make([]cursor, 2), make([]int, 2)
		events, epochs := 0, map[uint64]bool{}
		for archive := tar.NewReader(z); events < 120; {
			header, err := archive.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if header.Typeflag != tar.TypeReg {
				continue
			}
			body, err := io.ReadAll(archive)
			if err != nil {
				t.Fatal(err)
			}
			doc, c, err := d.next(body, false)
			if err != nil || doc == nil {
				continue
			}
			l.publish(publication{state: stateLive, doc: doc, change: c, at: time.Now(), validated: true})
			epochs[readers[1].epochs.begun] = true
			first := cursors[0].seq == 0
			for i, r := range readers {
				var b block
				b, cursors[i], _ = r.after(cursors[i])
				if !first {
					sizes[i] += len(b.framed)
				}
			}
			if !first {
				events++
			}
		}
		for _, r := range readers {
			r.leave()
		}
		z.Close()
		file.Close()
		if events == 0 {
			t.Errorf("%s: no events", path)
			continue
		}
		t.Logf("%s: %d events in %d epochs, %d B plain, %d B compressed: %.3f", filepath.Base(path), events, len(epochs),
			sizes[0]/events, sizes[1]/events, float64(sizes[1])/float64(sizes[0]))
		if sizes[1]*4 > sizes[0] {
			t.Errorf("%s: more than a quarter", path)
		}
	}
}
