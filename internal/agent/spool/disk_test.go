package spool

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"
)

// What the loss of power leaves is up to these settings, and no other test would
// notice if one of them were not in force.
func TestSynced(t *testing.T) {
	s, _ := open(t, config(path(t)))
	defer s.Close()
	if s.db.NoSync || s.db.NoGrowSync {
		t.Error("transactions are not synced")
	}
}

// Groups are of 64, or of what came in 200 ms.
func TestGrouping(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := open(t, config(path(t)))
		defer s.Close()
		commits := 0
		s.fault = func() error { commits++; return nil }
		depth := func() int { synctest.Wait(); st := s.Status(); return st.Depth - st.Unwritten - 1 } // 1: the start

		begun := time.Now()
		for i := range groupRecords - 1 {
			must(t, s.Append(result(leaseA, "", uint32(i))))
		}
		if n := depth(); n != 0 {
			t.Errorf("%d records are written at once", n)
		}
		time.Sleep(groupTime - 1)
		if n := depth(); n != 0 {
			t.Errorf("%d records are written after %v", n, time.Since(begun))
		}
		time.Sleep(time.Nanosecond)
		if n := depth(); n != groupRecords-1 || commits != 1 {
			t.Errorf("%d records are written after %v, in %d transactions", n, time.Since(begun), commits)
		}
		begun = time.Now()
		for i := range groupRecords {
			must(t, s.Append(result(leaseA, "", uint32(i))))
		}
		if n := depth(); n != 2*groupRecords-1 || time.Since(begun) != 0 {
			t.Errorf("%d records are written after %v", n, time.Since(begun))
		}
		commits = 0
		must(t, s.Append(result(leaseA, "", 1)))
		time.Sleep(groupTime / 2)
		must(t, s.Accept(leaseA, []uint32{1}, nil)) // takes the record along
		if n := depth(); n != 2*groupRecords || commits != 1 {
			t.Errorf("%d records are written in %d transactions", n, commits)
		}
		commits = 0
		for _, r := range queued(t, s)[:3] {
			s.Ack(r.Key)
		}
		time.Sleep(groupTime)
		if n := depth(); n != 2*groupRecords-3 || commits != 2 { // queued syncs
			t.Errorf("%d records are left in %d transactions", n, commits)
		}
	})
}

var errFull = &fs.PathError{Op: "write", Path: "spool.db", Err: syscall.ENOSPC}

// While the disk is full nothing new is begun, and nothing is lost when it is
// no more.
func TestDiskFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := open(t, config(path(t)))
		defer s.Close()
		must(t, s.Accept(leaseA, []uint32{0, 1, 2}, nil))
		must(t, s.Start(leaseA, 0))
		var full atomic.Bool
		var tried atomic.Int32
		full.Store(true)
		s.fault = func() error {
			tried.Add(1)
			if full.Load() {
				return errFull
			}
			return nil
		}
		must(t, s.Append(result(leaseA, "kept in memory", 0)))
		err := s.Start(leaseA, 1)
		var disk *DiskError
		if !errors.As(err, &disk) || disk.Final || !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("start: %v", err)
		}
		if err := s.Accept(leaseB, []uint32{0}, nil); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("accept: %v", err)
		}
		if err := s.Sync(); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("sync: %v", err)
		}
		st := s.Status()
		if s.Credit() || !strings.Contains(st.Trouble, "no space left") || st.Broken || st.Unwritten != 1 || st.Leases != 1 {
			t.Errorf("%+v", st)
		}
		tried.Store(0)
		time.Sleep(10*retryAfter + 1)
		synctest.Wait()
		if n := tried.Load(); n < 10 || n > 50 {
			t.Errorf("tried %d times in %v", n, 10*retryAfter)
		}
		full.Store(false)
		time.Sleep(retryAfter)
		synctest.Wait()
		if st := s.Status(); !s.Credit() || st.Trouble != "" || st.Unwritten != 0 {
			t.Errorf("%+v", st)
		}
		if rs := results(t, s); len(rs) != 1 || string(rs[0].Data) != "kept in memory" {
			t.Errorf("%+v", rs)
		}
		must(t, s.Start(leaseA, 1)) // was not marked
	})
}

