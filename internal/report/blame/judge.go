package blame

import (
	"slices"

	"tfofleet/internal/measure"
)

// Stability says whether what was seen of a target stays the same. The values
// are append-only.
type Stability uint8

const (
	NotSeen       Stability = iota // nothing counts that was seen
	Once                           // one observation
	Stable                         // all agree
	Unstable                       // one vantage point saw different things
	PathDependent                  // each vantage point agrees with itself, not with the others
)

var stabilities = [...]string{"not_seen", "once", "stable", "unstable", "path_dependent"}

func (s Stability) String() string { return stabilities[s] }

// Stabilities lists them in the order reports show them.
func Stabilities() []Stability { return []Stability{Stable, Unstable, PathDependent, Once, NotSeen} }

// Side is who breaks Fast Open. The values are append-only.
type Side uint8

const (
	Nobody  Side = iota // nothing is broken
	Target              // the target or what is next to it
	Vantage             // the probe's host or what is next to it
	Path                // something between them
	Unknown             // something is, and who cannot be told
)

var sides = [...]string{"nobody", "target", "vantage", "path", "unknown"}

func (s Side) String() string { return sides[s] }

// Sides lists who may be to blame.
func Sides() []Side { return []Side{Target, Vantage, Path, Unknown} }

// Judgement is what several observations say of one target together.
type Judgement struct {
	Stability Stability // of what is not charged to vantage points
	Blame     Side
	// Verdict is the one that is not charged to a vantage point and got
	// furthest, or [measure.Offline]; 0 without any.
	Verdict measure.Verdict
}

// Judge judges a target by its observations that count (see [Counts]), in any
// order. wrong, if it is not nil, gets for each observation whether it is one
// the blame stands on: what went wrong, for whoever it is charged to.
func Judge(os []Observation, broken Broken, wrong []bool) Judgement {
	if len(os) == 1 && os[0].Near == NearNothing && len(broken) == 0 {
		return judgeOne(os[0], wrong)
	}
	var few [64]int
	own := few[:0] // observations charged to nobody yet
	for i, o := range os {
		if !o.Near.explains(o.Verdict) && !broken.has(o.Vantage, o.Verdict) {
			own = append(own, i)
		}
	}
	j := Judgement{Stability: stability(os, own)}
	for _, i := range own {
		if v := os[i].Verdict; j.Verdict == 0 || rank(v) > rank(j.Verdict) {
			j.Verdict = v
		}
	}
	j.Blame = j.side(os, own)
	for i, o := range os {
		if wrong != nil {
			wrong[i] = j.Blame != Nobody && j.trouble(o.Verdict) && (j.Blame == Vantage || slices.Contains(own, i))
		}
	}
	return j
}

func judgeOne(o Observation, wrong []bool) Judgement {
	j := Judgement{Stability: Once, Verdict: o.Verdict}
	if o.Verdict.Fault() {
		j.Blame = Unknown
	}
	if wrong != nil {
		wrong[0] = j.Blame != Nobody
	}
	return j
}

// trouble reports whether a verdict is a fault, or falls short of the target's
// own.
func (j *Judgement) trouble(v measure.Verdict) bool {
	return v.Fault() || v == measure.Unsupported && (j.Verdict == 0 || rank(j.Verdict) > rank(v))
}

func stability(os []Observation, own []int) Stability {
	switch len(own) {
	case 0:
		return NotSeen
	case 1:
		return Once
	}
	s := Stable
	for n, i := range own {
		for _, k := range own[:n] {
			if os[i].Verdict == os[k].Verdict {
				continue
			}
			if os[i].Vantage == os[k].Vantage {
				return Unstable
			}
			s = PathDependent
		}
	}
	return s
}

// side tells who is to blame. own are the observations that are not charged to
// vantage points.
func (j *Judgement) side(os []Observation, own []int) Side {
	if !slices.ContainsFunc(os, func(o Observation) bool { return j.trouble(o.Verdict) }) {
		return Nobody
	}
	troubled, fine := map[uint32]measure.Verdict{}, map[uint32]bool{}
	several := false // one vantage point saw different things
	for _, i := range own {
		v, at := os[i].Verdict, os[i].Vantage
		switch {
		case rank(v) == 0:
		case !j.trouble(v):
			fine[at] = true
		case troubled[at] != 0 && troubled[at] != v:
			several = true
		default:
			troubled[at] = v
		}
	}
	if len(troubled) == 0 {
		for i, o := range os {
			if !slices.Contains(own, i) && j.trouble(o.Verdict) {
				return Vantage
			}
		}
		return Nobody
	}
	for at := range troubled {
		several = several || fine[at]
	}
	switch {
	case several || len(troubled)+len(fine) < 2:
		return Unknown
	case len(fine) > 0:
		return Path
	}
	// All are in trouble: one fault has to be that of most, and of two at least.
	count := map[measure.Verdict]int{}
	for _, v := range troubled {
		if count[v]++; count[v] >= 2 && 2*count[v] > len(troubled) {
			return Target
		}
	}
	return Unknown
}
