package pollsse

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/caddyserver/certmagic"
	"go.uber.org/zap"

	"github.com/pollsse/caddy-poll-sse/internal/upstream"
)

// lint returns what is allowed but hardly meant. Each error begins with the
// name of an option.
func (h *Handler) lint() []error {
	var found []error
	note := func(format string, args ...any) { found = append(found, fmt.Errorf(format, args...)) }
	_, query, _ := strings.Cut(h.Upstream, "?")
	for pair := range strings.SplitSeq(query, "&") {
		name, value, _ := strings.Cut(pair, "=")
		if secretParam.MatchString(name) && value != "" && !strings.HasPrefix(value, "{") {
			note("upstream: the query's %s looks like a secret: as {env.NAME} or {file.PATH} it is not part of the configuration, which the admin API shows", name)
		}
		if wait, ok := longPoll(name, value); ok && wait > time.Duration(h.Timeout) {
			note("timeout %s is shorter than the %s that the upstream may wait by %s: every poll of a document that does not change fails", time.Duration(h.Timeout), wait, pair)
		}
	}
	if h.Compress == compressGzip && len(h.Forward) > 0 {
		note("compress gzip, and forward makes the documents private: where a page can have text of its own put into a document, the length of what is sent tells what else is in it (BREACH)")
	}
	if h.Append != nil && !h.AlwaysOn {
		note("append without always_on: what the upstream gives only once is lost while nobody reads")
	}
	return found
}

var secretParam = regexp.MustCompile(`(?i)key|token|secret|sig(nature)?$|passw`)

// longPoll reads how long an upstream may wait with its answer, if a query
// parameter says so: seconds, or a duration.
func longPoll(name, value string) (time.Duration, bool) {
	switch strings.ToLower(name) {
	case "wait", "timeout", "poll_timeout", "waitseconds":
	default:
		return 0, false
	}
	if n, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(n) * time.Second, true
	}
	text, err := url.QueryUnescape(value)
	if err != nil {
		return 0, false
	}
	d, err := time.ParseDuration(text)
	return d, err == nil
}

// linted holds the warnings that were logged when a Caddyfile was adapted, so
// that they are not repeated without a line when the same process provisions
// the handler.
var linted sync.Map

// places says where each handler stands in its Caddyfile, for warnings that need
// the server, too. The keys are of Handler.place. A value is "" if several handlers
// have the same key.
var places sync.Map

// place returns the handler's key in places. The name must be as it was written, or
// what setDefaults makes it.
func (h *Handler) place() string {
	return h.Upstream + "\n" + cmp.Or(h.Name, upstream.Redact(h.Upstream))
}

// errNameLimits says that two handlers have one name and different limits.
var errNameLimits = errors.New("name: two poll_sse have this one and different max_sources or max_subscribers; what they hold counts together, and each holds it against limits of its own")

// lintAt logs what is hardly meant, with file and line. state belongs to the
// adaptation, and may be nil. The handler has its defaults.
func (h *Handler) lintAt(d *caddyfile.Dispenser, seen map[string]caddyfile.Dispenser, state map[string]any) {
	found := h.lint()
	if state != nil {
		name := h.Name
		if name == upstream.Redact(h.Upstream) {
			name = h.Upstream // by default, others that look alike have other names
		}
		key, own := "poll_sse name "+name, limits{sources: h.MaxSources, subscribers: h.MaxSubscribers}
		if first, ok := state[key].(limits); !ok {
			state[key] = own
		} else if first != own {
			found = append(found, errNameLimits)
		}
		at := seen["upstream"]
		if _, twice := places.LoadOrStore(h.place(), fmt.Sprintf(", at %s:%d", at.File(), at.Line())); twice {
			places.Store(h.place(), "")
		}
	}
	for _, err := range found {
		linted.Store(h.Upstream+"\n"+err.Error(), true)
		caddy.Log().Named("http.handlers.poll_sse").Warn(wrapAt(d, seen, err).Error(), zap.String("upstream", upstream.Redact(h.Upstream)))
	}
}

