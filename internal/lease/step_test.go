package lease

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"tfofleet/internal/measure"
)

var (
	rules  = DefaultRules(10 * time.Second)
	repeat = func() Rules { r := rules; r.Repeat = true; return r }()
	start  = time.Unix(1_700_000_000, 0).UTC()
	ok     = Result(Measured, measure.Supported)
	bad    = Result(Measured, measure.OptionDropped)
	cut    = Result(Interrupted, 0)
)

// story steps a chunk through events and fails when a step's effects or phase
// are not those expected.
type story struct {
	t   *testing.T
	r   Rules
	now time.Time
	s   State
}

func tell(t *testing.T, r Rules, n int) *story {
	return &story{t, r, start, New(n)}
}

func (st *story) step(e Event, phase Phase, effects ...Effect) *story {
	st.t.Helper()
	before := clone(st.s)
	next, got := st.r.Step(st.s, st.now, e)
	if diff := cmp.Diff(before, st.s); diff != "" {
		st.t.Fatalf("%T%+v wrote to its argument:\n%s", e, e, diff)
	}
	if next.Phase != phase || !slices.Equal(got, effects) {
		st.t.Fatalf("%T%+v: phase %v, effects %v; want %v, %v", e, e, next.Phase, got, phase, effects)
	}
	st.s = next
	return st
}

func (st *story) wait(d time.Duration) *story { st.now = st.now.Add(d); return st }

func (st *story) items(want ...Item) {
	st.t.Helper()
	if !slices.Equal(st.s.Items, want) {
		st.t.Fatalf("items %v, want %v", st.s.Items, want)
	}
}

func clone(s State) State {
	c := s
	c.Items = slices.Clone(s.Items)
	c.Holders = slices.Clone(s.Holders)
	if s.Late != nil {
		c.Late = map[uint32]Late{}
		for k, v := range s.Late {
			c.Late[k] = v
		}
	}
	return c
}

func results(probe string, epoch uint64, items ...ItemResult) Results {
	return Results{Probe: probe, Epoch: epoch, Items: items}
}

func TestOneLeaseFromOfferToDone(t *testing.T) {
	st := tell(t, rules, 2)
	st.step(Offer{"a", "1"}, Offered, Send)
	st.step(Accept{"a", 1, 0}, Held)
	st.step(results("a", 1, ItemResult{1, ok}), Held, Keep)
	st.step(results("a", 1, ItemResult{0, bad}), Done, Keep, Finish)
	st.items(bad, ok)
	c := Count(st.s.Items)
	if c[ok] != 1 || c[bad] != 1 || c.Total() != 2 {
		t.Errorf("tally %v", c)
	}
}

// Table "what happens if", design of the control plane.

func TestIfLeaseLostInFlight(t *testing.T) {
	t.Run("re-offered after 30 s", func(t *testing.T) {
		st := tell(t, rules, 1)
		st.step(Offer{"a", "1"}, Offered, Send)
		st.wait(29*time.Second).step(Expire{}, Offered)
		st.wait(time.Second).step(Expire{}, Pending, Requeue)
		st.step(Offer{"a", "1"}, Offered, Send)
		if st.s.Epoch != 2 {
			t.Errorf("epoch %d, want 2", st.s.Epoch)
		}
	})
	t.Run("re-offered at the next Hello", func(t *testing.T) {
		st := tell(t, rules, 1)
		st.step(Offer{"a", "1"}, Offered, Send)
		st.step(Forgotten{"a"}, Pending, Requeue)
		st.items(0) // the process lives and never had it: not started
		// It never saw epoch 1 and cannot come back with it.
		st.step(Renew{"a", 1, 0, 0}, Pending, Drop)
	})
	t.Run("also when it is the accept that was lost, with its process", func(t *testing.T) {
		st := tell(t, rules, 1)
		st.step(Offer{"a", "1"}, Offered, Send)
		st.step(Forgotten{"a"}, Pending, Requeue)
		st.items(0) // nothing is begun before the accept is known to be heard
	})
	t.Run("re-offered when the stream is lost", func(t *testing.T) {
		st := tell(t, rules, 1)
		st.step(Offer{"a", "1"}, Offered, Send)
		st.step(StreamLost{"b"}, Offered)
		st.step(StreamLost{"a"}, Pending, Requeue)
		back := *st
		back.step(Forgotten{"a"}, Pending)
		back.step(Offer{"b", "1"}, Offered, Send)
		back.items(out)
		st.step(Offer{"b", "1"}, Offered, Send)
		st.items(out)
	})
}

