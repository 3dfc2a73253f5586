package change

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"tfofleet/internal/dataset"
	"tfofleet/internal/measure"
	"tfofleet/internal/report/aggregate"
	"tfofleet/internal/report/stat"
)

// Alpha is the level of significance: one family of tests in 20 finds a
// difference where there is none.
const Alpha = 0.05

// Diff is what changed from one dataset to another. The JSON names are stable.
type Diff struct {
	Old Side `json:"old"`
	New Side `json:"new"`
	// Probes are in both; a unit is a target as one of them saw it. Without any
	// a unit is a target as all probes of a dataset saw it.
	Probes []string  `json:"probes"`
	Units  uint64    `json:"units"`   // with one verdict in both
	Same   uint64    `json:"same"`    // of them, with the same
	Chance uint64    `json:"chance"`  // of the changes, those that chance can explain
	Mixed  uint64    `json:"mixed"`   // units left out: what was seen in one dataset does not agree
	OnlyIn [2]uint64 `json:"only_in"` // units left out: only the old, or only the new one, says something of them
	// Verdicts are those that any unit has, in the order of measure.Verdicts.
	Verdicts []Verdict `json:"verdicts"`
	// Changes are from one verdict to another, most first.
	Changes []Pair `json:"changes"`
}

// Side is one of the two datasets.
type Side struct {
	Survey    dataset.Survey `json:"survey"`
	Measured  uint64         `json:"measured"`
	Transient uint64         `json:"transient"` // of them: plain failed and Fast Open worked, the noise floor
}

// Verdict is how many units have it, and how many changed it.
type Verdict struct {
	Verdict string `json:"verdict"`
	Old     uint64 `json:"old"`
	New     uint64 `json:"new"`
	Left    uint64 `json:"left"` // had it and have another
	Came    uint64 `json:"came"` // had another and have it
	// P is that of McNemar's test, adjusted by Holm's method.
	P float64 `json:"p"`
}

// Pair is a change from Old to New.
type Pair struct {
	Old    string `json:"old"`
	New    string `json:"new"`
	Count  uint64 `json:"count"`
	Back   uint64 `json:"back"`   // that changed from New to Old
	Chance uint64 `json:"chance"` // of Count, those that chance can explain
	// P is that as many change one way as the other, adjusted by Holm's method.
	P float64 `json:"p"`
}

// Changed is a unit that changed.
type Changed struct {
	aggregate.Target
	Probe    string // "": all
	Old, New measure.Verdict
}

// Compare compares two datasets. changed, if it is not nil, is told every unit
// that changed, in no order. Memory does not grow with the number of targets.
func Compare(ctx context.Context, oldDir, newDir string, changed func(*Changed) error) (*Diff, error) {
	d := &Diff{Probes: []string{}, Verdicts: []Verdict{}}
	if err := d.Old.read(ctx, oldDir); err != nil {
		return nil, err
	}
	if err := d.New.read(ctx, newDir); err != nil {
		return nil, err
	}
	c := &comparison{diff: d, flows: map[[2]measure.Verdict]uint64{}, changed: changed}
	both, err := aggregate.Vantages(oldDir, newDir)
	if err != nil {
		return nil, err
	}
	for _, name := range both[0] {
		if slices.Contains(both[1], name) {
			d.Probes = append(d.Probes, name)
		}
	}
	if err := aggregate.Judge(ctx, aggregate.Query{}, c.target, oldDir, newDir); err != nil {
		return nil, err
	}
	c.sum()
	return d, nil
}

func (s *Side) read(ctx context.Context, dir string) error {
	r, err := aggregate.Run(ctx, aggregate.Query{}, dir)
	if err != nil {
		return err
	}
	s.Survey, s.Measured, s.Transient = r.Surveys[0], r.All.Measured(), r.All.Transient()
	return nil
}

type comparison struct {
	diff    *Diff
	flows   map[[2]measure.Verdict]uint64
	changed func(*Changed) error
}

