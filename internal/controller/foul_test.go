package controller_test

import (
	"strings"
	"testing"

	"tfofleet/internal/store"
	pb "tfofleet/proto/tfofleet/v1"
)

// TestFoulNames: a probe that sends names which no store can hold gets its own
// records rejected. The fleet goes on.
func TestFoulNames(t *testing.T) {
	t.Parallel()
	eachStore(t, func(t *testing.T, open func(*testing.T) store.Store) {
		r := lateRig(t, t.TempDir(), "c1", open(t))
		id := r.survey(t, 3, spec())
		s := r.raw(t)
		if _, err := s.hello(&pb.Hello{Probe: "fra", Instance: "1"}); err != nil {
			t.Fatal(err)
		}
		s.credit(1)
		l := s.lease()
		event := &pb.ProbeEvent{Kind: pb.ProbeEventKind_PROBE_EVENT_KIND_START}
		for _, foul := range []string{"a\x00b", strings.Repeat("a", 1<<20)} {
			another := &pb.LeaseRef{Survey: foul, Epoch: 1}
			for _, req := range []*pb.ReportResultsRequest{
				{Probe: "fra", Lease: another}, {Probe: "fra", Lease: l.GetRef(), Spool: foul, Sequence: 1}, {Probe: "fra", Spool: foul, Sequence: 1, Event: event},
			} {
				if resp := r.results(t, req); resp.GetRejected() == "" {
					t.Errorf("taken: %.100v", req)
				}
			}
			for i, m := range []*pb.SessionRequest{
				{Message: &pb.SessionRequest_LeaseAccepted{LeaseAccepted: &pb.LeaseAccepted{Ref: another}}},
				{Message: &pb.SessionRequest_LeaseRefused{LeaseRefused: &pb.LeaseRefused{Ref: another}}},
				{Message: &pb.SessionRequest_Heartbeat{Heartbeat: &pb.Heartbeat{Number: 1, Held: []*pb.HeldLease{{Ref: another}}}}},
			} {
				if err := s.Send(m); err != nil {
					t.Fatal(i, err)
				}
			}
			for {
				m, err := s.Recv()
				if err != nil {
					t.Fatal(err)
				}
				if m.GetHeartbeatAck() != nil {
					break
				}
			}
			if why := r.server.Trouble(); why != "" {
				t.Errorf("trouble: %s", why)
			}
		}
		if resp := r.results(t, batchOf(t, "fra", l)); resp.GetRejected() != "" {
			t.Error(resp)
		}
		r.watch(t, id, ended)
	})
}
