package upstream

import (
	"errors"
	"net/http"
	"strings"
)

// maxRedirects bounds the redirects of one request.
const maxRedirects = 5

// redirectError is a redirect that is not followed.
type redirectError struct{ why string }

func (e *redirectError) Error() string { return "redirect " + e.why }

// checkRedirect follows redirects only within the scheme and host of the
// configured URL: the upstream must not choose another host for us, and its
// credentials must not travel. Nor does it follow one that turns the request
// into a GET without its body, as 301 to 303 do to a POST.
func checkRedirect(req *http.Request, before []*http.Request) error {
	first := before[0].URL
	if !strings.EqualFold(req.URL.Scheme, first.Scheme) || !strings.EqualFold(req.URL.Host, first.Host) {
		return &redirectError{"to another scheme or host"}
	}
	if req.Method != before[0].Method {
		return &redirectError{"to another method"}
	}
	if len(before) > maxRedirects {
		return &redirectError{"after redirect, more than 5"}
	}
	return nil
}

// checkLocation refuses a redirect whose Location is not a URI reference. The
// error that http.Client would return quotes it, and it may hold a secret.
func checkLocation(resp *http.Response) (*http.Response, error) {
	switch resp.StatusCode {
	case http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusTemporaryRedirect, http.StatusPermanentRedirect:
		if _, err := resp.Location(); err != nil && !errors.Is(err, http.ErrNoLocation) {
			resp.Body.Close()
			return nil, &redirectError{"to a Location that is not a URI"}
		}
	}
	return resp, nil
}

// locationGuard is a transport whose responses checkLocation has seen.
type locationGuard struct{ http.RoundTripper }

func (g locationGuard) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := g.RoundTripper.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	return checkLocation(resp)
}
