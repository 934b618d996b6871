package inspect

import (
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"
)

// secretName matches the names of fields and query parameters that hold
// secrets.
var secretName = regexp.MustCompile(`(?i)key|token|secret|sig|passw|auth|cookie|credential`)

// caddyfile writes a configuration that works as it is. What looks like a
// secret is read from the environment, and a comment says under which name.
// With unconditional, polls carry no condition: validators belong to a URL, and it
// is another one each time.
func caddyfile(t Target, interval, quiet time.Duration, s settings, unconditional bool) string {
	var b strings.Builder
	names := make(map[string]bool)
	env := func(name string) string {
		name = envName(name)
		if !names[name] {
			names[name] = true
			fmt.Fprintf(&b, "# Needs the environment variable %s.\n", name)
		}
		return "{env." + name + "}"
	}
	address := withoutSecrets(t.URL, env)
	if unconditional {
		separator := "?"
		if strings.Contains(address, "?") {
			separator = "&"
		}
		address += separator + "_={poll_sse.last_success.unix_ms}"
	}
	type line struct{ option, value string }
	lines := []line{{"interval", short(interval)}}
	if quiet > 0 {
		lines[0].value += " " + short(quiet)
	}
	for _, name := range slices.Sorted(maps.Keys(t.Header)) {
		for i, value := range t.Header[name] {
			if secretName.MatchString(name) {
				value = env("UPSTREAM_" + name)
			} else {
				value = token(value)
			}
			sign := ""
			if i > 0 {
				sign = "+"
			}
			lines = append(lines, line{"header_up", sign + name + " " + value})
		}
	}
	list := func(option string, patterns []string) {
		if len(patterns) > 0 {
			tokens := make([]string, 0, len(patterns))
			for _, p := range patterns {
				tokens = append(tokens, token(p))
			}
			lines = append(lines, line{option, strings.Join(tokens, " ")})
		}
	}
	list("omit", s.omit)
	list("ignore", s.ignore)
	for _, p := range slices.Sorted(maps.Keys(s.identify)) {
		lines = append(lines, line{"identify", token(p) + " " + token(s.identify[p])})
	}
	fmt.Fprintf(&b, ":8080 {\n\tpoll_sse %s %s {\n", path(t.URL), token(address))
	for _, l := range lines {
		fmt.Fprintf(&b, "\t\t%s %s\n", l.option, l.value)
	}
	b.WriteString("\t}\n}\n")
	return b.String()
}

// withoutSecrets returns the URL as the Caddyfile has it.
func withoutSecrets(text string, env func(string) string) string {
	u, err := url.Parse(text)
	if err != nil {
		return text
	}
	u.User, u.Fragment = nil, ""
	if u.RawQuery == "" {
		return braces.Replace(u.String())
	}
	var query []string
	for pair := range strings.SplitSeq(u.RawQuery, "&") {
		name, value, ok := strings.Cut(pair, "=")
		if ok && value != "" && secretName.MatchString(name) {
			pair = name + "=" + env("UPSTREAM_"+name)
		} else {
			pair = braces.Replace(pair)
		}
		query = append(query, pair)
	}
	u.RawQuery = ""
	return braces.Replace(u.String()) + "?" + strings.Join(query, "&")
}

// braces keeps braces of a URL from being read as placeholders.
var braces = strings.NewReplacer("{", "%7B", "}", "%7D")

// envName makes the name of an environment variable.
func envName(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z':
			return r - 'a' + 'A'
		case r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			return r
		}
		return '_'
	}, name)
}

// path returns the path at which the site serves the document, named like the
// last part of the URL's path.
func path(text string) string {
	name := ""
	if u, err := url.Parse(text); err == nil {
		name = u.Path[strings.LastIndexByte(u.Path, '/')+1:]
	}
	name, _, _ = strings.Cut(name, ".")
	name = strings.Map(func(r rune) rune {
		if r == '-' || r == '_' || r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' || r >= 'a' && r <= 'z' {
			return r
		}
		return -1
	}, name)
	if name == "" {
		return "/api"
	}
	return "/" + name
}

// token writes an argument so that the Caddyfile reads it as it is.
func token(s string) string {
	if s != "" && !strings.ContainsAny(s, " \t\r\n\"`\\#") && s != "{" && s != "}" {
		return s
	}
	if !strings.ContainsRune(s, '`') {
		return "`" + s + "`"
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// short writes a duration without zero parts.
func short(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// ParseField reads a header field as curl's -H takes it.
func ParseField(text string) (name, value string, err error) {
	name, value, ok := strings.Cut(text, ":")
	name = http.CanonicalHeaderKey(strings.TrimSpace(name))
	if !ok || name == "" {
		return "", "", fmt.Errorf("-H: need a field as in 'Accept-Language: en', not one without a colon")
	}
	return name, strings.TrimSpace(value), nil
}
