package storetest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"tfofleet/internal/lease"
	"tfofleet/internal/store"
	pb "tfofleet/proto/tfofleet/v1"
)

// running is a running survey of n targets in chunks of size.
func (f *fixture) running(v store.Survey, n, size int) store.Survey {
	f.t.Helper()
	s, err := f.create(v, n, size)
	must(f.t, err)
	s, err = f.SetPhase(ctx, s.ID, store.Running, "")
	must(f.t, err)
	return s
}

func (f *fixture) create(v store.Survey, n, size int) (store.Survey, error) {
	v.List = store.List{ID: fmt.Sprintf("list-%s", v.ID), Targets: uint64(n), ChunkSize: size}
	must(f.t, f.PutList(ctx, v.List))
	f.now = f.now.Add(time.Millisecond)
	v.Request, v.Spec, v.Created = v.ID, &pb.SurveySpec{}, f.now
	return f.CreateSurvey(ctx, v)
}

// claims is what the probe gets, until there is nothing more, as
// survey/chunk=source.
func (f *fixture) claims(probe string, want ...string) {
	f.t.Helper()
	var got []string
	for {
		c, err := f.Claim(ctx, probe, "1")
		if errors.Is(err, store.ErrNotFound) {
			break
		}
		must(f.t, err)
		got = append(got, fmt.Sprintf("%s/%d=%d", c.Survey, c.Chunk, c.Source))
	}
	if !slices.Equal(got, want) {
		f.t.Fatalf("%s claimed %q, want %q", probe, got, want)
	}
}

func (f *fixture) hasWork(want bool) {
	f.t.Helper()
	if got, err := f.HasWork(ctx); err != nil || got != want {
		f.t.Fatalf("has work: %v, %v, want %v", got, err, want)
	}
}

func testModes(t *testing.T, f *fixture) {
	for _, bad := range []store.Survey{
		{ID: "bad", Mode: store.Every},
		{ID: "bad", Mode: store.Copies, Copies: 3, Probes: []string{"p", "q", "p"}},
		{ID: "bad", Mode: store.Copies, Probes: []string{"p"}},
	} {
		if s, err := f.create(bad, 1, 1); err == nil {
			t.Errorf("created %+v", s)
		}
	}
	every := f.running(store.Survey{ID: "every", Mode: store.Every, Probes: []string{"q", "p", "q"}}, 5, 2)
	shard := f.running(store.Survey{ID: "shard", Copies: 7}, 5, 2)
	copies := f.running(store.Survey{ID: "copies", Mode: store.Copies, Copies: 2, Probes: []string{"r", "q", "p"}}, 5, 2)
	f.reopen()
	for _, v := range []struct {
		s      store.Survey
		mode   store.Mode
		copies int
		probes []string
	}{
		{every, store.Every, 2, []string{"p", "q"}},
		{shard, store.Shard, 1, nil},
		{copies, store.Copies, 2, []string{"p", "q", "r"}},
	} {
		stored, err := f.Survey(ctx, v.s.ID)
		must(t, err)
		for _, s := range []store.Survey{v.s, stored} {
			if s.Mode != v.mode || s.Copies != v.copies || !slices.Equal(s.Probes, v.probes) || s.Paused {
				t.Errorf("%s is %+v", s.ID, s)
			}
		}
		f.tally(v.s.ID, map[lease.Item]int64{0: int64(5 * v.copies)})
		open, err := f.Open(ctx, v.s.ID)
		must(t, err)
		if len(open) != 3*v.copies {
			t.Errorf("%s has %d chunks", v.s.ID, len(open))
		}
		for _, k := range open {
			c, _, err := f.Batches(ctx, k)
			must(t, err)
			pin := ""
			if v.mode == store.Every {
				pin = v.probes[c.Copy]
			}
			if c.Chunk != c.Copy*3+c.Source || c.Source > 2 || int(c.Copy) >= v.copies || c.Pin != pin || len(c.Items) != min(2, 5-2*int(c.Source)) {
				t.Errorf("%s has %+v", v.s.ID, c)
			}
		}
	}
	// The oldest survey first, and each probe what it may have.
	f.claims("q", "every/3=0", "every/4=1", "every/5=2", "shard/0=0", "shard/1=1", "shard/2=2", "copies/0=0", "copies/1=1", "copies/2=2")
	f.claims("p", "every/0=0", "every/1=1", "every/2=2", "copies/3=0", "copies/4=1", "copies/5=2")
	f.claims("r")
	f.hasWork(false)
}

