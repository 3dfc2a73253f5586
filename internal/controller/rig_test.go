package controller_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"tfofleet/internal/agent"
	"tfofleet/internal/agent/agenttest"
	"tfofleet/internal/controller"
	"tfofleet/internal/dataset"
	"tfofleet/internal/lease"
	"tfofleet/internal/measure"
	"tfofleet/internal/store"
	"tfofleet/internal/targets"
	pb "tfofleet/proto/tfofleet/v1"
)

var (
	ctx   = context.Background()
	quiet = hclog.NewNullLogger()
)

// rig is a controller on a directory, served in memory.
type rig struct {
	dir    string
	store  store.Store
	server *controller.Server
	memory *controller.Memory
	ctl    pb.ControlServiceClient
	conns  []*grpc.ClientConn
	others map[string]*grpc.ClientConn // to other controllers, by their address
}

// open starts a controller on the directory, as a process would.
func open(t testing.TB, dir string) *rig {
	t.Helper()
	return openWith(t, dir, 10*time.Second, lease.DefaultRules(10*time.Second))
}

func openWith(t testing.TB, dir string, heartbeat time.Duration, rules lease.Rules) *rig {
	t.Helper()
	r, err := tryOpen(dir, heartbeat, rules)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.close)
	return r
}

func tryOpen(dir string, heartbeat time.Duration, rules lease.Rules) (*rig, error) {
	st, err := store.OpenSQLite(ctx, filepath.Join(dir, "state.db"), store.Options{Rules: rules})
	if err != nil {
		return nil, err
	}
	return serve(controller.Config{Dir: dir, Dataset: func(string) string { return dir }, Store: st, Heartbeat: heartbeat, TTL: rules.TTL})
}

// sqlite is a store for who serves it, and closes it with that.
func sqlite(t testing.TB, dir string, opts store.Options) *store.SQLite {
	t.Helper()
	st, err := store.OpenSQLite(ctx, filepath.Join(dir, "state.db"), opts)
	if err != nil {
		t.Fatal(err)
	}
	return st
}

// serveFor is serve until the test ends.
func serveFor(t testing.TB, cfg controller.Config) *rig {
	t.Helper()
	r, err := serve(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.close)
	return r
}

// serve runs a controller, which has its store for itself.
func serve(cfg controller.Config) (*rig, error) {
	cfg.Version, cfg.Logger = "test", quiet
	st := cfg.Store
	r := &rig{dir: cfg.Dir, store: st}
	var err error
	r.server, err = controller.New(ctx, cfg)
	if err != nil {
		st.Close()
		return nil, err
	}
	r.memory = r.server.ServeInMemory()
	conn, err := r.dial()
	if err != nil {
		return nil, err
	}
	r.ctl = pb.NewControlServiceClient(conn)
	return r, nil
}

// dial makes a connection that is closed with the rig.
func (r *rig) dial() (*grpc.ClientConn, error) {
	c, err := r.memory.Dial()
	r.conns = append(r.conns, c)
	return c, err
}

// close stops the controller; a second time it does nothing.
func (r *rig) close() {
	if r.memory == nil {
		return
	}
	for _, c := range r.conns {
		c.Close()
	}
	r.memory.Stop()
	r.server.Close()
	r.store.Close()
	r.memory = nil
}

func spec() *pb.SurveySpec {
	return &pb.SurveySpec{
		Plan: pb.Plan_PLAN_STANDARD, Family: pb.Family_FAMILY_ANY, Payload: pb.Payload_PAYLOAD_AUTO, Seed: 7,
		Concurrency: 64, Timeout: durationpb.New(time.Second), RepeatInterrupted: true,
	}
}

// address is the i-th of a row of addresses that may be measured.
func address(i int) netip.Addr {
	return netip.AddrFrom4([4]byte{8, byte(i >> 16), byte(i >> 8), byte(i)})
}

// list uploads n targets.
func (r *rig) list(t testing.TB, n int) string {
	t.Helper()
	id, err := r.upload(n)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func (r *rig) upload(n int) (string, error) {
	stream, err := r.ctl.AddTargets(ctx)
	if err != nil {
		return "", err
	}
	for i := 0; i < n; {
		req := &pb.AddTargetsRequest{Seed: 7}
		for ; i < n && len(req.Targets) < 500; i++ {
			req.Targets = append(req.Targets, measure.TargetToWire(measure.Target{Addr: address(i), Port: 443}))
		}
		if err := stream.Send(req); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return "", err
		}
	}
	resp, err := stream.CloseAndRecv()
	if err != nil {
		return "", err
	}
	if resp.GetTargets() != uint64(n) {
		return "", fmt.Errorf("%d targets frozen, want %d", resp.GetTargets(), n)
	}
	return resp.GetTargetsId(), nil
}

// survey creates a survey over n targets.
func (r *rig) survey(t testing.TB, n int, sp *pb.SurveySpec) string {
	t.Helper()
	resp, err := r.ctl.CreateSurvey(ctx, &pb.CreateSurveyRequest{RequestId: "r", Name: "test", TargetsId: r.list(t, n), Spec: sp})
	if err != nil {
		t.Fatal(err)
	}
	return resp.GetSurvey()
}

