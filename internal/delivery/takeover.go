package delivery

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
)

// connKey is the key under which the context of a request has its connection,
// if that can be taken over.
type connKey struct{}

// ConnContext keeps a connection in the context of its requests, for
// http.Server.ConnContext, if its descriptor carries the bytes of HTTP as they
// are, or TLS and nothing else: TCP or a Unix socket, with no PROXY protocol and
// no other listener wrapper between.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	switch c := c.(type) {
	case *net.TCPConn, *net.UnixConn:
		return context.WithValue(ctx, connKey{}, c)
	case *tls.Conn:
		if _, ok := c.NetConn().(*net.TCPConn); ok {
			return context.WithValue(ctx, connKey{}, c)
		}
	}
	return ctx
}

// mayTakeOver reports whether nothing is lost when the rest of the answer goes
// past net/http: HTTP/1.1, which is chunked from here on, a request that has been
// read whole, and no wrapper around the response that might want to change or
// keep its body.
func (srv *Server) mayTakeOver(w http.ResponseWriter, r *http.Request) bool {
	if !directDelivery || r.ProtoMajor != 1 || r.ProtoMinor != 1 {
		return false
	}
	switch c := r.Context().Value(connKey{}).(type) {
	case nil:
		return false
	case *tls.Conn:
		if !reportsFreeSpace(c) {
			return false
		}
	}
	if r.ContentLength != 0 || len(r.TransferEncoding) > 0 || r.Header.Get("Expect") != "" || len(r.Trailer) > 0 {
		return false
	}
	return srv.mayBypass(w)
}

// serverPackages are where the response writers of the server's HTTP versions
// come from.
var serverPackages = []string{"net/http", "golang.org/x/net/http2", "github.com/quic-go/quic-go/http3"}

// mayBypass reports whether events may be written to the innermost writer, past all
// wrappers around it.
func (srv *Server) mayBypass(w http.ResponseWriter) bool {
	inner := reflect.Indirect(reflect.ValueOf(innermost(w))).Type()
	return slices.Contains(serverPackages, inner.PkgPath()) && !srv.isWatched(w)
}

// isWatched reports whether a wrapper around a response may want to see its
// body, or to replace it. Such a wrapper gets all of it, uncompressed.
func (srv *Server) isWatched(w http.ResponseWriter) bool {
	for {
		u, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return false
		}
		if srv.transparent == nil || !srv.transparent(w) {
			return true
		}
		w = u.Unwrap()
	}
}

// innermost returns the response writer that all others wrap.
func innermost(w http.ResponseWriter) http.ResponseWriter {
	for {
		u, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return w
		}
		w = u.Unwrap()
	}
}

// keeps reports whether a wrapper keeps the answer, to replace it or to look at all
// of it, now that the header has been written. Caddy's recorders say so.
func keeps(w http.ResponseWriter) bool {
	for {
		if b, ok := w.(interface{ Buffered() bool }); ok && b.Buffered() {
			return true
		}
		u, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return false
		}
		w = u.Unwrap()
	}
}

// sendHeader sends the header, and the first bytes of the body, through every
// wrapper, so that logs, metrics and header directives see the answer. It returns
// the innermost writer.
func sendHeader(w http.ResponseWriter, first []byte) (http.ResponseWriter, error) {
	w.WriteHeader(http.StatusOK)
	// Flushed only then, so that both leave in one write if they are small.
	if _, err := w.Write(first); err != nil {
		return nil, fmt.Errorf("sending the header: %w", err)
	}
	inner := innermost(w)
	if err := http.NewResponseController(inner).Flush(); err != nil {
		return nil, fmt.Errorf("sending the header: %w", err)
	}
	return inner, nil
}

// takeOver sends the header and the first bytes of the body, and takes the
// connection away from net/http. It is the innermost writer's that is taken: a
// wrapper would keep the request in memory and count bytes that are not its own.
func (srv *Server) takeOver(w http.ResponseWriter, r *http.Request, first []byte) (net.Conn, error) {
	timer := srv.writeTimers.start(innermost(w), nil)
	inner, err := sendHeader(w, first)
	timer.release()
	if err != nil {
		return nil, err
	}
	hijacker, ok := inner.(http.Hijacker)
	if !ok {
		return nil, errors.New("the connection cannot be taken over")
	}
	// What the client has sent already is dropped with the reader: no
	// further request on this connection is answered.
	if _, _, err := hijacker.Hijack(); err != nil {
		return nil, err
	}
	return r.Context().Value(connKey{}).(net.Conn), nil
}

// clientAddr returns the address of the other end, for logs.
func clientAddr(r *http.Request) netip.AddrPort {
	a, _ := netip.ParseAddrPort(r.RemoteAddr)
	return a
}
