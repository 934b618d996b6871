package delivery

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/pollsse/caddy-poll-sse/internal/feed"
)

// slowReader holds one block of its rendition until it is told to give up.
type slowReader struct {
	name  string
	gone  *[]string
	block *retainedBlock
}

func (s *slowReader) giveUp(b *retainedBlock) { *s.gone = append(*s.gone, s.name) }

// TestRetainedBounds: each publication makes a block that a reader begins and
// does not finish.
func TestRetainedBounds(t *testing.T) {
	const size = 1000 // what every block counts as
	for _, test := range []struct {
		name           string
		most, mostEach int      // blocks
		readers        []string // the document that each reads, and a number
		want           []string // who is told to give up
	}{
		{"within", 9, 9, []string{"a1", "a2", "a3"}, nil},
		// a5 has the newest when the old ones become too many, and so on.
		{"one rendition", 9, 3, []string{"a1", "a2", "a3", "a4", "a5", "a6"}, []string{"a4", "a5"}},
		{"one is always allowed", 0, 0, []string{"a1", "a2", "a3"}, []string{"a2"}},
		{"the largest", 3, 9, []string{"b1", "b2", "a1", "a2", "a3", "a4"}, []string{"a3"}},
		{"many small", 2, 9, []string{"a1", "b1", "c1", "d1", "e1"}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			rs := &retained{most: test.most * size, mostEach: test.mostEach * size}
			renditions := map[string]*feed.Rendition{}
			publish := map[string]func(){}
			var gone []string
			var all []*slowReader
			for _, name := range test.readers {
				document := name[:1]
				if renditions[document] == nil {
					l := feed.New(4, time.Now())
					renditions[document] = l.Join(testKey)
					defer renditions[document].Leave()
					n := 0
					publish[document] = func() { l.Publish(testPublication(n)); n++ }
				}
				publish[document]()
				b, cursor, _ := renditions[document].After(feed.Cursor{})
				s := &slowReader{name: name, gone: &gone}
				s.block = rs.hold(renditions[document], cursor, b.Chunk()[5:], size, s)
				all = append(all, s)
			}
			if !slices.Equal(gone, test.want) {
				t.Errorf("told to give up: %v, want %v", gone, test.want)
			}
			for _, s := range all {
				rs.release(s.block, s)
			}
			if rs.size != 0 || len(rs.of) != 0 {
				t.Errorf("%d bytes of %d renditions are left", rs.size, len(rs.of))
			}
		})
	}
}

// TestRetainedIsShared: a block counts once, however many have begun it, until
// the last has read it, and as long as it is the newest not at all.
func TestRetainedIsShared(t *testing.T) {
	rs := &retained{most: 0, mostEach: 0}
	l := feed.New(4, time.Now())
	r := l.Join(testKey)
	defer r.Leave()
	var gone []string
	begin := func(c feed.Cursor, name string) *slowReader {
		b, next, _ := r.After(c)
		s := &slowReader{name: name, gone: &gone}
		s.block = rs.hold(r, next, b.Chunk(), len(b.Chunk()), s)
		return s
	}
	l.Publish(testPublication(0))
	_, upToDate, _ := r.After(feed.Cursor{})
	var all []*slowReader
	for i := range 5 {
		all = append(all, begin(feed.Cursor{}, fmt.Sprint("first", i)))
	}
	l.Publish(testPublication(1))
	for i := range 5 {
		all = append(all, begin(upToDate, fmt.Sprint("second", i)))
	}
	if n := len(rs.of[r]); n != 2 || len(gone) != 0 {
		t.Fatalf("%d blocks, %v gave up; want 2 and nobody", n, gone)
	}
	l.Publish(testPublication(2))
	third := begin(upToDate, "third")
	if len(gone) != 5 || slices.ContainsFunc(gone, func(s string) bool { return s[:6] != "second" }) {
		t.Errorf("%v gave up, want all that have begun the second block", gone)
	}
	for _, s := range append(all, third) {
		rs.release(s.block, s)
	}
	if rs.size != 0 || len(rs.of) != 0 {
		t.Errorf("%d bytes of %d renditions are left", rs.size, len(rs.of))
	}
}
