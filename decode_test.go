package pollsse

import (
	"bytes"
	"compress/flate"
	"compress/gzip"
	"compress/zlib"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
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
		{"four codings", doc, []string{"Content-Encoding: gzip, gzip, gzip, gzip"}, reasonEncoding},
		{"identity", doc, []string{"Content-Encoding: identity"}, doc},
		{"unknown coding", doc, []string{"Content-Encoding: br"}, reasonEncoding},
		{"not gzip", doc, []string{"Content-Encoding: gzip"}, reasonEncoding},
		{"not zstd", doc, []string{"Content-Encoding: zstd"}, reasonEncoding},
		{"truncated gzip", coded(strings.Repeat(doc, 100), "gzip")[:20], []string{"Content-Encoding: gzip"}, reasonTruncated},
		{"empty gzip", "", []string{"Content-Encoding: gzip"}, reasonEmpty},
		{"gzip bomb", coded(strings.Repeat(" ", 11<<20), "gzip"), []string{"Content-Encoding: gzip"}, reasonTooLarge},
		{"gzip bomb twice", coded(strings.Repeat(" ", 11<<20), "gzip", "gzip"), []string{"Content-Encoding: gzip, gzip"}, reasonTooLarge},
		{"zstd bomb", coded(strings.Repeat(" ", 11<<20), "zstd"), []string{"Content-Encoding: zstd"}, reasonTooLarge},
		{"byte order mark", "\ufeff" + doc, nil, doc},
		{"byte order mark and charset", "\ufeff" + doc, []string{"Content-Type: application/json; charset=iso-8859-1"}, doc},
		{"Latin-1", "{\"a\":\"\xe9\"}", []string{"Content-Type: application/json; charset=ISO-8859-1"}, doc},
		{"Shift_JIS", "\"\x93\xfa\x96\x7b\"", []string{`Content-Type: application/json; charset="Shift_JIS"`}, `"日本"`},
		{"UTF-16 with a mark", "\xff\xfe1\x002\x00", nil, "12"},
		{"UTF-16 by name", "\x001\x002", []string{"Content-Type: application/json; charset=utf-16be"}, "12"},
		{"UTF-8 by name", doc, []string{"Content-Type: text/plain; charset=utf-8"}, doc},
		{"unknown charset", doc, []string{"Content-Type: application/json; charset=klingon"}, reasonEncoding},
		{"NDJSON", "{\"a\":1}\r\n\n[2]\n\"x\"", []string{"Content-Type: application/x-ndjson"}, `[{"a":1},[2],"x"]`},
		{"NDJSON of one", "{}\n", []string{"Content-Type: application/jsonl"}, `[{}]`},
		{"NDJSON that smuggles", "1,2\n3", []string{"Content-Type: application/x-ndjson"}, reasonNotJSON},
		{"NDJSON truncated", "{}\n{\"a\":", []string{"Content-Type: application/x-ndjson"}, reasonNotJSON},
		{"json-seq", "\x1e{\"a\":\n1}\n\x1e2\n", []string{"Content-Type: application/json-seq"}, `[{"a":1},2]`},
		{"guard", ")]}',\n[1]", nil, `[1]`},
		{"guard without comma", ")]}'\n[1]", nil, `[1]`},
		{"loop", "for (;;);[1]", nil, `[1]`},
		{"JSONP", "jQuery123.cb({\"a\":1});", nil, `{"a":1}`},
		{"JSONP with a comment", "/**/cb([1]) ;\n", []string{"Content-Type: text/javascript"}, `[1]`},
		{"null", "null", nil, "null"},
		{"string with a call", `"f(1)"`, nil, `"f(1)"`},
		{"two calls", "f(1);g(2)", nil, reasonNotJSON},
		{"error page", page, []string{"Content-Type: text/html"}, reasonNotJSON},
		{"truncated", `{"a":`, nil, reasonNotJSON},
		{"empty", "", nil, reasonEmpty},
		{"white space", " \r\n", nil, reasonEmpty},
		{"only a mark", "\ufeff", nil, reasonEmpty},
	}
	for _, test := range tests {
		t.Run(strings.ReplaceAll(test.name, " ", "-"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u := &fakeUpstream{answer: func(int, *http.Request) *http.Response { return respond(200, test.body, test.header...) }}
				s, _ := startSource(t, &Handler{}, u)
				wait(time.Second)
				v := s.log.view()
				got := v.status.reason
				if v.doc != nil {
					got = string(v.doc.text)
				}
				if got != test.want {
					t.Errorf("body %.80q %v: %s, want %s", test.body, test.header, got, test.want)
				}
			})
		})
	}
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
	}{
		{"2 GB announced", 2 << 30, nil, 0},
		{"2 GB compressed", 2 << 30, []string{"Content-Encoding: br"}, 0},
		{"never ends", -1, nil, 4 * limit},
		{"length is a lie", 10, nil, 4 * limit},
	}
	for _, test := range tests {
		t.Run(strings.ReplaceAll(test.name, " ", "-"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				body := &endless{}
				u := &fakeUpstream{}
				u.answer = func(int, *http.Request) *http.Response {
					if time.Since(u.begun) > time.Second {
						return respond(200, "1")
					}
					resp := respond(200, "", test.header...)
					resp.ContentLength, resp.Body = test.length, body
					return resp
				}
				var before, after runtime.MemStats
				runtime.GC()
				runtime.ReadMemStats(&before)
				s, _ := startSource(t, &Handler{MaxBody: limit}, u)
				wait(time.Second)
				runtime.ReadMemStats(&after)
				if v := s.log.view(); v.status.reason != reasonTooLarge && v.status.reason != reasonEncoding {
					t.Errorf("status %+v, want too_large", v.status)
				}
				if body.read > test.most {
					t.Errorf("read %d bytes, want at most %d", body.read, test.most)
				}
				if got := after.TotalAlloc - before.TotalAlloc; got > 16*limit {
					t.Errorf("allocated %d bytes for a limit of %d", got, limit)
				}
				wait(2 * time.Minute)
				if v := s.log.view(); v.status.state != stateLive {
					t.Errorf("status %+v after the recovery, want live", v.status)
				}
			})
		})
	}
}

func TestNDJSONByOption(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := &fakeUpstream{answer: func(n int, r *http.Request) *http.Response {
			if got := r.Header.Get("Accept-Encoding"); got != acceptEncoding {
				return respond(400, got)
			}
			return respond(200, strings.Repeat(fmt.Sprintf("{\"n\":%d}\n", n), 3), "Content-Type: text/plain")
		}}
		s, _ := startSource(t, &Handler{UpstreamFormat: formatNDJSON, Interval: caddy.Duration(time.Second)}, u)
		wait(1500 * time.Millisecond)
		if got, want := string(s.log.view().doc.text), `[{"n":2},{"n":2},{"n":2}]`; got != want {
			t.Errorf("document %s, want %s", got, want)
		}
	})
}
