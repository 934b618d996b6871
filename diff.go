package pollsse

import (
	"crypto/sha256"
	"encoding/base64"
	"strings"

	"github.com/pollsse/caddy-poll-sse/jsondiff"
)

// differ turns each good body of the upstream into what the subscribers are
// told: nothing, a patch, or a whole document. It holds the document that was
// last published and is used by the source's goroutine alone.
type differ struct {
	json    *jsondiff.Differ
	private []byte // makes the versions of a private source its own
	filter  filter
	current *document
}

func newDiffer(private []byte, f filter) *differ {
	return &differ{json: jsondiff.NewDiffer(f.options), private: private, filter: f}
}

// next compares body with the last published document. It returns nil where
// there is nothing to publish, also where only white space, key order or
// string escapes differ, and an error where body is not JSON within the
// bounds; the last document then stays. Merge patches cost a second look at
// both documents and are made only if merge says that somebody reads them.
func (d *differ) next(body []byte, merge bool) (*document, change, error) {
	body, err := d.filter.apply(body)
	if err != nil {
		return nil, change{}, err
	}
	got, err := d.json.Next(body)
	if err != nil {
		return nil, change{}, err
	}
	if got.Kind == jsondiff.Unchanged {
		return nil, change{}, nil
	}
	text := d.json.Document()
	doc := &document{id: version(d.private, text), text: text}
	c := change{id: doc.id}
	if d.current != nil && len(got.Patch) < len(text) {
		c.patch = got.Patch
		if merge {
			if m, err := jsondiff.Merge(d.current.text, text); err == nil {
				c.merge = m
			}
		}
	}
	d.current = doc
	return doc, c, nil
}

// version names a document by its content, so that the same document has the
// same id after a restart and on every node: 128 bits of SHA-256 over a domain
// tag, the source's private part, and the text, in base64url. The private part
// keeps one user's ids from telling another that their documents are equal.
func version(private, text []byte) string {
	h := sha256.New()
	h.Write([]byte("poll_sse document v1\x00"))
	sum := sha256.Sum256(private)
	h.Write(sum[:])
	h.Write(text)
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:16])
}

// isVersion tells whether s has the form of a version. What does not is
// nobody's id: it is never looked up and never echoed.
func isVersion(s string) bool {
	// The decoder skips CR and LF, which would end a field of an event.
	if len(s) != 22 || strings.ContainsAny(s, "\r\n") {
		return false
	}
	_, err := base64.RawURLEncoding.Strict().DecodeString(s)
	return err == nil
}
