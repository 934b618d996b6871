package jsondiff

import (
	"errors"
	"fmt"
)

// Select returns the value at a pointer, as it stands in the text, which must be
// valid JSON as a whole. If nothing is there, the error wraps ErrMissing. Of
// equal names the last one counts.
func Select(text []byte, p Pointer) ([]byte, error) { return Options{}.Select(text, p) }

// Select is the function of that name, within Limits.
func (o Options) Select(text []byte, p Pointer) ([]byte, error) {
	s, err := borrow(text, o.Limits.withDefaults())
	if err != nil {
		return nil, err
	}
	defer s.giveBack()
	i := int32(0)
	for k, token := range p {
		if i = s.child(i, token); i < 0 {
			return nil, fmt.Errorf("jsondiff: %s: %w", p[:k+1], ErrMissing)
		}
	}
	return s.raw(i), nil
}

// child finds a member or element, or returns -1.
func (s source) child(i int32, token string) int32 {
	end := s.tape.stop(i)
	found := int32(-1)
	switch s.tape.kind(i) {
	case kindObject:
		for c := s.tape.inside(i); c < end; c = s.tape.next(c) {
			if string(unescape(s.name(c))) == token {
				found = c
			}
		}
	case kindArray:
		n, ok := index(token)
		if !ok {
			return -1
		}
		for c := s.tape.inside(i); c < end; c = s.tape.next(c) {
			if n--; n < 0 {
				return c
			}
		}
	}
	return found
}

// Omit returns the text without the members and elements that the patterns stand
// for, otherwise as it was. If there are none it returns the text itself. A
// pattern for the whole document is an error: nothing would be left.
func Omit(text []byte, patterns []Pattern) ([]byte, error) { return Options{}.Omit(text, patterns) }

// Omit is the function of that name, within Limits.
func (o Options) Omit(text []byte, patterns []Pattern) ([]byte, error) {
	s, err := borrow(text, o.Limits.withDefaults())
	if err != nil {
		return nil, err
	}
	defer s.giveBack()
	for _, p := range patterns {
		if p.Len() == 0 {
			return nil, errors.New("jsondiff: cannot omit the whole document")
		}
	}
	m := omitter{source: s.source}
	// The patterns that still match are a stack: each level pushes those that
	// match its token and pops them again.
	m.active = append(make([]Pattern, 0, 4*len(patterns)), patterns...)
	m.walk(0, 0, 0)
	if m.out == nil {
		return text, nil
	}
	return append(m.out, text[m.copied:]...), nil
}

type omitter struct {
	source
	active []Pattern
	out    []byte
	copied int // of the text
}

// walk omits below the value at i, whose tokens the patterns from `from` on
// match as far as level.
func (o *omitter) walk(i int32, level, from int) {
	k := o.tape.kind(i)
	if len(o.active) == from || k > kindArray {
		return
	}
	end, top := o.tape.stop(i), len(o.active)
	object := k == kindObject
	kept := -1 // end of the last value before this one, once one is kept
	index := 0
	for c := o.tape.inside(i); c < end; c, index = o.tape.next(c), index+1 {
		start, name := o.tape.off(c), []byte(nil)
		if object {
			start, name = o.nameStart(c), unescape(o.name(c))
		}
		omit := false
		for _, p := range o.active[from:top] {
			if object && p.matchName(level, name) || !object && p.matchIndex(level, index) {
				if p.Len() == level+1 {
					omit = true
					break
				}
				o.active = append(o.active, p)
			}
		}
		stop := o.tape.end(c)
		switch {
		case !omit:
			o.walk(c, level+1, top)
			kept = stop
		case kept >= 0: // with the comma before it
			o.cut(kept, stop)
			kept = stop
		default: // with the comma after it
			if next := o.tape.next(c); next < end {
				stop = o.tape.off(next)
				if object {
					stop = o.nameStart(next)
				}
			}
			o.cut(start, stop)
		}
		o.active = o.active[:top]
	}
}

func (o *omitter) cut(from, to int) {
	if o.out == nil {
		o.out = make([]byte, 0, len(o.text))
	}
	o.out = append(o.out, o.text[o.copied:from]...)
	o.copied = to
}
