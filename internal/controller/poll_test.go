package controller_test

import (
	"context"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"

	"tfofleet/internal/agent/agenttest"
	"tfofleet/internal/controller"
	"tfofleet/internal/lease"
	"tfofleet/internal/store"
	pb "tfofleet/proto/tfofleet/v1"
)

// laggingStore lets something happen between the question which surveys run and
// what is made of the answer.
type laggingStore struct {
	store.Store
	meanwhile atomic.Pointer[func()]
}

func (s *laggingStore) Surveys(ctx context.Context) ([]store.Survey, error) {
	running, err := s.Store.Surveys(ctx)
	if f := s.meanwhile.Swap(nil); f != nil {
		(*f)()
	}
	return running, err
}

// TestSurveyOfThisMoment: one that is created while the controller looks at the
// store, for what others have ended, is not taken for such a one.
func TestSurveyOfThisMoment(t *testing.T) {
	t.Parallel()
	const n = 100
	dir, rules := t.TempDir(), lease.DefaultRules(0)
	st := sqlite(t, dir, store.Options{Rules: rules})
	lagging := &laggingStore{Store: st}
	r := serveFor(t, controller.Config{Dir: dir, Dataset: func(string) string { return dir }, Store: lagging, TTL: rules.TTL})
	list := r.list(t, n)
	var watch grpc.ServerStreamingClient[pb.WatchSurveyResponse]
	created := make(chan error)
	meanwhile := func() {
		resp, err := r.ctl.CreateSurvey(ctx, &pb.CreateSurveyRequest{RequestId: "r", TargetsId: list, Spec: spec()})
		if err == nil {
			watch, err = r.ctl.WatchSurvey(ctx, &pb.WatchSurveyRequest{Survey: resp.GetSurvey()})
		}
		if err == nil {
			_, err = watch.Recv() // it is watched from here on
		}
		created <- err
	}
	lagging.meanwhile.Store(&meanwhile)
	if err := <-created; err != nil {
		t.Fatal(err)
	}
	r.start(t, "fra", &agenttest.Runner{Concurrency: 16})
	for {
		m, err := watch.Recv()
		if err != nil {
			t.Fatalf("who watches it hears: %v", err)
		}
		if st := m.GetState(); ended(st) {
			if st.GetMeasured() != n {
				t.Errorf("ended as %v", st)
			}
			return
		}
	}
}
