package feed

import (
	"bytes"
	"compress/flate"
	"sync"
	"sync/atomic"
)

// A compressed stream is one gzip member (RFC 1952): a constant header, and
// then deflate blocks (RFC 1951) that each end with a sync flush on a byte
// boundary and none of which is the final one. So blocks can be made once and
// shared: a decoder takes any that refer to nothing it has not read.
//
// It ends without a trailer, which would hold a checksum over what this one
// client was sent. A decoder has had every event by then and reports a
// truncated member, if anything; browsers reconnect as after any end.
var gzipHead = []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff}

// appendStored appends b as it is, in stored blocks: for bytes that are one
// client's own and not worth a compressor.
func appendStored(dst, b []byte) []byte {
	for len(b) > 0 {
		n := min(len(b), 0xffff)
		dst = append(dst, 0, byte(n), byte(n>>8), ^byte(n), ^byte(n>>8))
		dst = append(dst, b[:n]...)
		b = b[n:]
	}
	return dst
}

// MaxCompressors is the most compressors that the process keeps at the same time, at
// about 0.8 MB each. Renditions beyond it compress every event by itself.
const MaxCompressors = 64

var epochsInUse atomic.Int32

// epochs compresses the blocks of one rendition with a history that its readers
// share. An epoch begins with a fresh window, which suits every reader that is
// there. A client that joins later gets the document as it was at the beginning,
// and then the same blocks as everybody else, which refer to blocks of the epoch
// only. A client that resumes or catches up has not read those blocks, so it gets
// independently compressed ones until the next epoch begins.
//
// The mutex of the rendition's log guards it.
type epochs struct {
	z   *flate.Writer
	out bytes.Buffer

	begun  uint64 // sequence number of the block before the epoch's first
	first  []byte // what takes a new reader there, until that is compressed
	opened []byte // first, compressed when a reader first needs it
	blocks []byte // of the epoch so far, deflated
}

// newEpochs returns nil if there are MaxCompressors already.
func newEpochs() *epochs {
	if epochsInUse.Add(1) > MaxCompressors {
		epochsInUse.Add(-1)
		return nil
	}
	e := new(epochs)
	e.z, _ = flate.NewWriter(&e.out, flate.DefaultCompression) // the level is valid
	return e
}

// CompressorsInUse returns how many compressors renditions hold, of MaxCompressors.
func CompressorsInUse() int { return int(epochsInUse.Load()) }

func (e *epochs) close() {
	if e != nil {
		epochsInUse.Add(-1)
	}
}

// begin starts an epoch after the block seq. first takes a new reader there.
func (e *epochs) begin(seq uint64, first []byte) {
	e.z.Reset(&e.out)
	e.begun, e.first, e.opened, e.blocks = seq, first, nil, nil
}

// add compresses the next block of the epoch.
func (e *epochs) add(dst, plain []byte) []byte {
	e.out.Reset()
	_, _ = e.z.Write(plain) // a bytes.Buffer takes everything
	_ = e.z.Flush()
	e.blocks = append(e.blocks, e.out.Bytes()...)
	return append(dst, e.out.Bytes()...)
}

// grown reports whether the blocks have outgrown the document, so that clients that
// join get fewer bytes if a new epoch begins.
func (e *epochs) grown() bool {
	size := len(e.opened)
	if size == 0 {
		size = len(e.first) / 4 // a guess: no reader has needed it
	}
	return len(e.blocks) > max(size, 4<<10)
}

// appendPrefix appends what a new reader gets.
func (e *epochs) appendPrefix(dst []byte) []byte {
	if e.opened == nil {
		e.opened = appendDeflated(nil, e.first)
		e.first = nil
	}
	return append(append(dst, e.opened...), e.blocks...)
}

// deflaters compress blocks that stand alone.
var deflaters = sync.Pool{New: func() any {
	z, _ := flate.NewWriter(nil, flate.DefaultCompression)
	return z
}}

// appendDeflated appends plain in a fresh window.
func appendDeflated(dst, plain []byte) []byte {
	if len(plain) == 0 {
		return dst
	}
	out := bytes.NewBuffer(dst)
	z := deflaters.Get().(*flate.Writer)
	defer deflaters.Put(z)
	z.Reset(out)
	_, _ = z.Write(plain)
	_ = z.Flush()
	z.Reset(nil)
	return out.Bytes()
}
