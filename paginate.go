package pollsse

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/pollsse/caddy-poll-sse/jsondiff"
)

// pagination is how a document that comes in pages is walked. The zero value
// is for one that does not.
type pagination struct {
	next     string // "link": the Link header; else a pointer to the next page
	param    string // the query parameter that takes what next points to; empty: it is a URI
	list     string // pointer to the list that each page has a part of
	key      string // the member by which items are known
	maxPages int
}

// nextLink says that the next page is in the Link header.
const nextLink = "link"

// maxPasses bounds how often the pages are walked in one poll. Two passes that
// agree are needed, so this leaves three changes in between.
const maxPasses = 5

// page is one answer with a body.
type page struct {
	text   []byte
	header http.Header
	url    *url.URL
	fresh  time.Duration
}

// walk reads every page and gives the first with the lists of all in place of
// its own.
//
// Pages are cut from a list that changes: while they are read an item can move
// to a page that was read before, and be missed, or to a later one, and be
// seen twice. Those seen twice are merged. Those missed show when the pages
// are walked again: the same items in the same order twice is what was there.
// Where they are those of the last walk, once is enough.
func (p *poller) walk(ctx context.Context) (page, error) {
	last := p.lastWalk
	for pass := 0; pass < maxPasses; pass++ {
		first, list, pages, err := p.pass(ctx)
		if err != nil {
			return page{}, err
		}
		keys := make([]string, len(list))
		for i, it := range list {
			keys[i] = it.key
		}
		if pages == 1 || last != nil && slices.Equal(keys, last) {
			p.lastWalk = keys
			return first, nil
		}
		last = keys
	}
	return page{}, &fault{reason: reasonPages, err: fmt.Errorf("the list changed in each of %d walks", maxPasses)}
}

// pass walks the pages once.
func (p *poller) pass(ctx context.Context) (first page, list []item, pages int, err error) {
	listAt, _ := jsondiff.ParsePointer(p.pages.list)
	seen := make(map[string]bool)
	target, size := "", int64(0)
	for {
		got, err := p.page(ctx, target)
		if err != nil {
			return page{}, nil, 0, err
		}
		if !json.Valid(got.text) {
			return page{}, nil, 0, &fault{reason: reasonNotJSON, err: errors.New("a page is not JSON")}
		}
		if size += int64(len(got.text)); size > p.maxBody {
			return page{}, nil, 0, &fault{reason: reasonTooLarge, err: fmt.Errorf("the pages are over max_body %d together", p.maxBody)}
		}
		part, err := items(got.text, listAt, p.pages.key)
		if err != nil {
			return page{}, nil, 0, &fault{reason: reasonNoMatch, err: fmt.Errorf("paginate list %s: %w", p.pages.list, err)}
		}
		if pages == 0 {
			first = got
			first.text = slices.Clone(got.text) // the next page takes its place
		}
		pages++
		list = mergeItems(list, part)
		seen[got.url.String()] = true
		next, err := p.nextPage(got)
		switch {
		case err != nil:
			return page{}, nil, 0, &fault{reason: reasonPages, err: err}
		case next == "":
			first.text = withList(first.text, listAt, list)
			return first, list, pages, nil
		case seen[next]:
			return page{}, nil, 0, &fault{reason: reasonPages, err: errors.New("the pages go round in a circle")}
		case pages == p.pages.maxPages:
			return page{}, nil, 0, &fault{reason: reasonPages, err: fmt.Errorf("more than max_pages %d", p.pages.maxPages)}
		}
		target = next
	}
}

// nextPage is the URL of the page after this one, empty after the last.
func (p *poller) nextPage(at page) (string, error) {
	reference := ""
	if p.pages.next == nextLink {
		reference = linkNext(at.header)
	} else {
		pointer, _ := jsondiff.ParsePointer(p.pages.next)
		reference, _ = scalar(at.text, pointer)
	}
	if reference == "" {
		return "", nil
	}
	next := *at.url
	if p.pages.param != "" {
		query := next.Query()
		query.Set(p.pages.param, reference)
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

// linkNext is the target of the first link with the relation next, RFC 8288
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

// linkParams cuts the parameters of one link from the links that follow it: at
// the first comma outside of quotes.
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
