package member

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/pollsse/caddy-poll-sse/cluster"
	"github.com/pollsse/caddy-poll-sse/cluster/clustertest"
)

// upstream is a document that counts, and the polls that it has seen.
type upstream struct {
	mu     sync.Mutex
	value  int
	pad    int  // bytes besides the value
	steady bool // it counts only if a test says so
	fails  bool
	denies bool
	dense  bool // its texts cannot be packed
	// secret has texts that cannot be packed, and that nobody may store.
	secret bool
	took   time.Duration
	// interval is how often it is to be polled; 0: testInterval.
	interval time.Duration
	polls    []poll
}

type poll struct {
	at   time.Time
	node string
}

func (u *upstream) get(node string) (string, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.polls = append(u.polls, poll{time.Now(), node})
	if u.fails {
		return "", io.ErrUnexpectedEOF
	}
	if u.denies {
		return "", errDenied
	}
	if !u.steady {
		u.value++
	}
	if u.secret || u.dense {
		digits := rand.New(rand.NewPCG(uint64(u.value), 0))
		text := strconv.AppendInt(nil, int64(u.value), 10)
		for text = append(text, ' '); len(text) < u.pad; {
			text = append(text, byte('!'+digits.IntN(90)))
		}
		return string(text), nil
	}
	return fmt.Sprintf("%d %0*d", u.value, u.pad, 0), nil
}

var errDenied = errors.New("403")

// since returns the polls after a time.
func (u *upstream) since(at time.Time) []poll {
	u.mu.Lock()
	defer u.mu.Unlock()
	i := slices.IndexFunc(u.polls, func(p poll) bool { return !p.at.Before(at) })
	if i < 0 {
		return nil
	}
	return slices.Clone(u.polls[i:])
}

func (u *upstream) set(change func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	change()
}

// shower is a Source that polls an upstream, and remembers what it has shown.
type shower struct {
	t        *testing.T
	name     string
	upstream *upstream
	interval time.Duration

	mu    sync.Mutex
	text  []byte
	state State
	most  int // the highest value that was shown
	back  int // how often one was shown that is lower
	seen  []string
	froms []Handover
}

func newShower(t *testing.T, u *upstream, name string) *shower {
	return &shower{t: t, name: name, upstream: u, interval: cmp.Or(u.interval, testInterval), state: State{State: waiting}}
}

func value(text []byte) int {
	var v int
	_, _ = fmt.Sscan(string(text), &v)
	return v
}

func (s *shower) MaxBody() int64 { return 1 << 24 }

func (s *shower) Document() (string, []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.id(), s.text
}

// now returns the state of the document as it has it.
func (s *shower) now() State {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state
}

// went returns the states that it went through.
func (s *shower) went() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.seen)
}

// resumed reports whether it polls, going on from where the previous owner was.
func (s *shower) resumed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.froms) == 1 && s.froms[0].Resume != nil
}

func (s *shower) id() string {
	if s.text == nil {
		return ""
	}
	return strconv.Itoa(value(s.text))
}

func (s *shower) Show(st State, text []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if text != nil {
		if st.ID != strconv.Itoa(value(text)) {
			s.t.Errorf("%s: text %.20q comes as %s", s.name, text, st.ID)
		}
		s.show(text)
	} else if st.ID != "" && st.ID != s.id() {
		s.t.Errorf("%s: shows %s without its text, has %s", s.name, st.ID, s.id())
	}
	s.note(st)
	if st.denied() {
		s.text = nil
	}
	return nil
}

func (s *shower) note(st State) {
	if st.State != s.state.State {
		s.seen = append(s.seen, st.State)
	}
	s.state = st
}

func (s *shower) show(text []byte) {
	v := value(text)
	if v < s.most {
		s.back++
		s.t.Errorf("%s: goes back from %d to %d", s.name, s.most, v)
	}
	s.most = max(s.most, v)
	s.text = text
}

