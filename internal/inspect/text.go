package inspect

import (
	"fmt"
	"io"
	"strconv"
	"strings"
)

// WriteText writes a report for people.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	fmt.Fprintln(&b, r.URL)
	if r.Reason != "" {
		fmt.Fprintf(&b, "  no document in %d polls: %s", r.Polls, r.Reason)
		if r.Detail != "" {
			fmt.Fprintf(&b, " (%s)", r.Detail)
		}
		fmt.Fprintln(&b)
		if r.Hint != "" {
			fmt.Fprintf(&b, "  %s\n", r.Hint)
		}
		_, err := io.WriteString(w, b.String())
		return err
	}
	a, c, s := r.Answer, r.Changes, r.Savings
	coding := ""
	if a.Coding != "" {
		coding = ", " + a.Coding
	}
	fmt.Fprintf(&b, "  %d  %s   %s%s, %s on the wire   %s (p95 %s)\n", a.Status, a.ContentType, bytesText(float64(a.DocumentBytes)), coding, bytesText(float64(a.ReceivedBytes)), seconds(a.MedianSeconds), seconds(a.P95Seconds))
	fmt.Fprintf(&b, "  %s", r.Validators.text(r.Polls))
	if a.Fresh > 0 {
		fmt.Fprintf(&b, "   max-age %s", seconds(a.Fresh))
	}
	fmt.Fprintf(&b, "\n  %d polls in %s, %s", r.Polls, seconds(r.Seconds), count(c.Count, "change"))
	if c.Published < c.Count {
		fmt.Fprintf(&b, ", %d of them more than what is volatile", c.Published)
	}
	if c.Mean > 0 {
		fmt.Fprintf(&b, "\n  one every %s, at least %s and at most %s apart, as far as polls every %s can tell", seconds(c.Mean), seconds(c.Shortest), seconds(c.Longest), seconds(s.Interval))
	}
	fmt.Fprint(&b, "\n\n")

	fmt.Fprintf(&b, "%-28s %10s %10s\n", "CHANGES, advice followed", "median", "largest")
	row := func(name string, s Size, note string) {
		if s.Largest > 0 {
			fmt.Fprintf(&b, "  %-26s %10s %10s%s\n", name, bytesText(float64(s.Median)), bytesText(float64(s.Largest)), note)
		}
	}
	row("document", c.Document, "")
	note := ""
	if c.Document.Median > 0 {
		note = fmt.Sprintf("   (%.1f %%)", 100*float64(c.Event.Median)/float64(c.Document.Median))
	}
	row("event", c.Event, note)
	row("event, gzip", c.Gzip, "")
	if c.Patches < c.Published {
		fmt.Fprintf(&b, "  %d of %d are sent as the whole document\n", c.Published-c.Patches, c.Published)
	}

	section := func(name string) func(format string, args ...any) {
		head := fmt.Sprintf("\n%-11s", name)
		return func(format string, args ...any) {
			b.WriteString(head + strings.TrimRight(fmt.Sprintf(format, args...), " ") + "\n")
			head = fmt.Sprintf("%-11s", "")
		}
	}
	line := section("VOLATILE")
	for _, v := range r.Volatile {
		how := fmt.Sprintf("in %d of %d answers", v.Changed, v.Of)
		if v.Changed == v.Of {
			how = "in every answer"
		}
		if v.Alone > 0 {
			how += fmt.Sprintf(", alone in %d", v.Alone)
		}
		advice := v.Advice
		if advice == "" {
			advice = "omit, if pages do not need it"
		}
		line("%-24s %-10s %s  -> %s", v.Path, v.Kind, how, advice)
	}
	line = section("LISTS")
	for _, l := range r.Lists {
		text := "no member is different in all items"
		switch {
		case l.Identify != "":
			text = fmt.Sprintf("patches take %s by %q, %s without  -> identify", bytesText(float64(l.IdentifyBytes)), l.Identify, bytesText(float64(l.PatchBytes)))
		case len(l.Keys) > 0:
			text = fmt.Sprintf("items have the key %q; nothing to write", l.Keys[0])
		}
		line("%-24s %5d items  %s", orRoot(l.Path), l.Items, text)
	}
	line = section("NUMBERS")
	for _, n := range r.Numbers {
		line("%-24s %s becomes %s in JSON.parse", orRoot(n.Path), n.Example, n.Becomes)
	}

	fmt.Fprintf(&b, "\n%-11sby %d readers at %s\n", "SAVED", s.Readers, seconds(s.Interval))
	fmt.Fprintf(&b, "  %-34s %14s %14s\n", "", "requests/s", "bytes/s")
	fmt.Fprintf(&b, "  %-34s %14s %14s\n", "polling", rate(s.PollingRequests), bytesText(s.PollingBytes))
	fmt.Fprintf(&b, "  %-34s %14s %14s\n", "polling, conditional", rate(s.PollingRequests), bytesText(s.ValidatedBytes))
	fmt.Fprintf(&b, "  %-34s %14s %14s\n", "poll_sse, requests to the API", rate(s.UpstreamRequests), "")
	fmt.Fprintf(&b, "  %-34s %14s %14s\n", "poll_sse, streams with gzip", "", bytesText(s.StreamBytes))
	fmt.Fprintf(&b, "  %-34s %14s %14s\n", "poll_sse, streams without", "", bytesText(s.StreamPlainBytes))
	fmt.Fprintf(&b, "  each reader gets %s once, to begin with\n", bytesText(float64(s.OpeningBytes)))

	line = section("NOTES")
	for _, n := range r.Notes {
		line("%s", n)
	}
	fmt.Fprintf(&b, "\n%s", r.Caddyfile)
	_, err := io.WriteString(w, b.String())
	return err
}

