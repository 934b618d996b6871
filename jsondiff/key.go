package jsondiff

import (
	"strings"
)

// Identify names the member that tells the elements of an array apart.
//
// Identity says so for the arrays that its pattern stands for, exactly.
type Identity struct {
	Pattern Pattern
	Member  string
}

// idLike ranks a name as a key: names that are nearly always one, then what
// ends like an identifier, then names that often are one.
func idLike(name []byte) int {
	switch string(name) {
	case "id", "_id", "ID", "Id", "uuid", "guid", "key", "uid":
		return 4
	case "symbol", "slug", "code", "isin", "ticker", "sku":
		return 2
	case "name", "title", "url", "href", "path":
		return 1
	}
	s := string(name[max(0, len(name)-3):])
	if strings.HasSuffix(s, "_id") || strings.HasSuffix(s, "-id") || strings.HasSuffix(s, "Id") || strings.HasSuffix(s, "ID") {
		return 3
	}
	return 0
}

// configuredKey is the member that Options.Identify names for the array at the
// path, or nil.
func (w *walk) configuredKey() []byte {
	for i := range w.identify {
		if matchPath(w.identify[i].Pattern, w.patch.path, true) {
			return []byte(w.identify[i].Member)
		}
	}
	return nil
}

// likelyKey is the member of an element that looks most like a key, or nil. It
// is a guess: to be wrong makes a patch larger, not wrong.
func likelyKey(s *source, at int32) []byte {
	if s.tape.kind(at) != kindObject {
		return nil
	}
	var best []byte
	rank := 1
	n := 0
	for c, end := s.tape.inside(at), s.tape.stop(at); c < end && n < maxKeyMembers; c = s.tape.next(c) {
		n++
		if s.tape.kind(c) < kindString {
			continue
		}
		if r := idLike(s.name(c)); r > rank {
			best, rank = s.name(c), r
		}
	}
	return best
}

// maxKeyMembers bounds how many members of an element are looked at for a key.
const maxKeyMembers = 32

// keyValue finds the member with this name, if it is a scalar, or gives -1.
func (w *walk) keyValue(s *source, at int32, name []byte) int32 {
	t := s.tape
	if t.kind(at) != kindObject {
		return -1
	}
	n := 0
	for c, end := t.inside(at), t.stop(at); c < end; c = t.next(c) {
		if w.sameName(s.name(c), name) {
			if t.kind(c) < kindString {
				return -1
			}
			return c
		}
		if n++; n == 4*maxKeyMembers {
			break
		}
	}
	return -1
}

// sameKey tells whether both elements have the key with the same value.
func (w *walk) sameKey(o, n int32, name []byte) bool {
	if name == nil {
		return false
	}
	x := w.keyValue(&w.old, o, name)
	if x < 0 {
		return false
	}
	y := w.keyValue(&w.new.source, n, name)
	return y >= 0 && sameName(w.old.raw(x), w.new.raw(y))
}

// pairByKey pairs elements by the configured key, else by a member that has
// distinct scalar values in all of them, the most likely names first. It tells
// whether there is such a key.
func (w *walk) pairByKey(a *arrayWalk) bool {
	if key := w.configuredKey(); key != nil {
		return w.tryKey(a, key, 0)
	}
	first := a.gone[0].at
	if w.old.tape.kind(first) != kindObject {
		return false
	}
	type candidate struct {
		name []byte
		rank int
	}
	var best [4]candidate
	n := 0
	for c, end := w.old.tape.inside(first), w.old.tape.stop(first); c < end && n < maxKeyMembers; c = w.old.tape.next(c) {
		n++
		if k := w.old.tape.kind(c); k != kindString && k != kindNumber {
			continue
		}
		x := candidate{w.old.name(c), 1 + idLike(w.old.name(c))}
		for i := range best { // the more likely, and of the same rank the earlier
			if x.rank > best[i].rank {
				x, best[i] = best[i], x
			}
		}
	}
	for _, c := range best {
		if c.rank == 0 {
			break
		}
		// A member that is distinct by chance is worth nothing as a key: it
		// has to find most of the elements again.
		need := 0
		if c.rank < 3 {
			need = (min(len(a.gone), len(a.born)) + 1) / 2
		}
		if w.tryKey(a, c.name, need) {
			return true
		}
	}
	return false
}

// tryKey pairs elements by a key if all have it, distinct, and if it finds as
// many mates as needed. Otherwise it leaves no trace.
func (w *walk) tryKey(a *arrayWalk, name []byte, need int) bool {
	t := &w.names
	t.reset(len(a.gone))
	found := 0
	ok := func() bool {
		for i, e := range a.gone {
			c := w.keyValue(&w.old, e.at, name)
			if c < 0 {
				return false
			}
			raw := w.old.raw(c)
			hash := hashText(raw)
			at, next := t.first(hash)
			for at.key != 0 {
				if sameName(w.old.raw(at.next), raw) {
					return false
				}
				at, next = t.after(hash, next)
			}
			*at = slot{hash, int32(i + 1), c}
		}
		for j, e := range a.born {
			c := w.keyValue(&w.new.source, e.at, name)
			if c < 0 {
				return false
			}
			raw := w.new.raw(c)
			hash := hashText(raw)
			for at, next := t.first(hash); at.key != 0; at, next = t.after(hash, next) {
				if !sameName(w.old.raw(at.next), raw) {
					continue
				}
				if a.taken[at.key-1] != 0 {
					return false
				}
				a.mate[j] = at.key - 1
				a.taken[at.key-1] = int32(j + 1)
				found++
				break
			}
		}
		return found >= need
	}()
	w.charge(64 * (len(a.gone) + len(a.born)))
	if !ok {
		clear(a.taken)
		for j := range a.mate {
			a.mate[j] = -1
		}
	}
	return ok
}
