package jsondiff

import (
	"bytes"
	"slices"
	"strconv"
)

// patchWriter writes a JSON Patch at a path that follows the walk. Paths are kept
// as they stand in the patch: JSON Pointers, escaped as JSON strings.
//
// Containers among the values are left out until the patch is taken, as what
// replaces a container drops what was written for those inside it: so each
// level of a document would be copied once for each level above.
type patchWriter struct {
	text  []byte
	gaps  []gap
	left  int // size of all values that were left out
	path  []byte
	tests bool // before each operation that removes or replaces a value

	// muted counts open containers whose operations already cost more than
	// replacing them: until they close, nothing is worth writing.
	muted int

	// ignore are paths whose changes alone are none. seen tells that a
	// difference lay outside of them. While shifted is not 0, the path tells
	// where an operation goes, not where documents differ: such a difference
	// makes it doubtful.
	ignore   []Pattern
	seen     bool
	doubtful bool
	shifted  int
}

// gap is where a value was left out.
type gap struct {
	at    int32 // in the patch's text
	value span  // in the new text, or in the old one
	old   bool
}

// span is a part of a text.
type span struct{ from, to int32 }

func (p *patchWriter) reset(ignore []Pattern, tests bool) {
	p.text, p.gaps, p.path = append(p.text[:0], '['), p.gaps[:0], p.path[:0]
	p.left, p.muted, p.shifted = 0, 0, 0
	p.ignore, p.tests = ignore, tests
	p.seen, p.doubtful = false, false
}

func (p *patchWriter) empty() bool { return len(p.text) == len("[") }

// opCost is what a replacement costs besides its path and value: braces, names,
// and the comma before it.
const opCost = len(`,`) + len(replaceHead) + len(valueHead) + len(`}`)

const (
	addHead     = `{"op":"add","path":"`
	removeHead  = `{"op":"remove","path":"`
	replaceHead = `{"op":"replace","path":"`
	moveHead    = `{"op":"move","from":"`
	testHead    = `{"op":"test","path":"`
	valueHead   = `","value":`
)

// note remembers that there is a difference at the path, if that is a place
// that is not ignored, and tells whether operations are worth writing.
func (p *patchWriter) note() bool {
	switch {
	case p.seen:
	case len(p.ignore) == 0:
		p.seen = true
	case p.shifted > 0:
		p.doubtful = true
	case !p.covered():
		p.seen = true
	}
	return p.muted == 0
}

// idle tells that nothing in the open container needs to be looked at.
func (p *patchWriter) idle() bool { return p.muted > 0 }

// mute stops looking at the open container, which differs and will be replaced
// as a whole.
func (p *patchWriter) mute() {
	p.muted++
	if len(p.ignore) == 0 {
		p.seen = true
	} else {
		p.doubtful = true // nobody has looked at the rest
	}
}

// begin opens an operation up to the inside of its path.
func (p *patchWriter) begin(head string) {
	if need := len(head) + len(p.path) + opCost; len(p.text)+need > cap(p.text) {
		p.text = double(p.text, need)
	}
	if !p.empty() {
		p.text = append(p.text, ',')
	}
	p.text = append(append(p.text, head...), p.path...)
}

// frame is an open container of the walk.
type frame struct{ text, gaps, left int }

func (p *patchWriter) open() frame { return frame{len(p.text), len(p.gaps), p.left} }

// drop forgets the operations since open.
func (p *patchWriter) drop(f frame) {
	p.text, p.gaps, p.left = p.text[:f.text], p.gaps[:f.gaps], f.left
}

// keepLast drops the operations between open and last.
func (p *patchWriter) keepLast(open, last frame) {
	if open.text == last.text {
		return
	}
	from := last.text
	if open.text == len("[") && from < len(p.text) { // the first operation has no comma before it
		from++
	}
	for i := last.gaps; i < len(p.gaps); i++ {
		p.gaps[i].at -= int32(from - open.text)
	}
	p.text = append(p.text[:open.text], p.text[from:]...)
	p.gaps = append(p.gaps[:open.gaps], p.gaps[last.gaps:]...)
	p.left -= last.left - open.left
}

// written is the size of the operations since open.
func (p *patchWriter) written(f frame) int { return len(p.text) - f.text + p.left - f.left }

// tooMuch tells whether the operations since open cost more than a value of
// size bytes put in the container's place.
func (p *patchWriter) tooMuch(f frame, size int) bool { return size < p.worth(f) }

// worth is how large a value has to be for the operations since open to cost no
// more than to put it in the container's place.
func (p *patchWriter) worth(f frame) int {
	cost := p.written(f)
	if p.tests {
		cost = (cost + 1) / 2 // the old value is about as large
	}
	cost -= len(p.path) + opCost
	if f.text == len("[") {
		cost += len(",") // the first operation has none before it
	}
	return cost
}