func testSelected(t *testing.T, f *fixture) {
	f.hasWork(false)
	f.running(store.Survey{ID: "a", Probes: []string{"p", "q"}}, 3, 1)
	f.hasWork(true)
	f.claims("r")
	if c := f.claim("q"); c.Chunk != 0 {
		t.Errorf("claimed %+v", c)
	}
	f.claims("p", "a/1=1", "a/2=2")
	f.hasWork(false)
}

func testPause(t *testing.T, f *fixture) {
	f.survey("a", 2, 1, nil)
	k := f.claim("p").Key
	must(t, f.PauseSurvey(ctx, "a", true))
	if err := f.PauseSurvey(ctx, "b", true); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("pause of nothing: %v", err)
	}
	f.hasWork(false)
	f.claims("p")
	f.reopen()
	if s, err := f.Survey(ctx, "a"); err != nil || !s.Paused {
		t.Errorf("%+v, %v", s, err)
	}
	f.claims("p")
	f.report(k, of("p", 1, lease.ItemResult{Index: 0, Result: good}), 0, "x", lease.Keep, lease.Finish) // what is held goes on
	must(t, f.PauseSurvey(ctx, "a", false))
	f.hasWork(true)
	f.claims("p", "a/1=1")
}

func testDrain(t *testing.T, f *fixture) {
	f.survey("a", 4, 1, nil)
	must(t, f.PutProbe(ctx, store.Probe{Name: "p", Version: "1", Host: &pb.Host{}}))
	must(t, f.DrainProbe(ctx, "p", true))
	must(t, f.DrainProbe(ctx, "new", true))
	must(t, f.LimitProbe(ctx, "p", 12.5))
	must(t, f.LimitProbe(ctx, "newer", 3))
	must(t, f.PutProbe(ctx, store.Probe{Name: "p", Version: "2", Host: &pb.Host{}, Rate: 1}))
	f.reopen()
	f.claims("p")
	f.claims("new")
	all, err := f.AllProbes(ctx)
	must(t, err)
	var got []string
	for _, p := range all {
		one, err := f.Probe(ctx, p.Name)
		must(t, err)
		if one.Version != p.Version || one.Drained != p.Drained || one.Rate != p.Rate {
			t.Errorf("%+v is not %+v", one, p)
		}
		got = append(got, fmt.Sprintf("%s %s %v %v", p.Name, p.Version, p.Drained, p.Rate))
	}
	if want := []string{"new  true 0", "newer  false 3", "p 2 true 12.5"}; !slices.Equal(got, want) {
		t.Errorf("probes %q, want %q", got, want)
	}
	limits, err := f.Limits(ctx)
	must(t, err)
	if want := map[string]float64{"newer": 3, "p": 12.5}; !maps.Equal(limits, want) {
		t.Errorf("limits %v, want %v", limits, want)
	}
	if _, err := f.Probe(ctx, "nobody"); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("nobody: %v", err)
	}
	must(t, f.DrainProbe(ctx, "p", false))
	f.claims("p", "a/0=0", "a/1=1", "a/2=2", "a/3=3")
}

