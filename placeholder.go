package pollsse

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	"github.com/pollsse/caddy-poll-sse/internal/upstream"
)

// Placeholder names, by their first words. Everything under http.request. is
// Caddy's own; the rest of http. is filled by handlers.
var (
	// shorthands are the Caddyfile's, which adapting has expanded.
	shorthands = map[string]string{
		"query": "http.request.uri.query", "path": "http.request.uri.path", "header": "http.request.header", "cookie": "http.request.cookie",
		"labels": "http.request.host.labels", "vars": "http.vars", "re": "http.regexp", "rp": "http.reverse_proxy", "resp": "http.intercept", "err": "http.error", "file_match": "http.matchers.file",
	}
	// near are the words that a first word is compared with. Shorter ones
	// would be near too many.
	near         = []string{"query", "path", "header", "cookie", "labels", "vars", "http", "env", "file", "system", "poll_sse"}
	httpWords    = []string{"request", "auth", "vars", "regexp", "matchers", "error", "reverse_proxy", "intercept", "response"}
	requestWords = []string{"body", "cookie", "header", "host", "hostport", "local", "method", "orig_method", "orig_uri", "port", "proto", "remote", "scheme", "tls", "uri", "uuid"}
	uriWords     = []string{"path", "query"}
)

// checkPlaceholder refuses the name of a placeholder of a client's request to
// which nothing will ever give a value: every request would be answered with
// 400.
func checkPlaceholder(name string) error {
	first, rest, dotted := strings.Cut(name, ".")
	mean := func(meant string) error {
		if meant == "" {
			return fmt.Errorf("{%s}: Caddy has no such placeholder", name)
		}
		return fmt.Errorf("{%s}: Caddy has no such placeholder; did you mean {%s}?", name, meant)
	}
	switch {
	case !dotted:
		return nil
	case shorthands[first] != "":
		// In JSON, and in a Caddyfile if the name has a character that
		// shorthands do not take.
		return fmt.Errorf("{%s}: only Caddyfiles have such short names, and only of letters, digits, - and _; write {%s.%s}", name, shorthands[first], rest)
	case strings.HasPrefix(name, "http.request.") && strings.HasSuffix(name, "."):
		return fmt.Errorf("{%s}: need a name behind the last dot", name)
	case strings.HasPrefix(name, "http.request."):
		if knownToCaddy(name) {
			return nil
		}
		return mean(meantOfRequest(strings.TrimPrefix(name, "http.request.")))
	case first == "http":
		word, rest, _ := strings.Cut(rest, ".")
		if meant := nearest(word, httpWords); meant != "" && meant != word {
			return mean("http." + meant + "." + rest)
		}
	case first != "time":
		if meant := nearest(first, near); meant != "" {
			return mean(meant + "." + rest)
		}
	}
	return nil
}

// checkPlaceholders checks all of a request.
func checkPlaceholders(t *upstream.Template) error {
	var errs []error
	for _, p := range t.Placeholders() {
		if err := checkPlaceholder(p.Name); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", p.Option, err))
		}
	}
	return errors.Join(errs...)
}

// meantOfRequest returns the placeholder that was probably meant by
// http.request.name, empty if there is none.
func meantOfRequest(name string) string {
	first, rest, _ := strings.Cut(name, ".")
	if first == "client_ip" {
		return "http.vars.client_ip"
	}
	if first == "uri" || first == "orig_uri" {
		word, rest, ok := strings.Cut(rest, ".")
		if meant := nearest(word, uriWords); ok && meant != "" && meant != word {
			return "http.request." + first + "." + meant + "." + rest
		}
		return ""
	}
	if meant := nearest(first, uriWords); meant != "" && rest != "" {
		return "http.request.uri." + meant + "." + rest
	}
	if meant := nearest(first, requestWords); meant != "" && meant != first {
		return strings.TrimSuffix("http.request."+meant+"."+rest, ".")
	}
	return ""
}

// knownToCaddy reports whether Caddy gives a placeholder of the request a value,
// even an empty one. It asks Caddy, with a sample request.
func knownToCaddy(name string) bool {
	ctx := context.WithValue(context.Background(), http.LocalAddrContextKey, net.Addr(&net.TCPAddr{Port: 80}))
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://localhost/", nil)
	if err != nil {
		return true
	}
	r.RemoteAddr = "127.0.0.1:1"
	repl := caddy.NewReplacer()
	caddyhttp.PrepareRequest(r, repl, nil, nil)
	_, known := repl.Get(name)
	return known
}

// warnOfForeign warns of placeholders that Caddy itself does not fill.
func (h *Handler) warnOfForeign() {
	var names []string
	for _, p := range h.request.Placeholders() {
		names = append(names, p.Name)
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if isForeignPlaceholder(name) {
			h.logger.Warn("Caddy has no such placeholder: unless map, vars or a plugin defines it, every request is answered with 400",
				zap.String("poll_sse", h.Name), zap.String("placeholder", "{"+name+"}"))
		}
	}
}

// isForeignPlaceholder reports whether a placeholder of a client's request has a
// value only if map, vars or a plugin defines it.
func isForeignPlaceholder(name string) bool {
	if strings.HasPrefix(name, "time.now") {
		return false
	}
	rest, ok := strings.CutPrefix(name, "http.")
	word, _, _ := strings.Cut(rest, ".")
	return !ok || !slices.Contains(httpWords, word)
}
