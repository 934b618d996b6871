package pollsse

import (
	linked "container/list"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// handedOnFor is how long requests for what turned out to be no document go to
// the next handler without asking the upstream.
const handedOnFor = time.Minute

// reader is a client that reads documents below a tree: its address, and what
// the upstream gets of it.
type reader struct {
	client    netip.Addr
	forwarded [32]byte
}

// urls is what is remembered of the URLs below the trees of one name that have no
// source, and of what clients have read. The zero value is ready.
type urls struct {
	mu      sync.Mutex
	all     map[[32]byte]*linked.Element // of *knownURL
	oldest  linked.List
	clients map[netip.Addr]int // URLs by the client that they are charged to

	readers   map[reader]*linked.Element // of *readerKeys
	leastRead linked.List

	handedOn []handedOn // the newest last
}

// knownURL is a URL that was answered with what may be a document, or turned out
// to be none.
type knownURL struct {
	key    [32]byte
	client netip.Addr
	reason string // why it is none; "": it may be one
	at     time.Time
}

// readerKeys are the documents that a reader has read, the last one last.
type readerKeys struct {
	reader reader
	keys   [][32]byte
}

// handedOn is why requests went to the next handler.
type handedOn struct {
	path, reason string
	at           time.Time
}

const (
	// urlsPerSource is how many URLs are remembered for each source that
	// max_sources allows.
	urlsPerSource = 4
	// keysPerReader is the most documents that one write polls.
	keysPerReader = 64
	// maxHandedOn is how many paths and reasons the operator sees.
	maxHandedOn = 256
)

// known returns why a URL is no document, or whether it was answered with what may
// be one within linger.
func (u *urls) known(key [32]byte, linger time.Duration) (reason string, read bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	e := u.all[key]
	if e == nil {
		return "", false
	}
	url := e.Value.(*knownURL)
	age := time.Since(url.at)
	if url.reason == "" {
		return "", age <= linger
	}
	if age < handedOnFor {
		return url.reason, false
	}
	return "", false
}

// remember remembers a URL. If there are too many, the oldest of its client
// gives way, or the oldest of all. That one is then asked for once more than
// necessary.
func (u *urls) remember(url knownURL, maxSources int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if e := u.all[url.key]; e != nil {
		if was := e.Value.(*knownURL); was.reason != "" && time.Since(was.at) < handedOnFor {
			return // it is to be asked for again in a minute, not a minute from now
		}
		u.forget(e)
	}
	most := urlsPerSource * maxSources
	if u.clients[url.client] >= max(1, most/clientShare) {
		for e := u.oldest.Front(); e != nil; e = e.Next() {
			if e.Value.(*knownURL).client == url.client {
				u.forget(e)
				break
			}
		}
	}
	if len(u.all) >= most {
		u.forget(u.oldest.Front())
	}
	if u.all == nil {
		u.all, u.clients = make(map[[32]byte]*linked.Element), make(map[netip.Addr]int)
	}
	url.at = time.Now()
	u.all[url.key] = u.oldest.PushBack(&url)
	u.clients[url.client]++
}

func (u *urls) forget(e *linked.Element) {
	url := u.oldest.Remove(e).(*knownURL)
	delete(u.all, url.key)
	if u.clients[url.client]--; u.clients[url.client] == 0 {
		delete(u.clients, url.client)
	}
}

// reads notes that a reader has read a document.
func (u *urls) reads(who reader, key [32]byte, maxSources int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	e := u.readers[who]
	if e == nil {
		if len(u.readers) >= maxSources {
			delete(u.readers, u.leastRead.Remove(u.leastRead.Front()).(*readerKeys).reader)
		}
		if u.readers == nil {
			u.readers = make(map[reader]*linked.Element)
		}
		e = u.leastRead.PushBack(&readerKeys{reader: who})
		u.readers[who] = e
	}
	u.leastRead.MoveToBack(e)
	r := e.Value.(*readerKeys)
	if i := slices.Index(r.keys, key); i >= 0 {
		r.keys = slices.Delete(r.keys, i, i+1)
	} else if len(r.keys) == keysPerReader {
		r.keys = slices.Delete(r.keys, 0, 1)
	}
	r.keys = append(r.keys, key)
}

// readBy returns the documents that a reader has read last.
func (u *urls) readBy(who reader) [][32]byte {
	u.mu.Lock()
	defer u.mu.Unlock()
	if e := u.readers[who]; e != nil {
		return slices.Clone(e.Value.(*readerKeys).keys)
	}
	return nil
}

// note notes for the operator why a request is handed on.
func (u *urls) note(path, reason string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	same := func(o handedOn) bool { return o.path == path && o.reason == reason }
	if i := slices.IndexFunc(u.handedOn, same); i >= 0 {
		u.handedOn = slices.Delete(u.handedOn, i, i+1)
	} else if len(u.handedOn) == maxHandedOn {
		u.handedOn = slices.Delete(u.handedOn, 0, 1)
	}
	u.handedOn = append(u.handedOn, handedOn{path, reason, time.Now()})
}

// handedOnLately returns what was noted, the oldest first.
func (u *urls) handedOnLately() []handedOn {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.handedOn)
}

// shorten bounds a path that the operator may want to see.
func shorten(path string) string {
	if len(path) > maxShownPath {
		return path[:maxShownPath] + "…"
	}
	return path
}

const maxShownPath = 256
