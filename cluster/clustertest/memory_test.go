package clustertest

import "testing"

func TestMemory(t *testing.T) {
	Conform(t, func(*testing.T) Rig {
		s := NewServer()
		return Rig{Dialer: s, Stop: s.Stop, Start: s.Start}
	})
}
