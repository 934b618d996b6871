package pollsse

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"github.com/spf13/cobra"
)

func init() {
	caddycmd.RegisterCommand(caddycmd.Command{
		Name:  "poll-sse",
		Usage: "[--from <address>] [--to] <url> [--path <path>] [--interval <duration>] [--format patch|merge|snapshot] [--access-log] [--debug]",
		Short: "Polls a JSON URL and streams its changes",
		Long: `
Polls one JSON URL and streams its changes as Server-Sent Events, without a
Caddyfile: for a first look, or for a container that does nothing else.

A host name as --from means automatic HTTPS, as with caddy reverse-proxy;
:8080, or 8080, is plain HTTP. The URL may stand without --to.
`,
		CobraFunc: commandFlags,
	})
}

// commandFlags adds the command's flags.
func commandFlags(cmd *cobra.Command) {
	cmd.Flags().StringP("from", "f", ":8080", "Address on which to receive traffic")
	cmd.Flags().StringP("to", "t", "", "URL to poll")
	cmd.Flags().String("path", "", "Path of the stream (default: every path)")
	cmd.Flags().Duration("interval", 0, "Time between polls (default 5s)")
	cmd.Flags().String("format", "", "patch, merge or snapshot (default patch)")
	cmd.Flags().Bool("access-log", false, "Enable the access log")
	cmd.Flags().BoolP("debug", "v", false, "Enable verbose debug logs")
	cmd.RunE = caddycmd.WrapCommandFuncForCobra(runCommand)
	cmd.AddCommand(inspectCommand())
}

func runCommand(fs caddycmd.Flags) (int, error) {
	caddy.TrapSignals()
	cfg, err := commandConfig(fs)
	if err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	if err := caddy.Run(cfg); err != nil {
		return caddy.ExitCodeFailedStartup, err
	}
	select {}
}

// commandConfig returns the configuration that the command's flags stand for.
func commandConfig(fs caddycmd.Flags) (*caddy.Config, error) {
	to := fs.String("to")
	switch args := fs.Args(); {
	case to == "" && len(args) == 1:
		to = args[0]
	case to == "" && len(args) == 0:
		return nil, errors.New("need the URL to poll, as in caddy poll-sse --from :8080 https://legacy.internal/quotes.json")
	case len(args) > 0:
		return nil, fmt.Errorf("need one URL to poll, not %d", len(args)+min(1, len(to)))
	}
	if err := checkUpstream(to); err != nil {
		return nil, err
	}
	address := fs.String("from")
	if strings.Trim(address, "0123456789") == "" {
		// As a host it would get a certificate, and ports 80 and 443.
		if port, err := strconv.ParseUint(address, 10, 16); err != nil || port == 0 {
			return nil, fmt.Errorf("--from %s: need a port from 1 to 65535", address)
		}
		address = ":" + address
	}
	from, err := httpcaddyfile.ParseAddress(address)
	if err != nil {
		return nil, fmt.Errorf("--from: %w", err)
	}
	if from.Path != "" {
		return nil, fmt.Errorf("--from: paths are not allowed; use --path")
	}
	if from.Port == "" {
		from.Port = strconv.Itoa(caddyhttp.DefaultHTTPSPort)
		if from.Scheme == "http" || from.Host == "" {
			from.Port = strconv.Itoa(caddyhttp.DefaultHTTPPort)
		}
	}
	handler := &Handler{Upstream: to, Schedule: Schedule{Interval: caddy.Duration(fs.Duration("interval"))}, Streaming: Streaming{Format: fs.String("format")}}
	route := caddyhttp.Route{
		HandlersRaw: []json.RawMessage{caddyconfig.JSONModuleObject(handler, "handler", "poll_sse", nil)},
	}
	matcher := caddy.ModuleMap{}
	if from.Host != "" {
		matcher["host"] = caddyconfig.JSON(caddyhttp.MatchHost{from.Host}, nil)
	}
	if path := fs.String("path"); path != "" {
		matcher["path"] = caddyconfig.JSON(caddyhttp.MatchPath{path}, nil)
	}
	if len(matcher) > 0 {
		route.MatcherSetsRaw = caddyhttp.RawMatcherSets{matcher}
	}
	server := &caddyhttp.Server{
		Listen: []string{":" + from.Port},
		Routes: caddyhttp.RouteList{route},
	}
	if from.Scheme == "http" || from.Host == "" {
		server.AutoHTTPS = &caddyhttp.AutoHTTPSConfig{Disabled: true}
	}
	if fs.Bool("access-log") {
		server.Logs = &caddyhttp.ServerLogConfig{}
	}
	no := false
	cfg := &caddy.Config{
		Admin: &caddy.AdminConfig{Disabled: true, Config: &caddy.ConfigSettings{Persist: &no}},
		AppsRaw: caddy.ModuleMap{"http": caddyconfig.JSON(caddyhttp.App{
			Servers: map[string]*caddyhttp.Server{"poll_sse": server},
		}, nil)},
	}
	if fs.Bool("debug") {
		cfg.Logging = &caddy.Logging{Logs: map[string]*caddy.CustomLog{"default": {BaseLog: caddy.BaseLog{Level: "DEBUG"}}}}
	}
	return cfg, nil
}
