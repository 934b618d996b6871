package pollsse

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"regexp"
	"slices"
	"strings"

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
	formatAuto   = "auto" // by Content-Type
	formatJSON   = "json"
	formatNDJSON = "ndjson"
)

// read gives the JSON text of an answer's body: at most maxBody bytes of it,
// however small it was made for the way, without its content codings, charset
// and wrapping. The text is valid until the next call.
func (p *poller) read(resp *http.Response) ([]byte, error) {
	raw := &brokenOff{r: resp.Body}
	r, err := uncoded(raw, resp.Header)
	if err != nil {
		return nil, raw.blame(err, reasonEncoding)
	}
	defer r.Close()
	if r == raw && resp.ContentLength > p.maxBody {
		return nil, &fault{reason: reasonTooLarge, err: fmt.Errorf("Content-Length %d is over max_body %d", resp.ContentLength, p.maxBody)}
	}
	p.body.Reset()
	// The next body is about as large as the last, and a document that is not
	// much smaller than its memory is published without a copy.
	p.body.Grow(p.bodySize + p.bodySize/16 + bytes.MinRead)
	n, err := p.body.ReadFrom(io.LimitReader(r, p.maxBody+1))
	switch {
	case n > p.maxBody:
		return nil, p.tooLarge()
	case err != nil:
		return nil, raw.blame(err, reasonEncoding)
	}
	p.bodySize = int(n)
	contentType, params, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if err := p.toUTF8(params["charset"]); err != nil {
		return nil, err
	}
	text := bytes.TrimSpace(p.body.Bytes())
	if len(text) == 0 {
		return nil, &fault{reason: reasonEmpty, err: errors.New("body is empty")}
	}
	format := p.format
	if format == "" || format == formatAuto {
		format = formatJSON
		if slices.Contains(lineTypes, contentType) {
			format = formatNDJSON
		}
	}
	if format == formatNDJSON {
		return joinLines(text)
	}
	return unwrap(text), nil
}

// tooLarge drops what was read: a buffer of that size is not kept.
func (p *poller) tooLarge() error {
	p.body = bytes.Buffer{}
	return &fault{reason: reasonTooLarge, err: fmt.Errorf("body is over max_body %d", p.maxBody)}
}

// brokenOff is a body that remembers how the connection failed, so that it is
// not blamed on the coding.
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

// blame says why a body could not be read.
func (b *brokenOff) blame(err error, coding string) error {
	f := &fault{reason: coding, err: fmt.Errorf("reading body: %w", err)}
	switch {
	case errors.Is(b.err, io.ErrUnexpectedEOF), b.err == nil && errors.Is(err, io.ErrUnexpectedEOF):
		f.reason = reasonTruncated
	case b.err != nil:
		f.reason = reasonUnreachable
	case b.read == 0 && errors.Is(err, io.EOF):
		f.reason = reasonEmpty
	}
	return f
}

// uncoded takes the content codings off, RFC 9110 section 8.4: the last one
// named was applied last.
func uncoded(body *brokenOff, h http.Header) (io.ReadCloser, error) {
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
		switch coding {
		case "gzip", "x-gzip":
			r, err = gzip.NewReader(r)
		case "deflate":
			r, err = inflate(r)
		case "zstd":
			var z *zstd.Decoder
			z, err = zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(zstdWindow))
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

// inflate reads deflate as RFC 9110, section 8.4.1.2, defines it, in the zlib
// format, and as some servers send it, without.
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

// toUTF8 turns p.body into UTF-8 without a byte order mark, which RFC 8259,
// section 8.1, lets a parser ignore. A mark is believed before the charset.
func (p *poller) toUTF8(charset string) error {
	text := p.body.Bytes()
	if mark := []byte("\ufeff"); bytes.HasPrefix(text, mark) {
		p.body.Next(len(mark))
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
			return &fault{reason: reasonEncoding, err: fmt.Errorf("charset %q is not known", charset)}
		}
		if name, _ := htmlindex.Name(from); name == "utf-8" {
			return nil
		}
	}
	var out bytes.Buffer
	n, err := out.ReadFrom(io.LimitReader(transform.NewReader(bytes.NewReader(text), from.NewDecoder()), p.maxBody+1))
	switch {
	case err != nil:
		return &fault{reason: reasonEncoding, err: fmt.Errorf("decoding charset: %w", err)}
	case n > p.maxBody:
		return p.tooLarge()
	}
	p.body = out
	return nil
}

// lineTypes are the media types of JSON texts one after the other. None is
// registered but json-seq, RFC 7464.
var lineTypes = []string{
	"application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonl", "application/jsonlines",
	"application/x-jsonlines", "application/stream+json", "application/x-json-stream", "application/json-seq",
}

// joinLines makes one list of JSON texts that stand on lines of their own, or
// behind the record separators of RFC 7464.
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
			return nil, &fault{reason: reasonNotJSON, err: errors.New("a line is not JSON")}
		}
		if len(list) > 1 {
			list = append(list, ',')
		}
		list = append(list, line...)
	}
	return append(list, ']'), nil
}

// guards are what some APIs put before their JSON, so that it cannot be
// included as a script.
var guards = []string{")]}',", ")]}'", "while(1);", "while (1);", "for(;;);", "for (;;);", "throw 1;", "{}&&", "{} &&"}

// callback is the start of a JSONP answer: the call of a function, which may
// stand behind an empty comment.
var callback = regexp.MustCompile(`^(/\*.{0,100}?\*/)?\s*[a-zA-Z_$][\w$.]{0,200}\s*\(`)

// unwrap takes a JSON text out of a guard prefix or a JSONP call. No JSON text
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
