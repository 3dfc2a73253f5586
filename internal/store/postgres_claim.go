package store

import (
	"context"

	"github.com/jackc/pgx/v5"

	"tfofleet/internal/lease"
)

// claiming is a call of Claim.
type claiming struct {
	probe, instance string
	chunk           Chunk
}

// Claim implements Store.
func (p *Postgres) Claim(ctx context.Context, probe, instance string) (Chunk, error) {
	c := &claiming{probe: probe, instance: instance}
	if err := p.claims.do(ctx, c); err != nil {
		return Chunk{}, err
	}
	return c.chunk, nil
}

// claimAll serves the calls in their order.
func (p *Postgres) claimAll(calls []*claiming) ([]error, error) {
	answers := make([]error, len(calls))
	for at := 0; at < len(calls); {
		n, err := p.claimSome(calls[at:])
		if err != nil {
			if at == 0 {
				return nil, err
			}
			for i := at; i < len(calls); i++ {
				answers[i] = err
			}
			break
		}
		at += n
		if n == 0 {
			for i := at; i < len(calls); i++ {
				answers[i] = ErrNotFound
			}
			break
		}
	}
	return answers, nil
}

// pending are the next chunks for a probe; a lateral join, so that no more rows
// are looked at, and locked, than asked for.
const pending = `SELECT ` + chunkColumns + `
	FROM (SELECT id FROM survey WHERE phase = 2 AND NOT cancel ORDER BY created, id) AS open
	CROSS JOIN LATERAL (SELECT * FROM chunk WHERE survey = open.id AND phase = 1 ORDER BY chunk LIMIT $1 FOR UPDATE `

// claimSome serves the first n calls. None, when there is nothing to claim.
func (p *Postgres) claimSome(calls []*claiming) (n int, err error) {
	err = p.transact(context.Background(), writing, func(ctx context.Context, q pgConn) error {
		t := newChunkTx()
		take := func(lock string, limit int) (rows []*pgRow, err error) {
			var b pgx.Batch
			b.Queue(pending+lock+`) AS chunk LIMIT $1`, limit).Query(func(found pgx.Rows) (err error) {
				rows, err = pgx.CollectRows(found, t.scan)
				return err
			})
			t.queueNow(&b, p.clock())
			return rows, q.SendBatch(ctx, &b).Close()
		}
		rows, err := take("SKIP LOCKED", len(calls))
		if err == nil && len(rows) == 0 {
			// What is locked may be pending still when it is not: a late result
			// has come for it, or its claim fails. Nobody would ask again. Nothing
			// is locked here, so that nobody waits for this.
			rows, err = take("", 1)
		}
		if err != nil {
			return err
		}
		var surveys, probes []string
		for i, r := range rows {
			rules, err := p.rules(ctx, q, r.Survey)
			if err != nil {
				return err
			}
			t.step(r, rules, lease.Offer{Probe: calls[i].probe, Instance: calls[i].instance}, nil)
			calls[i].chunk = r.Chunk
			surveys, probes = append(surveys, r.Survey), append(probes, calls[i].probe)
		}
		if n = len(rows); n == 0 {
			return nil
		}
		if err := t.save(ctx, q); err != nil {
			return err
		}
		_, err = q.Exec(ctx, `INSERT INTO survey_probe (survey, probe) SELECT DISTINCT survey, probe FROM unnest($1::text[], $2::text[]) AS u(survey, probe)
			ORDER BY survey, probe ON CONFLICT DO NOTHING`, surveys, probes)
		return err
	})
	return n, err
}
