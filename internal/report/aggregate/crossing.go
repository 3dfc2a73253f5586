package aggregate

import (
	"cmp"
	"slices"

	"tfofleet/internal/dataset"
)

// maxKeys is how many properties can be crossed.
const maxKeys = 2

// Crossing is the groups by one property, or by two that are crossed.
type Crossing struct {
	By     By
	Groups []Group // largest first, equal ones by key
}

// Group is the measurements that share the properties.
type Group struct {
	Keys []string // as many as there are properties
	Cell
}

// codes are those of the properties of a group.
type codes [maxKeys]uint64

// crossing counts for one worker.
type crossing struct {
	dims  []int // numbers of the worker's dimensions
	cells map[codes]*Cell
	// few is the same cells by code, for one property with small codes: ports
	// and ASes come in no order, and a map would be asked for each row.
	few []*Cell
}

// smallCode is beyond every AS that is announced but the private ones of 32 bits.
const smallCode = 1 << 19

func (c *crossing) cell(k codes) *Cell {
	if len(c.dims) == 1 && k[0] < smallCode {
		if n := int(k[0]) + 1 - len(c.few); n > 0 {
			c.few = append(c.few, make([]*Cell, n)...)
		}
		if c.few[k[0]] == nil {
			c.few[k[0]] = c.find(k)
		}
		return c.few[k[0]]
	}
	return c.find(k)
}

func (c *crossing) find(k codes) *Cell {
	cell := c.cells[k]
	if cell == nil {
		cell = new(Cell)
		c.cells[k] = cell
	}
	return cell
}

// add counts the rows of a batch, whose codes are in columns.
func (c *crossing) add(w *worker, b *dataset.Batch) {
	var fixed codes
	var moving [maxKeys][]uint64
	n := 0
	for i, d := range c.dims {
		if of := w.dims[d].of; of != nil {
			fixed[i] = of(b)
			continue
		}
		moving[i] = w.codes[d]
		n++
	}
	if n == 0 {
		cell := c.cell(fixed)
		for _, s := range w.slots {
			cell.add(s)
		}
		return
	}
	// Neighbours often are of one group.
	k := fixed
	var cell *Cell
	for row, s := range w.slots {
		next := fixed
		for i, m := range moving {
			if m != nil {
				next[i] = m[row]
			}
		}
		if cell == nil || next != k {
			k = next
			cell = c.cell(k)
		}
		cell.add(s)
	}
}

func (c *crossing) merge(d *crossing) {
	for k, cell := range d.cells {
		if own := c.cells[k]; own != nil {
			own.merge(cell)
			continue
		}
		c.cells[k] = cell
	}
}

// groups names the cells.
func (c *crossing) groups(by By, dims []*dimension) Crossing {
	type coded struct {
		codes
		*Group
	}
	all := make([]coded, 0, len(c.cells))
	groups := make([]Group, len(c.cells))
	for k, cell := range c.cells {
		g := &groups[len(all)]
		g.Cell = *cell
		for i, d := range c.dims {
			g.Keys = append(g.Keys, dims[d].name(k[i]))
		}
		all = append(all, coded{k, g})
	}
	slices.SortFunc(all, func(a, b coded) int {
		if order := cmp.Compare(b.Measurements(), a.Measurements()); order != 0 {
			return order
		}
		for i, d := range c.dims {
			order := cmp.Compare(a.codes[i], b.codes[i])
			if dims[d].byName {
				order = cmp.Compare(a.Keys[i], b.Keys[i])
			}
			if order != 0 {
				return order
			}
		}
		return 0
	})
	out := Crossing{By: by, Groups: make([]Group, len(all))}
	for i, a := range all {
		out.Groups[i] = *a.Group
	}
	return out
}
