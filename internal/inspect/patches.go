package inspect

import (
	"bytes"
	"compress/flate"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/pollsse/caddy-poll-sse/jsondiff"
)

// settings are the options that decide what is compared and how.
type settings struct {
	omit, ignore []string
	identify     map[string]string // member by pattern
}

// sizes are the sizes of a document's versions as events.
type sizes struct {
	published []int // which versions
	documents []int // of each of these
	events    []int // of each publication but the first, framing included
	zipped    []int // the same on a gzip stream that all readers share
	opening   int   // the last document's event on a gzip stream
	patches   int   // how many events are patches; the others are whole documents
	data      int64 // bytes of the patches, or of the documents instead
}

// framing is the size of an event without its data: its name, an id of 22
// characters, and line ends.
const framing = len("event: patch\nid: \ndata: \n\n") + 22

// measure publishes versions as poll_sse would.
func measure(versions [][]byte, s settings) (sizes, error) {
	var out sizes
	d, omit, err := s.differ()
	if err != nil {
		return out, err
	}
	zip := newSharedGzip()
	for i, text := range versions {
		if len(omit) > 0 {
			if text, err = jsondiff.Omit(text, omit); err != nil {
				return out, fmt.Errorf("omit: %w", err)
			}
		}
		got, err := d.Next(slices.Clip(text))
		if err != nil {
			return out, err
		}
		if got.Kind == jsondiff.Unchanged {
			continue
		}
		document := d.Document()
		out.published = append(out.published, i)
		out.documents = append(out.documents, len(document))
		if got.Kind == jsondiff.First {
			zip.restart(document)
			continue
		}
		event := document
		if len(got.Patch) < len(document) {
			event = got.Patch
			out.patches++
		}
		out.data += int64(len(event))
		out.events = append(out.events, framing+len(event))
		out.zipped = append(out.zipped, zip.event(event, document))
	}
	out.opening = zip.restart(d.Document())
	return out, nil
}

// difference tells where the second document differs from the first in what is
// published: at one place, of the change that comes first.
func (s settings) difference(from, to []byte) (place string, differs bool, err error) {
	d, omit, err := s.differ()
	if err != nil {
		return "", false, err
	}
	var got jsondiff.Change
	for _, text := range [][]byte{from, to} {
		if len(omit) > 0 {
			if text, err = jsondiff.Omit(text, omit); err != nil {
				return "", false, fmt.Errorf("omit: %w", err)
			}
		}
		if got, err = d.Next(slices.Clip(text)); err != nil {
			return "", false, err
		}
	}
	if got.Kind == jsondiff.Unchanged {
		return "", false, nil
	}
	var patch []struct {
		Path string `json:"path"`
	}
	if json.Unmarshal(got.Patch, &patch) == nil && len(patch) > 0 {
		place = patch[0].Path
	}
	return place, true, nil
}

// differ returns a differ for the settings, and what has to be removed from a
// document before it is compared.
func (s settings) differ() (*jsondiff.Differ, []jsondiff.Pattern, error) {
	var options jsondiff.Options
	var omit []jsondiff.Pattern
	for _, text := range s.omit {
		p, err := jsondiff.ParsePattern(text)
		if err != nil {
			return nil, nil, err
		}
		omit = append(omit, p)
	}
	for _, text := range s.ignore {
		p, err := jsondiff.ParsePattern(text)
		if err != nil {
			return nil, nil, err
		}
		options.Ignore = append(options.Ignore, p)
	}
	for text, member := range s.identify {
		p, err := jsondiff.ParsePattern(text)
		if err != nil {
			return nil, nil, err
		}
		options.Identify = append(options.Identify, jsondiff.Identity{Pattern: p, Member: member})
	}
	return jsondiff.NewDiffer(options), omit, nil
}

// sharedGzip is one compressor for all readers. Its history begins again when
// it has written as much as the compressed document takes, or 4 KiB.
type sharedGzip struct {
	z       *flate.Writer
	out     bytes.Buffer
	written int // since the history began
	room    int
}

func newSharedGzip() *sharedGzip {
	z, _ := flate.NewWriter(nil, flate.DefaultCompression) // the level is valid
	return &sharedGzip{z: z}
}

// restart begins a history and returns the size of the document as its first
// event.
func (g *sharedGzip) restart(document []byte) int {
	g.z.Reset(&g.out)
	g.written = 0
	n := g.write(document)
	g.room = max(n, 4<<10)
	g.z.Reset(&g.out)
	return n
}

// event returns the size of one event.
func (g *sharedGzip) event(event, document []byte) int {
	if g.written >= g.room {
		g.restart(document)
	}
	n := g.write(event)
	g.written += n
	return n
}

func (g *sharedGzip) write(event []byte) int {
	g.out.Reset()
	// A bytes.Buffer takes everything. An id does not compress.
	fmt.Fprintf(g.z, "event: patch\nid: %022d\ndata: ", g.written)
	_, _ = g.z.Write(event)
	_, _ = g.z.Write([]byte("\n\n"))
	_ = g.z.Flush()
	return g.out.Len() + 16 // an id of 22 characters holds 16 bytes that say nothing
}

// identify finds the keys that make patches smaller if they are configured, for
// the lists whose items come and go. Each key that is tried takes a pass over
// the versions, so only few are.
func identify(found []List, versions [][]byte, s settings, comeAndGo func(list string) bool) {
	plain, err := measure(versions, s)
	if err != nil {
		return
	}
	tried := 0
	for i := range found {
		list := &found[i]
		if len(list.Keys) == 0 || !comeAndGo(list.Path) {
			continue
		}
		if tried++; tried > maxTried {
			return
		}
		list.PatchBytes, list.IdentifyBytes = plain.data, plain.data
		best := ""
		for _, key := range list.Keys {
			with := s
			with.identify = map[string]string{list.Path: key}
			got, err := measure(versions, with)
			if err == nil && got.data < list.IdentifyBytes {
				best, list.IdentifyBytes = key, got.data
			}
		}
		// A tenth less is worth a line of configuration.
		if best != "" && 10*list.IdentifyBytes <= 9*plain.data {
			list.Identify = best
		}
	}
}

// maxTried is the most lists whose keys are tried.
const maxTried = 3
