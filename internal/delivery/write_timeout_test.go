package delivery

import (
	"testing"
	"time"
)

func TestSilence(t *testing.T) {
	const s = time.Second
	type look struct {
		at, ago time.Duration
		owes    bool
	}
	for name, c := range map[string]struct {
		looks []look
		lost  bool
	}{
		"vanished":                        {[]look{{100 * s, 5 * s, true}, {110 * s, 15 * s, true}, {120 * s, 25 * s, true}, {151 * s, 56 * s, true}}, true},
		"not for long":                    {[]look{{100 * s, 5 * s, true}, {149 * s, 54 * s, true}}, false},
		"just sent after a long pause":    {[]look{{100 * s, 0, false}, {500 * s, 400 * s, true}}, false},
		"suspended with a byte under way": {[]look{{100 * s, 10 * s, true}, {500 * s, 399 * s, true}, {510 * s, 0, true}}, false},
		"reads slowly":                    {[]look{{100 * s, 3 * s, true}, {150 * s, 3 * s, true}, {200 * s, 3 * s, true}, {260 * s, 3 * s, true}}, false},
		"has come back":                   {[]look{{100 * s, 5 * s, true}, {140 * s, 45 * s, true}, {150 * s, 1 * s, false}, {160 * s, 11 * s, true}}, false},
	} {
		var silent silence
		lost := false
		for _, l := range c.looks {
			lost = lost || silent.lost(l.owes, l.ago, l.at)
		}
		if lost != c.lost {
			t.Errorf("%s: lost %v, want %v", name, lost, c.lost)
		}
	}
}