// A lease that found no place is reason enough to look for room, not to take
// the disk for a good one a second later.
func TestDiskFullForALease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := open(t, config(path(t)))
		s.fault = func() error { return errFull }
		if err := s.Accept(leaseA, []uint32{0}, nil); !errors.Is(err, syscall.ENOSPC) {
			t.Error(err)
		}
		time.Sleep(5 * retryAfter)
		if s.Credit() {
			t.Error("credit although nothing can be written")
		}
		must(t, s.Append(result(leaseA, "", 0)))
		err := s.Close()
		if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), "2 records are lost") { // one is the stop
			t.Errorf("close: %v", err)
		}
	})
}

// After a failed sync nobody knows what is on the disk.
func TestSyncFails(t *testing.T) {
	cfg := config(path(t))
	s, _ := open(t, cfg)
	must(t, s.Accept(leaseA, []uint32{0, 1}, nil))
	tried := 0
	s.fault = func() error { tried++; return syscall.EIO } // as fdatasync returns it
	must(t, s.Append(result(leaseA, "waits", 1)))
	err := s.Start(leaseA, 0)
	var disk *DiskError
	if !errors.As(err, &disk) || !disk.Final || !errors.Is(err, syscall.EIO) {
		t.Errorf("start: %v", err)
	}
	if tried != 1 {
		t.Errorf("tried %d times", tried)
	}
	s.fault = nil
	for _, err := range []error{s.Start(leaseA, 1), s.Append(Record{}), s.Sync()} {
		if !errors.As(err, &disk) || !disk.Final {
			t.Errorf("afterwards: %v", err)
		}
	}
	if _, err := s.Next(t.Context(), 0, 1); !errors.Is(err, syscall.EIO) {
		t.Errorf("next: %v", err)
	}
	if st := s.Status(); !st.Broken || s.Credit() || !strings.Contains(st.Trouble, "until the probe is started again") {
		t.Errorf("%+v", st)
	}
	if err := s.Close(); !errors.Is(err, syscall.EIO) {
		t.Errorf("close: %v", err)
	}
	s, r := open(t, cfg)
	defer s.Close()
	if len(r.Leases) != 1 || len(r.Leases[0].Fresh) != 2 {
		t.Errorf("%+v", r)
	}
}

// A failure at every commit in turn: what was promised holds, and the rest can
// be done again.
func TestEveryCommitFails(t *testing.T) {
	for k := 1; ; k++ {
		cfg := config(path(t))
		s, _ := open(t, cfg)
		n := 0
		s.fault = func() error {
			if n++; n == k {
				return errFull
			}
			return nil
		}
		again := func(f func() error) {
			t.Helper()
			if err := f(); errors.Is(err, syscall.ENOSPC) {
				must(t, f())
			} else if err != nil {
				t.Errorf("k=%d: %v", k, err)
			}
		}
		again(func() error { return s.Accept(leaseA, []uint32{0, 1, 2}, []byte("offer")) })
		again(func() error { return s.Start(leaseA, 0, 1) })
		must(t, s.Append(result(leaseA, "a", 0)))
		must(t, s.Append(result(leaseA, "b", 1)))
		again(s.Sync)
		rs := results(t, s)
		again(func() error { return s.Reject(rs[0].Key, "no") })
		s.Ack(rs[1].Key)
		again(s.Sync)
		must(t, s.Append(result(leaseA, "c", 2)))
		must(t, s.Close())
		st, rejected, err := Inspect(cfg.Path)
		must(t, err)
		if len(rejected) != 1 || st.Depth != 3 || st.Leases != 1 { // c, start and stop
			t.Errorf("k=%d: %+v, %d rejected", k, st, len(rejected))
		}
		if n < k {
			t.Logf("%d commits", n)
			return
		}
	}
}

