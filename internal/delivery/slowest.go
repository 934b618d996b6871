package delivery

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/pollsse/caddy-poll-sse/internal/feed"
)

// Lag is one open stream, and how far it is behind.
type Lag struct {
	Log    *feed.Log
	Name   string // Options.Name
	Direct bool   // it is written past net/http
	Client netip.AddrPort
	Age    time.Duration
	Frames int64 // blocks that were begun
	Bytes  int64 // that were written

	// Missed is how many blocks the stream has not been sent whole. Those that
	// it has not begun come as one.
	Missed int
	// Left is how many bytes of the block that it has begun are not written yet.
	Left int
	// Unacknowledged is how many bytes the system has taken for a direct stream
	// and the client has not acknowledged; -1: not known.
	Unacknowledged int
	// Waiting is how long the client has not taken what a write is to take within
	// 30 s; 0: it takes everything.
	Waiting time.Duration
}

// slower orders streams by how far they are behind, the slowest first.
func slower(a, b Lag) int {
	return -cmp.Or(cmp.Compare(a.Waiting, b.Waiting), cmp.Compare(a.Missed, b.Missed), cmp.Compare(a.Left+a.Unacknowledged, b.Left+b.Unacknowledged))
}

// slowest keeps the slowest of any number of streams.
type slowest struct {
	name string // of the streams that count; empty: all
	most int
	all  []Lag
}

func (s *slowest) wants(o *Options) bool { return s.name == "" || s.name == o.Name }

func (s *slowest) add(l Lag) {
	if s.all = append(s.all, l); len(s.all) >= 2*s.most {
		s.cut()
	}
}

func (s *slowest) cut() {
	slices.SortStableFunc(s.all, slower)
	s.all = s.all[:min(len(s.all), s.most)]
}

// survey asks a writer for the slowest of its streams.
type survey struct {
	slowest
	next int           // the slot to look at
	done chan struct{} // closed once the writer has looked at every stream
}

// surveyBatch is how many streams a writer looks at before it goes on writing.
const surveyBatch = 64

// Slowest returns the streams that are furthest behind, the slowest first: at most
// so many, and of one name unless that is empty. Writers look at their streams in
// between what they write; nothing that is delivered waits for it. It returns what
// it has if ctx or the server ends.
func (srv *Server) Slowest(ctx context.Context, name string, most int) []Lag {
	out := slowest{name: name, most: most}
	surveys := srv.writers.survey(out)
	srv.writeTimers.survey(&out)
	for _, s := range surveys {
		select {
		case <-s.done:
			for _, l := range s.all {
				out.add(l)
			}
		case <-ctx.Done():
		case <-srv.exit:
		}
	}
	out.cut()
	return out.all
}

// survey asks every writer.
func (ws *writers) survey(of slowest) []*survey {
	ws.mu.Lock()
	defer ws.mu.Unlock()
	var all []*survey
	for _, w := range ws.all {
		s := &survey{slowest: of, done: make(chan struct{})}
		if w.mail.ask(s) {
			all = append(all, s)
		}
	}
	return all
}

// ask hands a survey to the writer. It returns false if the writer has ended.
func (m *mailbox) ask(s *survey) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return false
	}
	m.surveys = append(m.surveys, s)
	m.ring()
	return true
}

// survey adds the streams that goroutines write. Only those that begin or end
// wait meanwhile.
func (ts *writeTimers) survey(out *slowest) {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	now := time.Now()
	for t := range ts.all {
		if t.stream != nil && out.wants(t.stream.Options) {
			out.add(t.stream.lag(now))
		}
	}
}

// lag describes the stream.
func (s *handled) lag(now time.Time) Lag {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := Lag{
		Log: s.Log, Name: s.Options.Name, Client: s.client, Age: now.Sub(s.begun), Frames: s.frames, Bytes: s.bytes,
		Missed: s.rendition.Missed(s.cursor), Left: s.left, Unacknowledged: -1,
	}
	if s.left > 0 {
		l.Missed++
		l.Waiting = now.Sub(s.since)
	}
	return l
}
