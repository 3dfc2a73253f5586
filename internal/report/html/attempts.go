package html

import (
	"context"
	"encoding/json"
	"slices"

	"tfofleet/internal/dataset"
	"tfofleet/internal/measure"
	"tfofleet/internal/report/stat"
	"tfofleet/internal/tfo"
)

// blockSize is how many measurements a block holds: few enough to be unpacked
// at a keystroke, enough to be alike.
const blockSize = 64

// block is the evidence of measurements of one class, deflated.
type block struct {
	class class
	rows  []int // of the table
	data  []byte
}

// attempts is the third pass. Without sized attempts it reads only chunks that
// something is kept of.
func (c *collection) attempts(ctx context.Context, m *Model) error {
	p := packer{}
	sizes := sizes{}
	for dir, path := range c.dirs {
		survey := &c.surveys[dir]
		plan, err := measure.ParsePlan(survey.Spec.Plan)
		if err != nil {
			plan = measure.Standard // of a later version; the words are the same
		}
		keys, err := dataset.Chunks(path)
		if err != nil {
			return err
		}
		for _, key := range keys {
			if err := ctx.Err(); err != nil {
				return err
			}
			wanted := c.keep[chunk{dir, key}]
			if len(wanted) == 0 && plan != measure.Thorough {
				continue
			}
			if err := c.chunk(&p, sizes, plan, path, key, wanted); err != nil {
				return err
			}
		}
	}
	if err := p.flush(); err != nil {
		return err
	}
	m.evidence = p.blocks
	m.table = c.rows.table
	m.table.N = c.rows.n
	m.Sizes = sizes.done()
	return nil
}

func (c *collection) chunk(p *packer, sizes sizes, plan measure.Plan, dir string, key dataset.ChunkKey, wanted []kept) error {
	for r, err := range dataset.ReadChunk(dir, key) {
		if err != nil {
			return err
		}
		if plan == measure.Thorough {
			sizes.add(r.Attempts)
		}
		// Both come in the order written.
		if len(wanted) == 0 || wanted[0].item != r.Item {
			continue
		}
		if err := p.add(wanted[0], EvidenceOf(plan, r.Probe, &r.Measurement)); err != nil {
			return err
		}
		wanted = wanted[1:]
	}
	return nil
}

// packer makes blocks.
type packer struct {
	open   [classes][]Evidence
	rows   [classes][]int
	blocks []block
}

func (p *packer) add(k kept, e Evidence) error {
	p.open[k.class], p.rows[k.class] = append(p.open[k.class], e), append(p.rows[k.class], k.row)
	if len(p.open[k.class]) < blockSize {
		return nil
	}
	return p.close(k.class)
}

func (p *packer) close(c class) error {
	raw, err := json.Marshal(p.open[c])
	if err != nil {
		return err
	}
	data, err := deflate(raw)
	if err != nil {
		return err
	}
	p.blocks = append(p.blocks, block{c, p.rows[c], data})
	p.open[c], p.rows[c] = nil, nil
	return nil
}

func (p *packer) flush() error {
	for c := range classes {
		if len(p.open[c]) > 0 {
			if err := p.close(c); err != nil {
				return err
			}
		}
	}
	// The first to go is last.
	slices.SortStableFunc(p.blocks, func(a, b block) int { return int(a.class) - int(b.class) })
	return nil
}

// sizes counts measurements by the data that their SYNs carried.
type sizes map[int]*Size

// fate is what became of the data of SYNs of one size; a measurement has the
// best of its attempts. What looks like a fault is tried more often, so attempts
// would count the worst targets most, and what got through once can.
type fate uint8

const (
	lost fate = iota + 1
	none
	part
	whole
)

func fateOf(ev *tfo.Evidence) fate {
	switch {
	case !ev.End.Established() || ev.SynRetransmits > 0 && ev.SynAcked <= 0:
		return lost
	case ev.SynAcked >= ev.SynBytes:
		return whole
	case ev.SynAcked > 0:
		return part
	}
	return none
}

// add counts a measurement, once for each size it has tried.
func (s sizes) add(attempts []tfo.Evidence) {
	best := map[int]fate{}
	for i := range attempts {
		ev := &attempts[i]
		if ev.Kind != tfo.KindSized || ev.SynBytes == 0 || ev.End == tfo.EndLocal || ev.End == tfo.EndInterrupted {
			continue
		}
		best[ev.SynBytes] = max(best[ev.SynBytes], fateOf(ev))
	}
	for size, f := range best {
		p := s[size]
		if p == nil {
			p = &Size{From: size, To: size}
			s[size] = p
		}
		p.N++
		switch f {
		case lost:
			p.Lost++
		case none:
			p.None++
		case part:
			p.Part++
		case whole:
			p.Acked++
		}
	}
}

// done is the sizes in order; those that the kernel chose, which differ from
// path to path by the MSS, are together where they are close.
func (s sizes) done() []Size {
	all := make([]Size, 0, len(s))
	for _, p := range s {
		all = append(all, *p)
	}
	slices.SortFunc(all, func(a, b Size) int { return a.From - b.From })
	out := []Size{}
	for _, p := range all {
		if n := len(out); n > 0 && p.To-out[n-1].From < out[n-1].From/8 {
			last := &out[n-1]
			last.To = p.To
			last.N, last.Acked, last.Part, last.None, last.Lost = last.N+p.N, last.Acked+p.Acked, last.Part+p.Part, last.None+p.None, last.Lost+p.Lost
			continue
		}
		out = append(out, p)
	}
	for i := range out {
		out[i].Low, out[i].High = stat.Wilson(out[i].Acked, out[i].N)
	}
	return out
}
