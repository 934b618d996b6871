package upstream

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/pollsse/caddy-poll-sse/jsondiff"
)

// Since is a query parameter whose value is taken from the last good answer.
type Since struct {
	// The parameter's name. Required.
	Param string `json:"param,omitempty"`
	// A JSON Pointer to its value, a string, number or true, in the answer;
	// in a list the token - is the last item. An answer without it leaves
	// the value as it was.
	Pointer string `json:"pointer,omitempty"`
	// The value before there is an answer. Default: the parameter is left
	// out.
	Initial string `json:"initial,omitempty"`
}

// Append adds each answer's list to the one that is kept.
type Append struct {
	// A JSON Pointer to the list. Default: the whole answer. The rest of the
	// document is the last answer's.
	List string `json:"list,omitempty"`
	// The most items that are kept; the oldest go first. Together they are no
	// larger than max_body. Default: 1000. From 1 to 100000.
	Max int `json:"max,omitempty"`
	// The member by which an item is known: a new one takes the place of the
	// old. An item without it is known by all it is. Default: id.
	Key string `json:"key,omitempty"`
}

// lastSuccess is the prefix of the placeholders that are expanded for each poll,
// with the time of the last good answer. Before there is one, that is the Unix
// epoch.
const lastSuccess = "poll_sse.last_success"

// isTimePlaceholder reports whether a placeholder is expanded for each poll.
func isTimePlaceholder(name string) bool {
	return name == lastSuccess || strings.HasPrefix(name, lastSuccess+".") || strings.HasPrefix(name, lastSuccess+":")
}

// timeMark stands for such a placeholder in an expanded request. No client can
// make one: NUL is escaped, or refused, in every place.
func timeMark(name string) string { return "\x00" + strings.TrimPrefix(name, lastSuccess) + "\x00" }

// checkTimePlaceholder refuses a layout that shows no time.
func checkTimePlaceholder(name string) error {
	switch layout := strings.TrimPrefix(name, lastSuccess); {
	case layout == "", layout == ".unix", layout == ".unix_ms", layout == ".http":
		return nil
	case strings.HasPrefix(layout, ":") && time.Unix(0, 0).Format(layout[1:]) != layout[1:]:
		return nil
	}
	return fmt.Errorf("{%s}: need {%s}, .unix, .unix_ms, .http, or a layout of Go's time package after a colon, as in {%s:2006-01-02}", name, lastSuccess, lastSuccess)
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

// addSince adds the since parameters to a URL.
func (p *progress) addSince(u *url.URL, params []Since) {
	for _, param := range params {
		value, ok := p.values[param.Param]
		if !ok {
			value = param.Initial
		}
		if value == "" {
			continue
		}
		if u.RawQuery != "" {
			u.RawQuery += "&"
		}
		u.RawQuery += url.QueryEscape(param.Param) + "=" + url.QueryEscape(value)
	}
}

// note remembers when a good answer was made and where it ends. A since
// parameter that has no value in it keeps the last one.
func (p *progress) note(text []byte, params []Since, at time.Time) {
	p.success = at
	values := make(map[string]string, len(params)) // the old ones may still be needed
	maps.Copy(values, p.values)
	for _, param := range params {
		pointer, _ := jsondiff.ParsePointer(param.Pointer)
		if value, ok := scalar(text, pointer); ok {
			values[param.Param] = value
		}
	}
	p.values = values
}

// extend adds an answer to the list that is kept and returns the whole: the
// answer with that list in place of its own. The oldest items go first if there
// are more than a.Max, or more bytes than a body may have.
func (p *progress) extend(text []byte, a *Append, maxBody int64) (whole []byte, err error) {
	if !json.Valid(text) {
		return nil, &Fault{Reason: ReasonNotJSON, Err: errors.New("the answer is not JSON")}
	}
	pointer, _ := jsondiff.ParsePointer(a.List)
	news, err := items(text, pointer, a.Key)
	if err != nil {
		return nil, &Fault{Reason: ReasonNoMatch, Err: fmt.Errorf("append %s: %w", a.List, err)}
	}
	list := mergeItems(append([]item(nil), p.list...), news)
	size := int64(0)
	for i := len(list) - 1; i >= 0; i-- {
		if size += int64(len(list[i].text)); size > maxBody || len(list)-i > a.Max {
			list = append([]item(nil), list[i+1:]...)
			break
		}
	}
	p.list = list
	return withList(text, pointer, list), nil
}
