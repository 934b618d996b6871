package upstream

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/pollsse/caddy-poll-sse/jsondiff"
)

// MaxRead bounds the body of a POST that is taken for one that only reads, in
// bytes.
const MaxRead = 64 << 10

// Reads says which requests with a body only read: all whose body is a JSON
// object that has one of Values at Pointer, or all with a JSON body, if Pointer is
// empty. The zero value reads nothing.
type Reads struct {
	// The method: POST.
	Method string `json:"method,omitempty"`
	// A JSON Pointer to a member of the body, a string or a number.
	// Default: none, every JSON body only reads.
	Pointer string `json:"pointer,omitempty"`
	// The values of the member with which a request only reads.
	Values []string `json:"values,omitempty"`
}

// Check returns what is wrong with the configuration, if there is one.
func (r *Reads) Check() error {
	if r == nil {
		return nil
	}
	var errs []error
	if r.Method != http.MethodPost {
		errs = append(errs, fmt.Errorf("reads %s: need POST", r.Method))
	}
	if _, err := jsondiff.ParsePointer(r.Pointer); err != nil {
		errs = append(errs, fmt.Errorf("reads: %q is no JSON pointer to a member", r.Pointer))
	}
	if (r.Pointer == "") != (len(r.Values) == 0) {
		errs = append(errs, errors.New("reads: need a pointer and the values that only read, or neither, as in reads POST /method torrent-get"))
	}
	return errors.Join(errs...)
}

// Read is the body of a request that only reads.
type Read struct {
	// ContentType is the client's.
	ContentType string
	// Body is what the upstream is asked with: the client's, in which 1 or "1"
	// stands for the member that is echoed.
	Body string
	// Echo is that member's JSON text as the client wrote it; nil if there is
	// none.
	Echo []byte
}

// Match returns the read that a request's body is. It is none if servers may read
// the body in more than one way: a name twice in an object, or twice but for
// case, as some parsers do not tell them apart; a coding or a charset; a type
// that is not JSON's, so that it may be read as a form; anything behind the
// object.
func (r *Reads) Match(h http.Header, body []byte, echo string) (Read, bool) {
	none := Read{}
	contentType := h.Get("Content-Type")
	if len(h["Content-Type"]) != 1 || len(contentType) > 256 || h.Get("Content-Encoding") != "" || len(body) > MaxRead || !utf8.Valid(body) {
		return none, false
	}
	media, params, err := mime.ParseMediaType(contentType)
	charset, named := params["charset"]
	// Transmission's own page says json.
	if err != nil || !isJSONType(media) && media != "json" || named && !strings.EqualFold(charset, "utf-8") {
		return none, false
	}
	pointer, err := jsondiff.ParsePointer(r.Pointer)
	if err != nil {
		return none, false
	}
	echoed, err := jsondiff.ParsePointer(echo)
	if err != nil {
		return none, false
	}
	o := &object{text: body, json: json.NewDecoder(bytes.NewReader(body)), wanted: pointer, echoed: echoed}
	o.json.UseNumber()
	if first, err := o.json.Token(); err != nil || first != json.Delim('{') || o.members(place{}) != nil {
		return none, false
	}
	if _, err := o.json.Token(); err != io.EOF {
		return none, false
	}
	if len(pointer) > 0 && (!o.found || !slices.Contains(r.Values, o.value)) {
		return none, false
	}
	read := Read{ContentType: contentType, Body: string(body)}
	if len(echoed) == 0 || o.to == 0 {
		return read, true
	}
	stand := "1"
	read.Echo = bytes.Clone(body[o.from:o.to])
	switch c := read.Echo[0]; {
	case c == '"':
		stand = `"1"`
	case c != '-' && (c < '0' || c > '9'):
		return none, false // the upstream may treat it in a way of its own
	}
	read.Body = string(body[:o.from]) + stand + string(body[o.to:])
	return read, true
}

// Answer returns a document with the client's own member in the place of the one
// that stands for it, or nil if the document is the answer.
func (r Read) Answer(document []byte, echo string) []byte {
	if r.Echo == nil {
		return nil
	}
	pointer, err := jsondiff.ParsePointer(echo)
	if err != nil {
		return nil
	}
	path, err := json.Marshal(pointer.String())
	if err != nil {
		return nil
	}
	patch := fmt.Appendf(nil, `[{"op":"replace","path":%s,"value":%s}]`, path, r.Echo)
	if own, err := jsondiff.Apply(document, patch); err == nil {
		return own
	}
	return nil // it has no such member
}

// object is a JSON object that is looked through for two of its members.
type object struct {
	text           []byte
	json           *json.Decoder
	wanted, echoed jsondiff.Pointer

	found    bool
	value    string // of wanted, without quotes
	from, to int64  // where the text of echoed is; to is 0 if there is none
}

// place is where a value is: its depth, and how many tokens of each pointer lead
// to it, or -1 if it is not on the way.
type place struct{ depth, wanted, echoed int }

// below returns the place of a member or an item.
func (o *object) below(at place, name string) place {
	step := func(p jsondiff.Pointer, i int) int {
		if i >= 0 && i < len(p) && p[i] == name {
			return i + 1
		}
		return -1
	}
	return place{at.depth + 1, step(o.wanted, at.wanted), step(o.echoed, at.echoed)}
}

// maxReadDepth bounds the nesting of a body that only reads.
const maxReadDepth = 1000

var errAmbiguous = errors.New("ambiguous")

// members reads the rest of an object whose opening brace was read.
func (o *object) members(at place) error {
	names := make(map[string]struct{})
	for o.json.More() {
		name, err := o.json.Token()
		if err != nil {
			return err
		}
		folded := strings.ToLower(strings.ToUpper(name.(string)))
		if _, twice := names[folded]; twice {
			return errAmbiguous
		}
		names[folded] = struct{}{}
		if err := o.member(o.below(at, name.(string))); err != nil {
			return err
		}
	}
	_, err := o.json.Token()
	return err
}

// member reads a value.
func (o *object) member(at place) error {
	token, err := o.json.Token()
	switch {
	case err != nil:
		return err
	case at.depth > maxReadDepth:
		return errAmbiguous
	case token == json.Delim('{'):
		return o.members(at)
	case token == json.Delim('['):
		for i := 0; o.json.More(); i++ {
			if err := o.member(o.below(at, strconv.Itoa(i))); err != nil {
				return err
			}
		}
		_, err := o.json.Token()
		return err
	}
	if len(o.wanted) > 0 && at.wanted == len(o.wanted) {
		switch v := token.(type) {
		case string:
			o.found, o.value = true, v
		case json.Number:
			o.found, o.value = true, v.String()
		}
	}
	if len(o.echoed) > 0 && at.echoed == len(o.echoed) {
		o.to = o.json.InputOffset()
		o.from = o.to - int64(tokenLength(o.text[:o.to]))
	}
	return nil
}

// tokenLength returns how long the scalar is with which text ends.
func tokenLength(text []byte) int {
	i := len(text) - 1
	if text[i] != '"' {
		for i >= 0 && bytes.IndexByte([]byte(" \t\r\n:,[{"), text[i]) < 0 {
			i--
		}
		return len(text) - 1 - i
	}
	for i--; ; i-- {
		if text[i] != '"' {
			continue
		}
		slashes := 0
		for i-1-slashes >= 0 && text[i-1-slashes] == '\\' {
			slashes++
		}
		if slashes%2 == 0 {
			return len(text) - i
		}
	}
}
