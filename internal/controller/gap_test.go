package controller_test

import (
	"testing"

	"tfofleet/internal/measure"
	pb "tfofleet/proto/tfofleet/v1"
)

// TestGap: a probe that dropped results for want of room says so of each target,
// and has no record of it. They end as interrupted, in the dataset as well.
func TestGap(t *testing.T) {
	const n = 5
	dir := t.TempDir()
	r := open(t, dir)
	sp := spec()
	sp.RepeatInterrupted = false
	id := r.survey(t, n, sp)
	s := r.raw(t)
	if _, err := s.hello(&pb.Hello{Probe: "fra", Instance: "1"}); err != nil {
		t.Fatal(err)
	}
	s.credit(1)
	l := s.lease()
	gap := &pb.ReportResultsRequest{Probe: "fra", Lease: l.GetRef(), Sequence: 1}
	for i := range uint32(n - 1) {
		gap.Indexes = append(gap.Indexes, i)
		gap.Outcomes, gap.Verdicts = append(gap.Outcomes, pb.Outcome_OUTCOME_INTERRUPTED), append(gap.Verdicts, 0)
	}
	for _, b := range []*pb.ReportResultsRequest{gap, batchOf(t, "fra", part(l, n-1))} {
		if resp := r.results(t, b); resp.GetRejected() != "" {
			t.Fatal(resp)
		}
	}
	if st := r.watch(t, id, ended); st.GetInterrupted() != n-1 || st.GetMeasured() != 1 {
		t.Errorf("ended as %v", st)
	}
	got := contents(t, dir)
	if len(got) != n {
		t.Errorf("%d targets in the dataset, want %d", len(got), n)
	}
	for item, rec := range got {
		if want := map[bool]measure.Outcome{true: measure.OutcomeMeasured, false: measure.OutcomeInterrupted}[item == n-1]; rec.Outcome != want || rec.Probe != "fra" {
			t.Errorf("item %d of %s is %v, want %v", item, rec.Probe, rec.Outcome, want)
		}
	}
}
