// Package storetest has the suite that every store.Store passes. It asks for
// what the controller relies on and nothing about how it is done.
package storetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"
	"pgregory.net/rapid"

	"tfofleet/internal/lease"
	"tfofleet/internal/measure"
	"tfofleet/internal/store"
	pb "tfofleet/proto/tfofleet/v1"
)

// Opener opens the same database every time it is called; the one before was
// closed.
type Opener func(testing.TB, store.Options) store.Store

// Run runs the suite. New makes an empty database.
func Run(t *testing.T, make func(testing.TB) Opener) {
	for name, f := range map[string]func(*testing.T, *fixture){
		"CreateSurvey":     testCreateSurvey,
		"Claim":            testClaim,
		"Results":          testResults,
		"LateResults":      testLateResults,
		"Written":          testWritten,
		"Late":             testLate,
		"LateWriters":      testLateWriters,
		"NothingToWrite":   testNothingToWrite,
		"Settle":           testSettle,
		"Deadlines":        testDeadlines,
		"HeldBy":           testHeldBy,
		"Cancel":           testCancel,
		"Probes":           testProbes,
		"Concurrent":       testConcurrent,
		"CountsAlwaysFit":  testCountsAlwaysFit,
		"CancelledContext": testCancelledContext,
		"Modes":            testModes,
		"Selected":         testSelected,
		"Pause":            testPause,
		"Drain":            testDrain,
		"SettlePinned":     testSettlePinned,
		"Copies":           testCopies,
		"CopiesModel":      testCopiesModel,
		"CopiesConcurrent": testCopiesConcurrent,
		"WaitedFor":        testWaitedFor,
		"Sessions":         testSessions,
		"Beats":            testBeats,
		"Summon":           testSummon,
		"OneProcess":       testOneProcess,
		"Freeze":           testFreeze,
		"TakeUnwritten":    testTakeUnwritten,
		"Writers":          testWriters,
		"Spools":           testSpools,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel() // most of the time is that of the disk
			f(t, newFixture(t, make(t)))
		})
	}
}

var (
	ctx   = context.Background()
	start = time.Unix(1_700_000_000, 0).UTC()
	good  = lease.Result(lease.Measured, measure.Supported)
	cut   = lease.Result(lease.Interrupted, 0)
)

type fixture struct {
	t    testing.TB
	open Opener
	opts store.Options
	now  time.Time
	store.Store
}

func newFixture(t testing.TB, open Opener) *fixture {
	f := &fixture{t: t, open: open, now: start}
	f.opts = store.Options{Rules: lease.DefaultRules(10 * time.Second), Now: func() time.Time { return f.now }}
	f.Store = open(t, f.opts)
	t.Cleanup(func() { f.Close() })
	return f
}

// reopen is what a restart of the controller finds.
func (f *fixture) reopen() {
	f.t.Helper()
	if err := f.Close(); err != nil {
		f.t.Fatal(err)
	}
	f.Store = f.open(f.t, f.opts)
}

// survey is a running survey of n targets in chunks of size.
func (f *fixture) survey(id string, n, size int, spec *pb.SurveySpec) store.Survey {
	f.t.Helper()
	l := store.List{ID: "list-" + id, Targets: uint64(n), ChunkSize: size}
	must(f.t, f.PutList(ctx, l))
	if spec == nil {
		spec = &pb.SurveySpec{}
	}
	f.now = f.now.Add(time.Millisecond)
	_, err := f.CreateSurvey(ctx, store.Survey{ID: id, Request: "request-" + id, Name: "name of " + id, List: l, Spec: spec, Created: f.now})
	must(f.t, err)
	s, err := f.SetPhase(ctx, id, store.Running, "")
	must(f.t, err)
	return s
}

