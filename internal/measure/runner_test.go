package measure_test

import (
	"net"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"tfofleet/internal/measure"
	"tfofleet/internal/tfo"
)

// TestPermit: asked before every SYN, on loopback with the real kernel. What was
// refused before its first SYN was refused, what was refused later is
// interrupted, and keeps what was found until then.
func TestPermit(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var accepted atomic.Int64
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted.Add(1)
			c.Write([]byte("hello"))
			c.Close()
		}
	}()
	at := netip.MustParseAddrPort(l.Addr().String())
	const why = measure.Condition("tfo.vantage.refused_test")
	for allowed, want := range []measure.Outcome{measure.OutcomeRefused, measure.OutcomeInterrupted, measure.OutcomeInterrupted} {
		accepted.Store(0)
		asked := 0 // by one goroutine at a time
		target := measure.Target{Item: 7, Addr: at.Addr(), Port: at.Port(), Hostname: "localhost"}
		r, err := measure.NewRunner(measure.Settings{
			Plan: measure.Standard, Payload: measure.PayloadAuto, Timeout: 5 * time.Second,
			Permit: func(x measure.Target) (measure.Condition, bool) {
				if x != target {
					t.Errorf("asked about %v", x)
				}
				asked++
				return why, asked <= allowed
			},
		}, tfo.Config{Concurrency: 1, Capture: tfo.CaptureOff})
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan measure.Measurement)
		r.Submit(target, nil, func(m measure.Measurement) { done <- m })
		m := <-done
		r.Stop()
		if m.Outcome != want || len(m.Attempts) != allowed || !slices.Equal(m.Conditions, []measure.Condition{why}) || m.Started.IsZero() {
			t.Errorf("%d SYNs permitted: %v %v, %d attempts", allowed, m.Outcome, m.Conditions, len(m.Attempts))
		}
		if asked != allowed+1 || accepted.Load() != int64(allowed) {
			t.Errorf("%d SYNs permitted: asked %d times, %d connections", allowed, asked, accepted.Load())
		}
	}
}
