package feed

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Formats of a stream: how a change is sent.
const (
	FormatPatch    = "patch"    // RFC 6902 JSON Patch
	FormatMerge    = "merge"    // RFC 7396 JSON Merge Patch
	FormatSnapshot = "snapshot" // the whole document, every time
)

// Kinds of events. A kind is also the event's name unless the configuration
// renames it; none is "error" or "open", which collide with EventSource's own.
const (
	KindSnapshot = "snapshot"
	KindPatch    = "patch"
	KindMerge    = "merge"
	KindStatus   = "status"
)

// Names are the names of the events of each kind.
type Names struct{ Snapshot, Patch, Merge, Status string }

// Key is what decides the bytes that a stream is sent. Streams with the same key
// share all of them but their own first and last.
type Key struct {
	Format    string        // one of FormatPatch, FormatMerge and FormatSnapshot
	Names     Names         // of events; each passes CheckEventName
	Heartbeat time.Duration // the longest silence
	Gzip      bool          // compress
}

// CheckEventName refuses names that would break the framing or that an
// EventSource already uses (HTML standard, section 9.2.6: a line ends at CR,
// LF or CRLF).
func CheckEventName(name string) error {
	switch {
	case name == "":
		return fmt.Errorf("an event name must not be empty")
	case name == "error" || name == "open":
		return fmt.Errorf("event name %q collides with EventSource's own event", name)
	case len(name) > 64:
		return fmt.Errorf("event name %q is longer than 64 bytes", name)
	case strings.ContainsAny(name, "\r\n\x00"):
		return fmt.Errorf("event name %q must not contain CR, LF or NUL", name)
	case !utf8.ValidString(name):
		return fmt.Errorf("event name %q must be UTF-8", name)
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

// comment keeps a silent connection open: every parser ignores it.
var comment = []byte(":\n\n")

// statusTime is how status events write a time: RFC 3339 in UTC.
const statusTime = "2006-01-02T15:04:05.000Z"

// appendStatus appends a status event. It carries no id: a state is not a
// version of the document.
func appendStatus(dst []byte, name string, s Status) []byte {
	data := fmt.Appendf(nil, `{"state":%q,"since":%q`, s.State, s.Since.UTC().Format(statusTime))
	if !s.Validated.IsZero() {
		data = fmt.Appendf(data, `,"validated":%q`, s.Validated.UTC().Format(statusTime))
	}
	if s.Reason != "" {
		data = fmt.Appendf(data, `,"reason":%q`, s.Reason)
	}
	return appendEvent(dst, name, "", append(data, '}'))
}

// appendDocument appends the current document as a snapshot.
func (k Key) appendDocument(dst []byte, d *Document) []byte {
	return appendEvent(dst, k.Names.Snapshot, d.ID, d.Text)
}

// appendChanges appends what takes a client across changes, oldest first, to
// the document d: one patch (several patches concatenate to one array, RFC 6902
// section 3), one merge patch for each (those do not concatenate), or a snapshot
// if that is smaller or the only way.
func (k Key) appendChanges(dst []byte, changes []Change, d *Document) []byte {
	const overhead = len("event: \nid: \ndata: \n\n")
	size, start := 0, len(dst)
	switch k.Format {
	case FormatPatch:
		for _, c := range changes {
			size += len(c.Patch)
		}
		if size >= len(d.Text) {
			break
		}
		if len(changes) == 1 {
			return appendEvent(dst, k.Names.Patch, changes[0].ID, changes[0].Patch)
		}
		joined := make([]byte, 0, size+2)
		for i, c := range changes {
			joined = append(joined, c.Patch[1:len(c.Patch)-1]...)
			if i < len(changes)-1 {
				joined = append(joined, ',')
			}
		}
		joined = append(append([]byte{'['}, joined...), ']')
		return appendEvent(dst, k.Names.Patch, changes[len(changes)-1].ID, joined)
	case FormatMerge:
		for _, c := range changes {
			size += len(c.Merge) + overhead + len(k.Names.Merge) + len(c.ID)
			if c.Merge == nil || size >= len(d.Text)+overhead+len(k.Names.Snapshot)+len(d.ID) {
				return k.appendDocument(dst[:start], d)
			}
			dst = appendEvent(dst, k.Names.Merge, c.ID, c.Merge)
		}
		return dst
	}
	return k.appendDocument(dst, d)
}

// AppendOpening appends the first bytes of a stream, which are its own: the
// reconnection time; comments that tell a client the longest silence, in
// seconds, and whether the document is private; and the id that a client sent
// in the query, so that the browser's own reconnect carries it. An empty id is
// left out.
func (k Key) AppendOpening(dst []byte, retry time.Duration, private bool, id string) []byte {
	own := append(appendRetry(nil, retry), ": heartbeat "...)
	own = append(strconv.AppendFloat(own, k.Heartbeat.Seconds(), 'f', -1, 64), '\n')
	if private {
		own = append(own, ": private\n"...)
	}
	own = append(own, '\n')
	if id != "" {
		own = appendID(own, id)
	}
	if k.Gzip {
		return appendStored(append(dst, gzipHead...), own)
	}
	return append(dst, own...)
}

// AppendFarewell appends the last bytes of a stream that the server ends: the time
// after which the client is to return.
func (k Key) AppendFarewell(dst []byte, retry time.Duration) []byte {
	own := appendRetry(nil, retry)
	if k.Gzip {
		return appendStored(dst, own)
	}
	return append(dst, own...)
}

// AppendRefusal appends a whole stream that says only why there is none and when
// to return, with a line of advice as a comment. It is never compressed.
func (k Key) AppendRefusal(dst []byte, retry time.Duration, reason, advice string, now time.Time) []byte {
	dst = appendRetry(dst, retry)
	if advice != "" {
		dst = append(append(append(dst, ": "...), advice...), "\n\n"...)
	}
	return appendStatus(dst, k.Names.Status, Status{State: Refused, Reason: reason, Since: now})
}
