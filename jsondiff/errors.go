package jsondiff

import (
	"bytes"
	"errors"
	"fmt"
	"unicode/utf8"
)

// ErrDepth is what a *LimitError wraps if a text is nested deeper than
// Limits.Depth.
var ErrDepth = errors.New("nested too deep")

// ErrSize is what a *LimitError wraps if a text is longer than Limits.Size, or
// if a patch copies more than Apply has room for.
var ErrSize = errors.New("too large")

// ErrMissing is what the error of an operation, or of Select, wraps if there is
// nothing at its pointer.
var ErrMissing = errors.New("no such value")

// ErrTest is what an *OperationError wraps if a test operation did not hold.
var ErrTest = errors.New("values differ")

// ErrNotMergeable is MergeDiff's answer if a merge patch cannot express the
// change: it would have to set a member to null, which removes it instead (RFC
// 7396 section 1).
var ErrNotMergeable = errors.New("jsondiff: the change cannot be expressed as a merge patch")

// SyntaxError is a text that is not JSON as RFC 8259 has it, in UTF-8.
type SyntaxError struct {
	Document string // which one: "old document", "new document", "document" or "patch"
	Offset   int    // in bytes, of the first byte that does not belong
	Line     int    // counted from 1
	Column   int    // in characters, counted from 1
	// Pointer is the value that could not be read, or the member or element
	// that should have begun.
	Pointer  Pointer
	Expected string // what could have stood there
}

func (e *SyntaxError) Error() string {
	at := ""
	if len(e.Pointer) > 0 {
		at = fmt.Sprintf(", at %s", e.Pointer)
	}
	return fmt.Sprintf("jsondiff: %s, line %d, column %d (byte %d%s): expected %s", e.Document, e.Line, e.Column, e.Offset, at, e.Expected)
}

// LimitError is a text that one of the Limits refuses.
type LimitError struct {
	Document string // as in SyntaxError
	Limit    int    // what was allowed
	Offset   int    // in bytes, of where it was passed; -1 if the text was not written
	Err      error  // ErrDepth or ErrSize
}

func (e *LimitError) Error() string {
	if e.Err == ErrDepth && e.Offset < 0 {
		return fmt.Sprintf("jsondiff: %s: nested too deep, the limit is %d", e.Document, e.Limit)
	}
	if e.Err == ErrDepth {
		return fmt.Sprintf("jsondiff: %s, byte %d: nested too deep, the limit is %d", e.Document, e.Offset, e.Limit)
	}
	return fmt.Sprintf("jsondiff: %s: too large, the limit is %d bytes", e.Document, e.Limit)
}

func (e *LimitError) Unwrap() error { return e.Err }

// OperationError says which operation of a patch could not be carried out.
type OperationError struct {
	Index int    // counted from 0
	Op    string // as the patch has it; empty if it has none
	Path  string // the pointer that is wrong or leads nowhere
	Err   error  // ErrMissing, ErrTest, ErrSize, ErrDepth, or what is wrong with the operation
}

func (e *OperationError) Error() string {
	if e.Op == "" {
		return fmt.Sprintf("jsondiff: operation %d: %v", e.Index, e.Err)
	}
	return fmt.Sprintf("jsondiff: operation %d, %s %q: %v", e.Index, e.Op, e.Path, e.Err)
}

func (e *OperationError) Unwrap() error { return e.Err }

// inDocument says in an error which document it is about.
func inDocument(err error, which string) error {
	switch e := err.(type) {
	case *SyntaxError:
		e.Document = which
	case *LimitError:
		e.Document = which
	}
	return err
}

// syntaxError finds the place of an offset. Invalid UTF-8 counts one column a
// byte.
func syntaxError(text []byte, at int, expected string) error {
	at = min(at, len(text))
	line := text[bytes.LastIndexByte(text[:at], '\n')+1 : at]
	return &SyntaxError{
		Document: "document",
		Offset:   at,
		Line:     1 + bytes.Count(text[:at], []byte{'\n'}),
		Column:   1 + utf8.RuneCount(line),
		Pointer:  pointerAt(text[:at]),
		Expected: expected,
	}
}

// pointerAt tells where in a document a text breaks off, which is the beginning
// of valid JSON but for its last token.
func pointerAt(text []byte) Pointer {
	type container struct {
		object bool
		index  int
		name   []byte // as written
		named  bool   // the name was read, its value not yet
	}
	var open []container
	for i := 0; i < len(text); i++ {
		switch c := text[i]; c {
		case '{', '[':
			open = append(open, container{object: c == '{'})
		case '}', ']':
			if len(open) > 0 {
				open = open[:len(open)-1]
			}
		case ',':
			if n := len(open); n > 0 {
				open[n-1].index++
				open[n-1].named = false
			}
		case '"':
			from := i + 1
			for i++; i < len(text) && text[i] != '"'; i++ {
				if text[i] == '\\' {
					i++
				}
			}
			if n := len(open); n > 0 && open[n-1].object && !open[n-1].named && i < len(text) {
				open[n-1].name, open[n-1].named = text[from:i], true
			}
		}
	}
	var p Pointer
	for _, c := range open {
		switch {
		case !c.object:
			p = append(p, fmt.Sprint(c.index))
		case c.named:
			p = append(p, string(unescape(c.name)))
		}
	}
	return p
}
