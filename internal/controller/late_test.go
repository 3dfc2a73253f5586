package controller_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"

	"tfofleet/internal/agent/agenttest"
	"tfofleet/internal/controller"
	"tfofleet/internal/dataset"
	"tfofleet/internal/lease"
	"tfofleet/internal/measure"
	"tfofleet/internal/store"
	"tfofleet/internal/store/pgtest"
	pb "tfofleet/proto/tfofleet/v1"
)

// eachStore runs a test with both. Open opens the same one every time.
func eachStore(t *testing.T, test func(t *testing.T, open func(*testing.T) store.Store)) {
	opener := func(url string) func(*testing.T) store.Store {
		return func(t *testing.T) store.Store {
			t.Helper()
			st, err := openStore(url)
			if err != nil {
				t.Fatal(err)
			}
			return st
		}
	}
	t.Run("sqlite", func(t *testing.T) { test(t, opener(filepath.Join(t.TempDir(), "state.db"))) })
	t.Run("postgres", func(t *testing.T) { test(t, opener(pgtest.New(t))) })
}

// openStore opens a file or a PostgreSQL.
func openStore(url string) (store.Store, error) {
	opts := store.Options{Rules: impatient}
	if strings.HasPrefix(url, "postgres") {
		return store.OpenPostgres(ctx, url, opts)
	}
	return store.OpenSQLite(ctx, url, opts)
}

// lateRig is a controller that writes what comes late at once, of surveys with a
// dataset each.
func lateRig(t *testing.T, dir, name string, st store.Store) *rig {
	t.Helper()
	r, err := serveLate(dir, name, st, 50*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.close)
	return r
}

func serveLate(dir, name string, st store.Store, heartbeat time.Duration) (*rig, error) {
	return serve(controller.Config{
		Dir: filepath.Join(dir, name), Lists: filepath.Join(dir, "lists"), Datasets: filepath.Join(dir, "surveys"), Dataset: func(id string) string { return filepath.Join(dir, "surveys", id) },
		Store: st, Name: name, Shared: true, Addresses: []string{name + ":1"}, Heartbeat: heartbeat, TTL: impatient.TTL,
	})
}

// vanished is a survey of n targets that ended as if its only probe, fra, had
// begun them all and gone away for ever.
func (r *rig) vanished(t *testing.T, request string, n int) (id string, l *pb.Lease) {
	t.Helper()
	id, l, err := r.vanish(request, n)
	if err != nil {
		t.Fatal(err)
	}
	st := r.until(t, id, ended)
	if st.GetInterrupted() != uint64(n) {
		t.Fatalf("ended as %v", st)
	}
	return id, l
}

func (r *rig) vanish(request string, n int) (id string, l *pb.Lease, err error) {
	list, err := r.upload(n)
	if err != nil {
		return "", nil, err
	}
	sp := spec()
	sp.RepeatInterrupted = false
	resp, err := r.ctl.CreateSurvey(ctx, &pb.CreateSurveyRequest{RequestId: request, TargetsId: list, Spec: sp})
	if err != nil {
		return "", nil, err
	}
	conn, err := r.dial()
	if err != nil {
		return "", nil, err
	}
	life, leave := context.WithCancel(ctx)
	defer leave()
	s, err := pb.NewProbeServiceClient(conn).Session(life)
	if err != nil {
		return "", nil, err
	}
	for _, m := range []*pb.SessionRequest{
		{Message: &pb.SessionRequest_Hello{Hello: &pb.Hello{Probe: "fra", Instance: request, ProtocolMin: 1, ProtocolMax: 1}}},
		{Message: &pb.SessionRequest_Credit{Credit: &pb.Credit{Leases: 1}}},
	} {
		if err := s.Send(m); err != nil {
			return "", nil, err
		}
	}
	for l == nil {
		m, err := s.Recv()
		if err != nil {
			return "", nil, err
		}
		l = m.GetLease()
	}
	for _, m := range []*pb.SessionRequest{
		{Message: &pb.SessionRequest_LeaseAccepted{LeaseAccepted: &pb.LeaseAccepted{Ref: l.GetRef()}}},
		{Message: &pb.SessionRequest_Heartbeat{Heartbeat: &pb.Heartbeat{Held: []*pb.HeldLease{{Ref: l.GetRef(), Taken: uint32(n)}}}}},
	} {
		if err := s.Send(m); err != nil {
			return "", nil, err
		}
	}
	for { // until the heartbeat was heard
		m, err := s.Recv()
		if err != nil {
			return "", nil, err
		}
		if m.GetHeartbeatAck() != nil {
			return resp.GetSurvey(), l, nil
		}
	}
}

