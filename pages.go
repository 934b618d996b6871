package pollsse

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig/caddyfile"
	"github.com/caddyserver/caddy/v2/caddyconfig/httpcaddyfile"
	"github.com/caddyserver/caddy/v2/modules/caddyhttp"
	"go.uber.org/zap"

	browser "github.com/pollsse/caddy-poll-sse/client"
	"github.com/pollsse/caddy-poll-sse/internal/upstream"
)

func init() {
	caddy.RegisterModule(Client{})
	httpcaddyfile.RegisterHandlerDirective("poll_sse_client", func(h httpcaddyfile.Helper) (caddyhttp.MiddlewareHandler, error) {
		c := new(Client)
		return c, c.UnmarshalCaddyfile(h.Dispenser)
	})
	// Between poll_sse, whose streams are then written to no wrapper of this
	// handler, and in front of everything that serves pages.
	httpcaddyfile.RegisterDirectiveOrder("poll_sse_client", httpcaddyfile.Before, "push")
}

// Client serves the browser client under /poll-sse/: client.js, the bindings
// react.js, vue.js, solid.js and element.js, numbers.js, worker.js and shim.js.
// Each has this name, to be revalidated, and one with a hash, to be kept for
// ever; client.json has both names and the integrity of each. All other requests go
// to the next handler.
//
// With shims it also puts shim.js into the HTML pages that the next handler
// answers with, so that pages that nobody can change stop polling: first in
// their head, in documents of windows and frames only, and not if a
// Content-Security-Policy forbids it.
type Client struct {
	// What the pages poll. Default: none, and pages stay as they are. At most 32.
	Shims []Shim `json:"shims,omitempty"`

	tag    []byte // of the script; nil without shims
	mark   string // of the entity tags of pages with this tag
	script string // path of the script
	module string // path of the client that it loads
	logger *zap.Logger
	told   *sync.Map // reasons why pages go without the script that have been logged
}

// Shim names something that pages poll.
type Shim struct {
	// The URL as the pages ask for it, with its query: a path of this site, or
	// an absolute http or https URL. Required.
	URL string `json:"url,omitempty"`

	// Query parameters that make no difference, such as a cache-buster's.
	Ignore []string `json:"ignore,omitempty"`
}

// Bounds of the configuration, so that the tag stays within the first bytes of
// a page, where a browser looks for its charset: HTML standard, section
// 4.2.5.4, asks for the first 1024.
const (
	maxShims = 32
	maxTag   = 900
)

// clientPath is where the client is served.
const clientPath = "/poll-sse/"

// CaddyModule returns the Caddy module information.
func (Client) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{
		ID:  "http.handlers.poll_sse_client",
		New: func() caddy.Module { return new(Client) },
	}
}

// Provision makes the tag that pages get.
func (c *Client) Provision(ctx caddy.Context) error {
	c.logger, c.told = ctx.Logger(), new(sync.Map)
	if len(c.Shims) == 0 {
		return nil
	}
	all := clientFiles()
	c.script, c.module = all["shim.js"].immutable, all["client.js"].immutable
	urls := make([][]any, len(c.Shims))
	for i, s := range c.Shims {
		urls[i] = []any{s.URL, append([]string{}, s.Ignore...)}
	}
	text, err := json.Marshal(urls)
	if err != nil {
		return err
	}
	c.tag = fmt.Appendf(nil, `<script src="%s" data-client="%s" data-urls="%s"></script>`, c.script, c.module, html.EscapeString(string(text)))
	sum := sha256.Sum256(c.tag)
	c.mark = "-" + hex.EncodeToString(sum[:4])
	return nil
}

