package pollsse

import "time"

// generation is one configuration of Caddy. The newest one decides.
type generation struct {
	number uint64
	// uses holds what the handlers of the configuration make sources of. It is
	// written while they are provisioned, and read from then on.
	uses    map[use]struct{}
	cluster *clusterConfig // nil: there is none
	// failed says that it could not start. Requests may still be on their way to
	// its handlers. The pool's mutex guards it.
	failed bool
}

// use is a name, and what decides the document under it besides the request.
type use struct {
	name    string
	reading [32]byte // a digest
}

func (e *engine) newGeneration() *generation {
	return &generation{number: e.generations.Add(1), uses: make(map[use]struct{})}
}

// readsOneWay reports whether all handlers of a name read the document in the
// same way.
func (g *generation) readsOneWay(name string) bool {
	ways := 0
	for u := range g.uses {
		if u.name == name {
			ways++
		}
	}
	return ways == 1
}

// olderThan reports whether a configuration, nil for none, is newer than g.
func (g *generation) olderThan(o *generation) bool { return o != nil && g.number < o.number }

// claim is what one handler asks of every source that it holds or subscribes
// to. None of it decides the document, so none of it is part of a source's key.
type claim struct {
	use
	upkeep
	environment environment
	cluster     *clusterConfig // whose nodes share its sources; nil: this one polls them alone
	document    [32]byte       // digest of what decides the document besides the request, the same on all nodes
	part        [32]byte       // digest of what says which part of the upstream's document clients see
	generation  *generation
	stays       bool // its streams outlive their configuration, and need their source
}

// upkeep is when a source polls and what it keeps.
type upkeep struct {
	schedule schedule
	history  int
	linger   time.Duration
}

// with returns an upkeep that satisfies two handlers.
func (u upkeep) with(o upkeep) upkeep {
	return upkeep{u.schedule.with(o.schedule), max(u.history, o.history), max(u.linger, o.linger)}
}

// with returns a schedule that satisfies two handlers: documents as new as
// either wants them, as much time as either gives a poll, and no more load than
// either allows.
func (s schedule) with(o schedule) schedule {
	return schedule{
		interval:  min(s.interval, o.interval),
		quiet:     min(s.quiet, o.quiet),
		longest:   min(s.longest, o.longest),
		timeout:   max(s.timeout, o.timeout),
		load:      least(s.load, o.load),
		hostPolls: least(s.hostPolls, o.hostPolls),
		stale:     min(s.stale, o.stale),
		ignore:    s.ignore && o.ignore,
	}
}

// least returns the smaller of two limits. 0 means no limit.
func least(a, b int) int {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}
