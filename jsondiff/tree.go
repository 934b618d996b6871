package jsondiff

import (
	"bytes"
	"slices"
)

// tree is a document being changed. A value stays text until something inside
// it changes: only containers on the way to a change are opened into nodes, so
// an operation costs what lies on its path, not the document.
type tree struct {
	doc, patch source
	list       int32 // the patch's operations, on its tape
	nodes      []*node
	root       ref
	room       int64 // bytes that copies may still add
	copied     int64 // what they have added
	maxDepth   int
	deepest    int // no less than how deep the document is

	recording bool     // the operations may have to be undone
	undo      []func() // from the first to the last
}

// ref is one value of a tree: an entry of doc's tape, or of patch's tape
// counted on from there, or, below zero, a node.
type ref int32

// node is an opened array or object.
type node struct {
	array    bool
	elements list
	members  []member // in order; a removed one stays as a gap
	live     int      // members that are not gaps
	byName   map[string]int32
}

// member is one member of an opened object. The zero member is a gap.
type member struct {
	quoted []byte // the name as written, with its quotes; nil in a gap
	name   []byte // unescaped
	value  ref
}

// mapFrom is the number of members from which an object is looked up by map.
const mapFrom = 12

func newTree(doc, patch source, l Limits) *tree {
	t := &tree{doc: doc, patch: patch, maxDepth: l.Depth, deepest: doc.depth(0)}
	t.resetRoom()
	return t
}

func (t *tree) resetRoom() { t.room = copyRoom + 16*int64(len(t.doc.text)) }

// deepen notes how deep the document may be with a value at a pointer.
func (t *tree) deepen(p []byte, value ref) {
	depth := t.deepest // of what a node holds nobody knows more
	if value >= 0 {
		s, i := t.at(value)
		depth = s.depth(i)
	}
	t.deepest = max(t.deepest, bytes.Count(p, []byte{'/'})+depth)
}

// onUndo remembers how to undo what was done last.
func (t *tree) onUndo(do func()) {
	if t.recording {
		t.undo = append(t.undo, do)
	}
}

// copyRoom bounds what copy operations may add to any document; to a large one
// they may add sixteen times its size. Without a bound thirty operations make a
// gigabyte from nothing.
const copyRoom = 64 << 20

func (t *tree) at(r ref) (source, int32) {
	if n := int32(len(t.doc.tape)); int32(r) >= n {
		return t.patch, int32(r) - n
	}
	return t.doc, int32(r)
}

// fromPatch is the ref of entry i of the patch's tape.
func (t *tree) fromPatch(i int32) ref { return ref(int32(len(t.doc.tape)) + i) }

// container says whether r is an object or an array.
func (t *tree) container(r ref) bool {
	if r < 0 {
		return true
	}
	s, i := t.at(r)
	return s.tape.kind(i) <= kindArray
}

// open returns r's node; for a value that is still text, a new one that is not
// part of the tree yet. r must be a container.
func (t *tree) open(r ref) *node {
	if r < 0 {
		return t.nodes[^r]
	}
	s, i := t.at(r)
	shift := r - ref(i)
	n := &node{array: s.tape.kind(i) == kindArray}
	end := s.tape.stop(i)
	if n.array {
		for c := s.tape.inside(i); c < end; c = s.tape.next(c) {
			n.elements.push(ref(c) + shift)
		}
		return n
	}
	count := 0
	for c := s.tape.inside(i); c < end; c = s.tape.next(c) {
		count++
	}
	n.members = make([]member, 0, count)
	for c := s.tape.inside(i); c < end; c = s.tape.next(c) {
		name := s.name(c)
		n.set(member{quoted: s.quotedName(c), name: unescape(name), value: ref(c) + shift}, false)
	}
	return n
}

// node opens the container in a slot of the tree for good.
func (t *tree) node(slot *ref) *node {
	if *slot >= 0 {
		t.nodes = append(t.nodes, t.open(*slot))
		*slot = ref(^(len(t.nodes) - 1))
	}
	return t.nodes[^*slot]
}

