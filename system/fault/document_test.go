package main

import (
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/pollsse/caddy-poll-sse/internal/judge"
)

// TestDocuments: each step is a JSON text of its own, the same whenever it is
// asked for, and no other document passes for it.
func TestDocuments(t *testing.T) {
	for _, owner := range []string{everybody, selected, paged, appended} {
		t.Run(owner, func(t *testing.T) { testDocuments(t, owner) })
	}
}

func testDocuments(t *testing.T, owner string) {
	d, again := newDocuments(7), newDocuments(7)
	other := newDocuments(8)
	same := 0
	for step := int64(1); step <= 300; step++ {
		text := d.text(owner, step)
		doc, err := judge.Parse(text)
		if err != nil {
			t.Fatalf("step %d: %v\n%s", step, err, text)
		}
		if got, err := d.check(doc, owner, step); err != nil || got != step {
			t.Fatalf("step %d is taken for %d, %v", step, got, err)
		}
		if string(again.text(owner, step)) != string(text) {
			t.Fatalf("step %d is not the same twice", step)
		}
		if string(other.text(owner, step)) == string(text) {
			same++
		}
		for _, wrong := range []struct {
			owner  string
			newest int64
			doc    any
		}{
			{alice, step, doc},
			{owner, step - 1, doc},
			{owner, step + 1, edited(t, text, `"step":`, `"step":1`)},
			{owner, step, edited(t, text, `row 7 of the bulk`, `row 8 of the bulk`)},
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
			if _, err := d.check(doc, owner, step); err == nil {
				t.Errorf("step %d passes with another price", step)
			}
		}
	}
	if same > 0 {
		t.Errorf("%d steps are the same with another seed", same)
	}
	for _, doc := range []any{nil, map[string]any{}, []any{}, "x"} {
		if _, err := d.check(doc, owner, 1); err == nil {
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

// TestPages: the lists of the pages are that of the document.
func TestPages(t *testing.T) {
	d := newDocuments(7)
	type page struct {
		Step  int64             `json:"step"`
		Next  string            `json:"next"`
		Rows  []json.RawMessage `json:"rows"`
		Owner string            `json:"owner"`
	}
	read := func(text []byte) (p page) {
		t.Helper()
		if err := json.Unmarshal(text, &p); err != nil {
			t.Fatal(err)
		}
		return p
	}
	for step := int64(1); step <= 100; step++ {
		want := read(d.text(paged, step))
		got := read(d.page(step, 1))
		for next := 2; next <= pages; next++ {
			got.Rows = append(got.Rows, read(d.page(step, next)).Rows...)
		}
		if !reflect.DeepEqual(got, want) {
			t.Fatalf("the pages of step %d are %+v, want %+v", step, got, want)
		}
		if next := read(d.page(step, pages)).Next; next != "" {
			t.Fatalf("there is a page %s", next)
		}
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
