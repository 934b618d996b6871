package delivery

import (
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pollsse/caddy-poll-sse/internal/feed"
)

// directDelivery says that this system has what direct delivery needs: epoll
// and sends that never block.
const directDelivery = true

// writer writes direct streams: one goroutine with an epoll instance of its
// own. It alone reads, writes and closes the descriptors that it was given.
//
// A socket that takes everything costs one system call a block. One that is
// full is left until epoll says that there is room, and then catches up from the
// log: a slow client costs its own bytes and nobody's time. What a full socket
// retains is the one block that it has begun. It must take a piece of it, or all
// of it, in writeTimeout.
type writer struct {
	mail     mailbox
	patience time.Duration // with a client that takes too little
	retained *retained
	watchdog watchdog

	epoll  *os.File
	epfd   int
	ready  chan int      // how many events the watcher has found
	looked chan struct{} // they have been dealt with
	events []unix.EpollEvent

	slots   []slot
	free    []int32
	streams int
	due     []*group
	surveys []*survey
	served  int // streams since other goroutines could run
	sweeps  int // so far: each looks for lost clients among some streams
	clock   time.Duration
	scratch []byte
}

// slot leads from an event to its stream. Its generation distinguishes events
// about the present stream from those about an earlier one in the same slot, or
// with the same descriptor.
type slot struct {
	stream     *direct
	generation int32
}

const (
	// groupBatch is how many streams of a group a writer serves before it
	// looks at the other groups, its mail and its sockets.
	groupBatch = 64
	// yieldEvery is how many streams it serves before it lets other
	// goroutines run. That wakes a thread if one sleeps, which costs as much
	// as many deliveries.
	yieldEvery = 256
	// sweepEvery is the time between two looks for streams whose time is over.
	sweepEvery = time.Second
)

// always is a channel that can always be received from.
var always = func() <-chan struct{} { c := make(chan struct{}); close(c); return c }()

func newWriter(patience time.Duration, retained *retained) (*writer, error) {
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("making an epoll instance: %w", err)
	}
	// Non-blocking, so that the runtime waits for it as for any socket: the
	// watcher sleeps without a thread.
	if err := unix.SetNonblock(epfd, true); err != nil {
		unix.Close(epfd)
		return nil, fmt.Errorf("making an epoll instance: %w", err)
	}
	return &writer{
		mail:    mailbox{signal: make(chan struct{}, 1)},
		epoll:   os.NewFile(uintptr(epfd), "epoll"),
		epfd:    epfd,
		ready:   make(chan int),
		looked:  make(chan struct{}),
		events:  make([]unix.EpollEvent, 256),
		scratch: make([]byte, 16<<10),

		patience: patience,
		retained: retained,
	}, nil
}

// run serves until exit is closed, ends every stream and returns.
func (w *writer) run(exit <-chan struct{}) {
	watcher, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watcher)
		w.watch()
	}()
	var watched sync.WaitGroup
	watched.Go(func() { w.watchdog.run(done) })
	defer watched.Wait()
	defer close(done)
	sweep := time.NewTicker(sweepEvery)
	defer sweep.Stop()
	for {
		var busy <-chan struct{}
		if len(w.due) > 0 || len(w.surveys) > 0 {
			busy = always
		}
		select {
		case <-exit:
			w.finish()
			w.epoll.Close()
			// The watcher may be about to report; nobody acts on it.
			select {
			case <-w.ready:
				w.looked <- struct{}{}
			case <-watcher:
			}
			<-watcher
			return
		case <-w.mail.signal:
		case n := <-w.ready:
			w.clock = now()
			w.handle(n)
			w.looked <- struct{}{}
		case <-sweep.C:
			w.clock = now()
			w.sweep()
		case <-busy:
		}
		w.clock = now()
		w.collect()
		w.round()
		w.look()
	}
}

// watch waits for events. The runtime waits for the epoll instance itself, so
// no thread is blocked; the events are handled by the writer.
func (w *writer) watch() {
	raw, err := w.epoll.SyscallConn()
	if err != nil {
		return
	}
	for {
		n := 0
		err := raw.Read(func(uintptr) bool {
			var err error
			for {
				if n, err = unix.EpollWait(w.epfd, w.events, 0); err != unix.EINTR {
					return n != 0
				}
			}
		})
		if err != nil || n < 0 {
			return // closed
		}
		w.ready <- n
		<-w.looked
	}
}

