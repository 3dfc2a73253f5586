package controller_test

import (
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"tfofleet/internal/agent"
	"tfofleet/internal/agent/agenttest"
	"tfofleet/internal/measure"
	pb "tfofleet/proto/tfofleet/v1"
)

// TestOneThatRefuses: a probe that cannot take what another one takes has a fault
// of its own. It does not use up the chunks of a survey.
func TestOneThatRefuses(t *testing.T) {
	t.Parallel()
	const n = 3200
	dir := t.TempDir()
	r := open(t, dir)
	var refused atomic.Int64
	good := &agenttest.Runner{Concurrency: 64, Took: func(measure.Target) time.Duration { return 20 * time.Millisecond }}
	r.start(t, "good", good)
	r.await(t, "the other one is connected", func() bool { return r.server.Connected("good") })
	session, err := r.dial()
	if err != nil {
		t.Fatal(err)
	}
	results, err := r.dial()
	if err != nil {
		t.Fatal(err)
	}
	cfg := agentConfig("bad", nil, session, results)
	cfg.NewRunner = func(*pb.SurveySpec) (agent.Runner, error) {
		refused.Add(1)
		return nil, errors.New("too many open files")
	}
	run(t, agent.New(cfg))
	r.await(t, "both are connected", func() bool { return r.server.Connected("bad") })
	id := r.survey(t, n, spec())
	if st := r.watch(t, id, ended); st.GetMeasured() != n {
		t.Errorf("ended as %v", st)
	}
	complete(t, dir, n)
	if refused.Load() == 0 {
		t.Error("it never refused")
	}
}
