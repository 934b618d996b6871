package pollsse

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

// gunzip decodes a stream that was cut off, as they all are.
func gunzip(t *testing.T, b []byte) string {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(z)
	if !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("decoding: %v after %q", err, text)
	}
	return string(text)
}

// checkVersions fails where a version in a stream's text is lost, repeated or
// on a wrong base. It returns the last.
func checkVersions(t *testing.T, text string) int {
	t.Helper()
	at := -1
	for line := range strings.Lines(text) {
		var n int
		if _, err := fmt.Sscanf(line, `data: {"n":%d`, &n); err == nil {
			if n < at {
				t.Fatalf("snapshot of %d after %d", n, at)
			}
			at = n
		}
		for part := range strings.SplitSeq(line, `"path":"/n","value":`) {
			if _, err := fmt.Sscanf(part, "%d", &n); err != nil || strings.HasPrefix(part, "data:") {
				continue
			}
			if n != at+1 {
				t.Fatalf("patch to %d after %d in %q", n, at, text)
			}
			at = n
		}
	}
	return at
}

// Readers join, lag, are moved forward and return at any moment, across many
// epochs. Whatever each is sent must decode, and to the right versions.
func TestCompressedReadersDecodeWhateverTheyAreSent(t *testing.T) {
	key := testKey
	key.gzip = true
	for seed := range uint64(6) {
		random := rand.New(rand.NewPCG(seed, 0))
		l := newLog(8, time.Now())
		r := l.join(key)
		type reader struct {
			c      cursor
			got    []byte
			lazy   int // of ten turns, how many it misses
			resume bool
		}
		var readers []*reader
		last := -1
		begun := map[uint64]bool{}
		for range 400 {
			if random.IntN(8) == 0 {
				rd := &reader{got: append([]byte(nil), gzipHead...), lazy: random.IntN(10)}
				rd.got = appendOpening(nil, key, time.Second, "", false)
				if last >= 0 && random.IntN(3) == 0 {
					rd.c.resume, rd.resume = testPublication(max(0, last-random.IntN(12))).doc.id, true
				}
				readers = append(readers, rd)
			}
			switch random.IntN(12) {
			case 0:
				l.publish(publication{state: []string{stateLive, stateStale}[random.IntN(2)], at: time.Now()})
			case 1:
				l.mu.Lock()
				r.push(comment)
				l.mu.Unlock()
			default:
				last++
				l.publish(testPublication(last))
			}
			begun[r.epochs.begun] = true
			for _, rd := range readers {
				if random.IntN(10) >= rd.lazy {
					var b block
					b, rd.c, _ = r.after(rd.c)
					rd.got = append(rd.got, b.payload()...)
				}
			}
		}
		if len(begun) < 3 {
			t.Errorf("only %d epochs: the test shows too little", len(begun))
		}
		for _, rd := range readers {
			var b block
			b, rd.c, _ = r.after(rd.c)
			rd.got = append(append(rd.got, b.payload()...), appendFarewell(nil, key, endedAge)...)
			text := gunzip(t, rd.got)
			if rd.resume {
				// Its first patch follows a version that is not in the stream.
				var n int
				if i := strings.Index(text, "event: patch"); i >= 0 && !strings.Contains(text[:i], "event: snapshot") {
					j := strings.Index(text[i:], `"value":`)
					if _, err := fmt.Sscanf(text[i+j:], `"value":%d`, &n); err != nil {
						t.Fatal(err)
					}
					text = fmt.Sprintf("data: {\"n\":%d}\n%s", n-1, text)
				}
				if !strings.Contains(text, `"n"`) && !strings.Contains(text, `/n`) {
					continue // it was there already
				}
			}
			if got := checkVersions(t, text); got != last {
				t.Fatalf("seed %d: a reader ended at version %d, want %d", seed, got, last)
			}
			if strings.Count(text, "retry:") != 2 {
				t.Fatalf("the opening or the farewell is missing in %q", text)
			}
		}
		r.leave()
	}
	if n := epochsInUse.Load(); n != 0 {
		t.Errorf("%d compressors are still counted", n)
	}
}

func TestSharedHistorySavesBytes(t *testing.T) {
	sizes := map[bool]int{}
	for _, zip := range []bool{false, true} {
		key := testKey
		key.gzip = zip
		l := newLog(64, time.Now())
		r := l.join(key)
		l.publish(testPublication(0))
		_, c, _ := r.after(cursor{})
		for n := range 200 {
			l.publish(testPublication(n + 1))
			var b block
			b, c, _ = r.after(c)
			sizes[zip] += len(b.framed)
		}
		r.leave()
	}
	t.Logf("%d bytes plain, %d compressed", sizes[false], sizes[true])
	if sizes[true]*2 > sizes[false] {
		t.Errorf("%d bytes compressed, %d plain", sizes[true], sizes[false])
	}
}

func TestRenditionsBeyondTheBoundCompressAlone(t *testing.T) {
	key := testKey
	key.gzip = true
	var joined []*rendition
	for i := range maxEpochs + 1 {
		l := newLog(8, time.Now())
		r := l.join(key)
		joined = append(joined, r)
		if i < maxEpochs {
			continue
		}
		if r.epochs != nil {
			t.Error("the bound does not hold")
		}
		l.publish(testPublication(0))
		b, c, _ := r.after(cursor{})
		got := append(append([]byte(nil), gzipHead...), b.payload()...)
		for n := range 3 {
			l.publish(testPublication(n + 1))
			b, c, _ = r.after(c)
			got = append(got, b.payload()...)
		}
		if at := checkVersions(t, gunzip(t, got)); at != 3 {
			t.Errorf("got to version %d, want 3", at)
		}
	}
	for _, r := range joined {
		r.leave()
	}
}
