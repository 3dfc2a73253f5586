package agenttest_test

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/protobuf/types/known/durationpb"

	"tfofleet/internal/agent/agenttest"
	"tfofleet/internal/controller"
	"tfofleet/internal/lease"
	"tfofleet/internal/measure"
	"tfofleet/internal/store"
	pb "tfofleet/proto/tfofleet/v1"
)

// TestFleet: to a controller it is a fleet. What it holds back stays leased, and
// then every target is measured, once.
func TestFleet(t *testing.T) {
	const targets, probes, heartbeat = 300, 3, 100 * time.Millisecond
	dir := t.TempDir()
	rules := lease.DefaultRules(heartbeat)
	st, err := store.OpenSQLite(t.Context(), filepath.Join(dir, "state.db"), store.Options{Rules: rules})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	c, err := controller.New(t.Context(), controller.Config{
		Dir: dir, Dataset: func(string) string { return filepath.Join(dir, "dataset") }, Store: st,
		Heartbeat: heartbeat, TTL: rules.TTL, Version: "test", Logger: hclog.NewNullLogger(),
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	wire := c.ServeInMemory()
	defer wire.Stop()
	conn, err := wire.Dial()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ctl := pb.NewControlServiceClient(conn)

	f := agenttest.NewFleet(2)
	f.Begin(report)
	f.Hold()
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	defer running.Wait()
	defer stop()
	for i := range probes {
		p := f.Probe(fmt.Sprint("probe-", i), conn, conn)
		running.Go(func() { p.Run(ctx) })
	}
	stream, err := ctl.AddTargets(ctx)
	if err != nil {
		t.Fatal(err)
	}
	req := &pb.AddTargetsRequest{Seed: 7}
	for i := range targets {
		req.Targets = append(req.Targets, &pb.Target{Address: []byte{198, 18, byte(i >> 8), byte(i)}, Port: 443})
	}
	if err := stream.Send(req); err != nil {
		t.Fatal(err)
	}
	list, err := stream.CloseAndRecv()
	if err != nil {
		t.Fatal(err)
	}
	survey, err := ctl.CreateSurvey(ctx, &pb.CreateSurveyRequest{RequestId: "1", TargetsId: list.GetTargetsId(), Spec: &pb.SurveySpec{
		Plan: pb.Plan_PLAN_STANDARD, Family: pb.Family_FAMILY_ANY, Payload: pb.Payload_PAYLOAD_HTTP, Concurrency: 8, Timeout: durationpb.New(time.Second),
	}})
	if err != nil {
		t.Fatal(err)
	}
	await(t, "all is leased", func() bool { return f.Counts().Leases == (targets+63)/64 })
	await(t, "heartbeats are answered", func() bool { gaps, _ := f.Heartbeats(); return len(gaps) >= probes })
	if n := f.Acked(); n != 0 || f.Connected() != probes || f.Welcomes() != probes {
		t.Errorf("%d acknowledged while all is held back, %d connected, %d sessions", n, f.Connected(), f.Welcomes())
	}
	f.Release()
	await(t, "all is acknowledged", func() bool { return f.Acked() == targets })
	var state *pb.SurveyState
	await(t, "the survey ends", func() bool {
		resp, err := ctl.GetSurvey(ctx, &pb.GetSurveyRequest{Survey: survey.GetSurvey()})
		if err != nil {
			t.Fatal(err)
		}
		state = resp.GetState()
		return state.GetPhase() == pb.SurveyPhase_SURVEY_PHASE_DONE
	})
	if state.GetMeasured() != targets {
		t.Errorf("ended as %v", state)
	}
	if c := f.Counts(); c.Again != 0 || c.Rejected != 0 || len(f.Waits()) != c.Leases || f.Err() != nil {
		t.Errorf("%+v, %d waits, %v", c, len(f.Waits()), f.Err())
	}
}

// report is the results of a lease, all in one batch.
func report(l *pb.Lease) []*pb.ReportResultsRequest {
	req := &pb.ReportResultsRequest{}
	var ms []measure.Measurement
	for _, w := range l.GetTargets() {
		t, err := measure.TargetFromWire(w)
		if err != nil {
			panic(err)
		}
		ms = append(ms, agenttest.Thorough(t))
		req.Indexes = append(req.Indexes, uint32(t.Item-l.GetFirstItem()))
		req.Outcomes = append(req.Outcomes, pb.Outcome_OUTCOME_MEASURED)
		req.Verdicts = append(req.Verdicts, pb.Verdict_VERDICT_SUPPORTED)
	}
	var err error
	if req.Measurements, err = measure.EncodeBatch(ms); err != nil {
		panic(err)
	}
	return []*pb.ReportResultsRequest{req}
}

// await waits for what must come true.
func await(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !f(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("never came: " + what)
		}
	}
}
