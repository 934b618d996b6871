package main

import (
	"bytes"
	"encoding/json"
	"fmt"

	merge "github.com/evanphx/json-patch/v5"
	gojson "github.com/goccy/go-json"
	"github.com/mattbaird/jsonpatch"
	wi2l "github.com/wI2L/jsondiff"
	gomodules "gomodules.xyz/jsonpatch/v2"

	"github.com/pollsse/caddy-poll-sse/jsondiff"
)

// contender is one way to get from the retained old document and the new one's
// bytes to an encoded patch.
type contender struct {
	name  string
	ours  bool
	merge bool // makes merge patches
	owner bool // takes the new bytes, so that it gets a copy of its own each time
	// start takes the old document. rewind, where there is one, brings back the
	// state that run has left; it is not timed.
	start func(old []byte) (run func(new []byte) ([]byte, error), rewind func() error)
}

// contenders are all that run in this process. Where a peer's interface lets
// the old document be kept decoded, it is: its time then holds one decoding and
// not two. Numbers are kept (UseNumber) wherever a peer can be told to.
func contenders() []contender {
	all := []contender{
		{name: "jsondiff", ours: true, owner: true, start: ours},
		{name: "jsondiff merge", ours: true, merge: true, start: stateless(jsondiff.MergeDiff)},
		{name: "gomodules", start: stateless(func(old, new []byte) ([]byte, error) {
			p, err := gomodules.CreatePatch(old, new)
			return encode(p, len(p), err)
		})},
		{name: "mattbaird", start: stateless(func(old, new []byte) (patch []byte, err error) {
			defer func() {
				if r := recover(); r != nil {
					err = fmt.Errorf("panic: %v", r)
				}
			}()
			p, err := jsonpatch.CreatePatch(old, new)
			return encode(p, len(p), err)
		})},
		{name: "evanphx merge", merge: true, start: stateless(merge.CreateMergePatch)},
	}
	for _, dec := range []struct {
		name   string
		decode func([]byte, any) error
	}{{"", decodeStandard}, {" go-json", decodeFast}} {
		for _, o := range []struct {
			name string
			opts []wi2l.Option
		}{
			{"", nil},
			{" rationalize", []wi2l.Option{wi2l.Rationalize()}},
			{" LCS", []wi2l.Option{wi2l.LCS()}},
			{" LCS rationalize", []wi2l.Option{wi2l.LCS(), wi2l.Rationalize()}},
		} {
			all = append(all, contender{name: "wI2L" + o.name + dec.name, start: wI2L(dec.decode, o.opts)})
		}
	}
	return all
}

var nothing = []byte("[]")

func ours(old []byte) (func([]byte) ([]byte, error), func() error) {
	d := jsondiff.NewDiffer(jsondiff.Options{})
	rewind := func() error {
		_, err := d.Next(old)
		return err
	}
	return func(new []byte) ([]byte, error) {
		c, err := d.NextOwned(new)
		if err == nil && c.Kind == jsondiff.Unchanged {
			return nothing, nil
		}
		return c.Patch, err
	}, rewind
}

func stateless(diff func(old, new []byte) ([]byte, error)) func([]byte) (func([]byte) ([]byte, error), func() error) {
	return func(old []byte) (func([]byte) ([]byte, error), func() error) {
		return func(new []byte) ([]byte, error) { return diff(old, new) }, nil
	}
}

func encode(patch any, n int, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	if n == 0 {
		return []byte("[]"), nil
	}
	return json.Marshal(patch)
}

// wI2L's Rationalize needs the new document's text and is reached only through
// CompareJSON, which decodes both; the old one is decoded once all the same.
func wI2L(decode func([]byte, any) error, opts []wi2l.Option) func([]byte) (func([]byte) ([]byte, error), func() error) {
	return func(old []byte) (func([]byte) ([]byte, error), func() error) {
		var kept any
		failed := decode(old, &kept)
		unmarshal := func(data []byte, to any) error {
			if &data[0] == &old[0] && len(data) == len(old) {
				*to.(*any) = kept
				return failed
			}
			return decode(data, to)
		}
		opts := append([]wi2l.Option{wi2l.UnmarshalFunc(unmarshal)}, opts...)
		return func(new []byte) ([]byte, error) {
			p, err := wi2l.CompareJSON(old, new, opts...)
			return encode(p, len(p), err)
		}, nil
	}
}

func decodeStandard(data []byte, to any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	return dec.Decode(to)
}

func decodeFast(data []byte, to any) error {
	dec := gojson.NewDecoder(bytes.NewReader(data))
	dec.UseNumber()
	return dec.Decode(to)
}
