package report

import (
	"cmp"
	"slices"

	"tfofleet/internal/dataset"
	"tfofleet/internal/measure"
)

// tally counts the measurements of a group.
type tally struct {
	outcomes [256]uint64
	verdicts [256]uint64 // of the measured
}

func (t *tally) add(r *dataset.Row) {
	t.outcomes[r.Outcome]++
	if r.Outcome == measure.OutcomeMeasured {
		t.verdicts[r.Verdict]++
	}
}

func (t *tally) measured() uint64 { return t.outcomes[measure.OutcomeMeasured] }

func (t *tally) counts() Counts {
	c := Counts{
		Measured:    t.measured(),
		Refused:     t.outcomes[measure.OutcomeRefused],
		Interrupted: t.outcomes[measure.OutcomeInterrupted],
		Verdicts:    []Share{},
	}
	for _, n := range t.outcomes {
		c.Measurements += n
	}
	c.Unknown = c.Measurements - c.Measured - c.Refused - c.Interrupted

	unknown := c.Measured
	for _, v := range measure.Verdicts() {
		unknown -= t.verdicts[v]
		c.share(v.String(), t.verdicts[v])
	}
	c.share("unknown", unknown)
	return c
}

func (c *Counts) share(verdict string, n uint64) {
	if n > 0 {
		c.Verdicts = append(c.Verdicts, Share{verdict, n, float64(n) / float64(c.Measured)})
	}
}

// tallies counts by the value of one property.
type tallies[K cmp.Ordered] map[K]*tally

func (t tallies[K]) add(k K, r *dataset.Row) {
	g := t[k]
	if g == nil {
		g = new(tally)
		t[k] = g
	}
	g.add(r)
}

// groups is the largest group first, equal ones by key.
func (t tallies[K]) groups(name func(K) string) []Group {
	type keyed struct {
		k K
		c Counts
	}
	all := make([]keyed, 0, len(t))
	for k, g := range t {
		all = append(all, keyed{k, g.counts()})
	}
	slices.SortFunc(all, func(a, b keyed) int {
		return cmp.Or(cmp.Compare(b.c.Measurements, a.c.Measurements), cmp.Compare(a.k, b.k))
	})
	groups := make([]Group, len(all))
	for i, a := range all {
		groups[i] = Group{name(a.k), a.c}
	}
	return groups
}

// conditions counts labels.
type conditions map[measure.Condition]uint64

func (c conditions) add(r *dataset.Row) {
	for _, l := range r.Conditions {
		c[l]++
	}
}

// top is the most frequent first, equal ones by name; shares are of n.
func (c conditions) top(n uint64) []ConditionCount {
	all := make([]ConditionCount, 0, len(c))
	for l, count := range c {
		all = append(all, ConditionCount{string(l), count, float64(count) / float64(n)})
	}
	slices.SortFunc(all, func(a, b ConditionCount) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Condition, b.Condition))
	})
	return all
}
