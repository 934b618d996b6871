package nats

import (
	"net"
	"strconv"
	"testing"

	"go.uber.org/zap"
)

// TestTopicsThatHaveLeft: a connection keeps nothing of topics that have come
// and gone while there was no server.
func TestTopicsThatHaveLeft(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close() // nobody listens there now
	n := &NATS{Servers: []string{"nats://" + l.Addr().String()}, Stream: "poll_sse", Replicas: 1, logger: zap.NewNop()}
	e, err := n.Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	for i := range 100 {
		topic, err := e.Join("key" + strconv.Itoa(i))
		if err != nil {
			t.Fatal(err)
		}
		topic.Close()
	}
	c := e.(*connection)
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.fresh) > 0 || len(c.keys) > 0 {
		t.Errorf("%d topics are kept, and %d keys", len(c.fresh), len(c.keys))
	}
}
