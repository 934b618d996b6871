package inspect

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

var start = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// api makes the answers of an API that is polled every two seconds: body
// returns the text of each poll, and a text that has not changed is answered
// with 304 if the API has an ETag.
func api(n int, etag bool, body func(i int) string) []Answer {
	var out []Answer
	last := ""
	for i := range n {
		a := Answer{At: start.Add(time.Duration(i) * 2 * time.Second), Took: 10 * time.Millisecond, Status: 200, Header: http.Header{"Content-Type": {"application/json"}}}
		text := body(i)
		if etag {
			a.Header.Set("ETag", fmt.Sprintf("%q", fmt.Sprint(len(text), text[:min(9, len(text))])))
		}
		if etag && text == last {
			a.Status, a.Received = 304, 120
		} else {
			a.Text, a.Received = []byte(text), int64(200+len(text))
		}
		last = text
		out = append(out, a)
	}
	return out
}

func analyse(t *testing.T, answers []Answer) *Report {
	t.Helper()
	r, err := Analyse(Target{URL: "https://legacy.internal/v1/quotes.json?api_key=s3cret&limit=5", Interval: 2 * time.Second}, answers)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// TestVolatile: which members are called volatile, and which are content.
func TestVolatile(t *testing.T) {
	at := func(i int) string { return start.Add(time.Duration(i) * 2 * time.Second).Format(time.RFC3339) }
	for name, c := range map[string]struct {
		body func(i int) string
		want []string // advice and path
	}{
		"a time in every answer": {
			func(i int) string { return fmt.Sprintf(`{"generated_at":%q,"price":%d}`, at(i), i/4) },
			[]string{"omit /generated_at"},
		},
		"a time that changes alone at times": {
			func(i int) string { return fmt.Sprintf(`{"generated_at":%q,"price":%d}`, at(i/2*2), i/6) },
			[]string{"ignore /generated_at"},
		},
		"seconds since 1970": {
			func(i int) string { return fmt.Sprintf(`{"now":%d,"price":%d}`, start.Unix()+int64(2*i), i/4) },
			[]string{"omit /now"},
		},
		"milliseconds in a list": {
			func(i int) string {
				return fmt.Sprintf(`{"rows":[{"id":1,"t":%d,"v":%d},{"id":2,"t":%d,"v":1}]}`, start.UnixMilli()+int64(2000*i), i/3, start.UnixMilli()+int64(2000*i))
			},
			[]string{"omit /rows/*/t"},
		},
		"the time of a sample, in a pair": {
			func(i int) string {
				return fmt.Sprintf(`{"result":[{"metric":{"a":"1"},"value":[%d.5,"%d"]},{"metric":{"a":"2"},"value":[%d.5,"7"]}]}`, start.Unix()+int64(2*i), i/3, start.Unix()+int64(2*i))
			},
			[]string{"omit /result/*/value/0"},
		},
		"an identifier in every answer": {
			func(i int) string {
				return fmt.Sprintf(`{"request_id":"%08x-1c2d-4e3f-8a9b-%012x","price":%d}`, uint32(i+1)*2654435761, uint64(i+7)*11400714819323198485>>16, i)
			},
			[]string{"omit /request_id"},
		},
		"how long it took": {
			func(i int) string { return fmt.Sprintf(`{"took":%d,"hits":[{"id":1,"n":%d}]}`, 3+i%5, i/4) },
			[]string{"omit /took"},
		},
		"a time that changes with its item is content": {
			func(i int) string {
				return fmt.Sprintf(`{"rows":[{"id":1,"updated":%q,"v":%d},{"id":2,"updated":%q,"v":1}]}`, at(i/3), i/3, at(0))
			},
			nil,
		},
		"a counter is named, and not condemned": {
			func(i int) string { return fmt.Sprintf(`{"requests":%d,"name":"x"}`, 1000+i) },
			[]string{" /requests"},
		},
		"a price in every answer is content": {
			func(i int) string { return fmt.Sprintf(`{"bid":%d,"ask":%d}`, 100+i, 101+i) },
			nil,
		},
		"bytes that look like seconds": {
			func(i int) string { return fmt.Sprintf(`{"in":%d,"out":%d}`, 5_000_000_000+1000*i, 3_000_000_000+i) },
			nil,
		},
		"three nodes are one pattern": {
			func(i int) string {
				return fmt.Sprintf(`{"nodes":{"a":{"ts":%[1]d,"load":%[2]d},"b":{"ts":%[1]d,"load":1},"c":{"ts":%[1]d,"load":2}}}`, start.Unix()+int64(2*i), i/4)
			},
			[]string{"omit /nodes/*/ts"},
		},
		"two answers say nothing": {
			func(i int) string { return fmt.Sprintf(`{"t":%q}`, at(min(i, 1))) },
			nil,
		},
		"names with a slash": {
			func(i int) string { return fmt.Sprintf(`{"a/b~c":%q,"v":%d}`, at(i), i/4) },
			[]string{"omit /a~1b~0c"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := 20
			if name == "two answers say nothing" {
				n = 3
			}
			r := analyse(t, api(n, false, c.body))
			var got []string
			for _, v := range r.Volatile {
				got = append(got, v.Advice+" "+v.Path)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q: %+v", got, c.want, r.Volatile)
			}
			for _, v := range r.Volatile {
				if v.Advice != "" && !strings.Contains(r.Caddyfile, v.Path) {
					t.Errorf("%s is not in\n%s", v.Path, r.Caddyfile)
				}
			}
		})
	}
}

// TestLists: which member identifies the items of a list.
func TestLists(t *testing.T) {
	row := func(member, id string, n int) string {
		return fmt.Sprintf(`{%q:%q,"state":"open","text":"%s","n":%d}`, member, id, strings.Repeat("x", 40), n)
	}
	list := func(member string, from, to int) string {
		var rows []string
		for i := from; i < to; i++ {
			rows = append(rows, row(member, fmt.Sprintf("item-%d", i), i%2))
		}
		return `{"rows":[` + strings.Join(rows, ",") + `]}`
	}
	r := analyse(t, api(12, false, func(i int) string { return list("id", i, i+20) }))
	if len(r.Lists) != 1 || r.Lists[0].Path != "/rows" || r.Lists[0].Items != 20 || !slices.Equal(r.Lists[0].Keys, []string{"id"}) || r.Lists[0].Identify != "" {
		t.Errorf("items with an id: %+v", r.Lists)
	}
	// Every item has two members that are unique in the list: the price by
	// chance, and the one with the odd name by design. Nothing finds that one
	// by its name.
	r = analyse(t, api(12, false, func(i int) string {
		var rows []string
		for k := range 20 {
			n := (k*7 + i) % 20
			rows = append(rows, fmt.Sprintf(`{"id":%d,"station":"st-%d","kind":"k","address":"%s","free":%d}`, 1000*i+n, n, strings.Repeat(string(rune('a'+n)), 60), n))
		}
		return `{"rows":[` + strings.Join(rows, ",") + `]}`
	}))
	l := r.Lists[0]
	if l.Identify == "" || l.Identify == "id" || 2*l.IdentifyBytes > l.PatchBytes || !strings.Contains(r.Caddyfile, "identify /rows "+l.Identify) {
		t.Errorf("ids that are new each time: %+v\n%s", l, r.Caddyfile)
	}
	r = analyse(t, api(5, false, func(i int) string { return fmt.Sprintf(`{"log":[{"text":"a","n":%d},{"text":"a","n":%d}]}`, i, i) }))
	if len(r.Lists) != 1 || len(r.Lists[0].Keys) != 0 {
		t.Errorf("items that are alike: %+v", r.Lists)
	}
}

// TestNumbers: which numbers a page reads as different ones.
func TestNumbers(t *testing.T) {
	for literal, want := range map[string]string{
		"9007199254740993": "9007199254740992", "12345678901234567890": "12345678901234567000", "1E400": "+Inf", "-1e400": "-Inf",
		"0.12345678901234567890": "0.12345678901234568", "1e-400": "0", "1e99999999999999999999": "+Inf",
		"0": "", "-0": "", "0.0": "", "1.10": "", "1e2": "", "100": "", "9007199254740992": "", "0.1": "", "0.30000000000000004": "", "1E+22": "", "1.7976931348623157e308": "", "5e-324": "", "0e999999999999": "",
	} {
		becomes, changed := asDouble(literal)
		if changed != (want != "") || changed && becomes != want {
			t.Errorf("%s: becomes %s, changed %v; want %q", literal, becomes, changed, want)
		}
	}
	r := analyse(t, api(3, false, func(i int) string { return `{"a":[{"id":9007199254740993},{"id":9007199254740995}],"b":1.5}` }))
	if len(r.Numbers) != 1 || r.Numbers[0] != (Number{"/a/*/id", "9007199254740993", "9007199254740992"}) {
		t.Errorf("%+v", r.Numbers)
	}
}

// TestValidators: what an API does with conditional requests.
func TestValidators(t *testing.T) {
	honoured := api(10, true, func(i int) string { return fmt.Sprintf(`{"n":%d}`, i/3) })
	ignored := api(10, false, func(i int) string { return fmt.Sprintf(`{"n":%d}`, i/3) })
	for i := range ignored {
		ignored[i].Header.Set("ETag", `W/"same"`)
	}
	renewed := api(10, false, func(i int) string { return fmt.Sprintf(`{"n":%d}`, i/3) })
	for i := range renewed {
		renewed[i].Header.Set("ETag", fmt.Sprintf("%q", fmt.Sprint(i)))
	}
	partly := append(slices.Clone(honoured), ignored...)
	for name, c := range map[string]struct {
		answers []Answer
		want    Validators
	}{
		"honoured": {honoured, Validators{ETag: "strong", NotModified: 6, State: "honoured"}},
		"ignored":  {ignored, Validators{ETag: "weak", Repeated: 6, State: "ignored"}},
		"partly":   {partly, Validators{ETag: "weak", NotModified: 6, Repeated: 6, State: "partly"}},
		"renewed":  {renewed, Validators{ETag: "strong", Renewed: 6, State: "renewed"}},
		"none":     {api(5, false, func(i int) string { return `{"n":1}` }), Validators{ETag: "none", Repeated: 4, State: "none"}},
		"new":      {api(5, true, func(i int) string { return fmt.Sprintf(`{"n":%d}`, i) }), Validators{ETag: "strong", State: "unknown"}},
	} {
		if got := *validators(c.answers); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

// TestSchedule: the interval follows how often the document changes.
func TestSchedule(t *testing.T) {
	for name, c := range map[string]struct {
		every int // polls
		field string
		want  string
	}{
		"each poll":            {1, "", "interval 2s\n"},
		"every 10 seconds":     {5, "", "interval 10s\n"}, // as regular as that, none is missed for longer
		"never":                {1000, "", "interval 2s 30s\n"},
		"max-age is longer":    {1, "public, max-age=30", "interval 30s\n"},
		"s-maxage comes first": {1, "max-age=30, s-maxage=5", "interval 5s\n"},
		"max-age is shorter":   {5, "max-age=1", "interval 10s\n"},
	} {
		answers := api(40, false, func(i int) string { return fmt.Sprintf(`{"n":%d}`, i/c.every) })
		for i := range answers {
			answers[i].Header.Set("Cache-Control", c.field)
		}
		if r := analyse(t, answers); !strings.Contains(r.Caddyfile, c.want) {
			t.Errorf("%s: no %q in\n%s", name, c.want, r.Caddyfile)
		}
	}
	// Bursts: 2 seconds apart, and then nothing for a minute.
	r := analyse(t, api(60, false, func(i int) string { return fmt.Sprintf(`{"n":%d}`, i/30*3+min(i%30, 2)) }))
	if !strings.Contains(r.Caddyfile, "interval 2s 30s\n") || r.Changes.Shortest != 2 || r.Changes.Longest != 56 {
		t.Errorf("bursts: %+v\n%s", r.Changes, r.Caddyfile)
	}
}

// TestCaddyfile: no secret, and names for what is missing.
func TestCaddyfile(t *testing.T) {
	for url, want := range map[string]string{
		"https://h/v1/quotes.json?api_key=s3cret&limit=5": "# Needs the environment variable UPSTREAM_API_KEY.\n:8080 {\n\tpoll_sse /quotes https://h/v1/quotes.json?api_key={env.UPSTREAM_API_KEY}&limit=5 {\n",
		"http://h:81/":       ":8080 {\n\tpoll_sse /api http://h:81/ {\n",
		"http://h/a%20b?q={": "poll_sse /ab http://h/a%20b?q=%7B {\n",
		"http://h/x?q=\"a b": "poll_sse /x `http://h/x?q=\"a b` {\n",
		"http://h/.json":     "poll_sse /api http://h/.json {\n",
	} {
		got := caddyfile(Target{URL: url}, 2*time.Second, 15*time.Second, settings{}, false)
		if !strings.Contains(got, want) || strings.Contains(got, "s3cret") {
			t.Errorf("%s: no %q in\n%s", url, want, got)
		}
	}
	header := http.Header{"Authorization": {"Bearer s3cret"}, "Accept-Language": {"de, en"}, "X-Two": {"a", "b"}}
	got := caddyfile(Target{URL: "http://h/x", Header: header}, 90*time.Second, 0, settings{omit: []string{"/a b", "/c"}, identify: map[string]string{"/rows": "station"}}, false)
	want := "# Needs the environment variable UPSTREAM_AUTHORIZATION.\n:8080 {\n\tpoll_sse /x http://h/x {\n\t\tinterval 1m30s\n\t\theader_up Accept-Language `de, en`\n" +
		"\t\theader_up Authorization {env.UPSTREAM_AUTHORIZATION}\n\t\theader_up X-Two a\n\t\theader_up +X-Two b\n\t\tomit `/a b` /c\n\t\tidentify /rows station\n\t}\n}\n"
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	if _, _, err := ParseField("no colon s3cret"); err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("a field without a colon: %v", err)
	}
}

// TestNoDocument: the report of an API that never returns a document has its
// reason.
func TestNoDocument(t *testing.T) {
	answers := []Answer{{At: start, Status: 200, Header: http.Header{"Content-Type": {"text/csv; charset=utf-8"}}, Reason: "not_json", Detail: "at line 1"}}
	r := analyse(t, answers)
	if r.Reason != "not_json" || !strings.Contains(r.Hint, "text/csv") || r.Caddyfile != "" || r.Failures["not_json"] != 1 {
		t.Errorf("%+v", r)
	}
	var text strings.Builder
	if err := r.WriteText(&text); err != nil || !strings.Contains(text.String(), "no document in 1 polls: not_json") || strings.Contains(text.String(), "s3cret") {
		t.Errorf("%v\n%s", err, text.String())
	}
}

// TestText: the report for people and the one for programs say the same and no secret.
func TestText(t *testing.T) {
	r := analyse(t, api(30, true, func(i int) string {
		return fmt.Sprintf(`{"generated_at":%q,"filler":%q,"id":12345678901234567890,"rows":[{"id":1,"v":%d},{"id":2,"v":2}]}`, start.Add(time.Duration(i/2)*4*time.Second).Format(time.RFC3339), strings.Repeat("x", 9000), i/5)
	}))
	var text strings.Builder
	if err := r.WriteText(&text); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"https://legacy.internal/v1/quotes.json?…", "ETag strong, honoured: 12 of 30 polls were 304", "ignore /generated_at", "12345678901234567890 becomes 12345678901234567000",
		`items have the key "id"`, "30 polls in 58 s, 17 changes, 5 of them more than what is volatile", "one every 10 s, at least 10 s and at most 10 s apart", "does not compress",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, text.String())
		}
	}
	if strings.Contains(text.String(), "s3cret") {
		t.Error("a secret in the text")
	}
	// What is ignored is not published: of 17 changes 5 are more than the time.
	if r.Changes.Count != 17 || r.Changes.Published != 5 || r.Changes.Patches != 5 {
		t.Errorf("%+v", r.Changes)
	}
	s := r.Savings
	if s.PollingRequests != 50 || s.PollingBytes <= s.ValidatedBytes || s.ValidatedBytes <= 20*s.StreamBytes {
		t.Errorf("%+v", s)
	}
	b, err := json.Marshal(r)
	if err != nil || strings.Contains(string(b), "s3cret") || !strings.Contains(string(b), `"not_modified":12`) {
		t.Errorf("%v: %s", err, b)
	}
}
