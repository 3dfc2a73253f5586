package main

import (
	"context"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"tfofleet/internal/tfo"
)

// offered is the rate, in attempts per second, that capture must keep up with.
const offered = 20000

// capture measures what evidence from the wire costs: the same ladders with
// the packet ring and without, once as fast as they go and once at a rate
// offered. Every attempt must have its SYN and its SYN-ACK; one without ends
// the run with an error. The processor time is that of the engine's process,
// which a busy machine disturbs less than the clock on the wall.
func (b *bench) capture(context.Context) error {
	targets := b.targets()
	attempts := float64(len(targets) * len(ladderRounds))
	for _, s := range []struct {
		what string
		rate float64
	}{{"at full speed", 0}, {fmt.Sprintf("%d attempts/s offered", offered), offered}} {
		var ring tfo.CaptureStats
		var cpu [2][]float64 // s, by mode
		side := func(mode tfo.CaptureMode) func() (time.Duration, error) {
			return func() (time.Duration, error) {
				begin := processTime()
				d, st, err := b.attempts(targets, tfo.Config{Capture: mode, Rate: s.rate})
				cpu[mode] = append(cpu[mode], (processTime() - begin).Seconds())
				ring.Packets += st.Packets
				ring.Drops += st.Drops
				return d, err
			}
		}
		t, err := b.inTurn(side(tfo.CaptureOff), side(tfo.CaptureAuto))
		if err != nil {
			return err
		}
		on, off := median(cpu[tfo.CaptureAuto])*1e6/attempts, median(cpu[tfo.CaptureOff])*1e6/attempts
		fmt.Printf("capture, %s: %.0f attempts/s with the ring, %.0f without, ratio %.2f; %.1f µs of processor time each with, %.1f without, ratio %.2f; none of %.0f attempts without SYN and SYN-ACK, %d packets, %d dropped\n",
			s.what, attempts/t[1], attempts/t[0], t[0]/t[1], on, off, off/on, attempts*float64(b.rounds+1), ring.Packets, ring.Drops)
	}
	return nil
}

func median(s []float64) float64 {
	slices.Sort(s)
	return s[len(s)/2]
}

// processTime is the processor time this process has used, in the kernel and
// out of it.
func processTime() time.Duration {
	var r unix.Rusage
	unix.Getrusage(unix.RUSAGE_SELF, &r)
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
