// Package nodes is what the nodes of a cluster do with an engine. Every module
// with an engine imports it for its effect:
//
//	import _ "github.com/pollsse/caddy-poll-sse/cluster/nodes"
//
// So a build of Caddy without an engine does not grow by it.
package nodes

import (
	"log/slog"

	"github.com/pollsse/caddy-poll-sse/cluster"
	"github.com/pollsse/caddy-poll-sse/internal/member"
)

func init() { member.Link(open) }

// node is a Node whose members are Parts.
type node struct{ *member.Node }

func open(engine cluster.Engine, s member.Settings, log *slog.Logger) (member.Cluster, error) {
	n, err := member.NewNode(engine, s, log)
	if err != nil {
		return nil, err
	}
	return node{n}, nil
}

// Member implements member.Cluster.
func (n node) Member(key []byte, host string, source member.Source, poke <-chan struct{}) member.Part {
	return n.Node.Member(key, host, source, poke)
}
