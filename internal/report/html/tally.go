package html

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"tfofleet/internal/measure"
)

// slots holds every verdict this version knows, and at 0 those it does not.
const slots = 16

func slot(v measure.Verdict) measure.Verdict {
	if v >= slots || v.String() == "unknown" {
		return 0
	}
	return v
}

// tally counts the measurements of a group.
type tally struct {
	all, measured, refused, interrupted uint64
	verdicts                            [slots]uint64
}

func (t *tally) add(o measure.Outcome, v measure.Verdict) {
	t.all++
	switch o {
	case measure.OutcomeMeasured:
		t.measured++
		t.verdicts[slot(v)]++
	case measure.OutcomeRefused:
		t.refused++
	case measure.OutcomeInterrupted:
		t.interrupted++
	}
}

// counts has the verdicts in the order of the model's.
func (t *tally) counts(verdicts []measure.Verdict) Counts {
	c := Counts{Measurements: t.all, Measured: t.measured, Refused: t.refused, Interrupted: t.interrupted, By: make([]uint64, len(verdicts))}
	for i, v := range verdicts {
		c.By[i] = t.verdicts[v]
	}
	return c
}

// occurring is the verdicts that were given, in the order of reports, and 0 last
// for those of a later version.
func (t *tally) occurring() []measure.Verdict {
	var vs []measure.Verdict
	for _, v := range append(measure.Verdicts(), 0) {
		if t.verdicts[v] > 0 {
			vs = append(vs, v)
		}
	}
	return vs
}

// tallies counts by key.
type tallies map[string]*tally

func (t tallies) of(key string) *tally {
	g := t[key]
	if g == nil {
		g = new(tally)
		t[strings.Clone(key)] = g // it may be a part of a row's name
	}
	return g
}

// largest is the keys of at most n groups, the largest first, and how many are
// left.
func (t tallies) largest(n int) (keys []string, left int) {
	keys = slices.SortedFunc(maps.Keys(t), func(a, b string) int {
		return cmp.Or(cmp.Compare(t[b].all, t[a].all), cmp.Compare(a, b))
	})
	if len(keys) > n {
		return keys[:n], len(keys) - n
	}
	return keys, 0
}
