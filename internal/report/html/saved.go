package html

import (
	"maps"
	"slices"

	"tfofleet/internal/report/stat"
)

const (
	curveSteps = 100 // of a distribution
	curves     = 8   // distributions beside that of all
)

// savings is the time saved at supported targets, by probe.
type savings struct {
	all, now *saved
	by       map[string]*saved
}

// saved is one distribution of it.
type saved struct{ us, rtt stat.Distribution }

func (s *savings) probe(name string) {
	s.now = s.by[name]
	if s.now == nil {
		s.now = &saved{}
		s.by[name] = s.now
	}
}

func (s *savings) add(us, rtt int64) {
	s.all.add(us, rtt)
	s.now.add(us, rtt)
}

func (s *saved) add(us, rtt int64) {
	s.us.Add(us)
	if rtt > 0 {
		s.rtt.Add(100 * us / rtt)
	}
}

// curves is that of all, and those of the probes with most of it.
func (s *savings) curves() []Curve {
	out := []Curve{}
	if s.all.us.N() == 0 {
		return out
	}
	out = append(out, s.all.curve(""))
	probes := slices.Sorted(maps.Keys(s.by))
	slices.SortStableFunc(probes, func(a, b string) int { return int(s.by[b].us.N()) - int(s.by[a].us.N()) })
	probes = probes[:min(len(probes), curves)]
	slices.Sort(probes)
	for _, p := range probes {
		if len(s.by) > 1 && s.by[p].us.N() > 0 {
			out = append(out, s.by[p].curve(p))
		}
	}
	return out
}

func (s *saved) curve(probe string) Curve {
	return Curve{Probe: probe, N: s.us.N(), Exact: s.us.Exact() && s.rtt.Exact(), US: quantiles(&s.us), RTT: quantiles(&s.rtt)}
}

func quantiles(d *stat.Distribution) []int64 {
	qs := []int64{}
	for i := 0; d.N() > 0 && i <= curveSteps; i++ {
		qs = append(qs, d.Quantile(float64(i)/curveSteps))
	}
	return qs
}
