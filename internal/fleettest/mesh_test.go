package fleettest_test

import (
	"strings"
	"testing"
	"time"

	"tfofleet/internal/fleettest"
	"tfofleet/internal/lab"
	"tfofleet/internal/measure"
)

// TestMesh: twenty probes measure each other on three ports, over both families,
// within a minute, with nothing in the way and with 2 % loss on every way. Each
// pair has both its ends.
func TestMesh(t *testing.T) {
	const hosts = 20
	loss := lab.MeshCatalogue()[0]
	if loss.Name != "loss" {
		t.Fatalf("the first path of the catalogue is %s", loss.Name)
	}
	for _, name := range []string{"clean", "loss"} {
		t.Run(name, func(t *testing.T) {
			cfg := lab.MeshConfig{Seed: uint64(time.Now().UnixNano()), Hosts: hosts, Paths: map[lab.Way]lab.MeshPath{}}
			t.Logf("seed %d", cfg.Seed)
			for from := range hosts {
				for to := range hosts {
					if from != to && name == "loss" {
						cfg.Paths[lab.Way{From: from, To: to}] = loss
					}
				}
			}
			m := fleettest.NewMesh(t, cfg)
			begun := time.Now()
			meeting := m.Meet("--ports", "80,443,8443")
			said, err := meeting.Over(2 * fleettest.Patience)
			took := time.Since(begun)
			if err != nil || strings.Contains(said, "warning") {
				t.Errorf("%v:\n%s", err, said)
			}
			rows := meeting.Rows()
			if want := hosts * (hosts - 1) * len(fleettest.MeshPorts) * 2; len(rows) != want {
				t.Fatalf("%d pairs, want %d; it said:\n%s", len(rows), want, said)
			}
			supported, attempts := 0, 0
			for _, r := range rows {
				attempts += r.Attempts
				bad := r.Unmatched > 0 || r.ClientLost || r.ServerLost
				switch {
				case r.Verdict == measure.JointSupported:
					supported++
				case name == "clean" || r.Verdict != measure.JointInconclusive: // where much is lost too little is left
					bad = true
				}
				if bad {
					t.Errorf("%s to %s, %v port %d: %v %v %v, %d unmatched, lost %v %v", r.Client, r.Server, r.Address, r.Port, r.Verdict, r.Direction, r.Doubt, r.Unmatched, r.ClientLost, r.ServerLost)
				}
			}
			if supported*100 < 95*len(rows) {
				t.Errorf("only %d of %d are supported", supported, len(rows))
			}
			if took > time.Minute {
				t.Errorf("it took %v", took)
			}
			t.Logf("%d probes, %d pairs, %d attempts, %d supported, in %v", hosts, len(rows), attempts, supported, took.Round(time.Millisecond))
			m.End()
		})
	}
}
