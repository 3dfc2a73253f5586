package store

import (
	"context"
	"time"

	"tfofleet/internal/identity"
)

// sqliteIdentity is who may do what, beside the rest in SQLite's file.
type sqliteIdentity struct{ s *SQLite }

// Identity is the identity store in the same file.
func (s *SQLite) Identity() identity.Store { return sqliteIdentity{s} }

// View implements identity.Store.
func (i sqliteIdentity) View(ctx context.Context, do func(identity.Reader) error) error {
	return i.call(ctx, func(t *tx) error { return do(i.begin(t)) })
}

// Update implements identity.Store. It shares a transaction with other calls,
// and takes back its own part alone.
func (i sqliteIdentity) Update(ctx context.Context, do func(identity.Tx) error) error {
	return i.call(ctx, func(t *tx) error {
		t.exec("SAVEPOINT identity")
		err := do(i.begin(t))
		if err != nil {
			t.exec("ROLLBACK TO identity")
		}
		t.exec("RELEASE identity")
		return err
	})
}

func (i sqliteIdentity) begin(t *tx) identityTx {
	return identityTx{sqliteRecords{t}, t.now.UTC().Truncate(time.Microsecond)}
}

// call is SQLite.call, and returns only when do will not be run any more: it
// writes to what is its caller's.
func (i sqliteIdentity) call(ctx context.Context, do func(*tx) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r := &request{do: do, done: make(chan error, 1)}
	select {
	case i.s.requests <- r:
		return <-r.done
	case <-ctx.Done():
		return ctx.Err()
	case <-i.s.closing:
		return errClosed
	}
}

// sqliteRecords is the records of a transaction.
type sqliteRecords struct{ t *tx }

func (r sqliteRecords) exec(query string, args ...any) error {
	r.t.exec(query, args...)
	return r.t.err
}

func (r sqliteRecords) each(query string, args []any, row func(func(...any) error) error) (err error) {
	r.t.each(query, args, func(scan func(...any)) {
		if err == nil {
			err = row(func(dest ...any) error {
				scan(dest...)
				return r.t.err
			})
		}
	})
	if r.t.err != nil {
		return r.t.err
	}
	return err
}
