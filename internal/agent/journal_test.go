package agent

import (
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/protobuf/proto"

	"tfofleet/internal/agent/agenttest"
	"tfofleet/internal/agent/spool"
	"tfofleet/internal/measure"
	"tfofleet/internal/targets"
	pb "tfofleet/proto/tfofleet/v1"
)

func openSpool(t *testing.T, path string) (*spool.Spool, *spool.Recovery) {
	t.Helper()
	s, found, err := spool.Open(spool.Config{Path: path, Logger: hclog.NewNullLogger()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s, found
}

// kept is the batches in a spool, as they would be sent.
func kept(t *testing.T, s *spool.Spool) (reqs []*pb.ReportResultsRequest) {
	t.Helper()
	if err := s.Sync(); err != nil {
		t.Fatal(err)
	}
	records, err := s.Next(t.Context(), 0, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range records {
		if r.Kind != spool.KindResult {
			continue
		}
		req := &pb.ReportResultsRequest{}
		if err := proto.Unmarshal(r.Data, req); err != nil {
			t.Fatal(err)
		}
		reqs = append(reqs, req)
	}
	return reqs
}

// TestCrashBetweenStartAndResult: a target that was started and has no result is
// interrupted, one that was not started is measured, and neither is lost.
func TestCrashBetweenStartAndResult(t *testing.T) {
	path := filepath.Join(t.TempDir(), "spool.db")
	s, _ := openSpool(t, path)
	started := make(chan struct{})
	b := newBench(t, &agenttest.Runner{}, func(c *Config) {
		c.Spool = s
		c.NewRunner = func(*pb.SurveySpec) (Runner, error) { return onlyTake{started}, nil }
	})
	sp := spec()
	sp.Concurrency = 1
	l := b.lease(sp, measure.Target{Addr: addr("8.8.8.8"), Port: 1}, measure.Target{Addr: addr("8.8.8.8"), Port: 2})
	b.give(l)
	<-started
	<-started
	// The process dies: nothing was reported. Its file is as it was on the disk.
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	s, found := openSpool(t, path)
	if len(found.Leases) != 1 || !slices.Equal(found.Leases[0].Interrupted, []uint32{0, 1}) {
		t.Fatalf("found %+v", found.Leases)
	}
	again := newBench(t, &agenttest.Runner{}, func(c *Config) { c.Spool, c.Leases = s, found.Leases })
	again.recover()
	if held := again.inHand(); len(held) != 1 || held[0].GetTaken() != 2 || !proto.Equal(held[0].GetRef(), l.GetRef()) {
		t.Errorf("held after the crash: %v", held)
	}
	reqs := kept(t, s)
	if len(reqs) != 1 || !slices.Equal(reqs[0].GetIndexes(), []uint32{0, 1}) ||
		!slices.Equal(reqs[0].GetOutcomes(), []pb.Outcome{pb.Outcome_OUTCOME_INTERRUPTED, pb.Outcome_OUTCOME_INTERRUPTED}) {
		t.Errorf("reported %v", reqs)
	}
}

// onlyTake takes targets and never ends them.
type onlyTake struct{ started chan struct{} }

func (r onlyTake) Submit(measure.Target, func(), func(measure.Measurement)) { r.started <- struct{}{} }
func (onlyTake) SetRate(float64)                                            {}
func (onlyTake) Stop()                                                      {}

// TestCrashBeforeStart: what was accepted and never started is measured after
// the crash, as if nothing had been.
func TestCrashBeforeStart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "spool.db")
	s, _ := openSpool(t, path)
	b := newBench(t, &agenttest.Runner{}, func(c *Config) { c.Spool = s })
	l := b.lease(spec(), measure.Target{Addr: addr("8.8.8.8"), Port: 1}, measure.Target{Addr: addr("8.8.8.8"), Port: 2})
	w, err := newWork(b.Agent, l)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.record(w, l); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}

	s, found := openSpool(t, path)
	again := newBench(t, &agenttest.Runner{}, func(c *Config) { c.Spool, c.Leases, c.Policy = s, found.Leases, targets.Policy{} })
	again.recover()
	measured := 0
	for deadline := time.Now().Add(10 * time.Second); measured < 2; {
		if time.Now().After(deadline) {
			t.Fatalf("%d of 2 measured", measured)
		}
		measured = 0
		for _, req := range kept(t, s) {
			for _, o := range req.GetOutcomes() {
				if o != pb.Outcome_OUTCOME_MEASURED {
					t.Fatalf("outcome %v", o)
				}
				measured++
			}
		}
	}
}

// TestNoRoom: a lease that cannot be made durable is refused, and no more are
// asked for.
func TestNoRoom(t *testing.T) {
	s, _, err := spool.Open(spool.Config{Path: filepath.Join(t.TempDir(), "spool.db"), Limit: 1, Logger: hclog.NewNullLogger()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	b := newBench(t, &agenttest.Runner{}, func(c *Config) { c.Spool = s })
	if n := b.wanted(); n != 0 {
		t.Errorf("%d leases wanted", n)
	}
	reason, err := b.accept(b.lease(spec(), measure.Target{Addr: addr("8.8.8.8"), Port: 1}))
	if err == nil || reason != pb.RefusalReason_REFUSAL_REASON_BUSY || len(b.inHand()) != 0 {
		t.Errorf("accepted: %v, %v, held %v", reason, err, b.inHand())
	}
}
