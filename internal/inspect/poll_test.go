package inspect

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// replies is a transport that answers each request after some time.
type replies struct {
	took     time.Duration
	times    []time.Time
	requests []*http.Request
	do       func(i int, r *http.Request) (status int, body string, fields []string)
}

func (u *replies) RoundTrip(r *http.Request) (*http.Response, error) {
	time.Sleep(u.took)
	u.times, u.requests = append(u.times, time.Now()), append(u.requests, r)
	status, body, fields := u.do(len(u.times)-1, r)
	h := make(http.Header)
	for i := 0; i+1 < len(fields); i += 2 {
		h.Set(fields[i], fields[i+1])
	}
	return &http.Response{StatusCode: status, Status: http.StatusText(status), Header: h, Body: io.NopCloser(strings.NewReader(body)), ContentLength: int64(len(body)), Request: r}, nil
}

func TestPoll(t *testing.T) {
	poll := func(t *testing.T, u *replies, d time.Duration) ([]Answer, string) {
		t.Helper()
		var progress bytes.Buffer
		answers, err := Poll(t.Context(), Target{URL: "http://h/x?key=s3cret&a={}", Header: http.Header{"X-Own": {"1"}}, Interval: 2 * time.Second}, d, u, &progress)
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(progress.String(), "s3cret") || strings.Count(progress.String(), "\n") != len(answers) {
			t.Errorf("progress:\n%s", progress.String())
		}
		return answers, progress.String()
	}
	t.Run("validators and bytes", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			var zipped bytes.Buffer
			z := gzip.NewWriter(&zipped)
			_, _ = z.Write([]byte(`{"n":[` + strings.Repeat("1,", 2000) + `1]}`))
			_ = z.Close()
			u := &replies{do: func(i int, r *http.Request) (int, string, []string) {
				if r.Header.Get("If-None-Match") == `"1"` {
					return 304, "", []string{"ETag", `"1"`}
				}
				return 200, zipped.String(), []string{"ETag", `"1"`, "Content-Encoding", "gzip"}
			}}
			answers, _ := poll(t, u, 10*time.Second)
			if len(answers) != 5 || !answers[0].isDocument() || len(answers[0].Text) < 4000 || answers[0].Received > int64(zipped.Len()+100) || answers[0].Received < int64(zipped.Len()) {
				t.Fatalf("%d answers, the first %+v", len(answers), answers[0])
			}
			for i, a := range answers[1:] {
				if !a.isUnmodified() || a.Text != nil || u.times[i+1].Sub(u.times[i]) != 2*time.Second {
					t.Errorf("%d: %+v", i, a)
				}
			}
			if q := u.requests[0].URL.RawQuery; q != "key=s3cret&a=%7B%7D" || u.requests[0].Header.Get("X-Own") != "1" {
				t.Errorf("asked for %s with %v", q, u.requests[0].Header)
			}
		})
	})
	t.Run("a slow API keeps half of its time", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			u := &replies{took: 3 * time.Second, do: func(int, *http.Request) (int, string, []string) { return 200, "{}", nil }}
			answers, _ := poll(t, u, 18*time.Second)
			if len(answers) != 3 || u.times[1].Sub(u.times[0]) != 6*time.Second {
				t.Errorf("asked at %v", u.times)
			}
		})
	})
	t.Run("Retry-After, and what is no JSON", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			u := &replies{do: func(i int, _ *http.Request) (int, string, []string) {
				if i == 0 {
					return 429, "", []string{"Retry-After", "7"}
				}
				return 200, "{,", []string{"ETag", `"1"`}
			}}
			answers, progress := poll(t, u, 12*time.Second)
			if answers[0].Reason != "rate_limited" || u.times[1].Sub(u.times[0]) != 7*time.Second || answers[1].Reason != "not_json" || answers[1].Text != nil || !strings.Contains(progress, "not_json: ") {
				t.Errorf("%v: %+v\n%s", u.times, answers, progress)
			}
			if u.requests[2].Header.Get("If-None-Match") != "" {
				t.Error("a refused body was taken for the document")
			}
		})
	})
	t.Run("does a 304 lie", func(t *testing.T) {
		for name, c := range map[string]struct {
			// The document at a second, for the request without a condition that has
			// this number, or 0 if there is a condition.
			document func(second, number int) int
			honest   bool
			wrong    bool
			advice   string
		}{
			"always":                            {func(second, _ int) int { return second / 6 }, false, true, "?key={env.UPSTREAM_KEY}&a=%7B%7D&_={poll_sse.last_success.unix_ms}"},
			"never":                             {func(second, _ int) int { return second / 20 }, true, false, ""},
			"never changes":                     {func(int, int) int { return 0 }, false, false, ""},
			"a time that is new in each answer": {func(int, int) int { return 0 }, true, false, "omit /generated_at"},
			// Another document is there when the API is checked, and gone at once.
			"a document that flaps": {func(_, number int) int { return (number + 1) % 2 * min(number, 1) }, true, false, ""},
		} {
			synctest.Test(t, func(t *testing.T) {
				begun, unconditional := time.Now(), 0
				u := &replies{do: func(_ int, r *http.Request) (int, string, []string) {
					sent, number := r.Header.Get("If-None-Match"), 0
					if sent == "" {
						unconditional++
						number = unconditional
					}
					n := strconv.Itoa(c.document(int(time.Since(begun)/time.Second), number))
					tag := `"` + n + `"`
					if sent != "" && (!c.honest || sent == tag) {
						return 304, "", []string{"ETag", sent}
					}
					generated := begun
					if strings.HasPrefix(c.advice, "omit") {
						generated = time.Now()
					}
					return 200, `{"n":` + n + `,"generated_at":"` + generated.Format(time.RFC3339) + `"}`, []string{"ETag", tag}
				}}
				target := Target{URL: "http://h/x?key=s3cret&a={}", Interval: 2 * time.Second}
				answers, err := Poll(t.Context(), target, time.Minute, u, io.Discard)
				if err != nil {
					t.Fatal(err)
				}
				report, err := Analyse(target, answers)
				if err != nil {
					t.Fatal(err)
				}
				v := report.Validators
				if len(answers) != 30 || v.Checked < 2 || (v.Wrong > 0) != c.wrong || (v.State == "wrong") != c.wrong || c.wrong && v.WrongAt != "/n" || v.Repeated+v.Renewed > 0 {
					t.Errorf("%s: %d answers, %+v", name, len(answers), v)
				}
				conditional := 0
				for _, r := range u.requests {
					if r.Header.Get("If-None-Match") != "" {
						conditional++
					}
				}
				if conditional < 20 {
					t.Errorf("%s: only %d of %d polls have a condition", name, conditional, len(answers))
				}
				var text strings.Builder
				if err := report.WriteText(&text); err != nil || strings.Contains(text.String(), "wrong: ") != c.wrong || !strings.Contains(text.String(), c.advice) || strings.Contains(report.Caddyfile, "poll_sse.last_success") != c.wrong || strings.Contains(text.String(), "s3cret") {
					t.Errorf("%s: %v\n%s", name, err, text.String())
				}
				b, err := json.Marshal(report)
				if err != nil || strings.Contains(string(b), `"state":"wrong"`) != c.wrong {
					t.Errorf("%s: %v: %s", name, err, b)
				}
			})
		}
	})
	t.Run("ended early", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			u := &replies{do: func(int, *http.Request) (int, string, []string) { return 200, "{}", nil }}
			answers, err := Poll(ctx, Target{URL: "http://h/", Interval: 2 * time.Second}, time.Hour, u, io.Discard)
			if err != nil || len(answers) != 3 {
				t.Errorf("%d answers, %v", len(answers), err)
			}
		})
	})
	if _, err := Poll(t.Context(), Target{URL: "http://user:s3cret@h/"}, 0, nil, io.Discard); err == nil || strings.Contains(err.Error(), "s3cret") {
		t.Errorf("credentials in the URL: %v", err)
	}
}