func TestIfLeaseAcceptedLost(t *testing.T) {
	for name, e := range map[string]Event{
		"Hello or heartbeat lists it": Renew{"a", 1, 0, 0},
		"results come":                results("a", 1, ItemResult{0, ok}),
	} {
		t.Run(name, func(t *testing.T) {
			effects := []Effect(nil)
			if _, is := e.(Results); is {
				effects = []Effect{Keep}
			}
			st := tell(t, rules, 2)
			st.step(Offer{"a", "1"}, Offered, Send)
			st.step(e, Held, effects...)

			// The same after the offer was withdrawn.
			st = tell(t, rules, 2)
			st.step(Offer{"a", "1"}, Offered, Send)
			st.step(StreamLost{"a"}, Pending, Requeue)
			st.step(e, Held, effects...)

			// But not after another probe got the chunk.
			st = tell(t, rules, 2)
			st.step(Offer{"a", "1"}, Offered, Send)
			st.step(StreamLost{"a"}, Pending, Requeue)
			st.step(Offer{"b", "1"}, Offered, Send)
			st.step(Renew{"a", 1, 0, 0}, Offered, Drop)
			st.step(Accept{"a", 1, 0}, Offered, Drop)
			if st.s.Probe != "b" {
				t.Errorf("probe %q holds it, want b", st.s.Probe)
			}
		})
	}
}

func TestIfProbeKilledBetweenStartedAndResult(t *testing.T) {
	t.Run("interrupted, no silent retry", func(t *testing.T) {
		st := tell(t, rules, 3)
		st.step(Offer{"a", "1"}, Offered, Send)
		st.step(Accept{"a", 1, 0}, Held)
		st.step(Renew{"a", 1, 2, 0}, Held)
		st.step(results("a", 1, ItemResult{0, ok}), Held, Keep)
		st.step(Forgotten{"a"}, Pending, Requeue)
		// The third would have been announced before it was started.
		st.items(ok, Result(Interrupted, 0), 0)
		st.step(Offer{"b", "1"}, Offered, Send)
		st.items(ok, Result(Interrupted, 0), out)
		if st.s.Attempt != 1 {
			t.Errorf("attempt %d, want 1", st.s.Attempt)
		}
	})
	t.Run("measured again and marked, if the survey asks for it", func(t *testing.T) {
		st := tell(t, repeat, 3)
		st.step(Offer{"a", "1"}, Offered, Send)
		st.step(Accept{"a", 1, 0}, Held)
		st.step(Renew{"a", 1, 2, 0}, Held)
		st.step(Forgotten{"a"}, Pending, Requeue)
		st.items(again, again, 0)
	})
	t.Run("the probe itself reports it", func(t *testing.T) {
		st := tell(t, rules, 1)
		st.step(Offer{"a", "1"}, Offered, Send)
		st.step(results("a", 1, ItemResult{0, cut}), Done, Keep, Finish)
		st.items(cut)
		st = tell(t, repeat, 1)
		st.step(Offer{"a", "1"}, Offered, Send)
		st.step(results("a", 1, ItemResult{0, cut}), Pending, Keep, Requeue)
		st.items(again)
	})
}

