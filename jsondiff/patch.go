package jsondiff

import "iter"

// Patch is a JSON Patch (RFC 6902) as its text.
type Patch []byte

// Operation is one operation of a Patch.
type Operation struct {
	Op    string // "add", "remove", "replace", "move", "copy" or "test"
	Path  Pointer
	From  Pointer // of "move" and "copy"
	Value []byte  // of "add", "replace" and "test", as it stands in the patch
}

// Operations ranges over the operations in their order. If the text is not
// that of a patch, the last pair holds the error.
func (p Patch) Operations() iter.Seq2[Operation, error] {
	return func(yield func(Operation, error) bool) {
		s, err := borrowPatch(p, Limits{}.withDefaults())
		if err != nil {
			yield(Operation{}, err)
			return
		}
		defer s.giveBack()
		end := s.tape.stop(0)
		for c, i := s.tape.inside(0), 0; c < end; c, i = s.tape.next(c), i+1 {
			op, err := s.operation(c)
			var exported Operation
			if err == nil {
				exported, err = s.export(&op)
			}
			if err != nil {
				yield(Operation{}, &OperationError{i, string(op.name), string(op.wrong), err})
				return
			}
			if !yield(exported, nil) {
				return
			}
		}
	}
}

// export gives an operation memory of its own, but for the value.
func (s *source) export(op *operation) (Operation, error) {
	o := Operation{Op: string(op.name)}
	if err := checkPointer(op.path); err != nil {
		return o, err
	}
	o.Path, _ = ParsePointer(string(op.path))
	switch o.Op {
	case "move", "copy":
		op.wrong = op.from
		if err := checkPointer(op.from); err != nil {
			return o, err
		}
		o.From, _ = ParsePointer(string(op.from))
	case "add", "replace", "test":
		o.Value = s.raw(op.value)
	}
	return o, nil
}

// MarshalJSON returns the patch itself, so that it is an array within what
// encoding/json writes.
func (p Patch) MarshalJSON() ([]byte, error) {
	if p == nil {
		return []byte("null"), nil
	}
	return p, nil
}
