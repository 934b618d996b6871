package upstream

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// coded applies content codings, the first one first.
func coded(text string, codings ...string) string {
	for _, coding := range codings {
		var out bytes.Buffer
		var w io.WriteCloser
		switch coding {
		case "gzip":
			w = gzip.NewWriter(&out)
		case "stored":
			w, _ = gzip.NewWriterLevel(&out, gzip.NoCompression)
		case "zlib":
			w = zlib.NewWriter(&out)
		case "flate":
			w, _ = flate.NewWriter(&out, 9)
		case "zstd":
			w, _ = zstd.NewWriter(&out, zstd.WithEncoderConcurrency(1))
		}
		_, _ = io.WriteString(w, text)
		w.Close()
		text = out.String()
	}
	return text
}

func TestBodiesThatExist(t *testing.T) {
	const doc = `{"a":"é"}`
	page := "<html><body>Please log in</body></html>"
	tests := []struct {
		name, body string
		header     []string
		want       string // the document, or a reason
	}{
		{"plain", doc, nil, doc},
		{"gzip", coded(doc, "gzip"), []string{"Content-Encoding: gzip"}, doc},
		{"x-gzip", coded(doc, "gzip"), []string{"Content-Encoding: X-GZIP"}, doc},
		{"deflate with zlib", coded(doc, "zlib"), []string{"Content-Encoding: deflate"}, doc},
		{"deflate without zlib", coded(doc, "flate"), []string{"Content-Encoding: deflate"}, doc},
		{"zstd", coded(doc, "zstd"), []string{"Content-Encoding: zstd"}, doc},
		{"two codings", coded(doc, "zlib", "gzip"), []string{"Content-Encoding: deflate, gzip"}, doc},
		{"four codings", doc, []string{"Content-Encoding: gzip, gzip, gzip, gzip"}, ReasonEncoding},
		{"identity", doc, []string{"Content-Encoding: identity"}, doc},
		{"unknown coding", doc, []string{"Content-Encoding: br"}, ReasonEncoding},
		{"not gzip", doc, []string{"Content-Encoding: gzip"}, ReasonEncoding},
		{"not zstd", doc, []string{"Content-Encoding: zstd"}, ReasonEncoding},
		{"truncated gzip", coded(strings.Repeat(doc, 100), "gzip")[:20], []string{"Content-Encoding: gzip"}, ReasonTruncated},
		{"empty gzip", "", []string{"Content-Encoding: gzip"}, ReasonEmpty},
		{"gzip bomb", coded(strings.Repeat(" ", 11<<20), "gzip"), []string{"Content-Encoding: gzip"}, ReasonTooLarge},
		{"gzip bomb twice", coded(strings.Repeat(" ", 11<<20), "gzip", "gzip"), []string{"Content-Encoding: gzip, gzip"}, ReasonTooLarge},
		{"zstd bomb", coded(strings.Repeat(" ", 11<<20), "zstd"), []string{"Content-Encoding: zstd"}, ReasonTooLarge},
		{"byte order mark", "\ufeff" + doc, nil, doc},
		{"byte order mark and charset", "\ufeff" + doc, []string{"Content-Type: application/json; charset=iso-8859-1"}, doc},
		{"Latin-1", "{\"a\":\"\xe9\"}", []string{"Content-Type: application/json; charset=ISO-8859-1"}, doc},
		{"Shift_JIS", "\"\x93\xfa\x96\x7b\"", []string{`Content-Type: application/json; charset="Shift_JIS"`}, `"日本"`},
		{"UTF-16 with a mark", "\xff\xfe1\x002\x00", nil, "12"},
		{"UTF-16 by name", "\x001\x002", []string{"Content-Type: application/json; charset=utf-16be"}, "12"},
		{"UTF-8 by name", doc, []string{"Content-Type: text/plain; charset=utf-8"}, doc},
		{"unknown charset", doc, []string{"Content-Type: application/json; charset=klingon"}, ReasonEncoding},
		{"NDJSON", "{\"a\":1}\r\n\n[2]\n\"x\"", []string{"Content-Type: application/x-ndjson"}, `[{"a":1},[2],"x"]`},
		{"NDJSON of one", "{}\n", []string{"Content-Type: application/jsonl"}, `[{}]`},
		{"NDJSON that smuggles", "1,2\n3", []string{"Content-Type: application/x-ndjson"}, ReasonNotJSON},
		{"NDJSON truncated", "{}\n{\"a\":", []string{"Content-Type: application/x-ndjson"}, ReasonNotJSON},
		{"json-seq", "\x1e{\"a\":\n1}\n\x1e2\n", []string{"Content-Type: application/json-seq"}, "[{\"a\":\n1},2]"},
		{"guard", ")]}',\n[1]", nil, `[1]`},
		{"guard without comma", ")]}'\n[1]", nil, `[1]`},
		{"loop", "for (;;);[1]", nil, `[1]`},
		{"JSONP", "jQuery123.cb({\"a\":1});", nil, `{"a":1}`},
		{"JSONP with a comment", "/**/cb([1]) ;\n", []string{"Content-Type: text/javascript"}, `[1]`},
		{"null", "null", nil, "null"},
		{"string with a call", `"f(1)"`, nil, `"f(1)"`},
		{"two calls", "f(1);g(2)", nil, ReasonNotJSON},
		{"error page", page, []string{"Content-Type: text/html"}, ReasonNotJSON},
		{"truncated", `{"a":`, nil, ReasonNotJSON},
		{"empty", "", nil, ReasonEmpty},
		{"white space", " \r\n", nil, ReasonEmpty},
		{"only a mark", "\ufeff", nil, ReasonEmpty},
	}
	for _, test := range tests {
		t.Run(strings.ReplaceAll(test.name, " ", "-"), func(t *testing.T) {
			u := &fakeUpstream{answer: func(int, *http.Request) *http.Response { return respond(200, test.body, test.header...) }}
			if got := pollOnce(t, newClient(t, Config{}, Reading{}), u); got != test.want {
				t.Errorf("body %.80q %v: %s, want %s", test.body, test.header, got, test.want)
			}
		})
	}
}

