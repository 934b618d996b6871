package delivery

import (
	"errors"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/pollsse/caddy-poll-sse/internal/feed"
)

// etag is the strong entity tag of a version, or of its gzip form: another
// representation, which needs a tag of its own (RFC 9110, section 8.8.3.3).
// Caddy's encode names its own forms in the same way.
func etag(id string, zipped bool) string {
	if zipped {
		return `"` + id + `-gzip"`
	}
	return `"` + id + `"`
}

var (
	// ErrCold means that there was no document in time.
	ErrCold = errors.New("no document from the upstream in time")
	// ErrDown means that the upstream has failed and there never was a document.
	ErrDown = errors.New("the upstream sends no document")
	// ErrDenied means that the upstream refuses the client.
	ErrDenied = errors.New("the upstream refused the client")
)

// Document is the current document of a log, for one request.
type Document struct {
	Log *feed.Log
	// Timeout bounds the wait for a first document.
	Timeout time.Duration
	// MaxWait bounds the wait for a change of the document that the client has.
	MaxWait time.Duration
	// Interval is that of the polls, for Cache-Status.
	Interval time.Duration
	Private  bool
	// Gzip compresses the document for clients that accept it, unless a wrapper
	// around the response may want to see it.
	Gzip bool
	// Reload is closed when the configuration that answers is replaced, and its
	// connections are to end with their answers.
	Reload <-chan struct{}
}

// ServeDocument answers with the current document: at once, or, if the client has
// it and prefers to wait, after a change. It returns what the log shows and
// whether the client has that already, and, before anything is written, ErrCold,
// ErrDown, ErrDenied, or the error of a request whose client went away.
func (srv *Server) ServeDocument(w http.ResponseWriter, r *http.Request, d Document) (v feed.View, notModified bool, err error) {
	wait := preferredWait(r.Header, d.MaxWait)
	cold := !d.Log.View().Polled
	v, err = srv.await(r, d, wait)
	if srv.ending(d.Reload) {
		CloseConnection(w, r)
	}
	if err != nil {
		return v, false, err
	}
	if wait > 0 && r.Header.Get("If-None-Match") != "" {
		w.Header().Set("Preference-Applied", "wait="+strconv.Itoa(int(wait/time.Second)))
	}
	// Added, not set: caches on the way append theirs, RFC 9211 section 2.
	w.Header().Add("Cache-Status", cacheStatus(v, cold, d.Interval))
	return v, writeDocument(w, r, v, d.Private, d.Gzip && !srv.isWatched(w)), nil
}

// ending reports whether the connections of a configuration are to end, because
// of a reload or an exit.
func (srv *Server) ending(reload <-chan struct{}) bool {
	select {
	case <-srv.exit:
	case <-reload:
	default:
		return false
	}
	return true
}

// CloseConnection makes the connection end with the answer; HTTP/2 then says
// GOAWAY. Over HTTP/3 there is no such field, and servers tell late connections
// by themselves.
func CloseConnection(w http.ResponseWriter, r *http.Request) {
	if r.ProtoMajor <= 2 {
		w.Header().Set("Connection", "close")
	}
}

// await waits for the document that the request gets: the first one, or the
// next one if the client has the current one and asked to wait.
func (srv *Server) await(r *http.Request, d Document, wait time.Duration) (feed.View, error) {
	ctx := r.Context()
	v := d.Log.View()
	if r.Method == http.MethodGet {
		var err error
		if v, err = d.Log.AwaitPoll(ctx, d.Timeout, srv.exit); err != nil {
			return v, err
		}
	}
	switch {
	case v.Document == nil && v.Denial != nil:
		return v, ErrDenied
	case v.Document == nil && v.Polled:
		return v, ErrDown
	case v.Document == nil:
		return v, ErrCold
	}
	if wait <= 0 || r.Method != http.MethodGet || !matchesETag(r.Header, v.Document.ID) {
		return v, nil
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	for !v.Superseded && matchesETag(r.Header, v.Document.ID) {
		select {
		case <-ctx.Done():
			return v, ctx.Err()
		case <-srv.exit:
			return v, nil
		case <-timer.C:
			return v, nil
		case <-v.Wake:
			if v = d.Log.View(); v.Document == nil {
				return v, ErrDenied
			}
		}
	}
	return v, nil
}

// writeDocument answers with the document of v, compressed if the client takes
// gzip and mayZip allows it, or with 304 if the client has it in any form.
func writeDocument(w http.ResponseWriter, r *http.Request, v feed.View, private, mayZip bool) (notModified bool) {
	has, hasZipped := namedForms(r.Header, v.Document.ID)
	var zipped []byte
	if has == hasZipped && mayZip && acceptsGzip(r.Header) {
		zipped = v.Document.Gzip()
	}
	h := w.Header()
	addFields(h, v.Fields)
	// A 304 names the form that the client has: a cache looks for it by this.
	h.Set("ETag", etag(v.Document.ID, zipped != nil || hasZipped && !has))
	h.Set("Age", strconv.Itoa(int(max(0, time.Since(v.Validated))/time.Second)))
	switch {
	case !private:
		h.Set("Cache-Control", "no-cache")
	case v.NoStore:
		h.Set("Cache-Control", "private, no-store")
	default:
		h.Set("Cache-Control", "private, no-cache")
	}
	if has || hasZipped {
		w.WriteHeader(http.StatusNotModified)
		return true
	}
	body := v.Document.Text
	if zipped != nil {
		body = zipped
		h.Set("Content-Encoding", "gzip")
	}
	if v.Fields.Get("Content-Type") == "" {
		h.Set("Content-Type", "application/json")
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(http.StatusOK)
	if r.Method != http.MethodHead {
		_, _ = w.Write(body)
	}
	return false
}

// addFields adds fields that the upstream's answer had. What handlers before this
// one have set stays, as it would with a proxy.
func addFields(h, fields http.Header) {
	for name, values := range fields {
		if name == "Server" {
			h.Del(name)
		}
		for _, value := range values {
			if !slices.Contains(h[name], value) {
				h.Add(name, value)
			}
		}
	}
}

// WriteAnswer answers a POST with the document of v, or with a text that stands
// for it, which is not compressed. No cache may answer another request with it.
func WriteAnswer(w http.ResponseWriter, r *http.Request, v feed.View, text []byte, mayZip bool, interval time.Duration) {
	h := w.Header()
	if text == nil {
		text = v.Document.Text
		if zipped := v.Document.Gzip(); mayZip && zipped != nil && acceptsGzip(r.Header) {
			text = zipped
			h.Set("Content-Encoding", "gzip")
		}
	}
	addFields(h, v.Fields)
	h.Set("Cache-Control", "no-store")
	h.Add("Cache-Status", cacheStatus(v, false, interval))
	h.Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(http.StatusOK)
	_, _ = w.Write(text)
}

// cacheStatus says, in the terms of RFC 9211, how a document came to the client:
// from the source, with what is left of its interval (less than nothing if the
// upstream is late) and why it is stale; or from the upstream, if the request had
// to wait for the first poll.
func cacheStatus(v feed.View, waited bool, interval time.Duration) string {
	if waited {
		return "poll_sse; fwd=miss; stored"
	}
	ttl := int64((interval - max(0, time.Since(v.Validated))) / time.Second)
	value := "poll_sse; hit; ttl=" + strconv.FormatInt(ttl, 10)
	if v.Status.State == feed.Stale {
		value += "; detail=" + v.Status.Reason
	}
	return value
}
