package jsondiff

import (
	"bytes"
	"slices"
	"sync"
)

// Options say how documents are compared. The zero value is ready to use.
type Options struct {
	Limits

	// Identify names the key of arrays' elements. Arrays it does not mention
	// are matched by a key found by itself, else by content.
	Identify []Identity

	// Ignore lists places whose changes alone are none. They travel with the
	// next real change. A place is where a value stands: an index is that of
	// the same number in both documents, whatever was inserted before it.
	Ignore []Pattern

	// NumbersByValue has 1, 1.0 and 10e-1 be the same number. By default
	// literals are compared as they are written.
	NumbersByValue bool

	// Tests has a test operation with the old value before each operation that
	// removes or replaces it, so that the patch fails on any other document
	// instead of changing it.
	Tests bool
}

// Kind is what Next found. The zero Kind is none of them; it comes with an error.
type Kind int

const (
	First     Kind = iota + 1 // there was no document before
	Unchanged                 // nothing that counts
	Changed                   // see Patch
)

func (k Kind) String() string {
	switch k {
	case First:
		return "first"
	case Unchanged:
		return "unchanged"
	case Changed:
		return "changed"
	}
	return "none"
}

// Change is the answer of Next.
type Change struct {
	Kind Kind

	// Patch turns the document before into this one: an RFC 6902 array
	// without white space, set when Changed. It is the caller's.
	Patch Patch

	// Bound tells that the patch is larger than it had to be because
	// Limits.Work was reached.
	Bound bool
}

// Differ retains one document and compares the next one with it. The zero value
// is ready to use and has no options. It is not safe for concurrent use.
type Differ struct {
	options Options

	// base is what the next text is compared with. Padding follows its text,
	// which is never written while it is retained. A tape that is much larger
	// than the text is packed.
	base   source
	packed []byte
	first  bool // there is a base
	always bool // pack every tape, for tests

	// document is the published text. If it is nil, the base's own text,
	// without its white space, is the document and was not asked for yet.
	document []byte
	given    bool // the base's own text was given as the document
}

// NewDiffer makes a Differ without a document.
func NewDiffer(o Options) *Differ { return &Differ{options: o} }

// scratch is what one comparison needs besides the retained document. It is
// shared by all Differs, which therefore retain no more than text and tape.
type scratch struct {
	walk   walk
	text   []byte // memory for a copy of the new text
	copied bool   // the new text lies in it
	tape   tape
	old    tape   // an old tape unpacked
	packed []byte // a new one packed
}

var scratches = sync.Pool{New: func() any { return new(scratch) }}

// release drops what refers to documents.
func (s *scratch) release() {
	w := &s.walk
	s.tape = w.new.tape[:0]
	w.old, w.new, w.identify, w.patch.ignore = source{}, parser{}, nil, nil
	scratches.Put(s)
}

// Pad is how much capacity behind its text lets NextOwned retain it.
const Pad = pad

// Next compares a text with the retained document and retains a copy of it. The
// text stays the caller's.
//
// On an error, and if only ignored places differ, the retained document stays.
// Unchanged are also texts that differ in white space, order of members or
// spelling of strings only; Document gives what it gave before.
func (d *Differ) Next(text []byte) (Change, error) {
	_, change, err := d.next(nil, text, false)
	return change, err
}

// AppendNext is Next with the patch, if there is one, appended to dst, which it
// returns: Change.Patch is the part that was appended. A caller that uses the
// same dst again, and does not ask for Document, needs no new memory for a
// change.
func (d *Differ) AppendNext(dst, text []byte) ([]byte, Change, error) {
	return d.next(dst, text, false)
}

// NextOwned is Next for a caller that gives the text away: the Differ may retain
// it, and write what lies behind it up to its capacity, so the memory must not
// be read, written or appended to by anybody else, whatever the answer is. A
// text with less than Pad bytes of capacity behind it, or with far more, is
// copied all the same.
func (d *Differ) NextOwned(text []byte) (Change, error) {
	_, change, err := d.next(nil, text, true)
	return change, err
}