func TestIfProbeVanishes(t *testing.T) {
	st := tell(t, rules, 3)
	st.step(Offer{"a", "1"}, Offered, Send)
	st.step(Accept{"a", 1, 0}, Held)
	st.step(Renew{"a", 1, 1, 0}, Held)
	st.wait(rules.TTL-1).step(Expire{}, Held)
	st.wait(1).step(Expire{}, Suspect)
	st.wait(rules.Grace-1).step(Expire{}, Suspect)

	back := *st
	back.step(Renew{"a", 1, 1, 0}, Held) // it returns still holding it

	st.wait(1).step(Expire{}, Pending, Requeue)
	st.items(Result(Interrupted, 0), 0, 0)

	// A late result fills a gap, and one given up too early, and never
	// replaces a newer one.
	st.step(Offer{"b", "1"}, Offered, Send)
	st.step(Accept{"b", 2, 0}, Held)
	st.step(results("a", 1, ItemResult{0, bad}, ItemResult{1, bad}, ItemResult{2, bad}), Held, KeepLate)
	st.items(bad, out, out)
	st.step(results("b", 2, ItemResult{1, ok}), Held, Keep)
	back2 := *st
	st.step(results("b", 2, ItemResult{2, ok}), Done, Keep, Finish)
	st.items(bad, ok, ok)
	st.step(results("a", 1, ItemResult{2, bad}), Done)

	// When b gives the rest back, the late result stands.
	back2.step(Results{Probe: "b", Epoch: 2, Returned: []uint32{2}}, Done, Keep, Finish)
	back2.items(bad, ok, bad)
}

func TestIfProbeOfflineForDays(t *testing.T) {
	st := tell(t, rules, 1)
	st.step(Offer{"a", "1"}, Offered, Send)
	st.step(Accept{"a", 1, 0}, Held)
	st.step(Renew{"a", 1, 1, 0}, Held)
	st.wait(rules.TTL).step(Expire{}, Suspect)
	st.wait(rules.Grace).step(Expire{}, Done, Finish)
	st.wait(60*24*time.Hour).step(results("a", 1, ItemResult{0, ok}), Done, KeepAside)
}

func TestIfEveryProbeVanishesAtOnce(t *testing.T) {
	var f Freeze
	f.TTL = rules.TTL
	f.Start(start)
	if !f.Until().Equal(start.Add(rules.TTL)) {
		t.Errorf("frozen until %v after a start", f.Until())
	}
	for range 10 {
		f.Connected()
	}
	at := start.Add(time.Hour)
	for i := range 4 {
		f.Lost(at)
		if f.Until().After(start.Add(rules.TTL)) {
			t.Fatalf("frozen after %d of 10 probes were lost", i+1)
		}
	}
	f.Lost(at)
	if !f.Until().Equal(at.Add(rules.TTL)) {
		t.Errorf("frozen until %v after half of the probes were lost", f.Until())
	}

	st := tell(t, rules, 1)
	st.step(Offer{"a", "1"}, Offered, Send)
	st.step(Accept{"a", 1, 0}, Held)
	frozen := Expire{FrozenUntil: start.Add(10 * rules.TTL)}
	st.wait(9*rules.TTL).step(frozen, Held)
	st.wait(rules.TTL-1).step(frozen, Held)
	st.wait(1).step(frozen, Suspect)
}

func TestNineOffersWithoutAcceptPoison(t *testing.T) {
	st := tell(t, rules, 1)
	for range rules.MaxOffers - 1 {
		st.step(Offer{"a", "1"}, Offered, Send)
		st.wait(rules.OfferTimeout).step(Expire{}, Pending, Requeue)
	}
	st.step(Offer{"a", "1"}, Offered, Send)
	st.wait(rules.OfferTimeout).step(Expire{}, Poisoned, Finish)
	st.items(Result(Lost, 0))
	st.step(Offer{"a", "1"}, Poisoned)
	st.step(Renew{"a", 9, 0, 0}, Poisoned, Drop)
	st.step(results("a", 9, ItemResult{0, ok}), Poisoned, KeepAside)
}

func TestABusyProbeDoesNotPoison(t *testing.T) {
	st := tell(t, rules, 1)
	for e := range uint64(3 * rules.MaxOffers) {
		st.step(Offer{"a", "1"}, Offered, Send)
		st.step(Refuse{"a", e + 1, true}, Pending, Requeue)
	}
	st = tell(t, rules, 1)
	for e := range uint64(rules.MaxOffers - 1) {
		st.step(Offer{"a", "1"}, Offered, Send)
		st.step(Refuse{"a", e + 1, false}, Pending, Requeue)
	}
	st.step(Offer{"a", "1"}, Offered, Send)
	st.step(Refuse{"a", uint64(rules.MaxOffers), false}, Poisoned, Finish)
}

