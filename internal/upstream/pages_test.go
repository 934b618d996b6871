package upstream

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
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
		name  string
		next  func(r *http.Request, page int, last bool, items string) *http.Response
		pages Pages
		want  string
	}{
		{"link", byLink, Pages{Next: "link"}, ids(1, 2, 3, 4, 5)},
		{"URI", byURI, Pages{Next: "/next", List: "/data/items"}, `{"total":1.10,"data":{"items":` + ids(1, 2, 3, 4, 5) + `},"next":"/doc?page=1"}`},
		{"cursor", byCursor, Pages{Next: "/cursor", Param: "page", List: "/items"}, `{"items":` + ids(1, 2, 3, 4, 5) + `,"cursor":1}`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			u := newPaged(test.next, 1, 2, 3, 4, 5)
			test.pages.Key, test.pages.MaxPages = "id", 100
			c := newClient(t, Config{}, Reading{Pages: &test.pages})
			for i := range 5 {
				if got := pollOnce(t, c, u); got != test.want {
					t.Errorf("poll %d: %s, want %s", i, got, test.want)
				}
				if got, want := len(u.requests), 6+3*i; got != want {
					t.Errorf("%d requests after poll %d, want %d: 3 pages twice, and then once without a change", got, i, want)
				}
			}
		})
	}
}

func TestItemsThatMoveBetweenPages(t *testing.T) {
	u := newPaged(byLink, 1, 2, 3, 4, 5, 6)
	restless := false
	u.before = func(n int) {
		switch {
		case n == 2: // 5 moves to a page that was read: the first walk misses it
			u.list = []int{5, 1, 2, 3, 4, 6}
		case n == 5: // 5 moves back, to one that was not: the second walk sees it twice
			u.list = []int{1, 2, 3, 4, 5, 6}
		case restless:
			slices.Reverse(u.list)
		}
	}
	c := newClient(t, Config{}, Reading{Pages: &Pages{Next: "link", Key: "id", MaxPages: 100}})
	if got := pollOnce(t, c, u); got != ids(1, 2, 3, 4, 5, 6) {
		t.Errorf("document %s", got)
	}
	restless = true
	if got := pollOnce(t, c, u); got != ReasonPages {
		t.Errorf("a list that never rests: %s, want %s", got, ReasonPages)
	}
	restless, u.list = false, []int{7, 8, 9}
	if got := pollOnce(t, c, u); got != ids(7, 8, 9) {
		t.Errorf("afterwards: %s, want the new list", got)
	}
}

func TestPagesThatGoWrong(t *testing.T) {
	tests := []struct {
		name string
		next func(r *http.Request, page int, last bool, items string) *http.Response
		want string
	}{
		{"another host", func(*http.Request, int, bool, string) *http.Response {
			return respond(200, "[]", `Link: <http://evil.test/?page=1>; rel="next"`)
		}, ReasonPages},
		{"another scheme", func(r *http.Request, _ int, _ bool, _ string) *http.Response {
			return respond(200, "[]", `Link: <https://`+r.URL.Host+`/?page=1>; rel="next"`)
		}, ReasonPages},
		{"circle", func(*http.Request, int, bool, string) *http.Response {
			return respond(200, "[]", `Link: </doc>; rel="next"`)
		}, ReasonPages},
		{"endless", func(_ *http.Request, page int, _ bool, _ string) *http.Response {
			return respond(200, "[]", fmt.Sprintf(`Link: <?page=%d>; rel="next"`, page+1))
		}, ReasonPages},
		{"too large together", func(_ *http.Request, page int, _ bool, _ string) *http.Response {
			return respond(200, "[\""+strings.Repeat("x", 300<<10)+"\"]", fmt.Sprintf(`Link: <?page=%d>; rel="next"`, page+1))
		}, ReasonTooLarge},
		{"no list", func(*http.Request, int, bool, string) *http.Response { return respond(200, "{}") }, ReasonNoMatch},
		{"not JSON", func(*http.Request, int, bool, string) *http.Response { return respond(200, "<html>") }, ReasonNotJSON},
		{"second fails", func(_ *http.Request, page int, _ bool, _ string) *http.Response {
			if page == 1 {
				return respond(429, "", "Retry-After: 7200")
			}
			return respond(200, "[]", `Link: <?page=1>; rel="next"`)
		}, ReasonRateLimited},
	}
	for _, test := range tests {
		t.Run(strings.ReplaceAll(test.name, " ", "-"), func(t *testing.T) {
			u := newPaged(test.next, 1, 2, 3)
			c := newClient(t, Config{}, Reading{MaxBody: 1 << 20, Pages: &Pages{Next: "link", Key: "id", MaxPages: 10}})
			if got := pollOnce(t, c, u); got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
			if got := len(u.requests); got > 10 {
				t.Errorf("%d requests, want at most max_pages", got)
			}
		})
	}
}
