package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"
	"strconv"
	"strings"
)

// The judge decides whether a patch is exact. It shares nothing with jsondiff:
// plain maps and slices from encoding/json, RFC 6902 and 7396 word by word.
// Numbers are compared by value, which is kinder than jsondiff is to itself:
// a peer may write 1.5 for 1.50.

func decode(text []byte) (any, error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, errors.New("something follows the document")
	}
	return v, nil
}

// judge says why patch does not turn old into new, or nil.
func judge(old, new, patch []byte, merge bool) error {
	doc, err := decode(old)
	if err != nil {
		return err
	}
	want, err := decode(new)
	if err != nil {
		return err
	}
	p, err := decode(patch)
	if err != nil {
		return fmt.Errorf("patch: %w", err)
	}
	if merge {
		doc = mergeInto(doc, p)
	} else if doc, err = applyOps(doc, p); err != nil {
		return err
	}
	if !equal(doc, want) {
		return errors.New("another document")
	}
	return nil
}

func equal(a, b any) bool {
	switch a := a.(type) {
	case map[string]any:
		b, ok := b.(map[string]any)
		if !ok || len(a) != len(b) {
			return false
		}
		for name, v := range a {
			if w, ok := b[name]; !ok || !equal(v, w) {
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
	case json.Number:
		b, ok := b.(json.Number)
		if !ok || a == b {
			return ok
		}
		x, xok := new(big.Rat).SetString(string(a))
		y, yok := new(big.Rat).SetString(string(b))
		return xok && yok && x.Cmp(y) == 0
	}
	return a == b
}

// mergeInto is RFC 7396 section 2.
func mergeInto(target, patch any) any {
	p, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	t, ok := target.(map[string]any)
	if !ok {
		t = map[string]any{}
	}
	for name, v := range p {
		if v == nil {
			delete(t, name)
		} else {
			t[name] = mergeInto(t[name], v)
		}
	}
	return t
}

func applyOps(doc, patch any) (any, error) {
	ops, ok := patch.([]any)
	if !ok {
		return nil, errors.New("the patch is no array")
	}
	for i, o := range ops {
		op, ok := o.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("operation %d is no object", i)
		}
		var err error
		if doc, err = applyOp(doc, op); err != nil {
			return nil, fmt.Errorf("operation %d: %w", i, err)
		}
	}
	return doc, nil
}

func applyOp(doc any, op map[string]any) (any, error) {
	pointer := func(name string) ([]string, error) {
		s, ok := op[name].(string)
		if !ok {
			return nil, fmt.Errorf("no %s", name)
		}
		if s == "" {
			return nil, nil
		}
		if s[0] != '/' {
			return nil, fmt.Errorf("%s %q", name, s)
		}
		tokens := strings.Split(s[1:], "/")
		for i, t := range tokens {
			if strings.Contains(strings.NewReplacer("~0", "", "~1", "").Replace(t), "~") {
				return nil, fmt.Errorf("%s %q", name, s)
			}
			tokens[i] = strings.ReplaceAll(strings.ReplaceAll(t, "~1", "/"), "~0", "~")
		}
		return tokens, nil
	}
	path, err := pointer("path")
	if err != nil {
		return nil, err
	}
	value, has := op["value"]
	kind, _ := op["op"].(string)
	switch kind {
	case "add", "replace", "test":
		if !has {
			return nil, errors.New("no value")
		}
	case "remove":
	case "move", "copy":
		from, err := pointer("from")
		if err != nil {
			return nil, err
		}
		if value, err = get(doc, from); err != nil {
			return nil, err
		}
		if kind == "copy" {
			return edit(doc, path, "add", clone(value))
		}
		if op["from"] == op["path"] {
			return doc, nil
		}
		if len(from) < len(path) && strings.Join(path[:len(from)], "\x00") == strings.Join(from, "\x00") {
			return nil, errors.New("moved into itself")
		}
		if doc, err = edit(doc, from, "remove", nil); err != nil {
			return nil, err
		}
		return edit(doc, path, "add", value)
	default:
		return nil, fmt.Errorf("unknown operation %q", kind)
	}
	if kind == "test" {
		v, err := get(doc, path)
		if err == nil && !equal(v, value) {
			err = errors.New("test")
		}
		return doc, err
	}
	return edit(doc, path, kind, clone(value))
}

func clone(v any) any {
	switch v := v.(type) {
	case map[string]any:
		c := make(map[string]any, len(v))
		for name, w := range v {
			c[name] = clone(w)
		}
		return c
	case []any:
		c := make([]any, len(v))
		for i, w := range v {
			c[i] = clone(w)
		}
		return c
	}
	return v
}

func place(token string, n int) (int, error) {
	i, err := strconv.Atoi(token)
	if err != nil || strconv.Itoa(i) != token || i < 0 || i >= n {
		return 0, fmt.Errorf("no element %q", token)
	}
	return i, nil
}

func get(doc any, path []string) (any, error) {
	for _, token := range path {
		switch v := doc.(type) {
		case map[string]any:
			w, ok := v[token]
			if !ok {
				return nil, fmt.Errorf("no member %q", token)
			}
			doc = w
		case []any:
			i, err := place(token, len(v))
			if err != nil {
				return nil, err
			}
			doc = v[i]
		default:
			return nil, fmt.Errorf("%q below a scalar", token)
		}
	}
	return doc, nil
}

func edit(doc any, path []string, kind string, value any) (any, error) {
	if len(path) == 0 {
		if kind == "remove" {
			return nil, errors.New("the whole document removed")
		}
		return value, nil
	}
	token, last := path[0], len(path) == 1
	switch v := doc.(type) {
	case map[string]any:
		child, ok := v[token]
		if !ok && !(last && kind == "add") {
			return nil, fmt.Errorf("no member %q", token)
		}
		switch {
		case !last:
			w, err := edit(child, path[1:], kind, value)
			if err != nil {
				return nil, err
			}
			v[token] = w
		case kind == "remove":
			delete(v, token)
		default:
			v[token] = value
		}
		return v, nil
	case []any:
		if last && kind == "add" {
			i := len(v)
			if token != "-" {
				var err error
				if i, err = place(token, len(v)+1); err != nil {
					return nil, err
				}
			}
			v = append(v, nil)
			copy(v[i+1:], v[i:])
			v[i] = value
			return v, nil
		}
		i, err := place(token, len(v))
		if err != nil {
			return nil, err
		}
		switch {
		case !last:
			if v[i], err = edit(v[i], path[1:], kind, value); err != nil {
				return nil, err
			}
		case kind == "remove":
			v = append(v[:i], v[i+1:]...)
		default:
			v[i] = value
		}
		return v, nil
	}
	return nil, fmt.Errorf("%q below a scalar", token)
}
