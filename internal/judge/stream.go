package judge

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// ErrMalformed is the error of a stream that holds what this protocol never sends.
var ErrMalformed = errors.New("malformed event stream")

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}

// Event is one block of an event stream that has a field.
type Event struct {
	// Name is what the event is dispatched as: "message" if the block does not
	// name it, "" if the block has no data and so dispatches nothing.
	Name string
	// ID is that of the block itself, "" if it has none.
	ID    string
	Data  string
	Retry time.Duration // 0 if the block has none

	fields []string // in the order in which they came
}

// Reader parses an event stream, HTML standard section 9.2.6, and refuses what
// that section allows but this protocol never sends: a byte order mark, CR, NUL,
// a field twice in one block, a field without ": ", unknown fields, and empty
// lines that end no block.
type Reader struct {
	r     *bufio.Reader
	line  []byte
	begun bool

	// Comments counts the comment lines so far.
	Comments int
	// Bytes counts the bytes of all lines so far.
	Bytes int64
}

// NewReader makes a Reader of r.
func NewReader(r io.Reader) *Reader { return NewReaderSize(r, 64<<10) }

// NewReaderSize makes a Reader of r with a buffer of a size, in bytes.
func NewReaderSize(r io.Reader, size int) *Reader {
	return &Reader{r: bufio.NewReaderSize(r, size)}
}

// Next returns the next block that has a field. io.EOF comes only between
// blocks: a stream that ends inside one is io.ErrUnexpectedEOF. What the Reader
// refuses is ErrMalformed.
func (s *Reader) Next() (Event, error) {
	var e Event
	named, lines := "message", 0
	for {
		line, err := s.readLine()
		if err != nil {
			if errors.Is(err, io.EOF) && lines > 0 {
				err = fmt.Errorf("stream ends inside the event with the fields %q: %w", e.fields, io.ErrUnexpectedEOF)
			}
			return e, err
		}
		if len(line) == 0 {
			if lines == 0 {
				return e, malformed("an empty line that ends no block")
			}
			if lines = 0; len(e.fields) == 0 {
				continue // comments
			}
			if slices.Contains(e.fields, "data") {
				e.Name = named
			}
			return e, nil
		}
		lines++
		if line[0] == ':' {
			s.Comments++
			continue
		}
		field, text, ok := bytes.Cut(line, []byte(": "))
		value := string(text)
		switch {
		case !ok:
			return e, malformed("line %.80q is no field", line)
		case slices.Contains(e.fields, string(field)):
			return e, malformed("field %s twice in one event", field)
		}
		e.fields = append(e.fields, string(field))
		switch string(field) {
		case "event":
			named = value
		case "id":
			e.ID = value
		case "data":
			e.Data = value
		case "retry":
			ms, err := strconv.Atoi(value)
			if err != nil || ms < 1 {
				return e, malformed("retry %q", value)
			}
			e.Retry = time.Duration(ms) * time.Millisecond
		default:
			return e, malformed("unknown field %q", field)
		}
	}
}

func (s *Reader) readLine() ([]byte, error) {
	s.line = s.line[:0]
	for {
		part, err := s.r.ReadSlice('\n')
		s.Bytes += int64(len(part))
		s.line = append(s.line, part...)
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case errors.Is(err, io.EOF) && len(s.line) > 0:
			return nil, fmt.Errorf("stream ends inside the line %.80q: %w", s.line, io.ErrUnexpectedEOF)
		case err != nil:
			return nil, err
		}
		line := s.line[:len(s.line)-1]
		if !s.begun && bytes.HasPrefix(line, []byte("\ufeff")) {
			return nil, malformed("stream starts with a byte order mark")
		}
		s.begun = true
		if !utf8.Valid(line) || bytes.ContainsAny(line, "\x00\r") {
			return nil, malformed("line %.80q holds NUL, CR or what is not UTF-8", line)
		}
		return line, nil
	}
}

var versionID = regexp.MustCompile(`^[A-Za-z0-9_-]{22}$`)

// Check holds a block of a stream whose events are not renamed against
// docs/protocol.md.
func (e Event) Check() error {
	switch fields := strings.Join(e.fields, ","); fields {
	case "retry":
		return nil
	case "id":
	case "event,data":
		if e.Name != "status" {
			return fmt.Errorf("event %s has no id", e.Name)
		}
	case "event,id,data":
		if e.Name != "snapshot" && e.Name != "patch" && e.Name != "merge" {
			return fmt.Errorf("event %q with an id", e.Name)
		}
	default:
		return fmt.Errorf("fields %s", fields)
	}
	if slices.Contains(e.fields, "id") && !versionID.MatchString(e.ID) {
		return fmt.Errorf("id %q is no version", e.ID)
	}
	if slices.Contains(e.fields, "data") && e.Data == "" {
		return fmt.Errorf("event %s has no data", e.Name)
	}
	return nil
}