func must(t rapid.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (f *fixture) claim(probe string) store.Chunk {
	f.t.Helper()
	c, err := f.Claim(ctx, probe, "1")
	must(f.t, err)
	return c
}

func (f *fixture) apply(k store.Key, e lease.Event, want ...lease.Effect) store.Chunk {
	f.t.Helper()
	c, effects, err := f.Apply(ctx, k, e, nil)
	must(f.t, err)
	if !slices.Equal(effects, want) {
		f.t.Fatalf("%T: effects %v, want %v", e, effects, want)
	}
	return c
}

// address is where batches come from.
const address = "192.0.2.7"

// report brings a batch.
func (f *fixture) report(k store.Key, e lease.Results, sequence uint64, body string, want ...lease.Effect) store.Chunk {
	f.t.Helper()
	c, effects, err := f.Apply(ctx, k, e, &store.Batch{Epoch: e.Epoch, Sequence: sequence, Probe: e.Probe, Address: address, Body: []byte(body)})
	must(f.t, err)
	if !slices.Equal(effects, want) {
		f.t.Fatalf("batch %q: effects %v, want %v", body, effects, want)
	}
	return c
}

func (f *fixture) tally(survey string, want map[lease.Item]int64) {
	f.t.Helper()
	got, err := f.Tally(ctx, survey)
	must(f.t, err)
	var w lease.Tally
	for i, n := range want {
		w[i] = n
	}
	if got != w {
		f.t.Fatalf("tally %v, want %v", sparse(got), want)
	}
}

func sparse(t lease.Tally) map[lease.Item]int64 {
	m := map[lease.Item]int64{}
	for i, n := range t {
		if n != 0 {
			m[lease.Item(i)] = n
		}
	}
	return m
}

func (f *fixture) bodies(k store.Key, want ...string) {
	f.t.Helper()
	_, bs, err := f.Batches(ctx, k)
	must(f.t, err)
	var got []string
	for _, b := range bs {
		if b.Address != address {
			f.t.Errorf("batch %q came from %q, want %q", b.Body, b.Address, address)
		}
		got = append(got, string(b.Body))
	}
	if !slices.Equal(got, want) {
		f.t.Fatalf("batches %q, want %q", got, want)
	}
}

func of(probe string, epoch uint64, items ...lease.ItemResult) lease.Results {
	return lease.Results{Probe: probe, Epoch: epoch, Items: items}
}

func testCreateSurvey(t *testing.T, f *fixture) {
	if _, err := f.Survey(ctx, "a"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a survey that is not there: %v", err)
	}
	if _, err := f.List(ctx, "list-a"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("a list that is not there: %v", err)
	}
	spec := &pb.SurveySpec{Plan: pb.Plan_PLAN_QUICK, Seed: 1<<64 - 1, PayloadBytes: []byte{0, 1}, RepeatInterrupted: true}
	a := f.survey("a", 10, 4, spec)
	if a.Phase != store.Running || a.List != (store.List{ID: "list-a", Targets: 10, ChunkSize: 4}) || a.Request != "request-a" || !a.Ended.IsZero() {
		t.Errorf("created %+v", a)
	}
	// The same request again, with whatever else: the first one is told.
	again, err := f.CreateSurvey(ctx, store.Survey{ID: "b", Request: "request-a", Name: "other", List: a.List, Spec: &pb.SurveySpec{}, Created: f.now})
	must(t, err)
	if diff := cmp.Diff(a, again, protocmp.Transform()); diff != "" {
		t.Errorf("the same request again:\n%s", diff)
	}
	f.reopen()
	stored, err := f.Survey(ctx, "a")
	must(t, err)
	if diff := cmp.Diff(a, stored, protocmp.Transform()); diff != "" {
		t.Errorf("after a restart:\n%s", diff)
	}
	f.tally("a", map[lease.Item]int64{0: 10})
	keys, err := f.Open(ctx, "a")
	must(t, err)
	if want := []store.Key{{Survey: "a", Chunk: 0}, {Survey: "a", Chunk: 1}, {Survey: "a", Chunk: 2}}; !slices.Equal(keys, want) {
		t.Errorf("chunks %v", keys)
	}

	f.now = f.now.Add(time.Hour)
	ended, err := f.SetPhase(ctx, "a", store.Done, "")
	must(t, err)
	if ended.Phase != store.Done || !ended.Ended.Equal(f.now) {
		t.Errorf("ended %+v", ended)
	}
	if later, err := f.SetPhase(ctx, "a", store.Failed, "x"); err != nil || !cmp.Equal(later, ended, protocmp.Transform()) {
		t.Errorf("a second end: %+v, %v", later, err)
	}
	if open, err := f.Surveys(ctx); err != nil || len(open) != 0 {
		t.Errorf("surveys that have not ended: %v, %v", open, err)
	}
	if all, err := f.AllSurveys(ctx); err != nil || !slices.ContainsFunc(all, func(s store.Survey) bool { return s.ID == "a" && s.Phase == store.Done }) {
		t.Errorf("all surveys: %v, %v", all, err)
	}
}

func testClaim(t *testing.T, f *fixture) {
	if _, err := f.Claim(ctx, "p", "1"); !errors.Is(err, store.ErrNotFound) {
		t.Fatalf("claim of nothing: %v", err)
	}
	// One that is being created is not offered, however old.
	must(t, f.PutList(ctx, store.List{ID: "l", Targets: 1, ChunkSize: 1}))
	_, err := f.CreateSurvey(ctx, store.Survey{ID: "0", Request: "0", List: store.List{ID: "l", Targets: 1, ChunkSize: 1}, Spec: &pb.SurveySpec{}, Created: start.Add(-time.Hour)})
	must(t, err)
	f.survey("z", 3, 2, nil)
	f.survey("a", 1, 2, nil)
	var got []string
	for range 3 {
		c := f.claim("p")
		got = append(got, fmt.Sprintf("%s/%d of %d", c.Survey, c.Chunk, len(c.Items)))
		if c.Epoch != 1 || c.Phase != lease.Offered || c.Probe != "p" || c.Instance != "1" || c.Source != c.Chunk {
			t.Errorf("claimed %+v", c)
		}
	}
	if want := []string{"z/0 of 2", "z/1 of 1", "a/0 of 1"}; !slices.Equal(got, want) {
		t.Errorf("claimed %q, want %q", got, want)
	}
	if _, err := f.Claim(ctx, "p", "1"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("claim of nothing more: %v", err)
	}
	f.reopen()
	// Offered before, durable before it was sent: the next epoch is another.
	k := store.Key{Survey: "z", Chunk: 1}
	f.apply(k, lease.Forgotten{Probe: "p"}, lease.Requeue)
	if c := f.claim("q"); c.Key != k || c.Epoch != 2 || c.Probe != "q" || c.Items[0].Again() {
		t.Errorf("claimed %+v", c)
	}
}

func testResults(t *testing.T, f *fixture) {
	f.survey("a", 3, 8, nil)
	k := f.claim("p").Key
	if c := f.report(k, of("p", 1, lease.ItemResult{Index: 1, Result: good}), 0, "x", lease.Keep); c.Phase != lease.Held {
		t.Errorf("phase %v", c.Phase)
	}
	f.tally("a", map[lease.Item]int64{0: 2, good: 1})
	// The ack was lost: sent again, and stored once, also after a restart.
	f.report(k, of("p", 1, lease.ItemResult{Index: 1, Result: good}), 0, "x")
	f.reopen()
	f.report(k, of("p", 1, lease.ItemResult{Index: 1, Result: good}), 0, "x")
	f.tally("a", map[lease.Item]int64{0: 2, good: 1})
	f.bodies(k, "x")
	// A stranger's is not stored.
	f.report(k, of("q", 1, lease.ItemResult{Index: 0, Result: good}), 7, "stranger", lease.Reject)
	f.report(k, of("p", 2, lease.ItemResult{Index: 0, Result: good}), 7, "future", lease.Reject)
	f.bodies(k, "x")
	if _, _, err := f.Apply(ctx, store.Key{Survey: "a", Chunk: 9}, of("p", 1), &store.Batch{}); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("results for a chunk that is not there: %v", err)
	}
	c := f.report(k, of("p", 1, lease.ItemResult{Index: 0, Result: cut}, lease.ItemResult{Index: 2, Result: good}), 1, "y", lease.Keep, lease.Finish)
	if c.Phase != lease.Done {
		t.Errorf("phase %v", c.Phase)
	}
	f.bodies(k, "x", "y")
	f.tally("a", map[lease.Item]int64{cut: 1, good: 2})
}

