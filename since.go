package pollsse

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/pollsse/caddy-poll-sse/jsondiff"
)

// sinceParam is a query parameter that says what the poller has already.
type sinceParam struct {
	name    string
	pointer string // to its value in the last good answer
	initial string // before there is one; empty: the parameter is left out
}

// appended is how answers that hold only what is new become one document. The
// zero value replaces the document with each answer.
type appended struct {
	on      bool
	pointer string // to the list
	max     int    // items kept
	key     string // the member by which items are known
}

// progress is how far a poller has read an API that returns only what is new.
type progress struct {
	values  map[string]string // of the since parameters, by name
	success time.Time         // the upstream's time of the last good answer
	list    []item            // the appended items
}

// pollTime is the prefix of placeholders that are expanded for each poll, with
// the time of the last good answer. Until then it is the Unix epoch.
const pollTime = "poll_sse.last_success"

// isPollPlaceholder tells whether a placeholder is expanded for each poll.
func isPollPlaceholder(name string) bool {
	return name == pollTime || strings.HasPrefix(name, pollTime+".") || strings.HasPrefix(name, pollTime+":")
}

// pollMark stands for such a placeholder in an expanded request. No client can
// make one: NUL is escaped, or refused, in every place.
func pollMark(name string) string { return "\x00" + strings.TrimPrefix(name, pollTime) + "\x00" }

// checkPollPlaceholder refuses a layout that shows no time.
func checkPollPlaceholder(name string) error {
	switch layout := strings.TrimPrefix(name, pollTime); {
	case layout == "", layout == ".unix", layout == ".unix_ms", layout == ".http":
		return nil
	case strings.HasPrefix(layout, ":") && time.Unix(0, 0).Format(layout[1:]) != layout[1:]:
		return nil
	}
	return fmt.Errorf("{%s}: need {%s}, .unix, .unix_ms, .http, or a layout of Go's time package after a colon, as in {%s:2006-01-02}", name, pollTime, pollTime)
}

// fillTimes replaces the marks in a part of the request.
func fillTimes(text string, at time.Time, escape func(string) string) string {
	if !strings.Contains(text, "\x00") {
		return text
	}
	if at.IsZero() {
		at = time.Unix(0, 0)
	}
	at = at.UTC()
	parts := strings.Split(text, "\x00")
	for i := 1; i < len(parts); i += 2 {
		switch layout := parts[i]; {
		case layout == "":
			parts[i] = at.Format(time.RFC3339)
		case layout == ".unix":
			parts[i] = strconv.FormatInt(at.Unix(), 10)
		case layout == ".unix_ms":
			parts[i] = strconv.FormatInt(at.UnixMilli(), 10)
		case layout == ".http":
			parts[i] = at.Format(http.TimeFormat)
		default:
			parts[i] = at.Format(layout[1:])
		}
		parts[i] = escape(parts[i])
	}
	return strings.Join(parts, "")
}

// addSince puts the since parameters into a URL.
func (g *progress) addSince(u *url.URL, params []sinceParam) {
	for _, p := range params {
		value, ok := g.values[p.name]
		if !ok {
			value = p.initial
		}
		if value == "" {
			continue
		}
		if u.RawQuery != "" {
			u.RawQuery += "&"
		}
		u.RawQuery += url.QueryEscape(p.name) + "=" + url.QueryEscape(value)
	}
}

// note remembers where a good answer ends. A parameter whose value is not in
// it keeps the last one.
func (g *progress) note(text []byte, params []sinceParam, at time.Time) {
	g.success = at
	for _, p := range params {
		pointer, _ := jsondiff.ParsePointer(p.pointer)
		if value, ok := scalar(text, pointer); ok {
			if g.values == nil {
				g.values = make(map[string]string)
			}
			g.values[p.name] = value
		}
	}
}

// append adds an answer to what is retained and gives the whole: the answer
// with the whole list in place of its own. The oldest items go first where
// there are more than max, or more bytes than a body may have.
func (g *progress) append(text []byte, a appended, maxBody int64) (whole []byte, list []item, err error) {
	if !json.Valid(text) {
		return nil, nil, &fault{reason: reasonNotJSON, err: errors.New("the answer is not JSON")}
	}
	pointer, _ := jsondiff.ParsePointer(a.pointer)
	news, err := items(text, pointer, a.key)
	if err != nil {
		return nil, nil, &fault{reason: reasonNoMatch, err: fmt.Errorf("append %s: %w", a.pointer, err)}
	}
	list = mergeItems(append([]item(nil), g.list...), news)
	size := int64(0)
	for i := len(list) - 1; i >= 0; i-- {
		if size += int64(len(list[i].text)); size > maxBody || len(list)-i > a.max {
			list = append([]item(nil), list[i+1:]...)
			break
		}
	}
	return withList(text, pointer, list), list, nil
}
