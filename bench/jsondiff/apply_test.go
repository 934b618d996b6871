package main

import (
	"encoding/json"
	"fmt"
	"math/rand"
	"strconv"
	"strings"
	"testing"

	"github.com/pollsse/caddy-poll-sse/internal/judge"
	"github.com/pollsse/caddy-poll-sse/jsondiff"
)

// Random patches, good and bad, through jsondiff.Apply and through the judge:
// both refuse, or both give the same document.
func TestApplyAgainstJudge(t *testing.T) {
	r := rand.New(rand.NewSource(1))
	names := []string{"a", "b", "", "a/b", "~", "0", "-", "ü"}
	var value func(depth int) string
	value = func(depth int) string {
		switch n := r.Intn(9); {
		case n < 3 && depth > 0:
			items := make([]string, r.Intn(5))
			for i := range items {
				items[i] = value(depth - 1)
			}
			return list(items)
		case n < 6 && depth > 0:
			var members []string
			for _, i := range r.Perm(len(names))[:r.Intn(5)] {
				name, _ := json.Marshal(names[i])
				members = append(members, string(name)+":"+value(depth-1))
			}
			return "{" + strings.Join(members, ",") + "}"
		}
		return []string{"null", "true", "1", "1.0", "10e-1", "12345678901234567890", `"x"`, `"\u0078"`, `""`}[r.Intn(9)]
	}
	escape := strings.NewReplacer("~", "~0", "/", "~1")
	// pointer goes down the document at random and now and then astray.
	pointer := func(doc any) string {
		p := ""
		for r.Intn(5) > 0 {
			token := ""
			switch v := doc.(type) {
			case map[string]any:
				token = names[r.Intn(len(names))]
				doc = v[token]
			case []any:
				token = fmt.Sprint(r.Intn(len(v) + 2))
				if r.Intn(8) == 0 {
					token = []string{"-", "01", "-1", "1e0", ""}[r.Intn(5)]
				}
				doc = nil
				if i, err := strconv.Atoi(token); err == nil && i >= 0 && i < len(v) {
					doc = v[i]
				}
			default:
				if r.Intn(10) > 0 {
					return p
				}
				token = "0"
			}
			p += "/" + escape.Replace(token)
		}
		if r.Intn(200) == 0 {
			p += "~2"
		}
		return p
	}
	applied := 0
	for range 60_000 {
		text := value(4)
		doc, err := judge.Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		ops := make([]string, 1+r.Intn(3))
		for i := range ops {
			path, _ := json.Marshal(pointer(doc))
			from, _ := json.Marshal(pointer(doc))
			op := []string{"add", "add", "remove", "replace", "move", "copy", "test"}[r.Intn(7)]
			ops[i] = fmt.Sprintf(`{"op":"%s","path":%s,"from":%s,"value":%s}`, op, path, from, value(2))
		}
		patch := list(ops)
		want, wrong := judge.ApplyPatch(doc, []byte(patch))
		got, err := jsondiff.Apply([]byte(text), []byte(patch))
		if (err == nil) != (wrong == nil) {
			t.Fatalf("doc   %s\npatch %s\ngot   %s, %v\nwant  %v, %v", text, patch, got, err, want, wrong)
		}
		if err != nil {
			continue
		}
		applied++
		if v, err := judge.Parse(got); err != nil || !judge.SameValue(v, want) {
			t.Fatalf("doc   %s\npatch %s\ngot   %s, %v\nwant  %v", text, patch, got, err, want)
		}
	}
	if applied < 10_000 {
		t.Errorf("only %d patches applied", applied)
	}
}
