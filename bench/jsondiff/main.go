// Command jsondiff measures the package jsondiff against its peers, side by side
// in one run, and prints tables in Markdown:
//
//	go run ./jsondiff            in the folder bench, about ten minutes
//	go run ./jsondiff -quick     without what takes longest, two minutes
//	go run ./jsondiff -scale     only what grows: documents, arrays, corruptions
//
// Every patch is checked with an applier of its own. The peers from Node take
// part once `npm install` has run in bench/node; the recordings where they lie
// in ../../shared and zstd can unpack them.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/pollsse/caddy-poll-sse/jsondiff"
)

var (
	budget = flag.Duration("time", 2*time.Second, "time for the rounds of one shape")
	only   = flag.String("shape", "", "regular expression: only these shapes")
	scale  = flag.Bool("scale", false, "only the scaling tables")
	noNode = flag.Bool("no-node", false, "leave the peers from Node out")
	once   = flag.String("once", "", "for this program itself: run one contender once on the files given")
	quick  = flag.Bool("quick", false, "less time, a lower limit, no peers from Node, no recordings")
	cpu    = flag.Bool("cpu", false, "measure the processor time of this process, collector included, and not the time that passes: for a machine with other work")
	limit  = flag.Duration("limit", 4*time.Second, "a peer that takes longer for one diff is left out")
)

