package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"
)

// verdict counts what was seen, and what is wrong with it.
type verdict struct {
	out   io.Writer
	begun time.Time

	mu       sync.Mutex
	seen     map[string]int
	problems map[string]int
}

// What can be wrong.
const (
	wrongDocument = "wrong documents"
	stepBack      = "steps back"
	hang          = "hangs"
	protocolError = "breaches of the protocol"
	cutStream     = "streams cut off"
	crash         = "races, panics and exits out of turn"
)

func newVerdict(out io.Writer) *verdict {
	return &verdict{out: out, begun: time.Now(), seen: map[string]int{}, problems: map[string]int{}}
}

func (v *verdict) count(what string) { v.add(what, 1) }

func (v *verdict) add(what string, n int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.seen[what] += n
}

// problem notes what is wrong. The first few of a kind are written out.
func (v *verdict) problem(kind, format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.problems[kind]++; v.problems[kind] <= 5 {
		text := fmt.Sprintf(format, args...)
		fmt.Fprintf(v.out, "%7.1fs  %s: %.6000s\n", time.Since(v.begun).Seconds(), strings.ToUpper(kind), text)
	}
}

func (v *verdict) say(format string, args ...any) {
	v.mu.Lock()
	defer v.mu.Unlock()
	fmt.Fprintf(v.out, "%7.1fs  %s\n", time.Since(v.begun).Seconds(), fmt.Sprintf(format, args...))
}

// failed reports whether anything was wrong.
func (v *verdict) failed() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return len(v.problems) > 0
}

// report writes all counts down.
func (v *verdict) report() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, what := range slices.Sorted(maps.Keys(v.seen)) {
		fmt.Fprintf(v.out, "%8d %s\n", v.seen[what], what)
	}
	fmt.Fprintln(v.out)
	for _, kind := range []string{wrongDocument, stepBack, hang, protocolError, cutStream, crash} {
		fmt.Fprintf(v.out, "%8d %s\n", v.problems[kind], kind)
	}
}

// atMost keeps the largest of some numbers.
func (v *verdict) atMost(what string, n int) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.seen[what] = max(v.seen[what], n)
}
