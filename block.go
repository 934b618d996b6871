package pollsse

import "strconv"

// block is a run of bytes that streams write as it is: whole events in one
// encoding, framed as one chunk of HTTP/1.1's chunked coding (RFC 9112,
// section 7.1) for those that are written past net/http. It is never changed,
// and any number of streams share it.
type block struct {
	framed []byte
	head   int // length of the chunk's size line
}

const (
	chunkHead = 10 // room for the longest size line, as in 1fffffff CR LF
	chunkTail = "\r\n"
	// lastChunk ends a chunked body cleanly.
	lastChunk = "0\r\n\r\n"
)

// newBlock frames the bytes that payload appends; the block is empty where it
// appends none.
func newBlock(payload func(dst []byte) []byte) block {
	buf := payload(make([]byte, chunkHead, 256))
	size := len(buf) - chunkHead
	if size == 0 {
		return block{}
	}
	var line [chunkHead]byte
	head := append(strconv.AppendUint(line[:0], uint64(size), 16), chunkTail...)
	start := chunkHead - len(head)
	copy(buf[start:], head)
	return block{append(buf, chunkTail...)[start:], len(head)}
}

// payload is the block without its framing.
func (b block) payload() []byte {
	if b.framed == nil {
		return nil
	}
	return b.framed[b.head : len(b.framed)-len(chunkTail)]
}
