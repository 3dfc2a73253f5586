package measure

import (
	"testing"

	"tfofleet/internal/tfo"
)

// TestRawNeedsTheCapture: nobody but the capture sees the answer to a raw SYN.
// What it missed must not pass for silence of the target.
func TestRawNeedsTheCapture(t *testing.T) {
	for _, tt := range []struct {
		name string
		wire *tfo.Wire
		want finding
	}{
		{"no capture", nil, local},
		{"packets lost", &tfo.Wire{Syns: 1, Incomplete: true}, local},
		{"nothing came", &tfo.Wire{Syns: 1}, noAnswer},
	} {
		ev := tfo.Evidence{Kind: tfo.KindForged, OptionKind: 34, SynBytes: 10, End: tfo.EndTimeout, Wire: tt.wire}
		if got := (baseline{}).find(&ev); got != tt.want {
			t.Errorf("%s: finding %d, want %d", tt.name, got, tt.want)
		}
	}
}
