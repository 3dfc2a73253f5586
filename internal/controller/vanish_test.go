package controller_test

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"tfofleet/internal/controller"
	"tfofleet/internal/lease"
	"tfofleet/internal/measure"
	"tfofleet/internal/store"
	pb "tfofleet/proto/tfofleet/v1"
)

// TestEveryProbeVanishes: the fault is likely near the controller, and none of the
// leases lapses for one TTL from then on, however long nothing was heard before.
// Probes that come back go on as if nothing had been.
func TestEveryProbeVanishes(t *testing.T) {
	t.Parallel()
	const ttl = 800 * time.Millisecond
	dir := t.TempDir()
	r := openWith(t, dir, time.Hour, lease.Rules{OfferTimeout: time.Minute, TTL: ttl, Grace: time.Minute, MaxOffers: 9})
	sp := spec()
	sp.RepeatInterrupted = false
	const n = 4 * 64 // a chunk for each
	id := r.survey(t, n, sp)
	names := []string{"p0", "p1", "p2", "p3"}
	sessions, leases := make(map[string]*rawSession), make(map[string]*pb.Lease)
	for _, name := range names {
		s := r.raw(t)
		if _, err := s.hello(&pb.Hello{Probe: name, Instance: "1"}); err != nil {
			t.Fatal(err)
		}
		sessions[name] = s
	}
	time.Sleep(ttl) // the freeze of the start is over
	for name, s := range sessions {
		s.credit(1)
		leases[name] = s.lease()
		if err := s.Send(&pb.SessionRequest{Message: &pb.SessionRequest_LeaseAccepted{LeaseAccepted: &pb.LeaseAccepted{Ref: leases[name].GetRef()}}}); err != nil {
			t.Fatal(err)
		}
	}
	r.await(t, "all leases are held", func() bool { return r.phases(t, names)[lease.Held] == 4 })
	time.Sleep(ttl / 2) // nothing is heard
	cut := time.Now()
	for _, s := range sessions {
		if err := s.CloseSend(); err != nil {
			t.Fatal(err)
		}
	}
	r.await(t, "a lease lapses", func() bool { return r.phases(t, names)[lease.Suspect] > 0 })
	if after := time.Since(cut); after < ttl {
		t.Errorf("a lease lapsed %v after all probes were lost, want at least %v", after, ttl)
	}
	for name, l := range leases {
		w, err := r.raw(t).hello(&pb.Hello{Probe: name, Instance: "1", Held: []*pb.HeldLease{{Ref: l.GetRef()}}})
		if err != nil || len(w.GetDrop()) > 0 {
			t.Fatalf("%s is back: %v, %v", name, w, err)
		}
		if resp := r.results(t, batchOf(t, name, l)); resp.GetRejected() != "" {
			t.Error(resp)
		}
	}
	r.watch(t, id, ended)
	for item, rec := range complete(t, dir, n) {
		if slices.Contains(rec.Conditions, measure.CondVantageRepeated) {
			t.Errorf("item %d was repeated", item)
		}
	}
}

// TestSilentSession: a connection that leads nowhere is no session for long.
func TestSilentSession(t *testing.T) {
	t.Parallel()
	r := openWith(t, t.TempDir(), 50*time.Millisecond, lease.DefaultRules(10*time.Second))
	s := r.raw(t)
	if _, err := s.hello(&pb.Hello{Probe: "fra", Instance: "1"}); err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	_, err := s.Recv()
	if took := time.Since(begun); status.Code(err) != codes.Aborted || took < 5*time.Second {
		t.Errorf("ended after %v: %v", took, err)
	}
}

