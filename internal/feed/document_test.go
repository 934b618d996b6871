package feed

import (
	"bytes"
	"strings"
	"testing"
)

// FuzzVersion: an id is a version or nothing.
func FuzzVersion(f *testing.F) {
	f.Add(Version(nil, nil))
	f.Add("AAAAAAAAAAAAAAAAAAAAAB")
	f.Add("AAAAAAAAAAA\nAAAAAAAAAA")
	f.Add("")
	f.Fuzz(func(t *testing.T, id string) {
		if IsVersion(id) && (len(id) != 22 || strings.Trim(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") != "") {
			t.Errorf("%q passes for a version", id)
		}
		if v := Version([]byte(id), nil); !IsVersion(v) {
			t.Errorf("%q is a version and does not pass for one", v)
		}
	})
}

// TestVersions: the private part and the text both decide.
func TestVersions(t *testing.T) {
	seen := map[string]bool{}
	for _, private := range []string{"", "a", "ab"} {
		for _, text := range []string{"", "b", "ab"} {
			seen[Version([]byte(private), []byte(text))] = true
		}
	}
	if len(seen) != 9 {
		t.Errorf("%d versions of 9 different documents", len(seen))
	}
}

// TestCompressedOnce: a version is compressed at its first demand and once for
// everybody, and a short one never.
func TestCompressedOnce(t *testing.T) {
	d := &Document{Text: bytes.Repeat([]byte("1"), minGzip)}
	a, b := d.Gzip(), d.Gzip()
	if len(a) == 0 || &a[0] != &b[0] {
		t.Error("compressed twice")
	}
	if z := (&Document{Text: []byte(`{"n":1}`)}).Gzip(); z != nil {
		t.Errorf("a short text becomes %d bytes", len(z))
	}
}
