package judge

import (
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

const anID = "AAAAAAAAAAAAAAAAAAAAAA"

func TestReader(t *testing.T) {
	text := "retry: 1500\n: heartbeat 15\n: private\n\nid: " + anID + "\n\n: \n\nevent: status\ndata: {\"a\": \"b: c\"}\n\n" +
		"event: snapshot\nid: " + anID + "\ndata: \"ü\u2028\"\n\ndata: 1\n\n"
	want := []Event{
		{Retry: 1500 * time.Millisecond}, {ID: anID}, {Name: "status", Data: `{"a": "b: c"}`},
		{Name: "snapshot", ID: anID, Data: "\"ü\u2028\""}, {Name: "message", Data: "1"},
	}
	for _, r := range []io.Reader{strings.NewReader(text), iotest.OneByteReader(strings.NewReader(text))} {
		s := NewReaderSize(r, 16)
		for _, w := range want {
			e, err := s.Next()
			if err != nil {
				t.Fatal(err)
			}
			if e.Name != w.Name || e.ID != w.ID || e.Data != w.Data || e.Retry != w.Retry {
				t.Errorf("got %+v, want %+v", e, w)
			}
			if err := e.Check(); (err != nil) != (e.Name == "message") {
				t.Errorf("%+v: %v", e, err)
			}
		}
		if _, err := s.Next(); err != io.EOF {
			t.Errorf("at the end: %v", err)
		}
		if s.Comments != 3 || s.Bytes != int64(len(text)) {
			t.Errorf("%d comments, %d bytes; want 3 and %d", s.Comments, s.Bytes, len(text))
		}
	}
}

func TestReaderRefuses(t *testing.T) {
	for _, text := range []string{
		"\n", ": \n\n\n", "\ufeffdata: 1\n\n", "data: 1\r\n\r\n", "data: 1\x00\n\n", "data: \xff\n\n", "event: a\rdata: 1\n\n",
		": \xff\n\n", "data:1\n\n", "data\n\n", "data: 1\ndata: 2\n\n", "id: a\nid: b\n\n", "x: y\n\n", " data: 1\n\n", "retry: -1\n\n", "retry: 0\n\n", "retry: 1s\n\n",
	} {
		if e, err := NewReader(strings.NewReader(text)).Next(); !errors.Is(err, ErrMalformed) {
			t.Errorf("%q is taken for %+v, %v", text, e, err)
		}
	}
	for _, text := range []string{"data: 1", "data: 1\n", ":", ": \n", "event: a\nda"} {
		if e, err := NewReader(strings.NewReader(text)).Next(); !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%q, which is cut off, is taken for %+v, %v", text, e, err)
		}
	}
}

func TestCheck(t *testing.T) {
	id := "id: " + anID + "\n"
	for text, ok := range map[string]bool{
		"retry: 1\n":                                    true,
		id:                                              true,
		"event: patch\n" + id + "data: 1\n":             true,
		"event: merge\n" + id + "data: 1\n":             true,
		"event: status\ndata: 1\n":                      true,
		"id: A\n":                                       false,
		"event: patch\ndata: 1\n":                       false,
		"event: patch\n" + id:                           false,
		"event: patch\n" + id + "data: \n":              false,
		"event: patch\nid: A\ndata: 1\n":                false,
		"event: patch\ndata: 1\n" + id:                  false,
		"event: status\n" + id + "data: 1\n":            false,
		"event: other\n" + id + "data: 1\n":             false,
		"retry: 1\nevent: status\ndata: 1\n":            false,
		"event: snapshot\nid: " + anID + "=\ndata: 1\n": false,
	} {
		e, err := NewReader(strings.NewReader(text + "\n")).Next()
		if err != nil {
			t.Errorf("%q: %v", text, err)
		} else if err := e.Check(); (err == nil) != ok {
			t.Errorf("%q: %v", text, err)
		}
	}
}
