package pollsse

import (
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"

	"github.com/pollsse/caddy-poll-sse/internal/feed"
	"github.com/pollsse/caddy-poll-sse/internal/upstream"
)

func TestBasicAuth(t *testing.T) {
	t.Setenv("LEGACY_PASSWORD", "p:ä")
	synctest.Test(t, func(t *testing.T) {
		u := &fakeUpstream{script: func(n int, r *http.Request) *http.Response {
			user, password, _ := r.BasicAuth()
			return reply(200, fmt.Sprintf("%q", user+"/"+password))
		}}
		s, _ := startSource(t, &Handler{Request: Request{BasicAuth: &upstream.BasicAuth{Username: "reader", Password: "{env.LEGACY_PASSWORD}"}}}, u)
		wait(time.Second)
		if got, want := string(s.log.View().Document.Text), `"reader/p:ä"`; got != want {
			t.Errorf("upstream saw %s, want %s", got, want)
		}
	})
}

func TestBearerFileIsReadAgain(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	synctest.Test(t, func(t *testing.T) {
		u := &fakeUpstream{script: func(n int, r *http.Request) *http.Response {
			if r.Header.Get("Authorization") != "Bearer two" {
				return reply(401, "")
			}
			return reply(200, "1")
		}}
		s, logs := startSource(t, &Handler{Request: Request{BearerFile: path}, Schedule: Schedule{Interval: caddy.Duration(time.Second)}}, u)
		wait(time.Minute)
		if v := s.log.View(); v.Status.Reason != upstream.ReasonCredentials || v.Denial != nil {
			t.Errorf("without a file: status %+v, want credentials", v.Status)
		}
		if u.count() != 0 {
			t.Errorf("%d requests without a token, want none", u.count())
		}
		for _, content := range []string{"one", "one\ntwo", "two\n"} {
			if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			wait(2 * time.Minute)
			want := map[string]string{"one": upstream.ReasonUnauthorized, "one\ntwo": upstream.ReasonCredentials, "two\n": ""}[content]
			if v := s.log.View(); v.Status.Reason != want {
				t.Errorf("token %q: status %+v, want reason %q", content, v.Status, want)
			}
		}
		for _, line := range logs.All() {
			if text := fmt.Sprint(line.Message, line.ContextMap()); strings.Contains(text, "two") {
				t.Errorf("the log holds the token: %s", text)
			}
		}
	})
}

// authority is a token endpoint and the API that accepts its newest token.
type authority struct {
	fakeUpstream
	life     time.Duration
	asked    int // requests for a token
	issued   int
	down     bool // the token endpoint
	revoked  bool // the newest token
	statuses []int
}

func newAuthority(life time.Duration) *authority {
	a := &authority{life: life}
	a.script = func(n int, r *http.Request) *http.Response {
		a.mu.Lock()
		defer a.mu.Unlock()
		if r.URL.Host == "auth.test" {
			a.asked++
			if a.down {
				if a.asked%2 == 1 {
					return reply(302, "", "Location", "http://secret%zz")
				}
				return reply(500, `secret-in-body`)
			}
			a.revoked = false
			a.issued++
			return reply(200, fmt.Sprintf(`{"access_token":"secret-%d","token_type":"bearer","expires_in":%d}`, a.issued, int(a.life/time.Second)), "Content-Type", "application/json")
		}
		if a.revoked || r.Header.Get("Authorization") != fmt.Sprintf("Bearer secret-%d", a.issued) {
			a.statuses = append(a.statuses, 401)
			return reply(401, "")
		}
		a.statuses = append(a.statuses, 200)
		return reply(200, "1")
	}
	return a
}

func (a *authority) requested() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.asked
}

func oauth2Handler() *Handler {
	return &Handler{
		Schedule: Schedule{Interval: caddy.Duration(10 * time.Second)},
		Request: Request{OAuth2: &upstream.OAuth2{
			TokenURL: "http://auth.test/token", ClientID: "poller", ClientSecret: "client-secret",
			Scopes: []string{"read", "list"}, Params: map[string]string{"audience": "quotes"}, Auth: "body",
		}},
	}
}

