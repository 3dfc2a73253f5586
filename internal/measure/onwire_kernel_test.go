package measure_test

import (
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"tfofleet/internal/lab"
	"tfofleet/internal/lab/labtest"
	"tfofleet/internal/measure"
	"tfofleet/internal/tfo"
)

// TestWireConditions measures paths on which the wire shows what no socket
// does, with the capture and without: the verdict is the same, the conditions
// are there with it alone.
func TestWireConditions(t *testing.T) {
	t.Parallel()
	l := labtest.New(t, lab.Config{Seed: 1})
	tests := []struct {
		path string
		want measure.Condition
	}{
		{"mirrored", measure.CondCookieMirrored},
		{"mirrored-whole", measure.CondCookieMirrored},
		{"emptied-back", measure.CondCookieMirrored},
		{"cookie-odd", measure.CondCookieUnusable},
		{"over-ack", measure.CondSynDataOverAcked},
		{"peer-both-kinds", measure.CondCookieBothKinds},
		{"peer-synack-data", measure.CondSynAckData},
		{"peer-unsolicited", measure.CondCookieUnsolicited},
	}
	var targets []measure.Target
	for _, tt := range tests {
		p, ok := l.Target(tt.path)
		if !ok {
			t.Fatalf("no path %s", tt.path)
		}
		for _, a := range []netip.Addr{p.V4, p.V6} {
			targets = append(targets, measure.Target{Item: uint64(len(targets)), Addr: a, Port: p.Port})
		}
	}
	run := func(mode tfo.CaptureMode) []measure.Measurement {
		r, err := measure.NewRunner(
			measure.Settings{Plan: measure.Standard, Payload: measure.PayloadAuto, Timeout: 900 * time.Millisecond},
			tfo.Config{Concurrency: len(targets), NetNS: tfo.NetNS(l.ClientNetNS()), Capture: mode})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Stop()
		out := make([]measure.Measurement, len(targets))
		var wg sync.WaitGroup
		for i, target := range targets {
			wg.Add(1)
			r.Submit(target, nil, func(m measure.Measurement) { out[i] = m; wg.Done() })
		}
		wg.Wait()
		return out
	}
	with, without := run(tfo.CaptureAuto), run(tfo.CaptureOff)
	for i := range targets {
		tt := tests[i/2]
		if !slices.Contains(with[i].Conditions, tt.want) {
			t.Errorf("%s: %s is missing: %s", tt.path, tt.want, describe(with[i]))
		}
		if slices.Contains(without[i].Conditions, tt.want) || with[i].Verdict != without[i].Verdict {
			t.Errorf("%s without capture: %s\nwith: %s", tt.path, describe(without[i]), describe(with[i]))
		}
	}
}
