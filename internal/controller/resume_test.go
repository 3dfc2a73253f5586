package controller_test

import (
	"maps"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"tfofleet/internal/agent/agenttest"
	"tfofleet/internal/dataset"
	"tfofleet/internal/measure"
	"tfofleet/internal/store"
	pb "tfofleet/proto/tfofleet/v1"
)

// slow takes long for every tenth target: when a probe is stopped, some are
// under way.
func slow(t measure.Target) time.Duration {
	if t.Item%10 == 0 {
		return time.Hour
	}
	return 0
}

// TestInterruptAndResume is Ctrl-C and --resume: what was measured is in the
// dataset, and only what is missing is measured.
func TestInterruptAndResume(t *testing.T) {
	const n = 640
	dir := t.TempDir()
	r := open(t, dir)
	id := r.survey(t, n, spec())
	one := &agenttest.Runner{Concurrency: n, Took: slow}
	stop := r.start(t, "local", one)
	st := r.watch(t, id, func(st *pb.SurveyState) bool { return st.GetMeasured() == n*9/10 })
	begun := time.Now()
	stop()
	if took := time.Since(begun); took > time.Second {
		t.Errorf("the probe took %v to stop", took)
	}
	if err := r.server.Settle(ctx); err != nil {
		t.Fatal(err)
	}
	before := contents(t, dir)
	if len(before) != n*9/10 {
		t.Errorf("%d targets in the dataset, want the %d that were measured", len(before), st.GetMeasured())
	}
	doc, err := dataset.ReadSurvey(dir)
	if err != nil {
		t.Fatal(err)
	}
	if doc.State != dataset.StateInterrupted || doc.Counts.Measured != n*9/10 || doc.Counts.Pending != n/10 {
		t.Errorf("survey.json says %v, %+v", doc.State, doc.Counts)
	}
	r.close()

	r = open(t, dir)
	two := &agenttest.Runner{Concurrency: 8}
	r.start(t, "local", two)
	r.watch(t, id, ended)
	after := complete(t, dir, n)
	if c := two.Counts(); c.Submitted != n/10 {
		t.Errorf("%d targets were measured after the interruption, want %d", c.Submitted, n/10)
	}
	for item, rec := range after {
		_, had := before[item]
		if started := one.Counts().Started[key(rec.Target)] > 0; slices.Contains(rec.Conditions, measure.CondVantageRepeated) != (started && !had) {
			t.Errorf("item %d: started before %v, in the dataset before %v, conditions %v", item, started, had, rec.Conditions)
		}
	}
}

func key(t measure.Target) (k addrPort) { return addrPortFrom(t.Addr, t.Port) }

// TestInterruptAgainAndAgain: rests of rests.
func TestInterruptAgainAndAgain(t *testing.T) {
	const n = 100
	dir := t.TempDir()
	r := open(t, dir)
	id := r.survey(t, n, spec())
	for round := range 5 {
		// Each round gets through another fifth of the targets.
		runner := &agenttest.Runner{Concurrency: n, Took: func(t measure.Target) time.Duration {
			if t.Item%5 != uint64(round) {
				return time.Hour
			}
			return 0
		}}
		stop := r.start(t, "local", runner)
		if round < 4 {
			r.watch(t, id, func(st *pb.SurveyState) bool { return st.GetMeasured() == uint64(n/5*(round+1)) })
			stop()
			if err := r.server.Settle(ctx); err != nil {
				t.Fatal(err)
			}
			if got := contents(t, dir); len(got) != n/5*(round+1) {
				t.Errorf("round %d: %d targets in the dataset", round, len(got))
			}
			r.close()
			r = open(t, dir)
		}
	}
	r.watch(t, id, ended)
	complete(t, dir, n)
}

// TestControllerKilledWhileCreating: the record is there, the dataset is not.
func TestControllerKilledWhileCreating(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir)
	list := r.list(t, 10)
	l, err := r.store.List(ctx, list)
	if err != nil {
		t.Fatal(err)
	}
	req := &pb.CreateSurveyRequest{RequestId: "r", Name: "n", TargetsId: list, Spec: spec()}
	if _, err := r.store.CreateSurvey(ctx, store.Survey{ID: "half", Request: "r", Name: "n", List: l, Spec: req.Spec, Created: time.Now()}); err != nil {
		t.Fatal(err)
	}
	r.close()

	r = open(t, dir)
	r.start(t, "local", &agenttest.Runner{})
	r.watch(t, "half", ended)
	complete(t, dir, 10)
	// The operator, who got no answer, asks again.
	resp, err := r.ctl.CreateSurvey(ctx, req)
	if err != nil || resp.GetSurvey() != "half" {
		t.Errorf("the same request: %v, %v", resp, err)
	}
}