// find returns the position of a member, or -1.
func (n *node) find(name []byte) int {
	if n.byName != nil {
		if i, ok := n.byName[string(name)]; ok {
			return int(i)
		}
		return -1
	}
	for i := range n.members {
		if m := &n.members[i]; m.quoted != nil && bytes.Equal(m.name, name) {
			return i
		}
	}
	return -1
}

// set adds a member at the end, or gives an existing one its new value in its
// place: so the last of several equal names counts, as JSON.parse has it.
// gaps: those that are there stay, as something may be restored to them.
func (n *node) set(m member, gaps bool) {
	if i := n.find(m.name); i >= 0 {
		n.members[i].value = m.value
		return
	}
	if !gaps && (n.live == 0 || len(n.members) > 2*n.live+mapFrom) {
		n.close()
	}
	n.members = append(n.members, m)
	n.live++
	switch {
	case n.byName != nil:
		n.byName[string(m.name)] = int32(len(n.members) - 1)
	case len(n.members) > mapFrom:
		n.index()
	}
}

func (n *node) index() {
	n.byName = make(map[string]int32, cap(n.members))
	for i := range n.members {
		if n.members[i].quoted != nil {
			n.byName[string(n.members[i].name)] = int32(i)
		}
	}
}

// close takes the gaps out.
func (n *node) close() {
	if n.live == len(n.members) {
		return
	}
	n.members = slices.DeleteFunc(n.members, func(m member) bool { return m.quoted == nil })
	if n.byName != nil {
		n.index()
	}
}

func (n *node) remove(i int) {
	if n.byName != nil {
		delete(n.byName, string(n.members[i].name))
	}
	n.members[i] = member{}
	n.live--
}

// restore undoes remove, and unset the set of a new member.
func (n *node) restore(i int, m member) {
	n.members[i] = m
	n.live++
	if n.byName != nil {
		n.byName[string(m.name)] = int32(i)
	}
}

func (n *node) unset() {
	n.remove(len(n.members) - 1)
	n.members = n.members[:len(n.members)-1]
}

// clone copies a value so that neither copy sees the other's changes. Text is
// never changed and therefore shared.
func (t *tree) clone(r ref, depth int) (ref, error) {
	if depth > t.maxDepth {
		return 0, ErrDepth
	}
	if r >= 0 {
		s, i := t.at(r)
		return r, t.charge(s.tape.len(i))
	}
	n := t.nodes[^r]
	c := &node{array: n.array, live: n.live}
	if err := t.charge(128 + 4*n.elements.n + 56*n.live); err != nil {
		return 0, err
	}
	for _, chunk := range n.elements.chunks {
		for _, e := range chunk {
			e, err := t.clone(e, depth+1)
			if err != nil {
				return 0, err
			}
			c.elements.push(e)
		}
	}
	for _, m := range n.members {
		if m.quoted == nil {
			continue
		}
		var err error
		if m.value, err = t.clone(m.value, depth+1); err != nil {
			return 0, err
		}
		c.members = append(c.members, m)
	}
	if len(c.members) > mapFrom {
		c.index()
	}
	t.nodes = append(t.nodes, c)
	return ref(^(len(t.nodes) - 1)), nil
}

func (t *tree) charge(bytes int) error {
	if t.room -= int64(bytes); t.room < 0 {
		return ErrSize
	}
	return nil
}

// equal compares a value of the tree with one of the patch as `test` does:
// numbers by value, strings by their characters, objects without order. Where
// it has to look inside, it opens the value for good, so that many tests of a
// large one pay for that once. An array just opened has full chunks.
func (t *tree) equal(slot *ref, b ref, depth int) (bool, error) {
	if depth > t.maxDepth {
		return false, ErrDepth
	}
	z, j := t.at(b)
	k, y := z.tape.kind(j), z.raw(j)
	if *slot >= 0 {
		s, i := t.at(*slot)
		x := s.raw(i)
		if bytes.Equal(x, y) {
			return true, nil
		}
		if k != s.tape.kind(i) {
			return false, nil
		}
		switch k {
		case kindNumber:
			return equalNumber(x, y), nil
		case kindString:
			return bytes.Equal(unescape(x), unescape(y)), nil
		case kindLiteral:
			return false, nil
		}
	}
	if k > kindArray {
		return false, nil
	}
	m, n := t.node(slot), t.open(b)
	if m.array != n.array || m.elements.n != n.elements.n || m.live != n.live {
		return false, nil
	}
	i := 0
	for _, chunk := range m.elements.chunks {
		for c := range chunk {
			if ok, err := t.equal(&chunk[c], n.elements.chunks[i/chunkSize][i%chunkSize], depth+1); !ok {
				return false, err
			}
			i++
		}
	}
	for i := range m.members {
		if m.members[i].quoted == nil {
			continue
		}
		j := n.find(m.members[i].name)
		if j < 0 {
			return false, nil
		}
		if ok, err := t.equal(&m.members[i].value, n.members[j].value, depth+1); !ok {
			return false, err
		}
	}
	return true, nil
}