func TestReturnedItemsWaitForTheNextLease(t *testing.T) {
	st := tell(t, rules, 3)
	st.step(Offer{"a", "1"}, Offered, Send)
	st.step(Accept{"a", 1, 0}, Held)
	st.step(Renew{"a", 1, 3, 0}, Held)
	st.step(Results{Probe: "a", Epoch: 1, Items: []ItemResult{{0, ok}}, Returned: []uint32{1}}, Held, Keep)
	// Still held: what is returned waits until the lease is over.
	st.step(Offer{"b", "1"}, Held)
	st.step(Results{Probe: "a", Epoch: 1, Returned: []uint32{2}}, Pending, Keep, Requeue)
	// Not started, so not marked.
	st.items(ok, returned, returned)
	// A heartbeat that the return overtook does not bring the lease back.
	st.step(Renew{"a", 1, 3, 0}, Pending, Drop)
	st.step(Offer{"b", "1"}, Offered, Send)
	st.items(ok, out, out)
}

func TestCancel(t *testing.T) {
	st := tell(t, rules, 1)
	st.step(Cancel{}, Done, Finish)
	st.items(Result(Cancelled, 0))

	st = tell(t, repeat, 3)
	st.step(Offer{"a", "1"}, Offered, Send)
	st.step(Cancel{}, Offered, Stop)
	st.step(Cancel{}, Offered)
	st.step(Accept{"a", 1, 0}, Held, Stop) // it had not seen it
	st.step(Renew{"a", 1, 0, 0}, Held, Stop)
	st.step(Results{Probe: "a", Epoch: 1, Items: []ItemResult{{0, ok}, {1, cut}}, Returned: []uint32{2}}, Done, Keep, Finish)
	st.items(ok, Result(Cancelled, 0), Result(Cancelled, 0))
}

func TestResultsOfAStranger(t *testing.T) {
	st := tell(t, rules, 1)
	st.step(Offer{"a", "1"}, Offered, Send)
	for _, e := range []Results{
		results("b", 1, ItemResult{0, ok}),                    // not its lease
		results("a", 2, ItemResult{0, ok}),                    // an epoch that never was
		results("a", 0, ItemResult{0, ok}),                    //
		results("", 0, ItemResult{0, ok}),                     //
		results("a", 1, ItemResult{1, ok}),                    // a target of another chunk
		results("a", 1, ItemResult{0, Result(Cancelled, 0)}),  // not a probe's to say
		results("a", 1, ItemResult{0, Result(Unfinished, 1)}), //
		results("a", 1, ItemResult{0, Result(Moved, 0)}),      //
		{Probe: "a", Epoch: 1, Returned: []uint32{1}},         //
	} {
		st.step(e, Offered, Reject)
	}
}

func TestSplit(t *testing.T) {
	st := tell(t, repeat, 4)
	if _, _, ok := st.s.Split(); ok {
		t.Error("split a chunk without results")
	}
	st.step(Offer{"a", "1"}, Offered, Send)
	if _, _, ok := st.s.Split(); ok {
		t.Error("split a chunk that a probe has")
	}
	st.step(Results{Probe: "a", Epoch: 1, Items: []ItemResult{{1, ok}, {2, cut}}, Returned: []uint32{0, 3}}, Pending, Keep, Requeue)
	head, rest, divided := st.s.Split()
	if !divided {
		t.Fatal("not split")
	}
	moved := Result(Moved, 0)
	if want := []Item{moved, ok, moved, moved}; !slices.Equal(head.Items, want) || head.Phase != Done {
		t.Errorf("head is %v %v, want done %v", head.Phase, head.Items, want)
	}
	if want := []Item{0, moved, again, 0}; !slices.Equal(rest.Items, want) || rest.Phase != Pending {
		t.Errorf("rest is %v %v, want pending %v", rest.Phase, rest.Items, want)
	}
	before, a, b := Count(st.s.Items), Count(head.Items), Count(rest.Items)
	for i := range before {
		if before[i] != a[i]+b[i] {
			t.Errorf("item %#x: %d before, %d and %d after", i, before[i], a[i], b[i])
		}
	}
	st.s = rest
	st.step(Offer{"a", "1"}, Offered, Send)
	st.items(out, moved, again|out, out)
	st.step(results("a", 1, ItemResult{0, ok}, ItemResult{1, bad}, ItemResult{2, ok}, ItemResult{3, ok}), Done, Keep, Finish)
	st.items(ok, moved, ok, ok)
}

