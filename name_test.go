package pollsse

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
)

// TestDefaultNames: equal URLs share a name, and different ones that look alike
// do not.
func TestDefaultNames(t *testing.T) {
	var names nameTable
	for i, test := range []struct{ url, want string }{
		{"http://h/x?key=a", "http://h/x?…"},
		{"http://h/x?key=b", "http://h/x?…#2"},
		{"http://h/x?key=a", "http://h/x?…"},
		{"http://h/x", "http://h/x"},
		{"http://h/x?key=c", "http://h/x?…#3"},
		{"http://h/x?key=b", "http://h/x?…#2"},
		{"http://h/y?key=b", "http://h/y?…"},
	} {
		if got := names.name(test.url); got != test.want {
			t.Errorf("%d: %s is named %q, want %q", i, test.url, got, test.want)
		}
	}
	for url, want := range map[string]string{"http://h/x?key=b": "http://h/x?…#2", "quotes": "quotes", "http://h/x?key=z": "http://h/x?key=z", "http://h/x?…#3": "http://h/x?…#3"} {
		if got := names.find(url); got != want {
			t.Errorf("poll_sse_poke %s means %q, want %q", url, got, want)
		}
	}
}

// TestSecretOfQuery: a secret in the query stands in no metric, no row of the
// admin API, no line of the log and no error, and the webhook finds its source
// by the URL as written.
func TestSecretOfQuery(t *testing.T) {
	const secret = "hunter2"
	bubble(t, func(t *testing.T) {
		a := newRig(t, &Handler{Upstream: "http://upstream.test/doc?key=" + secret + "a"})
		b := newRig(t, &Handler{Upstream: "http://upstream.test/doc?key=" + secret + "b"})
		core, logs := observer.New(zapcore.DebugLevel)
		for _, r := range []*rig{a, b} {
			r.claim.environment.logger = zap.New(core)
			r.up.answer(func(*http.Request) (*http.Response, error) {
				return reply(302, "", "Location", "http://"+secret+"%zz"), nil
			})
			if got := r.get(); got.Code != 502 {
				t.Errorf("status %d, want 502", got.Code)
			}
		}
		synctest.Wait()
		registry := prometheus.NewPedanticRegistry()
		if err := registerMetrics(registry, a.engine.pool); err != nil {
			t.Fatal(err)
		}
		families, err := registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		var shown bytes.Buffer
		for _, f := range families {
			shown.WriteString(f.String())
		}
		if rows := listed(a.engine.pool); len(rows) != 2 || rows[0].Name == rows[1].Name || rows[0].Upstream != "http://upstream.test/doc?…" {
			t.Errorf("the admin API lists %+v", rows)
		}
		_ = json.NewEncoder(&shown).Encode(listed(a.engine.pool))
		for _, line := range logs.All() {
			text, _ := zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()).EncodeEntry(line.Entry, line.Context)
			shown.Write(text.Bytes())
		}
		if logs.Len() == 0 || !strings.Contains(shown.String(), `"reason":"redirect"`) {
			t.Errorf("the log does not tell why: %s", &shown)
		}
		if strings.Contains(shown.String(), secret) {
			t.Errorf("the secret shows: %s", &shown)
		}
		polls := b.up.count()
		a.engine.pool.poke(t.Context(), (&Poke{Source: b.Upstream, engine: a.engine}).endpoint(), pokedByWebhook)
		synctest.Wait()
		if got := b.up.count(); got != polls+1 {
			t.Errorf("%d polls after the webhook, want %d", got, polls+1)
		}
	})
	for _, upstream := range []string{"h/x?" + secret, "http://h/%zz?" + secret, "ftp://" + secret + "@h/", "http://h/x?a={http.request.uri}&" + secret, "http://h/x?" + secret + "#x", "http://u:" + secret + "@h/"} {
		if err := validateHandler(`{"upstream":"` + upstream + `"}`); err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: error %v, want one without the secret", upstream, err)
		}
	}
}
