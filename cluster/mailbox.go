package cluster

import "sync"

// mailboxSize is how many messages wait for a node that does not read them. A
// document's owner sends one or two an interval.
const mailboxSize = 16

// Mailbox is where an engine puts the messages of one topic for its reader. It
// never makes the engine wait: if it is full, all that is in it is dropped and
// a Resync left in its place.
type Mailbox struct {
	mu       sync.Mutex // of writers
	messages chan Message
}

// NewMailbox makes an empty mailbox.
func NewMailbox() *Mailbox { return &Mailbox{messages: make(chan Message, mailboxSize)} }

// Messages is where they are read.
func (b *Mailbox) Messages() <-chan Message { return b.messages }

// Deliver adds a message. It may be called by several goroutines.
func (b *Mailbox) Deliver(m Message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	select {
	case b.messages <- m:
		return
	default:
	}
	for {
		select {
		case <-b.messages:
			continue
		default:
		}
		break
	}
	b.messages <- Message{Resync: true} // there is room: nobody else writes
}
