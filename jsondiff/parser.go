package jsondiff

import "encoding/binary"

// parser turns a text into a tape. Its methods take the offset a token begins
// at and give the offset after it, or a negative one once err is set.
type parser struct {
	source          // text without the padding
	b        []byte // text with it
	depth    int
	maxDepth int
	err      error
}

// parse reads a whole text. The text is shared, not copied.
func parse(text []byte) (source, error) {
	var l Limits
	l = l.withDefaults()
	if len(text) > l.Size {
		return source{}, l.tooLarge()
	}
	b := make([]byte, len(text)+pad)
	copy(b, text)
	p := parser{b: b, maxDepth: l.Depth, source: source{text: b[:len(text)]}}
	p.document()
	p.text = text
	return p.source, p.err
}

// document reads the one value a text holds.
func (p *parser) document() {
	i := p.space(0)
	if i = p.value(i, 0); i < 0 {
		return
	}
	p.end(i)
}

// end checks that nothing follows the document.
func (p *parser) end(i int) {
	if i = p.space(i); i != len(p.text) {
		p.fail(i, "the end of the document")
	}
}

func (p *parser) fail(at int, expected string) int {
	if p.err == nil {
		p.err = syntaxError(p.text, at, expected)
	}
	return -1
}

// space skips white space and remembers that there was some.
func (p *parser) space(i int) int {
	if p.b[i] > ' ' {
		return i
	}
	j := skipSpace(p.b, i)
	if j > i {
		p.spaced = true
	}
	return j
}

// enter and leave bound the nesting, and with it the stack.
func (p *parser) enter(at int) bool {
	p.depth++
	if p.depth > p.maxDepth {
		if p.err == nil {
			p.err = &LimitError{Document: "document", Limit: p.maxDepth, Offset: at, Err: ErrDepth}
		}
		return false
	}
	return true
}

func (p *parser) leave() { p.depth-- }

const (
	wordTrue = 't' | 'r'<<8 | 'u'<<16 | 'e'<<24
	wordNull = 'n' | 'u'<<8 | 'l'<<16 | 'l'<<24
	wordAlse = 'a' | 'l'<<8 | 's'<<16 | 'e'<<24
)

// value reads the value at i, which is not white space, and what it holds.
// back is the distance to the value's name.
func (p *parser) value(i, back int) int {
	at := len(p.tape)
	first := firstWord(i, back)
	var k kind
	end := -1
	switch c := p.b[i]; c {
	case '"':
		k = kindString
		if end, _ = scanString(p.b, i); end < 0 {
			return p.badString(^end)
		}
	case '{':
		p.push(first, i)
		if end = p.object(i); end >= 0 {
			p.tape = p.tape.close(int32(at), kindObject, end-i, len(p.tape)-at)
		}
		return end
	case '[':
		p.push(first, i)
		if end = p.array(i); end >= 0 {
			p.tape = p.tape.close(int32(at), kindArray, end-i, len(p.tape)-at)
		}
		return end
	case '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9':
		k = kindNumber
		if end = scanNumber(p.b, i); end < 0 {
			return p.fail(^end, "a digit")
		}
	case 't':
		k = kindLiteral
		if binary.LittleEndian.Uint32(p.b[i:]) != wordTrue {
			return p.fail(i, "a value")
		}
		end = i + 4
	case 'n':
		k = kindLiteral
		if binary.LittleEndian.Uint32(p.b[i:]) != wordNull {
			return p.fail(i, "a value")
		}
		end = i + 4
	case 'f':
		k = kindLiteral
		if binary.LittleEndian.Uint32(p.b[i+1:]) != wordAlse {
			return p.fail(i, "a value")
		}
		end = i + 5
	default:
		return p.fail(i, "a value")
	}
	p.push(first, i)
	p.tape = p.tape.close(int32(at), k, end-i, 1)
	return end
}

// push appends a word for the value at an offset.
func (p *parser) push(first word, at int) {
	if len(p.tape) == cap(p.tape) {
		p.growTape(at)
	}
	p.tape = append(p.tape, first)
}

// growTape makes room for as many words as the rest of the text takes if it is
// like what was read, so that little is copied more than once.
func (p *parser) growTape(at int) {
	n := len(p.tape)
	room := max(64, n/2)
	if rest := len(p.text) - at; at >= 512 && rest > 0 {
		room = max(room, min(int(int64(n)*int64(rest)/int64(at)), rest/2))
		if n > at/4 {
			room = max(room, rest/2) // nothing is denser, but for a few wide values
		}
	}
	grown := make(tape, n, n+room+room/16)
	copy(grown, p.tape)
	p.tape = grown
}

// badString says what is wrong with a string.
func (p *parser) badString(at int) int {
	switch c := p.b[at]; {
	case at >= len(p.text):
		return p.fail(len(p.text), `'"'`)
	case c < ' ':
		return p.fail(at, "no control character in a string")
	case c >= 0x80:
		return p.fail(at, "UTF-8")
	case p.b[at-1] == '\\':
		return p.fail(at, "an escape")
	}
	return p.fail(at, "four hexadecimal digits")
}

// What a member can begin with.
const (
	firstName = `a member's name or "}"`
	nextName  = `a member's name`
)

func (p *parser) object(i int) int {
	if !p.enter(i) {
		return -1
	}
	i = p.space(i + 1)
	if p.b[i] == '}' {
		p.leave()
		return i + 1
	}
	expected := firstName
	for {
		value, back := p.memberName(i, expected)
		if value < 0 {
			return value
		}
		if i = p.value(value, back); i < 0 {
			return i
		}
		if i = p.space(i); p.b[i] != ',' {
			break
		}
		i = p.space(i + 1)
		expected = nextName
	}
	if p.b[i] != '}' {
		return p.fail(i, `"," or "}"`)
	}
	p.leave()
	return i + 1
}

// memberName reads the name at i and its colon: value is the offset of the
// member's value, back the distance from there to the name.
func (p *parser) memberName(i int, expected string) (value, back int) {
	if p.b[i] != '"' {
		return p.fail(i, expected), 0
	}
	end, escaped := scanString(p.b, i)
	if end < 0 {
		return p.badString(^end), 0
	}
	if escaped {
		p.escaped = true
	}
	value = p.space(end)
	if p.b[value] != ':' {
		return p.fail(value, `":"`), 0
	}
	value = p.space(value + 1)
	return value, value - i
}

func (p *parser) array(i int) int {
	if !p.enter(i) {
		return -1
	}
	i = p.space(i + 1)
	if p.b[i] == ']' {
		p.leave()
		return i + 1
	}
	for {
		if i = p.value(i, 0); i < 0 {
			return i
		}
		if i = p.space(i); p.b[i] != ',' {
			break
		}
		i = p.space(i + 1)
	}
	if p.b[i] != ']' {
		return p.fail(i, `"," or "]"`)
	}
	p.leave()
	return i + 1
}