func TestOAuth2TokenIsCachedAndRenewedEarly(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAuthority(10 * time.Minute)
		for i := range 5 {
			h := oauth2Handler()
			h.Upstream = fmt.Sprintf("http://api.test/%d", i)
			startSource(t, h, &a.fakeUpstream)
		}
		wait(time.Minute)
		if a.requested() != 1 {
			t.Errorf("%d requests for a token by 5 sources, want 1", a.requested())
		}
		form := "audience=quotes&client_id=poller&client_secret=client-secret&grant_type=client_credentials&scope=read+list"
		if got := a.sent()[0]; got != form {
			t.Errorf("asked for a token with %s, want %s", got, form)
		}
		wait(time.Hour)
		if a.requested() < 6 || a.requested() > 7 {
			t.Errorf("%d requests for a token in an hour, want one each 9 minutes", a.requested())
		}
		a.mu.Lock()
		for _, status := range a.statuses {
			if status != 200 {
				t.Errorf("the API answered %v: a token was renewed too late", a.statuses)
				break
			}
		}
		a.mu.Unlock()
	})
}

func TestOAuth2RenewsOnceAfter401(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAuthority(time.Hour)
		s, _ := startSource(t, oauth2Handler(), &a.fakeUpstream)
		wait(15 * time.Second)
		a.mu.Lock()
		a.revoked = true
		a.mu.Unlock()
		wait(10 * time.Second)
		if v := s.log.View(); a.requested() != 2 || v.Status.State != feed.Live {
			t.Errorf("%d requests for a token, status %+v; want 2, live", a.requested(), v.Status)
		}
	})
}

func TestOAuth2UpstreamThatRefusesEveryToken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAuthority(time.Hour)
		api := a.script
		a.script = func(n int, r *http.Request) *http.Response {
			if r.URL.Host == "auth.test" {
				return api(n, r)
			}
			return reply(401, "")
		}
		s, _ := startSource(t, oauth2Handler(), &a.fakeUpstream)
		wait(10 * time.Minute)
		if v := s.log.View(); v.Status.Reason != upstream.ReasonUnauthorized {
			t.Errorf("status %+v, want unauthorized", v.Status)
		}
		if a.requested() > 11 {
			t.Errorf("%d requests for a token in 10 minutes, want one a minute", a.requested())
		}
	})
}

func TestOAuth2EndpointDown(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		a := newAuthority(10 * time.Minute)
		a.down = true
		var all []*source
		for i := range 20 {
			h := oauth2Handler()
			h.Upstream = fmt.Sprintf("http://api.test/%d", i)
			s, logs := startSource(t, h, &a.fakeUpstream)
			all = append(all, s)
			defer func() {
				for _, line := range logs.All() {
					if text := fmt.Sprint(line.Message, line.ContextMap()); strings.Contains(text, "secret") {
						t.Errorf("the log holds a secret: %s", text)
					}
				}
			}()
		}
		wait(time.Minute)
		if v := all[0].log.View(); v.Status.Reason != upstream.ReasonCredentials {
			t.Errorf("status %+v, want credentials", v.Status)
		}
		if a.requested() > 13 {
			t.Errorf("%d requests for a token in a minute by 20 sources, want one each 5s", a.requested())
		}
		a.mu.Lock()
		a.down = false
		a.mu.Unlock()
		wait(2 * time.Minute)
		a.mu.Lock()
		a.down = true // with a token, an endpoint that is down harms nobody before the token's end
		a.mu.Unlock()
		wait(7*time.Minute + 30*time.Second)
		for i, s := range all {
			if v := s.log.View(); v.Status.State != feed.Live {
				t.Errorf("source %d: status %+v, want live", i, v.Status)
			}
		}
	})
}

func TestOwnCredentialsAreOneWay(t *testing.T) {
	h := oauth2Handler()
	h.Upstream = "http://api.test/"
	h.BearerFile = "/token"
	h.Forward = []string{"authorization"}
	h.setDefaults()
	h.prepare(caddy.NewReplacer(), testEngine(t).newGeneration())
	if err := h.Validate(); err == nil || !strings.Contains(err.Error(), "one Authorization") {
		t.Errorf("error %v, want one Authorization", err)
	}
}
