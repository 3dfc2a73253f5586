package report

import (
	"strconv"

	"tfofleet/internal/dataset"
	"tfofleet/internal/measure"
	"tfofleet/internal/report/stat"
)

// Aggregate reads the measurements of the dataset in dir and sums them up. The
// dataset may be that of a survey that still runs or was killed; one without a
// measurement gives a summary without one.
func Aggregate(dir string) (*Summary, error) {
	survey, err := dataset.ReadSurvey(dir)
	if err != nil {
		return nil, err
	}
	a := newAggregate()
	for r, err := range dataset.Rows(dir) {
		if err != nil {
			return nil, err
		}
		a.add(&r)
	}
	return a.summary(survey), nil
}

// aggregate is the state of one pass. Its size depends on the number of
// probes, ports and conditions, not of targets.
type aggregate struct {
	all      tally
	byProbe  tallies[string]
	byPort   tallies[uint16]
	byFamily tallies[int]
	saved    stat.Distribution // of supported targets, µs
	// conditions of all measured, and of those that are inconclusive
	conditions, inconclusive conditions
}

func newAggregate() *aggregate {
	return &aggregate{
		byProbe: tallies[string]{}, byPort: tallies[uint16]{}, byFamily: tallies[int]{},
		conditions: conditions{}, inconclusive: conditions{},
	}
}

func (a *aggregate) add(r *dataset.Row) {
	a.all.add(r)
	a.byProbe.add(r.Probe, r)
	a.byPort.add(r.Port, r)
	a.byFamily.add(r.Family, r)
	if r.Outcome != measure.OutcomeMeasured {
		return
	}
	a.conditions.add(r)
	switch r.Verdict {
	case measure.Inconclusive:
		a.inconclusive.add(r)
	case measure.Supported:
		if r.SavedUS != nil {
			a.saved.Add(*r.SavedUS)
		}
	}
}

func (a *aggregate) summary(survey *dataset.Survey) *Summary {
	s := &Summary{
		Survey:     *survey,
		Counts:     a.all.counts(),
		ByProbe:    a.byProbe.groups(func(probe string) string { return probe }),
		ByPort:     a.byPort.groups(func(port uint16) string { return strconv.Itoa(int(port)) }),
		ByFamily:   a.byFamily.groups(familyKey),
		Conditions: a.conditions.top(a.all.measured()),
	}
	if d := &a.saved; d.N() > 0 {
		s.Saved = &Saved{N: d.N(), MedianUS: d.Quantile(0.5), P10US: d.Quantile(0.1), P90US: d.Quantile(0.9), Exact: d.Exact()}
	}
	s.Attention = attention(s, a.inconclusive)
	return s
}

func familyKey(family int) string {
	switch family {
	case 4:
		return "ipv4"
	case 6:
		return "ipv6"
	}
	return "none"
}
