package jsondiff

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

func TestFilter(t *testing.T) {
	readCases(t, "select.txtar", func(t *testing.T, c map[string]string) {
		var got []byte
		var err error
		if s, ok := c["select"]; ok {
			p, bad := ParsePointer(s)
			if bad != nil {
				t.Fatal(bad)
			}
			got, err = Select([]byte(c["text"]), p)
		} else {
			var patterns []Pattern
			for _, s := range strings.Split(c["omit"], "\n") {
				p, bad := ParsePattern(s)
				if bad != nil {
					t.Fatal(bad)
				}
				patterns = append(patterns, p)
			}
			got, err = Omit([]byte(c["text"]), patterns)
		}
		if want, fails := c["error"]; fails {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("got %s, %v, want error %s", got, err, want)
			}
			return
		}
		if err != nil || string(got) != c["want"] {
			t.Errorf("got %s, %v, want %s", got, err, c["want"])
		}
	})
}

func TestOmitGivesTheTextItself(t *testing.T) {
	text := []byte(`{"a":[1]}`)
	p, _ := ParsePattern("/a/*/x")
	got, err := Omit(text, []Pattern{p})
	if err != nil || &got[0] != &text[0] {
		t.Errorf("got %s, %v", got, err)
	}
}

func TestSelectRFC6901(t *testing.T) {
	var table struct {
		Doc      string
		Pointers [][2]json.RawMessage
	}
	if err := json.Unmarshal(conformance(t, "rfc/rfc6901_section5.json"), &table); err != nil {
		t.Fatal(err)
	}
	for _, c := range table.Pointers {
		var s string
		if err := json.Unmarshal(c[0], &s); err != nil {
			t.Fatal(err)
		}
		want := c[1]
		if s == "" {
			want = json.RawMessage(table.Doc)
		}
		p, err := ParsePointer(s)
		if err != nil {
			t.Fatal(err)
		}
		got, err := Select([]byte(table.Doc), p)
		if err != nil || !sameJSON(t, got, want) {
			t.Errorf("Select(%s, %q) = %s, %v, want %s", table.Doc, s, got, err, want)
		}
	}
}

// Omit gives what removing the same places one by one gives.
func FuzzOmit(f *testing.F) {
	addCorpus(f)
	for _, c := range seed(f, "select.txtar", "text", "omit") {
		f.Add(c[0], strings.TrimSuffix(c[1], "\n"))
	}
	f.Fuzz(func(t *testing.T, text, pattern string) {
		p, err := ParsePattern(pattern)
		if err != nil || p.Len() == 0 {
			return
		}
		got, err := Omit([]byte(text), []Pattern{p})
		if err != nil {
			return
		}
		if !json.Valid(got) {
			t.Fatalf("Omit(%s, %s) = %s: not valid", text, pattern, got)
		}
		s, err := parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		var ops []string
		var walk func(i int32, at Pointer)
		walk = func(i int32, at Pointer) {
			if coversPlace(p, at) && p.Len() == len(at) {
				ops = append(ops, fmt.Sprintf(`{"op":"remove","path":%s}`, appendQuoted(nil, []byte(at.String()))))
				return
			}
			switch end := s.tape.stop(i); s.tape.kind(i) {
			case kindObject:
				table := s.table(i)
				for _, c := range table.visible {
					walk(c, below(at, string(unescape(s.name(c)))))
				}
			case kindArray:
				n := 0
				for c := s.tape.inside(i); c < end; c = s.tape.next(c) {
					walk(c, below(at, fmt.Sprint(n)))
					n++
				}
			}
		}
		walk(0, nil)
		for i, j := 0, len(ops)-1; i < j; i, j = i+1, j-1 {
			ops[i], ops[j] = ops[j], ops[i] // from the end, so that no index changes
		}
		want, err := Apply([]byte(text), []byte("["+strings.Join(ops, ",")+"]"))
		if err != nil || !sameJSON(t, got, want) {
			t.Fatalf("Omit(%s, %s) = %s, want %s, %v", text, pattern, got, want, err)
		}
	})
}
