package jsondiff

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
)

// ErrMissing is what an operation, or Select, finds nothing at its pointer with.
var ErrMissing = errors.New("no such value")

// ErrTest is a test operation that did not hold.
var ErrTest = errors.New("values differ")

// OpError says which operation of a patch could not be carried out.
type OpError struct {
	Op   int    // counted from 0
	Name string // as the patch has it; empty where it has none
	Path string // the pointer that is wrong or leads nowhere
	Err  error
}

func (e *OpError) Error() string {
	if e.Name == "" {
		return fmt.Sprintf("operation %d: %v", e.Op, e.Err)
	}
	return fmt.Sprintf("operation %d, %s %q: %v", e.Op, e.Name, e.Path, e.Err)
}

func (e *OpError) Unwrap() error { return e.Err }

// Apply carries out a JSON Patch (RFC 6902) and returns the new document,
// without white space. It is atomic: where an operation fails, the answer is an
// *OpError and no document.
//
// What no operation touches is kept as written: number literals, string
// escapes, the order of members, even duplicate names, of which the last one
// counts. A new member goes to the end, a replaced one keeps its place. `test`
// compares numbers by value and strings by their characters.
//
// It is as strict as the RFC: indices have no leading zeros, "-" is only a
// place to add to, nothing is created on the way, and an operation has its
// members exactly once. Unknown members of an operation are ignored (section
// 4), unknown operations are not. Copies may add 64 MiB and sixteen times the
// document, counted as memory; more is ErrSize. A result that is nested deeper
// than the parser accepts is ErrDepth.
func Apply(doc, patch []byte) ([]byte, error) {
	d, err := borrow(doc)
	if err != nil {
		return nil, fmt.Errorf("document: %w", err)
	}
	defer d.giveBack()
	// A value of a patch lies two levels deeper than it will in the document.
	p, err := borrowDepth(patch, defaultDepth+2)
	if err != nil {
		return nil, fmt.Errorf("patch: %w", err)
	}
	defer p.giveBack()
	if p.tape.kind(0) != kindArray {
		return nil, errors.New("patch: expected an array of operations")
	}
	t := newTree(d.source, p.source)
	end := p.tape.stop(0)
	for c, i := p.tape.inside(0), 0; c < end; c, i = p.tape.next(c), i+1 {
		op, err := p.operation(c)
		if err == nil {
			err = t.do(&op)
		}
		if err != nil {
			return nil, &OpError{i, string(op.name), string(op.wrong), err}
		}
	}
	return t.write(make([]byte, 0, len(doc)+len(patch)), t.root, 0)
}

// operation is one operation, its strings unescaped.
type operation struct {
	name       []byte
	path, from []byte
	value      int32  // in the patch's tape
	wrong      []byte // the pointer that is being followed
}

func (s source) operation(c int32) (operation, error) {
	var op operation
	if s.tape.kind(c) != kindObject {
		return op, errors.New("expected an object")
	}
	var has struct{ op, path, from, value bool }
	text := func(to *[]byte, seen *bool, i int32, name string) error {
		if *seen {
			return fmt.Errorf("%q occurs twice", name)
		}
		if s.tape.kind(i) != kindString {
			return fmt.Errorf("%q is not a string", name)
		}
		raw := s.raw(i)
		*to, *seen = unescape(raw[1:len(raw)-1]), true
		return nil
	}
	end := s.tape.stop(c)
	for i := s.tape.inside(c); i < end; i = s.tape.next(i) {
		var err error
		switch string(unescape(s.name(i))) {
		case "op":
			err = text(&op.name, &has.op, i, "op")
		case "path":
			err = text(&op.path, &has.path, i, "path")
		case "from":
			err = text(&op.from, &has.from, i, "from")
		case "value":
			if has.value {
				err = errors.New(`"value" occurs twice`)
			}
			op.value, has.value = i, true
		}
		if err != nil {
			return op, err
		}
	}
	op.wrong = op.path
	value, from := false, false
	switch string(op.name) {
	case "add", "replace", "test":
		value = true
	case "move", "copy":
		from = true
	case "remove":
	default:
		if !has.op {
			return op, errors.New(`"op" is missing`)
		}
		return op, errors.New("unknown operation")
	}
	switch {
	case !has.path:
		return op, errors.New(`"path" is missing`)
	case value && !has.value:
		return op, errors.New(`"value" is missing`)
	case from && !has.from:
		return op, errors.New(`"from" is missing`)
	}
	return op, nil
}

