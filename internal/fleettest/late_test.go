package fleettest_test

import (
	"slices"
	"strings"
	"testing"

	"tfofleet/internal/dataset"
	"tfofleet/internal/fleettest"
	"tfofleet/internal/measure"
	pb "tfofleet/proto/tfofleet/v1"
)

// TestLateResults: a probe is cut off until long after its survey has ended. What
// it had begun is interrupted by then. It comes back, and what it measured of
// that gets into the dataset after all, marked.
func TestLateResults(t *testing.T) {
	t.Parallel()
	const targets = 1200
	f, c, s := partitioned(t, 2, targets)
	p := f.Probes[0]
	p.Cut(t, fleettest.BothWays)
	f.Await("the probe is lost", fleettest.Patience, func() bool { return p.Info().GetConnectedSince() == nil })
	before := s.Done(2 * fleettest.Patience)
	if before.GetInterrupted() == 0 {
		t.Fatal("none was interrupted: no lease lapsed")
	}
	p.Heal(t, fleettest.BothWays)
	f.Delivered(2 * fleettest.Patience)
	f.Await("late results", fleettest.Patience, func() bool { return s.State().GetMeasured() > before.GetMeasured() })
	s.Check(c.Dataset(s), 1)
	after := s.State()
	if after.GetPhase() != pb.SurveyPhase_SURVEY_PHASE_DONE || after.GetMeasured()+after.GetInterrupted() != targets {
		t.Errorf("the survey is %v now", after)
	}
	late := uint64(0)
	for rec, err := range dataset.Read(c.Dataset(s)) {
		if err != nil {
			t.Fatal(err)
		}
		if slices.Contains(rec.Conditions, measure.CondVantageLate) && rec.ChunkKey.Late > 0 {
			late++
			if !strings.HasPrefix(rec.Probe, p.Name+"-") || rec.Outcome != measure.OutcomeMeasured {
				t.Errorf("%v came late from %s: %v", rec.Target, rec.Probe, rec.Outcome)
			}
		}
	}
	if late < after.GetMeasured()-before.GetMeasured() {
		t.Errorf("%d came late, %d were measured at the end and %d are now", late, before.GetMeasured(), after.GetMeasured())
	}
	t.Logf("%d interrupted at the end, %d of them came late", before.GetInterrupted(), late)
	f.End()
}
