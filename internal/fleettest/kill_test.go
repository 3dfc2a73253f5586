package fleettest_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"tfofleet/internal/fleettest"
)

// TestKilled kills the controller and the probes of surveys, one or two at a
// time, at random moments, and starts them again. At every moment each planned
// target has one outcome; in the end none is lost, none is there twice, and nothing
// was made again in silence.
func TestKilled(t *testing.T) {
	t.Parallel()
	const (
		kills   = 50
		probes  = 4
		rate    = 300 // SYNs per second and probe; a target takes five
		targets = 1500
	)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))

	f := fleettest.New(t, 20*targets)
	c := f.AddController()
	for range probes {
		f.AddProbe(rate, f.Controllers)
	}
	f.Connected()
	var done, ofProbes, surveys int
	var planned, interrupted uint64
	for done < kills {
		// In turn, each target by one probe and by two.
		copies := 1 + surveys%2
		surveys++
		s := f.Survey(c, targets, "--rate", fmt.Sprint(rate), "--concurrency", "8", "--mode", []string{"shard", "2"}[copies-1])
		killed := 0
		for over := false; !over && done < kills; {
			over = s.Measured(s.State().GetMeasured() + uint64(10+rng.IntN(40)))
			time.Sleep(time.Duration(rng.Int64N(int64(200 * time.Millisecond)))) // the moment of death
			victims := rng.Perm(probes + 1)[:1+rng.IntN(2)]
			for _, v := range victims {
				if v == probes {
					c.Kill()
					continue
				}
				f.Probes[v].Kill()
				killed++
			}
			for _, v := range victims {
				if v == probes {
					c.Start()
				} else {
					f.Probes[v].Launch() // it may have nobody to connect to yet
				}
			}
			done += len(victims)
			s.State()
		}
		st := s.Done(2 * fleettest.Patience)
		if n := s.Check(c.Dataset(s), copies); n > 0 {
			t.Errorf("%d were contacted twice", n)
		}
		t.Logf("%d probes killed: %d measured, %d interrupted", killed, st.GetMeasured(), st.GetInterrupted())
		// What is marked at a time, and what has a result in a batch that is not
		// full or in a group that is not on the disk.
		const perKill = 8 + 8/2 + 16 + rate/5
		if st.GetInterrupted() > uint64(killed)*perKill {
			t.Errorf("%d interrupted by %d kills", st.GetInterrupted(), killed)
		}
		planned, interrupted, ofProbes = planned+st.GetPlanned(), interrupted+st.GetInterrupted(), ofProbes+killed
	}
	t.Logf("%d kills, %d of them of probes, in %d surveys: %d of %d interrupted", done, ofProbes, surveys, interrupted, planned)
	f.Connected()
	f.End()
}
