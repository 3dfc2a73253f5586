package mesh_test

import (
	"flag"
	"slices"
	"testing"
	"time"

	"tfofleet/internal/lab"
	"tfofleet/internal/lab/labtest"
	"tfofleet/internal/measure"
	"tfofleet/internal/mesh"
	"tfofleet/internal/tfo"
)

// TestWorkersMeet lets four workers measure each other's listeners on three
// ports, with a payload of its own on each: every pair is joined, and supported.
func TestWorkersMeet(t *testing.T) {
	t.Parallel()
	all := meet(t, membersOf(t, labtest.NewMesh(t, lab.MeshConfig{Seed: 1, Hosts: 4})), 53, 443, 8080)
	if want := 4 * 3 * 3 * 2; len(all) != want {
		t.Fatalf("%d pairs, want %d", len(all), want)
	}
	for _, m := range all {
		if m.Verdict != measure.JointSupported || m.Unmatched > 0 || len(m.Differences) > 0 || len(m.Ends.Alarms) > 0 {
			t.Error(m)
		}
		again(t, m)
	}
}

// again judges a pair by what the dataset keeps of it.
func again(t *testing.T, m meeting) {
	t.Helper()
	b, err := m.Ends.Evidence()
	if err != nil {
		t.Fatal(err)
	}
	e := m.Ends
	e.Arrivals, e.Alarms = nil, nil
	if b != nil {
		if e.Arrivals, e.Alarms, err = measure.DecodeArrivals(b); err != nil {
			t.Fatal(err)
		}
	}
	if j := mesh.Judge(e); j.Verdict != m.Verdict || j.Direction != m.Direction || j.Unmatched != m.Unmatched || j.NAT != m.NAT || !slices.Equal(j.Differences, m.Differences) {
		t.Errorf("judged again: %v", meeting{m.Pair, e, j})
	}
}

// TestWorkersOnEveryPath holds what workers report over every path of the lab to
// its ground truth: listeners that close in time tell no other fault.
func TestWorkersOnEveryPath(t *testing.T) {
	t.Parallel()
	const port = 8080
	hosts, ways := lab.SpreadOver(lab.MeshCatalogue())
	l := labtest.NewMesh(t, lab.MeshConfig{Seed: 1, Hosts: hosts, Paths: ways, Ports: []uint16{port}})
	for _, m := range meet(t, membersOf(t, l), port) {
		p := l.Path(wayOf(m))
		if (m.Verdict != p.Truth || m.Direction != p.Direction) && !(p.Name == "loss" && m.Verdict == measure.JointInconclusive) {
			t.Errorf("%s: want %v %v, got %v", p.Name, p.Truth, p.Direction, m)
		}
		again(t, m)
		if p.Truth == measure.JointProxied {
			continue
		}
		if m.Unmatched > 0 || m.CarrierNAT != (p.Name == "cgn") || !slices.Equal(fields(&m.Judgement), p.Differences) ||
			(m.NAT.Address == tfo.Yes) != (p.NAT.Address == tfo.Yes) || (m.NAT.Port == tfo.Yes) != (p.NAT.Port == tfo.Yes) {
			t.Errorf("%s: %v", p.Name, m)
		}
	}
}

var whole = flag.Int("whole", 0, "hosts of TestWhole, 0 for a few")

// TestWhole is a mesh on three ports, with nothing in the way and with 2 % loss:
// every side is joined, and no fault is named.
//
//	go test ./internal/mesh -run TestWhole -v -whole 20
func TestWhole(t *testing.T) {
	hosts := 5
	if *whole > 0 {
		hosts = *whole
	} else {
		t.Parallel()
	}
	loss := lab.MeshCatalogue()[0]
	if loss.Name != "loss" {
		t.Fatalf("the first path of the catalogue is %s", loss.Name)
	}
	for _, name := range []string{"clean", "loss"} {
		t.Run(name, func(t *testing.T) {
			cfg := lab.MeshConfig{Seed: uint64(time.Now().UnixNano()), Hosts: hosts, Paths: map[lab.Way]lab.MeshPath{}}
			for from := range hosts {
				for to := range hosts {
					if from != to && name == "loss" {
						cfg.Paths[lab.Way{From: from, To: to}] = loss
					}
				}
			}
			members := membersOf(t, labtest.NewMesh(t, cfg))
			begun := time.Now()
			all := meet(t, members, 80, 443, 8443)
			took := time.Since(begun)
			supported, arrivals := 0, 0
			for _, m := range all {
				arrivals += len(m.Ends.Arrivals)
				switch {
				case m.Unmatched > 0, name == "clean" && m.Verdict != measure.JointSupported:
					t.Errorf("seed %d: %v", cfg.Seed, m)
				case m.Verdict == measure.JointSupported:
					supported++
				case m.Verdict != measure.JointInconclusive:
					t.Errorf("seed %d: %v", cfg.Seed, m)
				}
			}
			if supported*100 < 95*len(all) {
				t.Errorf("seed %d: only %d of %d are supported", cfg.Seed, supported, len(all))
			}
			t.Logf("%d hosts, %d pairs, %d arrivals, %d supported, in %v", hosts, len(all), arrivals, supported, took.Round(time.Millisecond))
		})
	}
}
