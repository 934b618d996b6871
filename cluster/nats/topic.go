package nats

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/pollsse/caddy-poll-sse/cluster"
)

// topic is what a node has joined. For a key, the stream has these subjects:
//
//	o        the owner's record; its sequence is the revision
//	d        the document, behind a 0; or, behind a 1, where its parts are
//	p.S.N    part N of the document in slot S, behind the put that it belongs to
//
// There are two slots, so that a document stays whole while the parts of the
// next one are written.
type topic struct {
	connection *connection
	key        string
	box        *cluster.Mailbox

	slot  byte   // of the document that was put last
	known uint64 // the owner's revision for which slot holds; 0: none
}

// Messages implements cluster.Topic.
func (t *topic) Messages() <-chan cluster.Message { return t.box.Messages() }

// Send implements cluster.Topic.
func (t *topic) Send(message []byte) error {
	err := t.connection.client.Publish(t.connection.Stream+".m."+t.key, message)
	if errors.Is(err, nats.ErrMaxPayload) {
		return cluster.ErrTooLarge
	}
	return err
}

// Owner implements cluster.Topic.
func (t *topic) Owner(ctx context.Context) (uint64, []byte, error) {
	s, err := t.connection.get(ctx, t.subject("o"))
	return s.sequence, s.text, err
}

// Swap implements cluster.Topic.
func (t *topic) Swap(ctx context.Context, revision uint64, record []byte) (uint64, error) {
	return t.store(ctx, "o", record, jetstream.WithExpectLastSequencePerSubject(revision))
}

func (t *topic) subject(kind string) string { return t.connection.subject(t.key, kind) }

// replicasConflict is what a server with replicas answers besides
// JSErrCodeStreamWrongLastSequence.
const replicasConflict = 10164

func (t *topic) store(ctx context.Context, kind string, text []byte, expect jetstream.PublishOpt) (uint64, error) {
	// A write that was retried could meet itself, and be taken for a conflict.
	ack, err := t.connection.stream.Publish(ctx, t.subject(kind), text, expect, jetstream.WithRetryAttempts(0), jetstream.WithExpectStream(t.connection.Stream))
	if refused, ok := errors.AsType[*jetstream.APIError](err); ok && (refused.ErrorCode == jetstream.JSErrCodeStreamWrongLastSequence || refused.ErrorCode == replicasConflict) {
		return 0, cluster.ErrConflict
	}
	if err != nil {
		return 0, err
	}
	return ack.Sequence, nil
}

const (
	whole   = 0
	inParts = 1
	// putSize is the size of what tells one put from another.
	putSize = 16
	// headerRoom is what a message has besides its text, at most: the fence,
	// and what the server adds.
	headerRoom = 1 << 10
	// tornReads is how often a read is begun anew because the document was
	// put twice meanwhile.
	tornReads = 5
)

var errTorn = errors.New("the document changes faster than it can be read")

// Put implements cluster.Topic.
func (t *topic) Put(ctx context.Context, owner uint64, document []byte) error {
	fence := jetstream.WithExpectLastSequenceForSubject(owner, t.subject("o"))
	room := int(t.connection.client.MaxPayload()) - headerRoom
	if room <= putSize {
		return fmt.Errorf("the server takes messages of %d bytes, which is too little", t.connection.client.MaxPayload())
	}
	if len(document) < room {
		_, err := t.store(ctx, "d", append([]byte{whole}, document...), fence)
		return err
	}
	if t.known != owner { // others may have owned it meanwhile, and put theirs
		last, err := t.connection.get(ctx, t.subject("d"))
		if err != nil {
			return err
		}
		if m, ok := parseManifest(last.text); ok {
			t.slot = m.slot
		}
		t.known = owner
	}
	m := manifest{slot: 1 - t.slot&1, size: uint64(len(document))}
	_, _ = rand.Read(m.put[:])
	for rest := document; len(rest) > 0; m.parts++ {
		n := min(len(rest), room-putSize)
		if _, err := t.store(ctx, m.part(m.parts), append(m.put[:], rest[:n]...), fence); err != nil {
			return err
		}
		rest = rest[n:]
	}
	_, err := t.store(ctx, "d", m.append([]byte{inParts}), fence)
	if err == nil {
		t.slot = m.slot
	} else {
		t.known = 0
	}
	return err
}

// Document implements cluster.Topic.
func (t *topic) Document(ctx context.Context) ([]byte, error) {
	for range tornReads {
		d, err := t.connection.get(ctx, t.subject("d"))
		if err != nil || d.sequence == 0 {
			return nil, err
		}
		m, split := parseManifest(d.text)
		switch {
		case len(d.text) > 0 && d.text[0] == whole:
			return d.text[1:], nil
		case !split:
			return nil, errors.New("the stored document is of no known form")
		}
		document, err := t.collect(ctx, m)
		if !errors.Is(err, errTorn) {
			return document, err
		}
	}
	return nil, errTorn
}

func (t *topic) collect(ctx context.Context, m manifest) ([]byte, error) {
	var document []byte
	for i := range m.parts {
		part, err := t.connection.get(ctx, t.subject(m.part(i)))
		if err != nil {
			return nil, err
		}
		text, ok := bytes.CutPrefix(part.text, m.put[:])
		if !ok {
			return nil, errTorn
		}
		document = append(document, text...)
	}
	if uint64(len(document)) != m.size {
		return nil, errTorn
	}
	return document, nil
}

// manifest tells where the parts of a document are.
type manifest struct {
	put   [putSize]byte
	slot  byte
	parts uint32
	size  uint64 // of the document
}

func (m manifest) part(i uint32) string {
	return "p." + strconv.Itoa(int(m.slot)) + "." + strconv.FormatUint(uint64(i), 10)
}

func (m manifest) append(dst []byte) []byte {
	dst = append(append(dst, m.put[:]...), m.slot)
	dst = binary.BigEndian.AppendUint32(dst, m.parts)
	return binary.BigEndian.AppendUint64(dst, m.size)
}

func parseManifest(text []byte) (manifest, bool) {
	const length = 1 + putSize + 1 + 4 + 8
	if len(text) != length || text[0] != inParts || text[1+putSize] > 1 {
		return manifest{}, false
	}
	m := manifest{slot: text[1+putSize], parts: binary.BigEndian.Uint32(text[2+putSize:]), size: binary.BigEndian.Uint64(text[6+putSize:])}
	copy(m.put[:], text[1:])
	return m, true
}

// Close implements cluster.Topic.
func (t *topic) Close() {
	c := t.connection
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.fresh, t) // without a server, confirm never comes to it
	j := c.keys[t.key]
	if j == nil {
		return
	}
	if delete(j.topics, t); len(j.topics) == 0 {
		_ = j.subscription.Unsubscribe() // only fails if the connection is closed
		delete(c.keys, t.key)
	}
}
