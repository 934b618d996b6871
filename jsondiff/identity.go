package jsondiff

import "bytes"

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
	case "pid":
		return 3
	case "symbol", "slug", "code", "isin", "ticker", "sku":
		return 2
	case "name", "title", "url", "href", "path":
		return 1
	}
	if n := len(name) - 2; n > 0 && (name[n]|0x20 == 'i' && name[n+1]|0x20 == 'd') && wordBorder(name[n-1], name[n]) {
		return 3
	}
	return 0
}

// wordBorder tells whether a word ends with a and another begins with b: user_id
// and userId, not paid and PAID.
func wordBorder(a, b byte) bool {
	letter := a|0x20 >= 'a' && a|0x20 <= 'z' || a >= 0x80
	return !letter || a >= 'a' && b < 'a'
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

// keyCandidate is a member that may tell elements apart.
type keyCandidate struct {
	name []byte
	rank int // from 1 on; 0 is none
}

// surelyKey is the rank of a name that need not find most elements again.
const surelyKey = 3

// rankKeys calls with the members of an element that can be its key. A member
// named key whose value is the name of another one says which: that is what
// some monitoring tools send with every item.
func rankKeys(s *source, at int32, candidate func(keyCandidate)) {
	t := s.tape
	var named []byte
	n := 0
	for c, end := t.inside(at), t.stop(at); c < end && n < maxKeyMembers; c = t.next(c) {
		n++
		if t.kind(c) == kindString && string(s.name(c)) == "key" {
			named = unquote(s.raw(c))
		}
	}
	if named != nil && s.member(at, named) < 0 {
		named = nil
	}
	n = 0
	for c, end := t.inside(at), t.stop(at); c < end && n < maxKeyMembers; c = t.next(c) {
		n++
		if k := t.kind(c); k != kindString && k != kindNumber {
			continue
		}
		name := s.name(c)
		rank := 1 + idLike(name)
		if named != nil && bytes.Equal(name, named) {
			rank = 6
		}
		if named != nil && string(name) == "key" {
			rank = 1
		}
		candidate(keyCandidate{name, rank})
	}
}

// likelyKey is the member of an element that looks most like a key, or nil. It
// is a guess: to be wrong makes a patch larger, not wrong.
func likelyKey(s *source, at int32) []byte {
	if s.tape.kind(at) != kindObject {
		return nil
	}
	best := keyCandidate{rank: 2}
	rankKeys(s, at, func(x keyCandidate) {
		if x.rank > best.rank {
			best = x
		}
	})
	return best.name
}

// maxKeyMembers bounds how many members of an element are looked at for a key.
const maxKeyMembers = 32

// member finds a member among the first ones by its name as it is written, or
// returns -1.
func (s *source) member(at int32, name []byte) int32 {
	n := 0
	for c, end := s.tape.inside(at), s.tape.stop(at); c < end && n < maxKeyMembers; c = s.tape.next(c) {
		n++
		if bytes.Equal(s.name(c), name) {
			return c
		}
	}
	return -1
}

// keyValue finds the member with this name, if it is a scalar, or returns -1.
func (w *walk) keyValue(s *source, at int32, name []byte) int32 {
	t := s.tape
	if t.kind(at) != kindObject {
		return -1
	}
	found := int32(-1)
	n := 0
	for c, end := t.inside(at), t.stop(at); c < end && n < 4*maxKeyMembers; c = t.next(c) {
		n++
		if w.named(s, c, name) {
			if t.kind(c) >= kindString {
				found = c
			}
			break
		}
	}
	w.charge(n / 8 * (1 + len(name)/readBytes))
	return found
}

// keyRaw is the value of a new element's key, nil if it has none.
func (w *walk) keyRaw(n int32, key []byte) []byte {
	if key == nil {
		return nil
	}
	c := w.keyValue(&w.new.source, n, key)
	if c < 0 {
		return nil
	}
	return w.new.raw(c)
}

// hasKey tells whether an old element's key has this value.
func (w *walk) hasKey(o int32, key, value []byte) bool {
	if value == nil {
		return false
	}
	c := w.keyValue(&w.old, o, key)
	return c >= 0 && sameName(w.old.raw(c), value)
}

// pairByKey pairs elements by the configured key, else by a member that has
// distinct scalar values in all of them, the most likely names first. It tells
// whether there is such a key.
func (w *walk) pairByKey(a *alignment) bool {
	if key := w.configuredKey(); key != nil {
		return w.tryKey(a, key, 0)
	}
	first := a.gone[0].at
	if w.old.tape.kind(first) != kindObject {
		return false
	}
	var best [4]keyCandidate
	rankKeys(&w.old, first, func(x keyCandidate) {
		for i := range best { // the more likely, and of the same rank the earlier
			if x.rank > best[i].rank {
				x, best[i] = best[i], x
			}
		}
	})
	for _, c := range best {
		if c.rank == 0 {
			break
		}
		// A member that is distinct by chance is worth nothing as a key: it
		// has to find most of the elements again.
		need := 0
		if c.rank < surelyKey {
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
func (w *walk) tryKey(a *alignment, name []byte, need int) bool {
	if w.charge(len(a.gone) + len(a.born)) {
		return false
	}
	if found := w.matchKeys(a, name); found < need {
		a.separate()
		return false
	}
	return true
}

// matchKeys returns how many elements found their mate by a key, or -1.
func (w *walk) matchKeys(a *alignment, name []byte) (found int) {
	t := &w.names
	t.reset(len(a.gone))
	w.pairs.keys = grow(w.pairs.keys, len(a.gone))
	keys := w.pairs.keys
	for i := range a.gone {
		c := w.keyValue(&w.old, a.gone[i].at, name)
		if c < 0 {
			return -1
		}
		keys[i] = c
		raw := w.old.raw(c)
		hash := uint32(t.hashName(raw))
		at, next := t.first(hash)
		for at.key != 0 {
			if sameName(w.old.raw(keys[at.index()]), raw) {
				return -1
			}
			at, next = t.after(hash, next)
		}
		*at = slot{hash, int32(i + 1)}
	}
	for j := range a.born {
		c := w.keyValue(&w.new.source, a.born[j].at, name)
		if c < 0 {
			return -1
		}
		raw := w.new.raw(c)
		hash := uint32(t.hashName(raw))
		for at, next := t.first(hash); at.key != 0; at, next = t.after(hash, next) {
			i := at.index()
			if !sameName(w.old.raw(keys[i]), raw) {
				continue
			}
			if a.gone[i].taken != 0 {
				return -1
			}
			a.marry(int(i), j)
			found++
			break
		}
	}
	return found
}