// until asks for the state until it is as wanted.
func (r *rig) until(t *testing.T, survey string, is func(*pb.SurveyState) bool) (st *pb.SurveyState) {
	t.Helper()
	r.await(t, "a survey's state", func() bool {
		resp, err := r.ctl.GetSurvey(ctx, &pb.GetSurveyRequest{Survey: survey})
		if err != nil {
			t.Fatal(err)
		}
		adds(t, resp.GetState())
		st = resp.GetState()
		return is(st)
	})
	return st
}

// lateOf is a batch of fra's spool for some targets of a lease.
func lateOf(t *testing.T, l *pb.Lease, items ...int) *pb.ReportResultsRequest {
	t.Helper()
	some := &pb.Lease{Ref: l.GetRef(), FirstItem: l.GetFirstItem()}
	for _, i := range items {
		some.Targets = append(some.Targets, l.GetTargets()[i])
	}
	req := batchOf(t, "fra", some)
	req.Spool, req.Sequence = "spool", uint64(items[0])+1
	return req
}

// lateFiles are the names of a dataset's.
func lateFiles(t *testing.T, dir string) []string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(dir, "measurements", "*.late*.parquet"))
	if err != nil {
		t.Fatal(err)
	}
	return paths
}

// cameLate checks a dataset of which n targets came late, and all others are
// interrupted.
func cameLate(t *testing.T, dir string, n, of int) *dataset.Survey {
	t.Helper()
	late := 0
	got := contents(t, dir)
	for item, rec := range got {
		switch {
		case rec.Outcome == measure.OutcomeMeasured && slices.Contains(rec.Conditions, measure.CondVantageLate) && len(rec.Attempts) > 0 && rec.Probe == "fra":
			late++
		case rec.Outcome == measure.OutcomeInterrupted:
		default:
			t.Errorf("item %d: %v of %s, %v", item, rec.Outcome, rec.Probe, rec.Conditions)
		}
	}
	if late != n || len(got) != of {
		t.Errorf("%d of %d came late, want %d of %d", late, len(got), n, of)
	}
	doc, err := dataset.ReadSurvey(dir)
	if err != nil {
		t.Fatal(err)
	}
	if c := doc.Counts; c.Measured != uint64(n) || c.Interrupted != uint64(of-n) || c.Planned != uint64(of) || c.Verdicts["supported"] != uint64(n) {
		t.Errorf("survey.json counts %+v", doc.Counts)
	}
	return doc
}

// TestLate: a probe comes back when its survey has ended. What it measured is
// in the dataset, once, and marked; the survey stays ended.
func TestLate(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, open func(*testing.T) store.Store) {
		dir := t.TempDir()
		r := lateRig(t, dir, "c", open(t))
		id, l := r.vanished(t, "r", 4)
		place := filepath.Join(dir, "surveys", id)
		r.await(t, "survey.json", func() bool {
			doc, err := dataset.ReadSurvey(place)
			return err == nil && doc.State == dataset.StateDone
		})
		before := cameLate(t, place, 0, 4)
		send := func(items ...int) {
			t.Helper()
			if resp := r.results(t, lateOf(t, l, items...)); resp.GetRejected() != "" {
				t.Fatal(resp)
			}
		}
		settled := func() {
			t.Helper()
			r.await(t, "nothing left to write", func() bool { keys, err := r.store.Late(ctx); return err == nil && len(keys) == 0 })
		}
		send(2)
		send(2) // its ack was lost
		r.until(t, id, func(st *pb.SurveyState) bool { return st.GetMeasured() == 1 })
		settled()
		after := cameLate(t, place, 1, 4)
		if after.State != dataset.StateDone || after.Ended.Sub(before.Ended).Abs() > time.Minute || after.Ended.IsZero() {
			t.Errorf("survey.json says %v, ended %v, and said %v", after.State, after.Ended, before.Ended)
		}
		send(2) // after it was written
		send(1, 2)
		r.until(t, id, func(st *pb.SurveyState) bool { return st.GetMeasured() == 2 })
		settled()
		cameLate(t, place, 2, 4)
		files := lateFiles(t, place)
		if len(files) != 2 {
			t.Errorf("late files %q", files)
		}

		// The controller dies when it has acknowledged, and has written nothing.
		r.close()
		slow, err := serveLate(dir, "c", open(t), time.Hour)
		if err != nil {
			t.Fatal(err)
		}
		if resp := slow.results(t, lateOf(t, l, 0)); resp.GetRejected() != "" {
			t.Fatal(resp)
		}
		slow.close()
		cameLate(t, place, 2, 4)
		r = lateRig(t, dir, "c", open(t))
		r.until(t, id, func(st *pb.SurveyState) bool { return st.GetMeasured() == 3 })
		send(0)
		send(1, 2)
		settled()
		cameLate(t, place, 3, 4)
		if files := lateFiles(t, place); len(files) != 3 {
			t.Errorf("late files %q", files)
		}
	})
}

