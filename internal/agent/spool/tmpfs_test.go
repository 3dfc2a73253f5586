package spool

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func init() { roles["tiny disk"] = tinyDisk }

// TestTinyDisk runs tinyDisk in a mount namespace of its own.
func TestTinyDisk(t *testing.T) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "SPOOL_TEST_ROLE=tiny disk", "SPOOL_PATH="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags = syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	t.Logf("%s", out)
	if err != nil {
		t.Error(err)
	}
}

// tinyDisk fills file systems of every size, so that the write that finds no
// room is another one each time.
func tinyDisk() int {
	dir := os.Getenv("SPOOL_PATH")
	created := 0
	for pages := 4; pages < 60; pages++ {
		mount := func(options ...string) error {
			out, err := exec.Command("mount", append(options, "-t", "tmpfs", "tmpfs", dir)...).CombinedOutput()
			if err != nil {
				err = fmt.Errorf("mount: %w: %s", err, out)
			}
			return err
		}
		err := mount("-o", fmt.Sprintf("size=%dk", 4*pages))
		if err == nil {
			var ok bool
			ok, err = fill(filepath.Join(dir, "spool.db"), func() error { return mount("-o", "remount,size=10m") })
			if ok {
				created++
			}
			err = errors.Join(err, exec.Command("umount", dir).Run())
		}
		if err != nil {
			fmt.Printf("%d pages: %v\n", pages, err)
			return 1
		}
	}
	fmt.Printf("%d of 56 sizes had room for an empty spool\n", created)
	return 0
}

// fill uses a spool until the disk is full, and then all that is still to work.
func fill(file string, grow func() error) (created bool, err error) {
	s, _, err := Open(config(file))
	if err != nil {
		_, there := os.Stat(file)
		if errors.Is(err, syscall.ENOSPC) && errors.Is(there, os.ErrNotExist) {
			return false, nil
		}
		return false, fmt.Errorf("open: %w, with a file: %v", err, there)
	}
	all := make([]uint32, 1000)
	for i := range all {
		all[i] = uint32(i)
	}
	data := strings.Repeat("x", 1500)
	started, stored := 0, 0
	full := s.Accept(leaseA, all, nil)
	for i := 0; full == nil; i++ {
		if full = s.Start(leaseA, all[i]); full != nil {
			break
		}
		started++
		if err := s.Append(result(leaseA, data, all[i])); err != nil {
			return true, err
		}
		if full = s.Sync(); full == nil {
			stored++
		}
	}
	if !errors.Is(full, syscall.ENOSPC) {
		return true, fmt.Errorf("when the disk is full: %w", full)
	}
	if st := s.Status(); s.Credit() || !strings.Contains(st.Trouble, "no space left") || st.Broken {
		return true, fmt.Errorf("status %+v", st)
	}

	// The probe is killed and started again while the disk is full.
	s.crash()
	s, found, err := Open(config(file))
	if err != nil {
		return true, fmt.Errorf("open again: %w", err)
	}
	for _, h := range found.Leases {
		if len(h.Interrupted) != started-stored || len(h.Fresh) != len(all)-started || h.Queued != stored {
			return true, fmt.Errorf("%d started, %d stored: found %d interrupted, %d fresh, %d queued", started, stored, len(h.Interrupted), len(h.Fresh), h.Queued)
		}
	}
	if found.Created || !found.Crashed && stored > 0 || len(found.Leases) == 0 && stored > 0 {
		return true, fmt.Errorf("found %+v", found)
	}
	if err := s.Append(result(leaseA, data, 999)); err != nil {
		return true, err
	}

	// What the controller acknowledges makes room for the rest.
	drained := 0
	for rounds := 0; s.Status().Depth > 0 && stored > 0; rounds++ {
		rs, err := s.read(0, 1<<20)
		if err != nil || rounds > 100 {
			return true, fmt.Errorf("%d records are left after %d rounds: %w", s.Status().Depth, rounds, err)
		}
		for _, r := range rs {
			if r.Kind == KindResult {
				drained++
			}
			s.Ack(r.Key)
		}
		s.Sync()
	}
	if stored > 0 && drained != stored+1 {
		return true, fmt.Errorf("%d records came out, %d went in", drained, stored+1)
	}

	if err := grow(); err != nil {
		return true, err
	}
	if err := s.Sync(); err != nil {
		return true, fmt.Errorf("there is room again: %w", err)
	}
	if !s.Credit() {
		return true, fmt.Errorf("no credit: %+v", s.Status())
	}
	st := s.Status()
	if err := s.Close(); err != nil {
		return true, err
	}
	after, _, err := Inspect(file)
	if err == nil && (after.Depth != st.Depth+1 || after.Leases != st.Leases) {
		err = fmt.Errorf("%+v in the file, was %+v", after, st)
	}
	return true, err
}
