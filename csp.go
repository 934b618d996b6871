package pollsse

import (
	"net"
	"slices"
	"strings"
)

// allowsScript reports whether a Content-Security-Policy, level 3, lets a page of
// a host load a script from a path of that host that the parser meets in the
// page, without a nonce or a hash. If in doubt, it returns false.
func allowsScript(policy, host, path string) bool {
	directives := make(map[string][]string)
	for directive := range strings.SplitSeq(policy, ";") {
		words := strings.Fields(directive)
		if len(words) == 0 {
			continue
		}
		name := strings.ToLower(words[0])
		if _, given := directives[name]; !given { // the first one counts
			directives[name] = words[1:]
		}
	}
	if flags, ok := directives["sandbox"]; ok && !slices.ContainsFunc(flags, func(f string) bool { return strings.EqualFold(f, "allow-scripts") }) {
		return false
	}
	for _, name := range []string{"script-src-elem", "script-src", "default-src"} {
		sources, ok := directives[name]
		if !ok {
			continue
		}
		allowed := false
		for _, source := range sources {
			if strings.EqualFold(source, "'strict-dynamic'") {
				return false // only nonces and hashes count then
			}
			allowed = allowed || sourceMatches(source, host, path)
		}
		return allowed
	}
	return true
}

// sourceMatches reports whether one source expression stands for a path of the
// page's own host, section 6.7.2.
func sourceMatches(source, host, path string) bool {
	lower := strings.ToLower(source)
	switch {
	case lower == "'self'", lower == "*", lower == "http:", lower == "https:":
		return true
	case strings.HasPrefix(lower, "'"):
		return false
	}
	if scheme, rest, ok := strings.Cut(lower, "://"); ok {
		if scheme != "http" && scheme != "https" {
			return false
		}
		lower = rest
		source = source[len(source)-len(rest):]
	}
	authority, wanted := lower, ""
	if i := strings.IndexByte(lower, '/'); i >= 0 {
		authority, wanted = lower[:i], source[i:] // paths are case-sensitive
	}
	name, port := splitPort(authority)
	own, ownPort := splitPort(strings.ToLower(host))
	if suffix, ok := strings.CutPrefix(name, "*."); ok {
		if !strings.HasSuffix(own, "."+suffix) {
			return false
		}
	} else if name != own {
		return false
	}
	if port != "*" && port != ownPort && !(isDefaultPort(port) && isDefaultPort(ownPort)) {
		return false
	}
	switch {
	case wanted == "" || wanted == "/":
		return true
	case strings.HasSuffix(wanted, "/"):
		return strings.HasPrefix(path, wanted)
	}
	return path == wanted
}

func splitPort(authority string) (host, port string) {
	if host, port, err := net.SplitHostPort(authority); err == nil {
		return host, port
	}
	return authority, ""
}

func isDefaultPort(port string) bool { return port == "" || port == "80" || port == "443" }
