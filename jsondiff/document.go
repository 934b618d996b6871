package jsondiff

import "slices"

// Document is a document that patches are applied to one after the other. An
// Apply costs what lies on its operations' paths; the text is written when it is
// asked for. ParseDocument makes one; the zero Document is of no use. It is not
// safe for concurrent use.
type Document struct {
	limits Limits
	tree   *tree
}

// ParseDocument reads a document. The text stays the caller's.
func ParseDocument(text []byte) (*Document, error) { return Options{}.ParseDocument(text) }

// ParseDocument is the function of that name, within Limits, which the patches
// and the document they make are held to as well.
func (o Options) ParseDocument(text []byte) (*Document, error) {
	d := &Document{limits: o.Limits.withDefaults()}
	if err := d.read(text); err != nil {
		return nil, err
	}
	return d, nil
}

func (d *Document) read(text []byte) error {
	p, err := borrow(text, d.limits)
	if err != nil {
		return err
	}
	s := p.source
	s.text, s.tape = slices.Clone(text), slices.Clone(p.tape)
	p.giveBack()
	d.tree = newTree(s, source{}, d.limits)
	return nil
}

// Apply carries out a JSON Patch as the function Apply does: all of it, or none.
func (d *Document) Apply(patch []byte) error {
	p, err := borrowPatch(patch, d.limits)
	if err != nil {
		return err
	}
	defer p.giveBack()
	t := d.tree
	if len(t.patch.text)+len(patch) > maxSize {
		if err := d.rebuild(); err != nil {
			return err
		}
		t = d.tree
	}
	before := *t
	t.list = t.keep(&p.source)
	t.resetRoom()
	t.recording = true
	err = t.applyAll()
	if err == nil && t.deepest > t.maxDepth {
		if t.deepest = t.depth(t.root); t.deepest > t.maxDepth {
			err = &LimitError{Document: "new document", Limit: t.maxDepth, Offset: -1, Err: ErrDepth}
		}
	}
	// What stands in the document is no larger than what it was made of.
	copied := copyRoom + 16*int64(len(t.doc.text)) - t.room
	t.copied += copied
	size := int64(len(t.doc.text)+len(t.patch.text)) + t.copied
	var text []byte
	if err == nil && size > int64(d.limits.Size) {
		if text, err = t.write(nil, t.root, 0); err == nil && len(text) > d.limits.Size {
			err = inDocument(d.limits.tooLarge(), "new document")
		}
	}
	if err != nil {
		for _, undo := range slices.Backward(t.undo) {
			undo()
		}
		t.patch, t.deepest, t.copied = before.patch, before.deepest, before.copied
	}
	t.recording = false
	clear(t.undo)
	t.undo = t.undo[:0]
	switch {
	case err != nil:
		return err
	case text != nil:
		return d.read(text)
	case int64(len(t.patch.text))+t.copied+128*int64(len(t.nodes)) > int64(len(t.doc.text))+rebuildFrom:
		return d.rebuild()
	}
	return nil
}

// rebuildFrom is how much more than its text a document may hold of what patches
// brought, and may have replaced since.
const rebuildFrom = 1 << 20

// rebuild reads the document's own text again, without what is left of patches.
func (d *Document) rebuild() error {
	text, err := d.AppendTo(nil)
	if err != nil {
		return err
	}
	return d.read(text)
}

// AppendTo appends the document's text, without white space outside of strings.
func (d *Document) AppendTo(dst []byte) ([]byte, error) {
	out, err := d.tree.write(dst, d.tree.root, 0)
	if err != nil {
		return dst, &LimitError{Document: "document", Limit: d.limits.Depth, Offset: -1, Err: err}
	}
	return out, nil
}

// keep copies a patch behind those that are kept already, and returns the place of
// its operations on their tape.
func (t *tree) keep(s *source) int32 {
	k := &t.patch
	at, by := int32(len(k.tape)), word(len(k.text))
	k.text = append(k.text, s.text...)
	for _, w := range s.tape {
		k.tape = append(k.tape, w.shifted(by))
	}
	k.escaped, k.spaced = k.escaped || s.escaped, k.spaced || s.spaced
	return at
}

// depth is the nesting of a value of the tree.
func (t *tree) depth(r ref) int {
	if r >= 0 {
		s, i := t.at(r)
		return s.depth(i)
	}
	n := t.nodes[^r]
	deepest := 0
	for _, chunk := range n.elements.chunks {
		for _, e := range chunk {
			deepest = max(deepest, t.depth(e))
		}
	}
	for i := range n.members {
		if n.members[i].quoted != nil {
			deepest = max(deepest, t.depth(n.members[i].value))
		}
	}
	return 1 + deepest
}