func testSettlePinned(t *testing.T, f *fixture) {
	f.running(store.Survey{ID: "a", Mode: store.Every, Probes: []string{"p", "q"}}, 4, 2)
	k := f.claim("q").Key
	f.report(k, lease.Results{Probe: "q", Epoch: 1, Items: []lease.ItemResult{{Index: 1, Result: good}}, Returned: []uint32{0}}, 0, "x", lease.Keep, lease.Requeue)
	must(t, f.Settle(ctx, "a"))
	f.claims("p", "a/0=0", "a/1=1")
	f.claims("q", "a/3=1", "a/4=0")
	c, _, err := f.Batches(ctx, store.Key{Survey: "a", Chunk: 4})
	must(t, err)
	if c.Pin != "q" || c.Copy != 1 || c.Source != 0 {
		t.Errorf("the rest is %+v", c)
	}
	f.tally("a", map[lease.Item]int64{0: 7, good: 1})
}

// testCopies: who may continue what somebody else has begun.
func testCopies(t *testing.T, f *fixture) {
	f.running(store.Survey{ID: "a", Mode: store.Copies, Copies: 2, Probes: []string{"p", "q", "r"}}, 1, 2)
	f.claims("p", "a/0=0")
	k0, k1 := store.Key{Survey: "a", Chunk: 0}, store.Key{Survey: "a", Chunk: 1}
	f.apply(k0, lease.Refuse{Probe: "p", Epoch: 1}, lease.Requeue)
	// Copy 0 is p's to go on with, as long as copy 1 needs somebody fresh.
	f.claims("s")
	f.claims("q", "a/1=0")
	f.apply(k1, lease.Refuse{Probe: "q", Epoch: 1}, lease.Requeue)
	f.reopen()
	f.claims("q", "a/1=0") // its own again, never the other one
	f.claims("r", "a/0=0") // now anybody may help
	f.claims("p")
	f.report(k0, of("r", 2, lease.ItemResult{Index: 0, Result: good}), 0, "x", lease.Keep, lease.Finish)

	// A rest belongs to the copy.
	f.running(store.Survey{ID: "b", Mode: store.Copies, Copies: 2, Probes: []string{"p", "q"}}, 2, 2)
	f.claims("p", "b/0=0")
	f.claims("q", "b/1=0")
	for i, probe := range []string{"p", "q"} {
		k := store.Key{Survey: "b", Chunk: uint32(i)}
		f.report(k, lease.Results{Probe: probe, Epoch: 1, Items: []lease.ItemResult{{Index: 0, Result: good}}, Returned: []uint32{1}}, 0, "x", lease.Keep, lease.Requeue)
	}
	must(t, f.Settle(ctx, "b"))
	f.claims("q", "b/3=0")
	f.claims("p", "b/2=0")
	f.tally("b", map[lease.Item]int64{0: 2, good: 2})
}

