package pollsse

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/caddyserver/caddy/v2"
)

// paged is an API over a list that changes: two items a page.
type paged struct {
	fakeUpstream
	list   []int
	before func(n int) // called before each answer
	next   func(r *http.Request, page int, last bool, body string) *http.Response
}

func newPaged(next func(r *http.Request, page int, last bool, items string) *http.Response, list ...int) *paged {
	p := &paged{list: list, before: func(int) {}, next: next}
	p.answer = func(n int, r *http.Request) *http.Response {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.before(n)
		page, _ := strconv.Atoi(r.URL.Query().Get("page"))
		from, to := min(2*page, len(p.list)), min(2*page+2, len(p.list))
		var items []string
		for _, id := range p.list[from:to] {
			items = append(items, fmt.Sprintf(`{"id":%d}`, id))
		}
		return p.next(r, page, to == len(p.list), "["+strings.Join(items, ",")+"]")
	}
	return p
}

func byLink(r *http.Request, page int, last bool, items string) *http.Response {
	resp := respond(200, items, `ETag: "x"`)
	if !last {
		resp.Header.Add("Link", `</help?a=1,2>; rel="help"; title="a, \"b\" <c>", <?page=0>; rel=first`)
		resp.Header.Add("Link", fmt.Sprintf(`<?page=%d>; title=x; REL="foo next"`, page+1))
	}
	return resp
}

func byURI(r *http.Request, page int, last bool, items string) *http.Response {
	next := "null"
	if !last {
		next = fmt.Sprintf(`"http://%s/doc?page=%d"`, r.Host, page+1)
	}
	if r.Host == "" {
		next = strings.Replace(next, "http:///", "/", 1)
	}
	return respond(200, fmt.Sprintf(`{"total":1.10,"data":{"items":%s},"next":%s}`, items, next))
}

func byCursor(r *http.Request, page int, last bool, items string) *http.Response {
	next := ""
	if !last {
		next = fmt.Sprintf(`,"cursor":%d`, page+1)
	}
	return respond(200, fmt.Sprintf(`{"items":%s%s}`, items, next))
}

func ids(list ...int) string {
	var items []string
	for _, id := range list {
		items = append(items, fmt.Sprintf(`{"id":%d}`, id))
	}
	return "[" + strings.Join(items, ",") + "]"
}

func TestPaginate(t *testing.T) {
	tests := []struct {
		name   string
		next   func(r *http.Request, page int, last bool, items string) *http.Response
		config paginateConfig
		want   string
	}{
		{"link", byLink, paginateConfig{Next: "link"}, ids(1, 2, 3, 4, 5)},
		{"URI", byURI, paginateConfig{Next: "/next", List: "/data/items"}, `{"total":1.10,"data":{"items":` + ids(1, 2, 3, 4, 5) + `},"next":"/doc?page=1"}`},
		{"cursor", byCursor, paginateConfig{Next: "/cursor", Param: "page", List: "/items"}, `{"items":` + ids(1, 2, 3, 4, 5) + `,"cursor":1}`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u := newPaged(test.next, 1, 2, 3, 4, 5)
				s, _ := startSource(t, &Handler{Interval: caddy.Duration(time.Second), Paginate: &test.config}, &u.fakeUpstream)
				wait(500 * time.Millisecond)
				if v := s.log.view(); v.doc == nil || string(v.doc.text) != test.want {
					t.Errorf("document %v, status %+v; want %s", v.doc, v.status, test.want)
				}
				if got := u.count(); got != 6 {
					t.Errorf("%d requests for 3 pages at first, want 6", got)
				}
				wait(4 * time.Second)
				if got := u.count(); got != 6+4*3 {
					t.Errorf("%d requests after 4 more polls without a change, want 3 each", got)
				}
			})
		})
	}
}