func (t *tree) do(op *operation) error {
	if err := checkPointer(op.path); err != nil {
		return err
	}
	value := t.fromPatch(op.value)
	switch string(op.name) {
	case "add":
		return t.add(op.path, value)
	case "remove":
		_, err := t.remove(op.path)
		return err
	case "replace":
		slot, err := t.slot(op.path)
		if err == nil {
			*slot = value
		}
		return err
	case "test":
		slot, err := t.slot(op.path)
		if err != nil {
			return err
		}
		same, err := t.equal(slot, value, 0)
		if err == nil && !same {
			err = ErrTest
		}
		return err
	}
	op.wrong = op.from
	if err := checkPointer(op.from); err != nil {
		return err
	}
	if string(op.name) == "copy" {
		slot, err := t.slot(op.from)
		if err != nil {
			return err
		}
		if value, err = t.clone(*slot, 0); err != nil {
			return err
		}
	} else {
		if bytes.Equal(op.from, op.path) {
			_, err := t.slot(op.from) // it must be there all the same
			return err
		}
		// RFC 6902 section 4.4: not into one of its own children.
		if bytes.HasPrefix(op.path, op.from) && op.path[len(op.from)] == '/' {
			return errors.New("cannot move a value into itself")
		}
		var err error
		if value, err = t.remove(op.from); err != nil {
			return err
		}
	}
	op.wrong = op.path
	return t.add(op.path, value)
}

// checkPointer makes sure that pointers can be followed without looking for
// syntax errors.
func checkPointer(p []byte) error {
	for i, c := range p {
		if i == 0 && c != '/' || c == '~' && (i+1 == len(p) || p[i+1] != '0' && p[i+1] != '1') {
			_, err := ParsePointer(string(p))
			return err
		}
	}
	return nil
}

// nextToken cuts the first token off a pointer that is not empty.
func nextToken(p []byte) (token, rest []byte) {
	p = p[1:]
	if i := bytes.IndexByte(p, '/'); i >= 0 {
		p, rest = p[:i], p[i:]
	}
	if bytes.IndexByte(p, '~') >= 0 {
		s, _ := unescapeToken(string(p))
		return []byte(s), rest
	}
	return p, rest
}

// parent opens everything above the pointer's last token. The pointer must not
// be empty.
func (t *tree) parent(p []byte) (n *node, last []byte, err error) {
	slot := &t.root
	for {
		if !t.container(*slot) {
			return nil, nil, ErrMissing
		}
		n = t.node(slot)
		token, rest := nextToken(p)
		if len(rest) == 0 {
			return n, token, nil
		}
		if slot, err = n.child(token); err != nil {
			return nil, nil, err
		}
		p = rest
	}
}

// child is where one of n's values lies.
func (n *node) child(token []byte) (*ref, error) {
	if !n.array {
		if i := n.find(token); i >= 0 {
			return &n.members[i].value, nil
		}
		return nil, ErrMissing
	}
	i, ok := index(token)
	if !ok {
		return nil, badIndex(token)
	}
	if i >= n.elements.n {
		return nil, ErrMissing
	}
	return n.elements.at(i), nil
}

func badIndex(token []byte) error {
	if string(token) == "-" {
		return fmt.Errorf(`%w: "-" is the place after the last element`, ErrMissing)
	}
	return fmt.Errorf("%q is not an array index", token)
}

// slot is where the value at a pointer lies.
func (t *tree) slot(p []byte) (*ref, error) {
	if len(p) == 0 {
		return &t.root, nil
	}
	n, last, err := t.parent(p)
	if err != nil {
		return nil, err
	}
	return n.child(last)
}

func (t *tree) add(p []byte, value ref) error {
	if len(p) == 0 {
		t.root = value
		return nil
	}
	n, last, err := t.parent(p)
	if err != nil {
		return err
	}
	if !n.array {
		n.set(member{quoted: appendQuoted(nil, last), name: slices.Clone(last), value: value})
		return nil
	}
	i := n.elements.n
	if string(last) != "-" {
		var ok bool
		if i, ok = index(last); !ok {
			return badIndex(last)
		}
		if i > n.elements.n {
			return fmt.Errorf("%w: the array has %d elements", ErrMissing, n.elements.n)
		}
	}
	n.elements.insert(i, value)
	return nil
}

func (t *tree) remove(p []byte) (ref, error) {
	if len(p) == 0 {
		return 0, errors.New("cannot remove the whole document")
	}
	n, last, err := t.parent(p)
	if err != nil {
		return 0, err
	}
	slot, err := n.child(last)
	if err != nil {
		return 0, err
	}
	r := *slot
	if n.array {
		i, _ := index(last)
		n.elements.remove(i)
	} else {
		n.remove(n.find(last))
	}
	return r, nil
}
