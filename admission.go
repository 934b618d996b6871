package pollsse

import (
	"net/http"
	"net/netip"

	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
)

// admission describes the client of a request to the pool.
func (h *Handler) admission(r *http.Request, request [32]byte, stream, returning bool) admission {
	address, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	client, _ := netip.ParseAddr(address)
	return admission{
		claim:          h.claim,
		client:         network(client),
		request:        request,
		running:        h.engine.started.Load(),
		returning:      returning,
		stream:         stream,
		shared:         !h.request.PerClient(),
		uncounted:      standsForMany(r, client),
		maxSources:     h.MaxSources,
		maxSubscribers: h.MaxSubscribers,
		maxPerClient:   h.MaxStreamsPerClient,
	}
}

// network returns the part of an address that counts as one client: a host that
// has one IPv6 address has 2^64 of them.
func network(a netip.Addr) netip.Addr {
	a = a.Unmap().WithZone("")
	if !a.Is6() {
		return a
	}
	prefix, _ := a.Prefix(64) // has that many bits
	return prefix.Addr()
}

// standsForMany reports whether the address of a request may be that of a proxy
// and not of one client: it is loopback, unknown, or private and sends
// forwarding fields. Behind a proxy that trusted_proxies names, the address is
// the client's.
func standsForMany(r *http.Request, client netip.Addr) bool {
	peer, _ := netip.ParseAddrPort(r.RemoteAddr)
	if !client.IsValid() {
		return true
	}
	return client.Unmap() == peer.Addr().Unmap() && (client.Unmap().IsLoopback() || hidesClients(r))
}

// hidesClients reports whether a request comes through a proxy whose clients
// cannot be told apart: its peer is private and sends forwarding fields, but
// no trusted_proxies names it.
func hidesClients(r *http.Request) bool {
	address, _ := caddyhttp.GetVar(r.Context(), caddyhttp.ClientIPVarKey).(string)
	client, _ := netip.ParseAddr(address)
	peer, _ := netip.ParseAddrPort(r.RemoteAddr)
	a := peer.Addr().Unmap()
	if client.Unmap() != a || !a.IsPrivate() && !a.IsLoopback() && !a.IsLinkLocalUnicast() {
		return false
	}
	for _, field := range []string{"Forwarded", "X-Forwarded-For", "X-Real-Ip"} {
		if r.Header.Get(field) != "" {
			return true
		}
	}
	return false
}

// proxyAdvice is for a proxy that is refused because all of its clients have
// one address. Nobody else gets it: how the server is set up is none of the
// public's business.
const proxyAdvice = "all clients of this proxy count as one; name it in trusted_proxies of the global servers option so that each counts by itself"

// warnOfProxy warns, once for each name, that all clients of a proxy share what
// is meant for one client.
func (h *Handler) warnOfProxy(r *http.Request) {
	if !h.request.PerClient() || !hidesClients(r) {
		return
	}
	if _, warned := h.engine.warned.LoadOrStore(h.Name, true); warned {
		return
	}
	h.logger.Warn("a proxy sends requests, but Caddy does not know it: "+proxyAdvice,
		zap.String("poll_sse", h.Name), zap.String("proxy", r.RemoteAddr), zap.Int("documents_at_most", max(1, h.MaxSources/clientShare)))
}