// collect takes what is in the mailbox.
func (w *writer) collect() {
	m := &w.mail
	m.mu.Lock()
	newcomers, over := m.newcomers, m.over
	m.newcomers, m.over = nil, nil
	for _, g := range m.due {
		g.queued = false
		if g.left == 0 {
			w.due = append(w.due, g)
			if n := len(g.streams); n > 0 {
				g.at = rand.N(n) // so that no stream is always last
			}
		}
		// At least one: the list of those that are due relies on it.
		g.left = max(1, len(g.streams))
		g.round.publish(g.since, g.left)
	}
	m.due = m.due[:0]
	w.surveys = append(w.surveys, m.surveys...)
	m.surveys = nil
	m.mu.Unlock()
	for _, s := range newcomers {
		w.take(s)
	}
	for _, o := range over {
		if o.stream.held == o.block {
			w.close(o.stream, endedMemory)
		}
	}
}

// take begins to serve a stream.
func (w *writer) take(s *direct) {
	if n := len(w.free); n > 0 {
		s.slot = w.free[n-1]
		w.free = w.free[:n-1]
	} else {
		s.slot = int32(len(w.slots))
		w.slots = append(w.slots, slot{})
	}
	w.slots[s.slot].stream = s
	w.streams++
	s.index = int32(len(s.group.streams))
	s.group.streams = append(s.group.streams, s)
	if s.group.left > 0 {
		s.group.left++ // it is one more in this round
	}
	if err := w.watchFor(s, unix.EPOLL_CTL_ADD, 0); err != nil {
		w.close(s, endedWrite)
		return
	}
	w.serve(s)
}

// watchFor tells epoll what to report about s: that the client has left or
// sends something, and the given events.
func (w *writer) watchFor(s *direct, op int, events uint32) error {
	e := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLRDHUP | events, Fd: s.slot, Pad: w.slots[s.slot].generation}
	return unix.EpollCtl(w.epfd, op, int(s.fd), &e)
}

// round serves a batch of every group that is due.
func (w *writer) round() {
	keep := w.due[:0]
	for _, g := range w.due {
		turns, written := 0, 0
		var rendition *feed.Rendition
		for range min(groupBatch, g.left) {
			w.served++
			turns++
			if g.at >= len(g.streams) {
				g.at = 0
			}
			if len(g.streams) == 0 {
				g.left = 0
				break
			}
			s := g.streams[g.at]
			g.at++
			g.left--
			if !s.blocked {
				begun := s.frames
				w.serve(s)
				if s.frames != begun && !s.blocked {
					written++
				}
			}
			rendition = s.rendition
		}
		if written > 0 {
			rendition.Delivered(written, now()-g.round.begun)
		}
		g.round.pass(turns, g.left)
		if g.left > 0 {
			keep = append(keep, g)
		}
		if w.served >= yieldEvery {
			w.served = 0
			runtime.Gosched()
		}
	}
	clear(w.due[len(keep):])
	w.due = keep
}

// serve writes to a stream until it has everything or its socket is full.
func (w *writer) serve(s *direct) {
	for {
		if len(s.rest) == 0 {
			if s.why != "" {
				if len(s.last) > 0 {
					s.rest, s.last, s.size = s.last, nil, 0
					continue
				}
				w.close(s, s.why)
				return
			}
			b, next, newest := s.rendition.After(s.cursor)
			s.cursor = next
			chunk := b.Chunk()
			if chunk == nil {
				if newest.Ended {
					w.end(s, endedDenied)
					continue
				}
				if newest.Superseded {
					w.supersede(s)
				}
				return
			}
			s.frames++
			s.rendition.Began(b)
			s.rest, s.size = chunk, int32(len(chunk))
		}
		n, errno := s.send(s.rest, &w.watchdog)
		if n > 0 {
			s.bytes += int64(n)
			s.rendition.Wrote(n)
			s.rest = s.rest[n:]
			if s.blocked {
				w.noteTaken(s, n)
			}
			continue
		}
		switch errno {
		case unix.EINTR:
		case unix.EAGAIN:
			w.hold(s)
			w.block(s)
			return
		case unix.ENOBUFS, unix.ENOMEM:
			w.close(s, endedWrite)
			return
		default:
			w.close(s, endedClient)
			return
		}
	}
}