func testLateResults(t *testing.T, f *fixture) {
	f.survey("a", 2, 8, nil)
	k := f.claim("p").Key
	f.apply(k, lease.Accept{Probe: "p", Epoch: 1})
	f.apply(k, lease.Forgotten{Probe: "p"}, lease.Requeue)
	f.claim("q")
	f.report(k, of("p", 1, lease.ItemResult{Index: 0, Result: good}), 0, "late", lease.KeepLate)
	f.tally("a", map[lease.Item]int64{0: 2})
	f.reopen() // what waits for the lease's end is not forgotten
	f.report(k, lease.Results{Probe: "q", Epoch: 2, Items: []lease.ItemResult{{Index: 1, Result: good}}, Returned: []uint32{0}}, 0, "new", lease.Keep, lease.Finish)
	f.tally("a", map[lease.Item]int64{good: 2})
	c, bs, err := f.Batches(ctx, k)
	must(t, err)
	if len(bs) != 2 || !bs[0].Late || bs[0].Probe != "p" || bs[0].Epoch != 1 || bs[1].Late || bs[1].Probe != "q" || bs[1].Epoch != 2 {
		t.Errorf("batches %+v", bs)
	}
	if c.Phase != lease.Done || !slices.Equal(c.Items, []lease.Item{good, good}) {
		t.Errorf("chunk %+v", c)
	}
}

