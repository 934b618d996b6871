// Package jsondiff computes and applies the difference between two JSON texts:
// RFC 6902 JSON Patch and RFC 7396 JSON Merge Patch, on RFC 6901 pointers.
//
// It is exact: numbers stay as they are written, to the last digit and beyond
// what a float64 holds, and Apply(old, Diff(old, new)) equals new for every
// pair of texts. White space, the order of members and the way in which strings
// are escaped are no differences.
package jsondiff
