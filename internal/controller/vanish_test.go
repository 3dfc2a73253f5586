package controller_test

import (
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"tfofleet/internal/lease"
	"tfofleet/internal/measure"
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
