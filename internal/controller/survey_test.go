package controller_test

import (
	"testing"
	"time"

	"google.golang.org/grpc"

	"tfofleet/internal/agent/agenttest"
	"tfofleet/internal/dataset"
	"tfofleet/internal/measure"
	pb "tfofleet/proto/tfofleet/v1"
)

type conn = grpc.ClientConnInterface

func TestSurvey(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir)
	runner := &agenttest.Runner{Concurrency: 8, Script: func(m measure.Target) measure.Measurement {
		x := agenttest.Healthy(m)
		if m.Item%10 == 3 {
			x.Verdict, x.Attempts = measure.Unsupported, x.Attempts[:3]
		}
		return x
	}}
	const n = 1000
	id := r.survey(t, n, spec())
	r.start(t, "local", runner)
	st := r.watch(t, id, ended)
	if st.GetPhase() != pb.SurveyPhase_SURVEY_PHASE_DONE || st.GetMeasured() != n || st.GetPending() != 0 || st.GetReason() != "" || st.GetStalled() != "" {
		t.Errorf("ended as %v", st)
	}
	var unsupported uint64
	for item, rec := range complete(t, dir, n) {
		want := 5
		if item%10 == 3 {
			want = 3
			unsupported++
		}
		if len(rec.Attempts) != want || rec.Probe != "local" || rec.Survey != id || len(rec.Conditions) != 3 {
			t.Fatalf("item %d: %d attempts by %q, conditions %v", item, len(rec.Attempts), rec.Probe, rec.Conditions)
		}
	}
	doc, err := dataset.ReadSurvey(dir)
	if err != nil {
		t.Fatal(err)
	}
	if doc.Counts.Verdicts["unsupported"] != unsupported || doc.Counts.Verdicts["supported"] != n-unsupported {
		t.Errorf("survey.json counts %v, want %d unsupported", doc.Counts.Verdicts, unsupported)
	}
	if len(doc.Probes) != 1 || doc.Probes[0].Name != "local" || *doc.Probes[0].TCPFastOpen != 1 || doc.Probes[0].BlackholeTimeoutS != nil || !*doc.Probes[0].CanClearCookies {
		t.Errorf("survey.json names the probes %+v", doc.Probes)
	}
	for addr, times := range runner.Counts().Started {
		if times != 1 {
			t.Errorf("%v was measured %d times", addr, times)
		}
	}
}

// TestNoFixedTail: nothing waits for a tick at the end of a survey. The best of
// some runs counts: what else the machine does is not the question.
func TestNoFixedTail(t *testing.T) {
	best := time.Hour
	for range 5 {
		r := open(t, t.TempDir())
		stop := r.start(t, "local", &agenttest.Runner{Concurrency: 1})
		id := r.survey(t, 1, spec())
		begun := time.Now()
		r.watch(t, id, ended)
		best = min(best, time.Since(begun))
		stop()
		r.close()
	}
	if best > 300*time.Millisecond {
		t.Errorf("a survey of one target that takes no time took %v", best)
	}
	t.Log("best", best)
}
