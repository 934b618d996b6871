package pollsse

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
// It ends without trailer, as that would hold a checksum over what this one
// client was sent. A decoder has had every event by then and reports a
// truncated member, if anything; browsers reconnect as after any end.
var gzipHead = []byte{0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff}

// appendStored appends b as it is, in stored blocks: what is one client's own
// and not worth a compressor.
func appendStored(dst, b []byte) []byte {
	for len(b) > 0 {
		n := min(len(b), 0xffff)
		dst = append(dst, 0, byte(n), byte(n>>8), ^byte(n), ^byte(n>>8))
		dst = append(dst, b[:n]...)
		b = b[n:]
	}
	return dst
}

// maxEpochs bounds the compressors that are kept at the same time, at about
// 0.8 MB each, in the process. Renditions beyond it compress every event by
// itself.
const maxEpochs = 64

var epochsInUse atomic.Int32

// epochs compresses the blocks of one rendition with a history that its
// readers share. An epoch begins with a fresh window, which suits every reader
// that is there. Who joins later gets the document as it was at the beginning,
// and then the same blocks as everybody else: those refer to blocks of the
// epoch only. Who returns, or is moved forward, has not read these: it gets
// blocks of its own until the next epoch begins.
//
// It belongs to its rendition and is guarded by the lock of the log.
type epochs struct {
	z   *flate.Writer
	out bytes.Buffer

	begun  uint64 // sequence number of the block before the epoch's first
	first  []byte // what takes a new reader there: nothing compressed yet
	opened []byte // first, compressed when somebody needs it
	blocks []byte // of the epoch so far, deflated
}

// newEpochs returns nil where there are enough of them.
func newEpochs() *epochs {
	if epochsInUse.Add(1) > maxEpochs {
		epochsInUse.Add(-1)
		return nil
	}
	e := new(epochs)
	e.z, _ = flate.NewWriter(&e.out, flate.DefaultCompression) // the level is valid
	return e
}

func (e *epochs) close() {
	if e != nil {
		epochsInUse.Add(-1)
	}
}

// begin starts an epoch behind the block seq. first is what takes a new
// reader there.
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

// grown tells whether the blocks have outgrown the document, so that it is
// cheaper for those who join if an epoch begins.
func (e *epochs) grown() bool {
	size := len(e.opened)
	if size == 0 {
		size = len(e.first) / 4 // a guess: nobody has needed it
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

// deflaters are for blocks that stand alone.
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
