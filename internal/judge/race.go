package judge

import (
	"bytes"
	"regexp"
)

// raceReport is what the race detector writes of one race. A line of the log may
// come between its first and its second.
var raceReport = regexp.MustCompile(`(?s)(?:={18}\n)?WARNING: DATA RACE\n.*?\n={18}\n`)

// Crash looks in a process's log for what none may write: a race, a panic, or a
// message of a bug. It returns the log from there on, or nothing. Races in which
// no stack has a frame of the module do not count, and foreign says how many
// there were.
func Crash(log []byte) (report string, foreign int) {
	rest, foreign := takeForeignRaces(log)
	for _, bad := range []string{"DATA RACE", "panic", "fatal error:", "BUG:"} {
		if i := bytes.Index(rest, []byte(bad)); i >= 0 {
			rest = rest[max(0, i-200):]
			return string(rest[:min(len(rest), 6000)]), foreign
		}
	}
	return "", foreign
}

// takeForeignRaces takes the reports of races out of a log in which no stack has
// a frame of the module, and counts them. Caddy's TLS app races with itself
// while a configuration starts: caddytls.TLS.Start writes what events.App reads
// when it reports a certificate.
func takeForeignRaces(log []byte) (rest []byte, races int) {
	rest = raceReport.ReplaceAllFunc(log, func(report []byte) []byte {
		for line := range bytes.Lines(report) {
			// Tests run Caddy in a process of their own binary.
			if bytes.HasPrefix(line, []byte("  github.com/pollsse/caddy-poll-sse")) && !bytes.Contains(line, []byte("_test.TestMain(")) {
				return report
			}
		}
		races++
		return nil
	})
	return rest, races
}
