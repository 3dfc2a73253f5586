package store

import (
	"context"
	"slices"

	"tfofleet/internal/lease"
)

// Late implements Store.
func (p *Postgres) Late(ctx context.Context) ([]Key, error) {
	return p.keys(ctx, `written AND id IN (SELECT chunk FROM batch WHERE late > 1)`)
}

// LateBatches implements Store.
func (p *Postgres) LateBatches(ctx context.Context, k Key) (c Chunk, n uint32, bs []Batch, err error) {
	err = p.transact(ctx, writing, func(ctx context.Context, q pgConn) error {
		// Batches come, and are taken, under the lock of their chunk.
		r, err := newChunkTx().one(ctx, q, k, "FOR UPDATE")
		if err != nil {
			return err
		}
		if r.written {
			if _, err := q.Exec(ctx, takeLate, r.id); err != nil {
				return err
			}
		}
		c, n = r.Chunk, r.late+1
		bs, err = batches(ctx, q, &r.row, `late = 3`)
		return err
	})
	return c, n, bs, err
}

// LateWritten implements Store.
func (p *Postgres) LateWritten(ctx context.Context, k Key, n uint32, items []lease.Item) error {
	return p.transact(ctx, writing, func(ctx context.Context, q pgConn) error {
		t := newChunkTx()
		r, err := t.one(ctx, q, k, "FOR UPDATE")
		if err != nil {
			return err
		}
		if ok, err := r.takesLate(n, items); !ok {
			return err
		}
		next := r.State
		next.Items = slices.Clone(items)
		t.set(r, next)
		return t.save(ctx, q)
	})
}

// LateDone implements Store.
func (p *Postgres) LateDone(ctx context.Context, k Key, n uint32) error {
	return p.transact(ctx, writing, func(ctx context.Context, q pgConn) error {
		r, err := newChunkTx().one(ctx, q, k, "FOR UPDATE")
		if err != nil || r.late >= n {
			return err
		}
		if _, err := q.Exec(ctx, `UPDATE chunk SET late = $2 WHERE id = $1`, r.id, n); err != nil {
			return err
		}
		_, err = q.Exec(ctx, `DELETE FROM batch WHERE chunk = $1 AND late = 3`, r.id)
		return err
	})
}
