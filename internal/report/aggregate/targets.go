package aggregate

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"tfofleet/internal/dataset"
	"tfofleet/internal/measure"
	"tfofleet/internal/report/blame"
)

// Target is a target by what a list says of it.
type Target struct {
	Dataset  int    // the first that has it
	Item     uint64 // its place in that dataset's list
	Addr     netip.Addr
	Port     uint16
	Hostname string
}

// seen is one measurement of a target. There are many at a time, so it is
// small.
type seen struct {
	item    uint64
	dataset uint32
	// Verdict is 0 where the measurement says nothing (see [blame.Counts]).
	blame.Observation
	verdict measure.Verdict
	name    *name // nil unless it was asked for
}

// name is what else is known of the target, and when it was measured.
type name struct {
	Target
	started int64
}

func (s *seen) target() *Target {
	if s.name != nil {
		return &s.name.Target
	}
	return &Target{Dataset: int(s.dataset), Item: s.item}
}

// judge is told what was seen of one target, in the order of datasets and
// vantage points. What it is given is valid until it returns.
type judge func(of []seen) error

// gatherer puts together what was seen of each target of a run of batches.
type gatherer struct {
	scene *scene
	names bool // addresses and names are wanted
	tell  judge

	rows, sorted []seen
	ends         []uint32
}

// columns is what a gatherer needs of a scan.
func (g *gatherer) columns() dataset.Columns {
	c := dataset.ColItem | dataset.ColOutcome | dataset.ColVerdict | dataset.ColConditions
	if g.names {
		c |= dataset.ColAddr | dataset.ColPort | dataset.ColHostname | dataset.ColStarted
	}
	return c
}

func (g *gatherer) add(b *dataset.Batch, facts *labelFacts) error {
	vantage := g.scene.vantage(b)
	var names []name
	if g.names {
		names = make([]name, b.Len)
	}
	for i, o := range b.Outcome {
		s := seen{item: b.Item[i], dataset: uint32(b.Dir), verdict: b.Verdict[i]}
		s.Vantage = vantage
		counts := blame.Counts(o, s.verdict)
		for _, id := range b.Conditions.At(i) {
			s.Near = max(s.Near, facts.near[id])
			s.Copy = s.Copy || facts.copied[id]
			counts = counts && !facts.spoils[id]
		}
		if counts {
			s.Verdict = s.verdict
		}
		if g.names {
			s.name = &names[i]
			*s.name = name{Target{b.Dir, s.item, b.Addr[i], b.Port[i], strings.Clone(b.Hostname.At(i))}, b.Started[i]}
		}
		g.rows = append(g.rows, s)
	}
	if !b.Last {
		return nil
	}
	defer func() { g.rows = g.rows[:0] }()
	return eachTarget(g.sort(), func(a, b *seen) bool { return a.item == b.item }, g.tell)
}

// sort puts the rows of a run in the order of items; vantage points keep
// theirs. The items of a run are neighbours, so there is no need to compare.
func (g *gatherer) sort() []seen {
	if len(g.rows) == 0 {
		return nil
	}
	low, high := g.rows[0].item, g.rows[0].item
	for i := range g.rows {
		low, high = min(low, g.rows[i].item), max(high, g.rows[i].item)
	}
	if high-low > uint64(4*len(g.rows)+1024) {
		slices.SortStableFunc(g.rows, func(a, b seen) int { return cmp.Compare(a.item, b.item) })
		return g.rows
	}
	g.ends = slices.Grow(g.ends[:0], int(high-low)+2)[:high-low+2]
	clear(g.ends)
	for i := range g.rows {
		g.ends[g.rows[i].item-low+1]++
	}
	for i := 1; i < len(g.ends); i++ {
		g.ends[i] += g.ends[i-1]
	}
	g.sorted = slices.Grow(g.sorted[:0], len(g.rows))[:len(g.rows)]
	for i := range g.rows {
		at := &g.ends[g.rows[i].item-low]
		g.sorted[*at] = g.rows[i]
		*at++
	}
	return g.sorted
}

// eachTarget tells the rows of each target, which are neighbours.
func eachTarget(rows []seen, same func(a, b *seen) bool, tell judge) error {
	for from := 0; from < len(rows); {
		to := from + 1
		for to < len(rows) && same(&rows[from], &rows[to]) {
			to++
		}
		if err := tell(rows[from:to]); err != nil {
			return err
		}
		from = to
	}
	return nil
}

// observations is what counts of what was seen.
func observations(into []blame.Observation, of []seen) []blame.Observation {
	into = into[:0]
	for i := range of {
		if of[i].Verdict != 0 {
			into = append(into, of[i].Observation)
		}
	}
	return into
}
