package store

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"tfofleet/internal/identity"
)

// postgresIdentity is who may do what, beside the rest in PostgreSQL.
type postgresIdentity struct{ p *Postgres }

// Identity is the identity store in the same database.
func (p *Postgres) Identity() identity.Store { return postgresIdentity{p} }

// View implements identity.Store.
func (i postgresIdentity) View(ctx context.Context, do func(identity.Reader) error) error {
	return i.p.transact(ctx, reading, func(ctx context.Context, q pgConn) error {
		t, err := i.begin(ctx, q)
		if err != nil {
			return err
		}
		return do(t)
	})
}

// Update implements identity.Store. Updates of all controllers come one after
// the other, by a lock: they are few, and a flood of enrolments must not end in
// all of them being repeated for each other, as it would with the database's
// own serializable transactions.
func (i postgresIdentity) Update(ctx context.Context, do func(identity.Tx) error) error {
	select { // one connection of this controller waits for the lock, not all
	case i.p.enrolling <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-i.p.enrolling }()
	return i.p.transact(ctx, writing, func(ctx context.Context, q pgConn) error {
		if q.doubt {
			return errDoubt // do need not find out that it was run before
		}
		if _, err := q.Exec(ctx, `SELECT pg_advisory_xact_lock($1)`, int64(lockIdentity)); err != nil {
			return err
		}
		t, err := i.begin(ctx, q)
		if err != nil {
			return err
		}
		return do(t)
	})
}

func (i postgresIdentity) begin(ctx context.Context, q pgConn) (identityTx, error) {
	var at time.Time
	err := q.QueryRow(ctx, `SELECT `+now, i.p.clock()).Scan(&at)
	return identityTx{postgresRecords{ctx, q}, at.UTC().Truncate(time.Microsecond)}, err
}

// postgresRecords is the records of a transaction.
type postgresRecords struct {
	ctx context.Context // of the transaction
	q   pgConn
}

func (r postgresRecords) exec(query string, args ...any) error {
	_, err := r.q.Exec(r.ctx, query, args...)
	return err
}

func (r postgresRecords) each(query string, args []any, row func(func(...any) error) error) error {
	rows, err := r.q.Query(r.ctx, query, args...)
	if err != nil {
		return err
	}
	_, err = pgx.CollectRows(rows, func(rows pgx.CollectableRow) (struct{}, error) { return struct{}{}, row(rows.Scan) })
	return err
}