// Validate reports everything that is wrong with the configuration at once.
func (c *Client) Validate() error {
	var errs []error
	if len(c.Shims) > maxShims {
		errs = append(errs, fmt.Errorf("poll_sse_client: %d shims, at most %d", len(c.Shims), maxShims))
	}
	if len(c.tag) > maxTag {
		errs = append(errs, fmt.Errorf("poll_sse_client: the shims take %d bytes of each page, at most %d: name fewer, or shorter URLs", len(c.tag), maxTag))
	}
	seen := make(map[string]bool)
	for _, s := range c.Shims {
		if err := s.check(); err != nil {
			errs = append(errs, err)
		}
		if seen[s.URL] {
			errs = append(errs, fmt.Errorf("shim %s is given twice", upstream.Redact(s.URL)))
		}
		seen[s.URL] = true
	}
	return errors.Join(errs...)
}

func (s Shim) check() error {
	u, err := url.Parse(s.URL)
	switch {
	case s.URL == "":
		return errors.New("shim: need the URL that the pages poll, as in shim /api/quotes")
	case err != nil:
		return fmt.Errorf("shim %s: not a URL", upstream.Redact(s.URL))
	case strings.Contains(s.URL, "{"):
		return fmt.Errorf("shim %s: placeholders have no value here; write the URL as the pages ask for it", upstream.Redact(s.URL))
	case u.IsAbs() && (u.Scheme == "http" || u.Scheme == "https") && u.Host != "" && u.User == nil:
	case u.Scheme != "" || u.Host != "" || !strings.HasPrefix(u.Path, "/"):
		return fmt.Errorf("shim %s: need a path that begins with a slash, or an http or https URL", upstream.Redact(s.URL))
	}
	if u.Fragment != "" {
		return fmt.Errorf("shim %s: a fragment never reaches a server; leave it out", upstream.Redact(s.URL))
	}
	if slices.Contains(s.Ignore, "") {
		return fmt.Errorf("shim %s: ignore: a query parameter needs a name", upstream.Redact(s.URL))
	}
	return nil
}

// ServeHTTP answers as the type's comment says.
func (c *Client) ServeHTTP(w http.ResponseWriter, r *http.Request, next caddyhttp.Handler) error {
	if name, ok := strings.CutPrefix(r.URL.Path, clientPath); ok {
		if file := clientFiles()[name]; file != nil {
			return file.serve(w, r, name)
		}
	}
	if c.tag == nil || !asksForPage(r) {
		return next.ServeHTTP(w, r)
	}
	p := newHTMLPage(w, r, c.tag, c.mark, []string{c.script, c.module}, c.tellOnce)
	defer p.abandon() // of one that panics, too
	if err := next.ServeHTTP(p, p.request); err != nil {
		return err
	}
	return p.finish()
}

// tellOnce logs why pages go without the script, once for each reason.
func (c *Client) tellOnce(reason, detail string) {
	if _, told := c.told.LoadOrStore(reason, true); !told {
		c.logger.Warn("a page goes without the shim: "+reason, zap.String("detail", detail))
	}
}

// UnmarshalCaddyfile sets up the handler from a directive:
//
//	poll_sse_client [<matcher>] {
//		shim <url> {
//			ignore <query parameter>...
//		}
//	}
func (c *Client) UnmarshalCaddyfile(d *caddyfile.Dispenser) error {
	d.Next() // the directive's name
	if d.NextArg() {
		return d.Errf("poll_sse_client takes no %s; its files are always under %s", d.Val(), clientPath)
	}
	var errs []error
	for nesting := d.Nesting(); d.NextBlock(nesting); {
		if name := d.Val(); name != "shim" {
			meant := ""
			if nearest(name, []string{"shim"}) != "" {
				meant = "; did you mean shim?"
			}
			errs = append(errs, d.Errf("poll_sse_client has no option %s%s", name, meant))
			skipOption(d, nesting+1)
			continue
		}
		var s Shim
		if !d.Args(&s.URL) || d.NextArg() {
			errs = append(errs, d.Errf("shim: need one URL that the pages poll, as in shim /api/quotes"))
			skipOption(d, nesting+1)
			continue
		}
		at := *d
		for inner := d.Nesting(); d.NextBlock(inner); {
			if name := d.Val(); name != "ignore" {
				errs = append(errs, d.Errf("shim has no option %s; there is ignore", name))
				skipOption(d, inner+1)
				continue
			}
			params := d.RemainingArgs()
			if len(params) == 0 {
				errs = append(errs, d.Errf("ignore: need the query parameters that make no difference"))
			}
			s.Ignore = append(s.Ignore, params...)
		}
		if err := s.check(); err != nil {
			errs = append(errs, at.WrapErr(err))
		}
		c.Shims = append(c.Shims, s)
	}
	return errors.Join(errs...)
}

