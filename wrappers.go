package pollsse

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"reflect"
	"slices"
	"strings"

	"github.com/pollsse/caddy-poll-sse/internal/delivery"
)

// connContext keeps a connection in the context of its requests if direct
// delivery can take it over.
func connContext(ctx context.Context, c net.Conn) context.Context {
	return delivery.ConnContext(ctx, bareConn(c))
}

// caddyModules is where Caddy's own wrappers come from.
const caddyModules = "github.com/caddyserver/caddy/v2/modules/caddyhttp"

// bareConn takes off what Caddy puts around a connection without TLS if the server
// has HTTP/1.1 but not HTTP/2 (`protocols h1`): it only looks at the first bytes
// for HTTP/2's preface. Its type is not exported, its connection is.
func bareConn(c net.Conn) net.Conn {
	v := reflect.Indirect(reflect.ValueOf(c))
	if t := v.Type(); t.PkgPath() != caddyModules || t.Name() != "http2Conn" {
		return c
	}
	if inner := v.FieldByName("Conn"); inner.IsValid() {
		if inner, ok := inner.Interface().(net.Conn); ok {
			return inner
		}
	}
	return c
}

// transparentTypes are the wrappers of Caddy that leave a body with our header
// fields alone. Most of these types are not exported. encode heeds no-transform.
var transparentTypes = []string{
	"*caddyhttp.IdleTimeoutWriter",
	"*caddyhttp.ResponseWriterWrapper", // by itself
	"*caddyhttp.readDeadlineWriter",
	"*encode.responseWriter",
	"*headers.responseWriterWrapper",
}

// transparent reports whether events may go past a wrapper around a response. A
// wrapper that is not known may change the body, keep it or replace the answer.
func transparent(w http.ResponseWriter) bool {
	t := reflect.TypeOf(w)
	if t.Kind() != reflect.Pointer {
		return false
	}
	if t.Elem().PkgPath() == "github.com/felixge/httpsnoop" {
		return true // tracing's, which counts; its types have numbers for names
	}
	if !strings.HasPrefix(t.Elem().PkgPath(), caddyModules) {
		return false
	}
	// The server and its metrics have recorders, too, which only count.
	if r, ok := w.(interface{ Buffer() *bytes.Buffer }); ok && t.String() == "*caddyhttp.responseRecorder" {
		return r.Buffer() == nil
	}
	return slices.Contains(transparentTypes, t.String())
}
