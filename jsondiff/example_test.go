package jsondiff_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/pollsse/caddy-poll-sse/jsondiff"
)

func ExampleDiff() {
	patch, _ := jsondiff.Diff(
		[]byte(`[{"id":1,"price":0.1000},{"id":2,"price":5}]`),
		[]byte(`[{"id":3,"price":1E400},{"id":1,"price":0.1000},{"id":2,"price":6}]`))
	fmt.Println(string(patch))
	// Output: [{"op":"add","path":"/0","value":{"id":3,"price":1E400}},{"op":"replace","path":"/2/price","value":6}]
}

// A json.RawMessage, or a jsontext.Value, is a text and can be given as it is.
func ExampleDiff_rawMessage() {
	var old, new struct{ Settings json.RawMessage }
	json.Unmarshal([]byte(`{"settings":{"theme":"dark"}}`), &old)
	json.Unmarshal([]byte(`{"settings":{"theme":"light"}}`), &new)
	patch, _ := jsondiff.Diff(old.Settings, new.Settings)
	fmt.Println(string(patch))
	// Output: [{"op":"replace","path":"/theme","value":"light"}]
}

func ExampleDiffValues() {
	type user struct {
		Name string   `json:"name"`
		Tags []string `json:"tags"`
	}
	patch, _ := jsondiff.DiffValues(
		user{"Ada", []string{"admin", "author"}},
		map[string]any{"name": "Ada", "tags": []string{"admin", "author", "reviewer"}})
	fmt.Println(string(patch))
	// Output: [{"op":"add","path":"/tags/2","value":"reviewer"}]
}

func ExampleEqual() {
	same, _ := jsondiff.Equal([]byte(`{"a":"\u0041","b":[{"x":1,"y":2}]}`), []byte(`{"b":[{"y":2,"x":1}], "a":"A"}`))
	fmt.Println(same)
	// Output: true
}

func ExampleApply() {
	doc, err := jsondiff.Apply([]byte(`{"list":[1,2,3]}`), []byte(`[{"op":"move","from":"/list/0","path":"/list/2"}]`))
	fmt.Println(string(doc), err)
	_, err = jsondiff.Apply(doc, []byte(`[{"op":"remove","path":"/list/3"}]`))
	fmt.Println(err)
	// Output:
	// {"list":[2,3,1]} <nil>
	// jsondiff: operation 0, remove "/list/3": no such value
}

// What went wrong can be asked for.
func ExampleOperationError() {
	_, err := jsondiff.Apply([]byte(`{"a":1}`), []byte(`[{"op":"test","path":"/a","value":2}]`))
	var failed *jsondiff.OperationError
	if errors.As(err, &failed) {
		fmt.Println(failed.Index, failed.Op, failed.Path, errors.Is(err, jsondiff.ErrTest))
	}
	// Output: 0 test /a true
}

func ExampleSyntaxError() {
	_, err := jsondiff.Diff([]byte(`{"a":[1,2]}`), []byte("{\n\"a\":[1,]}"))
	var bad *jsondiff.SyntaxError
	if errors.As(err, &bad) {
		fmt.Println(bad.Document, bad.Line, bad.Column, bad.Offset, bad.Pointer)
	}
	fmt.Println(err)
	// Output:
	// new document 2 8 9 /a/1
	// jsondiff: new document, line 2, column 8 (byte 9, at /a/1): expected a value
}

func ExampleLimitError() {
	o := jsondiff.Options{Limits: jsondiff.Limits{Depth: 3, Size: 1 << 20}}
	_, err := o.Diff([]byte(`[]`), []byte(`[[[[]]]]`))
	var limit *jsondiff.LimitError
	fmt.Println(errors.As(err, &limit), errors.Is(err, jsondiff.ErrDepth), errors.Is(err, jsondiff.ErrSize))
	fmt.Println(err)
	// Output:
	// true true false
	// jsondiff: new document, byte 3: nested too deep, the limit is 3
}

func ExampleInvert() {
	doc, patch := []byte(`{"a":1,"b":[1,2]}`), []byte(`[{"op":"remove","path":"/b/0"},{"op":"replace","path":"/a","value":5}]`)
	undo, _ := jsondiff.Invert(doc, patch)
	fmt.Println(string(undo))
	new, _ := jsondiff.Apply(doc, patch)
	back, _ := jsondiff.Apply(new, undo)
	fmt.Println(string(back))
	// Output:
	// [{"op":"replace","path":"/a","value":1},{"op":"add","path":"/b/0","value":1}]
	// {"a":1,"b":[1,2]}
}