func main() {
	flag.Parse()
	if *once != "" {
		if err := runOnce(*once, flag.Arg(0), flag.Arg(1)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	if *quick {
		*budget, *limit, *noNode = 300*time.Millisecond, 500*time.Millisecond, true
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	dir, err := os.MkdirTemp("", "jsondiff-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	header()
	if !*scale {
		match, err := regexp.Compile(*only)
		if err != nil {
			return err
		}
		var all []row
		for _, s := range shapes() {
			if !match.MatchString(s.name) {
				continue
			}
			s.old, s.new = withRoom(s.old), withRoom(s.new)
			fmt.Fprintf(os.Stderr, "%s: %d bytes\n", s.name, len(s.new))
			results, err := measure(dir, s)
			if err != nil {
				return fmt.Errorf("%s: %w", s.name, err)
			}
			held, err := retained(s.old, s.new)
			if err != nil {
				return err
			}
			all = append(all, row{s, results, held})
		}
		summary(all)
		merges(all)
		details(all)
		if *only == "" && !*quick {
			if err := recordings(dir); err != nil {
				return err
			}
		}
	}
	if *only == "" {
		return scaling()
	}
	return nil
}

// withRoom copies a text, as a caller provides it that has just read it and
// knows of jsondiff.Pad.
func withRoom(text []byte) []byte {
	return append(make([]byte, 0, len(text)+jsondiff.Pad), text...)
}

func header() {
	commit := "unknown"
	if out, err := exec.Command("git", "describe", "--always", "--dirty", "--exclude=*").Output(); err == nil {
		commit = strings.TrimSpace(string(out))
	}
	node := ""
	if out, err := exec.Command("node", "--version").Output(); err == nil && !*noNode {
		node = ", Node " + strings.TrimSpace(string(out))
	}
	fmt.Printf("Machine: %s, %d threads. %s %s/%s%s. Commit %s. Command: `go run ./jsondiff%s` in `bench`.\n\n",
		processor(), runtime.NumCPU(), runtime.Version(), runtime.GOOS, runtime.GOARCH, node, commit, arguments())
}

func arguments() string {
	if len(os.Args) < 2 {
		return ""
	}
	return " " + strings.Join(os.Args[1:], " ")
}

func processor() string {
	data, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(data)) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return runtime.GOARCH
}

// result is what one contender did on one shape.
type result struct {
	contender
	node         bool
	best, median time.Duration
	allocs       float64
	patch        []byte
	wrong        error  // why the patch is not exact
	absent       string // why there is no result
	samples      []time.Duration
	run          func([]byte) ([]byte, error)
	rewind       func() error
}

func (r *result) exact() bool { return r.absent == "" && r.wrong == nil }

func measure(dir string, s shape) ([]*result, error) {
	oldFile, newFile := filepath.Join(dir, "old.json"), filepath.Join(dir, "new.json")
	if err := os.WriteFile(oldFile, s.old, 0o600); err != nil {
		return nil, err
	}
	if err := os.WriteFile(newFile, s.new, 0o600); err != nil {
		return nil, err
	}
	var all []*result
	for _, c := range contenders() {
		r := &result{contender: c}
		all = append(all, r)
		// A peer cannot be interrupted: what may take long is first tried apart.
		if !c.ours && len(s.new) > 30_000 {
			if r.absent = try(c.name, oldFile, newFile); r.absent != "" {
				continue
			}
		}
		r.run, r.rewind = c.start(s.old)
		patch, err := r.once(s.new)
		if err != nil {
			r.absent = err.Error()
			continue
		}
		r.patch = slices.Clone(patch)
		r.wrong = wrongPatch(s.old, s.new, r.patch, c.merge)
		if c.ours && r.wrong != nil {
			return nil, fmt.Errorf("%s is not exact: %w", c.name, r.wrong)
		}
	}
	// Rounds: everybody takes a turn, so that a slow moment of the machine meets
	// all alike. The collector runs before each turn, at nobody's cost.
	debug.SetGCPercent(400)
	end := time.Now().Add(*budget)
	for round := 0; round < 3 || time.Now().Before(end) && round < 200; round++ {
		for _, r := range all {
			slow := r.best > *budget/4 && round > 0 || r.best > *budget/10 && round > 1
			if r.absent != "" || slow && !r.ours {
				continue
			}
			runtime.GC()
			turn := time.Now().Add(4 * time.Millisecond)
			for first := true; first || time.Now().Before(turn); first = false {
				if r.rewind != nil {
					if err := r.rewind(); err != nil {
						return nil, err
					}
				}
				new := r.given(s.new)
				from := now()
				if _, err := r.run(new); err != nil {
					return nil, fmt.Errorf("%s: %w", r.name, err)
				}
				took := now() - from
				r.samples = append(r.samples, took)
				if r.best == 0 || took < r.best {
					r.best = took
				}
			}
		}
	}
	for _, r := range all {
		if r.absent == "" {
			slices.Sort(r.samples)
			r.median = r.samples[len(r.samples)/2]
			r.allocs = r.countAllocs(s.new)
		}
	}
	if !*noNode {
		for _, library := range []string{"fast-json-patch", "rfc6902", "jsondiffpatch"} {
			all = append(all, node(library, oldFile, newFile, s))
		}
	}
	for _, r := range all {
		r.run, r.rewind, r.samples = nil, nil, nil
	}
	return all, nil
}

var start = time.Now()

// now is what passed since some moment, by the clock that -cpu chooses.
func now() time.Duration {
	if !*cpu {
		return time.Since(start)
	}
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_PROCESS_CPUTIME_ID, &t); err != nil {
		panic("BUG: " + err.Error())
	}
	return time.Duration(t.Nano())
}

func (r *result) once(new []byte) ([]byte, error) {
	if r.rewind != nil {
		if err := r.rewind(); err != nil {
			return nil, err
		}
	}
	return r.run(r.given(new))
}

// given is what a contender gets: who takes the bytes reads them into memory of
// its own, which is not part of the comparison.
func (c contender) given(new []byte) []byte {
	if c.owner {
		return withRoom(new)
	}
	return new
}

func (r *result) countAllocs(new []byte) float64 {
	const n = 5
	if r.best > *budget/10 {
		return -1
	}
	var before, after runtime.MemStats
	total := uint64(0)
	r.once(new) // warm: the rounds began with a collection, which empties pools
	for range n {
		if r.rewind != nil {
			r.rewind()
		}
		given := r.given(new)
		runtime.ReadMemStats(&before)
		r.run(given)
		runtime.ReadMemStats(&after)
		total += after.Mallocs - before.Mallocs
	}
	return float64(total) / n
}

// try runs a contender once in a process of its own, within the limit.
func try(name, oldFile, newFile string) (absent string) {
	ctx, cancel := context.WithTimeout(context.Background(), *limit)
	defer cancel()
	self, err := os.Executable()
	if err != nil {
		return err.Error()
	}
	out, err := exec.CommandContext(ctx, self, "-once", name, oldFile, newFile).CombinedOutput()
	switch {
	case ctx.Err() != nil:
		return "over " + limit.String()
	case err != nil:
		first, _, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
		return first
	}
	return ""
}

func runOnce(name, oldFile, newFile string) error {
	debug.SetMemoryLimit(2 << 30)
	old, err := os.ReadFile(oldFile)
	if err != nil {
		return err
	}
	new, err := os.ReadFile(newFile)
	if err != nil {
		return err
	}
	for _, c := range contenders() {
		if c.name == name {
			if strings.Contains(name, "LCS") && elements(new) > 6000 {
				return fmt.Errorf("left out: its table for LCS would take gigabytes")
			}
			run, _ := c.start(old)
			_, err := run(c.given(new))
			return err
		}
	}
	return fmt.Errorf("no contender %q", name)
}

// elements is the number of elements of the root, if it is an array.
func elements(text []byte) int {
	var all []json.RawMessage
	json.Unmarshal(text, &all)
	return len(all)
}

func node(library, oldFile, newFile string, s shape) *result {
	r := &result{contender: contender{name: library}, node: true, allocs: -1}
	script := filepath.Join("node", "peers.mjs")
	if _, err := os.Stat(filepath.Join("node", "node_modules")); err != nil {
		r.absent = "not installed"
		return r
	}
	ctx, cancel := context.WithTimeout(context.Background(), *limit)
	defer cancel()
	out, err := exec.CommandContext(ctx, "node", script, library, oldFile, newFile, s.key, fmt.Sprint(budget.Milliseconds()/6)).Output()
	if ctx.Err() != nil {
		r.absent = "over " + limit.String()
		return r
	}
	if err != nil {
		r.absent = err.Error()
		return r
	}
	head, patch, _ := strings.Cut(string(out), "\n")
	var times struct{ Best, Median time.Duration }
	if err := json.Unmarshal([]byte(head), &times); err != nil {
		r.absent = err.Error()
		return r
	}
	r.best, r.median, r.patch = times.Best, times.Median, []byte(strings.TrimSpace(patch))
	r.wrong = wrongPatch(s.old, s.new, r.patch, false)
	return r
}
