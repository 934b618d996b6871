package member

import (
	"hash/fnv"
	"io"
	"time"
)

// A node may leave thousands of documents at once. The others take them over
// one after the other, and each by another node, in an order that every node
// works out from key and nodes alone: so hardly any two nodes want the same
// document at the same time.

// turn returns how long to wait before a document is taken over whose owner is
// lost, and that can wait for slack: no longer than that, nor than a lease.
func (f *following) turn(slack time.Duration) time.Duration {
	lease := f.node.Lease
	byKey := time.Duration(lot(f.seal.subject, "") * float64(lease))
	return min(max(0, slack), byKey)*3/4 + f.precede(slack/4, lease/4, f.owner)
}

// precede returns how long to wait for the nodes that come before this one for
// a document that another one has left: no longer than slack, nor than most.
// They may not have the document.
func (m *Member) precede(slack, most time.Duration, left string) time.Duration {
	before, nodes := m.node.place(m.seal.subject, left)
	return min(max(0, slack), most) * time.Duration(before) / time.Duration(nodes)
}

// place returns how many of the nodes that are there come before this one for
// a document, and how many there are.
func (n *Node) place(subject, left string) (before, nodes int) {
	own, now := lot(subject, n.id), time.Now()
	nodes = 1
	n.mu.Lock()
	defer n.mu.Unlock()
	for id, p := range n.peers {
		if id == left || now.Sub(p.heard) >= n.Lease {
			continue
		}
		nodes++
		if lot(subject, id) < own {
			before++
		}
	}
	return before, nodes
}

// lot returns a number from 0 to 1 for a document and a node, as good as random
// and the same on every node.
func lot(subject, node string) float64 {
	h := fnv.New64a()
	_, _ = io.WriteString(h, subject+" "+node)
	// FNV leaves the last bytes in the low bits (MurmurHash3's finalizer).
	x := h.Sum64()
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	x ^= x >> 33
	return float64(x>>11) / (1 << 53)
}
