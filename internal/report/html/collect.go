package html

import (
	"context"
	"fmt"
	"slices"

	"tfofleet/internal/dataset"
	"tfofleet/internal/measure"
	"tfofleet/internal/report/stat"
)

// Limits of what a person can look at.
const (
	barGroups  = 40  // of one property
	heatGroups = 24  // columns of a heat map
	heatProbes = 40  // rows of one
	curveSteps = 100 // of a distribution
	curves     = 8   // distributions beside each other
)

// Collect reads the datasets in dirs, three times: to count, to choose what is
// kept, and for its attempts. Memory grows with what is kept and with the
// number of groups, not with that of targets. A dataset may be that of a survey
// that still runs.
func Collect(ctx context.Context, o Options, dirs ...string) (*Model, error) {
	c := &collection{
		Options: o.withDefaults(), dirs: dirs,
		groupings: append([]Grouping{ByPort, BySuffix}, o.Groupings...),
		byProbe:   tallies{}, saved: map[string]*saved{}, all: &saved{},
	}
	for _, dir := range dirs {
		s, err := dataset.ReadSurvey(dir)
		if err != nil {
			return nil, err
		}
		c.surveys = append(c.surveys, s)
	}
	for range c.groupings {
		c.byGroup = append(c.byGroup, tallies{})
	}
	if err := c.count(ctx); err != nil {
		return nil, err
	}
	m := c.model()
	if err := c.choose(ctx, m); err != nil {
		return nil, err
	}
	return m, c.attempts(ctx, m)
}

// collection is the state of Collect. The first pass is the one place where
// numbers are made: aggregates made elsewhere can take its place.
type collection struct {
	Options
	dirs      []string
	surveys   []*dataset.Survey
	groupings []Grouping

	total   tally
	byClass [classes]uint64
	byProbe tallies
	byGroup []tallies // as groupings
	saved   map[string]*saved
	all     *saved

	verdicts []measure.Verdict // that occur
	rows     rows
	keep     map[chunk][]kept
}

// saved is the time saved at supported targets.
type saved struct{ us, rtt stat.Distribution }

func (s *saved) add(us, rtt int64) {
	s.us.Add(us)
	if rtt > 0 {
		s.rtt.Add(100 * us / rtt)
	}
}

const counted = dataset.ColItem | dataset.ColAddr | dataset.ColPort | dataset.ColHostname | dataset.ColOutcome | dataset.ColVerdict |
	dataset.ColPlainConnectUS | dataset.ColSavedUS

func (c *collection) count(ctx context.Context) error {
	return dataset.NewScan(counted, c.dirs...).Run(ctx, func(b *dataset.Batch) error {
		probe := c.byProbe.of(b.Probe)
		times := c.saved[b.Probe]
		if times == nil {
			times = &saved{}
			c.saved[b.Probe] = times
		}
		for i := range b.Len {
			o, v := b.Outcome[i], b.Verdict[i]
			c.total.add(o, v)
			c.byClass[classOf(o, v)]++
			probe.add(o, v)
			t := target(b, i)
			for g := range c.groupings {
				if key := c.groupings[g].Key(t); key != "" {
					c.byGroup[g].of(key).add(o, v)
				}
			}
			if us := b.SavedUS[i]; us != dataset.Null && v == measure.Supported {
				times.add(us, b.PlainConnectUS[i])
				c.all.add(us, b.PlainConnectUS[i])
			}
		}
		return nil
	})
}

// target is a row's, whose name is good until the visit ends.
func target(b *dataset.Batch, i int) measure.Target {
	return measure.Target{Item: b.Item[i], Addr: b.Addr[i], Port: b.Port[i], Hostname: b.Hostname.At(i)}
}

// model is all but the table and the attempts.
func (c *collection) model() *Model {
	c.verdicts = c.total.occurring()
	m := &Model{
		Counts: c.total.counts(c.verdicts), Verdicts: []Verdict{}, Shares: []Shares{c.shares("probe", c.byProbe)}, Heat: []Heat{},
		Saved: c.curves(), Sizes: []Size{}, Mesh: []Pair{},
	}
	for _, v := range c.verdicts {
		n := c.total.verdicts[v]
		low, high := stat.Wilson(n, c.total.measured)
		m.Verdicts = append(m.Verdicts, Verdict{v.String(), meaning(v), v.Fault(), n, low, high})
	}
	for i, g := range c.groupings {
		if len(c.byGroup[i]) > 0 {
			m.Shares = append(m.Shares, c.shares(g.By, c.byGroup[i]))
		}
	}
	for _, s := range c.surveys {
		m.Surveys = append(m.Surveys, surveyOf(s))
	}
	m.Title = c.title()
	return m
}

func (c *collection) title() string {
	s := c.surveys[0]
	title := s.Name
	if title == "" {
		title = s.ID
	}
	if n := len(c.surveys) - 1; n > 0 {
		title += fmt.Sprintf(" and %s more", plural(n, "survey"))
	}
	return title
}

func surveyOf(s *dataset.Survey) Survey {
	r := Survey{
		ID: s.ID, Name: s.Name, State: string(s.State), Reason: s.Reason, Plan: s.Spec.Plan,
		Created: s.Created, Ended: s.Ended, Planned: s.Counts.Planned, Probes: []Probe{},
	}
	for _, p := range s.Probes {
		r.Probes = append(r.Probes, Probe{p.Name, p.Kernel, p.Version})
	}
	return r
}

func (c *collection) shares(by string, t tallies) Shares {
	keys, left := t.largest(barGroups)
	s := Shares{By: by, Groups: []Group{}, Left: left}
	for _, k := range keys {
		s.Groups = append(s.Groups, Group{k, t[k].counts(c.verdicts)})
	}
	return s
}

func (c *collection) curves() []Curve {
	out := []Curve{}
	if c.all.us.N() == 0 {
		return out
	}
	out = append(out, c.all.curve(""))
	probes, _ := c.byProbe.largest(curves)
	slices.Sort(probes)
	for _, p := range probes {
		if s := c.saved[p]; len(c.byProbe) > 1 && s.us.N() > 0 {
			out = append(out, s.curve(p))
		}
	}
	return out
}

func (s *saved) curve(probe string) Curve {
	c := Curve{Probe: probe, N: s.us.N(), Exact: s.us.Exact() && s.rtt.Exact(), US: quantiles(&s.us), RTT: quantiles(&s.rtt)}
	return c
}

func quantiles(d *stat.Distribution) []int64 {
	qs := []int64{}
	for i := 0; d.N() > 0 && i <= curveSteps; i++ {
		qs = append(qs, d.Quantile(float64(i)/curveSteps))
	}
	return qs
}