// block leaves a stream alone until its socket has room.
func (w *writer) block(s *direct) {
	if s.blocked {
		return
	}
	s.blocked, s.taken, s.takenSince = true, 0, w.clock
	s.rendition.Waits(1)
	if err := w.watchFor(s, unix.EPOLL_CTL_MOD, unix.EPOLLOUT); err != nil {
		w.close(s, endedWrite)
	}
}

// hold notes that a full socket retains the block that it has begun.
func (w *writer) hold(s *direct) {
	if s.held == nil && s.size > 0 {
		s.held = w.retained.hold(s.rendition, s.cursor, s.rest, int(s.size), s)
	}
}

// release notes that a stream retains no block.
func (w *writer) release(s *direct) {
	if s.held != nil {
		w.retained.release(s.held, s)
		s.held = nil
	}
}

// noteTaken notes that a client whose socket was full has taken n bytes.
func (w *writer) noteTaken(s *direct, n int) {
	done := len(s.rest) == 0
	if s.taken += n; s.taken >= pieceOf(int(s.size)) || done {
		s.taken, s.takenSince = 0, w.clock
	}
	if done {
		if s.held != nil {
			s.rendition.Delivered(1, now()-s.held.since)
		}
		w.release(s)
	}
}

// handle deals with the first n events.
func (w *writer) handle(n int) {
	for _, e := range w.events[:n] {
		at := w.slots[e.Fd]
		s := at.stream
		if s == nil || at.generation != e.Pad {
			continue // about a stream that has ended since
		}
		switch {
		case e.Events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0:
			w.close(s, endedClient)
			continue
		case e.Events&unix.EPOLLIN != 0:
			// Connection: close has told the client that no further
			// request on this connection is answered (RFC 9112,
			// section 9.6). What it sends all the same is read, as a
			// close with unread bytes would reset the connection under
			// the last events.
			if n, err := unix.Read(int(s.fd), w.scratch); n == 0 || err != nil && err != unix.EAGAIN && err != unix.EINTR {
				w.close(s, endedClient)
				continue
			}
		}
		if e.Events&unix.EPOLLOUT != 0 && s.blocked {
			taken := s.bytes
			w.unblock(s)
			if w.slots[e.Fd].stream == s && s.blocked && s.bytes == taken {
				// Too little for TLS to be sure. Epoll would report the same
				// again at once, so the sweep looks again.
				_ = w.watchFor(s, unix.EPOLL_CTL_MOD, 0)
			}
		}
	}
}

// unblock writes what a socket with room again has missed.
func (w *writer) unblock(s *direct) {
	w.serve(s)
	if w.slots[s.slot].stream != s || len(s.rest) > 0 {
		return // ended, or full again: epoll goes on watching
	}
	s.blocked = false
	s.rendition.Waits(-1)
	if err := w.watchFor(s, unix.EPOLL_CTL_MOD, 0); err != nil {
		w.close(s, endedWrite)
	}
}

// end ends a stream once its client has taken what it has begun to read.
func (w *writer) end(s *direct, why Reason) {
	s.why = why
	s.deadline = w.clock + w.patience
	last := feed.NewBlock(func(dst []byte) []byte { return s.options.appendFarewell(dst, s.rendition.Key(), why) })
	s.last = append(slices.Clip(last.Chunk()), lastChunk...)
}

// sweep ends the streams whose time is over.
func (w *writer) sweep() {
	if w.streams == 0 {
		return
	}
	w.sweeps++
	for i := range w.slots {
		s := w.slots[i].stream
		if s == nil {
			continue
		}
		if s.blocked {
			// Epoll reports room only when a third of the buffer is free. A
			// slow client can take longer than it may until then.
			if w.unblock(s); w.slots[i].stream == nil {
				continue
			}
			if s.blocked {
				_ = w.watchFor(s, unix.EPOLL_CTL_MOD, unix.EPOLLOUT)
			}
		}
		if o := s.options; !s.reloaded && o.CloseDelay >= 0 && isClosed(o.Reload) {
			s.reloaded = true
			s.endWithin(o.spread(), w.clock)
		}
		switch {
		case s.blocked && w.clock-s.takenSince > w.patience:
			w.close(s, endedWrite)
		case (w.sweeps+i)%int(lossEvery/sweepEvery) == 0 && w.lost(s):
			w.close(s, endedWrite)
		case w.clock < s.deadline:
		case s.why != "":
			w.close(s, s.why)
		default:
			why := endedAge
			if s.sentAway {
				why = endedReload
			}
			w.end(s, why)
			if !s.blocked {
				w.serve(s)
			}
		}
	}
}

