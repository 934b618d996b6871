package pollsse

import (
	"bytes"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// TestWrappersAroundTheResponse: events go past wrappers that leave them alone,
// and through all others. An answer that a wrapper keeps ends, so that it can be
// replaced, and so that nothing grows.
func TestWrappersAroundTheResponse(t *testing.T) {
	t.Setenv("OTEL_TRACES_EXPORTER", "none")
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, `{"n":1}`) }))
	defer upstream.Close()
	const snapshot = "data: {\"n\":1}\n\n"
	for name, test := range map[string]struct {
		wrapper string
		want    string // which the body contains
		ends    bool   // by itself
		direct  bool   // unless delivery is handler
	}{
		"none":                {"", snapshot, false, true},
		"tracing":             {"tracing", snapshot, false, true},
		"encode and header":   {"encode gzip\nheader +X-Y z", snapshot, false, true},
		"templates":           {"templates", snapshot, false, false},
		"intercept, others":   {"intercept {\n@bad status 5xx\nhandle_response @bad {\nrespond replaced\n}\n}", snapshot, false, false},
		"intercept, this one": {"intercept {\n@ok status 200\nhandle_response @ok {\nrespond replaced\n}\n}", "replaced", true, false},
		"log_append":          {"log_append all {http.response.body}", snapshot, true, false},
	} {
		for _, delivery := range []string{deliveryDirect, deliveryHandler} {
			t.Run(strings.ReplaceAll(name, " ", "-")+"/"+delivery, func(t *testing.T) {
				url, _ := serve(t, "route {\n"+test.wrapper+"\npoll_sse "+upstream.URL+" {\ndelivery "+delivery+"\n}\n}")
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				resp := start(t, ctx, url, "Accept", "text/event-stream", "Accept-Encoding", "identity")
				defer resp.Body.Close()
				var body []byte
				var err error
				for piece := make([]byte, 1<<10); err == nil && (test.ends || !bytes.Contains(body, []byte(test.want))); {
					var n int
					n, err = resp.Body.Read(piece)
					body = append(body, piece[:n]...)
				}
				if test.ends && err != io.EOF || !test.ends && err != nil || !bytes.Contains(body, []byte(test.want)) {
					t.Errorf("got %q and then %v, want %q", body, err, test.want)
				}
				if direct := test.direct && delivery == deliveryDirect && runtime.GOOS == "linux"; resp.Close != direct {
					t.Errorf("delivered directly: %v, want %v", resp.Close, direct)
				}
			})
		}
	}
}

// TestTransparentWrappers: a recorder without a buffer cannot keep anything,
// but an unknown type may.
func TestTransparentWrappers(t *testing.T) {
	w := httptest.NewRecorder()
	for _, test := range []struct {
		w    http.ResponseWriter
		want bool
	}{
		{caddyhttp.NewResponseRecorder(w, nil, nil), true},
		{caddyhttp.NewResponseRecorder(w, new(bytes.Buffer), nil), false},
		{&caddyhttp.IdleTimeoutWriter{}, true},
		{&caddyhttp.ResponseWriterWrapper{ResponseWriter: w}, true},
		{newPipeWriter(), false},
	} {
		if got := transparent(test.w); got != test.want {
			t.Errorf("%T may be bypassed: %v, want %v", test.w, got, test.want)
		}
	}
}

// TestNothingIsCompressedForWrappers: a wrapper that replaces a body, or works
// on it, gets it uncompressed, and leaves no Content-Encoding behind.
func TestNothingIsCompressedForWrappers(t *testing.T) {
	padding := strings.Repeat("x", 1000)
	upstream := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `"{{add 1 1}}`+padding+`"`)
	}))
	defer upstream.Close()
	for wrapper, test := range map[string]struct{ accept, want string }{
		"templates {\nmime application/json\n}":                                      {"application/json", `"2` + padding + `"`},
		"templates {\nmime text/event-stream\n}":                                     {"text/event-stream", `data: "2` + padding + `"`},
		"intercept {\n@ok status 200\nhandle_response @ok {\nrespond replaced\n}\n}": {"text/event-stream", "replaced"},
	} {
		url, _ := serve(t, "route {\n"+wrapper+"\npoll_sse "+upstream.URL+"\n}")
		resp, body := fetch(t, url, "Accept", test.accept, "Accept-Encoding", "gzip")
		if coding := resp.Header.Get("Content-Encoding"); coding != "" || !strings.Contains(body, test.want) {
			t.Errorf("%s: coding %q, body %.200q; want %.20q…", wrapper, coding, body, test.want)
		}
		_ = caddy.Stop()
	}
}
