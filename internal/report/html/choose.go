package html

import (
	"context"
	"strings"

	"tfofleet/internal/dataset"
	"tfofleet/internal/measure"
	"tfofleet/internal/report/aggregate"
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

const chosen = dataset.ColItem | dataset.ColAddr | dataset.ColPort | dataset.ColHostname | dataset.ColOutcome | dataset.ColVerdict |
	dataset.ColPlainConnectUS | dataset.ColSavedUS | dataset.ColConditions | dataset.ColAttempts

// choose is the second pass: the rows of the table, and the distributions of
// the time saved.
func (c *collection) choose(ctx context.Context, m *Model) error {
	inTable := share(c.byClass, uint64(c.Rows), [classes]uint64{})
	full := share(c.byClass, uint64(c.Rows), [classes]uint64{offline: uint64(c.Sample), nothing: uint64(c.Sample)})
	for k, name := range classNames {
		m.Kept.Class = append(m.Kept.Class, Portion{Name: name, Of: c.byClass[k]})
		m.Kept.Of += c.byClass[k]
	}
	c.keep = map[chunk][]kept{}
	c.rows = newRows(c)
	vantage, err := aggregate.Namer(c.dirs...)
	if err != nil {
		return err
	}
	times := savings{all: &saved{}, by: map[string]*saved{}}
	scan := dataset.NewScan(chosen, c.dirs...)
	err = scan.Run(ctx, func(b *dataset.Batch) error {
		key, probe := chunk{b.Dir, b.ChunkKey}, vantage(b.Dir, b.Probe)
		times.probe(probe)
		for i := range b.Len {
			if us := b.SavedUS[i]; us != dataset.Null && b.Verdict[i] == measure.Supported {
				times.add(us, b.PlainConnectUS[i])
			}
			t := measure.Target{Item: b.Item[i], Addr: b.Addr[i], Port: b.Port[i]}
			k := classOf(b.Outcome[i], b.Verdict[i])
			if !inTable.takes(k, key.Survey, t.Item) {
				continue
			}
			m.Kept.Class[k].Rows++
			if b.Attempts[i] > 0 && full.takes(k, key.Survey, t.Item) {
				c.keep[key] = append(c.keep[key], kept{t.Item, c.rows.n, k})
			}
			t.Hostname = strings.Clone(b.Hostname.At(i))
			c.rows.add(scan, b, i, t, probe)
		}
		if b.Last {
			c.rows.endOfTargets()
		}
		return nil
	})
	m.Kept.Rows = uint64(c.rows.n)
	m.Saved = times.curves()
	return err
}