// TestWhatALeaseLeavesBehind: nothing of one lease is held against the next.
func TestWhatALeaseLeavesBehind(t *testing.T) {
	t.Run("what was begun", func(t *testing.T) {
		st := tell(t, rules, 3)
		st.step(Offer{"a", "1"}, Offered, Send)
		st.step(Renew{"a", 1, 2, 0}, Held)
		st.step(Results{Probe: "a", Epoch: 1, Returned: []uint32{1}}, Held, Keep)
		st.step(Forgotten{"a"}, Pending, Requeue)
		if got, want := st.s.Late[0], (Late{1, Result(Interrupted, 0)}); got != want {
			t.Errorf("the first target is remembered as %v, want %v", got, want)
		}
		st.step(Offer{"b", "1"}, Offered, Send)
		st.step(Accept{"b", 2, 0}, Held)
		st.step(Forgotten{"b"}, Pending, Requeue) // it had begun nothing
		st.items(Result(Interrupted, 0), 0, 0)
	})
	t.Run("offers", func(t *testing.T) {
		st := tell(t, repeat, 1)
		for range 3 {
			for range rules.MaxOffers - 1 {
				st.step(Offer{"a", "1"}, Offered, Send)
				st.step(StreamLost{"a"}, Pending, Requeue)
			}
			st.step(Offer{"a", "1"}, Offered, Send)
			st.step(Accept{"a", st.s.Epoch, 0}, Held)
			st.step(Forgotten{"a"}, Pending, Requeue)
		}
	})
	t.Run("leases are counted", func(t *testing.T) {
		st := tell(t, rules, 2)
		st.step(Offer{"a", "1"}, Offered, Send)
		st.step(Refuse{"a", 1, true}, Pending, Requeue)
		st.step(Offer{"a", "1"}, Offered, Send)
		st.step(Results{Probe: "a", Epoch: 2, Returned: []uint32{0, 1}}, Pending, Keep, Requeue)
		if st.s.Attempt != 1 {
			t.Errorf("attempt %d, want 1: an offer is no lease, and one that was returned is", st.s.Attempt)
		}
	})
}

// TestReturnedBeforeTheLeaseLapsed: what came back is not held when the probe
// comes back, and was not begun when it does not.
func TestReturnedBeforeTheLeaseLapsed(t *testing.T) {
	st := tell(t, rules, 3)
	st.step(Offer{"a", "1"}, Offered, Send)
	st.step(Results{Probe: "a", Epoch: 1, Returned: []uint32{1}}, Held, Keep)
	st.wait(rules.TTL).step(Expire{}, Suspect)
	st.wait(rules.Grace).step(Expire{}, Pending, Requeue)
	st.items(0, returned, 0)
	back := *st
	back.step(Renew{"a", 1, 0, 0}, Held)
	back.items(out, returned, out)
	back.step(results("a", 1, ItemResult{0, ok}, ItemResult{2, ok}), Pending, Keep, Requeue)
	st.step(Offer{"b", "1"}, Offered, Send)
	st.items(out, out, out)
}

