package controller_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"go.uber.org/goleak"

	"tfofleet/internal/agent"
	"tfofleet/internal/agent/agenttest"
	"tfofleet/internal/dataset"
	"tfofleet/internal/lease"
	"tfofleet/internal/measure"
	"tfofleet/internal/store"
	"tfofleet/internal/store/pgtest"
	pb "tfofleet/proto/tfofleet/v1"
)

// children are programs that tests run as processes of their own: this binary,
// with the name in the environment.
var children = map[string]func(dir string) error{
	"survey": surveyChild,
	"full":   fullChild,
	"late":   lateChild,
}

const (
	childEnv = "TFOFLEET_TEST_CHILD"
	dirEnv   = "TFOFLEET_TEST_DIR"
)

func TestMain(m *testing.M) {
	if f, ok := children[os.Getenv(childEnv)]; ok {
		if err := f(os.Getenv(dirEnv)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	goleak.VerifyTestMain(postgresMain{m})
}

// postgresMain runs tests beside the PostgreSQL that they ask for.
type postgresMain struct{ m *testing.M }

func (p postgresMain) Run() int { return pgtest.Main(p.m) }

func child(name, dir string) *exec.Cmd {
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+name, dirEnv+"="+dir)
	cmd.Stderr = os.Stderr
	return cmd
}

const childTargets = 5000

// surveyChild is a survey of one process: it goes on with what the directory
// holds, and leaves when all is done. Every start of a target is noted before
// it counts.
func surveyChild(dir string) error {
	r, err := tryOpen(dir, 10*time.Second, lease.DefaultRules(10*time.Second))
	if err != nil {
		return err
	}
	id, err := childSurvey(r, dir, childTargets)
	if err != nil {
		return err
	}
	starts, err := os.OpenFile(filepath.Join(dir, "starts"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	runner := &agenttest.Runner{Concurrency: 16, Took: func(t measure.Target) time.Duration {
		if _, err := starts.Write(binary.BigEndian.AppendUint64(nil, t.Item)); err != nil {
			panic(err)
		}
		return time.Millisecond
	}}
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
	go agent.New(agentConfig("local", runner, session, results)).Run(life)
	watch, err := r.ctl.WatchSurvey(ctx, &pb.WatchSurveyRequest{Survey: id})
	for err == nil {
		var m *pb.WatchSurveyResponse
		if m, err = watch.Recv(); err == nil && ended(m.GetState()) {
			return nil
		}
	}
	return err
}

// childSurvey is the survey of the directory, created if there is none.
func childSurvey(r *rig, dir string, n int) (string, error) {
	doc, err := dataset.ReadSurvey(dir)
	if err == nil {
		return doc.ID, nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	list, err := r.upload(n)
	if err != nil {
		return "", err
	}
	sp := spec()
	sp.Concurrency = 16
	resp, err := r.ctl.CreateSurvey(ctx, &pb.CreateSurveyRequest{RequestId: "r", TargetsId: list, Spec: sp})
	return resp.GetSurvey(), err
}

// TestKilled kills the whole survey, controller and probe, at random moments.
// After each the directory can be read, nothing that was stored is gone, and
// the counts add up; in the end every target is there once, and what was
// measured a second time says so.
func TestKilled(t *testing.T) {
	const rounds = 20
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	dir, before := t.TempDir(), int64(0)
	for round := range rounds {
		cmd := child("survey", dir)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Duration(rng.Int64N(int64(120 * time.Millisecond)))) // the moment of death
		cmd.Process.Kill()
		cmd.Wait()

		measured := inspect(t, dir)
		if measured < before {
			t.Fatalf("round %d: %d targets measured, %d before", round, measured, before)
		}
		before = measured
		if measured == childTargets { // a fast machine: begin another
			finishKilled(t, dir)
			dir, before = t.TempDir(), 0
		}
	}
	t.Logf("%d of %d measured when the last was killed", before, childTargets)
	finishKilled(t, dir)
}

// finishKilled lets a killed survey come to its end.
func finishKilled(t *testing.T, dir string) {
	t.Helper()
	if err := child("survey", dir).Run(); err != nil {
		t.Fatal(err)
	}
	got := complete(t, dir, childTargets)
	starts, err := os.ReadFile(filepath.Join(dir, "starts"))
	if err != nil {
		t.Fatal(err)
	}
	times := make(map[uint64]int)
	for i := range len(starts) / 8 {
		times[binary.BigEndian.Uint64(starts[8*i:])]++
	}
	again := 0
	for item, n := range times {
		if n < 2 {
			continue
		}
		again++
		if !slices.Contains(got[item].Conditions, measure.CondVantageRepeated) {
			t.Errorf("item %d was started %d times, and does not say so", item, n)
		}
	}
	t.Logf("%d targets were started more than once", again)
}

// inspect opens what a killed survey left, and returns how many targets are
// measured.
func inspect(t *testing.T, dir string) int64 {
	t.Helper()
	written := contents(t, dir) // fails if anything cannot be read
	if _, err := os.Stat(filepath.Join(dir, "state.db")); errors.Is(err, fs.ErrNotExist) {
		return 0
	}
	st := sqlite(t, dir, store.Options{Rules: lease.DefaultRules(time.Second)})
	defer st.Close()
	doc, err := dataset.ReadSurvey(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0
	}
	if err != nil {
		t.Fatal(err)
	}
	tally, err := st.Tally(ctx, doc.ID)
	if err != nil {
		t.Fatal(err)
	}
	if tally.Total() != childTargets {
		t.Errorf("%d targets counted, want %d", tally.Total(), childTargets)
	}
	measured := tally.Of(lease.Measured)
	if measured+tally.Of(lease.Unfinished) != childTargets {
		t.Errorf("%d measured and %d pending of %d", measured, tally.Of(lease.Unfinished), childTargets)
	}
	if int64(len(written)) > measured {
		t.Errorf("%d targets in the dataset, %d measured", len(written), measured)
	}
	return measured
}
