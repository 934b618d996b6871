package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"golang.org/x/oauth2"
	"golang.org/x/oauth2/clientcredentials"
)

const (
	// earlyRefresh is how long before its end a token is renewed. If a quarter
	// of its life is shorter, that counts.
	earlyRefresh = time.Minute
	// tokenRetry is the least time between two requests for a token after
	// one has failed, no matter which source makes them.
	tokenRetry = 5 * time.Second
	// rejectedRetry is the least time between two renewals of a token that
	// the upstream refuses before its end.
	rejectedRetry = time.Minute
)

// Tokens holds the tokens of all OAuth2 clients that sources use now, so that
// sources with the same client share one. The zero value is empty and ready to
// use.
type Tokens struct {
	mu       sync.Mutex
	byClient map[oauth2Client]*tokenCache
}

// tokenCache is the token of one OAuth2 client, for all of its sources.
type tokenCache struct {
	client  oauth2Client
	refresh chan struct{} // full during a request for a token: one at a time
	sources int           // guarded by the mutex of Tokens

	mu       sync.Mutex
	token    *oauth2.Token
	renewAt  time.Time // zero: never
	failedAt time.Time
	failure  error     // why the last request for a token failed
	forcedAt time.Time // when the upstream's refusal last made it be renewed
}

// join returns the cache of a client, or nil if credentials have no client.
// Each join must be followed by one leave.
func (t *Tokens) join(client oauth2Client) *tokenCache {
	if client.tokenURL == "" {
		return nil
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.byClient[client]
	if c == nil {
		if t.byClient == nil {
			t.byClient = make(map[oauth2Client]*tokenCache)
		}
		c = &tokenCache{client: client, refresh: make(chan struct{}, 1)}
		t.byClient[client] = c
	}
	c.sources++
	return c
}

func (t *Tokens) leave(c *tokenCache) {
	if c == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if c.sources--; c.sources == 0 {
		delete(t.byClient, c.client)
	}
}

// get returns a token. It asks for a new one if there is none, if it is about to
// end, or if the upstream has rejected it. There is one request for a token at
// a time; meanwhile a token that is still good is used.
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
	// Another poll may have renewed it by now.
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

// current returns the token if it can be used at all, and reports whether it
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
	client := &http.Client{Transport: locationGuard{via}, CheckRedirect: func(*http.Request, []*http.Request) error {
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
