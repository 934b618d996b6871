package main

import (
	"bytes"
	"fmt"
	"math"
	"strings"
	"time"
)

type row struct {
	shape
	results  []*result
	retained int // bytes a Differ holds after both documents
}

// pick gives the contender that is best among those that count, or nil.
func (r row) pick(counts func(*result) bool, less func(a, b *result) bool) *result {
	var best *result
	for _, c := range r.results {
		if c.exact() && !c.ours && !c.merge && counts(c) && (best == nil || less(c, best)) {
			best = c
		}
	}
	return best
}

func (r row) ours() *result { return r.results[0] }

func faster(a, b *result) bool  { return a.best < b.best }
func smaller(a, b *result) bool { return len(a.patch) < len(b.patch) }

func summary(all []row) {
	fmt.Print("## Shapes\n\n" +
		"Best of many runs; the goal in brackets, where the issue sets one. " +
		"\"Best peer\" is the fastest exact Go library, \"same quality\" the fastest whose patch is at most 1.25 times as large, " +
		"\"smallest\" the exact peer with the smallest patch, Node's included.\n\n" +
		"| shape | document | time (median) | allocs | patch | of document | best peer | times as fast | same quality | times as fast | smallest | patch / smallest | retained / document |\n" +
		"|---|--:|--:|--:|--:|--:|---|--:|---|--:|---|--:|--:|\n")
	var every, changed, alike mean
	for _, r := range all {
		us := r.ours()
		peer := r.pick(func(c *result) bool { return !c.node }, faster)
		same := r.pick(func(c *result) bool { return !c.node && float64(len(c.patch)) <= 1.25*float64(len(us.patch)) }, faster)
		least := r.pick(func(c *result) bool { return true }, smaller)
		fmt.Printf("| %s | %s | %s (%s) | %s | %d | %.2f %% | %s | %s | %s | %.2f |\n",
			r.name, size(len(r.new)), span(us.best), span(us.median), count(us.allocs), len(us.patch),
			100*float64(len(us.patch))/float64(len(r.new)),
			against(us, peer, r.goal), against(us, same, r.quality), patchAgainst(us, least), float64(r.retained)/float64(len(r.new)))
		if peer != nil {
			every.add(ratio(us, peer))
		}
		if bytes.Equal(r.old, r.new) {
			continue // a peer compares bytes, too
		}
		if peer != nil {
			changed.add(ratio(us, peer))
		}
		if same != nil {
			alike.add(ratio(us, same))
		}
	}
	fmt.Printf("\nTimes as fast as the best peer, geometric means: %s; where the bytes differ %s; and there as the fastest of the same quality %s.\n\n", every, changed, alike)
}

// mean is a geometric mean.
type mean struct {
	logs float64
	n    int
}

func (m *mean) add(v float64) {
	m.logs += math.Log(v)
	m.n++
}

func (m mean) String() string {
	if m.n == 0 {
		return "none"
	}
	return fmt.Sprintf("%.1f (%d shapes)", math.Exp(m.logs/float64(m.n)), m.n)
}

func ratio(us, peer *result) float64 { return float64(peer.best) / float64(us.best) }

func against(us, peer *result, goal float64) string {
	if peer == nil {
		return "none | "
	}
	s := fmt.Sprintf("%s %s | **%s**", peer.name, span(peer.best), short(ratio(us, peer)))
	if goal > 0 {
		mark := ""
		if ratio(us, peer) < goal {
			mark = " missed"
		}
		s += fmt.Sprintf(" (%s%s)", short(goal), mark)
	}
	return s
}

func patchAgainst(us, least *result) string {
	if least == nil {
		return "none | "
	}
	return fmt.Sprintf("%s %d | %.3f", least.name, len(least.patch), float64(len(us.patch))/float64(len(least.patch)))
}

func merges(all []row) {
	fmt.Print("## Merge patches\n\nBoth decode or parse both documents.\n\n" +
		"| shape | jsondiff.MergeDiff | allocs | patch | evanphx/json-patch | allocs | patch | exact | times as fast |\n|---|--:|--:|--:|--:|--:|--:|---|--:|\n")
	for _, r := range all {
		var us, peer *result
		for _, c := range r.results {
			if c.merge && c.ours {
				us = c
			} else if c.merge {
				peer = c
			}
		}
		if us.absent != "" {
			fmt.Printf("| %s | %s | | | | | | | |\n", r.name, us.absent)
			continue
		}
		if peer.absent != "" {
			fmt.Printf("| %s | %s | %s | %d | %s | | | | |\n", r.name, span(us.best), count(us.allocs), len(us.patch), peer.absent)
			continue
		}
		fmt.Printf("| %s | %s | %s | %d | %s | %s | %d | %s | %s |\n", r.name, span(us.best), count(us.allocs), len(us.patch),
			span(peer.best), count(peer.allocs), len(peer.patch), verdict(peer), short(ratio(us, peer)))
	}
	fmt.Println()
}

func details(all []row) {
	fmt.Print("## Everybody\n\nTime (best), allocations, patch bytes. A patch is exact where the judge of `internal/judge` gets the new document from it.\n\n")
	for _, r := range all {
		fmt.Printf("### %s\n\n%d bytes to %d bytes.\n\n| | best | median | allocs | patch | exact |\n|---|--:|--:|--:|--:|---|\n", r.name, len(r.old), len(r.new))
		for _, c := range r.results {
			if c.merge {
				continue
			}
			if c.absent != "" {
				fmt.Printf("| %s | | | | | %s |\n", c.name, c.absent)
				continue
			}
			fmt.Printf("| %s | %s | %s | %s | %d | %s |\n", c.name, span(c.best), span(c.median), count(c.allocs), len(c.patch), verdict(c))
		}
		fmt.Println()
	}
}

func verdict(c *result) string {
	if c.wrong != nil {
		return "no: " + strings.ReplaceAll(c.wrong.Error(), "|", "\\|")
	}
	return "yes"
}

func count(n float64) string {
	if n < 0 {
		return ""
	}
	return fmt.Sprintf("%.0f", n)
}

func short(x float64) string {
	if x >= 100 {
		return fmt.Sprintf("%.0fx", x)
	}
	return fmt.Sprintf("%.1fx", x)
}

func span(d time.Duration) string {
	switch us := float64(d) / 1000; {
	case us < 100:
		return fmt.Sprintf("%.2f µs", us)
	case us < 10_000:
		return fmt.Sprintf("%.0f µs", us)
	default:
		return fmt.Sprintf("%.1f ms", us/1000)
	}
}

func size(n int) string {
	if n < 1_000_000 {
		return fmt.Sprintf("%.1f KB", float64(n)/1000)
	}
	return fmt.Sprintf("%.2f MB", float64(n)/1e6)
}
