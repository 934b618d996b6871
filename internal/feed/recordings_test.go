package feed

import (
	"testing"
	"time"

	"github.com/pollsse/caddy-poll-sse/internal/recording"
)

// TestWireBytesOnRecordings: on recorded documents, a compressed delivery takes
// at most a quarter of the bytes of a plain one, for a client that is there all
// the time.
func TestWireBytesOnRecordings(t *testing.T) {
	if testing.Short() {
		t.Skip("replays recordings")
	}
	for _, name := range []string{"ca-fires", "pge-outages"} {
		t.Run(name, func(t *testing.T) {
			key, zipped := testKey, testKey
			zipped.Gzip = true
			d, l := newPoller(), New(256, time.Now())
			readers := []*Rendition{l.Join(key), l.Join(zipped)}
			cursors, sizes := make([]Cursor, 2), make([]int, 2)
			events, epochs := 0, map[uint64]bool{}
			for body := range recording.Versions(t, name) {
				doc, c, err := d.update(body, false)
				if err != nil || doc == nil {
					continue
				}
				l.Publish(Publication{State: Live, Document: doc, Change: c, At: time.Now(), Validated: true})
				epochs[readers[1].epochs.begun] = true
				first := cursors[0].seq == 0
				for i, r := range readers {
					var b Block
					b, cursors[i], _ = r.After(cursors[i])
					if !first {
						sizes[i] += len(b.framed)
					}
				}
				if first {
					continue
				}
				if events++; events == 120 {
					break
				}
			}
			for _, r := range readers {
				r.Leave()
			}
			if events == 0 {
				t.Fatal("no events")
			}
			t.Logf("%d events in %d epochs, %d B plain, %d B compressed: %.3f", events, len(epochs),
				sizes[0]/events, sizes[1]/events, float64(sizes[1])/float64(sizes[0]))
			if sizes[1]*4 > sizes[0] {
				t.Error("more than a quarter")
			}
		})
	}
}
