//go:build goexperiment.jsonv2

package jsondiff_test

import (
	"encoding/json/jsontext"
	"fmt"

	"github.com/pollsse/caddy-poll-sse/jsondiff"
)

// GOEXPERIMENT=jsonv2 go test -run JSONText ./jsondiff
func ExampleDiff_jsontext() {
	old, new := jsontext.Value(`{"a":1}`), jsontext.Value(`{"a":2}`)
	patch, _ := jsondiff.Diff(old, new)
	fmt.Println(jsontext.Value(patch).IsValid(), string(patch))
	// Output: true [{"op":"replace","path":"/a","value":2}]
}
