package controller_test

import (
	"fmt"
	"testing"

	"tfofleet/internal/store/pgtest"
	pb "tfofleet/proto/tfofleet/v1"
)

// two are controllers that share a fleet.
func two(t *testing.T) [2]*rig {
	t.Helper()
	var rigs [2]*rig
	dir, url := t.TempDir(), pgtest.New(t)
	for i := range rigs {
		st, err := openStore(url)
		if err != nil {
			t.Fatal(err)
		}
		rigs[i] = lateRig(t, dir, fmt.Sprint("c", i+1), st)
	}
	return rigs
}

// next is the next message that is no ack of a heartbeat.
func (s *rawSession) next() *pb.SessionResponse {
	s.t.Helper()
	for {
		m, err := s.Recv()
		if err != nil {
			s.t.Fatal(err)
		}
		if m.GetHeartbeatAck() == nil {
			return m
		}
	}
}

// TestToldElsewhere: a probe's limit and its drain are said to another controller
// than the one it is connected to. It hears of them without a new session.
func TestToldElsewhere(t *testing.T) {
	t.Parallel()
	rigs := two(t)
	here, other := rigs[0], rigs[1].store
	s := here.raw(t)
	if w, err := s.hello(&pb.Hello{Probe: "fra", Instance: "1"}); err != nil || w.GetLimits() != nil {
		t.Fatalf("%v, %v", w, err)
	}
	for _, rate := range []float64{12.5, 3, 0} { // 0 takes it away
		if err := other.LimitProbe(ctx, "fra", rate); err != nil {
			t.Fatal(err)
		}
		if m := s.next(); m.GetLimits() == nil || m.GetLimits().GetRate() != rate {
			t.Errorf("limited to %v, it was told %v", rate, m)
		}
	}
	if err := other.LimitProbe(ctx, "fra", 7); err != nil {
		t.Fatal(err)
	}
	if m := s.next(); m.GetLimits().GetRate() != 7 {
		t.Errorf("it was told %v", m)
	}

	// What comes next is a lease, and no limit that it knows; and it comes when the
	// drain is over.
	if err := other.DrainProbe(ctx, "fra", true); err != nil {
		t.Fatal(err)
	}
	s.credit(1)
	id := rigs[1].survey(t, 3, spec())
	here.await(t, "the survey is known here", func() bool { return here.server.Knows(id) })
	held, err := other.HeldBy(ctx, "fra")
	if err != nil || len(held) > 0 {
		t.Errorf("drained, it holds %v, %v", held, err)
	}
	if err := other.DrainProbe(ctx, "fra", false); err != nil {
		t.Fatal(err)
	}
	if m := s.next(); m.GetLease().GetRef().GetSurvey() != id {
		t.Errorf("it was told %v", m)
	}
}