// TestLateOfCancelled: targets that were cancelled, as it was not known that they
// had been begun, and those that were known to be.
func TestLateOfCancelled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	st, err := openStore(filepath.Join(dir, "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	r := lateRig(t, dir, "c", st)
	measuredLate := func(id string, n int) {
		t.Helper()
		place := filepath.Join(dir, "surveys", id)
		r.await(t, "nothing left to write", func() bool { keys, err := st.Late(ctx); return err == nil && len(keys) == 0 })
		late := 0
		for _, rec := range contents(t, place) {
			if slices.Contains(rec.Conditions, measure.CondVantageLate) {
				late++
			}
		}
		doc, err := dataset.ReadSurvey(place)
		if err != nil || late != n {
			t.Errorf("%d came late, want %d; %+v, %v", late, n, doc, err)
		}
	}

	// Nobody knew that they were begun, so they are cancelled.
	sp := spec()
	resp, err := r.ctl.CreateSurvey(ctx, &pb.CreateSurveyRequest{RequestId: "cancelled", TargetsId: r.list(t, 3), Spec: sp})
	if err != nil {
		t.Fatal(err)
	}
	s := r.raw(t)
	if _, err := s.hello(&pb.Hello{Probe: "fra", Instance: "1"}); err != nil {
		t.Fatal(err)
	}
	s.credit(1)
	l := s.lease()
	if _, err := r.ctl.CancelSurvey(ctx, &pb.CancelSurveyRequest{Survey: resp.GetSurvey()}); err != nil {
		t.Fatal(err)
	}
	if err := s.CloseSend(); err != nil {
		t.Fatal(err)
	}
	state := r.until(t, resp.GetSurvey(), ended)
	if state.GetCancelled() != 3 {
		t.Fatalf("ended as %v", state)
	}
	r.results(t, lateOf(t, l, 0, 1))
	state = r.until(t, resp.GetSurvey(), func(st *pb.SurveyState) bool { return st.GetMeasured() == 2 && st.GetCancelled() == 1 })
	if state.GetPhase() != pb.SurveyPhase_SURVEY_PHASE_CANCELLED {
		t.Errorf("the survey is %v now", state.GetPhase())
	}
	measuredLate(resp.GetSurvey(), 2)

	id, l, err := r.vanish("begun", 3)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.ctl.CancelSurvey(ctx, &pb.CancelSurveyRequest{Survey: id}); err != nil {
		t.Fatal(err)
	}
	r.until(t, id, ended)
	again := lateOf(t, l, 0, 1, 2)
	again.Outcomes[1], again.Verdicts[1] = pb.Outcome_OUTCOME_INTERRUPTED, 0 // what counts is what is in it
	r.results(t, again)
	measuredLate(id, 3)
}

// flaky fails one of the calls that late results need, as a database that goes
// away does.
type flaky struct {
	store.Store
	left atomic.Int64 // calls until one fails; below that, none does
	done atomic.Bool  // the one that fails was done, and nobody heard of it
}

var errFlaky = errors.New("gone for a moment")

func (f *flaky) call(do func() error) error {
	fails := f.left.Add(-1) == 0
	if fails && !f.done.Load() {
		return errFlaky
	}
	err := do()
	if fails && err == nil {
		return errFlaky
	}
	return err
}

func (f *flaky) LateBatches(ctx context.Context, k store.Key) (c store.Chunk, n uint32, bs []store.Batch, err error) {
	err = f.call(func() error { c, n, bs, err = f.Store.LateBatches(ctx, k); return err })
	return c, n, bs, err
}

func (f *flaky) LateWritten(ctx context.Context, k store.Key, n uint32, items []lease.Item) error {
	return f.call(func() error { return f.Store.LateWritten(ctx, k, n, items) })
}

func (f *flaky) LateDone(ctx context.Context, k store.Key, n uint32) error {
	return f.call(func() error { return f.Store.LateDone(ctx, k, n) })
}

func (f *flaky) Tally(ctx context.Context, id string) (t lease.Tally, err error) {
	err = f.call(func() error { t, err = f.Store.Tally(ctx, id); return err })
	return t, err
}

// TestLateBreaksOff: whichever step fails, or is done and not heard of, it goes
// on from there; and a dataset that was taken away does not hold up others.
func TestLateBreaksOff(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	st, err := openStore(filepath.Join(dir, "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	f := &flaky{Store: st}
	r := lateRig(t, dir, "c", f)
	gone, l := r.vanished(t, "gone", 2)
	r.await(t, "the end", func() bool {
		doc, err := dataset.ReadSurvey(filepath.Join(dir, "surveys", gone))
		return err == nil && doc.State == dataset.StateDone
	})
	if err := os.Rename(filepath.Join(dir, "surveys", gone), filepath.Join(dir, "away")); err != nil {
		t.Fatal(err)
	}
	r.results(t, lateOf(t, l, 0))
	const n = 3
	for step := range int64(2 * 6) {
		id, l := r.vanished(t, fmt.Sprint("r", step), n)
		place := filepath.Join(dir, "surveys", id)
		r.await(t, "the end", func() bool {
			doc, err := dataset.ReadSurvey(place)
			return err == nil && doc.State == dataset.StateDone
		})
		f.done.Store(step%2 == 1)
		f.left.Store(step/2 + 1)
		r.results(t, lateOf(t, l, 0, 1))
		r.await(t, "nothing left but what cannot be", func() bool { keys, err := st.Late(ctx); return err == nil && len(keys) == 1 })
		if f.left.Load() > 0 {
			t.Errorf("step %d: nothing failed", step)
		}
		cameLate(t, place, 2, n)
		if files := lateFiles(t, place); len(files) != 1 {
			t.Errorf("step %d: late files %q", step, files)
		}
	}
}

// TestLateTwoControllers: both take what comes late and write it, each result is
// in the dataset once.
func TestLateTwoControllers(t *testing.T) {
	t.Parallel()
	const n = 60
	rigs := two(t)
	id, l := rigs[0].vanished(t, "r", n)
	var wg sync.WaitGroup
	for i, r := range rigs {
		conn, err := r.dial()
		if err != nil {
			t.Fatal(err)
		}
		var batches []*pb.ReportResultsRequest
		for item := range n { // both bring all
			batches = append(batches, lateOf(t, l, (item+i*n/2)%n))
		}
		wg.Go(func() {
			for _, b := range batches {
				if err := deliver(conn, b); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	rigs[1].until(t, id, func(st *pb.SurveyState) bool { return st.GetMeasured() == n })
	rigs[0].await(t, "nothing left to write", func() bool { keys, err := rigs[0].store.Late(ctx); return err == nil && len(keys) == 0 })
	place := filepath.Join(filepath.Dir(rigs[0].dir), "surveys", id)
	rigs[0].await(t, "survey.json", func() bool { doc, err := dataset.ReadSurvey(place); return err == nil && doc.Counts.Measured == n })
	cameLate(t, place, n, n)
	t.Log(len(lateFiles(t, place)), "late files")
}

// deliver sends a batch and waits for its ack.
func deliver(conn *grpc.ClientConn, b *pb.ReportResultsRequest) error {
	life, leave := context.WithCancel(ctx)
	defer leave()
	stream, err := pb.NewProbeServiceClient(conn).ReportResults(life)
	if err != nil {
		return err
	}
	if err := stream.Send(b); err != nil {
		return err
	}
	resp, err := stream.Recv()
	if err == nil && resp.GetRejected() != "" {
		err = errors.New(resp.GetRejected())
	}
	return err
}

const lateTargets = 60

// lateChild is a controller to which a probe brings, one by one, what it had
// measured when it was given up; it leaves when all is written. What was
// acknowledged it notes.
func lateChild(dir string) error {
	url, err := os.ReadFile(filepath.Join(dir, "store"))
	if err != nil {
		return err
	}
	st, err := openStore(string(url))
	if err != nil {
		return err
	}
	r, err := serveLate(dir, "c", st, 20*time.Millisecond)
	if err != nil {
		return err
	}
	conn, err := r.dial()
	if err != nil {
		return err
	}
	known, err := st.AllSurveys(ctx)
	if err != nil {
		return err
	}
	id := known[0].ID
	list, err := dataset.OpenTargets(filepath.Join(dir, "surveys", id))
	if err != nil {
		return err
	}
	ts, err := list.Chunk(0)
	if err != nil {
		return err
	}
	acked, err := os.OpenFile(filepath.Join(dir, "acked"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	for i, target := range ts {
		m := agenttest.Healthy(target)
		body, err := measure.EncodeBatch([]measure.Measurement{m})
		if err != nil {
			return err
		}
		err = deliver(conn, &pb.ReportResultsRequest{
			Probe: "fra", Lease: &pb.LeaseRef{Survey: id, Epoch: 1}, Spool: "spool", Sequence: uint64(i) + 1, Measurements: body,
			Indexes: []uint32{uint32(i)}, Outcomes: []pb.Outcome{pb.Outcome(m.Outcome)}, Verdicts: []pb.Verdict{pb.Verdict(m.Verdict)},
		})
		if err != nil {
			return err
		}
		if _, err := fmt.Fprintln(acked, target.Item); err != nil {
			return err
		}
	}
	for {
		keys, err := st.Late(ctx)
		if err != nil {
			return err
		}
		if len(keys) == 0 {
			r.close()
			return nil
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// TestLateKilled kills a controller with SIGKILL again and again while a probe
// brings what comes late. At every moment the dataset is good to read and has
// no target twice; in the end it has all that was acknowledged.
func TestLateKilled(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for name, url := range map[string]string{"sqlite": filepath.Join(t.TempDir(), "state.db"), "postgres": ""} {
		t.Run(name, func(t *testing.T) {
			if url == "" {
				url = pgtest.New(t)
			}
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "store"), []byte(url), 0o600); err != nil {
				t.Fatal(err)
			}
			st, err := openStore(url)
			if err != nil {
				t.Fatal(err)
			}
			r := lateRig(t, dir, "c", st)
			id, _ := r.vanished(t, "r", lateTargets)
			place := filepath.Join(dir, "surveys", id)
			r.await(t, "the end", func() bool {
				doc, err := dataset.ReadSurvey(place)
				return err == nil && doc.State == dataset.StateDone
			})
			r.close()
			for range 12 {
				cmd := child("late", dir)
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				time.Sleep(time.Duration(rng.Int64N(int64(250 * time.Millisecond)))) // the moment of death
				cmd.Process.Kill()
				cmd.Wait()
				contents(t, place)
			}
			if err := child("late", dir).Run(); err != nil {
				t.Fatal(err)
			}
			cameLate(t, place, lateTargets, lateTargets)
			got := contents(t, place)
			acked, err := os.Open(filepath.Join(dir, "acked"))
			if err != nil {
				t.Fatal(err)
			}
			defer acked.Close()
			for lines := bufio.NewScanner(acked); lines.Scan(); {
				item, err := strconv.ParseUint(lines.Text(), 10, 64)
				if rec, ok := got[item]; err != nil || !ok || rec.Outcome != measure.OutcomeMeasured {
					t.Errorf("item %s was acknowledged, the dataset has %v, %v", lines.Text(), rec.Outcome, err)
				}
			}
			t.Log(len(lateFiles(t, place)), "late files")
		})
	}
}
