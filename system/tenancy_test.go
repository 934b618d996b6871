package system_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// private is an upstream with a document for each of its users.
type private struct {
	mu      sync.Mutex
	step    int
	revoked map[string]bool
	seen    []http.Header // of every poll
}

var users = map[string]string{"Bearer token-of-alice": "alice", "Bearer token-of-bob": "bob"}

// words are what only one user's document holds.
func words(user string) string { return "words-for-" + user + "-alone" }

func (p *private) serve(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen = append(p.seen, r.Header.Clone())
	user := users[r.Header.Get("Authorization")]
	if c, err := r.Cookie("session"); err == nil {
		user = users["Bearer "+c.Value]
	}
	if strings.HasPrefix(r.URL.Path, "/for/") {
		user = users["Bearer "+strings.TrimPrefix(r.URL.Path, "/for/")]
	}
	if user == "" || p.revoked[user] {
		w.Header().Set("WWW-Authenticate", `Bearer realm="legacy"`)
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = w.Write([]byte(upstreamText))
		return
	}
	if strings.HasPrefix(r.URL.Path, "/same") {
		user = "anybody"
	}
	filler := strings.Repeat(words(user)+" ", 20)
	writeJSON(w, r, fmt.Appendf(nil, `{"user":%q,"step":%d,"filler":%q}`, user, p.step, filler))
}

func (p *private) advance() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.step++
	return p.step
}