// clientFile is one of the built files, in each coding that it is served in.
type clientFile struct {
	text, gzip, brotli []byte
	contentType        string
	tag                string // the entity tag of the plain form, without quotes
	url, immutable     string // its two paths
	integrity          string // for the integrity attribute
}

// clientFiles has each file under both of its names.
var clientFiles = sync.OnceValue(func() map[string]*clientFile {
	files := make(map[string]*clientFile)
	names, err := fs.Glob(browser.Files, "dist/*")
	if err != nil {
		panic("BUG: " + err.Error())
	}
	list := make(map[string]map[string]string)
	for _, name := range names {
		base := path.Base(name)
		if path.Ext(base) == ".br" {
			continue
		}
		text, err := browser.Files.ReadFile(name)
		if err != nil {
			panic("BUG: " + err.Error())
		}
		f := newClientFile(text)
		f.brotli, _ = browser.Files.ReadFile(name + ".br") // declarations have none
		f.contentType = "text/javascript; charset=utf-8"
		if strings.HasSuffix(base, ".d.ts") {
			f.contentType = "text/plain; charset=utf-8"
			files[base] = f
			continue
		}
		stem := strings.TrimSuffix(base, ".js")
		hashed := stem + "." + f.tag + ".js"
		f.url, f.immutable = clientPath+base, clientPath+hashed
		files[base], files[hashed] = f, f
		list[base] = map[string]string{"url": f.url, "immutable": f.immutable, "integrity": f.integrity}
	}
	text, err := json.MarshalIndent(list, "", "\t")
	if err != nil {
		panic("BUG: " + err.Error())
	}
	index := newClientFile(append(text, '\n'))
	index.contentType = "application/json"
	files["client.json"] = index
	return files
})

func newClientFile(text []byte) *clientFile {
	sum, long := sha256.Sum256(text), sha512.Sum384(text)
	f := &clientFile{text: text, tag: hex.EncodeToString(sum[:8]), integrity: "sha384-" + base64.StdEncoding.EncodeToString(long[:])}
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.BestCompression) // that level exists
	_, _ = z.Write(text)                                  // a buffer takes everything
	_ = z.Close()
	f.gzip = b.Bytes()
	return f
}

// serve answers a request for the file under one of its names.
func (f *clientFile) serve(w http.ResponseWriter, r *http.Request, name string) error {
	header := w.Header()
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		header.Set("Allow", "GET, HEAD")
		return caddyhttp.Error(http.StatusMethodNotAllowed, nil)
	}
	text, tag := f.text, f.tag
	switch {
	case f.brotli != nil && acceptsCoding(r.Header, "br"):
		text, tag = f.brotli, tag+"-br"
		header.Set("Content-Encoding", "br")
	case acceptsCoding(r.Header, "gzip"):
		text, tag = f.gzip, tag+"-gzip"
		header.Set("Content-Encoding", "gzip")
	}
	tag = `"` + tag + `"`
	header.Set("Content-Type", f.contentType)
	header.Set("X-Content-Type-Options", "nosniff")
	header.Add("Vary", "Accept-Encoding")
	header.Set("ETag", tag)
	header.Set("Cache-Control", "no-cache")
	if clientPath+name == f.immutable {
		header.Set("Cache-Control", "public, max-age=31536000, immutable")
	}
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(text))
	return nil
}

// Interface guards.
var (
	_ caddy.Provisioner           = (*Client)(nil)
	_ caddy.Validator             = (*Client)(nil)
	_ caddyhttp.MiddlewareHandler = (*Client)(nil)
	_ caddyfile.Unmarshaler       = (*Client)(nil)
)