func testWritten(t *testing.T, f *fixture) {
	f.survey("a", 3, 2, nil)
	k0, k1 := f.claim("p").Key, f.claim("p").Key
	if _, err := f.Written(ctx, k0, make([]lease.Item, 2)); err == nil {
		t.Error("a chunk that is not over was written")
	}
	f.report(k0, of("p", 1, lease.ItemResult{Index: 0, Result: good}, lease.ItemResult{Index: 1, Result: good}), 0, "x", lease.Keep, lease.Finish)
	if keys, err := f.Unwritten(ctx); err != nil || !slices.Equal(keys, []store.Key{k0}) {
		t.Errorf("unwritten %v, %v", keys, err)
	}
	// One could not be read when the chunk was written.
	lost := lease.Result(lease.Lost, 0)
	last, err := f.Written(ctx, k0, []lease.Item{good, lost})
	must(t, err)
	if last {
		t.Error("the first of two chunks is the last")
	}
	f.bodies(k0)
	f.tally("a", map[lease.Item]int64{good: 1, lost: 1, 0: 1})
	f.report(k0, of("p", 1, lease.ItemResult{Index: 0, Result: good}), 0, "x")                  // sent again after all that
	f.report(k0, of("p", 1, lease.ItemResult{Index: 1, Result: good}), 1, "y", lease.KeepAside) // what is missing is kept
	f.report(k1, of("p", 1, lease.ItemResult{Index: 0, Result: good}), 0, "z", lease.Keep, lease.Finish)
	last, err = f.Written(ctx, k1, []lease.Item{good})
	must(t, err)
	if !last {
		t.Error("the second of two chunks is not the last")
	}
	f.reopen()
	last, err = f.Written(ctx, k1, []lease.Item{lost}) // said again, when its batches are gone
	must(t, err)
	if !last {
		t.Error("written again, the last is not the last")
	}
	if keys, err := f.Unwritten(ctx); err != nil || len(keys) != 0 {
		t.Errorf("unwritten %v, %v", keys, err)
	}
	f.tally("a", map[lease.Item]int64{good: 2, lost: 1})
}