// TestTwoUsers reads one URL as two users with different Authorization, and
// looks for either's words in everything that the other one gets.
func TestTwoUsers(t *testing.T) {
	t.Parallel()
	p := &private{revoked: map[string]bool{}}
	u := newUpstream(t, p.serve)
	options := "interval 100ms\nretry 100ms\nforward Authorization"
	cookie := "interval 100ms\nretry 100ms\nforward cookie:session"
	// What the admin API may show, it shows of no user.
	s := start(t, site{global: "servers {\n\tmetrics\n}\npoll_sse {\n\tadmin_documents\n\tadmin_addresses\n}", directives: "log\n" + formats(u.url("/doc"), options) +
		"poll_sse /same " + u.url("/same") + " {\n" + indent(options) + "\n}\n" +
		"poll_sse /cookie " + u.url("/cookie") + " {\n" + indent(cookie) + "\n}\n" +
		"poll_sse /header " + u.url("/for/{header.X-Token}") + " {\n\tinterval 100ms\n}\n"})

	type reader struct {
		*follower
		user string
		tap  *wiretap
	}
	var all []reader
	follow := func(user, url string, client *http.Client, header http.Header) reader {
		f := newFollower(t, user+" "+url, client, url)
		tap := new(wiretap)
		f.header, f.read = header, tap.on
		f.check = func(f *follower) error {
			if got := f.page.Doc.(map[string]any)["user"]; got != user {
				return fmt.Errorf("%s has the document of %v", user, got)
			}
			return nil
		}
		r := reader{f.run(), user, tap}
		all = append(all, r)
		return r
	}
	auth := func(user string) http.Header { return http.Header{"Authorization": {"Bearer token-of-" + user}} }
	for _, w := range wires {
		// Both over the same connection, if there is one.
		client, base := s.client(w)
		for _, user := range []string{"alice", "bob"} {
			for _, format := range []string{"patch", "merge", "snapshot"} {
				follow(user, base+"/"+format, client, auth(user))
			}
			follow(user, base+"/cookie", client, http.Header{"Cookie": {"tracker=of-" + user + "; session=token-of-" + user}, "X-Other": {"other-of-" + user}})
			follow(user, base+"/header", client, http.Header{"X-Token": {"token-of-" + user}})
		}
	}
	for range 5 {
		for _, r := range all {
			r.await("a document", func() bool { return r.page.Doc != nil })
		}
		step := p.advance()
		for _, r := range all {
			r.await("a step", func() bool { return r.page.Doc.(map[string]any)["step"] == json.Number(fmt.Sprint(step)) })
		}
	}

	client, base := s.client(http1)
	other := map[string]string{"alice": "bob", "bob": "alice"}
	tags := map[string]string{}
	for user := range other {
		resp, body := get200(t, client, base+"/patch", auth(user))
		wantNone(t, "document of "+user, body+fmt.Sprint(resp.Header), words(other[user]), "token-of")
		if !strings.Contains(body, words(user)) || resp.StatusCode != 200 {
			t.Errorf("document of %s: %s %.100q", user, resp.Status, body)
		}
		if got := resp.Header.Get("Cache-Control"); got != "private, no-cache" {
			t.Errorf("Cache-Control of a private document: %q", got)
		}
		if vary := strings.Join(resp.Header.Values("Vary"), ","); !strings.Contains(vary, "Authorization") {
			t.Errorf("Vary of a private document: %q", vary)
		}
		tags[user] = resp.Header.Get("ETag")
		// Equal documents of two users have different versions: neither can
		// tell that they are equal.
		resp, _ = get200(t, client, base+"/same", auth(user))
		tags[user+" same"] = resp.Header.Get("ETag")
	}
	if tags["alice same"] == tags["bob same"] || tags["alice same"] == "" {
		t.Errorf("the same document has the version %s for alice and %s for bob", tags["alice same"], tags["bob same"])
	}
	// One user's version means nothing to the other.
	for user := range other {
		h := auth(user)
		h.Set("If-None-Match", tags[other[user]])
		h.Set("Prefer", "wait=1")
		if resp, body := get200(t, client, base+"/patch", h); resp.StatusCode != 200 || !strings.Contains(body, words(user)) {
			t.Errorf("%s with %s's version: %s", user, other[user], resp.Status)
		}
		h = auth(user)
		h.Set("Last-Event-ID", strings.Trim(tags[other[user]], `"`))
		f := follow(user, base+"/patch", client, h)
		f.await("a document", func() bool { return f.page.Doc != nil })
		if f.snapshots != 1 || f.patches != 0 {
			t.Errorf("%s with %s's id: %d snapshots, %d patches, want a snapshot", user, other[user], f.snapshots, f.patches)
		}
	}

	// No credentials, and bad ones: the upstream's refusal, without its text.
	for _, h := range []http.Header{{}, {"Authorization": {"Bearer of-nobody"}}} {
		for _, accept := range []string{"text/event-stream", "application/json"} {
			h.Set("Accept", accept)
			resp, body := get200(t, client, base+"/patch", h)
			if resp.StatusCode != 401 || resp.Header.Get("WWW-Authenticate") == "" {
				t.Errorf("%v: got %s %v, want 401 with a challenge", h, resp.Status, resp.Header)
			}
			wantNone(t, "refusal", body+fmt.Sprint(resp.Header), upstreamText, words("alice"), words("bob"))
		}
	}

	// Alice's login ends: her streams say so and end, Bob's go on.
	p.mu.Lock()
	p.revoked["alice"] = true
	p.mu.Unlock()
	for _, r := range all {
		if r.user == "alice" && !strings.HasSuffix(r.url, "/header") {
			within(t, "end of "+r.name, r.ended)
			if r.status.State != "denied" || r.status.Reason != "unauthorized" || r.clean < 1 {
				t.Errorf("%s: after the login ended: status %+v, %d clean ends, broken %q", r.name, r.status, r.clean, r.broken)
			}
			if r.err == nil || !strings.Contains(r.err.Error(), "401") {
				t.Errorf("%s: came back and got %v, want 401", r.name, r.err)
			}
		}
	}
	step := p.advance()
	for _, r := range all {
		if r.user == "bob" {
			r.await("a step after alice is gone", func() bool { return r.page.Doc.(map[string]any)["step"] == json.Number(fmt.Sprint(step)) })
		}
	}
	if resp, body := get200(t, client, base+"/snapshot", auth("alice")); resp.StatusCode != 401 || strings.Contains(body, words("alice")) {
		t.Errorf("document after the login ended: %s %.100q", resp.Status, body)
	}

	var sources []struct{ ID string }
	if err := json.Unmarshal([]byte(s.adminGet("/poll_sse/sources?state=live")), &sources); err != nil || len(sources) < 2 {
		t.Fatalf("%d sources, %v", len(sources), err)
	}
	for _, source := range sources {
		resp, err := http.Get("http://" + s.admin + "/poll_sse/sources/" + source.ID + "/document")
		if err != nil {
			t.Fatal(err)
		}
		body := readAll(t, resp.Body)
		resp.Body.Close()
		if resp.StatusCode != http.StatusForbidden {
			t.Errorf("a private document by the admin API: %s %.100q", resp.Status, body)
		}
	}
	if list := s.adminGet("/poll_sse/streams"); !strings.Contains(list, `"client":"127.0.0.1:`) {
		t.Errorf("no address of a stream, although it is configured: %.300s", list)
	}
	for _, r := range all {
		r.close()
		wantNone(t, "stream of "+r.name, r.tap.String(), words(other[r.user]), "token-of", upstreamText)
	}
	secrets := []string{words("alice"), words("bob"), "token-of-alice", "token-of-bob", upstreamText}
	for _, path := range []string{"/config/", "/poll_sse/sources", "/poll_sse/streams", "/poll_sse/summary", "/metrics", "/reverse_proxy/upstreams"} {
		text := s.adminGet(path)
		if text == "" && path != "/reverse_proxy/upstreams" {
			t.Errorf("%s of the admin API is empty", path)
		}
		wantNone(t, "admin API "+path, text, secrets...)
	}
	s.terminate()
	// Caddy's access log has the headers of requests; it hides the known ones,
	// and X-Token is this test's own invention.
	wantNone(t, "log", strings.Join(withoutLines(s.log.String(), "X-Token"), "\n"), secrets...)

	// Only what is configured goes to the upstream.
	for _, h := range p.seen {
		text := fmt.Sprint(h)
		wantNone(t, "poll", text, "tracker", "other-of", "Last-Event-Id")
		if strings.Contains(text, "alice") && strings.Contains(text, "bob") {
			t.Errorf("a poll with both users: %s", text)
		}
	}
}

func withoutLines(text, with string) []string {
	var lines []string
	for line := range strings.SplitSeq(text, "\n") {
		if !strings.Contains(line, with) {
			lines = append(lines, line)
		}
	}
	return lines
}
