package jsondiff

import (
	"bytes"
	"errors"
	"fmt"
)

// ErrNotMergeable is Merge's answer where a merge patch cannot express the
// change: it would have to set a member to null, which removes it instead (RFC
// 7396 section 1).
var ErrNotMergeable = errors.New("the change cannot be expressed as a merge patch")

// Merge gives the JSON Merge Patch (RFC 7396) that turns one document into
// another: ApplyMerge(old, patch) equals the new one, or the answer is
// ErrNotMergeable. Nulls that stay as they are and nulls inside arrays are
// fine. Where the new document is an object and equal to the old one, the patch
// is {}; any other document has no smaller patch than itself.
func Merge(old, new []byte) (patch []byte, err error) {
	m, done, err := readTwo(old, new)
	if err != nil {
		return nil, err
	}
	defer done()
	return m.diff(nil, 0, 0)
}

// ApplyMerge carries out a JSON Merge Patch (RFC 7396) and returns the new
// document, without white space. What the patch does not mention is kept as
// written; new members go to the end; of equal names the last one counts.
func ApplyMerge(doc, patch []byte) ([]byte, error) {
	m, done, err := readTwo(doc, patch)
	if err != nil {
		return nil, err
	}
	defer done()
	return m.apply(make([]byte, 0, len(doc)+len(patch)), 0, 0), nil
}

// merger walks two documents, the second of them new or a patch.
type merger struct{ a, b source }

// readTwo reads both; done says that nothing is needed of them any more.
func readTwo(doc, other []byte) (m merger, done func(), err error) {
	a, err := borrow(doc)
	if err != nil {
		return m, nil, fmt.Errorf("first document: %w", err)
	}
	b, err := borrow(other)
	if err != nil {
		a.giveBack()
		return m, nil, fmt.Errorf("second document: %w", err)
	}
	return merger{a.source, b.source}, func() { a.giveBack(); b.giveBack() }, nil
}

// memberTable finds an object's members by name, the last one of equal names.
type memberTable struct {
	s      source
	few    []int32
	byName map[string]int32
}

// table lists the members of the object at i, in order, without those that a
// later one of the same name hides.
func (s source) table(i int32) memberTable {
	end := s.tape.stop(i)
	count := 0
	for c := s.tape.inside(i); c < end; c = s.tape.next(c) {
		count++
	}
	t := memberTable{s: s, few: make([]int32, 0, count)}
	if count > mapFrom {
		t.byName = make(map[string]int32, count)
	}
	hidden := false
	for c := s.tape.inside(i); c < end; c = s.tape.next(c) {
		if t.byName != nil {
			name := string(unescape(s.name(c)))
			_, again := t.byName[name]
			hidden = hidden || again
			t.byName[name] = c
		}
		t.few = append(t.few, c)
	}
	if t.byName == nil || hidden {
		visible := t.few[:0:count]
		for k, c := range t.few {
			if t.byName == nil && s.hidden(t.few[k+1:], c) || t.byName != nil && t.byName[string(unescape(s.name(c)))] != c {
				continue
			}
			visible = append(visible, c)
		}
		t.few = visible
	}
	return t
}

func (s source) hidden(later []int32, c int32) bool {
	for _, d := range later {
		if sameName(s.name(c), s.name(d)) {
			return true
		}
	}
	return false
}

// sameName compares two member names by their characters.
func sameName(a, b []byte) bool {
	return bytes.Equal(a, b) ||
		(bytes.IndexByte(a, '\\') >= 0 || bytes.IndexByte(b, '\\') >= 0) && bytes.Equal(unescape(a), unescape(b))
}

// find gives the member of a name, as it is written in any document, or -1.
func (t *memberTable) find(name []byte) int32 {
	if t.byName != nil {
		if c, ok := t.byName[string(unescape(name))]; ok {
			return c
		}
		return -1
	}
	for _, c := range t.few {
		if sameName(t.s.name(c), name) {
			return c
		}
	}
	return -1
}

