package upstream

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"golang.org/x/oauth2"
	"golang.org/x/sync/singleflight"
)

// BasicAuth is a user name and password, RFC 7617. Placeholders: {env.*},
// {file.*} and {system.*}.
type BasicAuth struct {
	// The user name, without a colon. Required.
	Username string `json:"username,omitempty"`
	// The password.
	Password string `json:"password,omitempty"`
}

// OAuth2 is the client credentials grant, RFC 6749 section 4.4. Placeholders:
// {env.*}, {file.*} and {system.*}.
type OAuth2 struct {
	// The token endpoint: http or https, absolute. Required.
	TokenURL string `json:"token_url,omitempty"`
	// The client's id. Required.
	ClientID string `json:"client_id,omitempty"`
	// The client's secret.
	ClientSecret string `json:"client_secret,omitempty"`
	// The scopes to ask for. Default: none, the endpoint decides.
	Scopes []string `json:"scopes,omitempty"`
	// Further parameters for the endpoint, such as audience.
	Params map[string]string `json:"params,omitempty"`
	// Where id and secret go: header (HTTP Basic) or body.
	// Default: header.
	Auth string `json:"auth,omitempty"`
}

// credentials are the server's own at the upstream: the same for every
// client. At most one kind is set.
type credentials struct {
	basic      string // user:password, RFC 7617
	bearerFile string // path of a file with a token, RFC 6750
	oauth2     oauth2Client
}

// oauth2Client is a client of RFC 6749, section 4.4. It is comparable: sources
// with equal ones share a token.
type oauth2Client struct {
	tokenURL, id, secret string
	scopes               string // separated by spaces, as on the wire
	params               string // further ones for the token endpoint, encoded as a query
	inBody               bool   // id and secret in the body instead of Authorization
}

// compileCredentials expands the server's own credentials.
func compileCredentials(config Config, lookup Lookup) (credentials, error) {
	var errs []error
	expand := func(option, text string) string {
		t := parseTemplate(text, verbatim)
		for _, name := range t.placeholders() {
			if !IsConfigPlaceholder(name) {
				errs = append(errs, fmt.Errorf("%s: only {env.*}, {file.*} and {system.*} may stand here, not {%s}; forward sends what is the client's", option, name))
				return ""
			}
		}
		value, err := t.expand(lookup)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", option, err))
		}
		return value
	}
	var c credentials
	if b := config.BasicAuth; b != nil {
		user := expand("basic_auth", b.Username)
		if user == "" || strings.Contains(user, ":") {
			errs = append(errs, errors.New("basic_auth: need a user name, without a colon"))
		}
		c.basic = user + ":" + expand("basic_auth", b.Password)
	}
	c.bearerFile = expand("bearer_file", config.BearerFile)
	if o := config.OAuth2; o != nil {
		params := make(url.Values)
		for name, value := range o.Params {
			params.Set(name, expand("oauth2", value))
		}
		c.oauth2 = oauth2Client{
			tokenURL: expand("oauth2", o.TokenURL), id: expand("oauth2", o.ClientID), secret: expand("oauth2", o.ClientSecret),
			scopes: strings.Join(o.Scopes, " "), params: params.Encode(), inBody: o.Auth == "body",
		}
		u, err := url.Parse(c.oauth2.tokenURL)
		if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil {
			errs = append(errs, errors.New("oauth2: need the absolute URL of the token endpoint, without credentials"))
		}
		if c.oauth2.id == "" {
			errs = append(errs, errors.New("oauth2: need a client_id"))
		}
		if o.Auth != "" && o.Auth != "header" && o.Auth != "body" {
			errs = append(errs, fmt.Errorf("oauth2: auth %q: need header or body", o.Auth))
		}
	}
	return c, errors.Join(errs...)
}

// parts returns what the credentials add to the key of a request.
func (c credentials) parts() []string {
	o := c.oauth2
	return []string{c.basic, c.bearerFile, o.tokenURL, o.id, o.secret, o.scopes, o.params, fmt.Sprint(o.inBody)}
}

// maxTokenFile bounds what is read from a token's file, in bytes.
const maxTokenFile = 64 << 10

// authorize sets the Authorization of a request. rejected is a token that the
// upstream has just refused, or empty. It returns the token it used, if any.
func (c credentials) authorize(req *http.Request, cache *tokenCache, via http.RoundTripper, rejected string) (token string, err error) {
	switch {
	case c.basic != "":
		req.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(c.basic)))
	case c.bearerFile != "":
		// Each poll reads the file: so a renewed token is noticed no matter
		// how the file was replaced.
		token, err = tokenFiles.get(req.Context(), c.bearerFile, readToken)
		if err == nil {
			req.Header.Set("Authorization", "Bearer "+token)
		}
	case cache != nil:
		var t *oauth2.Token
		if t, err = cache.get(req.Context(), via, rejected); err == nil {
			t.SetAuthHeader(req)
			token = t.AccessToken
		}
	}
	if err != nil {
		return "", &Fault{Reason: ReasonCredentials, Err: err}
	}
	return token, nil
}

// tokenFiles reads the files of tokens.
var tokenFiles fileReads

// fileReads bounds what a file system that hangs can hold up. Nothing stops
// such a read, so a poll that ends leaves it behind. Other polls with the same
// path wait for that read, each for as long as it may, and start no other.
type fileReads struct{ byPath singleflight.Group }

func (f *fileReads) get(ctx context.Context, path string, read func(path string) (string, error)) (string, error) {
	result := f.byPath.DoChan(path, func() (any, error) { return read(path) })
	select {
	case got := <-result:
		return got.Val.(string), got.Err
	case <-ctx.Done():
		return "", fmt.Errorf("reading bearer_file: %w", ctx.Err())
	}
}

// readToken reads a regular file: opening a named pipe would wait for somebody
// to write to it. It follows links, as Kubernetes replaces what it mounts by
// changing one.
func readToken(path string) (string, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return "", fmt.Errorf("reading bearer_file: %w", err)
	case !info.Mode().IsRegular():
		return "", errors.New("reading bearer_file: it is not a regular file")
	}
	f, err := os.Open(path)
	if err != nil {
		return "", fmt.Errorf("reading bearer_file: %w", err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxTokenFile+1))
	if err != nil {
		return "", fmt.Errorf("reading bearer_file: %w", err)
	}
	b = bytes.TrimSpace(b)
	switch _, err := escapeField(string(b)); {
	case len(b) == 0:
		return "", errors.New("reading bearer_file: it is empty")
	case len(b) > maxTokenFile || err != nil || bytes.ContainsAny(b, " \t"):
		return "", errors.New("reading bearer_file: it holds more than a token")
	}
	return string(b), nil
}