func testNothingToWrite(t *testing.T, f *fixture) {
	f.survey("a", 2, 2, nil)
	f.apply(store.Key{Survey: "a"}, lease.Cancel{}, lease.Finish)
	if keys, err := f.Unwritten(ctx); err != nil || len(keys) != 0 {
		t.Errorf("unwritten %v, %v: there is nothing to write", keys, err)
	}
	f.tally("a", map[lease.Item]int64{lease.Result(lease.Cancelled, 0): 2})
}

func testSettle(t *testing.T, f *fixture) {
	f.survey("a", 6, 2, &pb.SurveySpec{RepeatInterrupted: true})
	k0, k1 := f.claim("p").Key, f.claim("p").Key
	f.report(k0, lease.Results{Probe: "p", Epoch: 1, Items: []lease.ItemResult{{Index: 1, Result: good}}, Returned: []uint32{0}}, 0, "x", lease.Keep, lease.Requeue)
	f.report(k1, of("p", 1, lease.ItemResult{Index: 0, Result: cut}), 0, "cut", lease.Keep)
	must(t, f.Settle(ctx, "a"))
	must(t, f.Settle(ctx, "a"))
	keys, err := f.Unwritten(ctx)
	must(t, err)
	if !slices.Equal(keys, []store.Key{k0}) {
		t.Fatalf("to be written: %v, want %v", keys, k0)
	}
	f.bodies(k0, "x")
	f.tally("a", map[lease.Item]int64{0: 5, good: 1})
	c, _, err := f.Batches(ctx, k0)
	must(t, err)
	if _, err := f.Written(ctx, k0, c.Items); err != nil {
		t.Fatal(err)
	}
	f.reopen()
	f.tally("a", map[lease.Item]int64{0: 5, good: 1})
	open, err := f.Open(ctx, "a")
	must(t, err)
	if want := []store.Key{{Survey: "a", Chunk: 1}, {Survey: "a", Chunk: 2}, {Survey: "a", Chunk: 3}}; !slices.Equal(open, want) {
		t.Fatalf("open chunks %v, want %v", open, want)
	}
	f.claim("p")
	rest := f.claim("p")
	if rest.Chunk != 3 || rest.Source != 0 || !rest.Items[0].Out() || rest.Items[1].Out() {
		t.Errorf("the rest is %+v", rest)
	}
	f.report(rest.Key, of("p", 1, lease.ItemResult{Index: 0, Result: good}), 0, "rest", lease.Keep, lease.Finish)
	f.tally("a", map[lease.Item]int64{0: 4, good: 2})
}

func testDeadlines(t *testing.T, f *fixture) {
	f.survey("a", 4, 2, nil)
	k0, k1 := f.claim("p").Key, f.claim("q").Key
	due := func(want ...store.Key) {
		t.Helper()
		if keys, err := f.Due(ctx); err != nil || !slices.Equal(keys, want) {
			t.Fatalf("due %v, %v, want %v", keys, err, want)
		}
	}
	due()
	f.now = f.now.Add(20 * time.Second)
	f.apply(k1, lease.Accept{Probe: "q", Epoch: 1})
	f.now = f.now.Add(10 * time.Second)
	due(k0)
	f.apply(k0, lease.Expire{}, lease.Requeue)
	due()
	f.now = f.now.Add(f.opts.Rules.TTL)
	f.reopen()
	due(k1)
	if c := f.apply(k1, lease.Expire{}); c.Phase != lease.Suspect {
		t.Errorf("phase %v, want suspect", c.Phase)
	}
	due()
}

