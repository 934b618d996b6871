package system_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"
)

// TestSlowReaderStays: a client that takes a large document slowly, but fast enough,
// is left alone, though its window is closed most of the time: so is that of a proxy
// whose own client has a bad connection. All of the document is in the system's
// buffers, so it is the system that must not end the connection.
func TestSlowReaderStays(t *testing.T) {
	t.Parallel()
	const piece, pause = 1600, 500 * time.Millisecond
	lasts := 80 * time.Second // Linux would end it after 60 if TCP_USER_TIMEOUT were what tells that a network has vanished
	if testing.Short() {
		lasts = 5 * time.Second
	}
	u := newUpstream(t, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintf(w, `{"pad":"%s"}`, strings.Repeat("x", 600<<10))
	})
	s := start(t, site{directives: "poll_sse /direct " + u.url("/doc") + " {\n\tcompress off\n}\npoll_sse /handler " + u.url("/doc") + " {\n\tdelivery handler\n\tcompress off\n}"})
	_, base := s.client(http1)
	var all sync.WaitGroup
	for _, path := range []string{"/direct", "/handler"} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", "text/event-stream")
		resp, err := narrow(t, 4<<10).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		all.Go(func() {
			b := make([]byte, piece)
			for begun := time.Now(); time.Since(begun) < lasts; <-time.After(pause) {
				if _, err := io.ReadFull(resp.Body, b); err != nil {
					t.Errorf("%s: ended after %s: %v", path, time.Since(begun), err)
					return
				}
			}
		})
	}
	all.Wait()
}
