package main

import (
	"context"
	"fmt"
	"path/filepath"
	"runtime"
	"time"

	"tfofleet/internal/dataset"
	pb "tfofleet/proto/tfofleet/v1"
)

// ingest is a survey by the whole fleet whose measurements cost nothing: all
// that is left is to take the results in and to write them.
func (b *bench) ingest(ctx context.Context) error {
	if err := b.needFleet(ctx); err != nil {
		return err
	}
	return b.take(ctx, b.fleet, "ingest", b.some(100_000))
}

// tenMillion is a long survey by few probes.
func (b *bench) tenMillion(ctx context.Context) error {
	f, err := b.newFleet(ctx, "tenmillion", 10, 4)
	if err != nil {
		return err
	}
	defer f.close()
	f.run()
	if err := f.await(ctx, "all probes connected", time.Minute, func() bool { return f.probes.Connected() == len(f.members) }); err != nil {
		return err
	}
	return b.take(ctx, f, "tenmillion", b.some(100_000))
}

// take makes a survey of n targets and tells how fast its results were taken in
// and written. They are encoded before the clock starts: the load shares the
// machine with what is measured.
func (b *bench) take(ctx context.Context, f *fleet, name string, n int) error {
	begun := time.Now()
	list, err := upload(ctx, f, n)
	if err != nil {
		return err
	}
	now, err := f.process.memory()
	if err != nil {
		return err
	}
	fmt.Printf("%s: list of %d targets uploaded, sorted and frozen in %.1f s; controller: %d MB\n", name, n, time.Since(begun).Seconds(), now)
	results, err := newBodies()
	if err != nil {
		return err
	}
	frozen, err := dataset.OpenTargets(filepath.Join(f.process.data, "surveys", "lists", list))
	if err != nil {
		return err
	}
	defer frozen.Close()
	if err := results.prepare(ctx, frozen); err != nil {
		return err
	}
	runtime.GC()

	profiled := b.profiled(f.process, name)
	f.probes.Begin(results.batches)
	begun = time.Now()
	own, used := processTime(), f.process.used()
	id, err := create(ctx, f, list, pb.SurveyMode_SURVEY_MODE_SHARD)
	if err != nil {
		return err
	}
	created := time.Since(begun)
	tell := f.progress(name, "results acknowledged", n, f.probes.Acked)
	err = f.await(ctx, "all results acknowledged", time.Hour, func() bool { tell(); return f.probes.Acked() >= n })
	if err != nil {
		return err
	}
	acked, ackedCPU, ownCPU, written := time.Since(begun), f.process.used()-used, processTime()-own, f.written(id)
	results.drop() // the room may be needed
	profiled()
	profiled = b.profiled(f.process, name+"-writing")
	tell = f.progress(name, "chunks written", frozen.Chunks(), func() int { return f.written(id) })
	st, err := f.wait(ctx, id, tell)
	if err != nil {
		return err
	}
	done, doneCPU := time.Since(begun), f.process.used()-used
	profiled()

	count := float64(n)
	perCore := func(cpu time.Duration) string {
		return fmt.Sprintf("%.1f µs of the controller's processor time each, that is %.0f/s per processor of it", 1e6*cpu.Seconds()/count, count/cpu.Seconds())
	}
	fmt.Printf("%s: %d measurements of 6 attempts, %.0f B each on the wire, by %d probes: %.0f/s acknowledged over %.1f s of wall clock (survey created in %.2f s), with %s; the load took %.1f s of processor time, %d of its batches were not encoded beforehand\n",
		name, n, float64(results.bytes.Load())/count, len(f.members), count/acked.Seconds(), acked.Seconds(), created.Seconds(), perCore(ackedCPU), ownCPU.Seconds(), results.late.Load())
	fmt.Printf("%s: %d of %d chunks were written when the last was acknowledged, the rest %.1f s later; from list to dataset %.0f/s, with %s\n",
		name, written, frozen.Chunks(), (done - acked).Seconds(), count/done.Seconds(), perCore(doneCPU))
	c := f.probes.Counts()
	waiting := 100 * c.Idle.Seconds() / acked.Seconds() / float64(len(f.members))
	fmt.Printf("%s: %d leases, from credit to lease %s; a probe had nothing to send for want of a lease %.2f %% of the time; %d leased again, %d batches rejected\n",
		name, c.Leases, quantiles(f.probes.Waits()), waiting, c.Again, c.Rejected)
	if now, err = f.process.memory(); err != nil {
		return err
	}
	fmt.Printf("%s: %s; %s; controller: %d MB now, %d MB at most so far\n", name, equation(st), f.heartbeats(), now, f.process.peakMB())
	return nil
}

// progress returns what tells now and then how far something is, and what the
// controller has in memory.
func (f *fleet) progress(name, what string, of int, done func() int) func() {
	const every = 10 * time.Second
	begun := time.Now()
	last, before := begun, 0
	return func() {
		now := time.Now()
		if now.Sub(last) < every {
			return
		}
		mb, err := f.process.memory()
		if err != nil {
			return // it ended, and await says so
		}
		n := done()
		fmt.Printf("%s: after %3.0f s %d of %d %s, %.0f/s; controller: %d MB\n", name, now.Sub(begun).Seconds(), n, of, what, float64(n-before)/now.Sub(last).Seconds(), mb)
		last, before = now, n
	}
}

// written is how many chunks of a survey are in its dataset.
func (f *fleet) written(id string) int {
	files, _ := filepath.Glob(filepath.Join(f.process.data, "surveys", id, "measurements", "*.parquet")) // the pattern is good
	return len(files)
}
