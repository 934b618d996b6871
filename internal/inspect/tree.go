package inspect

import (
	"bytes"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// anyItem stands for any item of a list in a pattern, as in omit and ignore.
const anyItem = "*"

// parse reads a JSON text; numbers stay as they are written.
func parse(text []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var doc any
	err := d.Decode(&doc)
	return doc, err
}

// walk visits every scalar of a document. The path is reused.
func walk(value any, path []string, visit func(path []string, value any)) {
	switch v := value.(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			walk(v[name], append(path, name), visit)
		}
	case []any:
		for _, item := range v {
			walk(item, append(path, anyItem), visit)
		}
	default:
		visit(path, value)
	}
}

var escapeToken = strings.NewReplacer("~", "~0", "/", "~1")

// pattern writes a path as a JSON Pointer, RFC 6901.
func pattern(path []string) string {
	var b strings.Builder
	for _, token := range path {
		b.WriteByte('/')
		b.WriteString(escapeToken.Replace(token))
	}
	return b.String()
}

// scalar returns a scalar's text, and false for anything else.
func scalar(value any) (string, bool) {
	switch v := value.(type) {
	case string:
		return "s" + v, true
	case json.Number:
		return "n" + string(v), true
	}
	return "", false
}

// group is an object or list in which a scalar has changed.
type group struct {
	own   []string        // patterns of its own scalars that have changed
	below map[string]bool // patterns of all that has changed in it
}

// observer is told of each scalar that has changed from one version to the
// next, and of each place where values have come, gone or become another type.
type observer interface {
	changedScalar(pattern string, old, new any)
	changedShape(pattern string)
}

// comparison compares versions, and the items of a list by their key if keys
// has one.
type comparison struct {
	keys   map[string]string // the member that tells a list's items apart, by the list's pattern
	seen   observer
	groups []group
}

// compare notes what two values differ in and returns the patterns of that.
func (c *comparison) compare(old, new any, path []string) map[string]bool {
	switch o := old.(type) {
	case map[string]any:
		if n, ok := new.(map[string]any); ok {
			return c.objects(o, n, path)
		}
	case []any:
		if n, ok := new.([]any); ok {
			return c.lists(o, n, path)
		}
	default:
		if old == new {
			return nil
		}
		if !isContainer(new) {
			at := pattern(path)
			c.seen.changedScalar(at, old, new)
			return map[string]bool{at: true}
		}
	}
	return c.shape(path)
}

func isContainer(v any) bool {
	switch v.(type) {
	case map[string]any, []any:
		return true
	}
	return false
}

func (c *comparison) shape(path []string) map[string]bool {
	at := pattern(path)
	c.seen.changedShape(at)
	return map[string]bool{at: true}
}

func (c *comparison) objects(old, new map[string]any, path []string) map[string]bool {
	var below map[string]bool
	var own []string
	add := func(name string, o, n any, both bool) {
		at := append(slices.Clip(path), name)
		var changed map[string]bool
		if both {
			changed = c.compare(o, n, at)
		} else {
			changed = c.shape(at)
		}
		if both && !isContainer(n) && len(changed) > 0 {
			own = append(own, pattern(at))
		}
		below = union(below, changed)
	}
	for _, name := range slices.Sorted(maps.Keys(old)) {
		n, both := new[name]
		add(name, old[name], n, both)
	}
	for name := range new {
		if _, both := old[name]; !both {
			add(name, nil, nil, false)
		}
	}
	c.group(own, below)
	return below
}

func (c *comparison) lists(old, new []any, path []string) map[string]bool {
	item := append(slices.Clip(path), anyItem)
	if key := c.keys[pattern(path)]; key != "" {
		if changed, ok := c.byKey(old, new, path, item, key); ok {
			return changed
		}
	}
	// A short list of scalars is a tuple, as [time, value] is.
	tuple := len(old) == len(new) && len(new) <= maxTuple && !slices.ContainsFunc(new, isContainer)
	first := 0
	for len(old) > 0 && len(new) > 0 && reflect.DeepEqual(old[0], new[0]) {
		old, new = old[1:], new[1:]
		first++
	}
	for len(old) > 0 && len(new) > 0 && reflect.DeepEqual(old[len(old)-1], new[len(new)-1]) {
		old, new = old[:len(old)-1], new[:len(new)-1]
	}
	if len(old) != len(new) {
		return c.shape(item)
	}
	var below map[string]bool
	var own []string
	for i := range old {
		at := item
		if tuple {
			at = append(slices.Clip(path), strconv.Itoa(first+i))
		}
		changed := c.compare(old[i], new[i], at)
		if !isContainer(new[i]) && len(changed) > 0 {
			own = append(own, pattern(at))
		}
		below = union(below, changed)
	}
	c.group(own, below)
	return below
}

// maxTuple is how many items a list of scalars may have to count as a tuple.
const maxTuple = 4

// byKey compares the items of two lists that have the same key. It is not ok
// if an item has none.
func (c *comparison) byKey(old, new []any, path, item []string, key string) (map[string]bool, bool) {
	index := func(list []any) (map[string]any, []string, bool) {
		items := make(map[string]any, len(list))
		order := make([]string, 0, len(list))
		for _, v := range list {
			o, _ := v.(map[string]any)
			k, ok := scalar(o[key])
			if !ok || items[k] != nil {
				return nil, nil, false
			}
			items[k] = v
			order = append(order, k)
		}
		return items, order, true
	}
	was, before, ok := index(old)
	if !ok {
		return nil, false
	}
	is, after, ok := index(new)
	if !ok {
		return nil, false
	}
	var below map[string]bool
	if !slices.Equal(before, after) {
		below = union(below, c.shape(item))
	}
	for _, k := range before {
		if n, both := is[k]; both {
			below = union(below, c.compare(was[k], n, item))
		}
	}
	return below, true
}

func (c *comparison) group(own []string, below map[string]bool) {
	if len(own) > 0 {
		c.groups = append(c.groups, group{own, below})
	}
}

func union(a, b map[string]bool) map[string]bool {
	if len(a) == 0 {
		return b
	}
	for k := range b {
		if !a[k] {
			a = maps.Clone(a) // others hold it
			maps.Copy(a, b)
			return a
		}
	}
	return a
}
