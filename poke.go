package pollsse

import (
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"
	"golang.org/x/net/http/httpguts"

	"github.com/pollsse/caddy-poll-sse/internal/upstream"
)

func init() {
	caddy.RegisterModule(Poke{})
	httpcaddyfile.RegisterHandlerDirective("poll_sse_poke", func(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		p := new(Poke)
		return p, p.UnmarshalCaddyfile(h.Dispenser)
	})
	// poll_sse is registered in another file, whose init may come later.
	httpcaddyfile.RegisterDirectiveOrder("poll_sse_poke", httpcaddyfile.After, "encode")
}

// Poke polls the documents of a poll_sse at once. Its URL is for the webhook of
// a legacy system that knows when something has changed. It answers a POST that
// carries the secret with 204, whether there was anything to poll or not, and
// never makes a source. Each source follows 8 pokes at once and one a second in
// the long run; any number of pokes in between is one poll.
type Poke struct {
	// The name of the poll_sse to poll: its option name, or else its upstream
	// URL as it is written there. Required.
	Source string `json:"source,omitempty"`

	// The secret: {env.NAME} or {file.PATH}, read when the configuration is
	// loaded. At least 16 bytes. Required.
	Secret string `json:"secret,omitempty"`

	// The header field that carries the secret; in Authorization it stands
	// behind "Bearer". Caddy's access log shows any other field as it is,
	// unless a filter of the log deletes it. Default: Authorization.
	Header string `json:"header,omitempty"`

	engine *engine
	digest [sha256.Size]byte // of the secret: equal lengths compare in constant time
	err    error             // reported by Validate
}

// CaddyModule returns the Caddy module information.
func (Poke) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.poll_sse_poke",
		New: func() caddy.Module { return new(Poke) },
	}
}

// Provision reads the secret.
func (p *Poke) Provision(ctx caddy.Context) error {
	if p.engine == nil {
		p.engine = process
	}
	setDefault(&p.Header, "Authorization")
	if !strings.EqualFold(p.Header, "Authorization") {
		ctx.Logger().Warn("access logs show the secret in this field, unless a log filter deletes it; Authorization is redacted", zap.String("field", p.Header))
	}
	var secret string
	secret, p.err = readSecret(p.Secret, caddy.NewReplacer().GetString)
	p.digest = sha256.Sum256([]byte(secret))
	return nil
}

// minSecret is the least length of a secret, in bytes.
const minSecret = 16

// readSecret reads a secret that is configured as {env.NAME} or {file.PATH}.
func readSecret(placeholder string, lookup upstream.Lookup) (string, error) {
	name, opened := strings.CutPrefix(placeholder, "{")
	name, closed := strings.CutSuffix(name, "}")
	if !opened || !closed || strings.ContainsAny(name, "{}") || !upstream.IsConfigPlaceholder(name) {
		return "", errors.New("need the secret as {env.NAME} or {file.PATH}, so that it is not part of the configuration")
	}
	secret, _ := lookup(name)
	if secret == "" {
		return "", fmt.Errorf("secret: %s has no value", placeholder)
	}
	secret = strings.TrimSpace(secret)
	if len(secret) < minSecret {
		return "", fmt.Errorf("the secret is shorter than %d bytes", minSecret)
	}
	return secret, nil
}

// Validate reports everything that is wrong with the configuration at once.
func (p *Poke) Validate() error {
	errs := []error{p.err}
	if p.Source == "" {
		errs = append(errs, errors.New("need the name of a poll_sse"))
	}
	if !httpguts.ValidHeaderFieldName(p.Header) {
		errs = append(errs, fmt.Errorf("header %q: not a header field name", p.Header))
	}
	for i, err := range errs {
		if err != nil {
			errs[i] = fmt.Errorf("poll_sse_poke %s: %w", upstream.Redact(p.Source), err)
		}
	}
	return errors.Join(errs...)
}

// ServeHTTP answers as the type's comment says.
func (p *Poke) ServeHTTP(w http.ResponseWriter, r *http.Request, _ caddyhttp.Handler) error {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		return caddyhttp.Error(http.StatusMethodNotAllowed, nil)
	}
	given := r.Header.Get(p.Header)
	if strings.EqualFold(p.Header, "Authorization") {
		scheme, credentials, _ := strings.Cut(given, " ")
		if given = ""; strings.EqualFold(scheme, "Bearer") {
			given = strings.TrimSpace(credentials)
		}
	}
	digest := sha256.Sum256([]byte(given))
	if subtle.ConstantTimeCompare(digest[:], p.digest[:]) != 1 {
		return caddyhttp.Error(http.StatusForbidden, errors.New("poke without the secret"))
	}
	p.engine.pool.poke(r.Context(), p.endpoint(), pokedByWebhook)
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// endpoint returns the name that the source's documents count under. It is looked
// up for each poke, as the poll_sse may be provisioned after this handler.
func (p *Poke) endpoint() string { return p.engine.names.find(p.Source) }

// UnmarshalCaddyfile sets up the handler from a directive:
//
//	poll_sse_poke [<matcher>] <source name> {
//		secret {env.<name>}|{file.<path>}
//		header <field>
//	}
func (p *Poke) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the directive's name
	if !d.Args(&p.Source) {
		return d.Errf("poll_sse_poke: need the name of a poll_sse")
	}
	if d.NextArg() {
		return d.ArgErr()
	}
	var errs []error
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		name, args := d.Val(), d.RemainingArgs()
		field := map[string]*string{"secret": &p.Secret, "header": &p.Header}[name]
		switch {
		case field == nil:
			meant := nearest(name, []string{"secret", "header"})
			if meant != "" {
				meant = "; did you mean " + meant + "?"
			}
			errs = append(errs, d.Errf("poll_sse_poke has no option %s%s", name, meant))
		case len(args) != 1:
			errs = append(errs, d.Errf("%s: need one value", name))
		case *field != "":
			errs = append(errs, d.Errf("%s is given twice", name))
		default:
			*field = args[0]
		}
	}
	if !slices.ContainsFunc(errs, func(err error) bool { return err != nil }) && p.Secret == "" {
		errs = append(errs, d.Errf("poll_sse_poke: need secret {env.NAME} or secret {file.PATH}"))
	}
	return errors.Join(errs...)
}

// Interface guards.
var (
	_ caddy.Provisioner           = (*Poke)(nil)
	_ caddy.Validator             = (*Poke)(nil)
	_ caddyhttp.MiddlewareHandler = (*Poke)(nil)
	_ caddyfile.Unmarshaler       = (*Poke)(nil)
)
