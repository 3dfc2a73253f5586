package html

import "tfofleet/internal/measure"

// class is what is kept of a measurement when not all fits: the lower, the
// longer.
type class uint8

const (
	trouble class = iota // a fault, inconclusive, or never finished
	offline
	nothing // nothing wrong
	classes
)

var classNames = [classes]string{"fault, inconclusive or interrupted", "offline", "nothing wrong"}

func classOf(o measure.Outcome, v measure.Verdict) class {
	switch {
	case o == measure.OutcomeInterrupted:
		return trouble
	case o != measure.OutcomeMeasured:
		return nothing
	case v == measure.Inconclusive, v.Fault():
		return trouble
	case v == measure.Offline:
		return offline
	}
	return nothing
}

// sampling is the part of each class that is kept, from 0 to 1.
type sampling [classes]float64

// share lets the classes in, most important first, until limit are in; no
// class gets more than most[class], if that is above 0.
func share(of [classes]uint64, limit uint64, most [classes]uint64) (s sampling) {
	for c, n := range of {
		take := min(n, limit)
		if most[c] > 0 {
			take = min(take, most[c])
		}
		limit -= take
		if n > 0 {
			s[c] = float64(take) / float64(n)
		}
	}
	return s
}

// takes reports whether the measurements of a target are in the sample. It
// depends on nothing but the target, so that those of all probes stay together,
// and a smaller sample is part of a larger one.
func (s *sampling) takes(c class, survey string, item uint64) bool {
	return s[c] >= 1 || float64(scatter(survey, item))/(1<<64) < s[c]
}

// scatter is a number for a target that looks like chance and is always the
// same: FNV-1a over the survey, then the finalizer of splitmix64 (S. Vigna).
func scatter(survey string, item uint64) uint64 {
	x := uint64(14695981039346656037)
	for i := range len(survey) {
		x = (x ^ uint64(survey[i])) * 1099511628211
	}
	x ^= item * 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
