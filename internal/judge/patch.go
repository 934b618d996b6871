package judge

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// ApplyPatch applies a JSON Patch (RFC 6902) and returns the document that it
// makes. It changes doc in place; after an error doc may be changed in part.
// Numbers are kept as they were written. The operation test compares them by
// value.
func ApplyPatch(doc any, patch []byte) (any, error) {
	list, err := Parse(patch)
	if err != nil {
		return nil, fmt.Errorf("the patch is not JSON: %w", err)
	}
	operations, ok := list.([]any)
	if !ok {
		return nil, errors.New("the patch is no array")
	}
	for i, o := range operations {
		operation, ok := o.(map[string]any)
		if !ok {
			return nil, fmt.Errorf("operation %d is no object", i)
		}
		if doc, err = apply(doc, operation); err != nil {
			return nil, fmt.Errorf("operation %d (%v): %w", i, operation["op"], err)
		}
	}
	return doc, nil
}

func apply(doc any, operation map[string]any) (any, error) {
	path, err := pointer(operation, "path")
	if err != nil {
		return nil, err
	}
	op, _ := operation["op"].(string)
	value, has := operation["value"]
	switch op {
	case "add", "replace", "test":
		if !has {
			return nil, errors.New("no value")
		}
	case "remove":
	case "move", "copy":
		from, err := pointer(operation, "from")
		if err != nil {
			return nil, err
		}
		if value, err = get(doc, from); err != nil {
			return nil, err
		}
		if op == "copy" {
			return edit(doc, path, "add", Clone(value))
		}
		if slices.Equal(from, path) {
			return doc, nil
		}
		if len(from) < len(path) && slices.Equal(from, path[:len(from)]) {
			return nil, errors.New("moves a value into itself")
		}
		if doc, err = edit(doc, from, "remove", nil); err != nil {
			return nil, err
		}
		return edit(doc, path, "add", value)
	default:
		return nil, errors.New("no such operation")
	}
	if op == "test" {
		found, err := get(doc, path)
		if err == nil && !SameValue(found, value) {
			err = errors.New("test fails")
		}
		return doc, err
	}
	return edit(doc, path, op, value)
}

// pointer reads the tokens of a member that is a JSON Pointer, RFC 6901.
func pointer(operation map[string]any, member string) ([]string, error) {
	text, ok := operation[member].(string)
	if !ok {
		return nil, fmt.Errorf("no %s", member)
	}
	if text == "" {
		return nil, nil
	}
	if text[0] != '/' {
		return nil, fmt.Errorf("%s %q does not start with /", member, text)
	}
	tokens := strings.Split(text[1:], "/")
	for i, t := range tokens {
		if strings.Contains(strings.NewReplacer("~0", "", "~1", "").Replace(t), "~") {
			return nil, fmt.Errorf("%s %q holds a ~ that is neither ~0 nor ~1", member, text)
		}
		tokens[i] = strings.ReplaceAll(strings.ReplaceAll(t, "~1", "/"), "~0", "~")
	}
	return tokens, nil
}

// index reads an array index, RFC 6901 section 4: no sign, no leading zero.
func index(token string, most int) (int, error) {
	n, err := strconv.Atoi(token)
	if err != nil || strconv.Itoa(n) != token || n < 0 || n > most {
		return 0, fmt.Errorf("index %q is not one of 0 to %d", token, most)
	}
	return n, nil
}

func get(doc any, path []string) (any, error) {
	for _, token := range path {
		switch v := doc.(type) {
		case map[string]any:
			member, ok := v[token]
			if !ok {
				return nil, fmt.Errorf("no member %q", token)
			}
			doc = member
		case []any:
			i, err := index(token, len(v)-1)
			if err != nil {
				return nil, err
			}
			doc = v[i]
		default:
			return nil, fmt.Errorf("%q leads into a scalar", token)
		}
	}
	return doc, nil
}

// edit adds, replaces or removes at path.
func edit(doc any, path []string, op string, value any) (any, error) {
	if len(path) == 0 {
		if op == "remove" {
			return nil, errors.New("removes the whole document")
		}
		return value, nil
	}
	token, last := path[0], len(path) == 1
	switch v := doc.(type) {
	case map[string]any:
		member, ok := v[token]
		if !ok && !(last && op == "add") {
			return nil, fmt.Errorf("no member %q", token)
		}
		if last && op == "remove" {
			delete(v, token)
			return v, nil
		}
		if !last {
			var err error
			if value, err = edit(member, path[1:], op, value); err != nil {
				return nil, err
			}
		}
		v[token] = value
		return v, nil
	case []any:
		if last && op == "add" {
			i := len(v)
			if token != "-" {
				var err error
				if i, err = index(token, len(v)); err != nil {
					return nil, err
				}
			}
			return slices.Insert(v, i, value), nil
		}
		i, err := index(token, len(v)-1)
		if err != nil {
			return nil, err
		}
		if last && op == "remove" {
			return slices.Delete(v, i, i+1), nil
		}
		if !last {
			if value, err = edit(v[i], path[1:], op, value); err != nil {
				return nil, err
			}
		}
		v[i] = value
		return v, nil
	}
	return nil, fmt.Errorf("%q leads into a scalar", token)
}

// ApplyMerge applies a JSON Merge Patch (RFC 7396, section 2) and returns the
// document that it makes. It changes target in place.
func ApplyMerge(target, patch any) any {
	members, ok := patch.(map[string]any)
	if !ok {
		return patch
	}
	object, ok := target.(map[string]any)
	if !ok {
		object = map[string]any{}
	}
	for name, v := range members {
		if v == nil {
			delete(object, name)
			continue
		}
		object[name] = ApplyMerge(object[name], v)
	}
	return object
}
