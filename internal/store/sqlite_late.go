package store

import (
	"context"
	"slices"

	"tfofleet/internal/lease"
)

// Late implements Store.
func (s *SQLite) Late(ctx context.Context) ([]Key, error) {
	return ask(ctx, s, func(t *tx) ([]Key, error) {
		return t.keys(`written = 1 AND id IN (SELECT chunk FROM batch WHERE late > 1)`), nil
	})
}

// LateBatches implements Store.
func (s *SQLite) LateBatches(ctx context.Context, k Key) (Chunk, uint32, []Batch, error) {
	type kept struct {
		c  Chunk
		n  uint32
		bs []Batch
	}
	all, err := ask(ctx, s, func(t *tx) (kept, error) {
		r, err := t.chunk(k)
		if err != nil {
			return kept{}, err
		}
		if r.written {
			t.exec(takeLate, r.id)
		}
		return kept{r.Chunk, r.late + 1, t.batches(r, `late = 3`)}, nil
	})
	return all.c, all.n, all.bs, err
}

// takeLate makes what came late that of the next late file, unless one is being
// written. Both databases understand it.
const takeLate = `UPDATE batch SET late = 3 WHERE chunk = $1 AND late = 2 AND NOT EXISTS (SELECT 1 FROM batch WHERE chunk = $1 AND late = 3)`

// LateWritten implements Store.
func (s *SQLite) LateWritten(ctx context.Context, k Key, n uint32, items []lease.Item) error {
	return s.call(ctx, func(t *tx) error {
		r, err := t.chunk(k)
		if err != nil {
			return err
		}
		if ok, err := r.takesLate(n, items); !ok {
			return err
		}
		next := r.State
		next.Items = slices.Clone(items)
		t.set(r, next)
		return nil
	})
}

// LateDone implements Store.
func (s *SQLite) LateDone(ctx context.Context, k Key, n uint32) error {
	return s.call(ctx, func(t *tx) error {
		r, err := t.chunk(k)
		if err != nil || r.late >= n {
			return err
		}
		r.late = n
		t.exec(`UPDATE chunk SET late = ? WHERE id = ?`, n, r.id)
		t.exec(`DELETE FROM batch WHERE chunk = ? AND late = 3`, r.id)
		return nil
	})
}
