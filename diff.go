package pollsse

import (
	"bytes"
	"crypto/sha256"
	"errors"

	"github.com/pollsse/caddy-poll-sse/internal/feed"
	"github.com/pollsse/caddy-poll-sse/jsondiff"
)

// differ turns each good body of the upstream into what the subscribers are
// told: nothing, a patch, or a whole document. It holds the document that was
// last published and is used by the source's goroutine alone.
type differ struct {
	json    *jsondiff.Differ
	private []byte // makes the versions of a private source its own
	filter  filter
	current *feed.Document

	// What current is a part of, if it is not all of it: the body in which it
	// was last found, or nil and its hash if it is much larger. The same body
	// need not be parsed to say that nothing has changed.
	whole    []byte
	wholeSum [sha256.Size]byte
}

func newDiffer(private []byte, f filter) *differ {
	return &differ{json: jsondiff.NewDiffer(f.options), private: private, filter: f}
}

// update compares body with the last published document. It returns nil if there
// is nothing to publish, also if only white space, key order or string escapes
// differ, and an error if body is not JSON within the bounds; the last document
// then stays. Merge patches cost a second look at both documents and are made
// only if merge says that somebody reads them. The body's memory stays the
// caller's.
func (d *differ) update(body []byte, merge bool) (*feed.Document, feed.Change, error) {
	if !d.filter.selects() {
		return d.compare(body, merge)
	}
	var sum [sha256.Size]byte
	same := d.whole != nil && bytes.Equal(body, d.whole)
	if d.whole == nil {
		sum = sha256.Sum256(body)
		same = sum == d.wholeSum
	}
	if same {
		return nil, feed.Change{}, nil
	}
	doc, c, err := d.compare(body, merge)
	switch {
	case err != nil:
	case len(body) <= maxWhole*len(d.current.Text):
		if cap(d.whole) > len(body)+len(body)/4 {
			d.whole = nil
		}
		d.whole = append(d.whole[:0], body...)
	default:
		if d.whole != nil {
			sum = sha256.Sum256(body)
		}
		d.whole, d.wholeSum = nil, sum
	}
	return doc, c, err
}

// maxWhole is how many times as large as the published text a body may be to be
// retained, too.
const maxWhole = 2

func (d *differ) compare(body []byte, merge bool) (*feed.Document, feed.Change, error) {
	part, err := d.filter.apply(body)
	if err != nil {
		return nil, feed.Change{}, err
	}
	got, err := d.json.Next(part)
	if err != nil {
		return nil, feed.Change{}, withoutNames(err)
	}
	if got.Kind == jsondiff.Unchanged {
		return nil, feed.Change{}, nil
	}
	text := d.json.Document()
	doc := &feed.Document{ID: feed.Version(d.private, text), Text: text}
	c := feed.Change{ID: doc.ID}
	if d.current != nil && len(got.Patch) < len(text) {
		c.Patch = got.Patch
		if merge {
			if m, err := jsondiff.MergeDiff(d.current.Text, text); err == nil {
				c.Merge = m
			}
		}
	}
	d.current = doc
	return doc, c, nil
}

// adopt takes the text that another node has published as it is, also if only
// what is ignored differs. It returns nil if that is the last published
// document. The text must be what its version says.
func (d *differ) adopt(id string, text []byte, merge bool) (*feed.Document, feed.Change, error) {
	if feed.Version(d.private, text) != id {
		return nil, feed.Change{}, errors.New("the text is not of its version")
	}
	if d.current != nil && d.current.ID == id {
		return nil, feed.Change{}, nil
	}
	old := d.current
	got, err := d.json.Next(text)
	if err != nil {
		return nil, feed.Change{}, withoutNames(err)
	}
	doc := &feed.Document{ID: id, Text: d.json.Document()}
	c := feed.Change{ID: id}
	switch {
	case got.Kind == jsondiff.Unchanged || !bytes.Equal(doc.Text, text):
		// The texts differ in the order of members, or in ignored ones. The
		// next comparison must start from this text all the same.
		d.json = jsondiff.NewDiffer(d.filter.options)
		if _, err := d.json.Next(text); err != nil {
			return nil, feed.Change{}, err
		}
		if doc.Text = d.json.Document(); !bytes.Equal(doc.Text, text) {
			d.json = jsondiff.NewDiffer(d.filter.options)
			if old != nil {
				_, _ = d.json.Next(old.Text) // it was good once
			}
			return nil, feed.Change{}, errors.New("the text is not compact")
		}
		if old != nil {
			c.Patch, c.Merge = d.between(old, doc, merge)
		}
	case old != nil && len(got.Patch) < len(doc.Text):
		c.Patch = got.Patch
		if merge {
			c.Merge, _ = jsondiff.MergeDiff(old.Text, doc.Text) // nil if it cannot say it
		}
	}
	d.current, d.whole, d.wholeSum = doc, nil, [sha256.Size]byte{}
	return doc, c, nil
}

// withoutNames removes names of members from an error: they may be secrets, and
// errors are logged. It must come before the error is wrapped, as wrapping
// writes its text.
func withoutNames(err error) error {
	var bad *jsondiff.SyntaxError
	if errors.As(err, &bad) {
		bad.Pointer = nil
	}
	return err
}

// between compares two documents that update did not compare. It returns a
// patch, and a merge patch if anybody reads one. Both are nil if a snapshot is
// no larger.
func (d *differ) between(old, doc *feed.Document, merge bool) (patch, merged []byte) {
	all := d.filter.options
	all.Ignore = nil // what is ignored between polls is part of what is published
	j := jsondiff.NewDiffer(all)
	if _, err := j.Next(old.Text); err != nil {
		return nil, nil
	}
	got, err := j.Next(doc.Text)
	if err != nil || got.Kind != jsondiff.Changed || len(got.Patch) >= len(doc.Text) || !bytes.Equal(j.Document(), doc.Text) {
		return nil, nil
	}
	if merge {
		merged, _ = jsondiff.MergeDiff(old.Text, doc.Text) // nil if it cannot say it
	}
	return got.Patch, merged
}