// emptyBlocks is a gzip member that has n stored blocks of nothing, five bytes
// each (RFC 1951 section 3.2.4), before the block with the text.
func emptyBlocks(n int, text string) string {
	b := []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff}
	b = append(b, bytes.Repeat([]byte{0, 0, 0, 0xff, 0xff}, n)...)
	b = append(b, 1)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(text)))
	b = binary.LittleEndian.AppendUint16(b, ^uint16(len(text)))
	b = append(b, text...)
	b = binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE([]byte(text)))
	return string(binary.LittleEndian.AppendUint32(b, uint32(len(text))))
}

// TestCodingsWithinCodings: what a coding decodes to nothing counts, at every
// layer.
func TestCodingsWithinCodings(t *testing.T) {
	const limit = 64 << 10
	plain := `"` + strings.Repeat("x", limit-2) + `"`
	hidden := emptyBlocks(100_000, "[1]")
	for _, test := range []struct{ name, body, codings, want string }{
		{"empty blocks", hidden, "gzip", ReasonTooLarge},
		{"empty blocks, twice", coded(hidden, "gzip"), "gzip, gzip", ReasonTooLarge},
		{"empty blocks, three times", coded(hidden, "gzip", "gzip"), "gzip, gzip, gzip", ReasonTooLarge},
		{"empty blocks in deflate", coded(hidden, "zlib"), "gzip, deflate", ReasonTooLarge},
		{"empty blocks in zstd", coded(hidden, "zstd"), "gzip, zstd", ReasonTooLarge},
		{"empty members", strings.Repeat(coded("", "gzip"), 20_000) + coded("[1]", "gzip"), "gzip", ReasonTooLarge},
		{"few empty blocks", coded(emptyBlocks(1000, "[1]"), "gzip", "gzip"), "gzip, gzip, gzip", "[1]"},
		{"the largest body", coded(plain, "stored", "stored", "stored"), "gzip, gzip, gzip", plain},
	} {
		t.Run(strings.ReplaceAll(test.name, " ", "-"), func(t *testing.T) {
			c := &Client{request: new(Request), reading: Reading{MaxBody: limit}}
			text, err := c.read(t.Context(), respond(200, test.body, "Content-Encoding: "+test.codings))
			got := string(text)
			if err != nil {
				got = asFault(err).Reason
			}
			if got != test.want {
				t.Errorf("%d bytes coded %s: %.80q, %v; want %.80q", len(test.body), test.codings, got, err, test.want)
			}
		})
	}
}

