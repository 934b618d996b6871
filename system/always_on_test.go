package system_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
)

// adaptSite turns the body of a site block into a configuration.
func adaptSite(t *testing.T, site string) []byte {
	t.Helper()
	text := "{\n\tadmin off\n\tpersist_config off\n\tauto_https off\n}\nhttp://:0 {\n" + site + "\n}\n"
	config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), nil)
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// loadSite runs Caddy with one site and returns its URL.
func loadSite(t *testing.T, site string) string {
	t.Helper()
	if err := caddy.Load(adaptSite(t, site), true); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = caddy.Stop() })
	app, err := caddy.ActiveContext().AppIfConfigured("http")
	if err != nil {
		t.Fatal(err)
	}
	for _, server := range app.(*caddyhttp.App).Servers {
		for _, listener := range server.Listeners() {
			address := listener.Addr().String()
			return "http://localhost" + address[strings.LastIndex(address, ":"):]
		}
	}
	t.Fatal("no listener")
	return ""
}

// countedUpstream is a real server that reports each request.
func countedUpstream(t *testing.T) (url string, polls <-chan *http.Request) {
	ch := make(chan *http.Request, 1000)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		ch <- r
		_, _ = io.WriteString(w, `{"a":1}`)
	}))
	t.Cleanup(server.Close)
	return server.URL, ch
}

func TestAlwaysOn(t *testing.T) {
	upstream, polls := countedUpstream(t)
	site := func(options string) string {
		return "poll_sse /doc " + upstream + "/doc {\n name always\n interval 1h\n linger 1h\n always_on\n" + options + "\n}"
	}
	// Validating must not poll: the count at the end would show it.
	if err := caddy.Validate(parseConfig(t, adaptSite(t, site("")))); err != nil {
		t.Fatal(err)
	}
	loadSite(t, site(""))
	<-polls // without a subscriber
	loadSite(t, site("heartbeat 20s"))
	// A configuration that fails to start changes nothing.
	if err := caddy.Load([]byte(`{"admin":{"disabled":true},"apps":{"http":{"servers":{"x":{"listen":["256.0.0.1:1"]}}}}}`), true); err == nil {
		t.Fatal("a listener that cannot be had was accepted")
	}
	url := loadSite(t, site("heartbeat 21s"))
	resp, err := http.Get(url + "/doc")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); string(body) != `{"a":1}` {
		t.Errorf("document %s", body)
	}
	if got := resp.Header.Get("Cache-Status"); !strings.HasPrefix(got, "poll_sse; hit; ttl=") {
		t.Errorf("Cache-Status %s, want a hit", got)
	}
	if len(polls) != 0 {
		t.Errorf("%d more polls, want none: the source did not survive", len(polls))
	}
}

func parseConfig(t *testing.T, config []byte) *caddy.Config {
	t.Helper()
	c := new(caddy.Config)
	if err := json.Unmarshal(config, c); err != nil {
		t.Fatal(err)
	}
	return c
}

func TestAlwaysOnNeedsAFixedRequest(t *testing.T) {
	for _, options := range []string{"forward Authorization", "header_up X-User {http.request.header.x}", "body q={http.request.uri.query.q}"} {
		_, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte("http://:0 {\npoll_sse http://a.test/ {\nalways_on\n"+options+"\n}\n}\n"), nil)
		if err == nil || !strings.Contains(err.Error(), "always_on: ") {
			t.Errorf("%s: error %v, want always_on", options, err)
		}
	}
}

func TestPokeWebhook(t *testing.T) {
	t.Setenv("POKE_SECRET", "0123456789abcdef")
	upstream, polls := countedUpstream(t)
	url := loadSite(t, `
		poll_sse_poke /changed quotes {
			secret {env.POKE_SECRET}
			header X-Poke-Secret
		}
		poll_sse_poke /bearer quotes {
			secret {env.POKE_SECRET}
		}
		poll_sse_poke /nothing nobody {
			secret {env.POKE_SECRET}
		}
		poll_sse /quotes `+upstream+` {
			name quotes
			interval 1h
		}`)
	post := func(method, path, field, value string) int {
		req, err := http.NewRequest(method, url+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set(field, value)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		return resp.StatusCode
	}
	const secret = "0123456789abcdef"
	if got := post("POST", "/changed", "X-Poke-Secret", secret); got != 204 {
		t.Errorf("poke without a source: %d, want 204", got)
	}
	if len(polls) != 0 {
		t.Fatal("a poke made a source")
	}
	resp, err := http.Get(url + "/quotes")
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	<-polls
	tests := []struct {
		method, path, field, value string
		status                     int
	}{
		{"POST", "/changed", "X-Poke-Secret", "wrong", 403},
		{"POST", "/changed", "X-Poke-Secret", "", 403},
		{"POST", "/changed", "X-Poke-Secret", secret + "x", 403},
		{"POST", "/changed", "Authorization", "Bearer " + secret, 403},
		{"POST", "/bearer", "Authorization", secret, 403},
		{"GET", "/changed", "X-Poke-Secret", secret, 405},
		{"POST", "/nothing", "Authorization", "Bearer " + secret, 204},
	}
	for _, test := range tests {
		if got := post(test.method, test.path, test.field, test.value); got != test.status {
			t.Errorf("%s %s %s: %d, want %d", test.method, test.path, test.field, got, test.status)
		}
	}
	if len(polls) != 0 {
		t.Error("a refused poke polled")
	}
	if got := post("POST", "/bearer", "Authorization", "bearer "+secret); got != 204 {
		t.Errorf("poke: %d, want 204", got)
	}
	<-polls
}

func TestPokeRefusesConfiguration(t *testing.T) {
	t.Setenv("SHORT", "secret")
	tests := []struct{ options, want string }{
		{"", "need secret"},
		{"secret literal-secret-in-the-config", "as {env.NAME}"},
		{"secret x{env.SHORT}", "as {env.NAME}"},
		{"secret {http.request.header.x}", "as {env.NAME}"},
		{"secret {env.SHORT}", "shorter than 16"},
		{"secret {env.POLL_SSE_NOT_SET}", "no value"},
		{"secret {env.SHORT}\nheader a:b", "not a header field name"},
		{"secrets {env.SHORT}", "no option secrets"},
	}
	for _, test := range tests {
		text := "http://:0 {\npoll_sse_poke /x quotes {\n" + test.options + "\n}\n}\n"
		config, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(text), nil)
		if err == nil {
			err = caddy.Validate(parseConfig(t, config))
		}
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: error %v, want %s", test.options, err, test.want)
		}
	}
}