// target adds the units of one target.
func (c *comparison) target(j *aggregate.Judged) error {
	if len(c.diff.Probes) == 0 {
		return c.unit(j, "")
	}
	for _, p := range c.diff.Probes {
		if err := c.unit(j, p); err != nil {
			return err
		}
	}
	return nil
}

// errMixed is of a unit without one verdict in a dataset, errSilent of one
// without any.
var errMixed, errSilent = errors.New("mixed"), errors.New("silent")

// agreed is the verdict of a unit in one dataset.
func agreed(j *aggregate.Judged, set int, probe string) (v measure.Verdict, err error) {
	err = errSilent
	for _, o := range j.Seen {
		switch {
		case !o.Counts || o.Dataset != set || probe != "" && o.Vantage != probe:
		case err == errSilent:
			v, err = o.Verdict, nil
		case v != o.Verdict:
			return 0, errMixed
		}
	}
	return v, err
}

func (c *comparison) unit(j *aggregate.Judged, probe string) error {
	was, wasErr := agreed(j, 0, probe)
	is, isErr := agreed(j, 1, probe)
	switch {
	case wasErr == errSilent && isErr == errSilent:
		return nil
	case isErr == errSilent:
		c.diff.OnlyIn[0]++
		return nil
	case wasErr == errSilent:
		c.diff.OnlyIn[1]++
		return nil
	case wasErr == errMixed || isErr == errMixed:
		c.diff.Mixed++
		return nil
	}
	c.flows[[2]measure.Verdict{was, is}]++
	if was == is || c.changed == nil {
		return nil
	}
	return c.changed(&Changed{j.Target, probe, was, is})
}

// sum makes the tables from the flows.
func (c *comparison) sum() {
	d := c.diff
	var ps []float64
	for _, v := range measure.Verdicts() {
		n := Verdict{Verdict: v.String()}
		for flow, k := range c.flows {
			switch {
			case flow[0] == v && flow[1] == v:
				n.Old, n.New = n.Old+k, n.New+k
			case flow[0] == v:
				n.Old, n.Left = n.Old+k, n.Left+k
			case flow[1] == v:
				n.New, n.Came = n.New+k, n.Came+k
			}
		}
		if n.Old+n.New > 0 {
			d.Verdicts = append(d.Verdicts, n)
			ps = append(ps, stat.Sign(n.Left, n.Came))
		}
	}
	for i, p := range stat.Holm(ps) {
		d.Verdicts[i].P = p
	}
	c.pairs()
}

func (c *comparison) pairs() {
	d := c.diff
	type pair [2]measure.Verdict // the smaller first
	p := map[pair]float64{}
	var order []pair
	for flow, n := range c.flows {
		d.Units += n
		if flow[0] == flow[1] {
			d.Same += n
			continue
		}
		if k := (pair{min(flow[0], flow[1]), max(flow[0], flow[1])}); p[k] == 0 {
			p[k] = 1
			order = append(order, k)
		}
	}
	slices.SortFunc(order, func(a, b pair) int { return cmp.Or(cmp.Compare(a[0], b[0]), cmp.Compare(a[1], b[1])) })
	ps := make([]float64, len(order))
	for i, k := range order {
		ps[i] = stat.Sign(c.flows[k], c.flows[pair{k[1], k[0]}])
	}
	d.Changes = []Pair{}
	for i, adjusted := range stat.Holm(ps) {
		k := order[i]
		for _, way := range []pair{k, {k[1], k[0]}} {
			n, back := c.flows[way], c.flows[pair{way[1], way[0]}]
			if n == 0 {
				continue
			}
			chance := min(n, back)
			if adjusted >= Alpha {
				chance = n
			}
			d.Chance += chance
			d.Changes = append(d.Changes, Pair{way[0].String(), way[1].String(), n, back, chance, adjusted})
		}
	}
	slices.SortStableFunc(d.Changes, func(a, b Pair) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Old, b.Old), cmp.Compare(a.New, b.New))
	})
}
