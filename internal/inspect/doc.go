// Package inspect looks at a JSON API, or at a poll_sse stream, from outside
// and says what to write into the configuration, or what is wrong on the way.
//
// [Analyse] works on answers that were kept, [Poll] collects them, and
// [CheckStream] reads a stream.
package inspect
