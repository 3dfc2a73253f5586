package fleettest_test

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"tfofleet/internal/dataset"
	"tfofleet/internal/fleettest"
	"tfofleet/internal/measure"
	pb "tfofleet/proto/tfofleet/v1"
)

// ttl is how long a lease lasts with the heartbeat of the package.
const ttl = 3*fleettest.Heartbeat + 10*time.Second

// partitioned is a fleet of a controller and probes in the middle of a survey.
func partitioned(t *testing.T, probes, targets int) (*fleettest.Fleet, *fleettest.Controller, *fleettest.Survey) {
	t.Helper()
	f := fleettest.New(t, targets)
	c := f.AddController()
	for range probes {
		f.AddProbe(150, f.Controllers) // SYNs per second; a target takes five
	}
	f.Connected()
	s := f.Survey(c, targets, "--rate", "150", "--concurrency", "8")
	s.Measured(uint64(targets / 10))
	return f, c, s
}

// TestShortPartition: a probe cannot be heard, cannot hear, and both, for less
// than a lease lasts. It goes on, and nothing is lost.
func TestShortPartition(t *testing.T) {
	t.Parallel()
	const targets = 1200
	f, c, s := partitioned(t, 2, targets)
	p := f.Probes[0]
	for _, d := range []fleettest.Direction{fleettest.FromHost, fleettest.ToHost, fleettest.BothWays} {
		p.Cut(t, d)
		s.Measured(s.State().GetMeasured() + 60) // the other one goes on
		p.Heal(t, d)
		f.Connected()
		s.Measured(s.State().GetMeasured() + 60)
	}
	if st := s.Done(2 * fleettest.Patience); st.GetMeasured() != targets {
		t.Errorf("the survey ended as %v", st)
	}
	if n := s.Check(c.Dataset(s), 1); n > 0 {
		t.Errorf("%d were measured twice", n)
	}
	f.End()
}

// TestLongPartition: probes that cannot be heard, cannot hear, and both, until
// long after their leases lapsed. The one that is left makes the rest of the
// survey: what the others announced is interrupted, or was measured by them, and
// no target is contacted by two. When they come back, what they have left is not
// theirs any more.
func TestLongPartition(t *testing.T) {
	t.Parallel()
	const targets = 1200
	f, c, s := partitioned(t, 4, targets)
	cut := []fleettest.Direction{fleettest.FromHost, fleettest.ToHost, fleettest.BothWays}
	for i, d := range cut {
		f.Probes[i].Cut(t, d)
	}
	f.Await("three probes lost", fleettest.Patience, func() bool {
		return !slices.ContainsFunc(f.Probes[:3], func(p *fleettest.Probe) bool { return p.Info().GetConnectedSince() != nil })
	})
	st := s.Done(2 * fleettest.Patience)
	for i, d := range cut {
		f.Probes[i].Heal(t, d)
	}
	f.Delivered(2 * fleettest.Patience)
	if n := s.Check(c.Dataset(s), 1); n > 0 {
		t.Errorf("%d were contacted twice", n)
	}
	t.Logf("%d measured, %d interrupted", st.GetMeasured(), st.GetInterrupted())
	if st.GetInterrupted() == 0 {
		t.Error("none was interrupted: no lease lapsed")
	}
	f.End()
}

// TestAllVanish: the controller loses all of its probes at the same moment, for half
// as long again as a lease lasts. No lease lapses, no target is interrupted, and
// none is contacted by two.
func TestAllVanish(t *testing.T) {
	t.Parallel()
	const targets = 1200
	f, c, s := partitioned(t, 4, targets)
	c.Cut(t, fleettest.BothWays)
	time.Sleep(3 * ttl / 2)
	c.Heal(t, fleettest.BothWays)
	f.Connected()
	if st := s.Done(2 * fleettest.Patience); st.GetMeasured() != targets {
		t.Errorf("the survey ended as %v", st)
	}
	if n := s.Check(c.Dataset(s), 1); n > 0 {
		t.Errorf("%d were contacted twice", n)
	}
	f.End()
}

