package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

// needFleet starts the fleet that scenarios share, with its probes connected.
func (b *bench) needFleet(ctx context.Context) error {
	if b.fleet != nil {
		return nil
	}
	f, err := b.newFleet(ctx, "fleet", b.probes, 2)
	if err != nil {
		return err
	}
	b.fleet = f
	f.run()
	return f.await(ctx, "all probes connected", 5*time.Minute, func() bool { return f.probes.Connected() == len(f.members) })
}

// fleetUp is a fleet that comes up from nothing and then only lives: probes that
// joined earlier and a controller that was killed start at the same moment.
func (b *bench) fleetUp(ctx context.Context) error {
	f, err := b.newFleet(ctx, "fleet", b.probes, 2)
	if err != nil {
		return err
	}
	b.fleet = f
	if err := f.process.kill(); err != nil {
		return err
	}
	f.dials.forget()
	begun := time.Now()
	if err := f.process.start(); err != nil {
		return err
	}
	f.run()
	half := time.Duration(0)
	err = f.await(ctx, "all probes connected", 5*time.Minute, func() bool {
		if half == 0 && 2*f.probes.Welcomes() >= len(f.members) {
			half = time.Since(begun)
		}
		return f.probes.Welcomes() >= len(f.members)
	})
	if err != nil {
		return err
	}
	took, used := time.Since(begun), f.process.used()
	now, err := f.process.memory()
	if err != nil {
		return err
	}
	_, most := f.dials.peak()
	fmt.Printf("fleet: all %d probes connected %.1f s after the cold start of the controller (half of them after %.1f s), two connections each, at most %d new ones in a second; controller: %.1f s of processor time, %d MB\n",
		len(f.members), took.Seconds(), half.Seconds(), most, used.Seconds(), now)
	return b.idle(ctx, f)
}

// idle watches the heartbeats of a fleet without work.
func (b *bench) idle(ctx context.Context, f *fleet) error {
	steady := b.steady
	if steady == 0 {
		steady = 2*max(b.heartbeat, time.Duration(b.probes)*time.Second/50) + 2*time.Second
	}
	f.probes.Begin(nil) // nothing is leased
	used := f.process.used()
	select {
	case <-time.After(steady):
	case <-ctx.Done():
		return ctx.Err()
	}
	used = f.process.used() - used
	now, err := f.process.memory()
	if err != nil {
		return err
	}
	fmt.Printf("fleet: %v without work: %s; controller: %.1f %% of one processor, %d MB now, %d MB at most so far\n",
		steady, f.heartbeats(), 100*used.Seconds()/steady.Seconds(), now, f.process.peakMB())
	return nil
}

// heartbeats tells of those since Begin, as the controller saw them.
func (f *fleet) heartbeats() string {
	gaps, replies := f.probes.Heartbeats()
	if len(gaps) == 0 {
		return fmt.Sprintf("%d heartbeats answered, no two of one session", len(replies))
	}
	worst, interval := 0.0, gaps[0].Interval
	var late time.Duration
	for _, g := range gaps {
		worst = max(worst, g.Between.Seconds()/g.Interval.Seconds())
		late = max(late, g.Between-g.Interval*11/10)
		interval = max(interval, g.Interval)
	}
	return fmt.Sprintf("%d heartbeats, one in %v; as the controller saw them the longest gap was %.2f intervals, %.0f ms beyond the spread of a tenth; answered within %s",
		len(replies), interval, worst, 1000*late.Seconds(), quantiles(replies))
}

// quantiles of durations, for people.
func quantiles(d []time.Duration) string {
	if len(d) == 0 {
		return "-"
	}
	d = slices.Sorted(slices.Values(d))
	at := func(q float64) float64 { return 1000 * d[int(q*float64(len(d)-1))].Seconds() }
	return fmt.Sprintf("%.1f ms (median), %.1f ms (99 %%), %.1f ms (longest)", at(0.5), at(0.99), at(1))
}
