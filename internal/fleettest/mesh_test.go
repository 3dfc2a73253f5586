package fleettest_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"testing"
	"time"

	"tfofleet/internal/fleettest"
	"tfofleet/internal/lab"
	"tfofleet/internal/measure"
	"tfofleet/internal/store/pgtest"
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

// TestMeshOfTwoControllers: one half of the probes is at another controller than
// the one that is asked. They come, and every pair has both its ends.
func TestMeshOfTwoControllers(t *testing.T) {
	t.Parallel()
	const hosts = 6
	m := fleettest.NewMesh(t, lab.MeshConfig{Seed: 1, Hosts: hosts}, "--store", pgtest.New(t), "--dataset", t.TempDir())
	meeting := m.Meet("--ports", "80,443")
	said, err := meeting.Over(2 * fleettest.Patience)
	asked := fmt.Sprintf("is connected to controller %s, and asked to come to %s", m.Controllers[1].Address(), m.Controller.Address())
	if err != nil || strings.Count(said, asked) != hosts/2 || strings.Contains(said, "takes no part") {
		t.Errorf("%v:\n%s", err, said)
	}
	rows := meeting.Rows()
	for _, r := range rows {
		if r.Verdict != measure.JointSupported || r.ClientLost || r.ServerLost {
			t.Errorf("%s to %s, %v port %d: %v", r.Client, r.Server, r.Address, r.Port, r.Verdict)
		}
	}
	if want := hosts * (hosts - 1) * 2 * 2; len(rows) != want {
		t.Errorf("%d pairs, want %d", len(rows), want)
	}
	for _, p := range m.Probes {
		if at := p.Info().GetController(); at != m.Controller.Address() {
			t.Errorf("%s is at %s", p.Name, at)
		}
	}
	m.End()
}

// TestMeshProbeKilled kills a probe in the middle of a mesh. What it was needed
// for is lost, and only that; the mesh ends in good order and says who is gone.
func TestMeshProbeKilled(t *testing.T) {
	t.Parallel()
	m := fleettest.NewMesh(t, lab.MeshConfig{Seed: 1, Hosts: 6})
	victim := m.Probes[2]
	meeting := m.Meet("--ports", "80,443,8443", "--rate", "20") // 30 measurements of 5 connections each
	meeting.Measuring()
	time.Sleep(rand.N(9 * time.Second)) // the moment of death; it takes about ten
	victim.Kill()
	said, err := meeting.Over(fleettest.Patience)
	if err != nil || strings.Count(said, "warning") != 1 || !strings.Contains(said, "warning: probe "+victim.Info().GetName()+" is gone") {
		t.Errorf("%v:\n%s", err, said)
	}
	name := victim.Info().GetName()
	lost, complete := 0, 0
	for _, r := range meeting.Rows() {
		switch {
		case r.Client != name && r.Server != name:
			complete++
			if r.Verdict != measure.JointSupported || r.Unmatched > 0 || r.ClientLost || r.ServerLost {
				t.Errorf("%s to %s: %v", r.Client, r.Server, r.Verdict)
			}
		case r.Server == name && !r.ServerLost:
			t.Errorf("%s to %s: the server is not lost", r.Client, r.Server)
		case r.Verdict == measure.JointPeerLost:
			lost++
		case r.Verdict != measure.JointSupported: // it was reported before
			t.Errorf("%s to %s: %v %v", r.Client, r.Server, r.Verdict, r.Doubt)
		}
	}
	if complete != 5*4*3*2 || lost == 0 || lost > 2*5*3*2 {
		t.Errorf("%d pairs complete, %d lost", complete, lost)
	}
	t.Logf("%d pairs complete, %d lost", complete, lost)
}

// TestMeshControllerKilled kills the controller in the middle of a mesh. The
// command fails, and says why; the probes close what they opened.
func TestMeshControllerKilled(t *testing.T) {
	t.Parallel()
	m := fleettest.NewMesh(t, lab.MeshConfig{Seed: 1, Hosts: 3})
	meeting := m.Meet("--ports", "80,443,8443", "--rate", "5")
	meeting.Measuring()
	if n := m.Open(); n != 3*3 {
		t.Errorf("%d ports are open while it runs", n)
	}
	m.Controller.Kill()
	said, err := meeting.Over(fleettest.Patience)
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 1 || !strings.Contains(said, "the controller is gone, and mesh ") || !strings.Contains(said, "run the mesh again") {
		t.Errorf("%v:\n%s", err, said)
	}
	t.Log(said)
	begun := time.Now()
	m.Await("the end of all listeners", fleettest.Patience, func() bool { return m.Open() == 0 })
	t.Logf("closed %v later", time.Since(begun))
}
