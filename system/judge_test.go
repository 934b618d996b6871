package system_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"
)

// This file is the judge: JSON, RFC 6902 and RFC 7396 as a client that knows
// nothing of the module would implement them. Numbers are compared as written.

// parse reads one JSON text and nothing after it.
func parse(text []byte) (any, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more text after the JSON value")
	}
	return v, nil
}

// equal compares two values; numbers as they are written.
func equal(a, b any) bool {
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for k, v := range a {
			w, ok := b[k]
			if !ok || !equal(v, w) {
				return false
			}
		}
		return true
	case []any:
		b, ok := b.([]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for i := range a {
			if !equal(a[i], b[i]) {
				return false
			}
		}
		return true
	default:
		return a == b
	}
}

func clone(v any) any {
	switch v := v.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k, e := range v {
			out[k] = clone(e)
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i, e := range v {
			out[i] = clone(e)
		}
		return out
	}
	return v
}

// operation is one member of a JSON Patch. Value is kept raw so that a missing
// one differs from null.
type operation struct {
	Op    string          `json:"op"`
	Path  *string         `json:"path"`
	From  *string         `json:"from"`
	Value json.RawMessage `json:"value"`
}

// applyPatch applies an RFC 6902 patch. The document is changed in place.
func applyPatch(doc any, patch []byte) (any, error) {
	var ops []operation
	d := json.NewDecoder(bytes.NewReader(patch))
	d.DisallowUnknownFields()
	if err := d.Decode(&ops); err != nil {
		return nil, fmt.Errorf("patch is not an array of operations: %w", err)
	}
	if len(ops) == 0 {
		return nil, errors.New("patch has no operations")
	}
	for i, op := range ops {
		var err error
		if doc, err = op.apply(doc); err != nil {
			return nil, fmt.Errorf("operation %d (%s): %w", i, op.Op, err)
		}
	}
	return doc, nil
}

func (o operation) apply(doc any) (any, error) {
	if o.Path == nil {
		return nil, errors.New("no path")
	}
	path, err := tokens(*o.Path)
	if err != nil {
		return nil, err
	}
	var value any
	switch o.Op {
	case "add", "replace", "test":
		if o.Value == nil {
			return nil, errors.New("no value")
		}
		if value, err = parse(o.Value); err != nil {
			return nil, err
		}
	case "move", "copy":
		if o.From == nil {
			return nil, errors.New("no from")
		}
		from, err := tokens(*o.From)
		if err != nil {
			return nil, err
		}
		if value, err = get(doc, from); err != nil {
			return nil, err
		}
		if o.Op == "copy" {
			value = clone(value)
			break
		}
		if strings.HasPrefix(*o.Path, *o.From+"/") {
			return nil, errors.New("moves a value into itself")
		}
		if doc, err = edit(doc, from, "remove", nil); err != nil {
			return nil, err
		}
	case "remove":
	default:
		return nil, fmt.Errorf("no such operation")
	}
	switch o.Op {
	case "test":
		got, err := get(doc, path)
		if err == nil && !equal(got, value) {
			err = errors.New("test fails")
		}
		return doc, err
	case "replace", "remove":
		return edit(doc, path, o.Op, value)
	}
	return edit(doc, path, "add", value)
}

func tokens(pointer string) ([]string, error) {
	if pointer == "" {
		return nil, nil
	}
	if pointer[0] != '/' {
		return nil, fmt.Errorf("pointer %q does not start with /", pointer)
	}
	parts := strings.Split(pointer[1:], "/")
	for i, p := range parts {
		parts[i] = strings.ReplaceAll(strings.ReplaceAll(p, "~1", "/"), "~0", "~")
	}
	return parts, nil
}

// index reads an array index, RFC 6901 section 4: no sign, no leading zero.
func index(token string, most int) (int, error) {
	n, err := strconv.Atoi(token)
	if err != nil || strconv.Itoa(n) != token || n < 0 || n > most {
		return 0, fmt.Errorf("index %q is not one of 0 to %d", token, most)
	}
	return n, nil
}

