package main

import (
	"context"
	"fmt"
	"time"

	pb "tfofleet/proto/tfofleet/v1"
)

// reconnect kills the controller under a fleet that holds leases, and starts it
// again a second later, as a supervisor does. Nothing of it may reach the
// leases: they are held until the controller is back, and reported then.
func (b *bench) reconnect(ctx context.Context) error {
	if err := b.needFleet(ctx); err != nil {
		return err
	}
	f := b.fleet
	const targets = 128 // two chunks for every probe
	list, err := upload(ctx, f, targets)
	if err != nil {
		return err
	}
	results, err := newBodies()
	if err != nil {
		return err
	}
	f.probes.Begin(results.batches)
	f.probes.Hold()
	id, err := create(ctx, f, list, pb.SurveyMode_SURVEY_MODE_EVERY)
	if err != nil {
		return err
	}
	want := 2 * len(f.members)
	if err := f.await(ctx, "leases held", time.Minute, func() bool { return f.probes.Counts().Leases >= want }); err != nil {
		return err
	}
	welcomes := f.probes.Welcomes()
	if err := f.process.kill(); err != nil {
		return err
	}
	f.dials.forget()
	const down = time.Second
	time.Sleep(down)
	begun := time.Now()
	if err := f.process.start(); err != nil {
		return err
	}
	var half time.Duration
	err = f.await(ctx, "all probes back", 5*time.Minute, func() bool {
		n := f.probes.Welcomes() - welcomes
		if half == 0 && 2*n >= len(f.members) {
			half = time.Since(begun)
		}
		return n >= len(f.members)
	})
	if err != nil {
		return err
	}
	took := time.Since(begun)
	all, most := f.dials.peak()
	fmt.Printf("reconnect: controller killed under %d probes with %d leases, down for %v; all back %.1f s after its start, half of them after %.1f s; %d new connections so far, at most %d in a second\n",
		len(f.members), want, down, took.Seconds(), half.Seconds(), all, most)

	select {
	case <-time.After(b.hold):
	case <-ctx.Done():
		return ctx.Err()
	}
	c := f.probes.Counts() // what is dropped later is over
	f.probes.Release()
	st, err := f.wait(ctx, id, func() {})
	if err != nil {
		return err
	}
	after := f.probes.Counts()
	fmt.Printf("reconnect: held %v more; %d leases dropped, %d leased again, %d batches rejected; %s; controller: %d MB at most so far\n",
		b.hold, c.Dropped, after.Again, after.Rejected, equation(st), f.process.peakMB())
	return nil
}