// testCopiesModel: whatever happens, a claim gives the first chunk of the first
// source of those that the rule allows, and when everything works again every copy is measured.
func testCopiesModel(t *testing.T, f *fixture) {
	id := 0
	rapid.Check(t, func(t *rapid.T) {
		id++
		probes := []string{"a", "b", "c", "d"}[:rapid.IntRange(1, 4).Draw(t, "probes")]
		copies := rapid.IntRange(1, len(probes)).Draw(t, "copies")
		sources := rapid.IntRange(1, 3).Draw(t, "sources")
		survey := fmt.Sprint("s", id)
		f.running(store.Survey{ID: survey, Mode: store.Copies, Copies: copies, Probes: probes}, 2*sources, 2)
		taken := map[[2]any]uint32{} // of (source, probe)
		chunks := map[uint32]store.Chunk{}
		load := func() {
			clear(chunks)
			for n := uint32(0); ; n++ {
				c, _, err := f.Batches(ctx, store.Key{Survey: survey, Chunk: n})
				if errors.Is(err, store.ErrNotFound) {
					return
				}
				must(t, err)
				chunks[n] = c
			}
		}
		may := func(c store.Chunk, probe string) bool {
			if had, ok := taken[[2]any{c.Source, probe}]; ok {
				return had == c.Copy
			}
			begun := map[uint32]bool{}
			for k, copy := range taken {
				if k[0] == c.Source {
					begun[copy] = true
				}
			}
			return !begun[c.Copy] || len(begun) == copies
		}
		claim := func(probe string) bool {
			var want *store.Chunk
			for n := range uint32(len(chunks)) {
				if c := chunks[n]; c.Phase == lease.Pending && may(c, probe) && (want == nil || c.Source < want.Source) {
					want = &c
				}
			}
			c, err := f.Claim(ctx, probe, "1")
			if want == nil {
				if !errors.Is(err, store.ErrNotFound) {
					t.Fatalf("%s claimed %+v, %v, and may have nothing", probe, c, err)
				}
				return false
			}
			if err != nil || c.Key != want.Key {
				t.Fatalf("%s claimed %v, %v, want %v", probe, c.Key, err, want.Key)
			}
			taken[[2]any{c.Source, probe}] = c.Copy
			chunks[c.Chunk] = c
			return true
		}
		apply := func(c store.Chunk, e lease.Event) {
			c, _, err := f.Apply(ctx, c.Key, e, nil)
			must(t, err)
			chunks[c.Chunk] = c
		}
		all := []lease.ItemResult{{Index: 0, Result: good}, {Index: 1, Result: good}}
		load()
		for range rapid.IntRange(0, 25).Draw(t, "steps") {
			c := chunks[rapid.Uint32Range(0, uint32(len(chunks)-1)).Draw(t, "chunk")]
			switch rapid.IntRange(0, 5).Draw(t, "event") {
			case 0, 1:
				claim(rapid.SampledFrom(probes).Draw(t, "probe"))
			case 2:
				apply(c, lease.Refuse{Probe: c.Probe, Epoch: c.Epoch, Busy: true})
			case 3:
				apply(c, lease.Results{Probe: c.Probe, Epoch: c.Epoch, Items: all[:1], Returned: []uint32{0, 1}})
			case 4:
				must(t, f.Settle(ctx, survey))
				load()
			case 5:
				apply(c, lease.Results{Probe: c.Probe, Epoch: c.Epoch, Items: all})
			}
		}
		for claimed := true; claimed; {
			claimed = false
			for _, probe := range probes {
				claimed = claim(probe) || claimed
			}
			for _, c := range chunks {
				apply(c, lease.Results{Probe: c.Probe, Epoch: c.Epoch, Items: all})
			}
		}
		tally, err := f.Tally(ctx, survey)
		must(t, err)
		if want := int64(2 * sources * copies); tally[good] != want || tally.Total() != want {
			t.Fatalf("measured %d of %d, want %d", tally[good], tally.Total(), want)
		}
	})
}