func ExampleMergeDiff() {
	patch, err := jsondiff.MergeDiff([]byte(`{"a":1,"b":{"c":2}}`), []byte(`{"b":{"c":2,"d":[null]}}`))
	fmt.Println(string(patch), err)
	_, err = jsondiff.MergeDiff([]byte(`{"a":1}`), []byte(`{"a":null}`))
	fmt.Println(errors.Is(err, jsondiff.ErrNotMergeable))
	// Output:
	// {"a":null,"b":{"d":[null]}} <nil>
	// true
}

func ExampleApplyMerge() {
	doc, _ := jsondiff.ApplyMerge([]byte(`{"a":1,"b":{"c":2}}`), []byte(`{"a":null,"b":{"d":3}}`))
	fmt.Println(string(doc))
	// Output: {"b":{"c":2,"d":3}}
}

func ExampleDiffer() {
	var d jsondiff.Differ
	for _, text := range []string{`{"n":1}`, `{ "n": 1 }`, `{"n":2}`} {
		change, err := d.Next([]byte(text))
		if err != nil {
			fmt.Println(err) // the document before stays
			continue
		}
		fmt.Println(change.Kind, string(change.Patch), string(d.Document()))
	}
	// Output:
	// first  {"n":1}
	// unchanged  {"n":1}
	// changed [{"op":"replace","path":"/n","value":2}] {"n":2}
}

// A caller that reads each text into memory of its own saves a copy.
func ExampleDiffer_NextOwned() {
	d := jsondiff.NewDiffer(jsondiff.Options{})
	for _, body := range []string{`[1,2]`, `[1,2,3]`} {
		text := make([]byte, len(body), len(body)+jsondiff.Pad)
		strings.NewReader(body).Read(text)
		change, _ := d.NextOwned(text) // text is the Differ's from here on
		switch change.Kind {
		case jsondiff.First:
			fmt.Println("the first document")
		case jsondiff.Changed:
			fmt.Println(string(change.Patch))
		case jsondiff.Unchanged:
			fmt.Println("the same document")
		}
	}
	// Output:
	// the first document
	// [{"op":"add","path":"/2","value":3}]
}

// A caller that is done with each patch before the next one uses its memory again.
func ExampleDiffer_AppendNext() {
	var d jsondiff.Differ
	d.Next([]byte(`{"n":1}`))
	var buffer []byte
	for _, text := range []string{`{"n":2}`, `{"n":2,"m":3}`} {
		var change jsondiff.Change
		buffer, change, _ = d.AppendNext(buffer[:0], []byte(text))
		fmt.Println(change.Kind, string(buffer))
	}
	// Output:
	// changed [{"op":"replace","path":"/n","value":2}]
	// changed [{"op":"add","path":"/m","value":3}]
}

func ExampleChange() {
	d := jsondiff.NewDiffer(jsondiff.Options{Limits: jsondiff.Limits{Work: 1}})
	d.Next([]byte(`[{"v":"one"},{"v":"two"},{"v":"three"}]`))
	change, _ := d.Next([]byte(`[{"v":"two"},{"v":"three"},{"v":"four"}]`))
	fmt.Println(change.Kind == jsondiff.Changed, change.Bound)
	// Output: true true
}

func ExampleDocument() {
	d, _ := jsondiff.ParseDocument([]byte(`{"users":{"ada":{"seen":1}},"count":1}`))
	for _, patch := range []string{
		`[{"op":"add","path":"/users/bob","value":{"seen":2}},{"op":"replace","path":"/count","value":2}]`,
		`[{"op":"remove","path":"/users/ada"},{"op":"remove","path":"/users/cyd"}]`, // fails, so nothing is removed
	} {
		if err := d.Apply([]byte(patch)); err != nil {
			fmt.Println(err)
		}
	}
	text, _ := d.AppendTo(nil)
	fmt.Println(string(text))
	// Output:
	// jsondiff: operation 1, remove "/users/cyd": no such value
	// {"users":{"ada":{"seen":1},"bob":{"seen":2}},"count":2}
}

func ExamplePatch_Operations() {
	patch, _ := jsondiff.Diff([]byte(`{"a":1,"b":"some text that stays, so that no more is replaced than has to be"}`),
		[]byte(`{"c":[2],"b":"some text that stays, so that no more is replaced than has to be"}`))
	for op, err := range patch.Operations() {
		if err != nil {
			break
		}
		switch op.Op {
		case "move", "copy":
			fmt.Printf("%s from %s to %s\n", op.Op, op.From, op.Path)
		default:
			fmt.Printf("%s %s %q\n", op.Op, op.Path, op.Value)
		}
	}
	// Output:
	// remove /a ""
	// add /c "[2]"
}

