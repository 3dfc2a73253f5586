package lease

import (
	stdcmp "cmp"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
	"tfofleet/internal/measure"
)

// anyEvent draws an event that may or may not fit: from any probe, with any
// epoch, also ones that never were. rapid prints the seed of a failure.
func anyEvent(t *rapid.T, s State, freeze time.Time) Event {
	probe := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "probe")
	instance := rapid.SampledFrom([]string{"1", "2"}).Draw(t, "instance")
	epoch := rapid.Uint64Range(0, s.Epoch+1).Draw(t, "epoch")
	if rapid.Bool().Draw(t, "newest") && s.Epoch > 0 {
		epoch, probe = s.Epoch, s.holder(s.Epoch)
	}
	index := rapid.Uint32Range(0, uint32(len(s.Items)-1))
	result := rapid.Custom(func(t *rapid.T) ItemResult {
		o := rapid.SampledFrom([]Outcome{Measured, Measured, Refused, Interrupted}).Draw(t, "outcome")
		v := measure.Verdict(rapid.IntRange(0, MaxVerdict).Draw(t, "verdict"))
		return ItemResult{index.Draw(t, "index"), Result(o, v)}
	})
	ttl := rapid.SampledFrom([]time.Duration{0, rules.TTL / 2, 3 * rules.TTL}).Draw(t, "ttl")
	switch rapid.IntRange(0, 11).Draw(t, "event") {
	case 0, 1:
		return Offer{probe, instance}
	case 2, 3:
		return Accept{probe, epoch, ttl}
	case 4:
		return Refuse{probe, epoch, rapid.Bool().Draw(t, "busy")}
	case 5:
		return StreamLost{probe}
	case 6:
		return Renew{probe, epoch, rapid.IntRange(0, len(s.Items)+1).Draw(t, "taken"), ttl}
	case 7:
		return Forgotten{probe}
	case 8, 9:
		return Results{
			Probe: probe, Epoch: epoch,
			Items:    rapid.SliceOfN(result, 0, 4).Draw(t, "items"),
			Returned: rapid.SliceOfN(index, 0, 2).Draw(t, "returned"),
		}
	case 10:
		return Expire{freeze}
	}
	switch rapid.IntRange(0, 19).Draw(t, "end") {
	case 0, 1:
		return Cancel{}
	case 2:
		return GiveUp{}
	}
	return Expire{freeze}
}

func TestInvariants(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rules
		r.Repeat = rapid.Bool().Draw(t, "repeat")
		n := rapid.IntRange(1, 6).Draw(t, "items")
		s, now := New(n), start
		freeze := start.Add(r.TTL)
		var w watch
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.Int64Range(0, int64(r.TTL)).Draw(t, "wait")))
			if rapid.IntRange(0, 9).Draw(t, "restart") == 0 {
				freeze = now.Add(r.TTL)
			}
			e := anyEvent(t, s, freeze)
			before := clone(s)
			next, effects := r.Step(s, now, e)
			if diff := cmp.Diff(before, s); diff != "" {
				t.Fatalf("%T%+v wrote to its argument:\n%s", e, e, diff)
			}
			check(t, r, now, freeze, w, s, e, next, effects)
			w.see(r, now, s, e, next)
			s = next
		}
	})
}

// watch knows, beside the machine, how long the newest lease has to last.
type watch struct {
	until   time.Time // what its probe may count on
	grace   time.Duration
	suspect time.Time // when it lapsed
}

func (w *watch) see(r Rules, now time.Time, s State, e Event, next State) {
	if next.Phase == Suspect && s.Phase != Suspect {
		w.suspect = now
	}
	epoch, probe, speaks := sender(e)
	_, refused := e.(Refuse)
	if !speaks || refused || !s.current(probe, epoch) || next.Phase != Held {
		return
	}
	ttl := s.TTL
	switch e := e.(type) {
	case Accept:
		ttl = e.TTL
	case Renew:
		ttl = e.TTL
	}
	if s.Phase != Held {
		w.until = now // what it was told once is over, and it has stopped
	}
	if until := now.Add(stdcmp.Or(ttl, r.TTL)); until.After(w.until) {
		w.until = until
	}
	w.grace = stdcmp.Or(ttl, r.Grace)
}

