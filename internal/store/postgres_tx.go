package store

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// querier is a connection or a pool of them.
type querier interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// How a transaction begins.
const (
	// single: there is none, for one statement is one anyway.
	single = ""
	// writing: each statement sees what was committed before it, so that one
	// which comes after a lock sees what the lock was waited for. That is the
	// server's default, which can be changed.
	writing = "BEGIN ISOLATION LEVEL READ COMMITTED"
	// reading: all statements see the same.
	reading = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
)

// errDoubt: the connection broke while a commit was waited for. It may be that
// all is stored, or nothing.
var errDoubt = errors.New("whether it was stored is not known")

// maxTries is enough for controllers that are in each other's way, and for
// connections that broke because the server was started again. The rests before
// a repetition add up to one to two seconds.
const maxTries = 8

// transact runs do in a transaction, again if it met another one or lost its
// connection. An error of do itself is returned as it is.
//
// After a commit whose answer was lost, do is run again as well: a call that
// was stored finds that, and changes nothing.
func (p *Postgres) transact(ctx context.Context, begin string, do func(ctx context.Context, q pgConn) error) error {
	patient, cancel := context.WithTimeout(ctx, p.patience)
	defer cancel()
	err := p.tries(patient, begin, do)
	if err != nil && patient.Err() != nil && ctx.Err() == nil {
		return fmt.Errorf("the database did not answer for %v: %v", p.patience, err) // the deadline is not the caller's
	}
	return postgresError(err)
}

func (p *Postgres) tries(ctx context.Context, begin string, do func(context.Context, pgConn) error) error {
	var doubt bool
	for try := 1; ; try++ {
		again, err := p.try(ctx, begin, doubt, do)
		if err == nil || !again || try == maxTries {
			return err
		}
		doubt = doubt || errors.Is(err, errDoubt)
		select {
		case <-time.After(rand.N(10 * time.Millisecond << try)):
		case <-ctx.Done():
			return err
		}
	}
}

// pgConn is the connection of a transaction.
type pgConn struct {
	*pgx.Conn
	// doubt: an earlier run may have been committed.
	doubt bool
}

// try is one run. Again says whether another one may end otherwise.
func (p *Postgres) try(ctx context.Context, begin string, doubt bool, do func(context.Context, pgConn) error) (again bool, err error) {
	c, err := p.pool.Acquire(ctx)
	if err != nil {
		var refused *pgconn.PgError
		return transient(err) || !errors.As(err, &refused), err
	}
	defer c.Release() // one in a transaction is closed
	conn := pgConn{c.Conn(), doubt}
	if begin != single {
		_, err = conn.Exec(ctx, begin)
	}
	if err == nil {
		err = do(ctx, conn)
	}
	if err != nil {
		if conn.IsClosed() {
			return true, err
		}
		if begin != single {
			_, _ = conn.Exec(ctx, "ROLLBACK") // if it fails, the connection is closed
		}
		return transient(err), err
	}
	if begin == single {
		return false, nil
	}
	tag, err := conn.Exec(ctx, "COMMIT")
	var refused *pgconn.PgError
	switch {
	case errors.As(err, &refused) && refused.SeverityUnlocalized == "ERROR":
		return transient(err), err
	case err != nil:
		return true, fmt.Errorf("%w: %w", errDoubt, err)
	case tag.String() != "COMMIT":
		return false, errors.New("the transaction was rolled back: an error in it was passed over")
	}
	return false, nil
}

// transient reports whether the server's error comes from what others did at
// the time.
func transient(err error) bool {
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		return false
	}
	switch e.Code {
	case "40001", "40P01", // serialization failure, deadlock
		"25P03",                   // idle in a transaction: this machine was asleep
		"57P01", "57P02", "57P03", // the server stops, crashed, starts
		"53300": // too many connections
		return true
	}
	return false
}

// postgresError gives an error of the database the name that callers know.
func postgresError(err error) error {
	var e *pgconn.PgError
	if errors.As(err, &e) && e.Code == "53100" {
		return fmt.Errorf("%w (%w)", ErrFull, err)
	}
	return err
}
