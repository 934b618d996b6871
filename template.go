package pollsse

import (
	"fmt"
	"net/url"
	"strings"
)

// template is a configured text with placeholders, cut up once. Each
// placeholder is expanded on its own and escaped for the place where it
// stands, so that a client's value can never leave it.
type template []templatePart

type templatePart struct {
	literal     string // or:
	placeholder string // a name, without braces
	escape      func(string) (string, error)
}

// lookup gives the value of a placeholder for one request.
type lookup func(name string) (string, bool)

// valueError is a placeholder that a request leaves empty or fills with
// something that cannot stand in its place: the client's error.
type valueError struct{ placeholder, why string }

func (e *valueError) Error() string { return fmt.Sprintf("{%s} %s", e.placeholder, e.why) }

// parseTemplate cuts text up. Braces that do not enclose a name stand for
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

func (t template) expand(get lookup) (string, error) {
	var b strings.Builder
	for _, p := range t {
		if p.placeholder == "" {
			b.WriteString(p.literal)
			continue
		}
		value, ok := get(p.placeholder)
		if !ok || value == "" {
			return "", &valueError{p.placeholder, "has no value"}
		}
		if value == pollMark(p.placeholder) && isPollPlaceholder(p.placeholder) {
			b.WriteString(value)
			continue
		}
		value, err := p.escape(value)
		if err != nil {
			return "", &valueError{p.placeholder, err.Error()}
		}
		b.WriteString(value)
	}
	return b.String(), nil
}

// resolve expands the placeholders that are the configuration's own, once and
// for all.
func (t template) resolve(get lookup) (template, error) {
	out := make(template, 0, len(t))
	for _, p := range t {
		if p.placeholder != "" && isConfigPlaceholder(p.placeholder) {
			value, err := template{p}.expand(get)
			if err != nil {
				return nil, err
			}
			p = templatePart{literal: value}
		}
		out = append(out, p)
	}
	return out, nil
}

// placeholders are those that depend on the client's request or on the
// configuration.
func (t template) placeholders() []string {
	var names []string
	for _, p := range t {
		if p.placeholder != "" && !isPollPlaceholder(p.placeholder) {
			names = append(names, p.placeholder)
		}
	}
	return names
}

// isConfigPlaceholder tells whether a placeholder has the same value for every
// request, given by who runs the server.
func isConfigPlaceholder(name string) bool {
	return strings.HasPrefix(name, "env.") || strings.HasPrefix(name, "file.") || strings.HasPrefix(name, "system.")
}

// isPublicPlaceholder tells whether a placeholder depends on nothing but the
// URL that the client asked for. A document made from anything else is
// private.
func isPublicPlaceholder(name string) bool {
	switch name {
	case "http.request.host", "http.request.hostport", "http.request.port", "http.request.scheme", "http.request.method":
		return true
	}
	return isConfigPlaceholder(name) || isPollPlaceholder(name) ||
		strings.HasPrefix(name, "http.request.uri.") ||
		strings.HasPrefix(name, "http.request.orig_uri.") ||
		strings.HasPrefix(name, "http.request.host.labels.")
}

// isWholePlaceholder tells whether a placeholder stands for several path
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

// escapeSegment makes value one path segment.
func escapeSegment(value string) (string, error) {
	if value == "." || value == ".." {
		return "", fmt.Errorf("must not be a dot segment")
	}
	return url.PathEscape(value), nil
}

func escapeQuery(value string) (string, error) { return url.QueryEscape(value), nil }

// escapeField lets a value through that can stand in a header field, RFC 9110
// section 5.5.
func escapeField(value string) (string, error) {
	for i := range len(value) {
		if c := value[i]; c < ' ' && c != '\t' || c == 0x7f {
			return "", fmt.Errorf("must not hold control characters")
		}
	}
	return value, nil
}

func verbatim(value string) (string, error) { return value, nil }
