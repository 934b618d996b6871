package pollsse

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Formats of a stream: what a change is sent as.
const (
	formatPatch    = "patch"    // RFC 6902 JSON Patch
	formatMerge    = "merge"    // RFC 7396 JSON Merge Patch
	formatSnapshot = "snapshot" // the whole document, every time
)

// Kinds of events. A kind is also the event's name unless the configuration
// renames it; none is "error" or "open", which collide with EventSource's own.
const (
	kindSnapshot = "snapshot"
	kindPatch    = "patch"
	kindMerge    = "merge"
	kindStatus   = "status"
)

// encoding is how one kind of stream reads the log. It is comparable: streams
// with the same encoding write the same bytes.
type encoding struct {
	format                         string
	snapshot, patch, merge, status string // event names
}

// checkEventName refuses names that would break the framing or that an
// EventSource already uses (HTML standard, section 9.2.6: a line ends at CR,
// LF or CRLF).
func checkEventName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("an event name must not be empty")
	case name == "error" || name == "open":
		return fmt.Errorf("event name %q collides with EventSource's own event", name)
	case len(name) > 64:
		return fmt.Errorf("event name %q is longer than 64 bytes", name)
	case strings.ContainsAny(name, "\r\n\x00"):
		return fmt.Errorf("event name %q must not contain CR, LF or NUL", name)
	case strings.TrimSpace(name) != name:
		return fmt.Errorf("event name %q must not start or end with white space", name)
	}
	return nil
}

// appendEvent appends one event in the framing of the HTML standard, section
// 9.2.5. The data must be a single line, as compact JSON is; an empty id
// leaves the client's last event id alone. The name "message" is the default
// and costs no bytes.
func appendEvent(dst []byte, name, id string, data []byte) []byte {
	if name != "message" {
		dst = append(append(append(dst, "event: "...), name...), '\n')
	}
	if id != "" {
		dst = append(append(append(dst, "id: "...), id...), '\n')
	}
	dst = append(append(dst, "data: "...), data...)
	return append(dst, "\n\n"...)
}

// appendID appends a block that sets the client's last event id and
// dispatches nothing.
func appendID(dst []byte, id string) []byte {
	return append(append(append(dst, "id: "...), id...), "\n\n"...)
}

// appendRetry appends the field that sets the client's reconnection time.
func appendRetry(dst []byte, after time.Duration) []byte {
	dst = append(dst, "retry: "...)
	dst = strconv.AppendInt(dst, max(1, after.Milliseconds()), 10)
	return append(dst, "\n\n"...)
}

// comment is what keeps a silent connection open: every parser ignores it.
var comment = []byte(":\n\n")

// statusTime is how status events write a time: RFC 3339 in UTC.
const statusTime = "2006-01-02T15:04:05.000Z"

// appendStatus appends a status event. It carries no id: a state is not a
// version of the document.
func appendStatus(dst []byte, name string, s status) []byte {
	data := fmt.Appendf(nil, `{"state":%q,"since":%q`, s.state, s.since.UTC().Format(statusTime))
	if !s.validated.IsZero() {
		data = fmt.Appendf(data, `,"validated":%q`, s.validated.UTC().Format(statusTime))
	}
	if s.reason != "" {
		data = fmt.Appendf(data, `,"reason":%q`, s.reason)
	}
	return appendEvent(dst, name, "", append(data, '}'))
}

// appendDocument appends the current document as a snapshot.
func appendDocument(dst []byte, enc encoding, d *document) []byte {
	return appendEvent(dst, enc.snapshot, d.id, d.text)
}

// appendChanges appends what takes a client across changes, oldest first, to
// the document d: one patch (several are one array, RFC 6902 section 3, as
// patches concatenate), one merge patch each (those do not concatenate), or a
// snapshot where that is smaller or the only way.
func appendChanges(dst []byte, enc encoding, changes []change, d *document) []byte {
	const overhead = len("event: \nid: \ndata: \n\n")
	size, start := 0, len(dst)
	switch enc.format {
	case formatPatch:
		for _, c := range changes {
			size += len(c.patch)
		}
		if size >= len(d.text) {
			break
		}
		if len(changes) == 1 {
			return appendEvent(dst, enc.patch, changes[0].id, changes[0].patch)
		}
		joined := make([]byte, 0, size+2)
		for i, c := range changes {
			joined = append(joined, c.patch[1:len(c.patch)-1]...)
			if i < len(changes)-1 {
				joined = append(joined, ',')
			}
		}
		joined = append(append([]byte{'['}, joined...), ']')
		return appendEvent(dst, enc.patch, changes[len(changes)-1].id, joined)
	case formatMerge:
		for _, c := range changes {
			size += len(c.merge) + overhead + len(enc.merge) + len(c.id)
			if c.merge == nil || size >= len(d.text)+overhead+len(enc.snapshot)+len(d.id) {
				return appendDocument(dst[:start], enc, d)
			}
			dst = appendEvent(dst, enc.merge, c.id, c.merge)
		}
		return dst
	}
	return appendDocument(dst, enc, d)
}
