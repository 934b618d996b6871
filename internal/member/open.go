package member

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/pollsse/caddy-poll-sse/cluster"
)

// Cluster is a Node, as an interface: code that names Node itself has it linked
// into every build. Package cluster/nodes does, which engines import.
type Cluster interface {
	Member(key []byte, host string, source Source, poke <-chan struct{}) Part
	ID() string
	Up() bool
	Takeover() time.Time
	Counts() (owns, follows, alone int)
	Nodes() int
	Close()
}

// Part is a Member, as an interface.
type Part interface {
	Role() Role
	Run(ctx context.Context)
}

var link func(cluster.Engine, Settings, *slog.Logger) (Cluster, error)

// Link has Open call open. It is for package cluster/nodes.
func Link(open func(cluster.Engine, Settings, *slog.Logger) (Cluster, error)) { link = open }

// ErrNotLinked means that the engine's module does not import package
// cluster/nodes.
var ErrNotLinked = errors.New("the engine does not import github.com/pollsse/caddy-poll-sse/cluster/nodes")

// Linked returns ErrNotLinked if nodes are not part of this build.
func Linked() error {
	if link == nil {
		return ErrNotLinked
	}
	return nil
}

// Open is NewNode in a build that has it, else ErrNotLinked.
func Open(engine cluster.Engine, s Settings, log *slog.Logger) (Cluster, error) {
	if err := Linked(); err != nil {
		engine.Close()
		return nil, err
	}
	return link(engine, s, log)
}
