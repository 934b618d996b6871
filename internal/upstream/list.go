package upstream

import (
	"bytes"
	"encoding/json"
	"errors"
	"strconv"

	"github.com/pollsse/caddy-poll-sse/jsondiff"
)

// valueAt finds the value at a pointer in a valid JSON text: it is the text
// between start and end. Of equal names the last one counts, as in a parser.
func valueAt(text []byte, pointer jsondiff.Pointer) (start, end int, ok bool) {
	start, end = 0, len(text)
	for _, token := range pointer {
		in := json.NewDecoder(bytes.NewReader(text[start:end]))
		open, err := in.Token()
		if err != nil || open != json.Delim('{') && open != json.Delim('[') {
			return 0, 0, false
		}
		from, to := -1, -1
		for i := 0; in.More(); i++ {
			name := any(strconv.Itoa(i))
			if open == json.Delim('{') {
				if name, err = in.Token(); err != nil {
					return 0, 0, false
				}
			}
			var value json.RawMessage
			if err := in.Decode(&value); err != nil {
				return 0, 0, false
			}
			if name == token || token == "-" && open == json.Delim('[') {
				to = int(in.InputOffset())
				from = to - len(value)
			}
		}
		if from < 0 {
			return 0, 0, false
		}
		start, end = start+from, start+to
	}
	return start, end, true
}

// scalar returns the value at a pointer as a text: a string's own, or a
// literal. The bool is false for null, false, an empty string, a list, an
// object, and if there is nothing.
func scalar(text []byte, pointer jsondiff.Pointer) (string, bool) {
	start, end, ok := valueAt(text, pointer)
	if !ok {
		return "", false
	}
	value := bytes.TrimSpace(text[start:end])
	switch value[0] {
	case '{', '[', 'n', 'f':
		return "", false
	case '"':
		var s string
		if err := json.Unmarshal(value, &s); err != nil || s == "" {
			return "", false
		}
		return s, true
	}
	return string(value), true
}

// item is an element of a list, with what it is known by.
type item struct {
	key  string
	text []byte
}

var errNoList = errors.New("there is no list at the pointer")

// items returns the items of the list at a pointer. An item is known by its
// member with the name key, or as a whole if it has none. The texts are copies.
func items(text []byte, pointer jsondiff.Pointer, key string) ([]item, error) {
	start, end, ok := valueAt(text, pointer)
	if !ok || text[start] != '[' && bytes.TrimSpace(text[start:end])[0] != '[' {
		return nil, errNoList
	}
	var elements []json.RawMessage
	if err := json.Unmarshal(text[start:end], &elements); err != nil {
		return nil, err
	}
	list := make([]item, len(elements))
	for i, e := range elements {
		list[i] = item{text: e}
		if from, to, ok := valueAt(e, jsondiff.Pointer{key}); ok && e[0] == '{' {
			list[i].key = "k" + string(e[from:to])
			continue
		}
		var compact bytes.Buffer
		if err := json.Compact(&compact, e); err != nil {
			return nil, err
		}
		list[i].key = "v" + compact.String()
	}
	return list, nil
}

// mergeItems adds items to a list by key: one that is there already keeps its place
// and gets the new text.
func mergeItems(list, more []item) []item {
	at := make(map[string]int, len(list)+len(more))
	for i, it := range list {
		at[it.key] = i
	}
	for _, it := range more {
		if i, ok := at[it.key]; ok {
			list[i] = it
			continue
		}
		at[it.key] = len(list)
		list = append(list, it)
	}
	return list
}

// withList returns text with the list at a pointer replaced.
func withList(text []byte, pointer jsondiff.Pointer, list []item) []byte {
	start, end, _ := valueAt(text, pointer)
	size := len(text)
	for _, it := range list {
		size += len(it.text) + 1
	}
	out := make([]byte, 0, size)
	out = append(append(out, text[:start]...), '[')
	for i, it := range list {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, it.text...)
	}
	return append(append(out, ']'), text[end:]...)
}
