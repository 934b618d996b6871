package feed

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Document is one published version of the upstream's answer: compact JSON on
// one line, never written again.
type Document struct {
	ID   string // the version; see [Version]
	Text []byte

	// The gzip form of Text, made when it is first asked for.
	zip    sync.Once
	zipped []byte
}

// Change takes the document of one version to the next.
type Change struct {
	pos   uint64 // set by the log
	ID    string // the version it leads to
	Patch []byte // RFC 6902; nil if a snapshot is no larger
	Merge []byte // RFC 7396; nil if nobody reads merge patches or none can say it
}

// Version names a document by its content, so that the same document has the
// same id after a restart and on every node: 128 bits of SHA-256 over a domain
// tag, the source's private part, and the text, in base64url. The private part
// keeps one user's ids from telling another that their documents are equal.
func Version(private, text []byte) string {
	h := sha256.New()
	h.Write([]byte("poll_sse document v1\x00"))
	sum := sha256.Sum256(private)
	h.Write(sum[:])
	h.Write(text)
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:16])
}

// IsVersion reports whether s has the form of a version. Anything else is never
// looked up and never echoed.
func IsVersion(s string) bool {
	// The decoder skips CR and LF, which would end a field of an event.
	if len(s) != 22 || strings.ContainsAny(s, "\r\n") {
		return false
	}
	_, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return err == nil
}

// States of a source, as status events name them.
const (
	Waiting = "waiting" // no document yet
	Live    = "live"    // the last poll succeeded
	Stale   = "stale"   // the last poll failed; the document is the last good one
	Denied  = "denied"  // the upstream refused the client
	Refused = "refused" // over a limit; only ever sent by the handler
)

// ReasonLate is the reason of a stale document that the upstream has not confirmed
// for longer than the schedule allows.
const ReasonLate = "late"

// Status is the state of a source, since when, and the reason: one of those that
// docs/protocol.md lists, never the upstream's text.
type Status struct {
	State, Reason string
	Since         time.Time
	// Validated is when the upstream last confirmed a stale document; zero for
	// a live one, which is never older than the schedule makes it.
	Validated time.Time
}

// Denial is the upstream's answer to credentials that it does not accept.
type Denial struct {
	Status    int    // 401 or 403; 406 if there never was a document and never will be
	Challenge string // WWW-Authenticate, RFC 9110 section 11.6.1
}

// Publication is what one poll adds to the log.
type Publication struct {
	Document  *Document // the new current document, nil if it has not changed
	Change    Change    // how Document follows from the one before it
	State     string
	Reason    string
	At        time.Time   // the end of the poll
	Since     time.Time   // of State and Reason, if they are new; zero: At
	Validated bool        // the upstream confirmed the current document, at At
	Confirmed time.Time   // when it did if that was at another time; zero: At
	NoStore   bool        // and said that it must not be stored, RFC 9111 section 5.2.2.5
	Fields    http.Header // of the answer that confirmed it, to be kept; never written again
	HandOn    bool        // what the upstream answers now is for each client to see for itself
	Denial    *Denial     // drop the document and end every stream
	Late      time.Time   // when the current document is late if nothing else is published
	Past      *Past       // of another log, which comes before; only with the first document
}

// View is what the log shows to a request for the document itself.
type View struct {
	Document  *Document
	Status    Status
	Validated time.Time
	NoStore   bool            // the upstream wants the document to be stored nowhere
	Polled    bool            // the first poll has ended
	Fields    http.Header     // that the document is served with besides its own; not to be written
	HandOn    bool            // the upstream's last answer is for each client to see for itself
	Denial    *Denial         // nil unless the upstream refuses the client
	Wake      <-chan struct{} // closed at the next publication
	// Superseded says that another source has a newer document, or will.
	Superseded bool
}

// minGzip is the least size of a document that is worth compressing, in bytes:
// a shorter one leaves in one packet as it is.
const minGzip = 512

// Gzip returns the document as a whole gzip member, nil if it is short. The
// member is made at the first call, and dropped with the document.
func (d *Document) Gzip() []byte {
	d.zip.Do(func() {
		if len(d.Text) < minGzip {
			return
		}
		var out bytes.Buffer
		z := members.Get().(*gzip.Writer)
		defer members.Put(z)
		z.Reset(&out)
		_, _ = z.Write(d.Text) // a bytes.Buffer takes everything
		_ = z.Close()
		z.Reset(io.Discard)
		d.zipped = bytes.Clone(out.Bytes()) // without the room that the buffer has left
	})
	return d.zipped
}

// members compress whole documents.
var members = sync.Pool{New: func() any { return gzip.NewWriter(io.Discard) }}