func testHeldBy(t *testing.T, f *fixture) {
	f.survey("a", 6, 2, nil)
	k0, k1, k2 := f.claim("p").Key, f.claim("q").Key, f.claim("p").Key
	held := func(probe string, want ...store.Key) {
		t.Helper()
		cs, err := f.HeldBy(ctx, probe)
		must(t, err)
		var keys []store.Key
		for _, c := range cs {
			keys = append(keys, c.Key)
		}
		if !slices.Equal(keys, want) {
			t.Fatalf("held by %s: %v, want %v", probe, keys, want)
		}
	}
	held("p", k0, k2)
	held("q", k1)
	f.reopen()
	f.apply(k2, lease.StreamLost{Probe: "p"}, lease.Requeue)
	held("p", k0, k2) // it may come back with it
	f.claim("q")
	held("p", k0)
	held("q", k1, k2)
	f.report(k1, of("q", 1, lease.ItemResult{Index: 0, Result: good}, lease.ItemResult{Index: 1, Result: good}), 0, "x", lease.Keep, lease.Finish)
	held("q", k2)
}

func testCancel(t *testing.T, f *fixture) {
	f.survey("a", 4, 2, nil)
	k := f.claim("p").Key
	must(t, f.CancelSurvey(ctx, "a"))
	if err := f.CancelSurvey(ctx, "b"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("cancel of nothing: %v", err)
	}
	if _, err := f.Claim(ctx, "p", "1"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("claim of a cancelled survey: %v", err)
	}
	f.reopen()
	s, err := f.Survey(ctx, "a")
	must(t, err)
	if !s.Cancel || s.Phase != store.Running {
		t.Errorf("survey %+v", s)
	}
	f.apply(k, lease.Cancel{}, lease.Stop)
	f.apply(store.Key{Survey: "a", Chunk: 1}, lease.Cancel{}, lease.Finish)
	f.report(k, lease.Results{Probe: "p", Epoch: 1, Items: []lease.ItemResult{{Index: 0, Result: good}}, Returned: []uint32{1}}, 0, "x", lease.Keep, lease.Finish)
	f.tally("a", map[lease.Item]int64{good: 1, lease.Result(lease.Cancelled, 0): 3})
}

