package upstream

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/bits"
	"mime"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/klauspost/compress/zstd"
	textencoding "golang.org/x/text/encoding"
	"golang.org/x/text/encoding/htmlindex"
	"golang.org/x/text/encoding/unicode"
	"golang.org/x/text/transform"
)

// acceptEncoding is what decode understands.
const acceptEncoding = "gzip, deflate, zstd"

// maxCodings bounds how many content codings are taken off one body.
const maxCodings = 3

// zstdWindow is what a zstd decoder needs to allow, and may use, in HTTP: RFC
// 9659 section 3.
const zstdWindow = 8 << 20

// Formats of a body.
const (
	FormatAuto   = "auto" // JSON or NDJSON, by Content-Type
	FormatJSON   = "json"
	FormatNDJSON = "ndjson" // JSON texts on lines of their own, or behind record separators
)

// read returns the JSON text of an answer's body without its content codings,
// charset and wrapping. It reads at most MaxBody decoded bytes and ends with
// ctx. The text is valid until release.
func (c *Client) read(ctx context.Context, resp *http.Response) ([]byte, error) {
	raw := &brokenOff{r: resp.Body}
	defer func() { c.received += raw.read }()
	layers := layers{ctx: ctx, max: codedRoom + 2*c.reading.MaxBody}
	r, err := layers.uncoded(raw, resp.Header)
	if err != nil {
		return nil, layers.blame(raw, err)
	}
	defer r.Close()
	if r == raw && resp.ContentLength > c.reading.MaxBody {
		return nil, &Fault{Reason: ReasonTooLarge, Err: fmt.Errorf("Content-Length %d is over max_body %d", resp.ContentLength, c.reading.MaxBody)}
	}
	c.release()
	c.body = bodies.get(c.bodySize + c.bodySize/16 + bytes.MinRead) // about as large as the last one
	n, err := c.body.ReadFrom(io.LimitReader(r, c.reading.MaxBody+1))
	switch {
	case n > c.reading.MaxBody:
		return nil, c.tooLarge()
	case err != nil:
		return nil, layers.blame(raw, err)
	}
	c.bodySize = int(n)
	contentType, params, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err := c.toUTF8(params["charset"]); err != nil {
		return nil, err
	}
	text := bytes.TrimSpace(c.body.Bytes())
	if len(text) == 0 {
		return nil, &Fault{Reason: ReasonEmpty, Err: errors.New("body is empty")}
	}
	format := c.reading.Format
	if format == "" || format == FormatAuto {
		format = FormatJSON
		if slices.Contains(lineTypes, contentType) {
			format = FormatNDJSON
		}
	}
	if format == FormatNDJSON {
		return joinLines(text)
	}
	if c.request.tree {
		return text, nil // what guards it is the page's to take off
	}
	return unwrap(text), nil
}

func (c *Client) tooLarge() error {
	return &Fault{Reason: ReasonTooLarge, Err: fmt.Errorf("body is over max_body %d", c.reading.MaxBody)}
}

// bodies are buffers for bodies. A client has one from an answer to its Commit;
// what is published is a copy. So sources whose documents do not change, most
// of them most of the time, retain none.
var bodies bufferPool

// bufferPool has a pool for each power of two, so that small bodies do not
// take the buffers of large ones.
type bufferPool [bits.UintSize]sync.Pool

// get returns an empty buffer with room for so many bytes.
func (p *bufferPool) get(size int) *bytes.Buffer {
	class := bits.Len(uint(size - 1))
	if b, _ := p[class].Get().(*bytes.Buffer); b != nil {
		return b
	}
	return bytes.NewBuffer(make([]byte, 0, 1<<class))
}

func (p *bufferPool) put(b *bytes.Buffer) {
	b.Reset()
	p[bits.Len(uint(b.Cap()))-1].Put(b)
}

// release returns the body's buffer to the pool.
func (c *Client) release() {
	if c.body != nil {
		bodies.put(c.body)
		c.body = nil
	}
}

// brokenOff is a body that remembers how the connection failed, so that the
// coding is not blamed for it.
type brokenOff struct {
	r    io.Reader
	read int64
	err  error
}

func (b *brokenOff) Read(to []byte) (int, error) {
	n, err := b.r.Read(to)
	b.read += int64(n)
	if err != nil && err != io.EOF {
		b.err = err
	}
	return n, err
}

func (b *brokenOff) Close() error { return nil } // the body's owner does

// codedRoom is how much larger than twice MaxBody a coded form of the body may
// be: codings have headers, and servers that flush often make text longer.
const codedRoom = 64 << 10

// layers are the content codings of one body. Each layer decodes at most max
// bytes: blocks that decode to nothing are work, too.
type layers struct {
	ctx  context.Context
	max  int64
	over bool // there were more
}

// layer is what one coding is read from.
type layer struct {
	*layers
	r    io.Reader
	read int64
}

func (l *layer) Read(b []byte) (int, error) {
	if err := l.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := l.r.Read(b)
	if l.read += int64(n); l.read > l.max {
		l.over = true
		return 0, errors.New("a coded form of the body is over twice max_body")
	}
	return n, err
}

// blame returns the fault of a body that could not be read.
func (l *layers) blame(raw *brokenOff, err error) error {
	f := &Fault{Reason: ReasonEncoding, Err: fmt.Errorf("reading body: %w", err)}
	switch {
	case l.over:
		f.Reason = ReasonTooLarge
	case errors.Is(raw.err, io.ErrUnexpectedEOF), raw.err == nil && errors.Is(err, io.ErrUnexpectedEOF):
		f.Reason = ReasonTruncated
	case raw.err != nil:
		f.Reason = ReasonUnreachable
	case raw.read == 0 && errors.Is(err, io.EOF):
		f.Reason = ReasonEmpty
	}
	return f
}

