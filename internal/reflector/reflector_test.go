package reflector_test

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"sync"
	"testing"

	"tfofleet/internal/lab"
	"tfofleet/internal/lab/labtest"
	"tfofleet/internal/measure"
	"tfofleet/internal/reflector"
	"tfofleet/internal/tfo"
	pb "tfofleet/proto/tfofleet/v1"
)

func TestMain(m *testing.M) { os.Exit(labtest.Main(m)) }

const port = 7444

// TestSelfTest has a probe for every path test itself against a mirror at the
// other end of it: what is near the probe must be found, and a clean path, or
// one that rewrites what is not about Fast Open, must not be blamed.
func TestSelfTest(t *testing.T) {
	want := map[string]measure.NearPath{
		"clean": measure.NearPathClean, "slow": measure.NearPathClean, "nat": measure.NearPathClean,
		"option-stripped": measure.NearPathStripsOption, "cookie-stripped": measure.NearPathStripsOption, "option-mirrored": measure.NearPathStripsOption,
		"data-stripped": measure.NearPathDropsSynData, "data-truncated": measure.NearPathDropsSynData, "data-dropped": measure.NearPathDropsSynData,
		"proxy-no-tfo": measure.NearPathTerminatesTCP, "proxy": measure.NearPathTerminatesTCP,
		"cookie-rewritten": measure.NearPathStripsOption, "cgn": measure.NearPathChangesAddress,
		"option-dropped": measure.NearPathBreaksFlows, "answer-dropped": measure.NearPathBreaksFlows, "data-reset": measure.NearPathBreaksFlows,
		"dead-there": measure.NearPathBreaksFlows, "dead-back": measure.NearPathBreaksFlows, "dead-both": measure.NearPathBreaksFlows,
		"unheard-there": measure.NearPathBreaksFlows, "unheard-back": measure.NearPathBreaksFlows,
	}
	cfg := lab.MeshConfig{Seed: 1, Hosts: 1, Ports: []uint16{port}, Paths: map[lab.Way]lab.MeshPath{}}
	names := []string{"clean"} // of host 1 on
	cfg.Hosts++
	for _, p := range lab.MeshCatalogue() {
		if _, ok := want[p.Name]; ok && p.Name != "clean" {
			cfg.Paths[lab.Way{From: cfg.Hosts}] = p
			names = append(names, p.Name)
			cfg.Hosts++
		}
	}
	if len(names) != len(want) {
		t.Fatalf("the mesh has the paths %v, want those of %v", names, want)
	}
	mesh := labtest.NewMesh(t, cfg)
	home := mesh.Host(0)
	m, err := reflector.Open(netip.AddrPortFrom(netip.IPv6Unspecified(), port), tfo.NetNS(home.NetNS), tfo.Key{7})
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()
	var work sync.WaitGroup
	for i, name := range names {
		for _, addr := range []netip.Addr{home.V4, home.V6} {
			work.Go(func() {
				near, detail, err := reflector.Test(t.Context(), netip.AddrPortFrom(addr, port), tfo.NetNS(mesh.Host(i+1).NetNS), ask(m))
				if near != want[name] || err != nil {
					t.Errorf("%s to %v: %v (%s), %v; want %v", name, addr, near, detail, err, want[name])
				}
			})
		}
	}
	work.Wait()
}

func ask(m *reflector.Mirror) reflector.Ask {
	return func(_ context.Context, nonce measure.Nonce) (*pb.ArrivalBatch, error) { return m.Seen(nonce), nil }
}

// TestNothingToSee: what cannot be told is an error, with its reason.
func TestNothingToSee(t *testing.T) {
	mesh := labtest.NewMesh(t, lab.MeshConfig{Seed: 1, Hosts: 2})
	home, away := mesh.Host(0), tfo.NetNS(mesh.Host(1).NetNS)
	m, err := reflector.Open(netip.AddrPortFrom(home.V4, port), tfo.NetNS(home.NetNS))
	if err != nil {
		t.Fatal(err)
	}
	defer m.Close()

	_, _, err = reflector.Test(t.Context(), netip.AddrPortFrom(home.V4, port+1), away, ask(m))
	if !errors.Is(err, reflector.ErrUnreachable) {
		t.Errorf("nobody listens: %v", err)
	}
	broken := errors.New("the wire broke")
	_, _, err = reflector.Test(t.Context(), netip.AddrPortFrom(home.V4, port), away, func(context.Context, measure.Nonce) (*pb.ArrivalBatch, error) { return nil, broken })
	if !errors.Is(err, broken) {
		t.Errorf("the question is lost: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err = reflector.Test(ctx, netip.AddrPortFrom(home.V4, port), away, ask(m)); !errors.Is(err, context.Canceled) {
		t.Errorf("no time: %v", err)
	}
	if seen := m.Seen(measure.NewNonce()); len(seen.GetArrivals()) != 0 {
		t.Errorf("of a nonce that never came: %v", seen)
	}
}
