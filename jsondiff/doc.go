// Package jsondiff compares JSON texts and writes what changed as a JSON Patch
// (RFC 6902) or a JSON Merge Patch (RFC 7396), and applies both. It works on
// bytes and offsets, never on decoded values, so that every number literal
// reaches the patch as it was written: 12345678901234567890, 0.1000 and 1E400
// stay themselves.
//
// [Diff] compares two texts. A [Differ] retains one document and compares the
// next one with it, which takes a fraction of the time:
//
//	var d jsondiff.Differ
//	d.Next(body)                  // First
//	change, err := d.Next(body2)  // Changed, with the patch
//
// Texts are of type []byte, and of any type like it: json.RawMessage and
// jsontext.Value can be given as they are. For Go values there is [DiffValues].
//
// # What is a change
//
// White space, the order of an object's members and the spelling of strings
// ("\u0041" and "A") are not changes, on whatever level. Number literals are
// compared as written, so 1 and 1.0 differ, unless [Options.NumbersByValue] says
// otherwise. If an object has a name more than once, the last member counts and
// the others are as good as absent. That two documents are the same is told
// exactly, whatever the limits.
//
// # Arrays
//
// Elements are matched by the member that [Options.Identify] names, else by a
// member that every element has with distinct scalar values, else by content.
// Elements that changed places are moved. A container is replaced whole if that
// is smaller than its operations.
//
// # Bounds
//
// Nesting, size and the search for a small patch are bounded by [Limits]. A
// search that reaches its bound makes the patch larger, never wrong. A patch of
// [Diff] without tests is never larger than the document without its white
// space, and the 37 bytes that replace it as a whole.
package jsondiff
