package pollsse

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"reflect"
	"slices"
	"strings"
)

// connKey is where the context of a request has its connection, if that is
// one that can be taken over.
type connKey struct{}

// noteConn keeps a connection in the context of its requests where its
// descriptor carries the bytes of HTTP as they are, or TLS and nothing else: TCP
// or a Unix socket, with no PROXY protocol and no other listener wrapper between.
func noteConn(ctx context.Context, c net.Conn) context.Context {
	switch c := bareConn(c).(type) {
	case *net.TCPConn, *net.UnixConn:
		return context.WithValue(ctx, connKey{}, c)
	case *tls.Conn:
		if _, ok := c.NetConn().(*net.TCPConn); ok {
			return context.WithValue(ctx, connKey{}, c)
		}
	}
	return ctx
}

// bareConn takes off what Caddy puts around a connection without TLS where the
// server has HTTP/1.1 but not HTTP/2 (`protocols h1`): it only looks at the
// first bytes for HTTP/2's preface. Its type is not exported, its connection is.
func bareConn(c net.Conn) net.Conn {
	v := reflect.Indirect(reflect.ValueOf(c))
	if t := v.Type(); t.PkgPath() != "github.com/caddyserver/caddy/v2/modules/caddyhttp" || t.Name() != "http2Conn" {
		return c
	}
	if inner := v.FieldByName("Conn"); inner.IsValid() {
		if inner, ok := inner.Interface().(net.Conn); ok {
			return inner
		}
	}
	return c
}

// mayTakeOver tells whether nothing is lost when the rest of the answer goes
// past net/http: HTTP/1.1, which is chunked from here on, a request that
// has been read whole, and no wrapper around the response that might want to
// change or keep its body. Those of Caddy do not with our headers (encode
// leaves no-transform alone).
func mayTakeOver(w http.ResponseWriter, r *http.Request) bool {
	if !directDelivery || r.ProtoMajor != 1 || r.ProtoMinor != 1 {
		return false
	}
	switch c := r.Context().Value(connKey{}).(type) {
	case nil:
		return false
	case *tls.Conn:
		if !canMeasure(c) {
			return false
		}
	}
	if r.ContentLength != 0 || len(r.TransferEncoding) > 0 || r.Header.Get("Expect") != "" || len(r.Trailer) > 0 {
		return false
	}
	return onlyCaddys(w)
}

// serverPackages are where the response writers of the server's HTTP versions
// come from.
var serverPackages = []string{"net/http", "golang.org/x/net/http2", "github.com/quic-go/quic-go/http3"}

// onlyCaddys tells whether all wrappers around a response are Caddy's own.
func onlyCaddys(w http.ResponseWriter) bool {
	for {
		t := reflect.TypeOf(w)
		if t.Kind() == reflect.Pointer {
			t = t.Elem()
		}
		if slices.Contains(serverPackages, t.PkgPath()) {
			return true
		}
		if !strings.HasPrefix(t.PkgPath(), "github.com/caddyserver/caddy/v2/") {
			return false
		}
		u, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return false
		}
		w = u.Unwrap()
	}
}

// innermost is the response writer that all others wrap.
func innermost(w http.ResponseWriter) http.ResponseWriter {
	for {
		u, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return w
		}
		w = u.Unwrap()
	}
}

// sendHeader sends the header through every wrapper, so that logs, metrics and
// header directives see the answer. It gives the innermost writer.
func sendHeader(w http.ResponseWriter) (http.ResponseWriter, error) {
	w.WriteHeader(http.StatusOK)
	if err := http.NewResponseController(w).Flush(); err != nil {
		return nil, fmt.Errorf("sending the header: %w", err)
	}
	inner := innermost(w)
	// If a wrapper has kept the header to itself, this sends it.
	if _, err := inner.Write(nil); err != nil {
		return nil, fmt.Errorf("sending the header: %w", err)
	}
	if err := http.NewResponseController(inner).Flush(); err != nil {
		return nil, fmt.Errorf("sending the header: %w", err)
	}
	return inner, nil
}

// takeOver sends the header and takes the connection away from net/http. The
// connection comes from the innermost writer: a wrapper's would keep the request
// in memory and count bytes that are not its own.
func takeOver(w http.ResponseWriter) (net.Conn, error) {
	cutter := newCutter(innermost(w))
	inner, err := sendHeader(w)
	cutter.release()
	if err != nil {
		return nil, err
	}
	hijacker, ok := inner.(http.Hijacker)
	if !ok {
		return nil, errors.New("the connection cannot be taken over")
	}
	// What the client has sent already is dropped with the reader: no
	// further request on this connection is answered.
	c, _, err := hijacker.Hijack()
	if err != nil {
		return nil, err
	}
	return bareConn(c), nil
}

// clientAddr is the address of the other end, for the log.
func clientAddr(r *http.Request) netip.AddrPort {
	a, _ := netip.ParseAddrPort(r.RemoteAddr)
	return a
}
