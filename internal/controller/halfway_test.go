package controller_test

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"tfofleet/internal/lease"
	pb "tfofleet/proto/tfofleet/v1"
)

// TestCancelCutShort: who cancels a survey notes that first and then tells its
// chunks. When he dies in between, or his caller has gone, the others go on.
func TestCancelCutShort(t *testing.T) {
	t.Parallel()
	const n = 200
	r := open(t, t.TempDir())
	id := r.survey(t, n, spec())
	r.await(t, "it was taken up", func() bool { return r.server.Knows(id) })
	if err := r.store.CancelSurvey(ctx, id); err != nil {
		t.Fatal(err)
	}
	if st := r.watch(t, id, ended); st.GetPhase() != pb.SurveyPhase_SURVEY_PHASE_CANCELLED || st.GetCancelled() != n {
		t.Errorf("ended as %v", st)
	}
}

// TestPauseIsToldAgain: a probe that was away when its survey was paused, or had a
// lease of it on its way, is asked for what it has not started when it says that
// it holds it.
func TestPauseIsToldAgain(t *testing.T) {
	t.Parallel()
	r := openWith(t, t.TempDir(), time.Minute, lease.DefaultRules(time.Minute))
	id := r.survey(t, 3*64, spec())
	s := r.raw(t)
	if _, err := s.hello(&pb.Hello{Probe: "fra", Instance: "1"}); err != nil {
		t.Fatal(err)
	}
	s.credit(1)
	held := s.lease().GetRef()
	accept := func(s *rawSession, ref *pb.LeaseRef) {
		t.Helper()
		if err := s.Send(&pb.SessionRequest{Message: &pb.SessionRequest_LeaseAccepted{LeaseAccepted: &pb.LeaseAccepted{Ref: ref}}}); err != nil {
			t.Fatal(err)
		}
	}
	recalled := func(s *rawSession, ref *pb.LeaseRef) {
		t.Helper()
		late := time.AfterFunc(10*time.Second, func() { s.CloseSend() })
		defer late.Stop()
		for {
			m, err := s.Recv()
			if err != nil {
				t.Fatalf("%v was never asked back: %v", ref, err)
			}
			if c := m.GetCancel(); proto.Equal(c.GetRef(), ref) && !c.GetForget() {
				return
			}
		}
	}
	accept(s, held)
	r.await(t, "it is held", func() bool { return r.phases(t, []string{"fra"})[lease.Held] == 1 })
	if err := s.CloseSend(); err != nil {
		t.Fatal(err)
	}
	r.await(t, "it is away", func() bool { return !r.server.Connected("fra") })
	pause := func(yes bool) {
		t.Helper()
		var err error
		if yes {
			_, err = r.ctl.PauseSurvey(ctx, &pb.PauseSurveyRequest{Survey: id})
		} else {
			_, err = r.ctl.ResumeSurvey(ctx, &pb.ResumeSurveyRequest{Survey: id})
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	pause(true)
	s = r.raw(t)
	w, err := s.hello(&pb.Hello{Probe: "fra", Instance: "1", Held: []*pb.HeldLease{{Ref: held}}})
	if err != nil || len(w.GetDrop()) > 0 {
		t.Fatal(w, err)
	}
	recalled(s, held)

	pause(false)
	s.credit(1)
	offered := s.lease().GetRef()
	pause(true)
	accept(s, offered)
	recalled(s, offered)
}
