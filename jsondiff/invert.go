package jsondiff

import (
	"bytes"
	"slices"
	"strconv"
)

// Invert returns the patch that takes back what another one does to a document:
// applied to Apply(doc, patch) it gives the same document as doc. Members that
// the patch removes come back at the end of their object.
func Invert(doc, patch []byte) (Patch, error) { return Options{}.Invert(doc, patch) }

// Invert is the function of that name, within Limits.
func (o Options) Invert(doc, patch []byte) (Patch, error) {
	t, done, err := o.readTree(doc, patch)
	if err != nil {
		return nil, err
	}
	defer done()
	var inverse [][]byte
	s := &t.patch
	end := s.tape.stop(0)
	for c, i := s.tape.inside(0), 0; c < end; c, i = s.tape.next(c), i+1 {
		op, err := s.operation(c)
		var text []byte
		if err == nil {
			text, err = t.invert(&op)
		}
		if err != nil {
			return nil, &OperationError{i, string(op.name), string(op.wrong), err}
		}
		if text != nil {
			inverse = append(inverse, text)
		}
	}
	slices.Reverse(inverse)
	return append(append([]byte{'['}, bytes.Join(inverse, []byte{','})...), ']'), nil
}

// invert carries an operation out and returns what takes it back, nil if nothing
// has to be.
func (t *tree) invert(op *operation) ([]byte, error) {
	if err := checkPointer(op.path); err != nil {
		return nil, err
	}
	switch string(op.name) {
	case "add":
		was, err := t.add(op.path, t.fromPatch(op.value))
		if err != nil {
			return nil, err
		}
		return t.removal(op.path, was)
	case "remove":
		old, err := t.remove(op.path)
		if err != nil {
			return nil, err
		}
		return t.inverse("add", op.path, old)
	case "replace":
		old, err := t.replace(op.path, t.fromPatch(op.value))
		if err != nil {
			return nil, err
		}
		return t.inverse("replace", op.path, old)
	case "test":
		if err := t.do(op); err != nil {
			return nil, err
		}
		return t.inverse("test", op.path, t.fromPatch(op.value))
	case "copy":
		op.wrong = op.from
		if err := checkPointer(op.from); err != nil {
			return nil, err
		}
		slot, err := t.slot(op.from)
		if err != nil {
			return nil, err
		}
		value, err := t.clone(*slot, 0)
		if err != nil {
			return nil, err
		}
		op.wrong = op.path
		was, err := t.add(op.path, value)
		if err != nil {
			return nil, err
		}
		return t.removal(op.path, was)
	}
	return t.invertMove(op)
}

func (t *tree) invertMove(op *operation) ([]byte, error) {
	if bytes.Equal(op.from, op.path) {
		return nil, t.do(op)
	}
	if bytes.HasPrefix(op.path, op.from) && op.path[len(op.from)] == '/' {
		return nil, t.do(op) // an error
	}
	op.wrong = op.from
	if err := checkPointer(op.from); err != nil {
		return nil, err
	}
	value, err := t.remove(op.from)
	if err != nil {
		return nil, err
	}
	op.wrong = op.path
	was, err := t.add(op.path, value)
	if err != nil {
		return nil, err
	}
	path := was.path(op.path)
	if rest, in := bytes.CutPrefix(op.from, path); !was.replaced && !(in && bytes.HasPrefix(rest, []byte{'/'})) {
		text := appendQuoted([]byte(`{"op":"move","from":`), path)
		return append(appendQuoted(append(text, `,"path":`...), op.from), '}'), nil
	}
	// A move back into a list would shift the place of what was replaced, and
	// nothing may move into itself (RFC 6902 section 4.4).
	back, err := t.removal(op.path, was)
	if err != nil {
		return nil, err
	}
	again, err := t.inverse("add", op.from, value)
	if err != nil {
		return nil, err
	}
	return append(append(back, ','), again...), nil
}

// path is where a value came to whose place was asked for: "-" is an index.
func (p place) path(asked []byte) []byte {
	if p.index < 0 || asked[len(asked)-1] != '-' {
		return asked
	}
	return strconv.AppendInt(slices.Clone(asked[:len(asked)-1]), int64(p.index), 10)
}

// removal takes an addition back.
func (t *tree) removal(path []byte, was place) ([]byte, error) {
	if was.replaced {
		return t.inverse("replace", path, was.old)
	}
	return append(appendQuoted([]byte(`{"op":"remove","path":`), was.path(path)), '}'), nil
}

// inverse writes an operation with a value.
func (t *tree) inverse(name string, path []byte, value ref) ([]byte, error) {
	text := append(append([]byte(`{"op":"`), name...), `","path":`...)
	text = append(appendQuoted(text, path), `,"value":`...)
	text, err := t.write(text, value, 0)
	if err != nil {
		return nil, err
	}
	return append(text, '}'), t.charge(len(text))
}
