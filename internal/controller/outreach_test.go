package controller_test

import (
	"path/filepath"
	"testing"
	"time"

	"tfofleet/internal/controller"
	"tfofleet/internal/lease"
	"tfofleet/internal/store"
	pb "tfofleet/proto/tfofleet/v1"
)

// lent is a store that whoever has it does not close.
type lent struct{ store.Store }

func (lent) Close() error { return nil }

// TestSurveyOutOfReach: a controller that cannot reach the dataset of a survey,
// which another one has started, does not offer its chunks without end.
func TestSurveyOutOfReach(t *testing.T) {
	t.Parallel()
	dir, rules := t.TempDir(), lease.DefaultRules(10*time.Second)
	st := sqlite(t, dir, store.Options{Rules: rules})
	t.Cleanup(func() { st.Close() })
	var rigs [2]*rig
	for i, place := range []string{"surveys", "nowhere"} {
		rigs[i] = serveFor(t, controller.Config{
			Dir: filepath.Join(dir, place), Dataset: func(id string) string { return filepath.Join(dir, place, id) },
			Store: lent{st}, Name: place, Shared: true, TTL: rules.TTL,
		})
	}
	id := rigs[0].survey(t, 3, spec())
	s := rigs[1].raw(t)
	if _, err := s.hello(&pb.Hello{Probe: "fra", Instance: "1"}); err != nil {
		t.Fatal(err)
	}
	s.credit(1)
	offered := func() uint64 {
		t.Helper()
		// An event of nobody changes nothing, and tells the chunk.
		c, _, err := st.Apply(ctx, store.Key{Survey: id}, lease.StreamLost{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return c.Epoch
	}
	rigs[1].await(t, "it was offered", func() bool { return offered() > 0 })
	time.Sleep(3 * time.Second)
	if n := offered(); n > 10 {
		t.Errorf("it was offered %d times in 3 s", n)
	}
}
