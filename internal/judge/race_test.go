package judge

import (
	"strings"
	"testing"
)

// TestForeignRaces: only a race without any frame of the module is another's.
func TestForeignRaces(t *testing.T) {
	report := func(frame string) string {
		return "==================\nWARNING: DATA RACE\nRead at 0x1 by goroutine 1:\n  " + frame + "\n\nPrevious write at 0x1 by main goroutine:\n  main.main()\n==================\n"
	}
	caddys, own := report("github.com/caddyserver/caddy/v2/modules/caddytls.(*TLS).CaddyModule()"), report("github.com/pollsse/caddy-poll-sse.(*Handler).ServeHTTP()")
	log := "{\"level\":\"info\"}\n" + caddys + "{}\n" + own + caddys + "{}\n"
	rest, races := takeForeignRaces([]byte(log))
	if want := "{\"level\":\"info\"}\n{}\n" + own + "{}\n"; string(rest) != want || races != 2 {
		t.Errorf("%d races of others, and left is\n%s\nwant 2 and\n%s", races, rest, want)
	}
	// The process goes on to log while the detector writes.
	torn := strings.Replace(caddys, "WARNING", "{}\nWARNING", 1)
	if rest, races := takeForeignRaces([]byte(torn)); races != 1 || strings.Contains(string(rest), "DATA RACE") {
		t.Errorf("%d races of others in a report with a line of the log in it; left is\n%s", races, rest)
	}
	if rest, races := takeForeignRaces([]byte(caddys[:len(caddys)-4])); races != 0 || !strings.Contains(string(rest), "DATA RACE") {
		t.Error("a report without an end is taken for another's")
	}
}

// TestCrash: a log is good unless the module, or Caddy with it, has failed.
func TestCrash(t *testing.T) {
	race := "==================\nWARNING: DATA RACE\n  %s\n==================\n"
	for log, want := range map[string]string{
		"{\"msg\":\"serving\"}\n": "",
		strings.Replace(race, "%s", "github.com/caddyserver/caddy/v2.Run()", 1): "",
		strings.Replace(race, "%s", "github.com/pollsse/caddy-poll-sse.x()", 1): "DATA RACE",
		"{}\npanic: nil map\n":       "panic: nil map",
		"fatal error: out of memory": "fatal error:",
	} {
		if got, _ := Crash([]byte(log)); (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("of %q: %q, want %q", log, got, want)
		}
	}
	if got, _ := Crash([]byte("panic" + strings.Repeat("x", 10000))); len(got) != 6000 {
		t.Errorf("%d bytes are reported", len(got))
	}
}
