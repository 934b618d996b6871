package pollsse

import (
	"errors"
	"fmt"

	"github.com/pollsse/caddy-poll-sse/jsondiff"
)

// filterSettings say which part of the upstream's document is published, and
// how two versions of it are compared. They are part of a source's key.
type filterSettings struct {
	Select   string   // pointer
	Omit     []string // patterns
	Ignore   []string // patterns
	Identify []identity
}

// identity is the member by which the items of the lists at a pattern are
// known.
type identity struct{ pattern, member string }

// filter is what the settings say, parsed. The zero value leaves a document as
// it is.
type filter struct {
	pointer jsondiff.Pointer
	omit    []jsondiff.Pattern
	options jsondiff.Options
}

// parse reports everything that is wrong with the settings.
func (s filterSettings) parse() (filter, error) {
	var f filter
	var errs []error
	pattern := func(option, text string) jsondiff.Pattern {
		p, err := jsondiff.ParsePattern(text)
		switch {
		case err != nil:
			errs = append(errs, fmt.Errorf("%s: %w", option, err))
		case p.Len() == 0 && option != "identify":
			errs = append(errs, fmt.Errorf(`%s "": nothing would be left of the document`, option))
		}
		return p
	}
	var err error
	if f.pointer, err = jsondiff.ParsePointer(s.Select); err != nil {
		errs = append(errs, fmt.Errorf("select: %w", err))
	}
	for _, text := range s.Omit {
		f.omit = append(f.omit, pattern("omit", text))
	}
	for _, text := range s.Ignore {
		f.options.Ignore = append(f.options.Ignore, pattern("ignore", text))
	}
	for _, id := range s.Identify {
		f.options.Identify = append(f.options.Identify, jsondiff.Identity{Pattern: pattern("identify", id.pattern), Member: id.member})
		if id.member == "" {
			errs = append(errs, fmt.Errorf("identify %s: need the member that tells the items apart", id.pattern))
		}
	}
	return f, errors.Join(errs...)
}

// apply gives the part of a document that is published: what select points
// to, without what omit names. The patterns of omit, ignore and identify are
// held against what was selected.
func (f filter) apply(text []byte) ([]byte, error) {
	var err error
	if len(f.pointer) > 0 {
		if text, err = jsondiff.Select(text, f.pointer); err != nil {
			return nil, fmt.Errorf("select: %w", err)
		}
	}
	if len(f.omit) > 0 {
		if text, err = jsondiff.Omit(text, f.omit); err != nil {
			return nil, fmt.Errorf("omit: %w", err)
		}
	}
	return text, nil
}
