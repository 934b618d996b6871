package member

import (
	"cmp"
	"maps"
	"slices"
)

// hostsTold is how many upstream hosts one beat tells of: those with the most
// documents.
const hostsTold = 64

// countHosts counts the documents that this node polls by host, and returns
// what a beat tells of that. One document is polled once at a time, whatever
// the others do. The mutex is held.
func (n *Node) countHosts() map[string]int {
	clear(n.hosts)
	for m := range n.each() {
		if m.role == Owns {
			n.hosts[m.host]++
		}
	}
	told := make(map[string]int)
	for host, count := range n.hosts {
		if count > 1 {
			told[host] = count
		}
	}
	if len(told) > hostsTold {
		most := slices.SortedFunc(maps.Keys(told), func(a, b string) int { return cmp.Compare(told[b], told[a]) })
		for _, host := range most[hostsTold:] {
			delete(told, host)
		}
	}
	return told
}

// recount takes in how many documents of each host another node polls. The
// mutex is held.
func (n *Node) recount(p *peer, hosts map[string]int) {
	for host, count := range p.hosts {
		if n.others[host] -= count; n.others[host] <= 0 {
			delete(n.others, host)
		}
	}
	for host, count := range hosts {
		n.others[host] += count
	}
	p.hosts = hosts
}

// Part returns how many polls this node may have in flight at the document's host
// if all nodes together may have limit: as many as it has of the documents
// that are polled there, but at least one. What it has, the nodes tell each
// other with each beat. Nodes that are alone all poll the same, and divide by
// their number.
func (t *Turn) Part(limit int) int { return t.m.part(limit) }

func (m *Member) part(limit int) int {
	n := m.node
	n.mu.Lock()
	defer n.mu.Unlock()
	own, all := n.hosts[m.host], n.others[m.host]
	if m.gate.rule == free {
		own, all = 1, len(n.peers)
	}
	own = max(1, own)
	return max(1, int(int64(limit)*int64(own)/int64(own+all)))
}
