package fleettest_test

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"tfofleet/internal/fleettest"
	pb "tfofleet/proto/tfofleet/v1"
)

// onTinyDisk has programs run with a file system of their own in a directory,
// of so many KB.
func onTinyDisk(dir string, kb int) []string {
	return []string{"unshare", "--mount", "sh", "-c", fmt.Sprintf(`mount -t tmpfs -o mode=0700,size=%dk tmpfs "$0" && exec "$@"`, kb), dir}
}

// fill leaves no room on the file system that path is on.
func fill(t *testing.T, path string) {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for page := make([]byte, 4096); err == nil; {
		_, err = f.Write(page)
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
}

// TestControllerDiskFull: the controller's disk is full in the middle of a
// survey. It says so, takes nothing, and goes on when there is room.
func TestControllerDiskFull(t *testing.T) {
	t.Parallel()
	const targets = 900
	f := fleettest.New(t, targets)
	f.By = onTinyDisk(filepath.Join(f.Dir, "controller1", "data"), 32<<10)
	c := f.AddController()
	f.By = nil
	for range 2 {
		f.AddProbe(150, f.Controllers)
	}
	f.Connected()
	s := f.Survey(c, targets, "--rate", "150", "--concurrency", "8")
	s.Measured(targets / 10)
	ballast := c.Inside(filepath.Join(c.Data(), "ballast"))
	fill(t, ballast)
	f.Await("a survey that stands still", fleettest.Patience, func() bool { return s.State().GetStalled() != "" })
	before := s.State().GetMeasured()
	if before == targets {
		t.Error("all was measured: the disk was never full")
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if st := s.Done(2 * fleettest.Patience); st.GetMeasured() != targets {
		t.Errorf("the survey ended as %v", st)
	}
	if n := s.Check(c.Inside(c.Dataset(s)), 1); n > 0 {
		t.Errorf("%d were measured twice", n)
	}
	f.End()
}

// TestProbeDiskFull: a probe's disk is full in the middle of a survey. It takes
// nothing more and says why, loses nothing, and goes on when there is room.
func TestProbeDiskFull(t *testing.T) {
	t.Parallel()
	const targets = 900
	f := fleettest.New(t, targets)
	c := f.AddController()
	f.By = onTinyDisk(filepath.Join(f.Dir, "p01"), 16<<10)
	p := f.AddProbe(150, f.Controllers)
	f.By = nil
	f.AddProbe(150, f.Controllers)
	f.Connected()
	p.Slow(t, 64_000, 8<<10) // results come faster than they go, and need more room all the time
	s := f.Survey(c, targets, "--rate", "150", "--concurrency", "8")
	s.Measured(targets / 10)
	ballast := p.Inside(filepath.Join(p.Data(), "ballast"))
	fill(t, ballast)
	var st *pb.ProbeStatus
	f.Await("a probe that is not ready", fleettest.Patience, func() bool {
		st = p.Info().GetStatus()
		// Over such a link a session may end, and then nothing is known.
		return st.GetReadiness() != pb.Readiness_READINESS_READY && st.GetReadiness() != pb.Readiness_READINESS_UNSPECIFIED
	})
	if st.GetReadiness() != pb.Readiness_READINESS_SPOOL_BROKEN || st.GetReason() == "" {
		t.Errorf("not ready for %v: %q", st.GetReadiness(), st.GetReason())
	}
	t.Log(st.GetReason())
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	p.Slow(t, 0, 0)
	f.Await("a probe that is ready again", fleettest.Patience, func() bool {
		return p.Info().GetStatus().GetReadiness() == pb.Readiness_READINESS_READY
	})
	if st := s.Done(2 * fleettest.Patience); st.GetMeasured() != targets {
		t.Errorf("the survey ended as %v", st)
	}
	if n := s.Check(c.Dataset(s), 1); n > 0 {
		t.Errorf("%d were measured twice", n)
	}
	f.End()
}