func testProbes(t *testing.T, f *fixture) {
	f.survey("a", 2, 1, nil)
	for _, p := range []store.Probe{
		{Name: "p", Version: "1", Host: &pb.Host{Kernel: "old"}},
		{Name: "q", Version: "1", Host: &pb.Host{}},
		{Name: "idle", Host: &pb.Host{}},
		{Name: "p", Version: "2", Host: &pb.Host{Kernel: "6.18", TcpFastopen: -1, CanClearCookies: pb.Tri_TRI_YES}},
	} {
		must(t, f.PutProbe(ctx, p))
	}
	f.claim("q")
	f.claim("p")
	f.reopen()
	got, err := f.Probes(ctx, "a")
	must(t, err)
	want := []store.Probe{
		{Name: "p", Version: "2", Host: &pb.Host{Kernel: "6.18", TcpFastopen: -1, CanClearCookies: pb.Tri_TRI_YES}},
		{Name: "q", Version: "1", Host: &pb.Host{}},
	}
	if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// testConcurrent: calls from everywhere, each batch stored once and counted
// once.
func testConcurrent(t *testing.T, f *fixture) {
	const probes, chunks, size = 8, 40, 20
	f.survey("a", chunks*size, size, nil)
	var wg sync.WaitGroup
	for p := range probes {
		probe := fmt.Sprint("p", p)
		wg.Go(func() {
			for {
				c, err := f.Claim(ctx, probe, "1")
				if errors.Is(err, store.ErrNotFound) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				var each sync.WaitGroup
				for i := range size {
					each.Go(func() {
						e := of(probe, c.Epoch, lease.ItemResult{Index: uint32(i), Result: good})
						for range 2 { // sent again
							b := &store.Batch{Epoch: c.Epoch, Sequence: uint64(i), Probe: probe, Body: bytes.Repeat([]byte{byte(i)}, 100)}
							if _, _, err := f.Apply(ctx, c.Key, e, b); err != nil {
								t.Error(err)
							}
						}
					})
				}
				each.Wait()
			}
		})
	}
	wg.Wait()
	f.tally("a", map[lease.Item]int64{good: chunks * size})
	keys, err := f.Unwritten(ctx)
	must(t, err)
	if len(keys) != chunks {
		t.Fatalf("%d chunks are over, want %d", len(keys), chunks)
	}
	for i, k := range keys {
		c, bs, err := f.Batches(ctx, k)
		must(t, err)
		if len(bs) != size {
			t.Errorf("chunk %d has %d batches, want %d", k.Chunk, len(bs), size)
		}
		if last, err := f.Written(ctx, k, c.Items); err != nil || last != (i == chunks-1) {
			t.Errorf("chunk %d of %d written: last %v, %v", i, chunks, last, err)
		}
	}
}

// testCountsAlwaysFit: after whatever events, the running counts are those of
// the chunks.
func testCountsAlwaysFit(t *testing.T, f *fixture) {
	id := 0
	rapid.Check(t, func(t *rapid.T) {
		id++
		survey := fmt.Sprint("s", id)
		planned := rapid.IntRange(1, 7).Draw(t, "planned")
		f.survey(survey, planned, 3, &pb.SurveySpec{RepeatInterrupted: rapid.Bool().Draw(t, "repeat")})
		states := map[store.Key]lease.State{}
		for range rapid.IntRange(1, 15).Draw(t, "steps") {
			k := store.Key{Survey: survey, Chunk: rapid.Uint32Range(0, uint32(planned-1)/3).Draw(t, "chunk")}
			n := uint32(min(3, planned-int(k.Chunk)*3))
			var e lease.Event
			var b *store.Batch
			switch rapid.IntRange(0, 6).Draw(t, "event") {
			case 0, 1:
				e = lease.Offer{Probe: "p"}
			case 2, 3:
				r := lease.Results{Probe: "p", Epoch: rapid.Uint64Range(1, 2).Draw(t, "epoch")}
				for range rapid.IntRange(0, 2).Draw(t, "items") {
					r.Items = append(r.Items, lease.ItemResult{
						Index:  rapid.Uint32Range(0, n-1).Draw(t, "index"),
						Result: rapid.SampledFrom([]lease.Item{good, cut, lease.Result(lease.Refused, measure.Inconclusive)}).Draw(t, "result"),
					})
				}
				e, b = r, &store.Batch{Epoch: r.Epoch, Sequence: rapid.Uint64Range(0, 3).Draw(t, "sequence"), Probe: "p"}
			case 4:
				e = lease.Forgotten{Probe: "p"}
			case 5:
				e = lease.Cancel{}
			case 6:
				f.now = f.now.Add(f.opts.Rules.TTL)
				e = lease.Expire{}
			}
			c, _, err := f.Apply(ctx, k, e, b)
			if err != nil {
				t.Fatal(err)
			}
			states[k] = c.State
		}
		want := lease.Tally{0: int64(planned)}
		for _, s := range states {
			c := lease.Count(s.Items)
			want[0] -= int64(len(s.Items))
			for i := range c {
				want[i] += c[i]
			}
		}
		got, err := f.Tally(ctx, survey)
		if err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Fatalf("tally %v, want %v", sparse(got), sparse(want))
		}
		if _, err := f.SetPhase(ctx, survey, store.Done, ""); err != nil {
			t.Fatal(err)
		}
	})
}

func testCancelledContext(t *testing.T, f *fixture) {
	gone, cancel := context.WithCancel(ctx)
	cancel()
	if err := f.PutList(gone, store.List{ID: "l"}); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	// It is as good as new.
	f.survey("a", 1, 1, nil)
	f.claim("p")
}
