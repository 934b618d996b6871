package jsondiff

import "sync"

// parsers keeps tapes for the functions that need one only until they return.
var parsers sync.Pool

// maxKept is the longest text whose tape is worth keeping: a rare large one
// should not hold its memory.
const maxKept = 8 << 20

// borrow is parse with a tape from earlier calls. The text must not change, and
// nothing of the tape may be used, after giveBack.
func borrow(text []byte) (*parser, error) { return borrowDepth(text, defaultDepth) }

func borrowDepth(text []byte, depth int) (*parser, error) {
	l := Limits{Depth: depth}.withDefaults()
	if len(text) > l.Size {
		return nil, ErrSize
	}
	p, _ := parsers.Get().(*parser)
	if p == nil {
		p = &parser{}
	}
	b := append(append(p.b[:0], text...), make([]byte, pad)...)
	t := p.tape[:0]
	if t == nil {
		t = make(tape, 0, len(text)/8+8)
	}
	*p = parser{b: b, maxDepth: l.Depth, source: source{text: b[:len(text)], tape: t}}
	p.document()
	if p.err != nil {
		err := p.err
		p.giveBack()
		return nil, err
	}
	p.text = text
	return p, nil
}

func (p *parser) giveBack() {
	if len(p.b) > maxKept {
		return
	}
	p.text, p.err = nil, nil
	parsers.Put(p)
}
