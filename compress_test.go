package pollsse

import (
	"bytes"
	"compress/gzip"
	"io"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// gunzipWhole decodes a whole member, its checksum included.
func gunzipWhole(t *testing.T, b []byte) string {
	t.Helper()
	z, err := gzip.NewReader(bytes.NewReader(b))
	if err != nil {
		t.Fatalf("%q: %v", b, err)
	}
	text, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestCompressedAnswers: the gzip form of a version has a strong ETag of its
// own, RFC 9110 section 8.8.3.3, and both tags name the version.
func TestCompressedAnswers(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		r := newRig(t, &Handler{})
		text := `{"filler":"` + strings.Repeat(filler, 3) + `"}`
		r.up.set(text)
		plain := r.get()
		v := strings.Trim(plain.Header().Get("ETag"), `"`)
		if plain.Code != 200 || plain.Header().Get("Content-Encoding") != "" || plain.Body.String() != text {
			t.Fatalf("without Accept-Encoding: %d %v %q", plain.Code, plain.Header(), plain.Body)
		}
		for _, test := range []struct {
			accept, ifNoneMatch string
			code                int
			tag, coding         string
		}{
			{"gzip", "", 200, `"V-gzip"`, "gzip"},
			{"br, zstd;q=0.9, gzip;q=0.1", "", 200, `"V-gzip"`, "gzip"},
			{"gzip;q=0", "", 200, `"V"`, ""},
			{"br", "", 200, `"V"`, ""},
			{"gzip", `"V-gzip"`, 304, `"V-gzip"`, ""},
			{"gzip", `"V"`, 304, `"V"`, ""},
			{"gzip", `"V", W/"V-gzip"`, 304, `"V-gzip"`, ""},
			{"", `"V-gzip", "V"`, 304, `"V"`, ""},
			{"", `"V-gzip"`, 304, `"V-gzip"`, ""},
			{"", `W/"V"`, 304, `"V"`, ""},
			{"", "*", 304, `"V"`, ""},
			{"gzip", "*", 304, `"V-gzip"`, ""},
			{"gzip", `"V-br"`, 200, `"V-gzip"`, "gzip"},
			{"", `"V-br"`, 200, `"V"`, ""},
		} {
			for _, method := range []string{"GET", "HEAD"} {
				var fields []string
				if test.accept != "" {
					fields = append(fields, "Accept-Encoding", test.accept)
				}
				if test.ifNoneMatch != "" {
					fields = append(fields, "If-None-Match", strings.ReplaceAll(test.ifNoneMatch, "V", v))
				}
				got := r.do(method, "/api", fields...)
				h := got.Header()
				if tag := strings.ReplaceAll(test.tag, "V", v); got.Code != test.code || h.Get("ETag") != tag || h.Get("Content-Encoding") != test.coding || strings.Join(h.Values("Vary"), ", ") != "Accept, Prefer, Accept-Encoding" {
					t.Errorf("%s %q: %d %v, want %d, ETag %s and the coding %q", method, fields, got.Code, h, test.code, tag, test.coding)
				}
				switch body := got.Body.Bytes(); {
				case test.code == 304 || method == "HEAD":
					if len(body) > 0 {
						t.Errorf("%s %q: a %d with %d bytes", method, fields, got.Code, len(body))
					}
				case h.Get("Content-Length") != strconv.Itoa(len(body)):
					t.Errorf("%s %q: Content-Length %s for %d bytes", method, fields, h.Get("Content-Length"), len(body))
				case test.coding == "gzip":
					if gunzipWhole(t, body) != text || len(body) >= len(text) {
						t.Errorf("%s %q: %d bytes that give %q, want %q", method, fields, len(body), gunzipWhole(t, body), text)
					}
				}
			}
		}
		// A request that waits with the tag of the gzip form waits.
		begun := time.Now()
		if got := r.get("Accept-Encoding", "gzip", "Prefer", "wait=7", "If-None-Match", `"`+v+`-gzip"`); got.Code != 304 || time.Since(begun) != 7*time.Second {
			t.Errorf("%d after %s, want 304 after 7s", got.Code, time.Since(begun))
		}
	})
}

