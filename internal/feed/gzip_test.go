package feed

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

// checkVersions fails if a version in a stream's text is lost, repeated or
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

// Readers join, lag, catch up and return at any moment, across many
// epochs. Whatever each is sent must decode, and to the right versions.
func TestCompressedReadersDecodeWhateverTheyAreSent(t *testing.T) {
	key := testKey
	key.Gzip = true
	for seed := range uint64(6) {
		random := rand.New(rand.NewPCG(seed, 0))
		l := New(8, time.Now())
		r := l.Join(key)
		type reader struct {
			c      Cursor
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
				rd.got = key.AppendOpening(nil, time.Second, false, "")
				if last >= 0 && random.IntN(3) == 0 {
					rd.c.Resume, rd.resume = testPublication(max(0, last-random.IntN(12))).Document.ID, true
				}
				readers = append(readers, rd)
			}
			switch random.IntN(12) {
			case 0:
				l.Publish(Publication{State: []string{Live, Stale}[random.IntN(2)], At: time.Now()})
			case 1:
				l.mu.Lock()
				r.push(comment, false, BlockHeartbeat)
				l.mu.Unlock()
			default:
				last++
				l.Publish(testPublication(last))
			}
			begun[r.epochs.begun] = true
			for _, rd := range readers {
				if random.IntN(10) >= rd.lazy {
					var b Block
					b, rd.c, _ = r.After(rd.c)
					rd.got = append(rd.got, b.Payload()...)
				}
			}
		}
		if len(begun) < 3 {
			t.Errorf("only %d epochs: the test shows too little", len(begun))
		}
		for _, rd := range readers {
			var b Block
			b, rd.c, _ = r.After(rd.c)
			rd.got = append(append(rd.got, b.Payload()...), key.AppendFarewell(nil, time.Second)...)
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
		r.Leave()
	}
	if n := epochsInUse.Load(); n != 0 {
		t.Errorf("%d compressors are still counted", n)
	}
}

// A client that joins late is sent what others have been sent already, but no
// state that is over.
func TestLateReaderIsToldTheTrueStatusOnly(t *testing.T) {
	key := testKey
	key.Gzip = true
	l := New(64, time.Now())
	r := l.Join(key)
	defer r.Leave()
	n := 0
	for _, state := range []string{Live, Stale, Live, Stale} {
		p := testPublication(n)
		p.State = state
		n++
		l.Publish(p)
		for range 3 {
			l.Publish(publicationIn(l, n))
			n++
			b, _, _ := r.After(Cursor{})
			text := gunzip(t, append(append([]byte(nil), gzipHead...), b.Payload()...))
			want := string(appendStatus(nil, KindStatus, l.View().Status))
			if strings.Count(text, "event: status") != 1 || !strings.Contains(text, want) {
				t.Fatalf("in state %s a late reader got %q, want only the status %q", state, text, want)
			}
			if at := checkVersions(t, text); at != n-1 {
				t.Fatalf("a late reader got to version %d, want %d", at, n-1)
			}
		}
	}
}

// publicationIn is version n, published without a change of state.
func publicationIn(l *Log, n int) Publication {
	p, s := testPublication(n), l.View().Status
	p.State, p.Reason = s.State, s.Reason
	return p
}

func TestSharedHistorySavesBytes(t *testing.T) {
	sizes := map[bool]int{}
	for _, zip := range []bool{false, true} {
		key := testKey
		key.Gzip = zip
		l := New(64, time.Now())
		r := l.Join(key)
		l.Publish(testPublication(0))
		_, c, _ := r.After(Cursor{})
		for n := range 200 {
			l.Publish(testPublication(n + 1))
			var b Block
			b, c, _ = r.After(c)
			sizes[zip] += len(b.framed)
		}
		r.Leave()
	}
	t.Logf("%d bytes plain, %d compressed", sizes[false], sizes[true])
	if sizes[true]*2 > sizes[false] {
		t.Errorf("%d bytes compressed, %d plain", sizes[true], sizes[false])
	}
}

func TestRenditionsBeyondTheBoundCompressAlone(t *testing.T) {
	key := testKey
	key.Gzip = true
	var joined []*Rendition
	for i := range MaxCompressors + 1 {
		l := New(8, time.Now())
		r := l.Join(key)
		joined = append(joined, r)
		if i < MaxCompressors {
			continue
		}
		if r.epochs != nil {
			t.Error("the bound does not hold")
		}
		l.Publish(testPublication(0))
		b, c, _ := r.After(Cursor{})
		got := append(append([]byte(nil), gzipHead...), b.Payload()...)
		for n := range 3 {
			l.Publish(testPublication(n + 1))
			b, c, _ = r.After(c)
			got = append(got, b.Payload()...)
		}
		if at := checkVersions(t, gunzip(t, got)); at != 3 {
			t.Errorf("got to version %d, want 3", at)
		}
	}
	for _, r := range joined {
		r.Leave()
	}
}
