package member

import (
	"encoding/binary"
	"errors"

	"github.com/klauspost/compress/zstd"
)

const (
	// zstdWindow is how far a text may refer back; larger ones cost every node
	// memory.
	zstdWindow = 8 << 20
	// expansion is how many times its size a packed text may grow when it is
	// unpacked, and freeText what it may have in any case. One that is packed
	// still better is padded: a small message must not take much memory.
	expansion = 256
	freeText  = 64 << 10
	// paddingMagic begins a frame that is skipped (RFC 8878 section 3.1.2).
	paddingMagic = 0x184D2A50
)

// packer packs texts and unpacks them. Its methods may be called by several
// goroutines at the same time.
type packer struct {
	compressor   *zstd.Encoder
	decompressor *zstd.Decoder
}

func newPacker() packer {
	c, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(2), zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithWindowSize(zstdWindow))
	if err != nil {
		panic("BUG: " + err.Error())
	}
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(2), zstd.WithDecodeAllCapLimit(true))
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return packer{c, d}
}

// dictionaryID is the id of a dictionary that is the previous text.
const dictionaryID = 1

// pack compresses a text: with the one before it as dictionary, if there is
// one.
func (p packer) pack(text, base []byte) ([]byte, error) {
	if base == nil {
		return pad(p.compressor.EncodeAll(text, nil), text, nil), nil
	}
	w, err := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedFastest),
		zstd.WithEncoderDictRaw(dictionaryID, base), zstd.WithWindowSize(zstdWindow))
	if err != nil {
		return nil, err
	}
	defer w.Close()
	return pad(w.EncodeAll(text, nil), text, base), nil
}

// maxText is the size of the largest text that may be packed in so many bytes.
func maxText(packed int, base []byte) int64 {
	return freeText + 2*int64(len(base)) + expansion*int64(packed)
}

// pad makes a packed text as long as it has to be.
func pad(packed, text, base []byte) []byte {
	more := (int64(len(text)) - maxText(len(packed), base) + expansion - 1) / expansion
	if more <= 0 {
		return packed
	}
	packed = binary.LittleEndian.AppendUint32(packed, paddingMagic)
	packed = binary.LittleEndian.AppendUint32(packed, uint32(more))
	return append(packed, make([]byte, more)...)
}

// unpack returns the text that was packed, if it has that size and is no larger
// than limit.
func (p packer) unpack(packed, base []byte, size, limit int64) ([]byte, error) {
	if size < 0 || size > limit {
		return nil, errors.New("the text is larger than max_body")
	}
	if size > maxText(len(packed), base) {
		return nil, errors.New("the text is larger than what is packed may be")
	}
	text, err := p.decompress(packed, base, make([]byte, 0, size)) // no more is unpacked
	if err == nil && int64(len(text)) != size {
		err = errors.New("the text is shorter than it should be")
	}
	return text, err
}

func (p packer) decompress(packed, base, dst []byte) ([]byte, error) {
	if base == nil {
		return p.decompressor.DecodeAll(packed, dst)
	}
	r, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderDictRaw(dictionaryID, base))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return r.DecodeAll(packed, dst)
}
