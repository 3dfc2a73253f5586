package controller_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"tfofleet/internal/agent/agenttest"
	"tfofleet/internal/controller"
	"tfofleet/internal/dataset"
	"tfofleet/internal/lease"
	"tfofleet/internal/store"
	pb "tfofleet/proto/tfofleet/v1"
)

// TestSurveyThatFails: what was measured of it is in its dataset, also what comes
// after the end, and other surveys go on.
func TestSurveyThatFails(t *testing.T) {
	t.Parallel()
	dir, rules := t.TempDir(), lease.DefaultRules(10*time.Second)
	st := sqlite(t, dir, store.Options{Rules: rules})
	r := serveFor(t, controller.Config{Dir: dir, Dataset: func(id string) string { return filepath.Join(dir, "surveys", id) }, Store: st, TTL: rules.TTL})
	const n = 3 * 64
	sp := spec()
	sp.RepeatInterrupted = false
	id := r.survey(t, n, sp)
	own := filepath.Join(dir, "surveys", id)
	s := r.raw(t)
	if _, err := s.hello(&pb.Hello{Probe: "fra", Instance: "1"}); err != nil {
		t.Fatal(err)
	}
	s.credit(2)
	l, dropped := s.lease(), s.lease()
	damage(t, filepath.Join(own, "targets.parquet"))
	s.credit(3)
	if got := r.until(t, id, ended); got.GetPhase() != pb.SurveyPhase_SURVEY_PHASE_FAILED || got.GetReason() == "" {
		t.Fatalf("ended as %v", got)
	}
	gap := batchOf(t, "fra", dropped)
	gap.Measurements, gap.Sequence = nil, 1
	for i := range gap.Outcomes {
		gap.Outcomes[i] = pb.Outcome_OUTCOME_INTERRUPTED
	}
	for _, b := range []*pb.ReportResultsRequest{batchOf(t, "fra", l), gap} {
		if resp := r.results(t, b); resp.GetRejected() != "" {
			t.Fatal(resp)
		}
	}
	r.await(t, "its results are written", func() bool { return len(contents(t, own)) == len(l.GetTargets()) })
	r.await(t, "survey.json counts them", func() bool {
		doc, err := dataset.ReadSurvey(own)
		if err != nil {
			t.Fatal(err)
		}
		return doc.State == dataset.StateFailed && doc.Counts.Measured == uint64(len(l.GetTargets())) && doc.Counts.Interrupted == uint64(len(dropped.GetTargets()))
	})

	if err := s.CloseSend(); err != nil {
		t.Fatal(err)
	}
	r.start(t, "sin", &agenttest.Runner{Concurrency: 16})
	resp, err := r.ctl.CreateSurvey(ctx, &pb.CreateSurveyRequest{RequestId: "another", TargetsId: r.list(t, n), Spec: spec()})
	if err != nil {
		t.Fatal(err)
	}
	if got := r.watch(t, resp.GetSurvey(), ended); got.GetMeasured() != n {
		t.Errorf("another survey ended as %v", got)
	}
	if why := r.server.Trouble(); why != "" {
		t.Errorf("trouble: %s", why)
	}
}

// damage makes the content of a file unreadable, not its end, by which it is
// opened.
func damage(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(make([]byte, info.Size()/2), 4); err != nil {
		t.Fatal(err)
	}
}