func orRoot(path string) string {
	if path == "" {
		return "(whole document)"
	}
	return path
}

func (v *Validators) text(polls int) string {
	name := "no ETag"
	switch {
	case v.ETag != "none":
		name = "ETag " + v.ETag
	case v.LastModified:
		name = "Last-Modified"
	}
	switch v.State {
	case "wrong":
		return fmt.Sprintf("%s, wrong: %d of %d 304s came although the document was another, as at %s", name, v.Wrong, v.NotModified, orRoot(v.WrongAt))
	case "none":
		return "no ETag and no Last-Modified: each poll brings the whole document"
	case "honoured":
		text := fmt.Sprintf("%s, honoured: %d of %d polls were 304", name, v.NotModified, polls)
		if v.Renewed > 0 {
			text += fmt.Sprintf("; %d had another for the same document", v.Renewed)
		}
		if v.Checked > 0 {
			text += fmt.Sprintf("; checked %s without a condition", times(v.Checked))
		}
		return text
	case "renewed":
		return fmt.Sprintf("%s, of no use: %d of %d polls brought another for the same document", name, v.Renewed, polls)
	case "partly":
		return fmt.Sprintf("%s, honoured in part: %d of %d polls were 304, and %d brought the same again", name, v.NotModified, polls, v.Repeated)
	case "ignored":
		return fmt.Sprintf("%s, not honoured: no 304, and %d of %d polls brought the same again", name, v.Repeated, polls)
	}
	return name + "; whether it is honoured is not known, as each answer was new"
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return strconv.Itoa(n) + " " + what + "s"
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return strconv.Itoa(n) + " times"
}

// seconds writes a duration in seconds for people.
func seconds(s float64) string {
	switch {
	case s < 0.001:
		return "< 1 ms"
	case s < 1:
		return strconv.FormatFloat(s*1000, 'f', 0, 64) + " ms"
	case s < 120:
		return strings.TrimSuffix(strconv.FormatFloat(s, 'f', 1, 64), ".0") + " s"
	}
	return strings.TrimSuffix(strconv.FormatFloat(s/60, 'f', 1, 64), ".0") + " min"
}

func rate(perSecond float64) string { return strconv.FormatFloat(perSecond, 'g', 3, 64) }

// bytesText writes a size for people.
func bytesText(n float64) string {
	unit := "B"
	for _, next := range []string{"KiB", "MiB", "GiB"} {
		if n < 1024 {
			break
		}
		n, unit = n/1024, next
	}
	if unit == "B" {
		return strconv.FormatFloat(n, 'f', 0, 64) + " B"
	}
	return strconv.FormatFloat(n, 'f', 1, 64) + " " + unit
}