// TestDecodingEndsWithThePoll: the whole body is here when the poll ends, at
// its timeout or at an exit, and megabytes are still to be decoded from it.
func TestDecodingEndsWithThePoll(t *testing.T) {
	for _, outer := range []string{"gzip", "zlib", "zstd"} {
		ctx, cancel := context.WithCancel(t.Context())
		body := coded(emptyBlocks(1_000_000, "[1]"), "gzip", outer)
		resp := respond(200, "", "Content-Encoding: gzip, gzip, "+strings.Replace(outer, "zlib", "deflate", 1))
		resp.Body = io.NopCloser(&ending{strings.NewReader(body), cancel})
		c := &Client{request: new(Request), reading: Reading{MaxBody: 1 << 30}}
		if text, err := c.read(ctx, resp); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %q, %v; want context canceled", outer, text, err)
		}
	}
}

// ending is a body that ends the poll as it ends.
type ending struct {
	*strings.Reader
	cancel context.CancelFunc
}

func (e *ending) Read(b []byte) (int, error) {
	n, err := e.Reader.Read(b)
	if e.Len() == 0 {
		e.cancel()
	}
	return n, err
}

// endless is a body of spaces that counts what was read of it.
type endless struct{ read int64 }

func (e *endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = ' '
	}
	e.read += int64(len(b))
	return len(b), nil
}

func (e *endless) Close() error { return nil }

func TestLargeBodiesCostBoundedMemory(t *testing.T) {
	const limit = 1 << 20
	tests := []struct {
		name   string
		length int64
		header []string
		most   int64 // bytes that may be read
		want   string
	}{
		{"2 GB announced", 2 << 30, nil, 0, ReasonTooLarge},
		{"2 GB compressed", 2 << 30, []string{"Content-Encoding: br"}, 0, ReasonEncoding},
		{"never ends", -1, nil, 4 * limit, ReasonTooLarge},
		{"length is a lie", 10, nil, 4 * limit, ReasonTooLarge},
	}
	for _, test := range tests {
		t.Run(strings.ReplaceAll(test.name, " ", "-"), func(t *testing.T) {
			body := &endless{}
			u := &fakeUpstream{answer: func(n int, _ *http.Request) *http.Response {
				if n > 1 {
					return respond(200, "1")
				}
				resp := respond(200, "", test.header...)
				resp.ContentLength, resp.Body = test.length, body
				return resp
			}}
			c := newClient(t, Config{}, Reading{MaxBody: limit})
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			got := pollOnce(t, c, u)
			runtime.ReadMemStats(&after)
			if got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
			if body.read > test.most {
				t.Errorf("read %d bytes, want at most %d", body.read, test.most)
			}
			if got := after.TotalAlloc - before.TotalAlloc; got > 16*limit {
				t.Errorf("allocated %d bytes for a limit of %d", got, limit)
			}
			if got := pollOnce(t, c, u); got != "1" {
				t.Errorf("%s after the recovery, want 1", got)
			}
		})
	}
}

func TestNDJSONByOption(t *testing.T) {
	u := &fakeUpstream{answer: func(n int, r *http.Request) *http.Response {
		if got := r.Header.Get("Accept-Encoding"); got != acceptEncoding {
			return respond(400, got)
		}
		return respond(200, strings.Repeat(fmt.Sprintf("{\"n\":%d}\n", n), 3), "Content-Type: text/plain")
	}}
	c := newClient(t, Config{}, Reading{Format: FormatNDJSON})
	for _, want := range []string{`[{"n":1},{"n":1},{"n":1}]`, `[{"n":2},{"n":2},{"n":2}]`} {
		if got := pollOnce(t, c, u); got != want {
			t.Errorf("document %s, want %s", got, want)
		}
	}
}
