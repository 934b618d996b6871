package inspect

import (
	"cmp"
	"encoding/json"
	"maps"
	"slices"
	"strings"
)

// List is a list of objects in the document.
type List struct {
	Path  string `json:"path"`  // JSON Pointer, "*" for any token
	Items int    `json:"items"` // most in any version

	// Keys are the members that every item has and that differ between all
	// items of one list, the best first. By the best one, most items are found
	// again in the next version.
	Keys []string `json:"keys,omitempty"`

	// Identify is the key that makes patches smaller if it is configured;
	// empty if the list's items are found without it, or do not come and go.
	Identify string `json:"identify,omitempty"`

	// PatchBytes are what all patches take without and with Identify.
	PatchBytes    int64 `json:"patch_bytes,omitempty"`
	IdentifyBytes int64 `json:"identify_bytes,omitempty"`
}

const (
	maxLists   = 64 // that are looked at; further ones are ignored
	maxKeys    = 3  // of a list that are tried
	maxMembers = 32 // of an item that are looked at for a key
)

// lists gathers the lists of objects of several versions.
type lists struct {
	byPath map[string]*listStudy
}

type listStudy struct {
	items      int
	candidates map[string]*candidate // by member; nil before the first item
}

type candidate struct {
	values, before map[string]bool // of this version and of the last one
	again, gone    int             // how many values were found again in the next version, and how many not
}

// add looks at one more version.
func (l *lists) add(doc any) {
	if l.byPath == nil {
		l.byPath = make(map[string]*listStudy)
	}
	for _, s := range l.byPath {
		for _, c := range s.candidates {
			c.values, c.before = nil, c.values
		}
	}
	l.look(doc, nil)
	for _, s := range l.byPath {
		for _, c := range s.candidates {
			for v := range c.before {
				if c.values[v] {
					c.again++
				} else {
					c.gone++
				}
			}
		}
	}
}

func (l *lists) look(value any, path []string) {
	switch v := value.(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			l.look(v[name], append(path, name))
		}
	case []any:
		l.list(v, pattern(path))
		for _, item := range v {
			l.look(item, append(path, anyItem))
		}
	}
}

// list holds the candidates of a list's keys against its items.
func (l *lists) list(items []any, at string) {
	if len(items) == 0 || slices.ContainsFunc(items, func(v any) bool { _, ok := v.(map[string]any); return !ok }) {
		return
	}
	s := l.byPath[at]
	if s == nil {
		if len(l.byPath) == maxLists {
			return
		}
		s = new(listStudy)
		l.byPath[at] = s
	}
	s.items = max(s.items, len(items))
	if s.candidates == nil {
		s.candidates = make(map[string]*candidate)
		first := items[0].(map[string]any)
		for _, name := range slices.Sorted(maps.Keys(first)) {
			if _, ok := scalar(first[name]); ok && len(s.candidates) < maxMembers {
				s.candidates[name] = new(candidate)
			}
		}
	}
	for name, c := range s.candidates {
		here := make(map[string]bool, len(items))
		for _, item := range items {
			v, ok := scalar(item.(map[string]any)[name])
			if !ok || here[v] {
				delete(s.candidates, name)
				break
			}
			here[v] = true
		}
		if c.values == nil {
			c.values = here
		} else {
			maps.Copy(c.values, here)
		}
	}
}

// found returns the lists of at least two items, the longest first.
func (l *lists) found() []List {
	var out []List
	for at, s := range l.byPath {
		if s.items < 2 {
			continue
		}
		names := slices.SortedFunc(maps.Keys(s.candidates), func(a, b string) int {
			return cmp.Or(-cmp.Compare(s.candidates[a].stability(), s.candidates[b].stability()), -cmp.Compare(keyLike(a), keyLike(b)), cmp.Compare(a, b))
		})
		names = slices.DeleteFunc(names, func(n string) bool { return s.candidates[n].stability() < 5 })
		out = append(out, List{Path: at, Items: s.items, Keys: names[:min(len(names), maxKeys)]})
	}
	slices.SortFunc(out, func(a, b List) int {
		return cmp.Or(-cmp.Compare(a.Items, b.Items), cmp.Compare(a.Path, b.Path))
	})
	return out
}

// stability is how many of ten values were found again in the next version. A
// price that happens to be different everywhere identifies nothing.
func (c *candidate) stability() int {
	if c.again+c.gone == 0 {
		return 10
	}
	return 10 * c.again / (c.again + c.gone)
}

// keyLike reports whether a member is named like a key.
func keyLike(name string) int {
	lower := strings.ToLower(name)
	switch {
	case lower == "id" || lower == "_id" || lower == "uuid" || lower == "key":
		return 3
	case strings.HasSuffix(lower, "id"):
		return 2
	case slices.Contains([]string{"symbol", "slug", "code", "name", "title", "url", "path"}, lower):
		return 1
	}
	return 0
}

// keys returns the best key of each list that has one.
func (l *lists) keys() map[string]string {
	keys := make(map[string]string)
	for _, list := range l.found() {
		if len(list.Keys) > 0 {
			keys[list.Path] = list.Keys[0]
		}
	}
	return keys
}

// number returns a value that is a number, and reports whether it is one.
func number(v any) (float64, bool) {
	n, ok := v.(json.Number)
	if !ok {
		return 0, false
	}
	f, err := n.Float64()
	return f, err == nil
}
