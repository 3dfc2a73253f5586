package dataset

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

// A full disk is a real one here: a tmpfs of a few pages in a mount namespace
// of our own. The test runs itself again in there, as root of a user namespace
// where we are not root.
func TestFullDisk(t *testing.T) {
	const inside = "TFOFLEET_TEST_FULL_DISK"
	if dir := os.Getenv(inside); dir != "" {
		fullDisk(t, dir)
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^TestFullDisk$", "-test.v")
	cmd.Env = append(os.Environ(), inside+"="+t.TempDir())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if uid := os.Getuid(); uid != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: uid, Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: TestFullDisk") {
		t.Fatalf("in a mount namespace: %v\n%s", err, out)
	}
}

func fullDisk(t *testing.T, dir string) {
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		t.Fatal(err)
	}
	size := func(pages int, flags uintptr) {
		t.Helper()
		// One page more: tmpfs keeps the last for itself on some kernels.
		if err := syscall.Mount("tmpfs", dir, "tmpfs", flags, fmt.Sprintf("size=%d", pages*os.Getpagesize())); err != nil {
			t.Fatal(err)
		}
	}
	size(1024, 0)
	w, err := Create(dir, testSurvey())
	if err != nil {
		t.Fatal(err)
	}
	before := files(t, dir)
	ms := items(500)
	for i := range ms {
		// Different in every row, so that the files are larger than a page or two.
		for seq := range ms[i].Attempts {
			ms[i].Attempts[seq].InfoFinal = fmt.Appendf(nil, "%x", uint64(i*7+seq)*0x9E3779B97F4A7C15)
		}
	}
	k := ChunkKey{Survey: "s1", Probe: "local"}

	// Let the writing fail later and later, until it does not fail.
	failed := 0
	for pages := 2; ; pages++ {
		size(pages, syscall.MS_REMOUNT)
		err := w.WriteChunk(k, ms)
		if err == nil {
			break
		}
		failed++
		if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), k.String()) {
			t.Fatalf("%d pages: %v is not ENOSPC of %v", pages, err, k)
		}
		if got := files(t, dir); len(got) != len(before) {
			t.Fatalf("%d pages: left behind %v", pages, got)
		}
		if keys, err := Chunks(dir); len(keys) != 0 || err != nil {
			t.Fatalf("%d pages: %v, %v", pages, keys, err)
		}
	}
	t.Logf("failed %d times", failed)
	if failed < 5 {
		t.Fatalf("failed %d times: the chunk is too small to fail within", failed)
	}
	if got := readAll(t, dir); len(got) != len(ms) {
		t.Fatalf("%d measurements once there was room", len(got))
	}

	// survey.json is as it was, and the targets are not there.
	fill, err := os.Create(filepath.Join(dir, "fill"))
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = fill.Write(make([]byte, os.Getpagesize()))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
	before = files(t, dir)
	done := testSurvey()
	done.State = StateDone
	if err := w.PutSurvey(done); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("survey: %v is not ENOSPC", err)
	}
	if s, err := ReadSurvey(dir); err != nil || s.State != StateRunning {
		t.Errorf("survey after a failed replacement: %+v, %v", s, err)
	}
	if n, err := WriteTargets(dir, 64, counted(1000, func(uint64) {})); n != 0 || !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("targets: %d, %v is not ENOSPC", n, err)
	}
	if got := files(t, dir); len(got) != len(before) {
		t.Errorf("left behind %v, had %v", got, before)
	}
}