// uncoded removes the content codings, RFC 9110 section 8.4: the last one named
// was applied last.
func (l *layers) uncoded(body *brokenOff, h http.Header) (io.ReadCloser, error) {
	var codings []string
	for _, line := range h.Values("Content-Encoding") {
		for coding := range strings.SplitSeq(line, ",") {
			coding = strings.ToLower(strings.TrimSpace(coding))
			if coding != "" && coding != "identity" {
				codings = append(codings, coding)
			}
		}
	}
	if len(codings) > maxCodings {
		return nil, fmt.Errorf("%d content codings", len(codings))
	}
	var r io.ReadCloser = body
	for _, coding := range slices.Backward(codings) {
		var err error
		coded := &layer{layers: l, r: r}
		switch coding {
		case "gzip", "x-gzip":
			r, err = gzip.NewReader(coded)
		case "deflate":
			r, err = inflate(coded)
		case "zstd":
			var z *zstd.Decoder
			z, err = zstd.NewReader(coded, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(zstdWindow))
			if err == nil {
				r = z.IOReadCloser()
			}
		default:
			err = fmt.Errorf("Content-Encoding %q was not asked for", coding)
		}
		if err != nil {
			return nil, err
		}
	}
	return r, nil
}

// inflate reads deflate in the zlib format, as RFC 9110 defines it in section
// 8.4.1.2, and without that format, as some servers send it.
func inflate(r io.Reader) (io.ReadCloser, error) {
	b := bufio.NewReader(r)
	head, err := b.Peek(2)
	if err != nil {
		return nil, err
	}
	// RFC 1950 section 2.2: method 8, and a check of the first two bytes.
	if head[0]&0x0f == 8 && (uint(head[0])<<8|uint(head[1]))%31 == 0 {
		return zlib.NewReader(b)
	}
	return flate.NewReader(b), nil
}

// toUTF8 turns c.body into UTF-8 without a byte order mark, which RFC 8259,
// section 8.1, lets a parser ignore. A mark is believed before the charset.
func (c *Client) toUTF8(charset string) error {
	text := c.body.Bytes()
	if mark := []byte("\ufeff"); bytes.HasPrefix(text, mark) {
		c.body.Next(len(mark))
		return nil
	}
	var from textencoding.Encoding
	switch {
	case bytes.HasPrefix(text, []byte{0xfe, 0xff}), bytes.HasPrefix(text, []byte{0xff, 0xfe}):
		from = unicode.UTF16(unicode.BigEndian, unicode.ExpectBOM)
	case charset == "":
		return nil
	default:
		var err error
		if from, err = htmlindex.Get(charset); err != nil {
			return &Fault{Reason: ReasonEncoding, Err: fmt.Errorf("charset %q is not known", charset)}
		}
		if name, _ := htmlindex.Name(from); name == "utf-8" {
			return nil
		}
	}
	out := bodies.get(len(text) + bytes.MinRead)
	n, err := out.ReadFrom(io.LimitReader(transform.NewReader(bytes.NewReader(text), from.NewDecoder()), c.reading.MaxBody+1))
	switch {
	case err != nil:
		return &Fault{Reason: ReasonEncoding, Err: fmt.Errorf("decoding charset: %w", err)}
	case n > c.reading.MaxBody:
		return c.tooLarge()
	}
	c.release()
	c.body = out
	return nil
}

// lineTypes are the media types of JSON texts one after the other. None is
// registered but json-seq, RFC 7464.
var lineTypes = []string{
	"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonl", "application/jsonlines",
	"application/x-jsonlines", "application/stream+json", "application/x-json-stream", "application/json-seq",
}

// joinLines makes one list of JSON texts that are on lines of their own, or
// follow the record separators of RFC 7464.
func joinLines(text []byte) ([]byte, error) {
	separator := []byte("\n")
	if text[0] == 0x1e {
		separator = []byte{0x1e}
	}
	list := make([]byte, 0, len(text)+2)
	list = append(list, '[')
	for line := range bytes.SplitSeq(text, separator) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		if !json.Valid(line) {
			// Checked here: 1,2 would be two items of the list.
			return nil, &Fault{Reason: ReasonNotJSON, Err: errors.New("a line is not JSON")}
		}
		if len(list) > 1 {
			list = append(list, ',')
		}
		list = append(list, line...)
	}
	return append(list, ']'), nil
}

// guards are what some APIs put before their JSON, so that no page can include
// it as a script.
var guards = []string{")]}',", ")]}'", "while(1);", "while (1);", "for(;;);", "for (;;);", "throw 1;", "{}&&", "{} &&"}

// callback matches the start of a JSONP answer: the call of a function, perhaps
// after a comment.
var callback = regexp.MustCompile(`^(/\*.{0,100}?\*/)?\s*[a-zA-Z_$][\w$.]{0,200}\s*\(`)

// unwrap removes a guard prefix or a JSONP call from a JSON text. No JSON text
// starts like either.
func unwrap(text []byte) []byte {
	for _, guard := range guards {
		if rest, ok := bytes.CutPrefix(text, []byte(guard)); ok {
			return bytes.TrimSpace(rest)
		}
	}
	if call := callback.Find(text); call != nil {
		inside := bytes.TrimSpace(bytes.TrimSuffix(text, []byte(";")))
		if inside, ok := bytes.CutSuffix(inside, []byte(")")); ok {
			return bytes.TrimSpace(inside[len(call):])
		}
	}
	return text
}
