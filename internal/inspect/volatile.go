package inspect

import (
	"cmp"
	"maps"
	"math"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Volatile is a member that changes although nothing changes that a page shows.
type Volatile struct {
	Path    string `json:"path"`              // pattern for omit or ignore
	Kind    string `json:"kind"`              // time, identifier, duration, or number and other for what may matter
	Changed int    `json:"changed"`           // how many comparisons it changed in
	Alone   int    `json:"alone"`             // how many of these changed nothing but volatile members
	Of      int    `json:"of"`                // comparisons of two answers that brought a document
	Advice  string `json:"advice,omitempty"`  // omit, ignore, or empty if it may be what pages show
	Example string `json:"example,omitempty"` // its last value
}

// Kinds of volatile members.
const (
	kindTime       = "time"       // that goes forward
	kindIdentifier = "identifier" // a new one each time
	kindDuration   = "duration"   // by its name
	kindNumber     = "number"
	kindOther      = "other"
)

// minComparisons is the least comparisons that it takes to call a member
// volatile.
const minComparisons = 3

// maxVolatile is the most members that are listed.
const maxVolatile = 12

// scalarStudy is what is known of one scalar, or of those at one place in all
// items of a list.
type scalarStudy struct {
	instances  int // changes
	comparison int // the last one that it changed in
	changed    int // comparisons that it changed in
	times      int // changes that look like a time that goes forward
	tokens     int // changes that look like a new identifier
	numbers    int
	shape      bool // it, or what is around it, comes and goes
	example    any
}

// volatiles gathers what changes from version to version.
type volatiles struct {
	comparisons int
	now         time.Time // of the answer that is looked at
	scalars     map[string]*scalarStudy
	wholes      []map[string]bool // of each comparison, the patterns that have changed
	groups      map[string]group  // by the patterns in it
}

func newVolatiles() *volatiles {
	return &volatiles{scalars: make(map[string]*scalarStudy), groups: make(map[string]group)}
}

// same counts an answer with the document of the one before.
func (v *volatiles) same() {
	v.comparisons++
	v.wholes = append(v.wholes, nil)
}

// differ compares an answer with the one before. It came at this time.
func (v *volatiles) differ(old, new any, at time.Time, keys map[string]string) {
	v.comparisons++
	v.now = at
	c := comparison{keys: keys, seen: v}
	v.wholes = append(v.wholes, c.compare(old, new, nil))
	for _, g := range c.groups {
		id := strings.Join(g.own, "\n") + "\n\n" + strings.Join(slices.Sorted(maps.Keys(g.below)), "\n")
		if len(v.groups) < maxGroups {
			v.groups[id] = g
		}
	}
}

// maxGroups is the most different combinations of changes that are kept.
const maxGroups = 10_000

func (v *volatiles) study(at string) *scalarStudy {
	s := v.scalars[at]
	if s == nil {
		s = new(scalarStudy)
		v.scalars[at] = s
	}
	if s.comparison != v.comparisons {
		s.comparison = v.comparisons
		s.changed++
	}
	return s
}

func (v *volatiles) changedScalar(at string, old, new any) {
	s := v.study(at)
	s.instances++
	s.example = new
	if laterTime(old, new, v.now) {
		s.times++
	}
	if freshIdentifier(old, new) {
		s.tokens++
	}
	if _, ok := number(new); ok {
		s.numbers++
	}
}

func (v *volatiles) changedShape(at string) { v.study(at).shape = true }

// kind returns what a scalar is. volatile is false if it may be what a page
// shows.
func (s *scalarStudy) kind(at string) (kind string, volatile bool) {
	switch {
	case s.shape || s.instances == 0:
		return kindOther, false
	case s.times == s.instances:
		return kindTime, true
	case s.tokens == s.instances:
		return kindIdentifier, true
	case s.numbers == s.instances:
		if durationName.MatchString(at[strings.LastIndexByte(at, '/')+1:]) {
			return kindDuration, true
		}
		return kindNumber, false
	}
	return kindOther, false
}

// found judges the members that change, those with an advice first.
func (v *volatiles) found() []Volatile {
	if v.comparisons < minComparisons {
		return nil
	}
	isVolatile := make(map[string]bool)
	for at, s := range v.scalars {
		_, isVolatile[at] = s.kind(at)
	}
	only := func(set map[string]bool) bool {
		for at := range set {
			if !isVolatile[at] {
				return false
			}
		}
		return len(set) > 0
	}
	independent := make(map[string]bool) // changes when nothing else does
	for _, g := range v.groups {
		if only(g.below) {
			for _, at := range g.own {
				independent[at] = true
			}
		}
	}
	var out []Volatile
	for at, s := range v.scalars {
		kind, volatile := s.kind(at)
		one := Volatile{Path: at, Kind: kind, Changed: s.changed, Of: v.comparisons}
		if text, ok := scalar(s.example); ok {
			one.Example = clip(text[1:])
		}
		for _, whole := range v.wholes {
			if whole[at] && (only(whole) || len(whole) == 1) {
				one.Alone++
			}
		}
		always := s.changed == v.comparisons
		switch {
		case volatile && always && (independent[at] || kind == kindIdentifier):
			one.Advice = "omit"
		case volatile && one.Alone > 0:
			one.Advice = "ignore"
		case s.shape || s.instances == 0 || !always || one.Alone == 0:
			continue
		}
		out = append(out, one)
	}
	out = mergeNames(out)
	slices.SortFunc(out, func(a, b Volatile) int {
		return cmp.Or(-cmp.Compare(a.Advice, b.Advice), -cmp.Compare(a.Changed, b.Changed), cmp.Compare(a.Path, b.Path))
	})
	return out[:min(len(out), maxVolatile)]
}

// mergeNames replaces three or more patterns that differ in one token with one,
// such as /nodes/a/time, /nodes/b/time and /nodes/c/time.
func mergeNames(list []Volatile) []Volatile {
	for level := 1; ; level++ {
		groups := make(map[string][]int)
		deep := false
		for i, v := range list {
			tokens := strings.Split(v.Path, "/")
			if level >= len(tokens)-1 {
				continue
			}
			deep = true
			if tokens[level] != anyItem && v.Advice != "" {
				tokens[level] = anyItem
				groups[v.Advice+strings.Join(tokens, "/")] = append(groups[v.Advice+strings.Join(tokens, "/")], i)
			}
		}
		if !deep {
			return list
		}
		drop := make(map[int]bool)
		for _, members := range groups {
			if len(members) < 3 {
				continue
			}
			first := &list[members[0]]
			tokens := strings.Split(first.Path, "/")
			tokens[level] = anyItem
			first.Path = strings.Join(tokens, "/")
			for _, i := range members[1:] {
				first.Changed, first.Alone = max(first.Changed, list[i].Changed), max(first.Alone, list[i].Alone)
				drop[i] = true
			}
		}
		kept := list[:0:0]
		for i, v := range list {
			if !drop[i] {
				kept = append(kept, v)
			}
		}
		list = kept
	}
}

// durationName matches the names of members that say how long something took,
// or has been running.
var durationName = regexp.MustCompile(`(?i)(^|_)(took|elapsed|duration|latency|uptime|runtime|age)($|_)|(Time|Ms|Millis|Seconds|Duration|Elapsed|Uptime|Latency)$|_(ms|us|ns|secs|seconds|time)$|^uptime`)

// laterTime reports whether both values are times and the second is later.
func laterTime(old, new any, now time.Time) bool {
	o, ok := asTime(old, now)
	if !ok {
		return false
	}
	n, ok := asTime(new, now)
	return ok && n.After(o)
}

var timeLayouts = []string{
	time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02T15:04:05.999999999Z0700", "2006-01-02 15:04:05.999999999", "2006-01-02 15:04:05.999999999 MST",
	"2006-01-02 15:04:05.999999999Z07:00", "2006-01-02 15:04:05 -0700", time.RFC1123, time.RFC1123Z, time.RFC850, time.ANSIC, time.UnixDate, "2006-01-02T15:04Z07:00", "2006-01-02 15:04",
	"01/02/2006 15:04:05", "02.01.2006 15:04:05", "15:04:05",
}

// asTime reads a time as APIs write them: a date with a time of day, or
// seconds, milliseconds, microseconds or nanoseconds since 1970. A number is
// one only within two years of now: a counter of bytes has ten digits, too.
func asTime(v any, now time.Time) (time.Time, bool) {
	if s, ok := v.(string); ok {
		if len(s) < 5 || len(s) > 48 {
			return time.Time{}, false
		}
		for _, layout := range timeLayouts {
			if t, err := time.Parse(layout, s); err == nil {
				return t, true
			}
		}
		return time.Time{}, false
	}
	f, ok := number(v)
	if !ok {
		return time.Time{}, false
	}
	for _, unit := range []float64{1, 1e3, 1e6, 1e9} {
		if s := f / unit; math.Abs(s-float64(now.Unix())) < 2*365*24*3600 {
			return time.Unix(0, int64(s*1e9)), true
		}
	}
	return time.Time{}, false
}

var identifierText = regexp.MustCompile(`^[{(]?[0-9A-Za-z_+/=.:-]{16,256}[)}]?$`)

// freshIdentifier reports whether both values look random and have little in
// common.
func freshIdentifier(old, new any) bool {
	o, ok1 := old.(string)
	n, ok2 := new.(string)
	if !ok1 || !ok2 || !identifierText.MatchString(o) || !identifierText.MatchString(n) || !strings.ContainsAny(n, "0123456789") {
		return false
	}
	if _, isTime := asTime(new, time.Time{}); isTime || strings.Contains(n, "://") {
		return false
	}
	same := 0
	for i := range min(len(o), len(n)) {
		if o[i] == n[i] {
			same++
		}
	}
	return 2*same <= len(n)
}
