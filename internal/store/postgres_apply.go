package store

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"tfofleet/internal/lease"
)

// applying is a call of Apply.
type applying struct {
	key   Key
	event lease.Event
	batch *Batch
	// frozen is how long from now no TTL lapses, of an Expire.
	frozen time.Duration

	chunk   Chunk
	effects []lease.Effect
}

// Apply implements Store. Expire.FrozenUntil is by the clock of this machine.
func (p *Postgres) Apply(ctx context.Context, k Key, e lease.Event, b *Batch) (Chunk, []lease.Effect, error) {
	a := &applying{key: k, event: e, batch: b}
	if x, ok := e.(lease.Expire); ok && p.opts.Now == nil {
		a.frozen = time.Until(x.FrozenUntil)
	}
	if err := p.applies.do(ctx, a); err != nil {
		return Chunk{}, nil, err
	}
	return a.chunk, a.effects, nil
}

// applyAll applies events in the order of the calls.
func (p *Postgres) applyAll(calls []*applying) ([]error, error) {
	answers := make([]error, len(calls))
	err := p.transact(context.Background(), writing, func(ctx context.Context, q pgConn) error {
		clear(answers)
		t := newChunkTx()
		if err := t.lock(ctx, q, p.clock(), calls); err != nil {
			return err
		}
		for i, a := range calls {
			r, ok := t.rows[a.key]
			if !ok {
				answers[i] = fmt.Errorf("survey %s chunk %d: %w", a.key.Survey, a.key.Chunk, ErrNotFound)
				continue
			}
			terms, err := p.terms(ctx, q, a.key.Survey)
			if err != nil {
				return err
			}
			a.effects = t.step(r, terms.mode, p.rules(terms), a.at(t.now), a.batch)
			if q.doubt {
				a.effects = append(a.effects, r.reminders()...)
			}
			a.chunk = r.Chunk
		}
		return t.save(ctx, q)
	})
	var refused *pgconn.PgError
	if len(calls) > 1 && errors.As(err, &refused) {
		// One that the database cannot take, or has no room for, must not fail the
		// others.
		for i := range calls {
			_, answers[i] = p.applyAll(calls[i : i+1])
		}
		return answers, nil
	}
	return answers, err
}

// at is the event by the store's clock.
func (a *applying) at(now time.Time) lease.Event {
	if a.frozen <= 0 {
		return a.event
	}
	return lease.Expire{FrozenUntil: now.Add(a.frozen)}
}

// reminders are the effects that got lost, if it was in an earlier run that the
// event changed the state. Carried out twice they do no harm.
func (r *row) reminders() []lease.Effect {
	switch {
	case r.Phase.Over() && !r.written:
		return []lease.Effect{lease.Finish}
	case r.Phase == lease.Pending:
		return []lease.Effect{lease.Requeue}
	}
	return nil
}
