package pollsse

import (
	"bytes"
	"cmp"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/net/html"
)

// maxHead is how much of a page, decoded, is looked at for its head. A page
// whose head is longer gets its script without a look at the rest of it.
const maxHead = 64 << 10

// asksForPage reports whether a request may be for a document of a window or a
// frame. Browsers say so with Sec-Fetch-Dest (W3C Fetch Metadata), but only to
// secure origins; without it the answer has to look like one, too.
func asksForPage(r *http.Request) bool {
	if r.Method != http.MethodGet && r.Method != http.MethodHead || isUpgrade(r.Header) {
		return false
	}
	if dest := r.Header.Get("Sec-Fetch-Dest"); dest != "" {
		return dest == "document" || dest == "iframe"
	}
	accept := r.Header.Get("Accept")
	return !strings.EqualFold(r.Header.Get("X-Requested-With"), "XMLHttpRequest") &&
		(accept == "" || strings.Contains(accept, "text/html") || strings.Contains(accept, "*/*"))
}

// htmlPage is the answer to a request for a document: an HTML page gets a tag at
// the beginning of its head, and everything else passes. A page that is
// compressed is decompressed and compressed again. One goroutine decompresses;
// it ends with finish or abandon.
type htmlPage struct {
	w       http.ResponseWriter
	request *http.Request // as the next handler is to see it
	tag     []byte
	mark    string   // what sets apart the entity tags of pages with the tag
	paths   []string // of the scripts that have to be allowed
	tell    func(reason, detail string)

	certain bool // Sec-Fetch-Dest says that it is a document
	began   bool // the header is written
	out     io.Writer

	// Of an HTML page:
	head   []byte   // what has come of it, until the place for the tag is known
	looked int      // how much of the head was there at the last look
	placed bool     // nothing is held back any more
	recode *recoder // nil if nothing is compressed

	// Of a compressed one:
	pipe     *io.PipeWriter
	done     chan struct{}
	err      error       // what went wrong, once done is closed
	flushing atomic.Bool // the next wait for input is to be preceded by a flush
}

// newHTMLPage prepares the answer to a request that asksForPage.
func newHTMLPage(w http.ResponseWriter, r *http.Request, tag []byte, mark string, paths []string, tell func(reason, detail string)) *htmlPage {
	p := &htmlPage{w: w, tag: tag, mark: mark, paths: paths, tell: tell, certain: r.Header.Get("Sec-Fetch-Dest") != ""}
	p.request = r.WithContext(r.Context())
	p.request.Header = r.Header.Clone()
	h := p.request.Header
	// A page that was stored without the tag, or with another one, is not the
	// page that a condition would confirm.
	var known []string
	for _, line := range h.Values("If-None-Match") {
		for tag := range strings.SplitSeq(line, ",") {
			if plain, ok := strings.CutSuffix(strings.TrimSpace(tag), mark+`"`); ok {
				known = append(known, plain+`"`)
			}
		}
	}
	for _, field := range []string{"If-None-Match", "If-Modified-Since", "If-Match", "If-Unmodified-Since", "If-Range", "Range"} {
		h.Del(field)
	}
	if known != nil {
		h.Set("If-None-Match", strings.Join(known, ", "))
	}
	codings := []string{"identity"}
	for _, coding := range []string{"gzip", "zstd"} {
		if acceptsCoding(r.Header, coding) {
			codings = append(codings, coding)
		}
	}
	h.Set("Accept-Encoding", strings.Join(codings[min(1, len(codings)-1):], ", "))
	return p
}

// acceptsCoding reports whether a request accepts a content coding by name.
func acceptsCoding(h http.Header, coding string) bool {
	for _, line := range h.Values("Accept-Encoding") {
		for member := range strings.SplitSeq(line, ",") {
			name, params, _ := strings.Cut(member, ";")
			if !strings.EqualFold(strings.TrimSpace(name), coding) {
				continue
			}
			_, q, weighted := strings.Cut(params, "=")
			weight, err := strconv.ParseFloat(strings.TrimSpace(q), 64)
			return !weighted || err == nil && weight > 0
		}
	}
	return false
}

