package feed

import "strconv"

// Block is a run of bytes that streams write as it is: whole events,
// framed as one chunk of HTTP/1.1's chunked coding (RFC 9112,
// section 7.1) for those that are written past net/http. It is never changed,
// and any number of streams share it.
type Block struct {
	framed []byte
	head   int // length of the chunk's size line
	kind   BlockKind
}

// BlockKind says what a block is to its readers.
type BlockKind uint8

// Kinds of blocks. One that holds a status and a document counts as the
// document.
const (
	BlockOpening   BlockKind = iota // of a stream, or its last bytes: no event
	BlockHeartbeat                  // a comment
	BlockStatus
	BlockSnapshot
	BlockPatch
	BlockMerge
	BlockCatchUp // what a client has missed, in one event if possible

	BlockKinds = iota // how many there are
)

// String returns the kind as metrics have it.
func (k BlockKind) String() string {
	return [BlockKinds]string{"opening", "heartbeat", "status", "snapshot", "patch", "merge", "catch_up"}[k]
}

// as returns the block as one of another kind.
func (b Block) as(k BlockKind) Block {
	b.kind = k
	return b
}

const (
	chunkHead = 10 // room for the longest size line, as in 1fffffff CR LF
	chunkTail = "\r\n"
)

// NewBlock frames the bytes that payload appends; the block is empty if it
// appends none.
func NewBlock(payload func(dst []byte) []byte) Block {
	buf := payload(make([]byte, chunkHead, 256))
	size := len(buf) - chunkHead
	if size == 0 {
		return Block{}
	}
	var line [chunkHead]byte
	head := append(strconv.AppendUint(line[:0], uint64(size), 16), chunkTail...)
	start := chunkHead - len(head)
	copy(buf[start:], head)
	return Block{framed: append(buf, chunkTail...)[start:], head: len(head)}
}

// Chunk is the block as one chunk, framing included; nil if it is empty.
func (b Block) Chunk() []byte { return b.framed }

// Payload is the block without its framing.
func (b Block) Payload() []byte {
	if b.framed == nil {
		return nil
	}
	return b.framed[b.head : len(b.framed)-len(chunkTail)]
}
