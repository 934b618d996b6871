package upstream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/pollsse/caddy-poll-sse/jsondiff"
)

// Pages walks the pages of a document. The pages are asked for unconditionally,
// until two walks in a row give the same items in the same order: one walk if
// no item came or went since the last poll, two if any did, at most five. All
// of them together have one timeout and one max_body, and stay on the
// upstream's scheme and host.
type Pages struct {
	// Where the next page is: link (the Link header's rel="next"), or a JSON
	// Pointer to its URI, absolute or relative, or to the value of param.
	// Required.
	Next string `json:"next,omitempty"`
	// The query parameter that takes what next points to. Default: none,
	// it is a URI.
	Param string `json:"param,omitempty"`
	// A JSON Pointer to the list of which each page has a part. Default: the
	// whole page. The rest of the document is the first page's.
	List string `json:"list,omitempty"`
	// The member by which an item is known, as an item can be on two pages
	// while the list changes. Default: id.
	Key string `json:"key,omitempty"`
	// The most pages. A document with more is a failure. Default: 100. From
	// 2 to 1000.
	MaxPages int `json:"max_pages,omitempty"`
}

// NextLink is the Next of pages that name the next one in the Link header.
const NextLink = "link"

// maxPasses bounds how often the pages are walked in one poll. Two passes that
// agree are needed, so this leaves three changes in between.
const maxPasses = 5

// walk reads every page and returns the first one, with the lists of all pages
// in place of its own.
//
// Pages are parts of a list that changes. During a walk an item can move to a
// page that was read already, so that it is missed, or to a later one, so that
// it is seen twice. Items seen twice are merged. Items that were missed show up
// if the pages are walked again: if two walks find the same items in the same
// order, that is what was there. If a walk finds those of the last poll, one
// walk is enough.
func (c *Client) walk(ctx context.Context, next *progress) (page, error) {
	last := next.walk
	for pass := 0; pass < maxPasses; pass++ {
		first, list, pages, err := c.pass(ctx)
		if err != nil {
			return page{}, err
		}
		keys := make([]string, len(list))
		for i, it := range list {
			keys[i] = it.key
		}
		if pages == 1 || last != nil && slices.Equal(keys, last) {
			next.walk = keys
			next.confirm(first)
			return first, nil
		}
		last = keys
	}
	return page{}, &Fault{Reason: ReasonPages, Err: fmt.Errorf("the list changed in each of %d walks", maxPasses)}
}

// pass walks the pages once.
func (c *Client) pass(ctx context.Context) (first page, list []item, pages int, err error) {
	listAt, _ := jsondiff.ParsePointer(c.reading.Pages.List)
	seen := make(map[string]bool)
	target, size := "", int64(0)
	for {
		got, err := c.fetchPage(ctx, target)
		if err != nil {
			return page{}, nil, 0, err
		}
		if !json.Valid(got.text) {
			return page{}, nil, 0, &Fault{Reason: ReasonNotJSON, Err: errors.New("a page is not JSON")}
		}
		if size += int64(len(got.text)); size > c.reading.MaxBody {
			return page{}, nil, 0, &Fault{Reason: ReasonTooLarge, Err: fmt.Errorf("the pages are over max_body %d together", c.reading.MaxBody)}
		}
		part, err := items(got.text, listAt, c.reading.Pages.Key)
		if err != nil {
			return page{}, nil, 0, &Fault{Reason: ReasonNoMatch, Err: fmt.Errorf("paginate list %s: %w", c.reading.Pages.List, err)}
		}
		if pages == 0 {
			first = got
			first.text = slices.Clone(got.text) // the next page takes its place
		}
		pages++
		list = mergeItems(list, part)
		seen[got.url.String()] = true
		next, err := c.nextPage(got)
		switch {
		case err != nil:
			return page{}, nil, 0, &Fault{Reason: ReasonPages, Err: err}
		case next == "":
			first.text = withList(first.text, listAt, list)
			return first, list, pages, nil
		case seen[next]:
			return page{}, nil, 0, &Fault{Reason: ReasonPages, Err: errors.New("the pages go round in a circle")}
		case pages == c.reading.Pages.MaxPages:
			return page{}, nil, 0, &Fault{Reason: ReasonPages, Err: fmt.Errorf("more than max_pages %d", c.reading.Pages.MaxPages)}
		}
		target = next
	}
}

// nextPage returns the URL of the page after this one, empty after the last.
func (c *Client) nextPage(at page) (string, error) {
	reference := ""
	if c.reading.Pages.Next == NextLink {
		reference = linkNext(at.header)
	} else {
		pointer, _ := jsondiff.ParsePointer(c.reading.Pages.Next)
		reference, _ = scalar(at.text, pointer)
	}
	if reference == "" {
		return "", nil
	}
	next := *at.url
	if c.reading.Pages.Param != "" {
		query := next.Query()
		query.Set(c.reading.Pages.Param, reference)
		next.RawQuery = query.Encode()
		return next.String(), nil
	}
	u, err := at.url.Parse(reference)
	if err != nil {
		return "", errors.New("the next page is not a URI")
	}
	// The upstream must not choose another host for us, and its credentials
	// must not travel.
	if !strings.EqualFold(u.Scheme, at.url.Scheme) || !strings.EqualFold(u.Host, at.url.Host) || u.User != nil {
		return "", errors.New("the next page is on another scheme or host")
	}
	u.Fragment = ""
	return u.String(), nil
}

// linkNext returns the target of the first link with the relation next, RFC 8288
// section 3.
func linkNext(h http.Header) string {
	for _, line := range h.Values("Link") {
		for line != "" {
			_, rest, ok := strings.Cut(line, "<")
			if !ok {
				break
			}
			target, rest, ok := strings.Cut(rest, ">")
			if !ok {
				break
			}
			var params string
			params, line = linkParams(rest)
			for param := range strings.SplitSeq(params, ";") {
				name, value, _ := strings.Cut(param, "=")
				value = strings.Trim(strings.TrimSpace(value), `"`)
				if strings.EqualFold(strings.TrimSpace(name), "rel") && slices.ContainsFunc(strings.Fields(value), func(rel string) bool { return strings.EqualFold(rel, "next") }) {
					return target
				}
			}
		}
	}
	return ""
}

// linkParams separates the parameters of one link from the links that follow:
// at the first comma outside of quotes.
func linkParams(text string) (params, rest string) {
	quoted := false
	for i := 0; i < len(text); i++ {
		switch {
		case text[i] == '\\' && quoted:
			i++
		case text[i] == '"':
			quoted = !quoted
		case text[i] == ',' && !quoted:
			return text[:i], text[i+1:]
		}
	}
	return text, ""
}
