package report

import (
	"cmp"
	"context"
	"slices"

	"tfofleet/internal/measure"
	"tfofleet/internal/report/aggregate"
	"tfofleet/internal/report/blame"
	"tfofleet/internal/report/stat"
)

// Query is what a summary is asked for.
type Query = aggregate.Query

// Aggregate sums up the dataset in dir. It may be that of a survey that still
// runs or was killed; one without a measurement gives a summary without one.
func Aggregate(dir string) (*Summary, error) {
	return Summarize(context.Background(), Query{}, dir)
}

// Summarize reads the measurements of several datasets and sums them up.
func Summarize(ctx context.Context, q Query, dirs ...string) (*Summary, error) {
	r, err := aggregate.Run(ctx, q, dirs...)
	if err != nil {
		return nil, err
	}
	s := &Summary{
		Surveys: r.Surveys, Counts: counts(&r.All), By: []Crossing{}, Saved: saved(&r.Saved),
		Targets: targetCounts(r), Conditions: []ConditionCount{},
	}
	for i, c := range r.Crossings {
		if i < 3 {
			*[]*[]Group{&s.ByProbe, &s.ByPort, &s.ByFamily}[i] = groups(c)
			continue
		}
		s.By = append(s.By, crossing(c))
	}
	for _, c := range r.Conditions {
		s.Conditions = append(s.Conditions, ConditionCount{string(c.Condition), c.Count, ratio(c.Count, s.Measured)})
	}
	s.Attention = attention(s, inconclusive(r.Conditions, s.Counts.Count(measure.Inconclusive.String())))
	return s, nil
}

func ratio(n, of uint64) float64 {
	if of == 0 {
		return 0
	}
	return float64(n) / float64(of)
}

func part(n, of uint64) Part {
	p := Part{Count: n, Share: ratio(n, of)}
	p.Low, p.High = stat.Wilson(n, of)
	return p
}

func counts(c *aggregate.Cell) Counts {
	out := Counts{
		Measurements: c.Measurements(), Measured: c.Measured(), Refused: c.Refused(), Interrupted: c.Interrupted(), Unknown: c.Unknown(),
		Verdicts: []Share{}, Fault: part(c.Faults(), c.Measured()), Transient: part(c.Transient(), c.Measured()),
	}
	for _, v := range append(measure.Verdicts(), 0) {
		if n := c.Verdict(v); n > 0 {
			out.Verdicts = append(out.Verdicts, Share{v.String(), part(n, out.Measured)})
		}
	}
	return out
}

func groups(c aggregate.Crossing) []Group {
	out := make([]Group, len(c.Groups))
	for i := range c.Groups {
		out[i] = Group{c.Groups[i].Keys[0], counts(&c.Groups[i].Cell)}
	}
	return out
}

func crossing(c aggregate.Crossing) Crossing {
	out := Crossing{Groups: make([]Crossed, len(c.Groups))}
	for _, k := range c.By {
		out.Keys = append(out.Keys, string(k))
	}
	for i := range c.Groups {
		out.Groups[i] = Crossed{c.Groups[i].Keys, counts(&c.Groups[i].Cell)}
	}
	return out
}

func saved(t *aggregate.Time) *Saved {
	d := &t.Saved
	if d.N() == 0 {
		return nil
	}
	return &Saved{
		N: d.N(), MedianUS: d.Quantile(0.5), P10US: d.Quantile(0.1), P90US: d.Quantile(0.9), Exact: d.Exact(),
		RTT: quantiles(&t.RTT, 1), Share: quantiles(&t.Share, 1000),
	}
}

func quantiles(d *stat.Distribution, unit float64) Quantiles {
	q := Quantiles{N: d.N()}
	if q.N > 0 {
		for i := range q.Tenths {
			q.Tenths[i] = float64(d.Quantile(float64(i)/10)) / unit
		}
	}
	return q
}

func targetCounts(r *aggregate.Result) Targets {
	t := Targets{N: r.Targets.N, Broken: []Broken{}, Examples: []Target{}}
	for _, s := range blame.Stabilities() {
		t.Stability = append(t.Stability, Named{s.String(), r.Targets.Stability(s)})
	}
	for _, s := range blame.Sides() {
		t.Blame = append(t.Blame, Named{s.String(), r.Targets.Blame(s)})
	}
	for _, b := range r.Targets.Broken {
		t.Broken = append(t.Broken, Broken{r.Vantages[b.Vantage], b.Verdict.String(), b.Others.String(), b.Count, b.Of, b.Low})
	}
	for i := range r.Targets.Examples {
		t.Examples = append(t.Examples, target(&r.Targets.Examples[i], r.Datasets))
	}
	return t
}

// target is a judged target; datasets are the names of the datasets.
func target(j *aggregate.Judged, datasets []string) Target {
	t := Target{
		Dataset: datasets[j.Dataset], Item: j.Item, Port: j.Port, Hostname: j.Hostname,
		Stability: j.Stability.String(), Blame: j.Blame.String(), Verdict: verdictName(j.Verdict), Seen: make([]Seen, len(j.Seen)),
	}
	if j.Addr.IsValid() {
		t.Address = j.Addr.String()
	}
	for i, o := range j.Seen {
		t.Seen[i] = Seen{Dataset: datasets[o.Dataset], Probe: o.Vantage, Verdict: verdictName(o.Verdict), Counts: o.Counts, Wrong: o.Wrong}
		if !o.Started.IsZero() {
			t.Seen[i].Started = &o.Started
		}
	}
	return t
}

func verdictName(v measure.Verdict) string {
	if v == 0 {
		return ""
	}
	return v.String()
}

// inconclusive is the conditions of n inconclusive targets, most first.
func inconclusive(all []aggregate.Condition, n uint64) []ConditionCount {
	var out []ConditionCount
	for _, c := range all {
		if c.Inconclusive > 0 {
			out = append(out, ConditionCount{string(c.Condition), c.Inconclusive, ratio(c.Inconclusive, n)})
		}
	}
	slices.SortStableFunc(out, func(a, b ConditionCount) int { return cmp.Compare(b.Count, a.Count) })
	return out
}