// agent makes a probe on connections of its own.
func (r *rig) agent(t testing.TB, name string, runner agent.Runner) *agent.Agent {
	t.Helper()
	session, err := r.dial()
	if err != nil {
		t.Fatal(err)
	}
	results, err := r.dial()
	if err != nil {
		t.Fatal(err)
	}
	return agent.New(agentConfig(name, runner, session, results))
}

// start runs a probe; stop is what SIGTERM would be.
func (r *rig) start(t testing.TB, name string, runner agent.Runner) (stop func()) {
	t.Helper()
	return run(t, r.agent(t, name, runner))
}

func run(t testing.TB, a *agent.Agent) (stop func()) {
	life, cancel := context.WithCancel(ctx)
	over := make(chan struct{})
	go func() {
		defer close(over)
		if err := a.Run(life); err != nil {
			t.Error("probe:", err)
		}
	}()
	stop = func() { cancel(); <-over }
	t.Cleanup(stop)
	return stop
}

// watch waits until the state is as wanted.
func (r *rig) watch(t testing.TB, survey string, until func(*pb.SurveyState) bool) *pb.SurveyState {
	t.Helper()
	limited, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	stream, err := r.ctl.WatchSurvey(limited, &pb.WatchSurveyRequest{Survey: survey})
	if err != nil {
		t.Fatal(err)
	}
	var last *pb.SurveyState
	for {
		m, err := stream.Recv()
		if err != nil {
			t.Fatalf("survey never came to what was waited for: %v; last %v", err, last)
		}
		last = m.GetState()
		adds(t, last)
		if until(last) {
			return last
		}
	}
}

func ended(st *pb.SurveyState) bool {
	return st.GetPhase() != pb.SurveyPhase_SURVEY_PHASE_RUNNING
}

// adds: every planned target is counted once, at every moment.
func adds(t testing.TB, st *pb.SurveyState) {
	t.Helper()
	if st.GetPlanned() != st.GetMeasured()+st.GetRefused()+st.GetInterrupted()+st.GetCancelled()+st.GetLost()+st.GetPending() {
		t.Errorf("planned is not the sum: %v", st)
	}
	var measured uint64
	for _, c := range st.GetCounts() {
		if c.GetOutcome() == pb.Outcome_OUTCOME_MEASURED {
			measured += c.GetCount()
		}
	}
	if measured != st.GetMeasured() {
		t.Errorf("verdicts of %d targets, measured %d", measured, st.GetMeasured())
	}
}

// contents reads the dataset: every measurement, none of a target twice.
func contents(t testing.TB, dir string) map[uint64]dataset.Record {
	t.Helper()
	got := make(map[uint64]dataset.Record)
	for rec, err := range dataset.Read(dir) {
		if err != nil {
			t.Fatal(err)
		}
		if had, ok := got[rec.Item]; ok {
			t.Errorf("item %d is in the dataset twice: in %v and %v", rec.Item, had.ChunkKey, rec.ChunkKey)
		}
		got[rec.Item] = rec
	}
	return got
}

// complete checks that a dataset holds every target, measured, and says so.
func complete(t testing.TB, dir string, n int) map[uint64]dataset.Record {
	t.Helper()
	got := contents(t, dir)
	if len(got) != n {
		t.Errorf("%d targets in the dataset, want %d", len(got), n)
	}
	frozen, err := dataset.OpenTargets(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer frozen.Close()
	for i := range frozen.Chunks() {
		ts, err := frozen.Chunk(i)
		if err != nil {
			t.Fatal(err)
		}
		for _, target := range ts {
			if rec, ok := got[target.Item]; !ok || rec.Target != target || rec.Outcome != measure.OutcomeMeasured {
				t.Fatalf("target %v became %v (%v)", target, rec.Target, rec.Outcome)
			}
		}
	}
	doc, err := dataset.ReadSurvey(dir)
	if err != nil {
		t.Fatal(err)
	}
	if doc.State != dataset.StateDone || doc.Counts.Planned != uint64(n) || doc.Counts.Measured != uint64(n) || doc.Ended.IsZero() {
		t.Errorf("survey.json says %v, %+v, ended %v", doc.State, doc.Counts, doc.Ended)
	}
	return got
}

// agentConfig is a probe's, with the policy of the public internet.
func agentConfig(name string, runner agent.Runner, session, results conn) agent.Config {
	return agent.Config{
		Name: name, Version: "test", Host: &pb.Host{Hostname: "host of " + name, Kernel: "6.18", TcpFastopen: 1, BlackholeTimeoutS: -1, CanClearCookies: pb.Tri_TRI_YES},
		Session: session, Results: results, NewRunner: func(*pb.SurveySpec) (agent.Runner, error) { return runner, nil },
		Policy: targets.Policy{}, Flush: 5 * time.Second, Backoff: 5 * time.Millisecond, Logger: quiet,
	}
}

var _ agent.Runner = (*agenttest.Runner)(nil)
