package pollsse

import (
	"errors"
	"fmt"

	"github.com/pollsse/caddy-poll-sse/jsondiff"
)

// filter is which part of the upstream's document is published, and how two
// versions of it are compared. The zero value leaves a document as it is.
type filter struct {
	pointer jsondiff.Pointer
	omit    []jsondiff.Pattern
	options jsondiff.Options
}

// filter parses select, omit, ignore and identify, and reports everything that
// is wrong with them.
func (r Reading) filter() (filter, error) {
	var f filter
	var errs []error
	pattern := func(option, text string) jsondiff.Pattern {
		p, err := jsondiff.ParsePattern(text)
		switch {
		case err != nil:
			errs = append(errs, pointerError(option, text, err))
		case p.Len() == 0 && option != "identify":
			errs = append(errs, fmt.Errorf(`%s "": nothing would be left of the document`, option))
		}
		return p
	}
	var err error
	if f.pointer, err = jsondiff.ParsePointer(r.Select); err != nil {
		errs = append(errs, pointerError("select", r.Select, err))
	}
	for _, text := range r.Omit {
		f.omit = append(f.omit, pattern("omit", text))
	}
	for _, text := range r.Ignore {
		f.options.Ignore = append(f.options.Ignore, pattern("ignore", text))
	}
	for _, id := range r.Identify {
		f.options.Identify = append(f.options.Identify, jsondiff.Identity{Pattern: pattern("identify", id.Pattern), Member: id.Member})
		if id.Member == "" {
			errs = append(errs, fmt.Errorf("identify %s: need the member that tells the items apart", id.Pattern))
		}
	}
	return f, errors.Join(errs...)
}

// selects reports whether less than the whole document is published.
func (f filter) selects() bool { return len(f.pointer) > 0 || len(f.omit) > 0 }

// apply returns the part of a document that is published: what select points
// to, without what omit names. The patterns of omit, ignore and identify begin
// at what was selected.
func (f filter) apply(text []byte) ([]byte, error) {
	var err error
	if len(f.pointer) > 0 {
		if text, err = jsondiff.Select(text, f.pointer); err != nil {
			return nil, fmt.Errorf("select: %w", withoutNames(err))
		}
	}
	if len(f.omit) > 0 {
		if text, err = jsondiff.Omit(text, f.omit); err != nil {
			return nil, fmt.Errorf("omit: %w", withoutNames(err))
		}
	}
	return text, nil
}
