package judge

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Page is what a page makes of the events of a stream: a document and its
// version. The zero Page has none.
type Page struct {
	// Doc is the document, as Parse returns it; nil without ID.
	Doc any
	// ID is the version of Doc: the last event id.
	ID string
}

// Apply takes one event: snapshot, patch and merge change the document, an id
// alone is kept, any other changes nothing. A patch must be what the protocol
// promises: operations without unknown members, at least one, of the four kinds
// that it names.
func (p *Page) Apply(e Event) error {
	var err error
	switch e.Name {
	case "snapshot":
		p.Doc, err = Parse([]byte(e.Data))
	case "patch", "merge":
		if p.ID == "" {
			err = errors.New("there is no document that it could change")
		} else if e.Name == "patch" {
			if err = checkSent([]byte(e.Data)); err == nil {
				p.Doc, err = ApplyPatch(p.Doc, []byte(e.Data))
			}
		} else {
			var patch any
			if patch, err = Parse([]byte(e.Data)); err == nil {
				p.Doc = ApplyMerge(p.Doc, patch)
			}
		}
	case "":
		if e.ID != "" {
			p.ID = e.ID
		}
		return nil
	default:
		return nil
	}
	if err != nil {
		return fmt.Errorf("event %s %s after %s: %w: %.300s", e.Name, e.ID, p.ID, err, e.Data)
	}
	p.ID = e.ID
	return nil
}

// checkSent reports whether a patch is one that the module may send: less than
// what RFC 6902 allows.
func checkSent(patch []byte) error {
	list, err := Parse(patch)
	if err != nil {
		return err
	}
	operations, _ := list.([]any)
	if len(operations) == 0 {
		return errors.New("not a list of operations")
	}
	members := map[string]string{"add": "value", "replace": "value", "remove": "", "move": "from"}
	for i, o := range operations {
		operation, _ := o.(map[string]any)
		op, _ := operation["op"].(string)
		third, known := members[op]
		if !known {
			return fmt.Errorf("operation %d is %q", i, op)
		}
		for name := range operation {
			if name != "op" && name != "path" && name != third {
				return fmt.Errorf("operation %d (%s) has the member %q", i, op, name)
			}
		}
	}
	return nil
}

// Status is what a status event says.
type Status struct {
	State  string `json:"state"`
	Since  string `json:"since"` // RFC 3339, when the state began
	Reason string `json:"reason"`
	// Validated is when the upstream last confirmed the document.
	Validated string `json:"validated"`
}

// states and reasons are those that docs/protocol.md lists.
var (
	states  = strings.Fields("waiting live stale denied refused")
	reasons = strings.Fields(`late unreachable tls timeout redirect status rate_limited empty truncated too_large not_json
		too_deep encoding unauthorized forbidden no_match pages credentials paused event_stream sets_cookie private not_forwarded varies
		too_many_streams too_many_documents too_many_of_client`)
)

// ParseStatus reads the data of a status event and refuses what
// docs/protocol.md does not know.
func ParseStatus(data string) (Status, error) {
	var s Status
	d := json.NewDecoder(strings.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&s); err != nil {
		return s, fmt.Errorf("status %q: %w", data, err)
	}
	if !slices.Contains(states, s.State) || s.Reason != "" && !slices.Contains(reasons, s.Reason) {
		return s, fmt.Errorf("status %q: state or reason is not one of those documented", data)
	}
	if s.State == "live" && s.Reason != "" || s.State == "stale" && s.Reason == "" {
		return s, fmt.Errorf("status %q: stale needs a reason, and live has none", data)
	}
	if _, err := time.Parse(time.RFC3339, s.Since); err != nil {
		return s, fmt.Errorf("status %q: %w", data, err)
	}
	if _, err := time.Parse(time.RFC3339, s.Validated); s.Validated != "" && err != nil {
		return s, fmt.Errorf("status %q: %w", data, err)
	}
	return s, nil
}
