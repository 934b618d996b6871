package jsondiff

import (
	"bytes"
	"encoding/json"
	"fmt"
)

// DiffValues is Diff for what encoding/json makes of two Go values. It is for
// convenience: texts that are there need not be decoded to be compared, and
// []byte, json.RawMessage and jsontext.Value can be given to Diff as they are.
func DiffValues(old, new any) (Patch, error) {
	a, err := encode(old)
	if err != nil {
		return nil, fmt.Errorf("jsondiff: old value: %w", err)
	}
	b, err := encode(new)
	if err != nil {
		return nil, fmt.Errorf("jsondiff: new value: %w", err)
	}
	return Diff(a, b)
}

func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return b.Bytes(), err
}