// lost reports whether the network of a stream's client has vanished.
func (w *writer) lost(s *direct) bool {
	owes, ago := acknowledged(int(s.fd))
	return s.silent.lost(owes, ago, w.clock)
}

// supersede ends a stream soon, as another source has taken the place of its
// own.
func (w *writer) supersede(s *direct) {
	if s.superseded || s.options.CloseDelay < 0 {
		return
	}
	s.superseded, s.reloaded = true, true
	s.endWithin(s.options.moveSpread(), w.clock)
}

// endWithin ends a stream at some moment within spread, because of a reload.
func (s *direct) endWithin(spread, clock time.Duration) {
	if at := clock + rand.N(spread+1); at < s.deadline && s.why == "" {
		s.deadline, s.sentAway = at, true
	}
}

// close closes a descriptor. It is the only place that does, and only the
// writer comes here, so a number that the system gives out again is never
// written to on behalf of the stream that had it.
func (w *writer) close(s *direct, why Reason) {
	if s.why == "" {
		s.why = why
	}
	at := &w.slots[s.slot]
	at.stream = nil
	at.generation++
	w.free = append(w.free, s.slot)
	w.streams--
	w.release(s)
	if s.blocked {
		s.blocked = false
		s.rendition.Waits(-1)
	}
	if s.why == endedWrite || s.why == endedMemory {
		s.abort()
	} else {
		s.finish(w.scratch)
	}
	s.rest = nil

	g := s.group
	last := g.streams[len(g.streams)-1]
	g.streams[s.index] = last
	last.index = s.index
	g.streams[len(g.streams)-1] = nil
	g.streams = g.streams[:len(g.streams)-1]
	if g.left > 0 {
		// The stream that was moved may have been skipped: one more round,
		// which costs streams that are up to date next to nothing.
		g.left = max(1, len(g.streams))
	}
	g.leave(s.rendition)
	s.reportEnd()
}

// finish ends every stream and takes no more.
func (w *writer) finish() {
	w.mail.mu.Lock()
	w.mail.closed = true
	w.mail.mu.Unlock()
	w.clock = now()
	w.collect()
	w.surveys = nil // those who asked know of the exit
	for i := range w.slots {
		if s := w.slots[i].stream; s != nil && s.why == "" {
			w.end(s, endedExit)
			if !s.blocked {
				w.serve(s)
			}
		}
		if i%groupBatch == 0 {
			runtime.Gosched()
		}
	}
	over := time.NewTimer(exitTime)
	defer over.Stop()
	for w.streams > 0 {
		select {
		case n := <-w.ready:
			w.clock = now()
			w.handle(n)
			w.looked <- struct{}{}
		case <-over.C:
			for i := range w.slots {
				if s := w.slots[i].stream; s != nil {
					w.close(s, endedExit)
				}
			}
		}
	}
}

// look goes on with the survey that has waited longest.
func (w *writer) look() {
	if len(w.surveys) == 0 {
		return
	}
	v := w.surveys[0]
	end := min(v.next+surveyBatch, len(w.slots))
	for ; v.next < end; v.next++ {
		if s := w.slots[v.next].stream; s != nil && v.wants(s.options) {
			v.add(w.lag(s))
		}
	}
	if end == len(w.slots) {
		close(v.done)
		w.surveys[0] = nil
		w.surveys = w.surveys[1:]
	}
}

// lag describes a stream.
func (w *writer) lag(s *direct) Lag {
	l := Lag{
		Log: s.rendition.Log(), Name: s.options.Name, Direct: true, Client: s.client, Age: w.clock - s.begun, Frames: int64(s.frames), Bytes: s.bytes,
		Missed: s.rendition.Missed(s.cursor), Left: len(s.rest), Unacknowledged: -1,
	}
	if len(s.rest) > 0 {
		l.Missed++
	}
	if s.blocked {
		l.Waiting = w.clock - s.takenSince
	}
	if n, err := unix.IoctlGetInt(int(s.fd), unix.SIOCOUTQ); err == nil {
		l.Unacknowledged = n
	}
	return l
}