// rotate puts what was written from middle on before what was written since
// start, both whole operations.
func (p *patchWriter) rotate(start, middle frame) {
	if start.text == middle.text || middle.text == len(p.text) {
		return
	}
	size := len(p.text) - start.text
	forth, back := len(p.text)-middle.text, middle.text-start.text
	if start.text == len("[") { // the first operation has no comma before it
		back++
		p.text = append(double(p.text, back), ',')
		p.text = append(p.text, p.text[start.text:middle.text]...)
		copy(p.text[start.text:], p.text[middle.text+1:])
	} else {
		p.text = append(double(p.text, back), p.text[start.text:middle.text]...)
		copy(p.text[start.text:], p.text[middle.text:])
	}
	p.text = p.text[:start.text+size]
	for i := start.gaps; i < middle.gaps; i++ {
		p.gaps[i].at += int32(forth)
	}
	for i := middle.gaps; i < len(p.gaps); i++ {
		p.gaps[i].at -= int32(back)
	}
	n := len(p.gaps)
	p.gaps = append(p.gaps, p.gaps[start.gaps:middle.gaps]...)
	copy(p.gaps[start.gaps:], p.gaps[middle.gaps:])
	p.gaps = p.gaps[:n]
}

// enterName and enterIndex append a token to the path and give what leave needs.
func (p *patchWriter) enterName(name []byte) int {
	n := len(p.path)
	p.path = appendTokenEscaped(append(p.path, '/'), name)
	return n
}

func (p *patchWriter) enterIndex(i int) int {
	n := len(p.path)
	p.path = strconv.AppendInt(append(p.path, '/'), int64(i), 10)
	return n
}

func (p *patchWriter) leave(n int) { p.path = p.path[:n] }

// appendPatch appends the patch, an RFC 6902 array without white space.
func (w *walk) appendPatch(dst []byte) []byte {
	p := &w.patch
	p.text = append(p.text, ']')
	if len(p.gaps) == 0 {
		return append(dst, p.text...) // into memory that need not be cleared first
	}
	dst = slices.Grow(dst, len(p.text)+p.left)
	from := 0
	for _, g := range p.gaps {
		dst = append(dst, p.text[from:g.at]...)
		from = int(g.at)
		s := &w.new.source
		if g.old {
			s = &w.old
		}
		dst = s.appendPart(dst, g.value.from, g.value.to)
	}
	return append(dst, p.text[from:]...)
}

// replace, add, remove and move write an operation at the path. o and n are the
// values, on their tapes.
func (w *walk) replace(o, n int32) {
	if w.patch.note() {
		w.test(o)
		w.put(replaceHead, n)
	}
}

func (w *walk) add(n int32) {
	if w.patch.note() {
		w.put(addHead, n)
	}
}

func (w *walk) put(head string, n int32) {
	p := &w.patch
	p.begin(head)
	p.text = append(p.text, valueHead...)
	if w.new.tape.kind(n) <= kindArray {
		w.leaveOut(w.new.span(n))
	} else {
		p.text = append(p.text, w.new.raw(n)...)
	}
	p.text = append(p.text, '}')
}

// leaveOut has the value of a container come where the text ends.
func (w *walk) leaveOut(s span) {
	p := &w.patch
	p.gaps = append(double(p.gaps, 1), gap{at: int32(len(p.text)), value: s})
	p.left += w.compactSize(s)
}

// test writes a test for the old value at the path, if tests are wanted.
func (w *walk) test(o int32) {
	if w.patch.tests {
		w.writeTest(w.old.span(o))
	}
}

func (w *walk) writeTest(s span) {
	p := &w.patch
	p.begin(testHead)
	p.text = append(p.text, valueHead...)
	p.gaps = append(double(p.gaps, 1), gap{at: int32(len(p.text)), value: s, old: true})
	p.left += int(s.to - s.from)
	p.text = append(p.text, '}')
}

func (w *walk) remove(o int32) {
	if p := &w.patch; p.note() {
		w.test(o)
		p.begin(removeHead)
		p.text = append(p.text, `"}`...)
	}
}

// move writes a move between two indices of the array at the path.
func (w *walk) move(from, to int) {
	p := &w.patch
	if !p.note() {
		return
	}
	p.begin(moveHead)
	p.text = strconv.AppendInt(append(p.text, '/'), int64(from), 10)
	p.text = append(append(p.text, `","path":"`...), p.path...)
	p.text = strconv.AppendInt(append(p.text, '/'), int64(to), 10)
	p.text = append(p.text, `"}`...)
}

// settle closes a container: it replaces the operations since open if the new
// value itself is smaller. One that was muted is always replaced. The new value
// stands between two offsets and takes so many words of a tape.
func (w *walk) settle(f frame, o int32, from, to, words int, muted bool) {
	p := &w.patch
	if muted {
		p.muted--
	}
	if p.muted > 0 || !muted && len(p.text) == f.text {
		return
	}
	new := span{int32(from), int32(to)}
	if !muted {
		// A value is longer than its words are many: if that is enough,
		// nobody need know how long it is without its white space.
		if !p.tooMuch(f, words) {
			return
		}
		if w.compactReaches(new, p.worth(f)) {
			return
		}
	}
	// The differences that this stands for were noted when they were found.
	p.drop(f)
	w.test(o)
	p.begin(replaceHead)
	p.text = append(p.text, valueHead...)
	w.leaveOut(new)
	p.text = append(p.text, '}')
}

