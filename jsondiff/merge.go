package jsondiff

import (
	"bytes"
	"slices"
)

// MergeDiff returns the JSON Merge Patch (RFC 7396) that turns one document into
// another: ApplyMerge(old, patch) equals the new one, or the answer is
// ErrNotMergeable. Nulls that stay as they are and nulls inside arrays are
// fine. If the new document is an object and equal to the old one, the patch
// is {}; any other document has no smaller patch than itself.
func MergeDiff(old, new []byte) ([]byte, error) { return Options{}.MergeDiff(old, new) }

// MergeDiff is the function of that name, within Limits, and with
// NumbersByValue. The other options do not matter to it.
func (o Options) MergeDiff(old, new []byte) ([]byte, error) { return o.AppendMergeDiff(nil, old, new) }

// AppendMergeDiff is MergeDiff with the patch appended to dst. On an error dst
// comes back as it was.
func (o Options) AppendMergeDiff(dst, old, new []byte) ([]byte, error) {
	m, done, err := o.readTwo(old, "old document", new, "new document")
	if err != nil {
		return dst, err
	}
	defer done()
	out, err := m.diff(dst, 0, 0)
	if err != nil {
		return dst, err
	}
	return out, nil
}

// ApplyMerge carries out a JSON Merge Patch (RFC 7396) and returns the new
// document, without white space. What the patch does not mention is kept as
// written; new members go to the end; of equal names the last one counts.
func ApplyMerge(doc, patch []byte) ([]byte, error) { return Options{}.ApplyMerge(doc, patch) }

// ApplyMerge is the function of that name, within Limits.
func (o Options) ApplyMerge(doc, patch []byte) ([]byte, error) {
	return o.AppendApplyMerge(nil, doc, patch)
}

// AppendApplyMerge is ApplyMerge with the new document appended to dst. On an
// error dst comes back as it was.
func (o Options) AppendApplyMerge(dst, doc, patch []byte) ([]byte, error) {
	m, done, err := o.readTwo(doc, "document", patch, "patch")
	if err != nil {
		return dst, err
	}
	defer done()
	return m.apply(slices.Grow(dst, len(doc)+len(patch)), 0, 0), nil
}

// merger walks two documents, the second of them new or a patch.
type merger struct {
	a, b    source
	byValue bool // numbers
}

// readTwo reads both; done says that nothing is needed of them any more.
func (o Options) readTwo(doc []byte, first string, other []byte, second string) (m merger, done func(), err error) {
	l := o.Limits.withDefaults()
	a, err := borrow(doc, l)
	if err != nil {
		return m, nil, inDocument(err, first)
	}
	b, err := borrow(other, l)
	if err != nil {
		a.giveBack()
		return m, nil, inDocument(err, second)
	}
	return merger{a.source, b.source, o.NumbersByValue}, func() { a.giveBack(); b.giveBack() }, nil
}

// memberTable finds an object's members by name, the last one of equal names.
type memberTable struct {
	s       source
	visible []int32 // in order, without those that a later one hides
	names   *hashTable
}

func (s source) table(i int32) memberTable {
	t := memberTable{s: s, visible: s.elements(nil, s.tape.inside(i), s.tape.stop(i))}
	list := t.visible
	hidden := func(k int) bool {
		for _, later := range list[k+1:] {
			if sameName(s.name(list[k]), s.name(later)) {
				return true
			}
		}
		return false
	}
	if len(list) > mapFrom {
		t.names = new(hashTable)
		if _, twice := t.names.index(&s, i); !twice {
			return t
		}
		hidden = func(k int) bool { return t.find(s.name(list[k])) != list[k] }
	}
	n := 0
	for k, c := range list {
		if !hidden(k) {
			t.visible[n] = c
			n++
		}
	}
	t.visible = t.visible[:n]
	return t
}

// find returns the member of a name, as it is written in any document, or -1.
func (t *memberTable) find(name []byte) int32 {
	if t.names != nil {
		if at := t.names.findMember(&t.s, name); at != nil {
			return at.index()
		}
		return -1
	}
	for _, c := range t.visible {
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
	for _, c := range a.visible {
		if b.find(m.a.name(c)) < 0 {
			name(m.a.quotedName(c))
			dst = append(dst, "null"...)
		}
	}
	for _, d := range b.visible {
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
	return s.tape.kind(i) == kindObject && bytes.Contains(s.raw(i), []byte("null")) && s.nullMember(i)
}

// nullMember is nullInside without a look at the text, which on each level would
// be one too many.
func (s source) nullMember(i int32) bool {
	if s.tape.kind(i) != kindObject {
		return false
	}
	t := s.table(i)
	for _, c := range t.visible {
		if s.null(c) || s.nullMember(c) {
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
		return sameName(x, y)
	case kindNumber:
		return m.byValue && equalNumber(x, y)
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
		if len(a.visible) != len(b.visible) {
			return false
		}
		for _, c := range a.visible {
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
	for _, c := range a.visible {
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
	for _, d := range b.visible {
		if !m.b.null(d) && a.find(m.b.name(d)) < 0 {
			name(m.b.quotedName(d))
			dst = m.b.appendWithoutNulls(dst, d)
		}
	}
	return append(dst, '}')
}

// appendWithoutNulls is what a patch makes of nothing.
func (s source) appendWithoutNulls(dst []byte, i int32) []byte {
	if !bytes.Contains(s.raw(i), []byte("null")) {
		return s.appendValue(dst, i)
	}
	return s.appendVisible(dst, i)
}

func (s source) appendVisible(dst []byte, i int32) []byte {
	if s.tape.kind(i) != kindObject {
		return s.appendValue(dst, i)
	}
	dst = append(dst, '{')
	start := len(dst)
	t := s.table(i)
	for _, c := range t.visible {
		if s.null(c) {
			continue
		}
		if len(dst) > start {
			dst = append(dst, ',')
		}
		dst = append(append(dst, s.quotedName(c)...), ':')
		dst = s.appendVisible(dst, c)
	}
	return append(dst, '}')
}