// diff appends the patch from the value at i to the one at j.
func (m *merger) diff(dst []byte, i, j int32) ([]byte, error) {
	if m.b.tape.kind(j) != kindObject {
		return m.b.appendValue(dst, j), nil
	}
	if m.a.tape.kind(i) != kindObject {
		if m.b.nullInside(j) {
			return nil, ErrNotMergeable
		}
		return m.b.appendValue(dst, j), nil
	}
	dst = append(dst, '{')
	if bytes.Equal(m.a.raw(i), m.b.raw(j)) {
		return append(dst, '}'), nil
	}
	a, b := m.a.table(i), m.b.table(j)
	start := len(dst)
	name := func(quoted []byte) {
		if len(dst) > start {
			dst = append(dst, ',')
		}
		dst = append(append(dst, quoted...), ':')
	}
	for _, c := range a.few {
		if b.find(m.a.name(c)) < 0 {
			name(m.a.quotedName(c))
			dst = append(dst, "null"...)
		}
	}
	for _, d := range b.few {
		c := a.find(m.b.name(d))
		mark := len(dst)
		if c >= 0 && m.a.tape.kind(c) == kindObject && m.b.tape.kind(d) == kindObject {
			// Whether they are equal shows in the patch between them: to ask first
			// would walk the lower levels once for each level above.
			name(m.b.quotedName(d))
			value := len(dst)
			var err error
			if dst, err = m.diff(dst, c, d); err != nil {
				return nil, err
			}
			if len(dst) == value+len("{}") {
				dst = dst[:mark]
			}
			continue
		}
		if c >= 0 && m.same(c, d) {
			continue
		}
		if m.b.null(d) || m.b.nullInside(d) {
			return nil, ErrNotMergeable
		}
		name(m.b.quotedName(d))
		dst = m.b.appendValue(dst, d)
	}
	return append(dst, '}'), nil
}

func (s source) null(i int32) bool { return s.text[s.tape.off(i)] == 'n' }

// nullInside says whether an object has a null that a merge patch would take
// for a removal: one reached through objects only.
func (s source) nullInside(i int32) bool {
	if s.tape.kind(i) != kindObject {
		return false
	}
	if !bytes.Contains(s.raw(i), []byte("null")) {
		return false
	}
	t := s.table(i)
	for _, c := range t.few {
		if s.null(c) || s.nullInside(c) {
			return true
		}
	}
	return false
}

// same compares as Equal does: literals as written, strings by their
// characters, objects without order.
func (m *merger) same(i, j int32) bool {
	x, y := m.a.raw(i), m.b.raw(j)
	if bytes.Equal(x, y) {
		return true
	}
	k := m.a.tape.kind(i)
	if k != m.b.tape.kind(j) {
		return false
	}
	switch k {
	case kindString:
		return bytes.Equal(unescape(x), unescape(y))
	case kindArray:
		endA, endB := m.a.tape.stop(i), m.b.tape.stop(j)
		c, d := m.a.tape.inside(i), m.b.tape.inside(j)
		for ; c < endA && d < endB; c, d = m.a.tape.next(c), m.b.tape.next(d) {
			if !m.same(c, d) {
				return false
			}
		}
		return c == endA && d == endB
	case kindObject:
		a, b := m.a.table(i), m.b.table(j)
		if len(a.few) != len(b.few) {
			return false
		}
		for _, c := range a.few {
			if d := b.find(m.a.name(c)); d < 0 || !m.same(c, d) {
				return false
			}
		}
		return true
	}
	return false
}

// apply appends what the value at i becomes under the patch at j: RFC 7396
// section 2's MergePatch.
func (m *merger) apply(dst []byte, i, j int32) []byte {
	if m.b.tape.kind(j) != kindObject {
		return m.b.appendValue(dst, j)
	}
	if m.a.tape.kind(i) != kindObject {
		return m.b.appendWithoutNulls(dst, j)
	}
	a, b := m.a.table(i), m.b.table(j)
	dst = append(dst, '{')
	start := len(dst)
	name := func(quoted []byte) {
		if len(dst) > start {
			dst = append(dst, ',')
		}
		dst = append(append(dst, quoted...), ':')
	}
	for _, c := range a.few {
		d := b.find(m.a.name(c))
		switch {
		case d < 0:
			name(m.a.quotedName(c))
			dst = m.a.appendValue(dst, c)
		case !m.b.null(d):
			name(m.a.quotedName(c))
			dst = m.apply(dst, c, d)
		}
	}
	for _, d := range b.few {
		if !m.b.null(d) && a.find(m.b.name(d)) < 0 {
			name(m.b.quotedName(d))
			dst = m.b.appendWithoutNulls(dst, d)
		}
	}
	return append(dst, '}')
}

// appendWithoutNulls is what a patch makes of nothing.
func (s source) appendWithoutNulls(dst []byte, i int32) []byte {
	if s.tape.kind(i) != kindObject || !bytes.Contains(s.raw(i), []byte("null")) {
		return s.appendValue(dst, i)
	}
	dst = append(dst, '{')
	start := len(dst)
	t := s.table(i)
	for _, c := range t.few {
		if s.null(c) {
			continue
		}
		if len(dst) > start {
			dst = append(dst, ',')
		}
		dst = append(append(dst, s.quotedName(c)...), ':')
		dst = s.appendWithoutNulls(dst, c)
	}
	return append(dst, '}')
}