// compactReaches tells whether a part of the new text has so many bytes without
// white space, and looks no further than it has to.
func (w *walk) compactReaches(s span, need int) bool {
	switch size := int(s.to - s.from); {
	case size < need || !w.new.spaced:
		return size >= need
	case w.measured > len(w.new.text):
		return w.compactSize(s) >= need
	}
	n, looked := countCompact(w.new.text[s.from:s.to], need)
	w.measured += looked
	return n >= need
}

// compactSize is how long a part of the new text is without white space.
func (w *walk) compactSize(s span) int {
	size := int(s.to - s.from)
	if !w.new.spaced {
		return size
	}
	if w.measured += size; w.measured <= len(w.new.text) {
		return compactLen(w.new.text[s.from:s.to])
	}
	// Asked about more than there is: from now on a table knows.
	if !w.blanks.ready {
		w.blanks.count(w.new.text)
	}
	return size - w.blanks.between(w.new.text, s)
}

// blankTable knows how much white space there is between any two places of a
// text outside of its strings.
type blankTable struct {
	ready  bool
	before []int32 // for each block, the white space before it, and how it begins
}

const (
	blankBlock = 128

	outside = 0 // of strings
	inside  = 1 // a string
	escaped = 2 // inside a string, behind a backslash
)

func (t *blankTable) count(text []byte) {
	t.ready = true
	t.before = t.before[:0]
	n, state := int32(0), int32(outside)
	for i, c := range text {
		if i%blankBlock == 0 {
			t.before = append(t.before, n<<2|state)
		}
		n, state = countBlank(n, state, c)
	}
}

func countBlank(n, state int32, c byte) (int32, int32) {
	switch {
	case state == escaped:
		state = inside
	case c == '"':
		state ^= inside
	case state == inside:
		if c == '\\' {
			state = escaped
		}
	case c <= ' ':
		n++
	}
	return n, state
}

// between counts white space in a part that neither begins nor ends in a string.
func (t *blankTable) between(text []byte, s span) int {
	return int(t.upTo(text, s.to) - t.upTo(text, s.from))
}

func (t *blankTable) upTo(text []byte, end int32) int32 {
	if end == 0 {
		return 0
	}
	block := (end - 1) / blankBlock
	n, state := t.before[block]>>2, t.before[block]&3
	for _, c := range text[block*blankBlock : end] {
		n, state = countBlank(n, state, c)
	}
	return n
}

// special are the characters that a name cannot keep in a token as they are.
var special = [256]bool{'~': true, '/': true, '\\': true}

// appendTokenEscaped writes a member's name as it stands in a JSON text as a
// token of a pointer that stands in a JSON string. JSON's own escapes can stay,
// except where they hide one of the pointer's special characters.
func appendTokenEscaped(dst, name []byte) []byte {
	plain := true
	for _, c := range name {
		plain = plain && !special[c]
	}
	if plain {
		return append(dst, name...)
	}
	for i := 0; i < len(name); i++ {
		c, size := name[i], 1
		if c == '\\' {
			size = 2
			switch name[i+1] {
			case '/':
				c = '/'
			case 'u':
				size = 6
				if r := hex4(name[i+2:]); r == '/' || r == '~' {
					c = byte(r)
				}
			}
		}
		switch c {
		case '~':
			dst = append(dst, '~', '0')
		case '/':
			dst = append(dst, '~', '1')
		default:
			dst = append(dst, name[i:i+size]...)
		}
		i += size - 1
	}
	return dst
}

// covered tells whether the path lies at or under an ignored pattern.
func (p *patchWriter) covered() bool {
	for _, pattern := range p.ignore {
		if matchPath(pattern, p.path, false) {
			return true
		}
	}
	return false
}

// matchPath compares a pattern with a path as patch keeps it, token by token.
// exact: the path must end where the pattern does.
func matchPath(pattern Pattern, path []byte, exact bool) bool {
	n := pattern.Len()
	for i := 0; i < n; i++ {
		if len(path) == 0 {
			return false
		}
		path = path[1:]
		end := bytes.IndexByte(path, '/')
		if end < 0 {
			end = len(path)
		}
		token := path[:end]
		if bytes.IndexByte(token, '\\') >= 0 {
			token = unescape(token)
		}
		if bytes.IndexByte(token, '~') >= 0 {
			plain, _ := unescapeToken(string(token))
			token = []byte(plain)
		}
		if !pattern.matchName(i, token) {
			return false
		}
		path = path[end:]
	}
	return !exact || len(path) == 0
}
