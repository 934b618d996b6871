package pollsse

import (
	"testing"

	"github.com/pollsse/caddy-poll-sse/internal/feed"
	"github.com/pollsse/caddy-poll-sse/jsondiff"
)

func testDiffer(t *testing.T, ignore ...string) *differ {
	t.Helper()
	var f filter
	for _, text := range ignore {
		p, err := jsondiff.ParsePattern(text)
		if err != nil {
			t.Fatal(err)
		}
		f.options.Ignore = append(f.options.Ignore, p)
	}
	return newDiffer(nil, f)
}

// TestAdopt: a text that another node has published is taken over unchanged,
// and the next poll is compared with it.
func TestAdopt(t *testing.T) {
	for _, c := range []struct {
		name, before, text string
		ignore             []string
		patch              string // empty: none
	}{
		{name: "first", text: `{"a":1}`},
		{name: "a change", before: `{"a":1,"b":[1,2,3,4,5,6,7,8,9,10,11,12,13]}`, text: `{"a":2,"b":[1,2,3,4,5,6,7,8,9,10,11,12,13]}`, patch: `[{"op":"replace","path":"/a","value":2}]`},
		{name: "another order", before: `{"a":1,"b":2}`, text: `{"b":2,"a":1}`},
		{name: "only what is ignored", before: `{"at":1,"list":["a","b","c","d","e","f","g","h"]}`, text: `{"at":2,"list":["a","b","c","d","e","f","g","h"]}`, ignore: []string{"/at"},
			patch: `[{"op":"replace","path":"/at","value":2}]`},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := testDiffer(t, c.ignore...)
			if c.before != "" {
				if _, _, err := d.update([]byte(c.before), false); err != nil {
					t.Fatal(err)
				}
			}
			id := feed.Version(nil, []byte(c.text))
			doc, change, err := d.adopt(id, []byte(c.text), false)
			if err != nil || doc == nil || doc.ID != id || string(doc.Text) != c.text || string(change.Patch) != c.patch {
				t.Fatalf("got %+v, patch %s, %v; want the text, patch %s", doc, change.Patch, err, c.patch)
			}
			if doc, _, err := d.adopt(id, []byte(c.text), false); doc != nil || err != nil {
				t.Errorf("the same text again: %v, %v; want nothing", doc, err)
			}
			if doc, _, err := d.update([]byte(c.text), false); doc != nil || err != nil {
				t.Errorf("a poll that brings the same text: %v, %v; want nothing", doc, err)
			}
			doc, _, err = d.update([]byte(`{"new":true,"padding":"so that a patch is worth it, as it is much shorter than this"}`), false)
			if err != nil || doc == nil {
				t.Errorf("a poll that brings another text: %v, %v", doc, err)
			}
		})
	}
}

func TestAdoptRefuses(t *testing.T) {
	d := testDiffer(t)
	if _, _, err := d.update([]byte(`{"a":1}`), false); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{`{"a": 2}`, `{"a":`, ``, "{\"a\":\n2}"} {
		if doc, _, err := d.adopt(feed.Version(nil, []byte(text)), []byte(text), false); err == nil {
			t.Errorf("%q is taken: %v", text, doc)
		}
	}
	if _, _, err := d.adopt("AAAAAAAAAAAAAAAAAAAAAA", []byte(`{"a":2}`), false); err == nil {
		t.Error("a text of another version is taken")
	}
	if doc, change, err := d.update([]byte(`{"a":1}`), false); doc != nil || err != nil {
		t.Errorf("after all that, the document is not what it was: %v %s %v", doc, change.Patch, err)
	}
}
