package store

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"tfofleet/internal/lease"
	"tfofleet/internal/measure"
	"tfofleet/internal/store/pgtest"
	pb "tfofleet/proto/tfofleet/v1"
)

// TestPostgresDiskFull: with the batches on a file system of 2 MB, one that does
// not fit is refused whole, all that was acknowledged is there, and with room
// again all goes on. It mounts that file system in a mount namespace of its own,
// with a server of its own.
func TestPostgresDiskFull(t *testing.T) {
	if dir := os.Getenv("STORE_TEST_SMALL_DISK"); dir != "" {
		fillDisk(t, dir)
		return
	}
	if os.Geteuid() != 0 && os.Getenv("TFOFLEET_REQUIRE_KERNEL") != "1" {
		t.Skip("only root can mount a small file system for PostgreSQL")
	}
	pgtest.New(t)                           // skips where there is none
	small, err := os.MkdirTemp("", "small") // not t.TempDir, which is closed to the server
	if err != nil {
		t.Fatal(err)
	}
	defer os.Remove(small)
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestPostgresDiskFull$", "-test.v")
	cmd.Env = append(os.Environ(), "STORE_TEST_SMALL_DISK="+small)
	cmd.SysProcAttr = &syscall.SysProcAttr{Unshareflags: syscall.CLONE_NEWNS}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func fillDisk(t *testing.T, small string) {
	ctx := context.Background()
	database := pgtest.New(t)
	u, err := url.Parse(database)
	if err != nil {
		t.Fatal(err)
	}
	server := u.Query().Get("host")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	run := func(command ...string) {
		t.Helper()
		if out, err := exec.Command(command[0], command[1:]...).CombinedOutput(); err != nil {
			t.Fatalf("%q: %v: %s", command, err, out)
		}
	}
	run("mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", small)
	run("chown", "--reference", server, small)

	s, err := OpenPostgres(ctx, database, Options{Rules: lease.DefaultRules(time.Hour)})
	must(err)
	defer s.Close()
	c := connect(t, database)
	_, err = c.Exec(ctx, fmt.Sprintf(`CREATE TABLESPACE small LOCATION '%s'`, small))
	must(err)
	_, err = c.Exec(ctx, `ALTER TABLE batch SET TABLESPACE small`)
	must(err)

	const targets = 1000
	l := List{ID: "l", Targets: targets, ChunkSize: targets}
	must(s.PutList(ctx, l))
	_, err = s.CreateSurvey(ctx, Survey{ID: "s", Request: "s", List: l, Spec: &pb.SurveySpec{}})
	must(err)
	_, err = s.SetPhase(ctx, "s", Running, "")
	must(err)
	chunk, err := s.Claim(ctx, "p", "1")
	must(err)
	good := lease.Result(lease.Measured, measure.Supported)
	body := make([]byte, 50_000)
	_, _ = rand.Read(body)
	report := func(i int) error {
		e := lease.Results{Probe: "p", Epoch: 1, Items: []lease.ItemResult{{Index: uint32(i), Result: good}}}
		_, _, err := s.Apply(ctx, chunk.Key, e, &Batch{Epoch: 1, Sequence: uint64(i), Probe: "p", Body: body})
		return err
	}
	stored := 0
	for stored < targets {
		if err = report(stored); err != nil {
			break
		}
		stored++
	}
	if !errors.Is(err, ErrFull) || stored < 10 {
		t.Fatalf("after %d batches: %v", stored, err)
	}
	check := func() {
		t.Helper()
		tally, err := s.Tally(ctx, "s")
		must(err)
		_, bs, err := s.Batches(ctx, chunk.Key)
		must(err)
		if tally[good] != int64(stored) || tally.Total() != targets || len(bs) != stored {
			t.Errorf("%d stored: %d counted, %d batches", stored, tally[good], len(bs))
		}
	}
	check()
	// A heartbeat needs no room there, also not in the company of one that does.
	answers, err := s.applyAll([]*applying{
		{key: chunk.Key, event: lease.Results{Probe: "p", Epoch: 1}, batch: &Batch{Epoch: 1, Sequence: targets, Body: body}},
		{key: chunk.Key, event: lease.Renew{Probe: "p", Epoch: 1}},
	})
	must(err)
	if !errors.Is(answers[0], ErrFull) || answers[1] != nil {
		t.Errorf("a batch and a heartbeat: %v", answers)
	}
	run("mount", "-o", "remount,size=8m", small)
	must(report(stored))
	stored++
	check()
}