func TestCorrupt(t *testing.T) {
	cfg := config(path(t))
	s, _ := open(t, cfg)
	for i := range 300 {
		must(t, s.Append(result(leaseA, strings.Repeat("x", 500), uint32(i))))
	}
	must(t, s.Close())
	good, err := os.ReadFile(cfg.Path)
	must(t, err)
	check := func(name string, file []byte) {
		t.Helper()
		must(t, os.WriteFile(cfg.Path, file, 0o600))
		_, _, err := Open(cfg)
		var corrupt *CorruptError
		if !errors.As(err, &corrupt) {
			t.Errorf("%s: %v", name, err)
			return
		}
		if !strings.Contains(corrupt.Hint(), cfg.Path) {
			t.Error(corrupt.Hint())
		}
		after, err := os.ReadFile(cfg.Path)
		must(t, err)
		if !bytes.Equal(after, file) {
			t.Errorf("%s: the file was changed", name)
		}
	}
	check("empty", nil)
	check("no database", []byte(strings.Repeat("hello\n", 10_000)))
	check("short", good[:len(good)/2])
	check("a page", good[:5000])
	check("cut in a page", good[:100])
	zeroed := bytes.Clone(good)
	clear(zeroed[:8192])
	check("without its head", zeroed)
	damaged := bytes.Clone(good)
	i := bytes.LastIndex(damaged, []byte("xxxx"))
	damaged[i] ^= 1
	check("one bit of a record", damaged)
	must(t, os.WriteFile(cfg.Path, good, 0o600))
	s, r := open(t, cfg)
	defer s.Close()
	if r.Crashed {
		t.Error("the undamaged file")
	}
}

// Bytes changed anywhere: either it is noticed, or nothing has changed but what
// bbolt's older meta page says.
func TestDamageAnywhere(t *testing.T) {
	cfg := config(path(t))
	s, _ := open(t, cfg)
	must(t, s.Accept(leaseA, []uint32{0, 1, 2}, []byte("offer")))
	for i := range 200 {
		must(t, s.Append(result(leaseA, fmt.Sprint(i, strings.Repeat("x", 300)), uint32(i))))
	}
	must(t, s.Close())
	good, err := os.ReadFile(cfg.Path)
	must(t, err)
	contents := func() string {
		var b strings.Builder
		st, _, err := Inspect(cfg.Path)
		if err != nil {
			return "error"
		}
		fmt.Fprint(&b, st.Depth, st.Leases, st.Quarantined, st.Bytes, st.Spooled)
		return b.String()
	}
	want := contents()
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	noticed := 0
	for range 100 {
		file := bytes.Clone(good)
		at := rng.IntN(len(file))
		for i := at; i < min(len(file), at+1+rng.IntN(64)); i++ {
			file[i] = byte(rng.Uint32())
		}
		must(t, os.WriteFile(cfg.Path, file, 0o600))
		switch got := contents(); {
		case got == "error":
			noticed++
		case got != want && at > 2*os.Getpagesize():
			t.Errorf("damage at %d: %s, want %s", at, got, want)
		}
	}
	t.Logf("%d of 100 noticed", noticed)
	if noticed == 0 {
		t.Error("no damage was ever noticed")
	}
}

func TestNewerFormat(t *testing.T) {
	cfg := config(path(t))
	s, _ := open(t, cfg)
	must(t, s.commit(&group{ops: []*op{{do: func(t *txn) error {
		t.put(bucketState, formatKey, seal([]byte{format + 1}))
		return nil
	}}}}))
	must(t, s.Close())
	if _, _, err := Open(cfg); !errors.Is(err, ErrNewer) {
		t.Error(err)
	}
}

func TestNoDirectory(t *testing.T) {
	if _, _, err := Open(config(path(t) + "/none/spool.db")); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}
