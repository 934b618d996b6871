package system_test

import (
	"fmt"
	"net/http"
	"testing"
)

// TestFollow is the smallest test of the whole path, over each version of HTTP:
// a document changes, and a client of each format gets it.
func TestFollow(t *testing.T) {
	k := &ticker{owner: "everybody"}
	u := newUpstream(t, k.serve(false))
	s := start(t, site{directives: formats(u.url("/doc"), "interval 100ms")})
	for _, w := range wires {
		for _, format := range []string{"patch", "merge", "snapshot"} {
			t.Run(string(w)+"/"+format, func(t *testing.T) {
				s := *s
				s.t = t
				client, base := s.client(w)
				f := k.follow(newFollower(t, t.Name(), client, base+"/"+format)).run()
				f.await("a document", func() bool { return f.page.Doc != nil && f.status.State == "live" })
				for range 3 {
					step := k.step.Add(1)
					f.await("the next step", k.at(f, step))
				}
				if got, want := f.lastResp.ProtoMajor, map[wire]int{http1: 1, https1: 1, http2: 2, http3w: 3}[w]; got != want {
					t.Errorf("spoke HTTP/%d, want HTTP/%d", got, want)
				}
				f.close()
				if f.err != nil || len(f.broken) > 0 {
					t.Errorf("stream: %v, broken %q", f.err, f.broken)
				}
				t.Logf("%d snapshots, %d patches, %d merge patches", f.snapshots, f.patches, f.merges)
			})
		}
	}
}

// formats configures three handlers on one upstream, at /patch, /merge and
// /snapshot.
func formats(url, options string) string {
	text := ""
	for _, format := range []string{"patch", "merge", "snapshot"} {
		text += fmt.Sprintf("poll_sse /%s %s {\n\tformat %s\n%s\n}\n", format, url, format, indent(options))
	}
	return text
}

// get200 makes one request and reads its answer.
func get200(t testing.TB, client *http.Client, url string, header http.Header) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range header {
		req.Header[k] = v
	}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	return resp, readAll(t, resp.Body)
}
