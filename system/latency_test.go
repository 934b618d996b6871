package system_test

import (
	"fmt"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// TestStreamsInCaddysLatency backs what docs/operate says of Caddy's own histograms:
// the life of a stream that a goroutine writes is a request's time; its label handler
// does not tell streams apart; the time to the first byte never has it; and the label
// host keeps it apart.
func TestStreamsInCaddysLatency(t *testing.T) {
	t.Parallel()
	u := newUpstream(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, `{"n":1}`) })
	s := start(t, site{global: "metrics {\n\tper_host\n}", directives: "respond /page ok\n" +
		"poll_sse /direct " + u.url("/direct") + "\npoll_sse /handler " + u.url("/handler") + " {\n\tdelivery handler\n}\n"})
	// total adds a metric up, in seconds, over the series whose labels hold a text.
	total := func(name, labels string) (sum float64) {
		for _, m := range regexp.MustCompile(`(?m)^caddy_http_`+name+`_seconds_sum\{(.*)\} (.*)$`).FindAllStringSubmatch(s.adminGet("/metrics"), -1) {
			if value, err := strconv.ParseFloat(m[2], 64); err != nil {
				t.Fatal(err)
			} else if strings.Contains(m[1], labels) {
				sum += value
			}
		}
		return sum
	}
	for _, w := range wires {
		for _, path := range []string{"/direct", "/handler"} {
			client, base := s.client(w)
			host := "localhost"
			if w == http1 {
				host = "127.0.0.1"
			}
			site := fmt.Sprintf("host=%q", host) // the other one's pages are apart
			request, response := total("request_duration", site), total("response_duration", site)
			count := s.answered()
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, base+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Host = host // as with the usual port
			req.Header.Set("Accept", "text/event-stream")
			begun := time.Now()
			resp, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			answered := time.Now()
			if _, err := resp.Body.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			counted := func() {
				t.Helper()
				for end := time.Now().Add(patience); s.answered() == count; <-time.After(10 * time.Millisecond) {
					if time.Now().After(end) {
						t.Fatalf("%s %s: Caddy counts no request", w, path)
					}
				}
			}
			direct := path == "/direct" && (w == http1 || w == https1)
			if direct {
				counted() // while it is open
			}
			counts := time.Since(begun).Seconds()
			<-time.After(300 * time.Millisecond)
			held := time.Since(answered).Seconds()
			resp.Body.Close()
			counted()
			request, response = total("request_duration", site)-request, total("response_duration", site)-response
			t.Logf("%s, %s: a stream of %.2f s adds %.4f s to the requests' time, %.4f s to the time to the first byte", w, path[1:], held, request, response)
			if direct && request > counts || !direct && request < held {
				t.Errorf("%s %s: a stream that was open for %g s counts as %g s", w, path, held, request)
			}
			if other := total("request_duration", `host="localhost"`); w == http1 && other != 0 {
				t.Errorf("streams of one host count %g s for another", other)
			}
			if most := answered.Sub(begun).Seconds(); response > most {
				t.Errorf("%s %s: the first byte counts as %g s, and came after %g s", w, path, response, most)
			}
		}
	}
	for _, name := range []string{"request_duration", "response_duration"} {
		if all, site := total(name, ""), total(name, `handler="subroute"`); all != site {
			t.Errorf("%s: %g s, of them %g s in subroutes: the handler's name tells streams apart, and docs/operate does not say so", name, all, site)
		}
	}
}

// answered is how many requests Caddy has counted.
func (s *server) answered() (n int) {
	s.t.Helper()
	for _, m := range regexp.MustCompile(`(?m)^caddy_http_request_duration_seconds_count\{.*\} (.*)$`).FindAllStringSubmatch(s.adminGet("/metrics"), -1) {
		value, err := strconv.ParseFloat(m[1], 64)
		if err != nil {
			s.t.Fatal(err)
		}
		n += int(value)
	}
	return n
}
