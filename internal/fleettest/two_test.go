package fleettest_test

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"tfofleet/internal/fleettest"
	"tfofleet/internal/store/pgtest"
)

// TestTwoControllers: two controllers share a fleet of twenty probes over
// PostgreSQL, and each of them is killed in the middle of a survey, one after the
// other. A controller has nothing that the other has not: nothing is lost,
// nothing is interrupted, nothing is there twice.
func TestTwoControllers(t *testing.T) {
	t.Parallel()
	const (
		probes  = 20
		rate    = 20 // targets per second and probe
		targets = 6000
	)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))

	f := fleettest.New(t, targets)
	dataset := filepath.Join(f.Dir, "surveys")
	shared := []string{"--store", pgtest.New(t), "--dataset", dataset}
	one := f.AddController(shared...)
	two := f.AddController(append(shared, "--ca", one.CopyCA())...)
	for i := range probes { // one half is at home at either
		f.AddProbe(rate, []*fleettest.Controller{f.Controllers[i%2], f.Controllers[1-i%2]})
	}
	s := f.Survey(one, targets, "--rate", fmt.Sprint(rate), "--concurrency", "8")
	after := func(n uint64) {
		s.Measured(n)
		time.Sleep(time.Duration(rng.Int64N(int64(300 * time.Millisecond)))) // the moment of death
	}
	after(targets / 8)
	one.Kill()
	// What the probes of the dead one go on with comes in over the other.
	after(targets / 2)
	one.Start()
	two.Kill()
	after(targets * 3 / 4)
	two.Start()

	st := s.Done(2 * fleettest.Patience)
	if st.GetMeasured() != targets {
		t.Errorf("the survey ended as %v", st)
	}
	f.Connected()
	s.Check(filepath.Join(dataset, s.ID), 1)
	f.End()
}