func TestItemsThatMoveBetweenPages(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		u := newPaged(byLink, 1, 2, 3, 4, 5, 6)
		moves := 0
		u.before = func(n int) {
			switch {
			case n == 2: // 5 moves to a page that was read: missed by the first pass
				u.list = []int{5, 1, 2, 3, 4, 6}
			case n == 5: // 5 moves back, to one that was not: seen twice by the second
				u.list = []int{1, 2, 3, 4, 5, 6}
			case time.Since(u.begun) > 5*time.Second && time.Since(u.begun) < 60*time.Second:
				moves++ // and then it never rests
				slices.Reverse(u.list)
			case time.Since(u.begun) >= 60*time.Second:
				u.list = []int{7, 8, 9}
			}
		}
		s, _ := startSource(t, &Handler{Interval: caddy.Duration(10 * time.Second), Paginate: &paginateConfig{Next: "link"}}, &u.fakeUpstream)
		wait(time.Second)
		if got := string(s.log.view().doc.text); got != ids(1, 2, 3, 4, 5, 6) {
			t.Errorf("document %s", got)
		}
		wait(40 * time.Second)
		v := s.log.view()
		if v.status.state != stateStale || v.status.reason != reasonPages || string(v.doc.text) != ids(1, 2, 3, 4, 5, 6) {
			t.Errorf("a list that never rests: %+v with %s, want stale, pages and the last document", v.status, v.doc.text)
		}
		wait(2 * time.Minute)
		if v := s.log.view(); v.status.state != stateLive || string(v.doc.text) != ids(7, 8, 9) {
			t.Errorf("afterwards: %+v with %s, want live with the new list", v.status, v.doc.text)
		}
	})
}

func TestPagesThatGoWrong(t *testing.T) {
	tests := []struct {
		name string
		next func(r *http.Request, page int, last bool, items string) *http.Response
		want string
	}{
		{"another host", func(*http.Request, int, bool, string) *http.Response {
			return respond(200, "[]", `Link: <http://evil.test/?page=1>; rel="next"`)
		}, reasonPages},
		{"another scheme", func(r *http.Request, _ int, _ bool, _ string) *http.Response {
			return respond(200, "[]", `Link: <https://`+r.URL.Host+`/?page=1>; rel="next"`)
		}, reasonPages},
		{"circle", func(*http.Request, int, bool, string) *http.Response {
			return respond(200, "[]", `Link: </doc>; rel="next"`)
		}, reasonPages},
		{"endless", func(_ *http.Request, page int, _ bool, _ string) *http.Response {
			return respond(200, "[]", fmt.Sprintf(`Link: <?page=%d>; rel="next"`, page+1))
		}, reasonPages},
		{"too large together", func(_ *http.Request, page int, _ bool, _ string) *http.Response {
			return respond(200, "[\""+strings.Repeat("x", 300<<10)+"\"]", fmt.Sprintf(`Link: <?page=%d>; rel="next"`, page+1))
		}, reasonTooLarge},
		{"no list", func(*http.Request, int, bool, string) *http.Response { return respond(200, "{}") }, reasonNoMatch},
		{"not JSON", func(*http.Request, int, bool, string) *http.Response { return respond(200, "<html>") }, reasonNotJSON},
		{"second fails", func(_ *http.Request, page int, _ bool, _ string) *http.Response {
			if page == 1 {
				return respond(429, "", "Retry-After: 7200")
			}
			return respond(200, "[]", `Link: <?page=1>; rel="next"`)
		}, reasonRateLimited},
	}
	for _, test := range tests {
		t.Run(strings.ReplaceAll(test.name, " ", "-"), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u := newPaged(test.next, 1, 2, 3)
				h := &Handler{MaxBody: 1 << 20, Interval: caddy.Duration(time.Minute), Paginate: &paginateConfig{Next: "link", MaxPages: 10}}
				s, _ := startSource(t, h, &u.fakeUpstream)
				wait(time.Second)
				if v := s.log.view(); v.status.reason != test.want || v.doc != nil {
					t.Errorf("status %+v, want reason %s and no document", v.status, test.want)
				}
				if got := u.count(); got > 10 {
					t.Errorf("%d requests, want at most max_pages", got)
				}
			})
		})
	}
}
