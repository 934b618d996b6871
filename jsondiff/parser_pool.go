package jsondiff

import (
	"slices"
	"sync"
)

// parsers keeps tapes for the functions that need one only until they return.
var parsers sync.Pool

// maxKept is the longest text whose tape is worth keeping: a rare large one
// should not hold its memory.
const maxKept = 8 << 20

// borrow is parse with a tape from earlier calls. The text must not change, and
// nothing of the tape may be used, after giveBack. The limits are without zeros.
func borrow(text []byte, l Limits) (*parser, error) {
	if len(text) > l.Size {
		return nil, l.tooLarge()
	}
	p, _ := parsers.Get().(*parser)
	if p == nil {
		p = &parser{}
	}
	b := slices.Grow(p.b[:0], len(text)+pad)[:len(text)+pad]
	copy(b, text)
	clear(b[len(text):])
	*p = parser{b: b, maxDepth: l.Depth, source: source{text: b[:len(text)], tape: p.tape[:0]}}
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