// TestControllerKilledBeforeTheEnd: all is written but the last line.
func TestControllerKilledBeforeTheEnd(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir)
	id := r.survey(t, 10, spec())
	stop := r.start(t, "local", &agenttest.Runner{})
	r.watch(t, id, ended)
	stop()
	r.close()
	// As it was before the end was stored.
	db := rawDB(t, dir)
	if _, err := db.Exec(`UPDATE survey SET phase = 2, ended = NULL`); err != nil {
		t.Fatal(err)
	}
	db.Close()
	r = open(t, dir)
	r.watch(t, id, ended)
	complete(t, dir, 10)
}

func TestCreateSurveyRefuses(t *testing.T) {
	r := open(t, t.TempDir())
	list := r.list(t, 1)
	for name, change := range map[string]func(*pb.CreateSurveyRequest){
		"no request id":    func(q *pb.CreateSurveyRequest) { q.RequestId = "" },
		"no spec":          func(q *pb.CreateSurveyRequest) { q.Spec = nil },
		"no plan":          func(q *pb.CreateSurveyRequest) { q.Spec.Plan = 0 },
		"unknown plan":     func(q *pb.CreateSurveyRequest) { q.Spec.Plan = 99 },
		"no family":        func(q *pb.CreateSurveyRequest) { q.Spec.Family = 0 },
		"no payload":       func(q *pb.CreateSurveyRequest) { q.Spec.Payload = 0 },
		"empty payload":    func(q *pb.CreateSurveyRequest) { q.Spec.Payload = pb.Payload_PAYLOAD_BYTES },
		"large payload":    func(q *pb.CreateSurveyRequest) { q.Spec.PayloadBytes = make([]byte, 501) },
		"negative rate":    func(q *pb.CreateSurveyRequest) { q.Spec.Rate = -1 },
		"rate NaN":         func(q *pb.CreateSurveyRequest) { q.Spec.Rate = nan },
		"no concurrency":   func(q *pb.CreateSurveyRequest) { q.Spec.Concurrency = 0 },
		"no timeout":       func(q *pb.CreateSurveyRequest) { q.Spec.Timeout = nil },
		"negative hold":    func(q *pb.CreateSurveyRequest) { q.Spec.Hold = negative },
		"no list":          func(q *pb.CreateSurveyRequest) { q.TargetsId = "none" },
		"a list elsewhere": func(q *pb.CreateSurveyRequest) { q.TargetsId = "../lists" },
	} {
		req := &pb.CreateSurveyRequest{RequestId: "r", TargetsId: list, Spec: spec()}
		change(req)
		_, err := r.ctl.CreateSurvey(ctx, req)
		if c := status.Code(err); c != codes.InvalidArgument && c != codes.NotFound {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := r.ctl.GetSurvey(ctx, &pb.GetSurveyRequest{Survey: "none"}); status.Code(err) != codes.NotFound {
		t.Errorf("a survey that is not there: %v", err)
	}
	if _, err := r.ctl.CancelSurvey(ctx, &pb.CancelSurveyRequest{Survey: "none"}); status.Code(err) != codes.NotFound {
		t.Errorf("cancel of a survey that is not there: %v", err)
	}
}

func TestAddTargets(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir)
	add := func(ts ...*pb.Target) (*pb.AddTargetsResponse, error) {
		stream, err := r.ctl.AddTargets(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if len(ts) > 0 {
			_ = stream.Send(&pb.AddTargetsRequest{Targets: ts})
		}
		return stream.CloseAndRecv()
	}
	good := &pb.Target{Address: []byte{8, 8, 8, 8}, Port: 53}
	for name, ts := range map[string][]*pb.Target{
		"nothing":             nil,
		"no port":             {{Address: []byte{8, 8, 8, 8}}},
		"port":                {{Address: []byte{8, 8, 8, 8}, Port: 65536}},
		"neither":             {good, {Port: 1}},
		"half of an address":  {{Address: []byte{8, 8}, Port: 1}},
		"name of 254 letters": {{Hostname: string(make([]byte, 254)), Port: 1}},
	} {
		if _, err := add(ts...); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%s: %v", name, err)
		}
	}
	resp, err := add(good, good, &pb.Target{Hostname: "example.org", Port: 443})
	if err != nil || resp.GetTargets() != 2 || resp.GetDuplicates() != 1 {
		t.Errorf("a good list: %v, %v", resp, err)
	}
	// What was refused left nothing, and what a crash left is cleared away.
	if got := lists(t, dir); !slices.Equal(got, []string{resp.GetTargetsId()}) {
		t.Errorf("lists %q", got)
	}
	orphan(t, dir)
	r.close()
	open(t, dir)
	if got := lists(t, dir); !slices.Equal(got, []string{resp.GetTargetsId()}) {
		t.Errorf("lists %q after a restart", got)
	}
	if left, err := filepath.Glob(filepath.Join(dir, "sorting", "*")); err != nil || len(left) > 0 {
		t.Errorf("left %q, %v", left, err)
	}
}

func TestCancelSurvey(t *testing.T) {
	const n = 1000
	dir := t.TempDir()
	r := open(t, dir)
	id := r.survey(t, n, spec())
	runner := &agenttest.Runner{Concurrency: 100, Took: slow}
	r.start(t, "local", runner)
	r.watch(t, id, func(st *pb.SurveyState) bool { return st.GetMeasured() >= 100 })
	if _, err := r.ctl.CancelSurvey(ctx, &pb.CancelSurveyRequest{Survey: id}); err != nil {
		t.Fatal(err)
	}
	st := r.watch(t, id, ended)
	if st.GetPhase() != pb.SurveyPhase_SURVEY_PHASE_CANCELLED || st.GetPending() != 0 || st.GetMeasured() < 100 || st.GetCancelled() < n/10 {
		t.Errorf("ended as %v", st)
	}
	if got := contents(t, dir); len(got) != int(st.GetMeasured()) {
		t.Errorf("%d targets in the dataset, %d measured", len(got), st.GetMeasured())
	}
	doc, err := dataset.ReadSurvey(dir)
	if err != nil {
		t.Fatal(err)
	}
	if doc.State != dataset.StateCancelled || doc.Counts.Cancelled != st.GetCancelled() {
		t.Errorf("survey.json says %v, %+v", doc.State, doc.Counts)
	}
	if again, err := r.ctl.CancelSurvey(ctx, &pb.CancelSurveyRequest{Survey: id}); err != nil || again.GetState().GetPhase() != st.GetPhase() {
		t.Errorf("cancelled again: %v, %v", again, err)
	}
}

// TestCancelIsNotForgotten: the controller dies right after the cancel.
func TestCancelIsNotForgotten(t *testing.T) {
	dir := t.TempDir()
	r := open(t, dir)
	id := r.survey(t, 100, spec())
	if err := r.store.CancelSurvey(ctx, id); err != nil {
		t.Fatal(err)
	}
	r.close()
	r = open(t, dir)
	if st := r.watch(t, id, ended); st.GetCancelled() != 100 {
		t.Errorf("ended as %v", st)
	}
}

// TestSeveralProbes share a survey, and every target is measured by one.
func TestSeveralProbes(t *testing.T) {
	const n = 2000
	dir := t.TempDir()
	r := open(t, dir)
	sp := spec()
	sp.Concurrency = 16
	var gate atomic.Bool
	id := r.survey(t, n, sp)
	for _, name := range []string{"fra", "sin", "nyc"} {
		r.start(t, name, &agenttest.Runner{Concurrency: 16, Took: func(measure.Target) time.Duration {
			if gate.Load() {
				return 0
			}
			return time.Millisecond
		}})
	}
	r.watch(t, id, func(st *pb.SurveyState) bool { return st.GetMeasured() > n/4 })
	gate.Store(true)
	r.watch(t, id, ended)
	by := map[string]int{}
	for _, rec := range complete(t, dir, n) {
		by[rec.Probe]++
	}
	if len(by) != 3 {
		t.Errorf("measured by %v", by)
	}
	doc, err := dataset.ReadSurvey(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, p := range doc.Probes {
		names = append(names, p.Name)
	}
	if !slices.Equal(names, slices.Sorted(maps.Keys(by))) {
		t.Errorf("survey.json names %q", names)
	}
}
