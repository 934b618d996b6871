package main

import (
	"errors"
	"fmt"

	"github.com/pollsse/caddy-poll-sse/internal/judge"
)

// wrongPatch says why patch does not turn old into new, or nil. It compares
// numbers by value, which is kinder than jsondiff is to itself: a peer may write
// 1.5 for 1.50.
func wrongPatch(old, new, patch []byte, merge bool) error {
	doc, err := judge.Parse(old)
	if err != nil {
		return err
	}
	want, err := judge.Parse(new)
	if err != nil {
		return err
	}
	if merge {
		p, err := judge.Parse(patch)
		if err != nil {
			return fmt.Errorf("patch: %w", err)
		}
		doc = judge.ApplyMerge(doc, p)
	} else if doc, err = judge.ApplyPatch(doc, patch); err != nil {
		return err
	}
	if !judge.SameValue(doc, want) {
		return errors.New("another document")
	}
	return nil
}
