package upstream

import (
	"fmt"
	"strings"
)

// template is a configured text with placeholders, parsed once. Each
// placeholder is expanded by itself and escaped for the place where it
// stands, so that a client's value can never leave that place.
type template []templatePart

type templatePart struct {
	literal     string // or:
	placeholder string // a name, without braces
	escape      func(string) (string, error)
}

// Lookup returns the value of a placeholder, whose name it gets without braces,
// and whether there is one.
type Lookup func(name string) (string, bool)

// ValueError is the client's error: its request has no value for a placeholder,
// or one that cannot stand in the placeholder's place.
type ValueError struct {
	// Placeholder is the placeholder's name without braces, or path, body or
	// forward for a whole part of the request.
	Placeholder string
	// Why completes a sentence that begins with the placeholder, as in "must
	// not be a dot segment". It is empty if there is no value.
	Why string
}

// Error names the placeholder but never shows its value.
func (e *ValueError) Error() string {
	if e.Why == "" {
		return fmt.Sprintf("{%s} has no value", e.Placeholder)
	}
	return fmt.Sprintf("{%s} %s", e.Placeholder, e.Why)
}

// parseTemplate parses text. Braces that do not enclose a name stand for
// themselves.
func parseTemplate(text string, escape func(string) (string, error)) template {
	var t template
	from := 0 // what is before it is literal
	for text != "" {
		open := strings.IndexByte(text[from:], '{')
		length := -1
		if open >= 0 {
			open += from
			length = strings.IndexByte(text[open:], '}')
		}
		if length < 0 {
			return append(t, templatePart{literal: text})
		}
		if length == 1 {
			from = open + 2
			continue
		}
		from = 0
		if open > 0 {
			t = append(t, templatePart{literal: text[:open]})
		}
		t = append(t, templatePart{placeholder: text[open+1 : open+length], escape: escape})
		text = text[open+length+1:]
	}
	return t
}

func (t template) expand(lookup Lookup) (string, error) {
	var b strings.Builder
	for _, p := range t {
		if p.placeholder == "" {
			b.WriteString(p.literal)
			continue
		}
		value, ok := lookup(p.placeholder)
		if !ok || value == "" {
			return "", &ValueError{Placeholder: p.placeholder}
		}
		if value == timeMark(p.placeholder) && isTimePlaceholder(p.placeholder) {
			b.WriteString(value)
			continue
		}
		value, err := p.escape(value)
		if err != nil {
			return "", &ValueError{p.placeholder, err.Error()}
		}
		b.WriteString(value)
	}
	return b.String(), nil
}

// resolve expands the configuration's own placeholders once and for all.
func (t template) resolve(lookup Lookup) (template, error) {
	out := make(template, 0, len(t))
	for _, p := range t {
		if p.placeholder != "" && IsConfigPlaceholder(p.placeholder) {
			value, err := template{p}.expand(lookup)
			if err != nil {
				return nil, err
			}
			p = templatePart{literal: value}
		}
		out = append(out, p)
	}
	return out, nil
}

// placeholders returns the names that the configuration or a client's request
// gives a value.
func (t template) placeholders() []string {
	var names []string
	for _, p := range t {
		if p.placeholder != "" && !isTimePlaceholder(p.placeholder) {
			names = append(names, p.placeholder)
		}
	}
	return names
}

// sample returns the text with a harmless value for each placeholder.
func (t template) sample() string {
	s, _ := t.expand(func(string) (string, bool) { return "x", true })
	return s
}

// IsConfigPlaceholder reports whether a placeholder has the same value for every
// request, which the server's operator sets: {env.*}, {file.*} and {system.*}.
func IsConfigPlaceholder(name string) bool {
	return strings.HasPrefix(name, "env.") || strings.HasPrefix(name, "file.") || strings.HasPrefix(name, "system.")
}

// isPublicPlaceholder reports whether a placeholder depends on nothing but the
// URL that the client asked for. A document made from anything else is
// private.
func isPublicPlaceholder(name string) bool {
	switch name {
	case "http.request.host", "http.request.hostport", "http.request.port", "http.request.scheme", "http.request.method":
		return true
	}
	return strings.HasPrefix(name, "http.request.uri.") ||
		strings.HasPrefix(name, "http.request.orig_uri.") ||
		strings.HasPrefix(name, "http.request.host.labels.")
}

// isWholePlaceholder reports whether a placeholder stands for several path
// segments or parameters at once, which cannot be escaped for one place.
func isWholePlaceholder(name string) bool {
	name, ok := strings.CutPrefix(name, "http.request.")
	if !ok {
		return false
	}
	name = strings.TrimPrefix(strings.TrimSuffix(name, "_escaped"), "orig_")
	switch name {
	case "uri", "uri.path", "uri.path.dir", "uri.query", "uri.prefixed_query":
		return true
	}
	return false
}

func verbatim(value string) (string, error) { return value, nil }
