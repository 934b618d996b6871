package pollsse

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2/caddyconfig"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/spf13/cobra"
)

// TestCommandConfig: what the command's arguments stand for.
func TestCommandConfig(t *testing.T) {
	for args, want := range map[string]string{
		"--to http://h/x":                              ":8080 http://h/x plain",
		"http://h/x":                                   ":8080 http://h/x plain",
		"http://h/x --from 9642":                       ":9642 http://h/x plain",
		"--from :9642 http://h/x":                      ":9642 http://h/x plain",
		"--from 127.0.0.1:9642 --to http://h/x":        ":9642 http://h/x https",
		"--from http://example.com --to http://h/x":    ":80 http://h/x plain",
		"--from example.com http://h/x":                ":443 http://h/x https",
		"--from example.com:9642 http://h/x?a={env.A}": ":9642 http://h/x?a={env.A} https",
		"":                                 "error: need the URL to poll",
		"--to http://h/x http://h/y":       "error: need one URL to poll, not 2",
		"http://h/x http://h/y":            "error: need one URL to poll, not 2",
		"legacy.internal/x":                "error: did you mean http://legacy.internal/x?",
		"--from 99999 http://h/x":          "error: --from",
		"--from 9642/path --to http://h/x": "error: --from",
		"http://user:secret@h/":            "error: credentials in the URL",
	} {
		cmd := new(cobra.Command)
		commandFlags(cmd)
		if err := cmd.ParseFlags(strings.Fields(args)); err != nil {
			t.Fatal(err)
		}
		cfg, err := commandConfig(caddycmd.Flags{FlagSet: cmd.Flags()})
		if message, ok := strings.CutPrefix(want, "error: "); ok {
			if err == nil || !strings.Contains(err.Error(), message) || strings.Contains(err.Error(), "secret") {
				t.Errorf("%s: error %v, want %q", args, err, message)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", args, err)
			continue
		}
		var app caddyhttp.App
		var handler struct{ Upstream string }
		if err := json.Unmarshal(cfg.AppsRaw["http"], &app); err != nil {
			t.Fatal(err)
		}
		server := app.Servers["poll_sse"]
		if err := json.Unmarshal(server.Routes[0].HandlersRaw[0], &handler); err != nil {
			t.Fatal(err)
		}
		mode := "https"
		if server.AutoHTTPS != nil && server.AutoHTTPS.Disabled {
			mode = "plain"
		}
		if got := strings.Join(server.Listen, " ") + " " + handler.Upstream + " " + mode; got != want {
			t.Errorf("%s stands for %s, want %s", args, got, want)
		}
	}
}

// TestTransportOptions: the options that an error refers to the transport exist
// there.
func TestTransportOptions(t *testing.T) {
	for _, name := range transportOptions {
		_, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(":8080 {\npoll_sse http://h/ {\ntransport http {\n"+name+"\n}\n}\n}\n"), nil)
		if err != nil && strings.Contains(err.Error(), "unrecognized") {
			t.Errorf("%s: %v", name, err)
		}
		if o, ok := new(Handler).option(name); ok {
			t.Errorf("%s is an option of the handler: %v", name, o)
		}
	}
}
