package pollsse

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	caddycmd "github.com/caddyserver/caddy/v2/cmd"
	"github.com/spf13/cobra"

	"github.com/pollsse/caddy-poll-sse/internal/inspect"
)

// Exit statuses of caddy poll-sse inspect, besides 0 and Caddy's own 1 for what
// cannot be begun.
const (
	exitNoDocument = 2 // there is no document at the URL, or no stream
	exitImpaired   = 3 // something is wrong between the server and its readers
)

// inspectCommand returns the command caddy poll-sse inspect.
func inspectCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "inspect [--for <duration>] [--interval <duration>] [-H <field>]... [--json] <url> | --stream <url>",
		Short: "Polls an API for a while and says what to write into the Caddyfile; or looks at a stream from outside",
		Long: `
Polls a JSON API for a while, and says: whether it honours ETags, how often it
changes, what changes although nothing has happened (omit, ignore), by what the
items of lists are told apart (identify), which numbers a browser cannot hold,
what poll_sse saves against pages that poll, and a Caddyfile that works as it is.

With --stream it reads a poll_sse stream as a page would, and says whether it is
held back on the way, whether heartbeats come, whether compressed events are
flushed, and whether it resumes. Run it where the readers are: behind the proxy.

The report goes to standard output, the progress to standard error. A header
field with -H is sent with each request, as with curl; one that looks like a
secret is read from the environment in the Caddyfile.

Exit status: 0; 2 if the URL gives no document or no stream; 3 if something is
wrong with the stream; 1 if the arguments are.
`,
		Example: `  caddy poll-sse inspect --for 5m https://legacy.internal/quotes.json
  caddy poll-sse inspect --stream https://example.com/api/quotes`,
		Args:          cobra.MaximumNArgs(1),
		SilenceErrors: true, // Caddy logs them
	}
	cmd.Flags().Duration("for", time.Minute, "How long to look")
	cmd.Flags().Duration("interval", 2*time.Second, "Time between two polls")
	cmd.Flags().StringArrayP("header", "H", nil, "Header field to send, as in 'Accept-Language: en'")
	cmd.Flags().Bool("json", false, "Print one JSON object")
	cmd.Flags().String("stream", "", "URL of a poll_sse stream to look at instead")
	cmd.RunE = caddycmd.WrapCommandFuncForCobra(runInspect)
	return cmd
}

func runInspect(fs caddycmd.Flags) (int, error) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	fields, err := fs.GetStringArray("header")
	if err != nil {
		return 1, err
	}
	header := make(http.Header)
	for _, text := range fields {
		name, value, err := inspect.ParseField(text)
		if err != nil {
			return 1, err
		}
		header.Add(name, value)
	}
	d, stream, args := fs.Duration("for"), fs.String("stream"), fs.Args()
	if d < time.Second || d > 24*time.Hour {
		return 1, errors.New("--for: need 1s to 24h")
	}
	switch {
	case stream != "" && len(args) == 0:
		return inspectStream(ctx, fs, stream, header, d)
	case stream == "" && len(args) == 1:
		return inspectAPI(ctx, fs, args[0], header, d)
	}
	return 1, errors.New("need one URL: that of an API, or with --stream that of a poll_sse stream")
}

// newInspectTransport returns a transport that decodes nothing by itself.
func newInspectTransport() *http.Transport {
	t := http.DefaultTransport.(*http.Transport).Clone()
	t.DisableCompression = true
	return t
}

func inspectAPI(ctx context.Context, fs caddycmd.Flags, target string, header http.Header, d time.Duration) (int, error) {
	interval := fs.Duration("interval")
	if interval < 100*time.Millisecond {
		return 1, errors.New("--interval: need at least 100ms")
	}
	transport := newInspectTransport()
	defer transport.CloseIdleConnections()
	t := inspect.Target{URL: target, Header: header, Interval: interval}
	answers, err := inspect.Poll(ctx, t, d, transport, os.Stderr)
	if err != nil {
		return 1, err
	}
	report, err := inspect.Analyse(t, answers)
	if err != nil {
		return 1, err
	}
	status := 0
	if report.Reason != "" {
		status = exitNoDocument
	}
	if fs.Bool("json") {
		return status, writeJSONReport(report)
	}
	return status, report.WriteText(os.Stdout)
}

func inspectStream(ctx context.Context, fs caddycmd.Flags, target string, header http.Header, d time.Duration) (int, error) {
	transport := newInspectTransport()
	defer transport.CloseIdleConnections()
	fmt.Fprintf(os.Stderr, "reading the stream for %s\n", d)
	report, err := inspect.CheckStream(ctx, inspect.StreamTarget{URL: target, Header: header, Transport: transport, For: d})
	if err != nil {
		return 1, err
	}
	status := 0
	switch {
	case report.Reason != "":
		status = exitNoDocument
	case !report.Good():
		status = exitImpaired
	}
	if fs.Bool("json") {
		return status, writeJSONReport(report)
	}
	return status, report.WriteText(os.Stdout)
}

func writeJSONReport(report any) error {
	e := json.NewEncoder(os.Stdout)
	e.SetIndent("", "\t")
	e.SetEscapeHTML(false)
	return e.Encode(report)
}