// TestHalfOpen: one end of the connections dies while the other end cannot know.
func TestHalfOpen(t *testing.T) {
	t.Parallel()
	const targets = 1200
	f, c, s := partitioned(t, 2, targets)
	p := f.Probes[0]

	// A probe loses power. The controller still has a session of the process
	// before, and must not turn the next one away for ever.
	p.Cut(t, fleettest.BothWays)
	p.Kill()
	p.Heal(t, fleettest.BothWays)
	p.Launch()
	f.Await("the probe is back", fleettest.Patience, func() bool {
		return p.Info().GetConnectedSince() != nil && p.Says("connected")
	})

	// The controller does. The probe sends into nothing, and hears nothing.
	c.Cut(t, fleettest.BothWays)
	c.Kill()
	c.Heal(t, fleettest.BothWays)
	c.Start()
	f.Connected()

	st := s.Done(2 * fleettest.Patience)
	const perKill = 2*8 + 64 + 64 + 30
	if st.GetInterrupted() > perKill {
		t.Errorf("the survey ended as %v", st)
	}
	if n := s.Check(c.Dataset(s), 1); n > 0 {
		t.Errorf("%d were measured twice", n)
	}
	f.End()
}

// TestAddressChanges: the address under which a probe is seen is another one in
// the middle of a survey, and its connections lead nowhere. It comes back by
// itself.
func TestAddressChanges(t *testing.T) {
	t.Parallel()
	const targets = 1200
	f, c, s := partitioned(t, 2, targets)
	p := f.Probes[0]
	old := p.Addr
	p.Renumber(t)
	f.Await("a session from the other address", 2*fleettest.Patience, func() bool {
		return strings.HasPrefix(p.Info().GetAddress(), p.Addr.String()+":")
	})
	if st := s.Done(2 * fleettest.Patience); st.GetMeasured()+st.GetInterrupted() != targets {
		t.Errorf("the survey ended as %v", st)
	}
	f.Delivered(2 * fleettest.Patience)
	s.Check(c.Dataset(s), 1)
	from := make(map[netip.Addr]int)
	for rec, err := range dataset.Read(c.Dataset(s)) {
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(rec.Probe, p.Name+"-") && rec.Outcome == measure.OutcomeMeasured {
			from[rec.Observed]++
		}
	}
	if from[old] == 0 || from[p.Addr] == 0 || len(from) != 2 {
		t.Errorf("results of %s came from %v, want some from %v and some from %v", p.Name, from, old, p.Addr)
	}
	f.End()
}

// TestClonedProbe: two virtual machines are made of one image. The second one is
// turned away, with the names of both hosts; the first one notices nothing.
func TestClonedProbe(t *testing.T) {
	t.Parallel()
	const targets = 300
	f, c, s := partitioned(t, 1, targets)
	f.By = []string{"unshare", "--uts", "sh", "-c", `hostname clone && exec "$@"`, "sh"}
	clone := f.NewProbe(150)
	if out, err := exec.Command("cp", "-rp", filepath.Join(f.Probes[0].Data(), "identity"), clone.Data()).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	clone.Launch()
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	f.Await("the clone is turned away", fleettest.Patience, func() bool {
		return clone.Says(fmt.Sprintf(`connected from host \"%s\" already, so that host \"clone\" is turned away`, name))
	})
	if st := s.Done(fleettest.Patience); st.GetMeasured() != targets {
		t.Errorf("the survey ended as %v", st)
	}
	if clone.Says("connected: session") || len(clone.Contacts()) > 0 {
		t.Error("the clone was let in")
	}
	s.Check(c.Dataset(s), 1)
	f.End()
}

// TestNarrowUplink: results come ten times as fast as the uplink takes them.
// Heartbeats do not wait behind them.
func TestNarrowUplink(t *testing.T) {
	t.Parallel()
	const targets = 3000
	const interval = 2 * time.Second // so that a busy machine is not taken for a slow link
	f := fleettest.New(t, targets)
	c := f.AddController("--heartbeat", interval.String())
	p := f.AddProbe(3000, f.Controllers)
	f.Connected()
	p.Slow(t, 1_000_000, 32<<10)
	begun, before := time.Now(), p.Sent(t)
	s := f.Survey(c, targets, "--rate", "0", "--concurrency", "200")
	var silent, oldest time.Duration
	f.Await("the end of the survey", 2*fleettest.Patience, func() bool {
		info := p.Info()
		silent = max(silent, time.Since(info.GetLastHeard().AsTime()))
		oldest = max(oldest, info.GetStatus().GetSpool().GetOldest().AsDuration())
		return s.State().GetPhase() == pb.SurveyPhase_SURVEY_PHASE_DONE
	})
	rate := float64(p.Sent(t)-before) * 8 / time.Since(begun).Seconds()
	t.Logf("the uplink took %.0f bit/s, a result waited for %v, a heartbeat came after %v", rate, oldest, silent)
	if oldest < interval {
		t.Errorf("no result waited longer than %v: the uplink was not narrow", oldest)
	}
	// They are sent a tenth sooner or later.
	if late := silent - interval*11/10; late > interval {
		t.Errorf("a heartbeat was %v late", late)
	}
	s.Check(c.Dataset(s), 1)
	f.End()
}
