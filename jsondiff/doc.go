// Package jsondiff compares JSON texts and writes what changed as a JSON Patch
// (RFC 6902). It works on bytes and offsets, never on decoded values, so that
// every number literal reaches the patch as it was written: 12345678901234567890,
// 0.1000 and 1E400 stay themselves.
//
// A [Differ] retains one document and compares the next one with it:
//
//	d := jsondiff.NewDiffer(jsondiff.Options{})
//	d.Next(body)                  // First
//	change, err := d.Next(body2)  // Changed, with the patch
//
// # What is a change
//
// White space, the order of an object's members and the spelling of strings
// ("\u0041" and "A") are not changes. Number literals are compared as written,
// so 1 and 1.0 differ. Where an object has a name more than once, the last
// member counts and the others are as good as absent.
//
// # Arrays
//
// Elements are matched by the member that [Options.Identify] names, else by a
// member that every element has with distinct scalar values, else by content.
// Elements that changed places are moved. A container is replaced whole where
// that is smaller than its operations.
//
// # Bounds
//
// Nesting, size and the search for a small patch are bounded by [Limits]. A
// search that reaches its bound makes the patch larger, never wrong.
package jsondiff
