package pollsse

import (
	"context"
	"math"
	"net/netip"
	"slices"
	"strings"
	"sync"

	"github.com/pollsse/caddy-poll-sse/internal/upstream"
)

// hostTable holds the upstream hosts that sources poll, across configurations.
type hostTable struct {
	mu     sync.Mutex
	byName map[string]*host
}

func newHostTable() *hostTable { return &hostTable{byName: make(map[string]*host)} }

// host bounds how many polls one upstream host gets at the same time, sees that
// every account gets its turns, and spreads its sources over their interval.
type host struct {
	table *hostTable
	name  string

	reuse upstream.Reuse // for the clients of all of its sources

	// The table's mutex guards the rest.
	sources int
	entered int // sources ever, while there was any
	polls   int // in flight
	made    int // those among them that are for documents that clients make
	own     []*waiter
	lines   map[account]*line // of clients that poll or wait
	ring    []*line           // those that wait; the one whose turn is next comes first
	passed  int               // the configuration's turns since one of the clients', while any of these waited
	warned  bool
}

// account is what a poll is charged to. The zero account is the
// configuration's own: it decides how many such documents there are. Any other
// is one client address, or a name in the configuration for its documents that
// clients make and more than one address reads.
type account struct {
	client netip.Addr
	name   string
}

// line is the polls of one account.
type line struct {
	account account
	polls   int // in flight
	waiting []*waiter
}

// waiter is a poll that waits for its turn.
type waiter struct {
	limit int
	ready chan struct{}
}

// One poll in configuredShare is left for documents that clients do not make.
// If both kinds wait, one turn in clientTurns is for a document that clients
// make.
const (
	configuredShare = 4
	clientTurns     = 4
)

// clientLimit is how many of limit polls may be for documents that clients
// make.
func clientLimit(limit int) int {
	if limit == 1 {
		return 1
	}
	return limit - max(1, limit/configuredShare)
}

// register adds a source to its host and returns its phase: the part of the
// interval by which its polls move. The first source has phase 0; multiples of
// the golden ratio spread any number of others evenly. Each register must be
// followed by one unregister.
func (t *hostTable) register(name string) (*host, float64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	name = strings.ToLower(name) // RFC 3986 section 6.2.2.1
	h := t.byName[name]
	if h == nil {
		h = &host{table: t, name: name, lines: make(map[account]*line)}
		t.byName[name] = h
	}
	_, phase := math.Modf(float64(h.entered) * (math.Phi - 1))
	h.entered++
	h.sources++
	return h, phase
}

func (h *host) unregister() {
	h.table.mu.Lock()
	defer h.table.mu.Unlock()
	if h.sources--; h.sources == 0 {
		delete(h.table.byName, h.name)
	}
}

// acquire waits until it is a's turn to poll. A limit of 0 is none. It returns
// false if ctx ended first. Each success must be followed by one release for
// the same account.
func (h *host) acquire(ctx context.Context, a account, limit int) bool {
	if limit <= 0 {
		limit = math.MaxInt
	}
	w := &waiter{limit, make(chan struct{})}
	h.table.mu.Lock()
	h.add(a, w)
	h.admit()
	h.table.mu.Unlock()
	select {
	case <-w.ready:
		if ctx.Err() == nil {
			return true
		}
	case <-ctx.Done():
	}
	h.table.mu.Lock()
	waits := h.remove(a, w)
	h.admit() // those behind it may have a higher limit
	h.table.mu.Unlock()
	if !waits {
		h.release(a) // its turn came at the same moment
	}
	return false
}

// release ends a poll.
func (h *host) release(a account) {
	h.table.mu.Lock()
	defer h.table.mu.Unlock()
	h.polls--
	if l := h.lines[a]; l != nil {
		h.made--
		l.polls--
		h.forget(l)
	}
	h.admit()
}

// add queues a poll; the mutex is held.
func (h *host) add(a account, w *waiter) {
	if a == (account{}) {
		h.own = append(h.own, w)
		return
	}
	l := h.lines[a]
	if l == nil {
		l = &line{account: a}
		h.lines[a] = l
	}
	if len(l.waiting) == 0 {
		h.ring = append(h.ring, l)
	}
	l.waiting = append(l.waiting, w)
}

// remove takes a poll out of its queue and reports whether it was there; the
// mutex is held.
func (h *host) remove(a account, w *waiter) bool {
	l := h.lines[a]
	queue := &h.own
	if l != nil {
		queue = &l.waiting
	}
	i := slices.Index(*queue, w)
	if i < 0 {
		return false
	}
	*queue = slices.Delete(*queue, i, i+1)
	if l != nil && len(l.waiting) == 0 {
		i := slices.Index(h.ring, l)
		h.ring = slices.Delete(h.ring, i, i+1)
		h.forget(l)
	}
	return true
}

// forget drops the line of an account that neither polls nor waits.
func (h *host) forget(l *line) {
	if l.polls == 0 && len(l.waiting) == 0 {
		delete(h.lines, l.account)
	}
}

// admit starts every poll whose turn it is; the mutex is held. The
// configuration's own come first, in the order in which they asked, except for
// one turn in clientTurns.
func (h *host) admit() {
	for {
		i := h.nextLine()
		own := len(h.own) > 0 && h.polls < h.own[0].limit
		switch {
		case own && (i < 0 || h.passed < clientTurns-1):
			close(h.own[0].ready)
			h.own = h.own[1:]
			if h.passed++; len(h.ring) == 0 {
				h.passed = 0
			}
		case i >= 0:
			l := h.ring[i]
			close(l.waiting[0].ready)
			l.waiting = l.waiting[1:]
			l.polls++
			h.made++
			h.passed = 0
			h.ring = slices.Delete(h.ring, i, i+1)
			if len(l.waiting) > 0 {
				h.ring = append(h.ring, l)
			}
		default:
			return
		}
		h.polls++
	}
}

// nextLine returns the index in ring of the next account that may poll, or -1.
// Few have to be looked at, as few can have all that they may.
func (h *host) nextLine() int {
	for i, l := range h.ring {
		limit := l.waiting[0].limit
		most := clientLimit(limit)
		if h.polls >= limit || h.made >= most {
			continue
		}
		if l.account.client.IsValid() {
			most = max(1, most/2)
		}
		if l.polls < most {
			return i
		}
	}
	return -1
}

// warn returns true once, for the warning that polls wait too long.
func (h *host) warn() bool {
	h.table.mu.Lock()
	defer h.table.mu.Unlock()
	first := !h.warned
	h.warned = true
	return first
}
