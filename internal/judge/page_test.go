package judge

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

func TestPage(t *testing.T) {
	var p Page
	take := func(name, id, data string) error { return p.Apply(Event{Name: name, ID: id, Data: data}) }
	for _, e := range []Event{{Name: "patch", ID: "1", Data: "[]"}, {Name: "merge", ID: "1", Data: "{}"}} {
		if err := p.Apply(e); err == nil {
			t.Errorf("%+v is applied to no document", e)
		}
	}
	for _, c := range []struct{ name, id, data, want string }{
		{"snapshot", "1", `{"a":[1]}`, `{"a":[1]}`},
		{"patch", "2", `[{"op":"add","path":"/a/-","value":2.0}]`, `{"a":[1,2.0]}`},
		{"merge", "3", `{"b":null,"c":{"d":1}}`, `{"a":[1,2.0],"c":{"d":1}}`},
		{"patch", "4", `[{"op":"move","from":"/a","path":"/b"},{"op":"remove","path":"/c"},{"op":"replace","path":"/b/0","value":0}]`, `{"b":[0,2.0]}`},
		{"snapshot", "5", `null`, `null`},
	} {
		if err := take(c.name, c.id, c.data); err != nil || p.ID != c.id || !Matches(p.Doc, []byte(c.want)) {
			t.Errorf("%s %s: %v %s, %v; want %s", c.name, c.data, p.Doc, p.ID, err, c.want)
		}
	}
	if err := p.Apply(Event{ID: "6"}); err != nil || p.ID != "6" {
		t.Errorf("an id alone: %v, %s", err, p.ID)
	}
	if err := take("status", "", `{}`); err != nil || p.ID != "6" || p.Doc != nil {
		t.Errorf("a status: %v, %s, %v", err, p.ID, p.Doc)
	}
	for _, e := range []Event{
		{Name: "snapshot", Data: "{"}, {Name: "merge", Data: "{"}, {Name: "patch", Data: "["}, {Name: "patch", Data: "{}"}, {Name: "patch", Data: "[]"},
		{Name: "patch", Data: `[{"op":"test","path":"","value":null}]`}, {Name: "patch", Data: `[{"op":"copy","from":"","path":""}]`},
		{Name: "patch", Data: `[{"op":"replace","path":"","value":1,"x":1}]`}, {Name: "patch", Data: `[{"op":"replace","path":"/a","value":1}]`},
	} {
		if e.ID = "7"; p.Apply(e) == nil {
			t.Errorf("%+v is applied", e)
		}
		if p.ID == "7" {
			t.Fatalf("%+v is refused, and its id is kept", e)
		}
	}
}

func TestParseStatus(t *testing.T) {
	const since = `"since":"2026-01-02T03:04:05.678Z"`
	for data, ok := range map[string]bool{
		`{"state":"waiting",` + since + `}`:                                                  true,
		`{"state":"live",` + since + `,"validated":"2026-01-02T03:04:05Z"}`:                  true,
		`{"state":"stale",` + since + `,"validated":"2026-01-02T03:04:05Z","reason":"late"}`: true,
		`{"state":"stale",` + since + `}`:                                                    false,
		`{"state":"live",` + since + `,"reason":"late"}`:                                     false,
		`{"state":"stale",` + since + `,"reason":"because"}`:                                 false,
		`{"state":"dead",` + since + `}`:                                                     false,
		`{"state":"live","since":"yesterday"}`:                                               false,
		`{"state":"live",` + since + `,"validated":"today"}`:                                 false,
		`{"state":"live",` + since + `,"url":"http://localhost"}`:                            false,
		`live`: false,
	} {
		if _, err := ParseStatus(data); (err == nil) != ok {
			t.Errorf("%s: %v", data, err)
		}
	}
}

// TestProtocol: the states and reasons are those that docs/protocol.md has.
func TestProtocol(t *testing.T) {
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "protocol.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, status, _ := strings.Cut(string(text), "\n## Status\n")
	said, table, _ := strings.Cut(status, "\n| reason |")
	table, _, _ = strings.Cut(table, "\n## ")
	words := func(pattern, text string) []string {
		var all []string
		for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
			all = append(all, m[1])
		}
		return all
	}
	if got := words("(?m)^\\| `(\\w+)` \\|", table); !slices.Equal(got, reasons) {
		t.Errorf("docs/protocol.md has the reasons %q, not %q", got, reasons)
	}
	sentence, _, _ := strings.Cut(said, "`since` is")
	if got := words("`(\\w+)`", sentence); !slices.Equal(got[1:], states) {
		t.Errorf("docs/protocol.md has the states %q, not %q", got[1:], states)
	}
}