func (s *shower) Poll(ctx context.Context, from Handover, turn *Turn) {
	s.mu.Lock()
	s.froms = append(s.froms, from)
	s.mu.Unlock()
	next := from.Next
	for {
		timer := time.NewTimer(time.Until(next))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		case <-turn.Poke:
			timer.Stop()
		}
		if !turn.May(ctx) {
			return
		}
		select {
		case <-turn.Poke: // this poll is the answer
		default:
		}
		begun := time.Now()
		text, err := s.upstream.get(s.name)
		denied := err == errDenied
		if s.upstream.took > 0 {
			time.Sleep(s.upstream.took)
		}
		now := time.Now()
		if ctx.Err() != nil {
			return
		}
		next = begun.Add(s.interval * time.Duration(turn.Stretch()))
		s.mu.Lock()
		st := s.state
		since := st.Since
		was := st.State
		st = State{State: live, Validated: now, Begun: begun, Next: next, Every: s.interval, Resume: json.RawMessage(`"` + strconv.Itoa(len(s.froms)) + `"`)}
		switch {
		case denied:
			st = State{State: "denied", Status: 403, Since: now, Begun: begun}
			s.text = nil
		case err != nil:
			st.State, st.Validated = stale, s.state.Validated
		default:
			s.show([]byte(text))
		}
		s.upstream.set(func() { st.NoStore = s.upstream.secret })
		if st.State == was {
			st.Since = since
		} else {
			st.Since = now
		}
		st.ID = s.id()
		s.note(st)
		text2 := s.text
		s.mu.Unlock()
		turn.Tell(st, text2)
		if st.denied() {
			return
		}
	}
}

// place is one node with one document.
type place struct {
	*shower
	connection *clustertest.Connection
	node       *Node
	member     *Member
	poke       chan struct{}
	stop       context.CancelFunc
	done       chan struct{}
}

const (
	testLease    = 3 * time.Second
	testInterval = time.Second
)

// join adds another node with the document.
func join(t *testing.T, s *clustertest.Server, u *upstream, name string, change ...func(*Settings)) *place {
	t.Helper()
	settings := Settings{Lease: testLease}
	for _, c := range change {
		c(&settings)
	}
	p := &place{
		shower: newShower(t, u, name), connection: s.Connect(), poke: make(chan struct{}, 1), done: make(chan struct{}),
	}
	var err error
	if p.node, err = NewNode(p.connection, settings, slog.New(slog.NewTextHandler(t.Output(), nil)).With("node", name)); err != nil {
		t.Fatal(err)
	}
	p.member = p.node.Member([]byte("key"), "host", p.shower, p.poke)
	ctx, stop := context.WithCancel(context.Background())
	p.stop = stop
	go func() {
		defer close(p.done)
		p.member.Run(ctx)
	}()
	return p
}

// member runs a node over an engine, with a source of its own, until leave ends
// it as SIGTERM does.
func member(t *testing.T, e cluster.Engine, source Source) (m *Member, leave func()) {
	t.Helper()
	n, err := NewNode(e, Settings{Lease: testLease}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	m = n.Member([]byte("key"), "host", source, nil)
	ctx, stop := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { m.Run(ctx) })
	return m, func() {
		stop()
		running.Wait()
		n.Close()
	}
}

// leave ends the node as SIGTERM does.
func (p *place) leave() {
	p.stop()
	<-p.done
	p.node.Close()
}

// kill ends it as SIGKILL does: it says nothing more.
func (p *place) kill() {
	p.connection.Cut()
	p.leave()
}

// bubble runs a test with fake time and checks that everything ends.
func bubble(t *testing.T, run func(t *testing.T)) {
	t.Helper()
	synctest.Test(t, run)
}

// only fails unless exactly one of the places owns the document, all others
// follow, and all show the same.
func only(t *testing.T, places ...*place) *place {
	t.Helper()
	synctest.Wait()
	var owner *place
	for _, p := range places {
		switch role := p.member.Role(); {
		case role == Owns && owner == nil:
			owner = p
		case role != Follows:
			t.Errorf("%s %s", p.name, role)
		}
	}
	if owner == nil {
		t.Fatal("nobody owns the document")
	}
	for _, p := range places {
		id, _ := p.Document()
		want, _ := owner.Document()
		if id != want || p.now().State != owner.now().State {
			t.Errorf("%s shows %s %s, the owner %s %s", p.name, id, p.now().State, want, owner.now().State)
		}
	}
	return owner
}

// gaps returns the times between polls.
func gaps(polls []poll) (least, most time.Duration) {
	least = time.Hour
	for i := 1; i < len(polls); i++ {
		d := polls[i].at.Sub(polls[i-1].at)
		least, most = min(least, d), max(most, d)
	}
	return least, most
}

// steady fails unless the polls are an interval apart.
func steady(t *testing.T, u *upstream, since time.Time, between time.Duration) {
	t.Helper()
	polls := u.since(since)
	if len(polls) == 0 {
		t.Fatal("nobody polls")
	}
	if least, most := gaps(polls); least < between || most > between {
		t.Errorf("%d polls are %s to %s apart, want %s", len(polls), least, most, between)
	}
}
