package fleettest_test

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"path/filepath"
	"testing"
	"time"

	"tfofleet/internal/dataset/place"
	"tfofleet/internal/dataset/place/s3test"
	"tfofleet/internal/fleettest"
	"tfofleet/internal/store/pgtest"
)

// TestTwoControllers: two controllers share a fleet of twenty probes over
// PostgreSQL, and each of them is killed in the middle of a survey, one after the
// other. A controller has nothing that the other has not: nothing is lost,
// nothing is interrupted, nothing is there twice.
func TestTwoControllers(t *testing.T) {
	t.Parallel()
	const targets = 4000
	f := fleettest.New(t, targets)
	twoControllers(t, f, 20, targets, filepath.Join(f.Dir, "surveys"))
}

// TestTwoControllersAndABucket is the same with a smaller fleet, and the dataset
// in a bucket of an S3 server.
func TestTwoControllersAndABucket(t *testing.T) {
	const targets = 1000
	s3 := s3test.Start(t) // its environment is that of all: not parallel
	f := fleettest.New(t, targets)
	endpoint, err := url.Parse(s3.Endpoint)
	if err != nil {
		t.Fatal(err)
	}
	f.Serve = endpoint.Host
	twoControllers(t, f, 5, targets, s3.URL("fleet"))
}

func twoControllers(t *testing.T, f *fleettest.Fleet, probes, targets int, datasets string) {
	const rate = 60 // SYNs per second and probe; a target takes five
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))

	shared := []string{"--store", pgtest.New(t), "--dataset", datasets}
	one := f.AddController(shared...)
	two := f.AddController(append(shared, "--ca", one.CopyCA())...)
	for i := range probes { // one half is at home at either
		f.AddProbe(rate, []*fleettest.Controller{f.Controllers[i%2], f.Controllers[1-i%2]})
	}
	f.Connected()
	s := f.Survey(one, targets, "--rate", fmt.Sprint(rate), "--concurrency", "8")
	after := func(n int) {
		s.Measured(uint64(n))
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
	if st.GetMeasured() != uint64(targets) {
		t.Errorf("the survey ended as %v", st)
	}
	f.Connected()
	if n := s.Check(place.Join(datasets, s.ID), 1); n > 0 {
		t.Errorf("%d were measured twice, although no probe was lost", n)
	}
	f.End()
}
