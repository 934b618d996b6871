package jsondiff

import (
	"bytes"
)

// Options say how texts are compared. The zero value compares everything and
// finds the identity of array elements by itself.
type Options struct {
	Limits
	// Identify names the member that tells the elements of an array apart.
	// The first pattern that matches the array counts.
	Identify []Identity
	// Ignore lists places where a change alone is no change. It travels with
	// the next change elsewhere.
	Ignore []Pattern
}

// Identity is a member whose value, a scalar that differs between elements,
// identifies each element of the arrays that the pattern stands for.
type Identity struct {
	Pattern Pattern
	Member  string
}

// Kind is what Next found.
type Kind int

// Kinds of changes.
const (
	First     Kind = iota // there was no document before
	Unchanged             // nothing to tell
	Changed               // Patch leads to the new document
)

// Change is the outcome of Next.
type Change struct {
	Kind Kind
	// Patch is an RFC 6902 JSON Patch, set where Kind is Changed. It is the
	// caller's.
	Patch []byte
}

// Differ compares each version of a document with the one before. It retains
// the last version's text and tape. A Differ is for one goroutine at a time;
// its zero value works.
type Differ struct {
	options Options

	last  source // the retained version as it came
	doc   []byte // its compact text, as it was last published; nil before the first
	spare []entry
	work  aligner
}

// NewDiffer returns a Differ with options.
func NewDiffer(o Options) *Differ { return &Differ{options: o} }

// Document is the compact text of the version last returned as First or
// Changed: white space outside of strings is left out, every other byte is as
// it came. It is never written again. Nil before the first.
func (d *Differ) Document() []byte { return d.doc }

// Next compares text with the retained version and retains it in its place.
// text is copied. Where text is not JSON within the limits, the error is a
// *SyntaxError or wraps ErrDepth or ErrSize, and the last version stays.
//
// White space, the order of members and the way in which strings are escaped
// make no difference; how a number is written does. Of members with the same
// name the last one counts.
func (d *Differ) Next(text []byte) (Change, error) {
	if d.doc != nil && bytes.Equal(text, d.last.text) {
		return Change{Kind: Unchanged}, nil
	}
	limits := d.options.Limits.orDefaults()
	if d.doc == nil {
		s, err := parseWithin(text, limits)
		if err != nil {
			return Change{}, err
		}
		d.last = s
		d.doc = s.compact()
		return Change{Kind: First}, nil
	}
	if len(text) > limits.Size {
		return Change{}, sizeError(len(text), limits.Size)
	}
	tape := d.spare[:0]
	if cap(tape) < len(d.last.tape) {
		tape = make([]entry, 0, len(d.last.tape)+len(d.last.tape)/8+8)
	}
	s := scanner{text: padded(text), depth: limits.Depth, tape: tape}
	err := s.scan(&d.last)
	d.spare = s.tape
	if err != nil {
		return Change{}, err
	}
	next := source{text: s.text, tape: s.tape, spaced: s.spaced}
	patch, real := d.work.diff(d.last, next, d.options, limits.Work)
	if len(patch) > len("[]") && !real {
		return Change{Kind: Unchanged}, nil // only ignored places: the published version stays
	}
	d.last, d.spare = next, d.last.tape
	if len(patch) == len("[]") {
		return Change{Kind: Unchanged}, nil
	}
	d.doc = next.compact()
	return Change{Kind: Changed, Patch: patch}, nil
}

// Diff returns an RFC 6902 JSON Patch that turns old into new, "[]" where they
// are equal.
func Diff(old, new []byte) ([]byte, error) {
	a, err := parse(old)
	if err != nil {
		return nil, err
	}
	b, err := parse(new)
	if err != nil {
		return nil, err
	}
	var work aligner
	patch, _ := work.diff(a, b, Options{}, defaultWork)
	return patch, nil
}

// Equal tells whether two texts stand for the same value, as Next compares
// them.
func Equal(a, b []byte) (bool, error) {
	patch, err := Diff(a, b)
	return len(patch) == len("[]"), err
}

// Compact appends text to dst without the white space outside of strings.
func Compact(dst, text []byte) ([]byte, error) {
	s, err := parse(text)
	if err != nil {
		return dst, err
	}
	return appendCompact(dst, s.raw(0)), nil
}

// compact is the text without white space, the text itself where it has none.
func (s source) compact() []byte {
	raw := s.raw(0)
	if !s.spaced {
		return raw[:len(raw):len(raw)]
	}
	return appendCompact(make([]byte, 0, len(raw)), raw)
}

// appendCompact appends a valid text without the white space outside of
// strings.
func appendCompact(dst, raw []byte) []byte {
	for len(raw) > 0 {
		i := 0
		for i < len(raw) && raw[i] > ' ' && raw[i] != '"' {
			i++
		}
		if i < len(raw) && raw[i] == '"' {
			i += stringLen(raw[i:])
		}
		dst = append(dst, raw[:i]...)
		for i < len(raw) && raw[i] <= ' ' {
			i++
		}
		raw = raw[i:]
	}
	return dst
}

// stringLen is the length of the valid string that b starts with.
func stringLen(b []byte) int {
	i := 1
	for {
		i += bytes.IndexByte(b[i:], '"')
		backslashes := 0
		for b[i-1-backslashes] == '\\' {
			backslashes++
		}
		if i++; backslashes%2 == 0 {
			return i
		}
	}
}
