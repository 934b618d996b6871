// Package jsondiff computes the difference between two JSON texts. This file
// stands in for the real differ: right, but slow and index-wise.
package jsondiff

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"unicode/utf8"
)

var ErrDepth, ErrSize, ErrWork = errors.New("nested too deeply"), errors.New("too large"), errors.New("too much work")

type Limits struct{ Depth, Size, Work int }

type Options struct{ Limits }

type Kind int

const (
	First Kind = iota
	Unchanged
	Changed
)

type Change struct {
	Kind  Kind
	Patch []byte
}

type Differ struct {
	doc  []byte
	tree any
}

func NewDiffer(Options) *Differ { return &Differ{} }

func parse(b []byte) (any, []byte, error) {
	var v any
	if !utf8.Valid(b) {
		return nil, nil, errors.New("not UTF-8")
	}
	depth := 0
	for _, c := range b {
		switch c {
		case '[', '{':
			if depth++; depth > 1000 {
				return nil, nil, ErrDepth
			}
		case ']', '}':
			depth--
		}
	}
	var w bytes.Buffer
	if err := json.Compact(&w, b); err != nil {
		return nil, nil, err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	err := d.Decode(&v)
	return v, w.Bytes(), err
}

func (d *Differ) Next(b []byte) (Change, error) {
	tree, doc, err := parse(b)
	if err != nil {
		return Change{}, err
	}
	old, first := d.tree, d.doc == nil
	if !first && reflect.DeepEqual(old, tree) {
		return Change{Kind: Unchanged}, nil
	}
	d.tree, d.doc = tree, doc
	if first {
		return Change{Kind: First}, nil
	}
	ops := diff(nil, "", old, tree)
	return Change{Kind: Changed, Patch: []byte("[" + strings.Join(ops, ",") + "]")}, nil
}

func (d *Differ) Document() []byte { return d.doc }

func op(kind, path string, v any) string {
	p, _ := json.Marshal(path)
	if kind == "remove" {
		return fmt.Sprintf(`{"op":%q,"path":%s}`, kind, p)
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	_ = e.Encode(v)
	return fmt.Sprintf(`{"op":%q,"path":%s,"value":%s}`, kind, p, bytes.TrimSpace(b.Bytes()))
}

func diff(ops []string, path string, a, b any) []string {
	if reflect.DeepEqual(a, b) {
		return ops
	}
	if x, ok := a.(map[string]any); ok {
		if y, ok := b.(map[string]any); ok {
			for k := range x {
				p := path + "/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(k)
				if v, ok := y[k]; ok {
					ops = diff(ops, p, x[k], v)
				} else {
					ops = append(ops, op("remove", p, nil))
				}
			}
			for k, v := range y {
				if _, ok := x[k]; !ok {
					ops = append(ops, op("add", path+"/"+strings.NewReplacer("~", "~0", "/", "~1").Replace(k), v))
				}
			}
			return ops
		}
	}
	if x, ok := a.([]any); ok {
		if y, ok := b.([]any); ok {
			for i := len(x) - 1; i >= len(y); i-- {
				ops = append(ops, op("remove", fmt.Sprintf("%s/%d", path, i), nil))
			}
			for i := range y {
				p := fmt.Sprintf("%s/%d", path, i)
				if i < len(x) {
					ops = diff(ops, p, x[i], y[i])
				} else {
					ops = append(ops, op("add", p, y[i]))
				}
			}
			return ops
		}
	}
	return append(ops, op("replace", path, b))
}

func Merge(a, b []byte) ([]byte, error) {
	x, _, err := parse(a)
	if err != nil {
		return nil, err
	}
	y, _, err := parse(b)
	if err != nil {
		return nil, err
	}
	m, ok := merge(x, y)
	if !ok {
		return nil, errors.New("not expressible")
	}
	var w bytes.Buffer
	e := json.NewEncoder(&w)
	e.SetEscapeHTML(false)
	err = e.Encode(m)
	return bytes.TrimSpace(w.Bytes()), err
}

func merge(a, b any) (any, bool) {
	y, ok := b.(map[string]any)
	if !ok {
		return b, true
	}
	x, _ := a.(map[string]any)
	out := map[string]any{}
	if a != nil && x == nil && len(y) == 0 {
		return out, true
	}
	for k := range x {
		if _, ok := y[k]; !ok {
			out[k] = nil
		}
	}
	for k, v := range y {
		old, had := x[k]
		if had && reflect.DeepEqual(old, v) {
			continue
		}
		if v == nil {
			return nil, false
		}
		m, ok := merge(old, v)
		if !ok {
			return nil, false
		}
		out[k] = m
	}
	return out, true
}