// write appends a value's compact text.
func (t *tree) write(dst []byte, r ref, depth int) ([]byte, error) {
	if r >= 0 {
		s, i := t.at(r)
		// To ask a value for its depth is to walk it: only if it could matter.
		if depth+t.deepest > t.maxDepth && depth+s.depth(i) > t.maxDepth {
			return nil, ErrDepth
		}
		return s.appendValue(dst, i), nil
	}
	if depth >= t.maxDepth {
		return nil, ErrDepth
	}
	n := t.nodes[^r]
	var err error
	if n.array {
		dst = append(dst, '[')
		first := true
		for _, chunk := range n.elements.chunks {
			for _, e := range chunk {
				if !first {
					dst = append(dst, ',')
				}
				first = false
				if dst, err = t.write(dst, e, depth+1); err != nil {
					return nil, err
				}
			}
		}
		return append(dst, ']'), nil
	}
	dst = append(dst, '{')
	first := true
	for i := range n.members {
		m := &n.members[i]
		if m.quoted == nil {
			continue
		}
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = append(append(dst, m.quoted...), ':')
		if dst, err = t.write(dst, m.value, depth+1); err != nil {
			return nil, err
		}
	}
	return append(dst, '}'), nil
}

// appendValue appends the value at i without the white space in it.
func (s *source) appendValue(dst []byte, i int32) []byte {
	at := s.span(i)
	return s.appendPart(dst, at.from, at.to)
}

// list is an array's elements in pieces, so that an insertion or removal moves
// one piece and not the array.
type list struct {
	chunks [][]ref
	n      int
}

const chunkSize = 512

func (l *list) push(r ref) {
	if k := len(l.chunks); k == 0 || len(l.chunks[k-1]) >= chunkSize {
		l.chunks = append(l.chunks, nil)
	}
	last := &l.chunks[len(l.chunks)-1]
	*last = append(*last, r)
	l.n++
}

// locate finds element i's piece and its place there; for i == n, the place
// after the last element.
func (l *list) locate(i int) (chunk, at int) {
	if i > l.n/2 {
		left := l.n
		for c := len(l.chunks) - 1; c >= 0; c-- {
			if left -= len(l.chunks[c]); left <= i {
				return c, i - left
			}
		}
	}
	for c := range l.chunks {
		if i < len(l.chunks[c]) {
			return c, i
		}
		i -= len(l.chunks[c])
	}
	return 0, 0
}

func (l *list) at(i int) *ref {
	c, k := l.locate(i)
	return &l.chunks[c][k]
}

func (l *list) insert(i int, r ref) {
	if i == l.n {
		l.push(r)
		return
	}
	c, k := l.locate(i)
	s := slices.Insert(l.chunks[c], k, r)
	l.chunks[c] = s
	l.n++
	if len(s) >= 2*chunkSize {
		l.chunks = slices.Insert(l.chunks, c+1, slices.Clone(s[chunkSize:]))
		l.chunks[c] = s[:chunkSize:chunkSize]
	}
}

func (l *list) remove(i int) ref {
	c, k := l.locate(i)
	r := l.chunks[c][k]
	l.chunks[c] = slices.Delete(l.chunks[c], k, k+1)
	if len(l.chunks[c]) == 0 {
		l.chunks = slices.Delete(l.chunks, c, c+1)
	}
	l.n--
	return r
}
