package controller_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"tfofleet/internal/agent"
	"tfofleet/internal/agent/agenttest"
	"tfofleet/internal/dataset"
	"tfofleet/internal/lease"
	"tfofleet/internal/measure"
	pb "tfofleet/proto/tfofleet/v1"
)

// TestDiskFull runs a survey on a file system of its own, in a mount namespace
// of its own, that is too small for it until room is made.
func TestDiskFull(t *testing.T) {
	cmd := child("full", t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if os.Geteuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Geteuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getegid(), Size: 1}}
	}
	var out bytes.Buffer
	cmd.Stderr, cmd.Stdout = &out, &out
	if err := cmd.Run(); err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	t.Log(out.String())
}

func fullChild(dir string) (err error) {
	const n = 4000
	if out, err := exec.Command("mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", dir).CombinedOutput(); err != nil {
		return fmt.Errorf("mount: %w: %s", err, out)
	}
	defer exec.Command("umount", "-l", dir).Run()
	ballast := filepath.Join(dir, "ballast")
	if err := os.WriteFile(ballast, make([]byte, 20<<20), 0o644); err != nil {
		return err
	}
	r, err := tryOpen(dir, 10*time.Second, lease.DefaultRules(10*time.Second))
	if err != nil {
		return err
	}
	id, err := childSurvey(r, dir, n)
	if err != nil {
		return err
	}
	runner := &agenttest.Runner{Concurrency: 16}
	session, err := r.dial()
	if err != nil {
		return err
	}
	results, err := r.dial()
	if err != nil {
		return err
	}
	life, cancel := context.WithCancel(ctx)
	defer cancel()
	cfg := agentConfig("local", runner, session, results)
	cfg.Backoff = 50 * time.Millisecond
	go agent.New(cfg).Run(life)

	limited, cancelWatch := context.WithTimeout(ctx, time.Minute)
	defer cancelWatch()
	watch, err := r.ctl.WatchSurvey(limited, &pb.WatchSurveyRequest{Survey: id})
	if err != nil {
		return err
	}
	var last *pb.SurveyState
	for stalled := false; ; {
		m, err := watch.Recv()
		if err != nil {
			return fmt.Errorf("last %v: %w", last, err)
		}
		st := m.GetState()
		if last != nil && st.GetMeasured() < last.GetMeasured() {
			return fmt.Errorf("%d measured after %d", st.GetMeasured(), last.GetMeasured())
		}
		last = st
		if ended(st) {
			if !stalled {
				return errors.New("the disk was never full")
			}
			break
		}
		if st.GetStalled() != "" && !stalled {
			stalled = true
			fmt.Printf("stalled with %d of %d measured: %s\n", st.GetMeasured(), n, st.GetStalled())
			if st.GetMeasured() == n {
				return errors.New("all was measured: the disk was never full")
			}
			// What is there can be read, and the counts can be asked for.
			for _, err := range dataset.Read(dir) {
				if err != nil {
					return err
				}
			}
			if err := os.Remove(ballast); err != nil {
				return err
			}
		}
	}
	if last.GetMeasured() != n {
		return fmt.Errorf("ended as %v", last)
	}
	got := make(map[uint64]bool)
	for rec, err := range dataset.Read(dir) {
		if err != nil {
			return err
		}
		if got[rec.Item] || rec.Outcome != measure.OutcomeMeasured {
			return fmt.Errorf("item %d: %v, there before %v", rec.Item, rec.Outcome, got[rec.Item])
		}
		got[rec.Item] = true
	}
	if len(got) != n {
		return fmt.Errorf("%d targets in the dataset, want %d", len(got), n)
	}
	for addr, times := range runner.Counts().Started {
		if times != 1 {
			return fmt.Errorf("%v was measured %d times", addr, times)
		}
	}
	return nil
}
