package upstream

import (
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"

	"golang.org/x/net/http/httpguts"
)

type fieldTemplate struct {
	name  string // canonical
	value template
}

// forwarded is one header field, or one cookie, that clients' requests carry
// to the upstream.
type forwarded struct{ field, cookie string }

// maxForwarded bounds what one client's fields add to a request, in bytes.
const maxForwarded = 16 << 10

// checkFieldNames checks the names of the fields that a configuration sets,
// adds or deletes.
func checkFieldNames(c Config) error {
	names := slices.Concat(slices.Collect(maps.Keys(c.Set)), slices.Collect(maps.Keys(c.Add)), c.Delete)
	slices.Sort(names)
	var errs []error
	for _, name := range slices.Compact(names) {
		switch {
		case strings.Contains(name, "*"):
			errs = append(errs, fmt.Errorf("header_up %s: name one field; wildcards are not supported", name))
		case !isToken(name):
			errs = append(errs, fmt.Errorf("header_up %q: not a header field name", name))
		case isReserved(name):
			errs = append(errs, fmt.Errorf("header_up %s: this field belongs to the connection or to the poller", name))
		}
	}
	return errors.Join(errs...)
}

// compileFields prepares configured header fields.
func (t *Template) compileFields(fields http.Header, config Lookup) ([]fieldTemplate, error) {
	var out []fieldTemplate
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		option := "header_up " + name
		for _, value := range fields[name] {
			parts := parseTemplate(value, escapeField)
			for _, p := range parts {
				if _, err := escapeField(p.literal); err != nil {
					errs = append(errs, fmt.Errorf("%s: the value %w", option, err))
				}
			}
			if slices.ContainsFunc(parts, func(p templatePart) bool { return isTimePlaceholder(p.placeholder) }) {
				errs = append(errs, fmt.Errorf("%s: only the query and the body can tell the time of the last success", option))
			}
			parts, err := t.resolve(option, parts, config)
			if err != nil {
				errs = append(errs, fmt.Errorf("%s: %w", option, err))
			}
			out = append(out, fieldTemplate{http.CanonicalHeaderKey(name), parts})
		}
	}
	return out, errors.Join(errs...)
}

// compileForward parses what the option forward names: a header field, or
// cookie:NAME for one cookie.
func (t *Template) compileForward(names []string) error {
	var errs []error
	for _, name := range names {
		cookie, isCookie := strings.CutPrefix(name, "cookie:")
		switch {
		case isCookie && !isToken(cookie):
			errs = append(errs, fmt.Errorf("forward %q: need a cookie's name, as in cookie:session", name))
		case isCookie:
			t.forward = append(t.forward, forwarded{field: "Cookie", cookie: cookie})
		case !isToken(name):
			errs = append(errs, fmt.Errorf("forward %q: not a header field name", name))
		case strings.EqualFold(name, "Cookie"):
			errs = append(errs, errors.New("forward Cookie: every analytics cookie would make a document of its own; name one cookie, as in cookie:session"))
		case strings.EqualFold(name, "Host"):
			errs = append(errs, errors.New("forward Host: use header_up Host {http.request.host} instead"))
		case strings.EqualFold(name, "Traceparent"), strings.EqualFold(name, "Tracestate"):
			errs = append(errs, fmt.Errorf("forward %s: each request would have a document of its own; with Caddy's tracing, the upstream is told which request has caused a poll", name))
		case isReserved(name):
			errs = append(errs, fmt.Errorf("forward %s: this field belongs to the connection or to the poller", name))
		default:
			t.forward = append(t.forward, forwarded{field: http.CanonicalHeaderKey(name)})
		}
	}
	if len(t.forward) > 0 {
		t.private = true
	}
	return errors.Join(errs...)
}

// expandHeader makes the header of the upstream request for one client request.
func (t *Template) expandHeader(lookup Lookup, client *http.Request) (http.Header, error) {
	header := make(http.Header)
	if t.contentType != "" {
		header.Set("Content-Type", t.contentType)
	}
	size := 0
	for _, f := range t.forward {
		if f.cookie == "" {
			for _, v := range client.Header.Values(f.field) {
				size += len(v)
				header.Add(f.field, v)
			}
			continue
		}
		for _, c := range client.CookiesNamed(f.cookie) {
			size += len(c.Value)
			header.Add("Cookie", f.cookie+"="+c.Value)
		}
	}
	if size > maxForwarded {
		return nil, &ValueError{"forward", "is larger than 16 KiB"}
	}
	if cookies := header["Cookie"]; len(cookies) > 1 {
		header["Cookie"] = []string{strings.Join(cookies, "; ")}
	}
	for _, f := range t.set {
		v, err := f.value.expand(lookup)
		if err != nil {
			return nil, err
		}
		header.Set(f.name, v)
	}
	for _, f := range t.add {
		v, err := f.value.expand(lookup)
		if err != nil {
			return nil, err
		}
		header.Add(f.name, v)
	}
	for _, name := range t.remove {
		// A nil value keeps net/http from sending its default.
		header[http.CanonicalHeaderKey(name)] = nil
	}
	return header, nil
}

// isReserved reports whether neither clients nor the configuration may set a
// request header field: the connection or the poller needs it.
func isReserved(name string) bool {
	switch http.CanonicalHeaderKey(name) {
	case "Connection", "Keep-Alive", "Proxy-Connection", "Te", "Trailer", "Transfer-Encoding", "Upgrade", "Content-Length",
		"Accept-Encoding", "If-None-Match", "If-Modified-Since", "If-Match", "If-Unmodified-Since", "If-Range", "Range", "Last-Event-Id", "Expect":
		return true
	}
	return false
}

// isToken reports whether s is a token, RFC 9110 section 5.6.2, as the names of
// fields and cookies are.
func isToken(s string) bool { return httpguts.ValidHeaderFieldName(s) }

// escapeField accepts a value that can stand in a header field, RFC 9110
// section 5.5.
func escapeField(value string) (string, error) {
	if !httpguts.ValidHeaderFieldValue(value) {
		return "", errors.New("must not hold control characters")
	}
	return value, nil
}