func (p *htmlPage) Header() http.Header { return p.w.Header() }

// Unwrap serves http.ResponseController, which finds Flush here first.
func (p *htmlPage) Unwrap() http.ResponseWriter { return p.w }

func (p *htmlPage) WriteHeader(status int) {
	if p.began {
		return
	}
	if status < 200 {
		p.w.WriteHeader(status)
		return
	}
	p.began = true
	p.out = p.w
	h := p.Header()
	switch {
	case status == http.StatusNotModified:
		if p.request.Header.Get("If-None-Match") != "" {
			p.markTag(h)
		}
	case status == http.StatusNoContent || status == http.StatusPartialContent || !isHTML(h):
	default:
		h.Add("Vary", "Sec-Fetch-Dest")
		if reason, detail := p.obstacle(h); reason != "" {
			p.tell(reason, detail)
			break
		}
		h.Del("Content-Length")
		h.Del("Accept-Ranges")
		h.Del("Last-Modified") // says when the page changed, not when the tag did
		h.Del("Content-MD5")
		h.Del("Digest")
		h.Del("Repr-Digest")
		h.Del("Content-Digest")
		p.markTag(h)
		p.out = pageText{p}
		if coding := contentCoding(h); coding != "" && p.request.Method != http.MethodHead {
			p.decode(coding)
		}
	}
	p.w.WriteHeader(status)
}

// markTag makes the entity tag that of the page with the script.
func (p *htmlPage) markTag(h http.Header) {
	if tag := h.Get("ETag"); strings.HasSuffix(tag, `"`) {
		h.Set("ETag", strings.TrimSuffix(tag, `"`)+p.mark+`"`)
	}
}

// isHTML reports whether an answer is HTML in a charset that contains ASCII.
func isHTML(h http.Header) bool {
	kind, params, err := mime.ParseMediaType(h.Get("Content-Type"))
	charset := strings.ToLower(params["charset"])
	return err == nil && kind == "text/html" && !strings.HasPrefix(charset, "utf-16") && !strings.HasPrefix(charset, "utf-32")
}

func contentCoding(h http.Header) string {
	coding := strings.ToLower(strings.TrimSpace(strings.Join(h.Values("Content-Encoding"), ",")))
	switch coding {
	case "identity":
		return ""
	case "x-gzip":
		return "gzip"
	}
	return coding
}

// obstacle returns why a page has to stay as it is; empty if it need not.
func (p *htmlPage) obstacle(h http.Header) (reason, detail string) {
	if coding := contentCoding(h); coding != "" && coding != "gzip" && coding != "zstd" {
		return "its content coding is not known", coding
	}
	for _, line := range h.Values("Cache-Control") {
		for directive := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(directive), "no-transform") {
				return "its Cache-Control says no-transform", line // RFC 9111, section 5.2.2.6
			}
		}
	}
	for _, line := range h.Values("Content-Security-Policy") {
		for policy := range strings.SplitSeq(line, ",") {
			if p.forbidden(policy) {
				return "its Content-Security-Policy forbids the script", policy
			}
		}
	}
	return "", ""
}

func (p *htmlPage) forbidden(policy string) bool {
	return slices.ContainsFunc(p.paths, func(path string) bool { return !allowsScript(policy, p.request.Host, path) })
}

func (p *htmlPage) Write(b []byte) (int, error) {
	p.WriteHeader(http.StatusOK)
	if p.pipe != nil {
		return p.pipe.Write(b)
	}
	return p.out.Write(b)
}

// FlushError serves http.ResponseController.
func (p *htmlPage) FlushError() error {
	p.WriteHeader(http.StatusOK)
	if p.pipe == nil {
		return http.NewResponseController(p.w).Flush()
	}
	p.flushing.Store(true)
	_, err := p.pipe.Write(nil) // wakes the goroutine once it has read everything
	return err
}

