package html

import (
	"slices"
	"strings"

	"tfofleet/internal/report"
	"tfofleet/internal/report/aggregate"
)

// query asks for what is drawn: the groups that were asked for, name suffixes,
// AS and country where they are known, and probes against each of these.
func (c *collection) query() report.Query {
	q := c.Query
	keys := []aggregate.Key{aggregate.KeySuffix, aggregate.KeyKernel}
	knows := q.Origin.Knows()
	if knows.AS {
		keys = append(keys, aggregate.KeyAS)
	}
	if knows.Country {
		keys = append(keys, aggregate.KeyCountry)
	}
	by := []aggregate.By{}
	add := func(b aggregate.By) {
		if !slices.ContainsFunc(by, func(o aggregate.By) bool { return slices.Equal(o, b) }) {
			by = append(by, b)
		}
	}
	for _, k := range keys {
		add(aggregate.By{k})
	}
	add(aggregate.By{aggregate.KeyProbe, aggregate.KeyPort})
	for _, k := range keys {
		if k != aggregate.KeyKernel {
			add(aggregate.By{aggregate.KeyProbe, k})
		}
	}
	for _, b := range c.Query.By {
		if !slices.Equal(b, aggregate.By{aggregate.KeyProbe}) && !slices.Equal(b, aggregate.By{aggregate.KeyPort}) && !slices.Equal(b, aggregate.By{aggregate.KeyFamily}) {
			add(b)
		}
	}
	q.By = by
	return q
}

// titles of properties, where they are not their names.
var titles = map[string]string{"as": "AS", "suffix": "name suffix", "family": "IP version", "dataset": "survey", "kernel": "probe's kernel"}

func title(keys []string) string {
	words := make([]string, len(keys))
	for i, k := range keys {
		words[i] = k
		if t, ok := titles[k]; ok {
			words[i] = t
		}
	}
	return strings.Join(words, " and ")
}

// shares are the bars: one property each, or two as they were asked for.
func (c *collection) shares(s *report.Summary) []Shares {
	out := []Shares{c.bars("probe", s.ByProbe), c.bars("port", s.ByPort)}
	if len(s.ByFamily) > 1 {
		out = append(out, c.bars(titles["family"], s.ByFamily))
	}
	for _, x := range s.By {
		if slices.Contains(x.Keys, "probe") && len(x.Keys) > 1 {
			continue // a heat map
		}
		if len(x.Groups) < 2 && !c.asked(x.Keys) {
			continue // one bar, which is that of all
		}
		groups := make([]report.Group, len(x.Groups))
		for i, g := range x.Groups {
			groups[i] = report.Group{Key: strings.Join(g.Values, " · "), Counts: g.Counts}
		}
		out = append(out, c.bars(title(x.Keys), groups))
	}
	return out
}

// asked reports whether groups were asked for, rather than drawn because they
// are of use to most.
func (c *collection) asked(keys []string) bool {
	return slices.ContainsFunc(c.Query.By, func(b aggregate.By) bool { return b.String() == strings.Join(keys, ",") })
}

func (c *collection) bars(by string, groups []report.Group) Shares {
	n := min(len(groups), barGroups)
	s := Shares{By: by, Groups: []Group{}, Left: len(groups) - n}
	for i := range groups[:n] {
		s.Groups = append(s.Groups, Group{groups[i].Key, c.counts(&groups[i].Counts), groups[i].Fault})
	}
	return s
}

// heat is probes against every other property that is crossed with them.
func (c *collection) heat(s *report.Summary) []Heat {
	probes := []string{}
	for i, g := range s.ByProbe {
		if i < heatProbes {
			probes = append(probes, g.Key)
		}
	}
	slices.Sort(probes)
	out := []Heat{}
	for _, x := range s.By {
		probe := slices.Index(x.Keys, "probe")
		if len(x.Keys) != 2 || probe < 0 {
			continue
		}
		other := 1 - probe
		h := Heat{By: title(x.Keys[other : other+1]), Probes: probes}
		h.Groups, h.Left = largest(x, other)
		h.Cells = make([]Counts, len(probes)*len(h.Groups))
		for i := range h.Cells {
			h.Cells[i].By = make([]uint64, len(c.verdicts))
		}
		for i := range x.Groups {
			g := &x.Groups[i]
			row, col := slices.Index(probes, g.Values[probe]), slices.Index(h.Groups, g.Values[other])
			if row >= 0 && col >= 0 {
				h.Cells[row*len(h.Groups)+col] = c.counts(&g.Counts)
			}
		}
		out = append(out, h)
	}
	return out
}

// largest is the groups of one of two crossed properties that most measurements
// are in, the largest first, and how many are left.
func largest(x report.Crossing, key int) (names []string, left int) {
	sums := map[string]uint64{}
	names = []string{}
	for i := range x.Groups {
		v := x.Groups[i].Values[key]
		if _, ok := sums[v]; !ok {
			names = append(names, v)
		}
		sums[v] += x.Groups[i].Measurements
	}
	slices.SortStableFunc(names, func(a, b string) int {
		switch {
		case sums[a] > sums[b]:
			return -1
		case sums[a] < sums[b]:
			return 1
		}
		return strings.Compare(a, b)
	})
	n := min(len(names), heatGroups)
	return names[:n], len(names) - n
}
