package system_test

import (
	"bufio"
	"net/http"
	"strings"
	"testing"
	"time"
)

// refused reads a whole stream, which must have been refused for a reason.
func refused(t testing.TB, s *server, w wire, path, reason string, fields ...string) {
	t.Helper()
	resp := openStream(t, s, w, path, fields...)
	body := readAll(t, resp.Body)
	if resp.StatusCode != http.StatusOK || !strings.Contains(body, `"state":"refused"`) || !strings.Contains(body, `"reason":"`+reason+`"`) || !strings.Contains(body, "retry: ") {
		t.Errorf("%s, %s: got status %d and %q, want a stream that is refused for %s", w, path, resp.StatusCode, body, reason)
	}
	client, base := s.client(w)
	req, err := http.NewRequest(http.MethodGet, base+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(fields); i += 2 {
		req.Header.Set(fields[i], fields[i+1])
	}
	if resp, err = client.Do(req); err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != http.StatusServiceUnavailable || resp.Header.Get("Retry-After") == "" {
		t.Errorf("%s, %s: a request got status %d, Retry-After %q, want 503", w, path, resp.StatusCode, resp.Header.Get("Retry-After"))
	}
}

// awaitLine reads a stream up to a line with a prefix, and returns the line.
func awaitLine(t testing.TB, r *bufio.Reader, begin string) string {
	t.Helper()
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			t.Fatalf("waiting for %q: %v", begin, err)
		}
		if strings.HasPrefix(line, begin) {
			return strings.TrimSpace(line)
		}
	}
}

// TestLimits opens as many streams and documents as are allowed, and one more.
func TestLimits(t *testing.T) {
	t.Parallel()
	k := &ticker{owner: "everybody"}
	u := newUpstream(t, k.serve(true))
	s := start(t, site{directives: "poll_sse /few " + u.url("/doc") + ` {
	interval 100ms
	max_subscribers 2
}
poll_sse /own ` + u.url("/own") + ` {
	interval 100ms
	forward X-User
	max_sources 8
}`})
	for _, w := range wires {
		first, second := openStream(t, s, w, "/few"), openStream(t, s, w, "/few")
		awaitLine(t, bufio.NewReader(first.Body), "event: patch")
		rest := bufio.NewReader(second.Body)
		awaitLine(t, rest, "event: patch")
		refused(t, s, w, "/few", "too_many_streams")
		awaitLine(t, rest, "event: patch") // undisturbed
		first.Body.Close()
		// Its place is free as soon as the server has noticed that it is gone.
		for end := time.Now().Add(patience); ; {
			resp := openStream(t, s, w, "/few")
			line := awaitLine(t, bufio.NewReader(resp.Body), "data: ")
			resp.Body.Close()
			if !strings.Contains(line, `"state":"refused"`) {
				break
			}
			if time.Now().After(end) {
				t.Fatalf("%s: no place after a client left", w)
			}
		}
		second.Body.Close()
	}

	// One address may make an eighth of the documents.
	own := openStream(t, s, http1, "/own", "X-User", "1")
	rest := bufio.NewReader(own.Body)
	awaitLine(t, rest, "event: patch")
	refused(t, s, http1, "/own", "too_many_documents", "X-User", "2")
	awaitLine(t, bufio.NewReader(openStream(t, s, http1, "/own", "X-User", "1").Body), "event: patch")
	awaitLine(t, rest, "event: patch")
}

// TestResumeByQuery: a page that makes a new EventSource, which cannot set a
// header, resumes with the last id in the query.
func TestResumeByQuery(t *testing.T) {
	t.Parallel()
	k := &ticker{owner: "everybody"}
	u := newUpstream(t, k.serve(true))
	s := start(t, site{directives: "poll_sse /api " + u.url("/doc") + " {\n\tinterval 100ms\n}"})
	for _, w := range wires {
		resp := openStream(t, s, w, "/api")
		rest := bufio.NewReader(resp.Body)
		awaitLine(t, rest, "event: patch")
		id := strings.TrimPrefix(awaitLine(t, rest, "id: "), "id: ")
		resp.Body.Close()

		rest = bufio.NewReader(openStream(t, s, w, "/api?last_event_id="+id).Body)
		if got := awaitLine(t, rest, "id: "); got != "id: "+id {
			t.Errorf("%s: the first id is %q, want %s again", w, got, id)
		}
		for range 3 {
			if line := awaitLine(t, rest, "event: "); line == "event: snapshot" {
				t.Errorf("%s: a snapshot for a client that has one", w)
			}
		}
	}
}
