package jsondiff

import (
	"bytes"
	"sync"
)

// Options say how a Differ compares. The zero value is ready to use.
type Options struct {
	Limits

	// Identify names the key of arrays' elements. Arrays it does not mention
	// are matched by a key found by itself, else by content.
	Identify []Identity

	// Ignore lists paths whose changes alone are none. They travel with the
	// next real change.
	Ignore []Pattern
}

// Kind is what Next found.
type Kind int

const (
	First     Kind = iota // there was no document before
	Unchanged             // nothing that counts
	Changed               // see Patch
)

func (k Kind) String() string {
	switch k {
	case First:
		return "first"
	case Unchanged:
		return "unchanged"
	}
	return "changed"
}

// Change is the answer of Next.
type Change struct {
	Kind Kind

	// Patch turns the document before into this one: an RFC 6902 array
	// without white space, set when Changed. It is the caller's.
	Patch []byte

	// Bound is ErrWork where the patch is larger than it had to be because
	// Limits.Work was reached, else nil.
	Bound error
}

// Differ retains one document and compares the next one with it. It is not
// safe for concurrent use.
type Differ struct {
	options Options

	// base is what the next text is compared with: text and tape are owned by
	// the Differ, followed by padding, and never written while retained.
	base  source
	first bool // there is a base

	// document is the published text. Where it is nil, the base's own text,
	// without its white space, is the document and was not asked for yet.
	document []byte
	shared   bool // the base's text was handed out as it is
}

// NewDiffer makes a Differ without a document.
func NewDiffer(o Options) *Differ {
	o.Limits = o.Limits.withDefaults()
	return &Differ{options: o}
}

// scratch is what one comparison needs beside the retained document. It is
// shared by all Differs, which therefore retain no more than text and tape.
type scratch struct {
	walk walk
	text []byte // padded
	tape []entry
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// release drops what refers to documents.
func (s *scratch) release() {
	w := &s.walk
	w.old, w.oldBytes, w.new, w.identify, w.patch.ignore = source{}, nil, parser{}, nil, nil
	scratches.Put(s)
}

// Next compares a text with the retained document and retains a copy of it in
// its place. On an error, and where only ignored paths differ, the retained
// document stays. Unchanged are also texts that differ in white space, order of
// members or spelling of strings only; Document gives what it gave before.
func (d *Differ) Next(text []byte) (Change, error) {
	if d.first && bytes.Equal(text, d.base.text) {
		return Change{Kind: Unchanged}, nil
	}
	if len(text) > d.options.Size {
		return Change{}, ErrSize
	}
	s := scratches.Get().(*scratch)
	defer s.release()
	s.load(text, d.options.Limits)
	if !d.first {
		if s.walk.new.document(); s.walk.new.err != nil {
			return Change{}, s.walk.new.err
		}
		d.retain(s)
		d.first = true
		return Change{Kind: First}, nil
	}
	w := &s.walk
	w.start(d.base, d.options)
	w.run()
	if w.new.err != nil {
		s.tape = w.new.tape[:0]
		return Change{}, w.new.err
	}
	if !w.patch.seen {
		if w.patch.ignored {
			s.tape = w.new.tape[:0]
			return Change{Kind: Unchanged}, nil
		}
		// The same document, written otherwise: compare with the new spelling
		// from now on, but let the document keep its bytes.
		document := d.document
		if document == nil && d.shared {
			document = d.base.text
		}
		d.retain(s)
		d.document = document
		return Change{Kind: Unchanged}, nil
	}
	change := Change{Kind: Changed, Patch: bytes.Clone(w.patch.close())}
	if w.cut {
		change.Bound = ErrWork
	}
	d.retain(s)
	return change, nil
}

// load copies a text behind which zeros follow, and sets the parser on it.
func (s *scratch) load(text []byte, l Limits) {
	if n := len(text) + pad; cap(s.text) < n {
		s.text = make([]byte, n, n+n/16)
	} else {
		s.text = s.text[:n]
	}
	copy(s.text, text)
	clear(s.text[len(text):])
	s.walk.new = parser{
		source:   source{text: s.text[:len(text)], tape: s.tape[:0]},
		b:        s.text,
		maxDepth: l.Depth,
	}
	s.tape = nil
}

// retain swaps the new document with the base, whose memory serves the next
// comparison unless it was handed out.
func (d *Differ) retain(s *scratch) {
	old := d.base
	d.base = s.walk.new.source
	s.text, s.tape = nil, old.tape[:0]
	if !d.shared && old.text != nil {
		s.text = old.text[:cap(old.text)]
	}
	d.document, d.shared = nil, false
	// What is retained may not be much larger than it needs to be: scratch
	// memory may have served a larger document. The larger memory is let go,
	// or every change would be copied.
	if n := len(d.base.text) + pad; cap(d.base.text) > n+n/4+256 {
		text := make([]byte, n)
		copy(text, d.base.text)
		d.base.text = text[:n-pad]
	}
	if n := len(d.base.tape); cap(d.base.tape) > n+n/8+32 {
		d.base.tape = append(make([]entry, 0, n), d.base.tape...)
	}
}

// Document is the text of the document that was last returned as First or
// Changed, without white space outside of strings and otherwise as it came. It
// is nil before the first. It is never written again, and the caller may not
// write it either.
func (d *Differ) Document() []byte {
	switch {
	case !d.first:
		return nil
	case d.document != nil:
	case d.base.spaced:
		d.document = appendCompact(make([]byte, 0, compactLen(d.base.text)), d.base.text)
	default:
		d.shared = true
		return d.base.text[:len(d.base.text):len(d.base.text)]
	}
	return d.document
}

// Diff gives the JSON Patch that turns one text into the other, "[]" where they
// are the same document.
func Diff(old, new []byte) ([]byte, error) {
	d := NewDiffer(Options{})
	if _, err := d.Next(old); err != nil {
		return nil, err
	}
	change, err := d.Next(new)
	if err != nil {
		return nil, err
	}
	if change.Kind == Unchanged {
		return []byte("[]"), nil
	}
	return change.Patch, nil
}

// Equal tells whether two texts are the same document.
func Equal(a, b []byte) (bool, error) {
	d := NewDiffer(Options{})
	if _, err := d.Next(a); err != nil {
		return false, err
	}
	change, err := d.Next(b)
	return change.Kind == Unchanged && err == nil, err
}

// Compact appends a text without the white space outside of its strings.
func Compact(dst, text []byte) ([]byte, error) {
	if _, err := parse(text); err != nil {
		return dst, err
	}
	return appendCompact(dst, text), nil
}
