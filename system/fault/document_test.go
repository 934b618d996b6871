package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/pollsse/caddy-poll-sse/internal/judge"
)

// TestDocuments: each step is a JSON text of its own, the same whenever it is
// asked for, and no other document passes for it.
func TestDocuments(t *testing.T) {
	d, again := newDocuments(7), newDocuments(7)
	other := newDocuments(8)
	same := 0
	for step := int64(1); step <= 300; step++ {
		text := d.text("everybody", step)
		doc, err := judge.Parse(text)
		if err != nil {
			t.Fatalf("step %d: %v\n%s", step, err, text)
		}
		if got, err := d.check(doc, "everybody", step); err != nil || got != step {
			t.Fatalf("step %d is taken for %d, %v", step, got, err)
		}
		if string(again.text("everybody", step)) != string(text) {
			t.Fatalf("step %d is not the same twice", step)
		}
		if string(other.text("everybody", step)) == string(text) {
			same++
		}
		for _, wrong := range []struct {
			owner  string
			newest int64
			doc    any
		}{
			{"alice", step, doc},
			{"everybody", step - 1, doc},
			{"everybody", step + 1, edited(t, text, `"step":`, `"step":1`)},
			{"everybody", step, edited(t, text, `row 7 of the bulk`, `row 8 of the bulk`)},
		} {
			if wrong.doc == nil {
				continue
			}
			if _, err := d.check(wrong.doc, wrong.owner, wrong.newest); err == nil {
				t.Errorf("step %d passes for %+v", step, wrong)
			}
		}
		if object, ok := doc.(map[string]any); ok {
			object["price"] = json.Number("1.5")
			if _, err := d.check(doc, "everybody", step); err == nil {
				t.Errorf("step %d passes with another price", step)
			}
		}
	}
	if same > 0 {
		t.Errorf("%d steps are the same with another seed", same)
	}
	for _, doc := range []any{nil, map[string]any{}, []any{}, "x"} {
		if _, err := d.check(doc, "everybody", 1); err == nil {
			t.Errorf("%v passes", doc)
		}
	}
	p, err := judge.Parse([]byte(poison))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := d.check(p, "poison", 1<<40); err == nil {
		t.Error("poison passes for a document")
	}
}

// edited is the document with the first from made into to, nil if it has none.
func edited(t *testing.T, text []byte, from, to string) any {
	t.Helper()
	if !strings.Contains(string(text), from) {
		return nil
	}
	doc, err := judge.Parse([]byte(strings.Replace(string(text), from, to, 1)))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}
