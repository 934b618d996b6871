package jsondiff

// Limits bound what a text may cost. Zero means the default.
type Limits struct {
	// Depth is how deep arrays and objects may nest: default 1000, at most
	// 10,000. Deeper is an error that wraps ErrDepth.
	Depth int
	// Size is how many bytes a text may have: default and at most 256 MiB,
	// because offsets and counts must fit the tape. More is an error that
	// wraps ErrSize.
	Size int
	// Work bounds the search for a small patch, in values looked at beyond one
	// pass over both texts. By default, and at most, that is one for each byte
	// of the two and 4096 more, so that no text costs more than so much for
	// each of its bytes. Once it is reached, elements of arrays are compared by
	// their place alone, and Change.Bound says so.
	Work int
}

const (
	defaultDepth = 1000
	maxDepth     = 10000
	maxSize      = 1 << 28
)

func (l Limits) withDefaults() Limits {
	if l.Depth <= 0 {
		l.Depth = defaultDepth
	}
	if l.Size <= 0 {
		l.Size = maxSize
	}
	l.Depth = min(l.Depth, maxDepth)
	l.Size = min(l.Size, maxSize)
	return l
}

// work is the budget for comparing two texts of these lengths.
func (l Limits) work(old, new int) int {
	most := old + new + 4096
	if l.Work > 0 {
		most = min(most, l.Work)
	}
	return most
}

func (l Limits) tooLarge() error {
	return &LimitError{Document: "document", Limit: l.Size, Offset: l.Size, Err: ErrSize}
}
