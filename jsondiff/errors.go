package jsondiff

import (
	"bytes"
	"errors"
	"fmt"
	"unicode/utf8"
)

// ErrDepth is a text nested deeper than Limits.Depth.
var ErrDepth = errors.New("nested too deep")

// ErrSize is a text longer than Limits.Size.
var ErrSize = errors.New("too large")

// ErrWork is Change.Bound where the search for a small patch was cut short by
// Limits.Work. The patch is exact all the same.
var ErrWork = errors.New("search for a small patch cut short")

// SyntaxError is a text that is not JSON as RFC 8259 has it, in UTF-8.
type SyntaxError struct {
	Offset   int    // in bytes, of the first byte that does not belong
	Line     int    // counted from 1
	Column   int    // in characters, counted from 1
	Expected string // what could have stood there
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("line %d, column %d: expected %s", e.Line, e.Column, e.Expected)
}

// syntaxError finds the line and column of an offset. Invalid UTF-8 counts one
// column a byte.
func syntaxError(text []byte, at int, expected string) error {
	at = min(at, len(text))
	line := text[bytes.LastIndexByte(text[:at], '\n')+1 : at]
	return &SyntaxError{
		Offset:   at,
		Line:     1 + bytes.Count(text[:at], []byte{'\n'}),
		Column:   1 + utf8.RuneCount(line),
		Expected: expected,
	}
}

// Limits bound what a text may cost. Zero means the default.
type Limits struct {
	// Depth is how deep arrays and objects may nest: default 1000, at most
	// 10,000. Deeper is ErrDepth.
	Depth int
	// Size is how many bytes a text may have: default and at most 256 MiB,
	// because offsets and counts must fit the tape. More is ErrSize.
	Size int
	// Work bounds the search for a small patch, in elements looked at beyond
	// one pass over both texts: default 4,194,304. Where it is reached,
	// containers are replaced whole and Change.Bound is ErrWork.
	Work int
}

const (
	defaultDepth = 1000
	maxDepth     = 10000
	maxSize      = 1 << 28
	defaultWork  = 1 << 22
)

func (l Limits) withDefaults() Limits {
	if l.Depth <= 0 {
		l.Depth = defaultDepth
	}
	if l.Size <= 0 {
		l.Size = maxSize
	}
	if l.Work <= 0 {
		l.Work = defaultWork
	}
	l.Depth = min(l.Depth, maxDepth)
	l.Size = min(l.Size, maxSize)
	return l
}
