package controller_test

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"tfofleet/internal/controller"
	"tfofleet/internal/lease"
	"tfofleet/internal/store"
	pb "tfofleet/proto/tfofleet/v1"
)

// slowStore lets something happen between the question what a probe holds and
// what is made of the answer.
type slowStore struct {
	store.Store
	meanwhile atomic.Pointer[func()]
}

func (s *slowStore) HeldBy(ctx context.Context, probe string) ([]store.Chunk, error) {
	held, err := s.Store.HeldBy(ctx, probe)
	if f := s.meanwhile.Swap(nil); f != nil {
		(*f)()
	}
	return held, err
}

// TestLapsedWhileWelcomed: Welcome is the leave to go on with every lease that it
// does not tell the probe to drop. One that becomes another's while it is made is
// dropped, and before anything is begun.
func TestLapsedWhileWelcomed(t *testing.T) {
	t.Parallel()
	const n = 10
	rules := lease.DefaultRules(time.Minute)
	var sooner atomic.Int64 // what the clock was put forward by
	dir := t.TempDir()
	st := sqlite(t, dir, store.Options{Rules: rules, Now: func() time.Time { return time.Now().Add(time.Duration(sooner.Load())) }})
	slow := &slowStore{Store: st}
	r := serveFor(t, controller.Config{Dir: dir, Dataset: func(string) string { return dir }, Store: slow, Heartbeat: time.Minute, TTL: rules.TTL})
	id := r.survey(t, n, spec())
	s := r.raw(t)
	if _, err := s.hello(&pb.Hello{Probe: "fra", Instance: "1"}); err != nil {
		t.Fatal(err)
	}
	s.credit(1)
	ref := s.lease().GetRef()
	if err := s.Send(&pb.SessionRequest{Message: &pb.SessionRequest_LeaseAccepted{LeaseAccepted: &pb.LeaseAccepted{Ref: ref}}}); err != nil {
		t.Fatal(err)
	}
	r.await(t, "it is held", func() bool { return r.phases(t, []string{"fra"})[lease.Held] == 1 })
	if err := s.CloseSend(); err != nil {
		t.Fatal(err)
	}
	r.await(t, "it is away", func() bool { return !r.server.Connected("fra") })

	k := store.Key{Survey: id, Chunk: ref.GetChunk()}
	meanwhile := func() {
		for range 2 { // suspect, then anybody's
			sooner.Add(int64(3 * rules.TTL))
			if _, _, err := st.Apply(ctx, k, lease.Expire{}, nil); err != nil {
				t.Error(err)
			}
		}
		if c, err := st.Claim(ctx, "sin", "1"); err != nil || c.Key != k || c.Epoch != 2 {
			t.Errorf("another probe gets %v, %v", c, err)
		}
	}
	slow.meanwhile.Store(&meanwhile)
	w, err := r.raw(t).hello(&pb.Hello{Probe: "fra", Instance: "1", Held: []*pb.HeldLease{{Ref: ref, Taken: n}}})
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(w.GetDrop(), func(d *pb.LeaseRef) bool { return proto.Equal(d, ref) }) {
		t.Errorf("%v, whose lease is another probe's, may go on with it: it is to drop %v", ref, w.GetDrop())
	}
}
