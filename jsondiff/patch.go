package jsondiff

import (
	"bytes"
	"strconv"
)

// patch is a JSON Patch being written, at a path that follows the walk. Paths
// are kept as they stand in the patch: JSON Pointers, escaped as JSON strings.
type patch struct {
	out  []byte
	path []byte

	// muted counts open containers whose operations already cost more than
	// replacing them: until they close, nothing is worth writing.
	muted int

	// ignore are paths whose changes alone are none; seen tells that an
	// operation lay outside of them, ignored that one lay inside.
	ignore        []Pattern
	seen, ignored bool
}

func (p *patch) reset(ignore []Pattern) {
	p.out = append(p.out[:0], '[')
	p.path = p.path[:0]
	p.muted = 0
	p.ignore = ignore
	p.seen, p.ignored = false, false
}

// close ends the patch and gives it.
func (p *patch) close() []byte { return append(p.out, ']') }

// opCost is what an operation costs beside its path and value:
// {"op":"replace","path":"","value":}, and a comma.
const opCost = 36

// begin opens an operation up to the inside of its path, or tells that it need
// not be written.
func (p *patch) begin(head string) bool {
	p.note()
	if p.muted > 0 {
		return false
	}
	p.write(head)
	return true
}

func (p *patch) write(head string) {
	if len(p.out) > 1 {
		p.out = append(p.out, ',')
	}
	p.out = append(p.out, head...)
	p.out = append(p.out, p.path...)
}

// note remembers that there is a difference here, ignored or not.
func (p *patch) note() {
	if len(p.ignore) > 0 && p.covered() {
		p.ignored = true
	} else {
		p.seen = true
	}
}

// idle tells that nothing in the open container needs to be looked at.
func (p *patch) idle() bool { return p.muted > 0 && len(p.ignore) == 0 }

// rotate puts what was written from middle on before what was written from
// start on, both whole operations.
func (p *patch) rotate(start, middle int) {
	if start == middle || middle == len(p.out) {
		return
	}
	size := len(p.out) - start
	if start == 1 { // the first operation has no comma before it
		p.out = append(p.out, ',')
		p.out = append(p.out, p.out[start:middle]...)
		copy(p.out[start:], p.out[middle+1:])
		p.out = p.out[:start+size]
		return
	}
	p.out = append(p.out, p.out[start:middle]...)
	copy(p.out[start:], p.out[middle:])
	p.out = p.out[:start+size]
}

const replaceHead = `{"op":"replace","path":"`

// replace and add take the value without white space only if spaced says so.
func (p *patch) replace(raw []byte, spaced bool) {
	if p.begin(replaceHead) {
		p.value(raw, spaced)
	}
}

func (p *patch) add(raw []byte, spaced bool) {
	if p.begin(`{"op":"add","path":"`) {
		p.value(raw, spaced)
	}
}

func (p *patch) value(raw []byte, spaced bool) {
	p.out = append(p.out, `","value":`...)
	if spaced {
		p.out = appendCompact(p.out, raw)
	} else {
		p.out = append(p.out, raw...)
	}
	p.out = append(p.out, '}')
}

func (p *patch) remove() {
	if p.begin(`{"op":"remove","path":"`) {
		p.out = append(p.out, `"}`...)
	}
}

// move writes a move between two indices of the array at path.
func (p *patch) move(from, to int) {
	if !p.begin(`{"op":"move","from":"`) {
		return
	}
	p.out = append(p.out, '/')
	p.out = strconv.AppendInt(p.out, int64(from), 10)
	p.out = append(p.out, `","path":"`...)
	p.out = append(p.out, p.path...)
	p.out = append(p.out, '/')
	p.out = strconv.AppendInt(p.out, int64(to), 10)
	p.out = append(p.out, `"}`...)
}

// frame is an open container of the walk.
type frame struct{ start int }

func (p *patch) open() frame { return frame{len(p.out)} }

// tooMuch tells whether the operations since open cost more than a value of
// size bytes put in the container's place.
func (p *patch) tooMuch(f frame, size int) bool {
	return len(p.out)-f.start > size+len(p.path)+opCost
}

// settle closes a container: it replaces the operations since open where the
// value itself is smaller. One that was muted is always replaced.
func (p *patch) settle(f frame, raw []byte, spaced, muted bool) {
	if muted {
		p.muted--
	}
	if p.muted > 0 {
		return
	}
	if !muted {
		size := len(raw)
		if spaced && p.tooMuch(f, size/8) {
			size = compactLen(raw)
		}
		if !p.tooMuch(f, size) {
			return
		}
	}
	// The differences that this stands for were noted when they were found.
	p.out = p.out[:f.start]
	p.write(replaceHead)
	p.value(raw, spaced)
}

// enterName and enterIndex append a token to the path and give what leave needs.
func (p *patch) enterName(name []byte) int {
	n := len(p.path)
	p.path = appendTokenEscaped(append(p.path, '/'), name)
	return n
}

func (p *patch) enterIndex(i int) int {
	n := len(p.path)
	p.path = strconv.AppendInt(append(p.path, '/'), int64(i), 10)
	return n
}

func (p *patch) leave(n int) { p.path = p.path[:n] }

// appendTokenEscaped writes a member's name as it stands in a JSON text as a
// token of a pointer that stands in a JSON string. JSON's own escapes can stay,
// except where they hide one of the pointer's special characters.
func appendTokenEscaped(dst, name []byte) []byte {
	if bytes.IndexByte(name, '~') < 0 && bytes.IndexByte(name, '/') < 0 && bytes.IndexByte(name, '\\') < 0 {
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
func (p *patch) covered() bool {
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
