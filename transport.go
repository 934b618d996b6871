package pollsse

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp/reverseproxy"
)

// loadTransport loads the configured transport, or a plain http one.
func (h *Handler) loadTransport(ctx caddy.Context) (http.RoundTripper, error) {
	if h.TransportRaw == nil {
		t := new(reverseproxy.HTTPTransport)
		if err := t.Provision(ctx); err != nil {
			return nil, fmt.Errorf("transport: %w", err)
		}
		return pollTransport{t}, nil
	}
	module, err := ctx.LoadModule(h, "TransportRaw")
	if err != nil {
		return nil, fmt.Errorf("transport: %w", err)
	}
	t, ok := module.(*reverseproxy.HTTPTransport)
	if !ok {
		return nil, errors.New("transport: only http is supported")
	}
	if t.ProxyProtocol != "" {
		return nil, errors.New("transport: proxy_protocol is not supported: a poll stands for no single client")
	}
	return pollTransport{t}, nil
}

// pollTransport gives every poll a fresh Replacer, without which the transport
// crashes on tls_server_name with a placeholder.
type pollTransport struct{ *reverseproxy.HTTPTransport }

func (t pollTransport) RoundTrip(r *http.Request) (*http.Response, error) {
	return t.HTTPTransport.RoundTrip(r.WithContext(context.WithValue(r.Context(), caddy.ReplacerCtxKey, caddy.NewReplacer())))
}

// CloseIdleConnections serves http.Client.CloseIdleConnections.
func (t pollTransport) CloseIdleConnections() { t.Transport.CloseIdleConnections() }