// TestWhoIsCompressed: public documents unless compress is off, private ones
// only with compress gzip.
func TestWhoIsCompressed(t *testing.T) {
	for name, test := range map[string]struct {
		h    Handler
		want bool
		vary string
	}{
		"public":        {Handler{}, true, "Accept, Prefer, Accept-Encoding"},
		"public, off":   {Handler{Streaming: Streaming{Compress: "off"}}, false, "Accept, Prefer"},
		"private":       {Handler{Request: Request{Forward: []string{"Authorization"}}}, false, "Accept, Prefer, Authorization"},
		"private, gzip": {Handler{Request: Request{Forward: []string{"Authorization", "cookie:a", "cookie:b"}}, Streaming: Streaming{Compress: "gzip"}}, true, "Accept, Prefer, Accept-Encoding, Authorization, Cookie"},
		"placeholders":  {Handler{Upstream: "http://h/{http.request.header.x-a}?b={http.request.cookie.b}&c={http.request.uri.query.c}&d={http.request.header.X-A}"}, false, "Accept, Prefer, X-A, Cookie"},
	} {
		bubble(t, func(t *testing.T) {
			r := newRig(t, &test.h)
			r.up.set(`"` + strings.Repeat(filler, 3) + `"`)
			got := r.do("GET", "/api?c=1", "Accept-Encoding", "gzip", "Authorization", "a", "X-A", "a", "Cookie", "b=1")
			if got.Code != 200 || (got.Header().Get("Content-Encoding") == "gzip") != test.want {
				t.Errorf("%s: %d %v, compressed: want %v", name, got.Code, got.Header(), test.want)
			}
			if vary := strings.Join(got.Header().Values("Vary"), ", "); vary != test.vary {
				t.Errorf("%s: Vary %q, want %q", name, vary, test.vary)
			}
		})
	}
}

// TestStoring: private documents may be stored and are always revalidated,
// unless the upstream says no-store, which a 304 keeps.
func TestStoring(t *testing.T) {
	t.Parallel()
	bubble(t, func(t *testing.T) {
		private := newRig(t, &Handler{Schedule: Schedule{Interval: second, MaxInterval: 5 * second, Linger: 60 * second}, Request: Request{Forward: []string{"Authorization"}}})
		public := newRig(t, &Handler{Schedule: Schedule{Interval: second, MaxInterval: 5 * second, Linger: 60 * second}})
		for _, step := range []struct {
			status             int
			cacheControl, want string
		}{
			{200, "", "private, no-cache"},
			{200, "max-age=5, No-Store", "private, no-store"},
			{304, "", "private, no-store"},
			{304, "max-age=1", "private, no-store"},
			{200, "max-age=1", "private, no-cache"},
			{304, "no-store", "private, no-store"},
			{500, "", "private, no-store"},
			{200, "private", "private, no-cache"},
		} {
			for _, r := range []*rig{private, public} {
				want := step.want
				if r == public {
					want = "no-cache"
				}
				r.up.answer(func(*http.Request) (*http.Response, error) {
					return reply(step.status, `{}`, "Cache-Control", step.cacheControl, "ETag", `"x"`), nil
				})
				r.get("Authorization", "a")
				time.Sleep(10 * time.Second)
				synctest.Wait()
				for _, fields := range [][]string{{}, {"If-None-Match", "*"}} {
					got := r.get(append(fields, "Authorization", "a")...)
					if cc := got.Header().Get("Cache-Control"); cc != want {
						t.Errorf("after %d with %q: %d with Cache-Control %q, want %q", step.status, step.cacheControl, got.Code, cc, want)
					}
				}
			}
		}
	})
}

// TestCompressedBehindEncode: a surrounding encode leaves the gzip form alone,
// and either tag gets a 304 through it.
func TestCompressedBehindEncode(t *testing.T) {
	text := `{"filler":"` + strings.Repeat(filler, 30) + `"}`
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }))
	defer upstream.Close()
	url, _ := serve(t, "encode zstd gzip\npoll_sse /api "+upstream.URL+"\npoll_sse /off "+upstream.URL+" {\ncompress off\n}")
	for path, coding := range map[string]string{"/api": "gzip", "/off": "zstd"} {
		resp, body := fetch(t, url+path, "Accept-Encoding", "zstd, gzip")
		if resp.StatusCode != 200 || resp.Header.Get("Content-Encoding") != coding || len(resp.Header.Values("Content-Encoding")) != 1 {
			t.Errorf("%s: %d %v, want the coding %s", path, resp.StatusCode, resp.Header, coding)
		}
		if coding == "gzip" && gunzipWhole(t, []byte(body)) != text {
			t.Errorf("%s: the body gives %q", path, gunzipWhole(t, []byte(body)))
		}
		tag := resp.Header.Get("ETag")
		if !strings.HasSuffix(tag, "-"+coding+`"`) {
			t.Errorf("%s: ETag %s of the coding %s", path, tag, coding)
		}
		for _, tag := range []string{tag, strings.Replace(tag, "-"+coding, "", 1)} {
			if resp, _ := fetch(t, url+path, "Accept-Encoding", "zstd, gzip", "If-None-Match", tag); resp.StatusCode != 304 {
				t.Errorf("%s with If-None-Match %s: %d, want 304", path, tag, resp.StatusCode)
			}
		}
	}
}