// TestLateResultWaits: while the newest lease holds a target, the result of an
// older one waits, and stands if nothing newer comes.
func TestLateResultWaits(t *testing.T) {
	late := func(r Rules) *story {
		st := tell(t, r, 1)
		st.step(Offer{"a", "1"}, Offered, Send)
		st.step(StreamLost{"a"}, Pending, Requeue)
		st.step(Offer{"b", "1"}, Offered, Send)
		st.step(Accept{"b", 2, 0}, Held)
		return st.step(results("a", 1, ItemResult{0, bad}), Held, KeepLate)
	}
	st := late(rules)
	st.step(Forgotten{"b"}, Done, Finish)
	st.items(bad)

	st = late(rules)
	st.step(results("b", 2, ItemResult{0, cut}), Done, Keep, Finish)
	st.items(bad) // seen through counts more than interrupted

	st = late(rules)
	st.step(results("b", 2, ItemResult{0, ok}), Done, Keep, Finish)
	st.items(ok)
}

// TestResultsOfThreeLeases: the newest stands, in whatever order they come.
func TestResultsOfThreeLeases(t *testing.T) {
	third := Result(Measured, measure.Reset)
	begin := func() *story {
		st := tell(t, rules, 2)
		for _, probe := range []string{"a", "b", "c"} {
			st.step(Offer{probe, "1"}, Offered, Send)
			if probe != "c" {
				st.step(StreamLost{probe}, Pending, Requeue)
			}
		}
		return st.step(Accept{"c", 3, 0}, Held)
	}
	a := results("a", 1, ItemResult{0, ok})
	b := results("b", 2, ItemResult{0, bad})
	c := results("c", 3, ItemResult{0, third})

	st := begin().step(a, Held, KeepLate).step(c, Held, Keep).step(b, Held, KeepLate)
	st.items(third, out)
	st = begin().step(b, Held, KeepLate).step(a, Held, KeepLate)
	st.step(Results{Probe: "c", Epoch: 3, Returned: []uint32{0, 1}}, Pending, Keep, Requeue)
	st.items(bad, returned)
	// An interruption that comes late tells nothing new where it is measured
	// again anyway.
	st = tell(t, repeat, 1)
	st.step(Offer{"a", "1"}, Offered, Send)
	st.step(Renew{"a", 1, 1, 0}, Held)
	st.step(Forgotten{"a"}, Pending, Requeue)
	st.step(results("a", 1, ItemResult{0, cut}), Pending, KeepLate)
	st.items(again)
}

func TestFreezeAgain(t *testing.T) {
	f := Freeze{TTL: time.Minute}
	for range 10 {
		f.Connected()
	}
	for range 5 {
		f.Lost(start)
	}
	later := start.Add(time.Hour)
	f.Lost(later)
	f.Lost(later)
	if f.Until().After(later) {
		t.Error("3 of the 5 that were left are more than half")
	}
	f.Lost(later)
	if !f.Until().Equal(later.Add(time.Minute)) {
		t.Errorf("frozen until %v after half of the rest was lost", f.Until())
	}
}

func TestSplitKeepsWhatWas(t *testing.T) {
	st := tell(t, repeat, 2)
	st.step(Offer{"a", "1"}, Offered, Send)
	st.step(results("a", 1, ItemResult{0, ok}), Held, Keep)
	st.step(Forgotten{"a"}, Pending, Requeue)
	st.step(Offer{"a", "2"}, Offered, Send)
	st.step(Cancel{}, Offered, Stop)
	s := st.s
	s = s.release() // as Cancel found it pending
	_, rest, divided := s.Split()
	if !divided || rest.Attempt != 1 || !rest.Cancelled {
		t.Errorf("the rest is %+v", rest)
	}
}

