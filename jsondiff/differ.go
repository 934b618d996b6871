package jsondiff

import (
	"bytes"
	"slices"
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

	// base is what the next text is compared with. Padding follows its text,
	// which is never written while it is retained.
	base  source
	first bool // there is a base

	// document is the published text. Where it is nil, the base's own text,
	// without its white space, is the document and was not asked for yet.
	document []byte
	given    bool // the base's own text was given as the document
	lent     bool // the base's text is the caller's
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
	tape tape
	lent bool // the new text is the caller's
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// release drops what refers to documents.
func (s *scratch) release() {
	w := &s.walk
	s.tape = w.new.tape[:0]
	clear(w.few[:cap(w.few)])
	w.old, w.new, w.identify, w.patch.ignore = source{}, parser{}, nil, nil
	scratches.Put(s)
}

// Pad is how much capacity behind its text lets Next do without a copy.
const Pad = pad

// Next compares a text with the retained document. Where the answer is First or
// Changed, it retains the text itself, which must never be written again; a text
// with less than Pad bytes of capacity behind it, or with far more, is copied.
// Bytes behind the text may be overwritten with zeros in any case.
//
// On an error, and where only ignored paths differ, the retained document stays.
// Unchanged are also texts that differ in white space, order of members or
// spelling of strings only; Document gives what it gave before.
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
	w := &s.walk
	w.start(d.base, d.options)
	if !d.first {
		if w.new.document(); w.new.err != nil {
			return Change{}, w.new.err
		}
		d.retain(s)
		d.first = true
		return Change{Kind: First}, nil
	}
	w.run()
	if w.new.err != nil {
		return Change{}, w.new.err
	}
	if !w.patch.seen {
		if w.patch.ignored {
			return Change{Kind: Unchanged}, nil
		}
		// The same document, written otherwise: compare with the new spelling
		// from now on, but let the document keep its bytes.
		document := d.document
		if d.given {
			document = slices.Clip(d.base.text)
		}
		s.copyText()
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

// load sets the parser on a text behind which zeros follow.
func (s *scratch) load(text []byte, l Limits) {
	n := len(text)
	s.lent = cap(text) >= n+pad && cap(text) <= n+textRoom(n)
	s.walk.new = parser{
		source:   source{text: text, tape: s.tape[:0]},
		maxDepth: l.Depth,
	}
	if !s.lent {
		s.copyText()
		return
	}
	s.walk.new.b = text[:n+pad]
	clear(s.walk.new.b[n:])
}

// copyText has the parser's text in the scratch's own memory.
func (s *scratch) copyText() {
	p := &s.walk.new
	n := len(p.text)
	if c := cap(s.text); c < n+pad || c > n+textRoom(n) {
		s.text = make([]byte, n+pad)
	}
	s.text = s.text[:n+pad]
	copy(s.text, p.text)
	clear(s.text[n:])
	p.b, p.text = s.text, s.text[:n]
	s.lent = false
}

// textRoom is how much larger than the text its memory may be.
func textRoom(n int) int { return n/4 + 256 + pad }

// retain makes the new document the base. The memory of the one before serves
// the next comparison, unless somebody else knows its text.
func (d *Differ) retain(s *scratch) {
	old, free := d.base.text, !d.given && !d.lent
	d.base = s.walk.new.source
	d.base.tape = s.walk.commit()
	d.document, d.given, d.lent = nil, false, s.lent
	if s.lent {
		return
	}
	s.text = nil
	if free && old != nil {
		s.text = old[:cap(old)]
	}
}

// Document is the text of the document that was last returned as First or
// Changed, without white space outside of strings and otherwise as it stood when
// Document was first asked for it. It is nil before the first. It is never
// written again, and the caller may not write it either.
func (d *Differ) Document() []byte {
	switch {
	case !d.first:
		return nil
	case d.document != nil:
	case d.base.spaced:
		d.document = appendCompact(make([]byte, 0, compactLen(d.base.text)), d.base.text)
	default:
		d.given = true
		return d.base.text[:len(d.base.text):len(d.base.text)]
	}
	return d.document
}

// Diff gives the JSON Patch that turns one text into the other, "[]" where they
// are the same document.
func Diff(old, new []byte) ([]byte, error) {
	d := NewDiffer(Options{})
	if _, err := d.Next(slices.Clip(old)); err != nil {
		return nil, err
	}
	change, err := d.Next(slices.Clip(new))
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
	if _, err := d.Next(slices.Clip(a)); err != nil {
		return false, err
	}
	change, err := d.Next(slices.Clip(b))
	return change.Kind == Unchanged && err == nil, err
}

// Compact appends a text without the white space outside of its strings.
func Compact(dst, text []byte) ([]byte, error) {
	if _, err := parse(text); err != nil {
		return dst, err
	}
	return appendCompact(dst, text), nil
}
