package controller_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"tfofleet/internal/agent"
	"tfofleet/internal/agent/agenttest"
	"tfofleet/internal/dataset"
	"tfofleet/internal/measure"
	pb "tfofleet/proto/tfofleet/v1"
)

// fleet starts probes and waits until all are connected.
func (r *rig) fleet(t *testing.T, took time.Duration, names ...string) {
	t.Helper()
	for _, name := range names {
		session, err := r.dial()
		if err != nil {
			t.Fatal(err)
		}
		results, err := r.dial()
		if err != nil {
			t.Fatal(err)
		}
		cfg := agentConfig(name, nil, session, results)
		cfg.Finish = time.Minute
		cfg.NewRunner = func(*pb.SurveySpec) (agent.Runner, error) {
			return &agenttest.Runner{Concurrency: 8, Took: func(measure.Target) time.Duration { return took }}, nil
		}
		run(t, agent.New(cfg))
	}
	r.await(t, "all probes connected", func() bool {
		open, err := r.store.Sessions(ctx, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		return len(open) == len(names)
	})
}

// await waits for what must come true.
func (r *rig) await(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("never came: " + what)
		}
	}
}

// seen is which probes measured each item, every pair once.
func seen(t *testing.T, dir string) map[uint64][]string {
	t.Helper()
	by := make(map[uint64][]string)
	for rec, err := range dataset.Read(dir) {
		if err != nil {
			t.Fatal(err)
		}
		if slices.Contains(by[rec.Item], rec.Probe) {
			t.Errorf("item %d was measured twice by %s", rec.Item, rec.Probe)
		}
		by[rec.Item] = append(by[rec.Item], rec.Probe)
	}
	return by
}

func TestModes(t *testing.T) {
	const n = 700
	names := []string{"a", "b", "c", "d"}
	for _, c := range []struct {
		name     string
		mode     pb.SurveyMode
		copies   uint32
		probes   []string // selected; nil: no selector
		each     int      // probes per target
		mayBeOne []string // who may have taken part
	}{
		{"shard", pb.SurveyMode_SURVEY_MODE_SHARD, 0, []string{"b", "c"}, 1, []string{"b", "c"}},
		{"shard, any", pb.SurveyMode_SURVEY_MODE_UNSPECIFIED, 0, nil, 1, names},
		{"every", pb.SurveyMode_SURVEY_MODE_EVERY, 0, nil, 4, names},
		{"every one selected", pb.SurveyMode_SURVEY_MODE_EVERY, 0, []string{"a", "d"}, 2, []string{"a", "d"}},
		{"2 of 4", pb.SurveyMode_SURVEY_MODE_COPIES, 2, nil, 2, names},
		{"3 of 3", pb.SurveyMode_SURVEY_MODE_COPIES, 3, []string{"a", "b", "c"}, 3, []string{"a", "b", "c"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := open(t, t.TempDir())
			r.fleet(t, 0, names...)
			req := &pb.CreateSurveyRequest{RequestId: "r", TargetsId: r.list(t, n), Spec: spec(), Mode: c.mode, Copies: c.copies}
			if c.probes != nil {
				req.Probes = &pb.ProbeSelector{Names: c.probes}
			}
			created, err := r.ctl.CreateSurvey(ctx, req)
			if err != nil {
				t.Fatal(err)
			}
			st := r.watch(t, created.GetSurvey(), ended)
			if st.GetPlanned() != uint64(n*c.each) || st.GetMeasured() != st.GetPlanned() {
				t.Errorf("ended as %v", st)
			}
			by := seen(t, r.dir)
			if len(by) != n {
				t.Errorf("%d targets in the dataset, want %d", len(by), n)
			}
			for item, probes := range by {
				if len(probes) != c.each {
					t.Errorf("item %d was measured by %v, want %d of them", item, probes, c.each)
				}
				for _, p := range probes {
					if !slices.Contains(c.mayBeOne, p) {
						t.Errorf("item %d was measured by %s, which was not selected", item, p)
					}
				}
			}
		})
	}
}

func TestModeRefuses(t *testing.T) {
	r := open(t, t.TempDir())
	r.fleet(t, 0, "a", "b")
	list := r.list(t, 10)
	for i, c := range []struct {
		req  *pb.CreateSurveyRequest
		want codes.Code
	}{
		{&pb.CreateSurveyRequest{Mode: pb.SurveyMode_SURVEY_MODE_COPIES}, codes.InvalidArgument},
		{&pb.CreateSurveyRequest{Mode: pb.SurveyMode_SURVEY_MODE_COPIES, Copies: 3}, codes.FailedPrecondition},
		{&pb.CreateSurveyRequest{Mode: 77}, codes.InvalidArgument},
		{&pb.CreateSurveyRequest{Probes: &pb.ProbeSelector{Names: []string{"x"}}}, codes.FailedPrecondition},
		{&pb.CreateSurveyRequest{Probes: &pb.ProbeSelector{Labels: []string{"region=fra"}}}, codes.FailedPrecondition},
	} {
		c.req.RequestId, c.req.TargetsId, c.req.Spec = fmt.Sprint(i), list, spec()
		if _, err := r.ctl.CreateSurvey(ctx, c.req); status.Code(err) != c.want {
			t.Errorf("%v: %v, want %v", c.req, err, c.want)
		}
	}
}

// TestPause: a paused survey comes to rest with nothing interrupted, and goes on
// where it stood.
func TestPause(t *testing.T) {
	const n = 2000
	r := open(t, t.TempDir())
	r.fleet(t, 5*time.Millisecond, "a", "b")
	sp := spec()
	sp.Concurrency, sp.RepeatInterrupted = 8, false
	id := r.survey(t, n, sp)
	r.watch(t, id, func(st *pb.SurveyState) bool { return st.GetMeasured() > 100 })
	paused, err := r.ctl.PauseSurvey(ctx, &pb.PauseSurveyRequest{Survey: id})
	if err != nil || !paused.GetState().GetPaused() {
		t.Fatal(paused, err)
	}
	r.await(t, "nothing is held", func() bool {
		for _, p := range []string{"a", "b"} {
			held, err := r.store.HeldBy(ctx, p)
			if err != nil {
				t.Fatal(err)
			}
			if len(held) > 0 {
				return false
			}
		}
		return true
	})
	rest := func() *pb.SurveyState {
		got, err := r.ctl.GetSurvey(ctx, &pb.GetSurveyRequest{Survey: id})
		if err != nil {
			t.Fatal(err)
		}
		return got.GetState()
	}
	before := rest()
	if before.GetPending() == 0 || before.GetInterrupted() != 0 {
		t.Errorf("paused as %v", before)
	}
	time.Sleep(50 * time.Millisecond) // in which a survey that runs measures 160
	if after := rest(); after.GetMeasured() != before.GetMeasured() {
		t.Errorf("%d measured, and %d a moment later, while paused", before.GetMeasured(), after.GetMeasured())
	}
	if _, err := r.ctl.ResumeSurvey(ctx, &pb.ResumeSurveyRequest{Survey: id}); err != nil {
		t.Fatal(err)
	}
	if st := r.watch(t, id, ended); st.GetMeasured() != n || st.GetPaused() {
		t.Errorf("ended as %v", st)
	}
	complete(t, r.dir, n)
	if _, err := r.ctl.PauseSurvey(ctx, &pb.PauseSurveyRequest{Survey: id}); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("pausing what is over: %v", err)
	}
}
