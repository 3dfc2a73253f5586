package store

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"

	pb "tfofleet/proto/tfofleet/v1"
)

// PutProbe implements Store.
func (p *Postgres) PutProbe(ctx context.Context, v Probe) error {
	host, err := proto.Marshal(v.Host)
	if err != nil {
		return err
	}
	return p.exec(ctx, `INSERT INTO probe (name, version, host) VALUES ($1, $2, $3)
		ON CONFLICT (name) DO UPDATE SET version = excluded.version, host = excluded.host`, v.Name, v.Version, notNil(host))
}

// Probe implements Store.
func (p *Postgres) Probe(ctx context.Context, name string) (Probe, error) {
	found, err := p.probes(ctx, `WHERE name = $1`, name)
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("probe %s: %w", name, ErrNotFound)
	}
	if err != nil {
		return Probe{}, err
	}
	return found[0], nil
}

// AllProbes implements Store.
func (p *Postgres) AllProbes(ctx context.Context) ([]Probe, error) { return p.probes(ctx, ``) }

// Probes implements Store.
func (p *Postgres) Probes(ctx context.Context, survey string) ([]Probe, error) {
	return p.probes(ctx, `JOIN survey_probe ON probe = name WHERE survey = $1`, survey)
}

// probes are the probes of a query, by name.
func (p *Postgres) probes(ctx context.Context, where string, args ...any) (found []Probe, err error) {
	err = p.transact(ctx, single, func(ctx context.Context, q pgConn) error {
		rows, err := q.Query(ctx, `SELECT name, version, host, drained, rate FROM probe `+where+` ORDER BY name`, args...)
		if err != nil {
			return err
		}
		found, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (Probe, error) {
			v := Probe{Host: new(pb.Host)}
			var host []byte
			if err := row.Scan(&v.Name, &v.Version, &host, &v.Drained, &v.Rate); err != nil {
				return v, err
			}
			return v, proto.Unmarshal(host, v.Host)
		})
		return err
	})
	return found, err
}

// exec is a statement that may be run again.
func (p *Postgres) exec(ctx context.Context, sql string, args ...any) error {
	return p.transact(ctx, single, func(ctx context.Context, q pgConn) error {
		_, err := q.Exec(ctx, sql, args...)
		return err
	})
}

// DrainProbe implements Store.
func (p *Postgres) DrainProbe(ctx context.Context, name string, drained bool) error {
	return p.exec(ctx, `INSERT INTO probe (name, version, host, drained) VALUES ($1, '', '', $2)
		ON CONFLICT (name) DO UPDATE SET drained = excluded.drained`, name, drained)
}

// LimitProbe implements Store.
func (p *Postgres) LimitProbe(ctx context.Context, name string, rate float64) error {
	return p.exec(ctx, `INSERT INTO probe (name, version, host, rate) VALUES ($1, '', '', $2)
		ON CONFLICT (name) DO UPDATE SET rate = excluded.rate`, name, rate)
}

// Limits implements Store.
func (p *Postgres) Limits(ctx context.Context) (rates map[string]float64, err error) {
	err = p.transact(ctx, single, func(ctx context.Context, q pgConn) error {
		rates = make(map[string]float64)
		rows, err := q.Query(ctx, limits)
		if err != nil {
			return err
		}
		var name string
		var rate float64
		_, err = pgx.ForEachRow(rows, []any{&name, &rate}, func() error {
			rates[name] = rate
			return nil
		})
		return err
	})
	return rates, err
}

// PutEvent implements Store.
func (p *Postgres) PutEvent(ctx context.Context, e ProbeEvent) error {
	body, err := proto.Marshal(e.Event)
	if err != nil {
		return err
	}
	return p.transact(ctx, writing, func(ctx context.Context, q pgConn) error {
		var b pgx.Batch
		b.Queue(`INSERT INTO probe_event (probe, spool, sequence, body) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING`,
			e.Probe, e.Spool, int64(e.Sequence), notNil(body))
		if e.Spool != "" {
			t := newChunkTx()
			t.spools[e.Spool] = e.Sequence
			t.queueSpools(&b)
		}
		return q.SendBatch(ctx, &b).Close()
	})
}

// Events implements Store.
func (p *Postgres) Events(ctx context.Context, probe string, n int) (events []*pb.ProbeEvent, err error) {
	err = p.transact(ctx, single, func(ctx context.Context, q pgConn) error {
		rows, err := q.Query(ctx, `SELECT body FROM probe_event WHERE probe = $1 ORDER BY id DESC LIMIT $2`, probe, n)
		if err != nil {
			return err
		}
		events, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (*pb.ProbeEvent, error) {
			e := new(pb.ProbeEvent)
			var body []byte
			if err := row.Scan(&body); err != nil {
				return nil, err
			}
			return e, proto.Unmarshal(body, e)
		})
		slices.Reverse(events)
		return err
	})
	return events, err
}

// SpoolThrough implements Store.
func (p *Postgres) SpoolThrough(ctx context.Context, spool string) (uint64, error) {
	var through int64
	err := p.transact(ctx, single, func(ctx context.Context, q pgConn) error {
		return q.QueryRow(ctx, `SELECT coalesce((SELECT through FROM spool WHERE id = $1), 0)`, spool).Scan(&through)
	})
	return uint64(through), err
}

// Freeze implements Store.
func (p *Postgres) Freeze(ctx context.Context, d time.Duration) error {
	return p.exec(ctx, `INSERT INTO frozen (one, until) VALUES (1, `+now+` + $2::interval) ON CONFLICT (one) DO UPDATE SET until = greatest(frozen.until, excluded.until)`, p.clock(), d)
}