// TestTTL: who renews a lease says for how long, and the grace is as long. What a
// probe was told once is never shortened.
func TestTTL(t *testing.T) {
	const long = 10 * time.Minute
	for name, e := range map[string]Event{
		"accept": Accept{"a", 1, long},
		"renew":  Renew{"a", 1, 0, long},
	} {
		t.Run(name, func(t *testing.T) {
			st := tell(t, rules, 1)
			st.step(Offer{"a", "1"}, Offered, Send)
			_, effects := rules.Step(st.s, st.now, e)
			st.step(e, Held, effects...)
			st.wait(long-1).step(Expire{}, Held)
			st.wait(1).step(Expire{}, Suspect)
			st.wait(long-1).step(Expire{}, Suspect)
			st.wait(1).step(Expire{}, Pending, Requeue)
		})
	}
	t.Run("results renew it for as long as it was held for", func(t *testing.T) {
		st := tell(t, rules, 2)
		st.step(Offer{"a", "1"}, Offered, Send)
		st.step(Accept{"a", 1, long}, Held)
		st.wait(long-1).step(results("a", 1, ItemResult{0, ok}), Held, Keep)
		st.wait(long-1).step(Expire{}, Held)
		st.wait(1).step(Expire{}, Suspect)
		st.step(results("a", 1, ItemResult{0, ok}), Held, Keep) // also from the grave's edge
		st.wait(long-1).step(Expire{}, Held)
	})
	t.Run("a shorter word counts when the longer one is over", func(t *testing.T) {
		st := tell(t, rules, 1)
		st.step(Offer{"a", "1"}, Offered, Send)
		st.step(Accept{"a", 1, long}, Held)
		st.step(Renew{"a", 1, 0, 0}, Held) // perhaps its probe never hears that this was heard
		st.wait(long-1).step(Expire{}, Held)
		st.step(Renew{"a", 1, 0, 0}, Held)
		st.wait(rules.TTL-1).step(Expire{}, Held)
		st.wait(1).step(Expire{}, Suspect)
		st.wait(rules.Grace).step(Expire{}, Pending, Requeue)
	})
}

func TestGiveUp(t *testing.T) {
	lost := Result(Lost, 0)
	t.Run("pending", func(t *testing.T) {
		st := tell(t, rules, 2)
		st.step(GiveUp{}, Poisoned, Finish)
		st.items(lost, lost)
		st.step(GiveUp{}, Poisoned)
		st.step(Cancel{}, Poisoned)
	})
	for _, r := range []Rules{rules, repeat} {
		t.Run(fmt.Sprint("held, repeat ", r.Repeat), func(t *testing.T) {
			st := tell(t, r, 4)
			st.step(Offer{"a", "1"}, Offered, Send)
			st.step(Accept{"a", 1, 0}, Held)
			st.step(results("a", 1, ItemResult{0, ok}), Held, Keep)
			st.step(Renew{"a", 1, 2, 0}, Held)
			st.step(GiveUp{}, Poisoned, Finish)
			st.items(ok, cut, lost, lost)
			if st.s.Newest() != "" || !st.s.Deadline.IsZero() {
				t.Errorf("still held: %+v", st.s)
			}
			// What it has measured all the same comes, as for any chunk that is over.
			st.step(results("a", 1, ItemResult{0, ok}), Poisoned)
			st.step(results("a", 1, ItemResult{2, ok}), Poisoned, KeepAside)
			st.step(Renew{"a", 1, 3, 0}, Poisoned, Drop)
		})
	}
	t.Run("a late result waited for the lease to end", func(t *testing.T) {
		st := tell(t, rules, 1)
		st.step(Offer{"a", "1"}, Offered, Send)
		st.step(Forgotten{"a"}, Pending, Requeue)
		st.step(Offer{"b", "1"}, Offered, Send)
		st.step(results("a", 1, ItemResult{0, ok}), Offered, KeepLate)
		st.step(GiveUp{}, Done, Finish)
		st.items(ok)
	})
	t.Run("nothing is left", func(t *testing.T) {
		st := tell(t, rules, 2)
		st.step(Offer{"a", "1"}, Offered, Send)
		st.step(Accept{"a", 1, 0}, Held)
		st.step(Renew{"a", 1, 2, 0}, Held)
		st.step(GiveUp{}, Done, Finish)
		st.items(cut, cut)
	})
	t.Run("cancelled", func(t *testing.T) {
		st := tell(t, rules, 2)
		st.step(Offer{"a", "1"}, Offered, Send)
		st.step(Accept{"a", 1, 0}, Held)
		st.step(Renew{"a", 1, 1, 0}, Held)
		st.step(Cancel{}, Held, Stop)
		st.step(GiveUp{}, Done, Finish)
		st.items(cut, Result(Cancelled, 0))
	})
}