func get(doc any, path []string) (any, error) {
	for _, token := range path {
		switch v := doc.(type) {
		case map[string]any:
			member, ok := v[token]
			if !ok {
				return nil, fmt.Errorf("no member %q", token)
			}
			doc = member
		case []any:
			i, err := index(token, len(v)-1)
			if err != nil {
				return nil, err
			}
			doc = v[i]
		default:
			return nil, fmt.Errorf("%q leads into a scalar", token)
		}
	}
	return doc, nil
}

// edit adds, replaces or removes at path.
func edit(doc any, path []string, what string, value any) (any, error) {
	if len(path) == 0 {
		if what == "remove" {
			return nil, errors.New("removes the whole document")
		}
		return value, nil
	}
	token, last := path[0], len(path) == 1
	switch v := doc.(type) {
	case map[string]any:
		member, ok := v[token]
		if !ok && (!last || what != "add") {
			return nil, fmt.Errorf("no member %q", token)
		}
		if last && what == "remove" {
			delete(v, token)
			return v, nil
		}
		if !last {
			var err error
			if value, err = edit(member, path[1:], what, value); err != nil {
				return nil, err
			}
		}
		v[token] = value
		return v, nil
	case []any:
		if last && what == "add" {
			i := len(v)
			if token != "-" {
				var err error
				if i, err = index(token, len(v)); err != nil {
					return nil, err
				}
			}
			v = append(v, nil)
			copy(v[i+1:], v[i:])
			v[i] = value
			return v, nil
		}
		i, err := index(token, len(v)-1)
		if err != nil {
			return nil, err
		}
		if last && what == "remove" {
			return append(v[:i], v[i+1:]...), nil
		}
		if !last {
			if value, err = edit(v[i], path[1:], what, value); err != nil {
				return nil, err
			}
		}
		v[i] = value
		return v, nil
	}
	return nil, fmt.Errorf("%q leads into a scalar", token)
}

// applyMerge applies an RFC 7396 merge patch. The target is changed in place.
func applyMerge(target, patch any) any {
	members, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	object, ok := target.(map[string]any)
	if !ok {
		object = map[string]any{}
	}
	for k, v := range members {
		if v == nil {
			delete(object, k)
			continue
		}
		object[k] = applyMerge(object[k], v)
	}
	return object
}

// matches tells whether a JSON text says the value v, without building a
// value of its own: the recordings are large.
func matches(v any, text []byte) bool {
	rest, ok := match(v, text)
	return ok && len(skipSpace(rest)) == 0
}

func skipSpace(b []byte) []byte {
	i := 0
	for i < len(b) && (b[i] == ' ' || b[i] == '\n' || b[i] == '\r' || b[i] == '\t') {
		i++
	}
	return b[i:]
}

func match(v any, b []byte) ([]byte, bool) {
	b = skipSpace(b)
	if len(b) == 0 {
		return nil, false
	}
	switch b[0] {
	case '{':
		object, ok := v.(map[string]any)
		if !ok {
			return nil, false
		}
		n := 0
		for b = skipSpace(b[1:]); len(b) > 0 && b[0] != '}'; n++ {
			key, rest, ok := stringLiteral(b)
			if !ok {
				return nil, false
			}
			member, ok := object[key]
			if !ok {
				return nil, false
			}
			if rest = skipSpace(rest); len(rest) == 0 || rest[0] != ':' {
				return nil, false
			}
			if b, ok = match(member, rest[1:]); !ok {
				return nil, false
			}
			if b = skipSpace(b); len(b) > 0 && b[0] == ',' {
				b = skipSpace(b[1:])
			}
		}
		return b[min(1, len(b)):], n == len(object) && len(b) > 0
	case '[':
		array, ok := v.([]any)
		if !ok {
			return nil, false
		}
		n := 0
		for b = skipSpace(b[1:]); len(b) > 0 && b[0] != ']'; n++ {
			if n >= len(array) {
				return nil, false
			}
			if b, ok = match(array[n], b); !ok {
				return nil, false
			}
			if b = skipSpace(b); len(b) > 0 && b[0] == ',' {
				b = skipSpace(b[1:])
			}
		}
		return b[min(1, len(b)):], n == len(array) && len(b) > 0
	case '"':
		s, rest, ok := stringLiteral(b)
		want, isString := v.(string)
		return rest, ok && isString && s == want
	}
	i := 0
	for i < len(b) && strings.IndexByte(" \n\r\t,]}", b[i]) < 0 {
		i++
	}
	switch word := b[:i]; v := v.(type) {
	case json.Number:
		return b[i:], string(word) == string(v)
	case bool:
		return b[i:], string(word) == strconv.FormatBool(v)
	case nil:
		return b[i:], string(word) == "null"
	}
	return nil, false
}

