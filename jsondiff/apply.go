package jsondiff

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
)

// Apply carries out a JSON Patch (RFC 6902) and returns the new document,
// without white space. It is atomic: if an operation fails, the answer is an
// *OperationError and no document.
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
// than Limits.Depth is ErrDepth.
func Apply(doc, patch []byte) ([]byte, error) { return Options{}.Apply(doc, patch) }

// Apply is the function of that name, within Limits. The other options do not
// matter to it.
func (o Options) Apply(doc, patch []byte) ([]byte, error) { return o.AppendApply(nil, doc, patch) }

// AppendApply is Apply with the new document appended to dst. On an error dst
// comes back as it was.
func (o Options) AppendApply(dst, doc, patch []byte) ([]byte, error) {
	t, done, err := o.readTree(doc, patch)
	if err != nil {
		return dst, err
	}
	defer done()
	if err := t.applyAll(); err != nil {
		return dst, err
	}
	out, err := t.write(slices.Grow(dst, len(doc)+len(patch)), t.root, 0)
	if err != nil {
		return dst, &LimitError{Document: "new document", Limit: t.maxDepth, Offset: -1, Err: err}
	}
	return out, nil
}

// readTree reads a document and a patch; done says that nothing is needed of
// them any more.
func (o Options) readTree(doc, patch []byte) (t *tree, done func(), err error) {
	l := o.Limits.withDefaults()
	d, err := borrow(doc, l)
	if err != nil {
		return nil, nil, inDocument(err, "document")
	}
	p, err := borrowPatch(patch, l)
	if err != nil {
		d.giveBack()
		return nil, nil, err
	}
	return newTree(d.source, p.source, l), func() { d.giveBack(); p.giveBack() }, nil
}

// borrowPatch reads a patch, whose values lie two levels deeper than they will
// in the document.
func borrowPatch(patch []byte, l Limits) (*parser, error) {
	l.Depth += 2
	p, err := borrow(patch, l)
	if err != nil {
		return nil, inDocument(err, "patch")
	}
	if p.tape.kind(0) != kindArray {
		err := syntaxError(patch, p.tape.off(0), "an array of operations")
		p.giveBack()
		return nil, inDocument(err, "patch")
	}
	return p, nil
}

// applyAll carries out the operations of the patch.
func (t *tree) applyAll() error {
	s := t.patch
	end := s.tape.stop(t.list)
	for c, i := s.tape.inside(t.list), 0; c < end; c, i = s.tape.next(c), i+1 {
		op, err := s.operation(c)
		if err == nil {
			err = t.do(&op)
		}
		if err != nil {
			return &OperationError{i, string(op.name), string(op.wrong), err}
		}
	}
	return nil
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
		_, err := t.add(op.path, value)
		return err
	case "remove":
		_, err := t.remove(op.path)
		return err
	case "replace":
		_, err := t.replace(op.path, value)
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
	_, err := t.add(op.path, value)
	return err
}

// checkPointer makes sure that pointers can be followed without looking for
// syntax errors.
func checkPointer(p []byte) error {
	for i, c := range p {
		if i == 0 && c != '/' || c == '~' && (i+1 == len(p) || p[i+1] != '0' && p[i+1] != '1') {
			_, err := ParsePointer(string(p))
			return err.(*PointerError).reason()
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

// place is what stood where a value came to.
type place struct {
	replaced bool
	old      ref // if it was replaced
	index    int // of the new element of an array, else -1
}

func (t *tree) add(p []byte, value ref) (place, error) {
	t.deepen(p, value)
	if len(p) == 0 {
		return t.replaceRoot(value), nil
	}
	n, last, err := t.parent(p)
	if err != nil {
		return place{}, err
	}
	if !n.array {
		if i := n.find(last); i >= 0 {
			return t.setMember(n, i, value), nil
		}
		n.set(member{quoted: appendQuoted(nil, last), name: slices.Clone(last), value: value}, t.recording)
		t.onUndo(n.unset)
		return place{index: -1}, nil
	}
	i := n.elements.n
	if string(last) != "-" {
		var ok bool
		if i, ok = index(last); !ok {
			return place{}, badIndex(last)
		}
		if i > n.elements.n {
			return place{}, fmt.Errorf("%w: the array has %d elements", ErrMissing, n.elements.n)
		}
	}
	n.elements.insert(i, value)
	t.onUndo(func() { n.elements.remove(i) })
	return place{index: i}, nil
}

// replace gives the value at a pointer another one, and tells the old one.
func (t *tree) replace(p []byte, value ref) (ref, error) {
	t.deepen(p, value)
	if len(p) == 0 {
		return t.replaceRoot(value).old, nil
	}
	n, last, err := t.parent(p)
	if err != nil {
		return 0, err
	}
	slot, err := n.child(last)
	if err != nil {
		return 0, err
	}
	if !n.array {
		return t.setMember(n, n.find(last), value).old, nil
	}
	old := *slot
	*slot = value
	i, _ := index(last)
	t.onUndo(func() { *n.elements.at(i) = old })
	return old, nil
}

func (t *tree) replaceRoot(value ref) place {
	old := t.root
	t.root = value
	t.onUndo(func() { t.root = old })
	return place{replaced: true, old: old, index: -1}
}

func (t *tree) setMember(n *node, i int, value ref) place {
	old := n.members[i].value
	n.members[i].value = value
	t.onUndo(func() { n.members[i].value = old })
	return place{replaced: true, old: old, index: -1}
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
		t.onUndo(func() { n.elements.insert(i, r) })
		return r, nil
	}
	i := n.find(last)
	m := n.members[i]
	n.remove(i)
	t.onUndo(func() { n.restore(i, m) })
	return r, nil
}