func (d *Differ) next(dst, text []byte, owned bool) ([]byte, Change, error) {
	equal := 0
	if d.first {
		if equal = commonPrefix(d.base.text, text); equal == len(text) && equal == len(d.base.text) {
			return dst, Change{Kind: Unchanged}, nil
		}
	}
	limits := d.options.Limits.withDefaults()
	if len(text) > limits.Size {
		return dst, Change{}, limits.tooLarge()
	}
	s := scratches.Get().(*scratch)
	defer s.release()
	s.load(text, limits, owned)
	w := &s.walk
	base := d.base
	if d.packed != nil {
		s.old = unpackTape(s.old[:0], d.packed)
		base.tape = s.old
	}
	w.start(base, &d.options)
	w.lock.eq = equal
	if !d.first {
		if w.new.document(); w.new.err != nil {
			return dst, Change{}, w.new.err
		}
		d.retain(s)
		d.first = true
		return dst, Change{Kind: First}, nil
	}
	w.run()
	if w.new.err != nil {
		return dst, Change{}, w.new.err
	}
	if !w.differs() {
		if !w.patch.empty() {
			return dst, Change{Kind: Unchanged}, nil // in what is ignored
		}
		// The same document, written otherwise: compare with the new spelling
		// from now on, but let the document keep its bytes.
		document := d.document
		if d.given {
			document = slices.Clip(d.base.text)
		}
		d.retain(s)
		d.document = document
		return dst, Change{Kind: Unchanged}, nil
	}
	out := w.appendPatch(dst)
	d.retain(s)
	return out, Change{Kind: Changed, Patch: slices.Clip(out[len(dst):]), Bound: w.cut}, nil
}

// load sets the parser on a text behind which zeros follow.
func (s *scratch) load(text []byte, l Limits, owned bool) {
	n := len(text)
	p := parser{maxDepth: l.Depth}
	p.tape = s.tape[:0]
	s.copied = !owned || cap(text) < n+pad || cap(text) > n+textRoom(n)
	if s.copied {
		if c := cap(s.text); c < n+pad || c > n+textRoom(n) {
			s.text = make([]byte, n+pad)
		}
		p.b = s.text[:n+pad]
		copy(p.b, text)
	} else {
		p.b = text[:n+pad]
	}
	clear(p.b[n:])
	p.text = p.b[:n]
	s.walk.new = p
}

// textRoom is how much larger than the text its memory may be.
func textRoom(n int) int { return n/4 + 256 + pad }

// retain makes the new document the base. The memory of the one before serves
// the next comparison, unless somebody else knows its text.
func (d *Differ) retain(s *scratch) {
	old, free := d.base.text, !d.given
	d.base = s.walk.new.source
	unpacked := d.packed != nil
	d.base.tape, d.packed = s.walk.commit(), nil
	if unpacked {
		s.old = nil // it may be the new one
	}
	if d.always || d.base.tape.packable(len(d.base.text)) {
		s.packed = d.base.tape.pack(s.packed[:0])
		if d.always || len(s.packed) < 4*len(d.base.tape) {
			d.packed = bytes.Clone(s.packed)
			s.old, d.base.tape = d.base.tape, nil
		}
	}
	d.document, d.given = nil, false
	if s.copied {
		s.text = nil
		if free {
			s.text = old[:cap(old)]
		}
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

// Diff returns the JSON Patch that turns one text into the other, "[]" if they
// are the same document.
func Diff(old, new []byte) (Patch, error) { return Options{}.Diff(old, new) }

// Diff is the function of that name with options.
func (o Options) Diff(old, new []byte) (Patch, error) { return o.AppendDiff(nil, old, new) }

// AppendDiff is Diff with the patch appended to dst. On an error dst comes back
// as it was.
func (o Options) AppendDiff(dst, old, new []byte) ([]byte, error) {
	same, out, err := o.compare(dst, old, new, true)
	if same {
		out = append(out, "[]"...)
	}
	return out, err
}

// Equal tells whether two texts are the same document.
func Equal(a, b []byte) (bool, error) { return Options{}.Equal(a, b) }

// Equal is the function of that name with options: documents that differ in
// ignored places only are equal.
func (o Options) Equal(a, b []byte) (bool, error) {
	same, _, err := o.compare(nil, a, b, false)
	return same, err
}

// compare appends the patch, if it is wanted, unless the documents are the same.
func (o Options) compare(dst, old, new []byte, wanted bool) (same bool, out []byte, err error) {
	d := Differ{options: o}
	if _, err := d.Next(old); err != nil {
		return false, dst, inDocument(err, "old document")
	}
	limits := o.Limits.withDefaults()
	if len(new) > limits.Size {
		return false, dst, inDocument(limits.tooLarge(), "new document")
	}
	s := scratches.Get().(*scratch)
	defer s.release()
	s.load(new, limits, false)
	w := &s.walk
	base := d.base
	if d.packed != nil {
		base.tape = unpackTape(nil, d.packed)
	}
	w.start(base, &d.options)
	w.run()
	if w.new.err != nil {
		return false, dst, inDocument(w.new.err, "new document")
	}
	if !w.differs() {
		return true, dst, nil
	}
	if wanted {
		dst = w.appendPatch(dst)
	}
	return false, dst, nil
}