// decode has what is written decompressed, changed and compressed again.
func (p *htmlPage) decode(coding string) {
	r, w := io.Pipe()
	p.pipe, p.done = w, make(chan struct{})
	// Lazily, so that an empty body stays empty.
	p.recode = &recoder{coding: coding, w: p.w}
	go func() {
		defer close(p.done)
		p.err = p.copyDecoded(coding, pageInput{p, r})
		r.CloseWithError(cmp.Or(p.err, io.ErrClosedPipe))
	}()
}

func (p *htmlPage) copyDecoded(coding string, r io.Reader) error {
	var decoded io.Reader
	switch coding {
	case "gzip":
		z, err := gzip.NewReader(r)
		if err == io.EOF {
			return nil // no body
		}
		if err != nil {
			return fmt.Errorf("decompressing a page: %w", err)
		}
		decoded = z
	case "zstd":
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(8<<20)) // RFC 9659
		if err != nil {
			return fmt.Errorf("decompressing a page: %w", err)
		}
		defer z.Close()
		decoded = z
	}
	if _, err := io.Copy(pageText{p}, decoded); err != nil {
		return fmt.Errorf("decompressing a page: %w", err)
	}
	return nil
}

// pageInput is what the handler has written. A read means that the reader has
// used up what there was.
type pageInput struct {
	p *htmlPage
	r *io.PipeReader
}

func (i pageInput) Read(b []byte) (int, error) {
	if i.p.flushing.Swap(false) {
		if err := i.p.recode.Flush(); err != nil {
			return 0, err
		}
		if err := http.NewResponseController(i.p.w).Flush(); err != nil {
			return 0, err
		}
	}
	return i.r.Read(b)
}

// recoder compresses, from the first byte on.
type recoder struct {
	coding string
	w      io.Writer
	z      interface {
		io.WriteCloser
		Flush() error
	}
}

func (c *recoder) Write(b []byte) (int, error) {
	if c.z == nil {
		if c.coding == "gzip" {
			c.z = gzip.NewWriter(c.w)
		} else {
			z, err := zstd.NewWriter(c.w, zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true), zstd.WithWindowSize(1<<20))
			if err != nil {
				return 0, err
			}
			c.z = z
		}
	}
	return c.z.Write(b)
}

func (c *recoder) Flush() error {
	if c.z == nil {
		return nil
	}
	return c.z.Flush()
}

func (c *recoder) Close() error {
	if c.z == nil {
		return nil
	}
	return c.z.Close()
}

// pageText takes a page as plain text, holds its head back until the place for the
// tag is known, and writes it on.
type pageText struct{ p *htmlPage }

func (t pageText) Write(b []byte) (int, error) {
	p := t.p
	if p.placed {
		return p.forward(b)
	}
	p.head = append(p.head, b...)
	// A page that comes in very small pieces is not looked at with each.
	if grown := len(p.head) - p.looked; len(p.head) < maxHead && grown < 1024 && (len(p.head) > 4096 || !bytes.ContainsRune(b, '>')) {
		return len(b), nil
	}
	if err := p.place(len(p.head) >= maxHead); err != nil {
		return 0, err
	}
	return len(b), nil
}

func (p *htmlPage) forward(b []byte) (int, error) {
	if p.recode != nil {
		return p.recode.Write(b)
	}
	return p.w.Write(b)
}

// place puts the tag into its place, if it is known by now; with final it has
// to be.
func (p *htmlPage) place(final bool) error {
	p.looked = len(p.head)
	found := findHead(p.head[:min(len(p.head), maxHead)], final)
	if !found.decided {
		return nil
	}
	p.placed = true
	head := p.head
	p.head = nil
	switch {
	case !p.certain && !found.document, found.at < 0:
	case slices.ContainsFunc(found.policies, p.forbidden):
		p.tell("the Content-Security-Policy in its <meta> forbids the script", strings.Join(found.policies, ", "))
	default:
		head = slices.Insert(head, found.at, p.tag...)
	}
	if len(head) == 0 {
		return nil
	}
	_, err := p.forward(head)
	return err
}