// testCopiesConcurrent: everybody claims at once, each through several
// connections, and half of what is claimed is given back.
func testCopiesConcurrent(t *testing.T, f *fixture) {
	const sources, copies = 30, 3
	probes := []string{"a", "b", "c", "d"}
	f.running(store.Survey{ID: "a", Mode: store.Copies, Copies: copies, Probes: probes}, sources, 1)
	var mu sync.Mutex
	first := map[[2]any]uint32{} // of (source, probe)
	var wg sync.WaitGroup
	for i := range 3 * len(probes) {
		probe := probes[i%len(probes)]
		wg.Go(func() {
			refused := 0
			for {
				c, err := f.Claim(ctx, probe, "1")
				if errors.Is(err, store.ErrNotFound) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if copy, ok := first[[2]any{c.Source, probe}]; ok && copy != c.Copy {
					t.Errorf("%s got copies %d and %d of %d", probe, copy, c.Copy, c.Source)
				}
				first[[2]any{c.Source, probe}] = c.Copy
				mu.Unlock()
				var e lease.Event = of(probe, c.Epoch, lease.ItemResult{Index: 0, Result: good})
				if refused++; refused%2 == 0 && refused < 20 {
					e = lease.Refuse{Probe: probe, Epoch: c.Epoch, Busy: true}
				}
				if _, _, err := f.Apply(ctx, c.Key, e, nil); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for range copies { // what was given back when nobody asked any more
		for _, probe := range probes {
			for {
				c, err := f.Claim(ctx, probe, "1")
				if errors.Is(err, store.ErrNotFound) {
					break
				}
				must(t, err)
				_, _, err = f.Apply(ctx, c.Key, of(probe, c.Epoch, lease.ItemResult{Index: 0, Result: good}), nil)
				must(t, err)
			}
		}
	}
	f.tally("a", map[lease.Item]int64{good: sources * copies})
}

func testWaitedFor(t *testing.T, f *fixture) {
	missing := func(survey string, n int, want ...string) {
		t.Helper()
		if got, err := f.Missing(ctx, survey, n); err != nil || !slices.Equal(got, want) {
			t.Fatalf("missing %q, %v, want %q", got, err, want)
		}
	}
	pinned := func(probe string, want ...store.Key) {
		t.Helper()
		if got, err := f.Pinned(ctx, probe); err != nil || !slices.Equal(got, want) {
			t.Fatalf("pinned %v, %v, want %v", got, err, want)
		}
	}
	key := func(survey string, n uint32) store.Key { return store.Key{Survey: survey, Chunk: n} }
	connect := func(probe string) {
		t.Helper()
		must(t, f.OpenSession(ctx, store.Session{Probe: probe, ID: "1", Instance: "1"}, time.Minute))
	}
	f.running(store.Survey{ID: "any"}, 2, 1)
	missing("any", 9)
	f.running(store.Survey{ID: "every", Mode: store.Every, Probes: []string{"p", "q", "r"}}, 2, 2)
	missing("every", 9, "p", "q", "r")
	missing("every", 2, "p", "q")
	connect("q")
	connect("s")
	missing("every", 9, "p", "r")
	pinned("q", key("every", 1))
	pinned("s")
	f.apply(key("every", 2), lease.GiveUp{}, lease.Finish)
	f.apply(key("every", 1), lease.Offer{Probe: "q"}, lease.Send)
	pinned("q", key("every", 1)) // also while it holds it
	missing("every", 9, "p")
	f.now = f.now.Add(time.Minute) // nothing was heard of q
	missing("every", 9, "p", "q")
	f.apply(key("every", 0), lease.GiveUp{}, lease.Finish)
	f.apply(key("every", 1), lease.GiveUp{}, lease.Finish)
	missing("every", 9)
	pinned("p")

	// Of a shard anybody who was selected may have everything.
	f.running(store.Survey{ID: "shard", Probes: []string{"p", "q"}}, 2, 1)
	f.running(store.Survey{ID: "single", Probes: []string{"x"}}, 2, 1)
	pinned("p")
	pinned("x", key("single", 0), key("single", 1))
	missing("shard", 9, "p", "q")
	connect("p")
	missing("shard", 9)
	must(t, f.CloseSession(ctx, "p", "1"))
	missing("shard", 9, "p", "q")

	f.running(store.Survey{ID: "copies", Mode: store.Copies, Copies: 2, Probes: []string{"p", "q", "r"}}, 1, 1)
	for _, s := range []string{"any", "shard", "single"} {
		must(t, f.PauseSurvey(ctx, s, true))
	}
	missing("copies", 9, "p", "q", "r")
	connect("q")
	missing("copies", 9)
	f.claims("p", "copies/0=0")
	pinned("p", key("copies", 0)) // q or r have to begin the other one
	missing("copies", 9, "p")
	f.claims("q", "copies/1=0")
	pinned("p") // r may help
	missing("copies", 9, "p", "r")
	if _, err := f.Missing(ctx, "nothing", 9); !errors.Is(err, store.ErrNotFound) {
		t.Errorf("missing in no survey: %v", err)
	}
}