func stringLiteral(b []byte) (string, []byte, bool) {
	if len(b) == 0 || b[0] != '"' {
		return "", nil, false
	}
	end := 1
	for {
		i := bytes.IndexByte(b[end:], '"')
		if i < 0 {
			return "", nil, false
		}
		end += i + 1
		slashes := 0
		for b[end-2-slashes] == '\\' {
			slashes++
		}
		if slashes%2 == 0 {
			break
		}
	}
	if bytes.IndexByte(b[:end], '\\') < 0 {
		return string(b[1 : end-1]), b[end:], true
	}
	var s string
	return s, b[end:], json.Unmarshal(b[:end], &s) == nil
}

func TestJudgeItself(t *testing.T) {
	for _, c := range []struct{ doc, patch, want string }{
		{`{"a":[1,2,3]}`, `[{"op":"add","path":"/a/1","value":9}]`, `{"a":[1,9,2,3]}`},
		{`{"a":[1,2,3]}`, `[{"op":"remove","path":"/a/0"},{"op":"add","path":"/a/-","value":null}]`, `{"a":[2,3,null]}`},
		{`{"a":{"b":1.10}}`, `[{"op":"move","from":"/a/b","path":"/c~1d"}]`, `{"a":{},"c/d":1.10}`},
		{`{"a":{"b":1}}`, `[{"op":"copy","from":"/a","path":"/c"},{"op":"replace","path":"/c/b","value":1E400}]`, `{"a":{"b":1},"c":{"b":1E400}}`},
		{`{"a":1}`, `[{"op":"test","path":"/a","value":1.0}]`, ``},
		{`{"a":1}`, `[{"op":"replace","path":"/b","value":1}]`, ``},
		{`[1]`, `[{"op":"add","path":"/01","value":1}]`, ``},
		{`[1]`, `[{"op":"remove","path":"/-"}]`, ``},
		{`[1]`, `[]`, ``},
	} {
		doc, err := parse([]byte(c.doc))
		if err != nil {
			t.Fatal(err)
		}
		got, err := applyPatch(doc, []byte(c.patch))
		if c.want == "" {
			if err == nil {
				t.Errorf("%s with %s: want an error, got %v", c.doc, c.patch, got)
			}
			continue
		}
		want, _ := parse([]byte(c.want))
		if err != nil || !equal(got, want) || !matches(got, []byte(c.want)) {
			t.Errorf("%s with %s: got %v, %v, want %s", c.doc, c.patch, got, err, c.want)
		}
	}
	for _, c := range [][2]string{
		{`{"a":1}`, `{"a":1,"b":2}`}, {`{"a":1,"b":2}`, `{"a":1}`}, {`[1]`, `[1,2]`}, {`[1,2]`, `[1]`},
		{`1.0`, `1`}, {`"a\\"`, `"a"`}, {`null`, `false`}, {`[]`, `[`}, {`{"a":null}`, `{}`}, {`{"a":1}`, `{"a":1} 2`},
	} {
		v, _ := parse([]byte(c[0]))
		if !matches(v, []byte(" "+c[0]+"\n")) || matches(v, []byte(c[1])) {
			t.Errorf("matches(%s): itself %v, %s %v", c[0], matches(v, []byte(c[0])), c[1], matches(v, []byte(c[1])))
		}
	}
	doc, _ := parse([]byte(`{"a":{"b":1,"c":2},"d":[1]}`))
	patch, _ := parse([]byte(`{"a":{"b":null,"e":[null]},"d":{"x":1}}`))
	if got := applyMerge(doc, patch); !matches(got, []byte(`{"a":{"c":2,"e":[null]},"d":{"x":1}}`)) {
		t.Errorf("merge: got %v", got)
	}
}
