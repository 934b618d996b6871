package pollsse

import (
	"bytes"
	"io"
	"net/http"

	"github.com/pollsse/caddy-poll-sse/internal/upstream"
)

// read returns what a request's body asks for, if it only reads. In any case,
// the next handler can read the body from its beginning.
func (h *Handler) read(r *http.Request) (upstream.Read, bool) {
	if r.Body == nil || r.ContentLength > upstream.MaxRead {
		return upstream.Read{}, false
	}
	begun, err := io.ReadAll(io.LimitReader(r.Body, upstream.MaxRead+1))
	rest := io.Reader(r.Body)
	if err != nil {
		rest = failing{err}
	}
	r.Body = restored{io.MultiReader(bytes.NewReader(begun), rest), r.Body}
	if err != nil {
		return upstream.Read{}, false
	}
	return h.Reads.Match(r.Header, begun, h.Echo)
}

// restored is a body of which a part was read already.
type restored struct {
	io.Reader
	io.Closer
}

// failing is the end of a body that could not be read.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
