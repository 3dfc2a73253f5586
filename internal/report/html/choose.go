package html

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"tfofleet/internal/dataset"
	"tfofleet/internal/measure"
)

// chunk is a chunk of one of the datasets.
type chunk struct {
	dir int
	dataset.ChunkKey
}

// kept is a measurement whose attempts are kept.
type kept struct {
	item  uint64
	row   int // of the table
	class class
}

const chosen = counted | dataset.ColConditions | dataset.ColAttempts

// choose is the second pass: the rows of the table, and the heat maps of the
// groups that turned out to be the largest.
func (c *collection) choose(ctx context.Context, m *Model) error {
	inTable := share(c.byClass, uint64(c.Rows), [classes]uint64{})
	full := share(c.byClass, uint64(c.Rows), [classes]uint64{offline: uint64(c.Sample), nothing: uint64(c.Sample)})
	for k, name := range classNames {
		m.Kept.Class = append(m.Kept.Class, Portion{Name: name, Of: c.byClass[k]})
	}
	m.Kept.Of = c.total.all
	c.keep = map[chunk][]kept{}
	c.rows = newRows(c)
	heat := c.newHeat()
	scan := dataset.NewScan(chosen, c.dirs...)
	err := scan.Run(ctx, func(b *dataset.Batch) error {
		key := chunk{b.Dir, b.ChunkKey}
		heat.probe(key.Probe)
		for i := range b.Len {
			t := target(b, i)
			heat.add(t, b.Outcome[i], b.Verdict[i])
			k := classOf(b.Outcome[i], b.Verdict[i])
			if !inTable.takes(k, key.Survey, t.Item) {
				continue
			}
			m.Kept.Class[k].Rows++
			if b.Attempts[i] > 0 && full.takes(k, key.Survey, t.Item) {
				c.keep[key] = append(c.keep[key], kept{t.Item, c.rows.n, k})
			}
			t.Hostname = strings.Clone(t.Hostname)
			c.rows.add(scan, b, i, t)
		}
		if b.Last {
			c.rows.endOfTargets()
		}
		return nil
	})
	m.Kept.Rows = uint64(c.rows.n)
	m.Heat = heat.done(c.verdicts)
	return err
}

// heat counts probes against groups of targets.
type heat struct {
	groupings []Grouping
	maps      []Heat
	columns   []map[string]int
	cells     [][]tally
	rows      map[string]int
	row       int // of the probe at hand, -1 without
}

// newHeat has the largest groups of each property that has several, by name.
func (c *collection) newHeat() *heat {
	h := &heat{rows: map[string]int{}}
	probes, _ := c.byProbe.largest(heatProbes)
	slices.Sort(probes)
	for i, p := range probes {
		h.rows[p] = i
	}
	for i, g := range c.groupings {
		keys, left := c.byGroup[i].largest(heatGroups)
		if len(keys) == 0 {
			continue
		}
		slices.SortFunc(keys, func(a, b string) int { return cmp.Compare(c.byGroup[i][b].all, c.byGroup[i][a].all) })
		columns := map[string]int{}
		for n, k := range keys {
			columns[k] = n
		}
		h.groupings = append(h.groupings, g)
		h.maps = append(h.maps, Heat{By: g.By, Probes: probes, Groups: keys, Left: left})
		h.columns = append(h.columns, columns)
		h.cells = append(h.cells, make([]tally, len(probes)*len(keys)))
	}
	return h
}

func (h *heat) probe(name string) {
	h.row = -1
	if r, ok := h.rows[name]; ok {
		h.row = r
	}
}

func (h *heat) add(t measure.Target, o measure.Outcome, v measure.Verdict) {
	if h.row < 0 {
		return
	}
	for i := range h.groupings {
		if col, ok := h.columns[i][h.groupings[i].Key(t)]; ok {
			h.cells[i][h.row*len(h.columns[i])+col].add(o, v)
		}
	}
}

func (h *heat) done(verdicts []measure.Verdict) []Heat {
	out := []Heat{}
	for i := range h.maps {
		for k := range h.cells[i] {
			h.maps[i].Cells = append(h.maps[i].Cells, h.cells[i][k].counts(verdicts))
		}
		out = append(out, h.maps[i])
	}
	return out
}