// finish ends the answer once the next handler has returned without an error.
func (p *htmlPage) finish() error {
	if !p.began {
		return nil // net/http answers with an empty 200
	}
	if p.pipe != nil {
		p.pipe.Close()
		<-p.done
		if p.err != nil {
			p.tell("it cannot be decompressed", p.err.Error())
			// Half a page must not look like a whole one.
			panic(http.ErrAbortHandler)
		}
	}
	if _, ok := p.out.(pageText); !ok {
		return nil
	}
	if !p.placed {
		if err := p.place(true); err != nil {
			return err
		}
	}
	if p.recode != nil {
		return p.recode.Close()
	}
	return nil
}

// abandon ends the goroutine of an answer that the next handler has not finished.
// After finish it does nothing.
func (p *htmlPage) abandon() {
	if p.pipe != nil {
		p.pipe.CloseWithError(errors.New("the next handler failed"))
		<-p.done
	}
}

// pageHead is what was found at the beginning of a page.
type pageHead struct {
	decided  bool
	at       int      // where the tag goes; -1: nowhere
	document bool     // it begins as a document does, not as a fragment
	policies []string // of <meta http-equiv="Content-Security-Policy">
}

// headTags are what a head may hold, HTML standard, section 4.2. Any other tag
// ends it.
var headTags = []string{"base", "basefont", "bgsound", "link", "meta", "noframes", "noscript", "script", "style", "template", "title"}

// findHead looks for the beginning of the head of a page, and for policies up
// to its end. The text may end anywhere; with final there is no more of it, or
// no more is to be waited for.
func findHead(text []byte, final bool) pageHead {
	f := pageHead{at: -1, decided: true}
	z := html.NewTokenizer(bytes.NewReader(text))
	for end := 0; ; {
		kind := z.Next()
		start := end
		end += len(z.Raw())
		if kind == html.ErrorToken || end == len(text) && kind != html.StartTagToken && kind != html.EndTagToken && kind != html.SelfClosingTagToken {
			// What comes last may be half of something else.
			f.decided = final
			f.document = f.document || kind == html.DoctypeToken
			if final && f.at < 0 && len(text) > 0 {
				f.at = start
				if kind == html.DoctypeToken {
					f.at = end
				}
			}
			return f
		}
		switch kind {
		case html.DoctypeToken:
			f.document = true
			continue
		case html.CommentToken:
			continue
		case html.TextToken:
			if f.at >= 0 || len(bytes.TrimSpace(bytes.TrimPrefix(z.Raw(), []byte("\uFEFF")))) == 0 {
				continue // of a title, a style or a script; or between two tags
			}
			f.at = start
			return f
		}
		raw, hasAttributes := z.TagName()
		name := string(raw)
		switch {
		case name == "html" && kind != html.EndTagToken:
			f.document = true
		case name == "head" && kind != html.EndTagToken:
			if f.at < 0 { // browsers ignore a second one
				f.at = end
			}
		case name == "head", name == "body", name == "html", !slices.Contains(headTags, name):
			if f.at < 0 {
				f.at = start
			}
			return f
		default:
			if f.at < 0 {
				f.at = start
			}
			if name == "meta" && hasAttributes {
				if policy, ok := metaPolicy(z); ok {
					f.policies = append(f.policies, policy)
				}
			}
		}
	}
}

// metaPolicy returns the policy that a meta element carries.
func metaPolicy(z *html.Tokenizer) (policy string, ok bool) {
	for more := true; more; {
		var name, value []byte
		name, value, more = z.TagAttr()
		switch string(name) {
		case "http-equiv":
			ok = strings.EqualFold(strings.TrimSpace(string(value)), "content-security-policy")
		case "content":
			policy = string(value)
		}
	}
	return policy, ok
}
