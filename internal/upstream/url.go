package upstream

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// Parts of the URL, as errors name them.
const (
	placePath  = "upstream: the path"
	placeQuery = "upstream: the query"
)

// compileURL parses a configured URL. Scheme and authority are expanded here,
// with the configuration's own placeholders only: no client chooses a host.
func (t *Template) compileURL(text string, config Lookup) error {
	t.display = Redact(text)
	fail := func(format string, args ...any) error {
		return fmt.Errorf("upstream %q: "+format, append([]any{t.display}, args...)...)
	}
	// {env.UPSTREAM}/quotes is as good as https://host/quotes.
	i := 0
	if j := strings.Index(text, "://"); j >= 0 {
		i = j + len("://")
	}
	i += indexOutside(text[i:], "/?#")
	origin, rest := text[:i], text[i:]
	originTemplate := parseTemplate(origin, verbatim)
	for _, name := range originTemplate.placeholders() {
		if !IsConfigPlaceholder(name) {
			return fail("scheme and host are the configuration's alone: only {env.*}, {file.*} and {system.*} may stand there, not {%s}", name)
		}
	}
	origin, err := originTemplate.expand(config)
	if err != nil {
		return fail("%w", err)
	}
	// A placeholder may have brought a path of its own.
	if i := strings.Index(origin, "://"); i >= 0 {
		if j := strings.IndexAny(origin[i+3:], "/?#"); j >= 0 {
			origin, rest = origin[:i+3+j], origin[i+3+j:]+rest
		}
	}
	if strings.Contains(rest, "#") {
		return fail("a fragment never reaches a server; remove #…")
	}
	u, err := url.Parse(origin)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.Hostname() == "":
		meant := ""
		if host := text[:indexOutside(text, "/?#")]; strings.Trim(host, ":") != "" && strings.ContainsAny(host, ".:") && !strings.ContainsAny(host, "{}@") && !strings.Contains(text, "://") {
			meant = fmt.Sprintf("; did you mean http://%s?", t.display)
		}
		return fail("need an absolute URL such as https://legacy.internal/quotes.json%s", meant)
	case u.User != nil:
		return fail("credentials in the URL would show in logs; use basic_auth <user> {env.PASSWORD} in the block")
	}
	path, query, hasQuery := strings.Cut(rest, "?")
	if path == "" {
		path = "/"
	}
	t.origin, t.hasQuery = origin, hasQuery
	if t.path, err = t.compilePart("upstream", placePath, parseTemplate(path, escapeSegment), config); err != nil {
		return err
	}
	if t.query, err = t.compilePart("upstream", placeQuery, parseTemplate(query, escapeQuery), config); err != nil {
		return err
	}
	if _, err := url.ParseRequestURI(t.origin + t.path.sample() + "?" + t.query.sample()); err != nil {
		return fail("%w", errors.Unwrap(err))
	}
	return nil
}

// indexOutside returns the index in text of the first of chars outside of
// braces, or the length of text.
func indexOutside(text, chars string) int {
	inside := false
	for i := range len(text) {
		switch c := text[i]; {
		case c == '{' || c == '}':
			inside = c == '{'
		case !inside && strings.IndexByte(chars, c) >= 0:
			return i
		}
	}
	return len(text)
}

// escapeSegment makes value one path segment.
func escapeSegment(value string) (string, error) {
	if value == "." || value == ".." {
		return "", errors.New("must not be a dot segment")
	}
	return url.PathEscape(value), nil
}

func escapeQuery(value string) (string, error) { return url.QueryEscape(value), nil }

// hasDotSegment reports whether an escaped path holds a segment that a server
// may resolve to another path. Two placeholders can make one together, and an
// escaped slash or a backslash can hide it: servers do decode them first.
func hasDotSegment(path string) bool {
	decoded, err := url.PathUnescape(path)
	if err != nil {
		return true
	}
	for segment := range strings.FieldsFuncSeq(decoded, func(r rune) bool { return r == '/' || r == '\\' }) {
		if segment == "." || segment == ".." {
			return true
		}
	}
	return false
}

// Redact returns a configured URL as logs, metrics, errors and the admin API
// show it: scheme, host and path. A query and what stands before an @ may hold
// a secret, even one that {$ENV} has put there, and become "…". Placeholders
// stay as they are.
func Redact(text string) string {
	if i := strayUserinfo.FindStringIndex(text); i != nil {
		text = shownScheme(text) + "…" + text[i[1]-1:]
	}
	scheme := shownScheme(text)
	rest := text[len(scheme):]
	authority := rest[:indexOutside(rest, "/?#")]
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		rest = "…" + rest[at:]
	}
	if i := indexOutside(rest, "?#"); i < len(rest) {
		rest = rest[:i+1] + "…"
	}
	return scheme + rest
}

// strayUserinfo matches a user name with a password that is not escaped as a
// URL needs it: what follows the first colon is no port.
var strayUserinfo = regexp.MustCompile(`^(?:[^:/?#]*://)?[^/?#@:{}\[]*:[0-9]*[^0-9/?#@{].*@`)

func shownScheme(text string) string {
	if i := strings.Index(text, "://"); i >= 0 && i < indexOutside(text, "/?#") {
		return text[:i+len("://")]
	}
	return ""
}
