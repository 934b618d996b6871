package cluster

import "testing"

func TestMailbox(t *testing.T) {
	b := NewMailbox()
	for i := range mailboxSize {
		b.Deliver(Message{Data: []byte{byte(i)}})
	}
	if got := len(b.Messages()); got != mailboxSize {
		t.Fatalf("%d messages wait, want %d", got, mailboxSize)
	}
	b.Deliver(Message{Data: []byte("one too many")})
	b.Deliver(Message{Data: []byte("after it")})
	if m := <-b.Messages(); !m.Resync {
		t.Errorf("a full mailbox begins with %q, want a Resync", m.Data)
	}
	if m := <-b.Messages(); string(m.Data) != "after it" {
		t.Errorf("then comes %q, want the message after it", m.Data)
	}
	if len(b.Messages()) != 0 {
		t.Errorf("%d messages are left, want none", len(b.Messages()))
	}
}