func ExamplePatch_MarshalJSON() {
	text, _ := json.Marshal(map[string]any{"patch": jsondiff.Patch(`[{"op":"remove","path":"/a"}]`)})
	fmt.Println(string(text))
	// Output: {"patch":[{"op":"remove","path":"/a"}]}
}

func ExampleOptions() {
	ignored, _ := jsondiff.ParsePattern("/*/seen")
	list, _ := jsondiff.ParsePattern("")
	o := jsondiff.Options{
		Identify:       []jsondiff.Identity{{Pattern: list, Member: "host"}},
		Ignore:         []jsondiff.Pattern{ignored},
		NumbersByValue: true,
		Tests:          true,
	}
	same, _ := o.Equal([]byte(`[{"host":"a","load":1,"seen":10}]`), []byte(`[{"host":"a","load":1.0,"seen":11}]`))
	fmt.Println(same)
	patch, _ := o.Diff([]byte(`[{"host":"a","load":1,"seen":10}]`), []byte(`[{"host":"a","load":2,"seen":10}]`))
	fmt.Println(string(patch))
	// Output:
	// true
	// [{"op":"test","path":"/0/load","value":1},{"op":"replace","path":"/0/load","value":2}]
}

// The methods of Options are the functions of the same names, and forms of them
// that append.
func ExampleOptions_AppendDiff() {
	o := jsondiff.Options{Limits: jsondiff.Limits{Size: 1 << 20}}
	doc, new := []byte(`{"a":[1]}`), []byte(`{"a":[1,2]}`)
	buffer := make([]byte, 0, 256)
	buffer, _ = o.AppendDiff(buffer, doc, new)
	fmt.Println(string(buffer))
	buffer, _ = o.AppendApply(buffer[:0], doc, []byte(`[{"op":"remove","path":"/a"}]`))
	fmt.Println(string(buffer))
	buffer, _ = o.AppendMergeDiff(buffer[:0], doc, new)
	fmt.Println(string(buffer))
	buffer, _ = o.AppendApplyMerge(buffer[:0], doc, []byte(`{"b":0}`))
	fmt.Println(string(buffer))
	// Output:
	// [{"op":"add","path":"/a/1","value":2}]
	// {}
	// {"a":[1,2]}
	// {"a":[1],"b":0}
}

func ExampleOptions_Apply() {
	o := jsondiff.Options{Limits: jsondiff.Limits{Depth: 2}}
	doc := []byte(`{"a":[1]}`)
	_, err := o.Apply(doc, []byte(`[{"op":"add","path":"/a/0","value":[]}]`))
	fmt.Println(err)
	merged, _ := o.ApplyMerge(doc, []byte(`{"a":null}`))
	patch, _ := o.MergeDiff(doc, merged)
	undo, _ := o.Invert(doc, []byte(`[{"op":"remove","path":"/a"}]`))
	value, _ := o.Select(doc, jsondiff.Pointer{"a", "0"})
	d, _ := o.ParseDocument(doc)
	fmt.Println(string(merged), string(patch), string(undo), string(value), d.Apply(undo))
	// Output:
	// jsondiff: new document: nested too deep, the limit is 2
	// {} {"a":null} [{"op":"add","path":"/a","value":[1]}] 1 <nil>
}

func ExampleSelect() {
	p, _ := jsondiff.ParsePointer("/data/items")
	value, err := jsondiff.Select([]byte(`{"data":{"items":[1, 2]}}`), p)
	fmt.Println(string(value), err)
	_, err = jsondiff.Select([]byte(`{"data":{}}`), p)
	fmt.Println(err, errors.Is(err, jsondiff.ErrMissing))
	// Output:
	// [1, 2] <nil>
	// jsondiff: /data/items: no such value true
}

func ExampleOmit() {
	p, _ := jsondiff.ParsePattern("/*/token")
	text, _ := jsondiff.Omit([]byte(`[{"name":"a","token":"x"},{"name":"b"}]`), []jsondiff.Pattern{p})
	fmt.Println(string(text))
	same, _ := jsondiff.Options{}.Omit(text, []jsondiff.Pattern{p})
	fmt.Println(len(same) == len(text), p.Len(), p)
	// Output:
	// [{"name":"a"},{"name":"b"}]
	// true 2 /*/token
}

func ExampleParsePointer() {
	p, _ := jsondiff.ParsePointer("/a~1b/0")
	fmt.Printf("%q %s\n", []string(p), p)
	_, err := jsondiff.ParsePointer("/a~b")
	var bad *jsondiff.PointerError
	fmt.Println(errors.As(err, &bad), err)
	// Output:
	// ["a/b" "0"] /a~1b/0
	// true jsondiff: pointer "/a~b": "~" without 0 or 1 after it at offset 2
}
