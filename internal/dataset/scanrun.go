package dataset

import (
	"context"
	"io"

	"tfofleet/internal/dataset/place"
	"tfofleet/internal/measure"
)

// run reads one dataset.
func (s *Scan) run(ctx context.Context, n int, dir string, visit []func(*Batch) error) error {
	p, err := place.At(dir)
	if err != nil {
		return err
	}
	keys, err := chunks(p)
	if err != nil {
		return err
	}
	var b Batch
	for i, k := range keys {
		if err := ctx.Err(); err != nil {
			return err
		}
		b.reset()
		b.ChunkKey, b.Dir, b.Last = k, n, i == len(keys)-1 || keys[i+1].Chunk != k.Chunk || keys[i+1].Survey != k.Survey
		if err := s.read(p, k, &b); err != nil {
			return err
		}
		if err := visit[0](&b); err != nil {
			return err
		}
	}
	return nil
}

func (s *Scan) read(p place.Place, k ChunkKey, b *Batch) error {
	t, err := openTable[measurementRow](p, k.measurements())
	if err != nil {
		return err
	}
	defer t.Close()
	for {
		r, err := t.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		m, err := r.measurement()
		if err != nil {
			return t.wrap(err)
		}
		s.add(b, r, &m)
	}
}

func (s *Scan) add(b *Batch, r *measurementRow, m *measure.Measurement) {
	null := func(p *int64) int64 { return or(p, Null) }
	b.Len++
	for c := Columns(1); c < AllColumns; c <<= 1 {
		switch c & s.columns {
		case ColItem:
			b.Item = append(b.Item, m.Item)
		case ColAddr:
			b.Addr = append(b.Addr, m.Addr)
		case ColPort:
			b.Port = append(b.Port, m.Port)
		case ColHostname:
			b.Hostname.data = append(b.Hostname.data, m.Hostname...)
			b.Hostname.ends = append(b.Hostname.ends, uint32(len(b.Hostname.data)))
		case ColFamily:
			b.Family = append(b.Family, uint8(r.Family))
		case ColOutcome:
			b.Outcome = append(b.Outcome, m.Outcome)
		case ColVerdict:
			b.Verdict = append(b.Verdict, m.Verdict)
		case ColConditions:
			for _, c := range m.Conditions {
				b.Conditions.ids = append(b.Conditions.ids, s.labels.id(string(c)))
			}
			b.Conditions.ends = append(b.Conditions.ends, uint32(len(b.Conditions.ids)))
		case ColStarted:
			b.Started = append(b.Started, null(r.Started))
		case ColDurationUS:
			b.DurationUS = append(b.DurationUS, r.DurationUS)
		case ColAttempts:
			b.Attempts = append(b.Attempts, r.Attempts)
		case ColPlainConnectUS:
			b.PlainConnectUS = append(b.PlainConnectUS, null(r.PlainConnectUS))
		case ColPlainFirstByteUS:
			b.PlainFirstByteUS = append(b.PlainFirstByteUS, null(r.PlainFirstByteUS))
		case ColTFOFirstByteUS:
			b.TFOFirstByteUS = append(b.TFOFirstByteUS, null(r.TFOFirstByteUS))
		case ColSavedUS:
			b.SavedUS = append(b.SavedUS, null(r.SavedUS))
		}
	}
}