// lintProvisioned logs what is hardly meant in a configuration that this
// process did not adapt from a Caddyfile.
func (h *Handler) lintProvisioned() {
	for _, err := range h.lint() {
		if _, told := linted.LoadAndDelete(h.Upstream + "\n" + err.Error()); !told {
			h.logger.Warn(err.Error(), zap.String("poll_sse", h.Name))
		}
	}
}

// lintServer warns of a site that browsers reach over HTTP/1.1 only. It must be
// called while the handler is provisioned. at ends the message, and says where the
// handler stands.
//
// A site without a public name is likely to be a developer's, or behind a proxy. So
// is one with h2c, which browsers do not speak.
func (h *Handler) lintServer(server *caddyhttp.Server, at string) {
	scheme, advice := "https", "let its server's protocols have h2"
	if len(server.TLSConnPolicies) == 0 {
		scheme, advice = "http", "serve it over HTTPS, as Caddy does by itself if its address does not begin with http://"
		if slices.Contains(server.Protocols, "h2c") || !slices.ContainsFunc(server.Listen, isHTTPPort) {
			return
		}
	} else if slices.Contains(server.Protocols, "h2") {
		return
	}
	for _, host := range hostsOf(server) {
		if certmagic.SubjectQualifiesForPublicCert(host) {
			h.logger.Warn("browsers reach this site over HTTP/1.1, with six connections for all their tabs, and each stream takes one of them: "+advice+", unless a proxy in front of it speaks HTTP/2"+at,
				zap.String("poll_sse", h.Name), zap.String("site", scheme+"://"+host))
			return
		}
	}
}

func isHTTPPort(listen string) bool {
	address, err := caddy.ParseNetworkAddress(listen)
	return err == nil && address.StartPort <= caddyhttp.DefaultHTTPPort && caddyhttp.DefaultHTTPPort <= address.EndPort
}

// hostsOf returns the hosts of the route that a server provisions now. Caddy does
// that in order, and clears HandlersRaw when a route is done.
func hostsOf(server *caddyhttp.Server) (hosts []string) {
	for _, route := range server.Routes {
		if route.HandlersRaw == nil {
			continue
		}
		for _, set := range route.MatcherSets {
			for _, matcher := range set {
				if m, ok := matcher.(*caddyhttp.MatchHost); ok {
					hosts = append(hosts, *m...)
				}
			}
		}
		return hosts
	}
	return nil
}

// lintInterval warns once for each name and interval if the upstream's answers are
// fresh for longer, so that it is polled less often.
func (p *poller) lintInterval(fresh time.Duration) {
	s := p.schedule
	fresh = min(fresh, cmp.Or(s.longest, fresh))
	if s.ignore || fresh <= s.interval || !p.total.advised.news("interval "+s.interval.String(), math.MaxInt64) {
		return
	}
	fresh = (fresh + time.Second - 1).Truncate(time.Second)
	p.source.environment.Load().logger.Warn(fmt.Sprintf("interval: the upstream's answers say that they are good for longer (Cache-Control, Expires or X-Poll-Interval), so it is polled less often; write interval %s, or honor off if it changes sooner", fresh),
		zap.String("poll_sse", p.source.claimed), zap.String("upstream", p.request.Display()), zap.Duration("interval", s.interval))
}

// lintName warns if handlers of one name have different limits.
func (a *App) lintName(h *Handler, own limits) {
	if was := a.limits[h.Name]; was.interval != 0 && (was.sources != own.sources || was.subscribers != own.subscribers) {
		if _, told := linted.LoadAndDelete(h.Upstream + "\n" + errNameLimits.Error()); !told {
			a.logger.Warn(errNameLimits.Error(), zap.String("poll_sse", h.Name))
		}
	}
}
