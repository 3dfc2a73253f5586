package lease

import "tfofleet/internal/measure"

// Outcome says how a target of a chunk ended. It extends measure.Outcome, with
// the same numbers, by what only a controller can say. The values are stored.
type Outcome uint8

const (
	// Unfinished: no result yet; counted as pending.
	Unfinished  Outcome = 0
	Measured            = Outcome(measure.OutcomeMeasured)
	Refused             = Outcome(measure.OutcomeRefused)
	Interrupted         = Outcome(measure.OutcomeInterrupted)
	// Cancelled: the survey was cancelled before it was started.
	Cancelled Outcome = 4
	// Lost: its chunk was given up, see Poisoned.
	Lost Outcome = 5
	// Moved: another chunk accounts for it, see Split.
	Moved Outcome = 6
)

// Item is where one target stands, in one byte, because a chunk holds up to
// 8192 of them and is stored with every batch: the outcome in the upper three
// bits; below it the verdict, or while unfinished the flags.
type Item uint8

const (
	again    Item = 1 << iota // an earlier lease may have started it
	out                       // the lease of the current epoch holds it
	returned                  // its probe gave it back in the current epoch
)

const (
	outcomeShift = 5
	// MaxVerdict is the highest verdict an Item can hold.
	MaxVerdict = 1<<outcomeShift - 1
)

// Result is the item of a target that ended.
func Result(o Outcome, v measure.Verdict) Item {
	return Item(o)<<outcomeShift | Item(v)&MaxVerdict
}

// Outcome tells how the target ended, or Unfinished.
func (i Item) Outcome() Outcome { return Outcome(i >> outcomeShift) }

// Verdict is the verdict of a target that ended, 0 when it has none.
func (i Item) Verdict() measure.Verdict {
	if !i.final() {
		return 0
	}
	return measure.Verdict(i & MaxVerdict)
}

// Out reports whether the lease of the current epoch holds the target.
func (i Item) Out() bool { return !i.final() && i&out != 0 }

// Again reports whether an earlier lease may have started the target.
func (i Item) Again() bool { return !i.final() && i&again != 0 }

func (i Item) final() bool { return i.Outcome() != Unfinished }

// settled reports whether the target ended, and in this chunk.
func (i Item) settled() bool { return i.final() && i.Outcome() != Moved }

// real reports whether a probe saw it through: nothing but a newer epoch's
// result may replace it.
func (i Item) real() bool { return i.Outcome() == Measured || i.Outcome() == Refused }

// Tally counts items by outcome and verdict: the index is the Item of a target
// that ended, and 0 for every unfinished one.
type Tally [256]int64

// Count tallies items. Moved ones are left out: another chunk counts them.
func Count(items []Item) Tally {
	var t Tally
	for _, i := range items {
		switch i.Outcome() {
		case Unfinished:
			t[0]++
		case Moved:
		default:
			t[i]++
		}
	}
	return t
}

// Sub is the change from u to t.
func (t Tally) Sub(u Tally) Tally {
	for i := range t {
		t[i] -= u[i]
	}
	return t
}

// Of sums the targets that ended with the outcome.
func (t *Tally) Of(o Outcome) (n int64) {
	if o == Unfinished {
		return t[0]
	}
	for v := range MaxVerdict + 1 {
		n += t[Result(o, measure.Verdict(v))]
	}
	return n
}

// Total sums all targets.
func (t *Tally) Total() (n int64) {
	for _, c := range t {
		n += c
	}
	return n
}
