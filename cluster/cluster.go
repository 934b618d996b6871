// Package cluster is what several nodes need of the engine that they share, so
// that one of them polls each document for all. Engines are Caddy guest
// modules in the name space poll_sse.cluster that implement Dialer, and import
// package nodes; package clustertest has the test that each of them passes.
//
// An engine keeps two things for each key, an owner's record and a document,
// and passes messages on between the nodes that have joined the key. It knows
// nothing of what they mean.
package cluster

import (
	"context"
	"errors"
	"time"
)

// Errors of an engine. Any other error means that the engine cannot be
// reached, or has not answered in time: what was asked for may have been done.
var (
	// ErrConflict means that another node has written the owner's record
	// since the revision that was named. Nothing was written.
	ErrConflict = errors.New("another node has become the owner")
	// ErrTooLarge means that a message is larger than the engine takes.
	ErrTooLarge = errors.New("larger than the engine takes")
)

// Retention is how long an engine keeps a record or a document after it was
// last written, at least. It then forgets it. Whoever wants it kept writes it
// again in time.
const Retention = 2 * time.Hour

// Dialer is a configured engine.
type Dialer interface {
	// Dial returns a connection of its own to the engine. It waits for no
	// network: the connection is made in the background and made again
	// whenever it is lost, until Close. The connection goes on to work when
	// the configuration that the Dialer belongs to has ended.
	Dial() (Engine, error)
}

// Engine is a node's connection to an engine. Its methods may be called by
// several goroutines at the same time.
type Engine interface {
	// Join takes part in what nodes say about a key, which consists of
	// letters, digits, "-" and "_" and has at most 64 of them. It waits for no
	// network. Each Join must be followed by one Close of the topic.
	Join(key string) (Topic, error)
	// Up reports whether the engine can be reached, as far as is known. An
	// engine that hangs is noticed after a few seconds.
	Up() bool
	// Close ends the connection; topics that are still open say nothing more.
	Close()
}

// Topic is a node's part in one key. Its methods may be called by several
// goroutines at the same time, Put by one.
type Topic interface {
	// Messages are what nodes have sent for this key, this node's own
	// included, those of one node in the order in which it sent them. Some may
	// be lost, and then a Message with Resync comes in their place, also once
	// the engine can be reached for the first time or again. A message may be
	// lost without any notice if the engine loses it.
	Messages() <-chan Message
	// Send sends a message to every node that has joined the key, at most
	// once. It does not wait until it has arrived. ErrTooLarge leaves the
	// connection as it is. Every engine takes 64 KiB.
	Send(message []byte) error
	// Owner reads the owner's record and its revision: 0 and nil if there is
	// none. It may be older than the newest for a moment.
	Owner(ctx context.Context) (revision uint64, record []byte, err error)
	// Swap writes the owner's record if its revision is still the one named,
	// 0 if there is none, and returns the new revision, which is larger; else
	// ErrConflict. A Swap that has failed with another error does not take
	// effect once Owner has been read with the engine up again.
	Swap(ctx context.Context, revision uint64, record []byte) (uint64, error)
	// Document reads the document: nil if there is none. It is one that was
	// put, whole, and may be older than the newest for a moment.
	Document(ctx context.Context) ([]byte, error)
	// Put writes the document if the revision of the owner's record is still
	// owner, else ErrConflict. The engine splits what is too large for it.
	Put(ctx context.Context, owner uint64, document []byte) error
	// Close leaves the key. It waits for nothing.
	Close()
}

// Message is what one node has sent to all.
type Message struct {
	Data []byte // as it was sent; never written again
	// Resync tells that messages may have been lost before this one, which has
	// no data: read owner and document again.
	Resync bool
}
