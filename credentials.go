package pollsse

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
	"sync"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

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

// parts is what the credentials add to the key of a source.
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
		// Read for each poll: that is how a token that was renewed is
		// noticed whatever way the file was replaced.
		token, err = readToken(c.bearerFile)
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
		return "", &fault{reason: reasonCredentials, err: err}
	}
	return token, nil
}

func readToken(path string) (string, error) {
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

const (
	// earlyRefresh is how long before its end a token is renewed, or a
	// quarter of its life where that is less.
	earlyRefresh = time.Minute
	// tokenRetry is the least time between two requests for a token after
	// one has failed, whoever asks.
	tokenRetry = 5 * time.Second
	// rejectedRetry is the least time between two renewals of a token that
	// the upstream refuses before its end.
	rejectedRetry = time.Minute
)

// tokens holds the tokens of every OAuth2 client that sources use now.
var tokens = tokenTable{byClient: make(map[oauth2Client]*tokenCache)}

type tokenTable struct {
	mu       sync.Mutex
	byClient map[oauth2Client]*tokenCache
}

// tokenCache is the token of one OAuth2 client, for all of its sources.
type tokenCache struct {
	client  oauth2Client
	refresh chan struct{} // full while somebody asks for a token: one at a time
	sources int           // guarded by the table's mutex

	mu       sync.Mutex
	token    *oauth2.Token
	renewAt  time.Time // zero: never
	failedAt time.Time
	failure  error     // why the last request for a token failed
	forcedAt time.Time // when the upstream's refusal last made it be renewed
}

// join gives the cache of a client, nil where there is none to have. Each join
// must be followed by one leave.
func (t *tokenTable) join(client oauth2Client) *tokenCache {
	if client.tokenURL == "" {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.byClient[client]
	if c == nil {
		c = &tokenCache{client: client, refresh: make(chan struct{}, 1)}
		t.byClient[client] = c
	}
	c.sources++
	return c
}

func (t *tokenTable) leave(c *tokenCache) {
	if c == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if c.sources--; c.sources == 0 {
		delete(t.byClient, c.client)
	}
}

// get gives a token, and asks for a new one where there is none, where it is
// about to end, or where the upstream has rejected it. One request for a token
// is made at a time; a token that is still good is used meanwhile.
func (c *tokenCache) get(ctx context.Context, via http.RoundTripper, rejected string) (*oauth2.Token, error) {
	token, fresh, err := c.current(rejected)
	if fresh || err != nil {
		return token, err
	}
	if token != nil && rejected == "" {
		select {
		case c.refresh <- struct{}{}:
		default:
			return token, nil
		}
	} else {
		select {
		case c.refresh <- struct{}{}:
		case <-ctx.Done():
			return nil, fmt.Errorf("waiting for a token: %w", ctx.Err())
		}
	}
	defer func() { <-c.refresh }()
	// Somebody else may have done it by now.
	if token, fresh, err = c.current(rejected); fresh || err != nil {
		return token, err
	}
	asked := time.Now()
	renewed, err := c.request(ctx, via)
	c.mu.Lock()
	defer c.mu.Unlock()
	if rejected != "" {
		c.forcedAt = asked
	}
	if err != nil {
		if !errors.Is(ctx.Err(), context.Canceled) { // else it says nothing about the endpoint
			c.failedAt, c.failure = time.Now(), err
		}
		if token != nil {
			return token, nil
		}
		return nil, err
	}
	c.token, c.failure, c.renewAt = renewed, nil, time.Time{}
	if !renewed.Expiry.IsZero() {
		life := renewed.Expiry.Sub(asked)
		c.renewAt = renewed.Expiry.Add(-min(earlyRefresh, life/4))
	}
	return renewed, nil
}

// current gives the token where it can be used at all, and says whether it
// need not be renewed, or cannot be now.
func (c *tokenCache) current(rejected string) (token *oauth2.Token, fresh bool, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := time.Now()
	recently := c.failure != nil && now.Sub(c.failedAt) < tokenRetry
	if t := c.token; t != nil && (t.Expiry.IsZero() || now.Before(t.Expiry)) {
		if t.AccessToken == rejected {
			return t, recently || !c.forcedAt.IsZero() && now.Sub(c.forcedAt) < rejectedRetry, nil
		}
		return t, recently || c.renewAt.IsZero() || now.Before(c.renewAt), nil
	}
	if recently {
		return nil, false, c.failure
	}
	return nil, false, nil
}

// request asks the token endpoint.
func (c *tokenCache) request(ctx context.Context, via http.RoundTripper) (*oauth2.Token, error) {
	params, _ := url.ParseQuery(c.client.params)
	config := clientcredentials.Config{
		ClientID: c.client.id, ClientSecret: c.client.secret, TokenURL: c.client.tokenURL,
		Scopes: strings.Fields(c.client.scopes), EndpointParams: params, AuthStyle: oauth2.AuthStyleInHeader,
	}
	if c.client.inBody {
		config.AuthStyle = oauth2.AuthStyleInParams
	}
	client := &http.Client{Transport: via, CheckRedirect: func(*http.Request, []*http.Request) error {
		return &redirectError{"of the token endpoint"}
	}}
	token, err := config.Token(context.WithValue(ctx, oauth2.HTTPClient, client))
	if err == nil {
		return token, nil
	}
	// The endpoint's own text, and the URL, may hold secrets.
	var refused *oauth2.RetrieveError
	var about *url.Error
	switch {
	case errors.As(err, &refused) && refused.Response != nil:
		code := refused.ErrorCode
		if !isToken(code) {
			code = "no error code"
		}
		return nil, fmt.Errorf("asking for a token: %d, %s", refused.Response.StatusCode, code)
	case errors.As(err, &about):
		return nil, fmt.Errorf("asking for a token: %w", about.Err)
	case ctx.Err() != nil:
		return nil, fmt.Errorf("asking for a token: %w", ctx.Err())
	}
	return nil, errors.New("asking for a token: the answer holds none")
}
