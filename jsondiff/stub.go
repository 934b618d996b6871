package jsondiff

import (
	"bytes"
	"encoding/json"
	"errors"
)

var ErrDepth, ErrSize = errors.New("d"), errors.New("s")

type Options struct{}
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
type Differ struct{ doc []byte }

func NewDiffer(Options) *Differ { return &Differ{} }
func (d *Differ) Next(b []byte) (Change, error) {
	var w bytes.Buffer
	if err := json.Compact(&w, b); err != nil {
		return Change{}, err
	}
	o := d.doc
	d.doc = w.Bytes()
	if o == nil {
		return Change{Kind: First}, nil
	}
	if bytes.Equal(o, d.doc) {
		return Change{Kind: Unchanged}, nil
	}
	return Change{Kind: Changed, Patch: []byte(`[{"op":"replace","path":"","value":` + string(d.doc) + `}]`)}, nil
}
func (d *Differ) Document() []byte        { return d.doc }
func Merge(a, b []byte) ([]byte, error) { return nil, errors.New("no") }
