package store

import (
	"context"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// OpenSession implements Store.
func (p *Postgres) OpenSession(ctx context.Context, v Session, stale time.Duration) error {
	return p.transact(ctx, writing, func(ctx context.Context, q pgConn) error {
		tag, err := q.Exec(ctx, `INSERT INTO session (probe, id, instance, hostname, controller, since, heard, stale, state)
			SELECT $2, $3, $4, $5, $6, at, at, $7, $8 FROM (SELECT `+now+`) AS clock(at)
			ON CONFLICT (probe) DO UPDATE SET id = excluded.id, instance = excluded.instance, hostname = excluded.hostname, controller = excluded.controller,
				since = excluded.since, heard = excluded.heard, stale = excluded.stale, state = excluded.state
			WHERE session.instance = excluded.instance OR session.heard <= excluded.heard - excluded.stale`,
			p.clock(), v.Probe, v.ID, v.Instance, v.Hostname, v.Controller, stale, notNil(v.State))
		if err != nil || tag.RowsAffected() > 0 {
			return err
		}
		// The statement has locked the other one.
		there, err := sessions(ctx, q, `probe = $1`, v.Probe)
		if err != nil {
			return err
		}
		return &TakenError{there[0]}
	})
}

// CloseSession implements Store.
func (p *Postgres) CloseSession(ctx context.Context, probe, id string) error {
	return p.exec(ctx, `DELETE FROM session WHERE probe = $1 AND id = $2`, probe, id)
}

// Summon implements Store.
func (p *Postgres) Summon(ctx context.Context, probes, addresses []string) error {
	return p.exec(ctx, `INSERT INTO summons (probe, session, addresses) SELECT probe, id, $2 FROM session WHERE probe = ANY($1) ORDER BY probe
		ON CONFLICT (probe) DO UPDATE SET session = excluded.session, addresses = excluded.addresses`, probes, strings.Join(addresses, ","))
}

// Summoned implements Store.
func (p *Postgres) Summoned(ctx context.Context, controller string) (to map[string][]string, err error) {
	err = p.transact(ctx, single, func(ctx context.Context, q pgConn) error {
		to = make(map[string][]string)
		rows, err := q.Query(ctx, summoned, controller)
		if err != nil {
			return err
		}
		var probe, addresses string
		_, err = pgx.ForEachRow(rows, []any{&probe, &addresses}, func() error {
			to[probe] = strings.Split(addresses, ",")
			return nil
		})
		return err
	})
	return to, err
}

// Sessions implements Store.
func (p *Postgres) Sessions(ctx context.Context, stale time.Duration) (found []Session, err error) {
	err = p.transact(ctx, single, func(ctx context.Context, q pgConn) (err error) {
		found, err = sessions(ctx, q, `heard > `+now+` - $2::interval`, p.clock(), stale)
		return err
	})
	return found, err
}

// sessions are those that meet a condition, by the name of the probe.
func sessions(ctx context.Context, q querier, where string, args ...any) ([]Session, error) {
	rows, err := q.Query(ctx, `SELECT probe, id, instance, hostname, controller, since, heard, state FROM session WHERE `+where+` ORDER BY probe`, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (v Session, err error) {
		err = row.Scan(&v.Probe, &v.ID, &v.Instance, &v.Hostname, &v.Controller, &v.Since, &v.Heard, &v.State)
		v.Since, v.Heard = v.Since.UTC(), v.Heard.UTC()
		return v, err
	})
}

// beating is a call of Beat.
type beating struct {
	probe, id string
	state     []byte
}

// Beat implements Store.
func (p *Postgres) Beat(ctx context.Context, probe, id string, state []byte) error {
	return p.beats.do(ctx, &beating{probe, id, state})
}

// beatAll is one statement. Of two calls for a session, the last one counts.
func (p *Postgres) beatAll(calls []*beating) ([]error, error) {
	type session struct{ probe, id string }
	last := make(map[session][]byte, len(calls))
	for _, c := range calls {
		last[session{c.probe, c.id}] = notNil(c.state)
	}
	var probes, ids []string
	var states [][]byte
	for s, state := range last {
		probes, ids, states = append(probes, s.probe), append(ids, s.id), append(states, state)
	}
	found := make(map[session]bool, len(last))
	err := p.transact(context.Background(), single, func(ctx context.Context, q pgConn) error {
		rows, err := q.Query(ctx, `UPDATE session SET heard = `+now+`, state = u.state FROM unnest($2::text[], $3::text[], $4::bytea[]) AS u(probe, id, state)
			WHERE session.probe = u.probe AND session.id = u.id RETURNING session.probe, session.id`, p.clock(), probes, ids, states)
		if err != nil {
			return err
		}
		var s session
		_, err = pgx.ForEachRow(rows, []any{&s.probe, &s.id}, func() error {
			found[s] = true
			return nil
		})
		return err
	})
	errs := make([]error, len(calls))
	for i, c := range calls {
		if !found[session{c.probe, c.id}] {
			errs[i] = noSession(c.probe, c.id)
		}
	}
	return errs, err
}