func check(t *rapid.T, r Rules, now, freeze time.Time, w watch, s State, e Event, next State, effects []Effect) {
	epoch, probe, speaks := sender(e)
	newest := speaks && s.current(probe, epoch)

	// I1: one (lease, epoch) holds an item at most. Epochs only grow, one per
	// offer, and who is not the newest moves no lease.
	if d := next.Epoch - s.Epoch; d > 1 || (d == 1) != (slices.Contains(effects, Send)) || int(next.Epoch) != len(next.Holders) {
		t.Fatalf("%T%+v: epoch %d -> %d, effects %v, holders %v", e, e, s.Epoch, next.Epoch, effects, next.Holders)
	}
	if next.Phase.live() != (next.Probe != "") || next.Phase.live() != !next.Deadline.IsZero() || next.Phase.live() && !next.owes() {
		t.Fatalf("%T%+v: %v, probe %q, deadline %v, owes %v", e, e, next.Phase, next.Probe, next.Deadline, next.owes())
	}
	if next.Probe != "" && next.Probe != next.holder(next.Epoch) {
		t.Fatalf("%T%+v: %q has what was offered to %q", e, e, next.Probe, next.holder(next.Epoch))
	}
	if speaks && !newest {
		same := next.Phase == s.Phase || s.Phase == Pending && next.Phase == Done // the last gap was filled
		if !same || next.Probe != s.Probe || !next.Deadline.Equal(s.Deadline) || next.Taken != s.Taken {
			t.Fatalf("%T%+v of an older epoch moved the lease:\n%+v\n%+v", e, e, s, next)
		}
		for i := range next.Items {
			if s.Items[i].Out() != next.Items[i].Out() {
				t.Fatalf("%T%+v of an older epoch took item %d", e, e, i)
			}
		}
	}

	// I2: held only by the word of the probe it was offered to.
	if next.Phase == Held && s.Phase != Held {
		switch e.(type) {
		case Accept, Renew, Results:
		default:
			t.Fatalf("held by %T%+v", e, e)
		}
		if !newest {
			t.Fatalf("held by %T%+v of an older epoch", e, e)
		}
	}

	// I5: every target is counted once.
	if c := Count(next.Items); c.Total() != int64(len(s.Items)) {
		t.Fatalf("%T%+v: %d targets counted, want %d", e, e, c.Total(), len(s.Items))
	}
	if next.Phase == Done && !next.finished() || next.Phase == Pending && next.finished() {
		t.Fatalf("%T%+v: %v with %v", e, e, next.Phase, next.Items)
	}
	if next.Phase.Over() != s.Phase.Over() && !slices.Contains(effects, Finish) {
		t.Fatalf("%T%+v: %v without a word", e, e, next.Phase)
	}
	if s.Phase.Over() && !cmp.Equal(s, next) {
		t.Fatalf("%T%+v changed a chunk that is over:\n%s", e, e, cmp.Diff(s, next))
	}

	// I6: no lease lapses while expiry is frozen, nor before its TTL.
	if s.Phase == Held && next.Phase == Suspect && (now.Before(freeze) || now.Before(w.until)) {
		t.Fatalf("lapsed at %v, held until %v, frozen until %v", now, w.until, freeze)
	}
	if _, ok := e.(Expire); ok && s.Phase == Suspect && next.Phase != Suspect && (now.Before(freeze) || now.Before(w.suspect.Add(w.grace))) {
		t.Fatalf("taken away at %v, suspect from %v for %v, frozen until %v", now, w.suspect, w.grace, freeze)
	}

	// I7: a result stays, and what may have been started is never offered
	// again as if it had not been.
	for i, was := range s.Items {
		is := next.Items[i]
		if was.real() && is != was {
			if late, ok := s.Late[uint32(i)]; !ok || late.Epoch >= epoch {
				t.Fatalf("%T%+v: result %#x of item %d became %#x", e, e, was, i, is)
			}
		}
		if was.final() && !is.final() {
			t.Fatalf("%T%+v: item %d was %#x and is pending again", e, e, i, was)
		}
		if !was.final() && !is.final() && was.Again() && !is.Again() {
			t.Fatalf("%T%+v: item %d lost its mark", e, e, i)
		}
		if i < s.Taken && was.Out() && !is.final() && !is.Out() && !is.Again() {
			if x, ok := e.(Results); !ok || !slices.Contains(x.Returned, uint32(i)) {
				t.Fatalf("%T%+v: item %d may have been started and is not marked", e, e, i)
			}
		}
		if _, ok := e.(Results); !ok && !was.Out() && was.final() != is.final() && is.Outcome() < Cancelled {
			t.Fatalf("%T%+v: item %d got a result from nowhere", e, e, i)
		}
	}
	checkGivenUp(t, s, e, next)
	if s.Cancelled && slices.Contains(effects, Send) && s.Phase != Pending {
		t.Fatalf("%T%+v: sent a cancelled chunk", e, e)
	}
}

// checkGivenUp: a chunk that is given up has an end for every target, and says
// of none that was begun that it was not.
func checkGivenUp(t *rapid.T, s State, e Event, next State) {
	if _, ok := e.(GiveUp); !ok || s.Phase.Over() {
		return
	}
	lost := 0
	for i, was := range s.Items {
		begun := was.Out() && i < s.Taken
		late, isLate := s.Late[uint32(i)]
		want := Result(Lost, 0)
		switch {
		case was.final():
			want = was
		case was.Out() && isLate:
			want = late.Result
		case begun:
			want = Result(Interrupted, 0)
		case s.Cancelled:
			want = Result(Cancelled, 0)
		default:
			lost++
		}
		if next.Items[i] != want {
			t.Fatalf("given up: item %d was %#x and is %#x, want %#x", i, was, next.Items[i], want)
		}
	}
	if next.Phase == Poisoned != (lost > 0) || !next.Phase.Over() || next.Newest() != "" {
		t.Fatalf("given up with %d lost: %v, %q", lost, next.Phase, next.Newest())
	}
}

// sender is whose lease an event speaks of.
func sender(e Event) (epoch uint64, probe string, ok bool) {
	switch e := e.(type) {
	case Accept:
		return e.Epoch, e.Probe, true
	case Refuse:
		return e.Epoch, e.Probe, true
	case Renew:
		return e.Epoch, e.Probe, true
	case Results:
		return e.Epoch, e.Probe, true
	}
	return 0, "", false
}