// TestHeartbeatIsAnswered: with its number, and only when what it says of leases is
// durable: the probe goes by that.
func TestHeartbeatIsAnswered(t *testing.T) {
	t.Parallel()
	dir, rules := t.TempDir(), lease.DefaultRules(time.Minute)
	st := sqlite(t, dir, store.Options{Rules: rules})
	full := &fullStore{Store: st}
	r := serveFor(t, controller.Config{Dir: dir, Dataset: func(string) string { return dir }, Store: full, Heartbeat: time.Minute, TTL: rules.TTL})
	r.survey(t, 3, spec())
	s := r.raw(t)
	if _, err := s.hello(&pb.Hello{Probe: "fra", Instance: "1"}); err != nil {
		t.Fatal(err)
	}
	s.credit(1)
	ref := s.lease().GetRef()
	say := func(m *pb.SessionRequest) {
		t.Helper()
		if err := s.Send(m); err != nil {
			t.Fatal(err)
		}
	}
	beat := func(number uint64, taken uint32) {
		t.Helper()
		say(&pb.SessionRequest{Message: &pb.SessionRequest_Heartbeat{Heartbeat: &pb.Heartbeat{Number: number, Held: []*pb.HeldLease{{Ref: ref, Taken: taken}}}}})
	}
	beat(7, 2)
	m, err := s.Recv()
	if err != nil || m.GetHeartbeatAck().GetNumber() != 7 {
		t.Fatalf("heartbeat 7 is answered with %v, %v", m, err)
	}
	held, err := r.store.HeldBy(ctx, "fra")
	if err != nil || len(held) != 1 || held[0].Phase != lease.Held || held[0].Taken != 2 {
		t.Errorf("held %+v, %v", held, err)
	}
	full.yes.Store(true)
	beat(8, 3)
	say(&pb.SessionRequest{}) // is answered, with the end
	if m, err := s.Recv(); status.Code(err) != codes.Unimplemented {
		t.Errorf("a heartbeat that cannot be stored is answered with %v, %v", m, err)
	}
}

// fullStore is a store that takes no more of leases.
type fullStore struct {
	store.Store
	yes atomic.Bool
}

func (f *fullStore) Apply(ctx context.Context, k store.Key, e lease.Event, b *store.Batch) (store.Chunk, []lease.Effect, error) {
	if f.yes.Load() {
		return store.Chunk{}, nil, store.ErrFull
	}
	return f.Store.Apply(ctx, k, e, b)
}

// TestTTLOfASession: a probe keeps to the heartbeats that its Welcome asked for,
// and its leases last as long as it said, also when the fleet is smaller by then.
func TestTTLOfASession(t *testing.T) {
	t.Parallel()
	const heartbeat = 20 * time.Millisecond // of two probes
	r := openWith(t, t.TempDir(), heartbeat, lease.DefaultRules(heartbeat))
	var others []*rawSession
	for i := range 4 {
		s := r.raw(t)
		if _, err := s.hello(&pb.Hello{Probe: fmt.Sprint("other", i), Instance: "1"}); err != nil {
			t.Fatal(err)
		}
		others = append(others, s)
	}
	r.survey(t, 3, spec())
	s := r.raw(t)
	w, err := s.hello(&pb.Hello{Probe: "fra", Instance: "1"})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := w.GetTtl().AsDuration(), lease.DefaultRules(100*time.Millisecond).TTL; got != want {
		t.Fatalf("a TTL of %v among five probes, want %v", got, want)
	}
	for _, o := range others {
		if err := o.CloseSend(); err != nil {
			t.Fatal(err)
		}
		if _, err := o.Recv(); err == nil {
			t.Error("a session without an end")
		}
	}
	s.credit(1)
	if err := s.Send(&pb.SessionRequest{Message: &pb.SessionRequest_LeaseAccepted{LeaseAccepted: &pb.LeaseAccepted{Ref: s.lease().GetRef()}}}); err != nil {
		t.Fatal(err)
	}
	r.await(t, "the lease is held", func() bool { return r.phases(t, []string{"fra"})[lease.Held] == 1 })
	held, err := r.store.HeldBy(ctx, "fra")
	if err != nil || held[0].TTL != w.GetTtl().AsDuration() {
		t.Errorf("held for %v, want %v; %v", held[0].TTL, w.GetTtl().AsDuration(), err)
	}
}

// phases counts the leases of probes.
func (r *rig) phases(t *testing.T, probes []string) map[lease.Phase]int {
	t.Helper()
	n := make(map[lease.Phase]int)
	for _, name := range probes {
		chunks, err := r.store.HeldBy(ctx, name)
		if err != nil {
			t.Fatal(err)
		}
		for _, c := range chunks {
			n[c.Phase]++
		}
	}
	return n
}
