package jsondiff

import "encoding/binary"

// A tape of numbers of a few digits is several times as large as the text. Packed,
// it takes a byte for each such number, and is unpacked for each comparison that
// finds the text changed.
//
// A packed word begins with a byte whose highest two bits are the kind of a
// scalar without a name, less kindString. Its next two are the bytes between the
// value and the one before, its last four the value's length. If the two bits
// are both set, the last two tell how the word goes on:
//
//	1  a scalar with a name: two bits of kind, two of distance to the name, a
//	   byte of length, one of distance from there to the value
//	2  a container: two bits of kind and distinct, two of distance to the name or
//	   the value, three bytes of length and words, one of distance from the name
//	3  any word, as it is in the following eight bytes
const (
	packedNamed     = 0xc0 // from here on it is no short scalar without a name
	packedScalar    = 0xc1
	packedContainer = 0xc2
	packedWord      = 0xff
)

// shortMask is what is free in the word of a scalar of up to 15 bytes that has no
// name.
const shortMask = offMask | 15<<lenShift | 7<<kindShift

// shortWords are such words for each byte they are packed into, with an offset
// of the distance to the value before.
var shortWords = func() (words [packedNamed]word) {
	for b := range words {
		words[b] = word(b>>4&3) | word(b&15)<<lenShift | 1<<wordsShift | word(b>>6+int(kindString))<<kindShift
	}
	return words
}()

// packable tells whether a tape is so large for its text that it is retained
// packed, if that helps. To unpack a large one would take more memory at once
// than it saves.
func (t tape) packable(text int) bool { return 8*len(t) > text+text/2+512 && text <= maxPacked }

const maxPacked = 64 << 10

// pack appends the tape, and how many words it has.
func (t tape) pack(dst []byte) []byte {
	dst = binary.LittleEndian.AppendUint32(dst, uint32(len(t)))
	end := 0 // of the value before, or where the container begins inside
	for _, w := range t {
		if w&^shortMask == 1<<wordsShift && w>>kindShift >= word(kindString) {
			// A short scalar without a name, as nearly all are.
			if gap := int(w&offMask) - end; uint(gap) <= 3 {
				length := int(w >> lenShift & 15)
				dst = append(dst, byte(int(w>>kindShift-word(kindString))<<6|gap<<4|length))
				end += gap + length
				continue
			}
		}
		if w&lastFlag != 0 || w&wideFlag != 0 {
			dst = binary.LittleEndian.AppendUint64(append(dst, packedWord), uint64(w))
			if w&lastFlag == 0 {
				end = wideEnd(w)
			}
			continue
		}
		off, length, words, back := int(w&offMask), int(w>>lenShift&lenMask), int(w>>wordsShift&wordsMask), int(w>>backShift&farName)
		k := int(w >> kindShift & 7)
		gap := off - back - end
		plain := gap >= 0 && gap <= 3 && back < farName
		switch {
		case k < int(kindString) && plain:
			flags := k
			if w&distinctFlag != 0 {
				flags |= 2
			}
			rest := length | words<<13
			dst = append(dst, packedContainer|byte(flags<<4|gap<<2), byte(rest), byte(rest>>8), byte(rest>>16), byte(back))
		case plain && length <= 255:
			dst = append(dst, packedScalar|byte((k-int(kindString))<<4|gap<<2), byte(length), byte(back))
		default:
			dst = binary.LittleEndian.AppendUint64(append(dst, packedWord), uint64(w))
		}
		end = off + length
		if k < int(kindString) {
			end = off + 1
		}
	}
	return dst
}

// wideEnd is where what follows a wide word is counted from.
func wideEnd(w word) int { return int(w&offMask) + 1 }

// unpackTape returns a packed tape, in the memory given if that is enough.
func unpackTape(dst tape, packed []byte) tape {
	if words := int(binary.LittleEndian.Uint32(packed)); cap(dst) < words {
		dst = make(tape, 0, words)
	}
	end := 0
	for i := 4; i < len(packed); {
		b := int(packed[i])
		i++
		if b < packedNamed {
			w := shortWords[b] + word(end)
			dst = append(dst, w)
			end = int(w&offMask) + b&15
			continue
		}
		switch b & 3 {
		case packedScalar & 3:
			length, back := int(packed[i]), int(packed[i+1])
			i += 2
			off := end + b>>2&3 + back
			dst = append(dst, word(off)|word(length)<<lenShift|1<<wordsShift|word(back)<<backShift|word(b>>4&3+int(kindString))<<kindShift)
			end = off + length
		case packedContainer & 3:
			rest, back := int(packed[i])|int(packed[i+1])<<8|int(packed[i+2])<<16, int(packed[i+3])
			i += 4
			off := end + b>>2&3 + back
			w := word(off) | word(rest&lenMask)<<lenShift | word(rest>>13)<<wordsShift | word(back)<<backShift | word(b>>4&1)<<kindShift
			if b>>4&2 != 0 {
				w |= distinctFlag
			}
			dst = append(dst, w)
			end = off + 1
		default:
			w := word(binary.LittleEndian.Uint64(packed[i:]))
			i += 8
			dst = append(dst, w)
			switch {
			case w&lastFlag != 0:
			case w&wideFlag != 0 || kind(w>>kindShift)&7 < kindString:
				end = int(w&offMask) + 1
			default:
				end = int(w&offMask) + int(w>>lenShift&lenMask)
			}
		}
	}
	return dst
}
