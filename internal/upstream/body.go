package upstream

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"regexp"
	"slices"
	"strings"
)

// pollMethods are the methods that ask for something without changing it, as
// their APIs use them. QUERY is in RFC draft httpbis-safe-method-w-body, SEARCH
// in RFC 5323, REPORT in RFC 3253.
var pollMethods = []string{http.MethodGet, http.MethodPost, "QUERY", "SEARCH", "REPORT"}

// maxRequestBody bounds the body of a poll, expanded.
const maxRequestBody = 1 << 20

const (
	typeJSON = "application/json"
	typeForm = "application/x-www-form-urlencoded"
)

// bodyPlaceholder is a placeholder in a body. Its name has a dot, as the names
// of Caddy's placeholders have: a single word in braces is GraphQL.
var bodyPlaceholder = regexp.MustCompile(`\{[a-zA-Z][^\s{}"']*\.[^\s{}"']+\}`)

// compileBody prepares the method and the body of the polls. It needs the header
// fields: Content-Type says how placeholders are escaped, or else the look of
// the text does.
func (t *Template) compileBody(method, text string, config Lookup) error {
	t.method = method
	if method == "" {
		t.method = http.MethodGet
		if text != "" {
			t.method = http.MethodPost
		}
	}
	if upper := strings.ToUpper(t.method); upper != t.method && slices.Contains(pollMethods, upper) {
		return fmt.Errorf("method %s: need %s, in capitals", t.method, upper)
	}
	if !slices.Contains(pollMethods, t.method) {
		return fmt.Errorf("method %s: need one of %s", t.method, strings.Join(pollMethods, ", "))
	}
	if text == "" {
		return nil
	}
	if t.method == http.MethodGet {
		return errors.New("body: a GET has none (RFC 9110 section 9.3.1); use method POST")
	}
	if len(text) > maxRequestBody {
		return errors.New("body: longer than 1 MiB")
	}
	contentType := ""
	for _, f := range slices.Concat(t.set, t.add) {
		if f.name == "Content-Type" {
			contentType = f.value.sample()
		}
	}
	kind, _, _ := strings.Cut(strings.ToLower(contentType), ";")
	kind = strings.TrimSpace(kind)
	isJSON := kind == typeJSON || strings.HasSuffix(kind, "+json")
	if kind == "" {
		switch first := strings.TrimSpace(text)[:1]; {
		case first == "{" || first == "[":
			isJSON, t.contentType = true, typeJSON
		default:
			kind, t.contentType = typeForm, typeForm
		}
	}
	var err error
	switch {
	case isJSON:
		t.body = parseJSONBody(text)
		sample, sampleErr := t.body.expand(func(string) (string, bool) { return "1", true })
		if sampleErr != nil || !json.Valid([]byte(sample)) {
			return errors.New("body: not JSON; set Content-Type with header_up for anything else")
		}
	case kind == typeForm:
		t.body = parseBody(text, func(bool) func(string) (string, error) { return escapeQuery })
	default:
		t.body = parseBody(text, func(bool) func(string) (string, error) { return verbatim })
		for _, name := range t.body.placeholders() {
			if !IsConfigPlaceholder(name) {
				return fmt.Errorf("body: {%s} can be escaped for JSON and for forms, not for %s", name, kind)
			}
		}
	}
	t.body, err = t.compilePart("body", "body", t.body, config)
	return err
}

// parseJSONBody parses a JSON text. Inside a string a value is escaped;
// elsewhere it has to be a number, true, false or null.
func parseJSONBody(text string) template {
	return parseBody(text, func(quoted bool) func(string) (string, error) {
		if quoted {
			return escapeJSONString
		}
		return escapeJSONScalar
	})
}

// parseBody parses text. escape is told whether the place is within double
// quotes.
func parseBody(text string, escape func(quoted bool) func(string) (string, error)) template {
	var t template
	quoted, begin := false, 0
	for _, at := range bodyPlaceholder.FindAllStringIndex(text, -1) {
		literal := text[begin:at[0]]
		for i := 0; i < len(literal); i++ {
			switch {
			case literal[i] == '\\' && quoted:
				i++
			case literal[i] == '"':
				quoted = !quoted
			}
		}
		t = append(t, templatePart{literal: literal}, templatePart{placeholder: text[at[0]+1 : at[1]-1], escape: escape(quoted)})
		begin = at[1]
	}
	return append(t, templatePart{literal: text[begin:]})
}

func escapeJSONString(value string) (string, error) {
	b, err := json.Marshal(value)
	if err != nil {
		return "", err
	}
	return string(b[1 : len(b)-1]), nil
}

var jsonScalar = regexp.MustCompile(`^(-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?|true|false|null)$`)

func escapeJSONScalar(value string) (string, error) {
	if !jsonScalar.MatchString(value) {
		return "", errors.New("must be a number, true, false or null where it stands; put it in quotes for anything else")
	}
	return value, nil
}
