package inspect

import (
	"net/http"
	"time"
)

// Answer is one poll of an API and its outcome.
type Answer struct {
	At       time.Time     // when it was asked for
	Took     time.Duration // until the last byte of the body
	Status   int           // 0 if there was no answer
	Header   http.Header
	Received int64  // bytes of header and body as the network carried them, TLS aside
	Text     []byte // the JSON text, nil if the answer brought none; of equal texts in a row the same slice
	Reason   string // why there is no document: a reason of docs/protocol.md; "" with a text and with 304
	Detail   string // the same for people

	// Unconditional says that it was asked for without a condition, although there
	// were validators, to see whether the 304s before it were right.
	Unconditional bool
}

// isDocument reports whether the answer brought a document.
func (a *Answer) isDocument() bool { return a.Text != nil }

// isUnmodified reports whether the answer says that nothing is new.
func (a *Answer) isUnmodified() bool { return a.Status == http.StatusNotModified && a.Reason == "" }
