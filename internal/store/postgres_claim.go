package store

import (
	"context"
	"errors"
	"slices"

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

// claimAll serves the calls: as many as it can at once with what nobody else has
// locked, and then, when nothing of that is left, one by one with what it has to
// wait for.
//
// What is locked may be pending still when it is not: a late result has come for
// it, or its claim fails. Nobody would ask again. There nothing else is locked,
// so that nobody waits for who waits.
func (p *Postgres) claimAll(calls []*claiming) ([]error, error) {
	answers := make(map[*claiming]error, len(calls))
	for rest, wait := calls, false; len(rest) > 0; {
		served, more, err := p.claimSome(rest, wait)
		if err != nil {
			if len(rest) == len(calls) {
				return nil, err
			}
			for _, c := range rest {
				answers[c] = err
			}
			break
		}
		rest = slices.DeleteFunc(slices.Clone(rest), func(c *claiming) bool { return served[c] })
		if !more || wait && len(served) == 0 {
			for _, c := range rest {
				answers[c] = ErrNotFound
			}
			break
		}
		wait = len(served) == 0
	}
	errs := make([]error, len(calls))
	for i, c := range calls {
		errs[i] = answers[c]
	}
	return errs, nil
}

// claimTx is a transaction of claims.
type claimTx struct {
	*chunkTx
	p      *Postgres
	q      pgConn
	wait   bool        // for what is locked
	calls  []*claiming // to be served
	served map[*claiming]bool
	passed bool // what is locked was passed over
}

// openSurvey is one with something pending for one of the probes.
type openSurvey struct {
	id       string
	requeued int64
}

// claimSome serves some of the calls, at most one if it waits. More says that
// some chunk may have been passed over.
func (p *Postgres) claimSome(calls []*claiming, wait bool) (served map[*claiming]bool, more bool, err error) {
	first := true
	err = p.transact(context.Background(), writing, func(ctx context.Context, q pgConn) error {
		if !first {
			clear(p.looked) // it knows of what is undone
		}
		first = false
		t := &claimTx{chunkTx: newChunkTx(), p: p, q: q, wait: wait, served: make(map[*claiming]bool)}
		open, err := t.open(ctx, calls)
		if err != nil {
			return err
		}
		p.looked.keep(open)
		for _, s := range open {
			if len(t.calls) == 0 || wait && len(t.served) > 0 {
				break
			}
			if err := t.claim(ctx, s); err != nil {
				return err
			}
		}
		served, more = t.served, t.passed
		return t.save(ctx, q)
	})
	if err != nil {
		clear(p.looked)
	}
	return served, more, err
}

// open are the surveys with something pending for the calls, oldest first. Those
// of drained probes are left out from here on.
func (t *claimTx) open(ctx context.Context, calls []*claiming) (open []openSurvey, err error) {
	names := []string{""}
	for _, c := range calls {
		names = append(names, c.probe)
	}
	slices.Sort(names)
	names = slices.Compact(names)
	var drained []string
	var b pgx.Batch
	b.Queue(`SELECT name FROM probe WHERE name = ANY($1) AND drained`, names).Query(func(rows pgx.Rows) error {
		drained, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	b.Queue(`SELECT id, coalesce((SELECT n FROM requeued WHERE survey = survey.id), 0) FROM survey WHERE phase = 2 AND NOT cancel AND NOT paused
		AND EXISTS (SELECT FROM chunk WHERE survey = survey.id AND chunk.phase = 1 AND pin = ANY($1)) ORDER BY created, id`, names).Query(func(rows pgx.Rows) error {
		open, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (s openSurvey, err error) {
			return s, row.Scan(&s.id, &s.requeued)
		})
		return err
	})
	t.queueNow(&b, t.p.clock())
	if err := t.q.SendBatch(ctx, &b).Close(); err != nil {
		return nil, err
	}
	t.calls = slices.DeleteFunc(slices.Clone(calls), func(c *claiming) bool { return slices.Contains(drained, c.probe) })
	return open, nil
}

// claim serves calls from a survey.
func (t *claimTx) claim(ctx context.Context, s openSurvey) error {
	terms, err := t.p.terms(ctx, t.q, s.id)
	if err != nil {
		return err
	}
	var may []*claiming
	for _, c := range t.calls {
		if terms.selects(c.probe) {
			may = append(may, c)
		}
	}
	if len(may) == 0 {
		return nil
	}
	switch terms.mode {
	case Every:
		err = t.claimPinned(ctx, s.id, terms, may)
	case Copies:
		if t.wait { // it always does
			return nil
		}
		err = t.claimCopies(ctx, s, terms, may)
	default:
		err = t.claimShard(ctx, s.id, terms, may)
	}
	t.calls = slices.DeleteFunc(t.calls, func(c *claiming) bool { return t.served[c] })
	return err
}

// take locks and loads chunks.
func (t *claimTx) take(ctx context.Context, sql string, args ...any) ([]*pgRow, error) {
	rows, err := t.q.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, t.scan)
}

// lock is what a query ends with that locks chunks, and how many of n it may
// lock.
func (t *claimTx) lock(n int) (clause string, limit int) {
	if t.wait {
		return ` FOR UPDATE`, 1
	}
	return ` FOR UPDATE SKIP LOCKED`, n
}

// give offers a chunk to who asked for it.
func (t *claimTx) give(r *pgRow, terms terms, c *claiming) {
	t.step(r, terms.mode, t.p.rules(terms), lease.Offer{Probe: c.probe, Instance: c.instance}, nil)
	c.chunk = r.Chunk
	t.served[c] = true
	t.claimed = append(t.claimed, claimed{r.Survey, c.probe, int64(r.Source), int64(r.Copy), terms.mode})
}

// claimShard: any chunk will do for any of them.
func (t *claimTx) claimShard(ctx context.Context, id string, terms terms, calls []*claiming) error {
	lock, n := t.lock(len(calls))
	rows, err := t.take(ctx, `SELECT `+chunkColumns+` FROM chunk WHERE survey = $1 AND pin = '' AND phase = 1 ORDER BY chunk LIMIT $2`+lock, id, n)
	for i, r := range rows {
		t.give(r, terms, calls[i])
	}
	t.passed = t.passed || len(rows) < len(calls)
	return err
}

// claimPinned: the next chunks of each of them; a lateral join, so that no more
// rows are looked at, and locked, than asked for.
func (t *claimTx) claimPinned(ctx context.Context, id string, terms terms, calls []*claiming) error {
	var probes []string
	var counts []int64
	by := make(map[string][]*claiming)
	for _, c := range calls {
		by[c.probe] = append(by[c.probe], c)
	}
	for probe, calls := range by {
		probes, counts = append(probes, probe), append(counts, int64(len(calls)))
	}
	lock, n := t.lock(len(calls))
	rows, err := t.take(ctx, `SELECT `+chunkColumns+` FROM unnest($2::text[], $3::bigint[]) AS p(probe, n)
		CROSS JOIN LATERAL (SELECT * FROM chunk WHERE survey = $1 AND pin = p.probe AND phase = 1 ORDER BY chunk LIMIT p.n`+lock+`) AS chunk
		LIMIT $4`, id, probes, counts, n)
	for _, r := range rows {
		t.give(r, terms, by[r.Pin][0])
		by[r.Pin] = by[r.Pin][1:]
	}
	t.passed = t.passed || len(rows) < len(calls)
	return err
}

// claimCopies: one after the other, for what one gets decides what others may
// have, and with the survey locked, so that no other controller does it at the
// same time. Whoever else changes a chunk may make it pending, which is
// counted, or take it away.
func (t *claimTx) claimCopies(ctx context.Context, s openSurvey, terms terms, calls []*claiming) error {
	calls = slices.DeleteFunc(calls, func(c *claiming) bool { return t.p.looked.from(s, c.probe) >= terms.chunks })
	if len(calls) == 0 {
		return nil
	}
	if err := lockSurvey(ctx, t.q, s.id); err != nil {
		return err
	}
	for _, c := range calls {
		r, err := t.nextCopy(ctx, s, terms, c.probe)
		if err != nil {
			return err
		}
		if r == nil {
			continue
		}
		t.give(r, terms, c)
		// The next one has to see that.
		if err := t.save(ctx, t.q); err != nil {
			return err
		}
	}
	return nil
}

// nextCopy locks and loads the chunk that the probe gets, nil if there is none.
func (t *claimTx) nextCopy(ctx context.Context, s openSurvey, terms terms, probe string) (*pgRow, error) {
	for {
		var source, n uint32
		err := pgx.ErrNoRows
		if from := t.p.looked.from(s, probe); from < terms.chunks {
			err = t.q.QueryRow(ctx, nextOfCopies, s.id, int64(from), int64(terms.chunks), probe).Scan(&source, &n)
		}
		if errors.Is(err, pgx.ErrNoRows) {
			t.p.looked.set(s, probe, terms.chunks)
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		t.p.looked.set(s, probe, source)
		rows, err := t.take(ctx, `SELECT `+chunkColumns+` FROM chunk WHERE survey = $1 AND chunk = $2 AND phase = 1 FOR UPDATE`, s.id, int64(n))
		if err != nil {
			return nil, err
		}
		if len(rows) > 0 {
			return rows[0], nil
		}
	}
}

// looked has, by survey of copies, the first source of which there may be
// something for a probe, for as long as no chunk becomes pending again.
type looked map[string]*lookedAt

type lookedAt struct {
	requeued int64
	first    map[string]uint32
}

func (l looked) at(s openSurvey) *lookedAt {
	if l[s.id] == nil || l[s.id].requeued != s.requeued {
		l[s.id] = &lookedAt{s.requeued, make(map[string]uint32)}
	}
	return l[s.id]
}

func (l looked) from(s openSurvey, probe string) uint32        { return l.at(s).first[probe] }
func (l looked) set(s openSurvey, probe string, source uint32) { l.at(s).first[probe] = source }

// keep forgets all other surveys.
func (l looked) keep(open []openSurvey) {
	for id := range l {
		if !slices.ContainsFunc(open, func(s openSurvey) bool { return s.id == id }) {
			delete(l, id)
		}
	}
}

// HasWork implements Store.
func (p *Postgres) HasWork(ctx context.Context) (work bool, err error) {
	err = p.transact(ctx, single, func(ctx context.Context, q pgConn) error {
		return q.QueryRow(ctx, `SELECT EXISTS (SELECT FROM survey WHERE phase = 2 AND NOT cancel AND NOT paused
			AND EXISTS (SELECT FROM chunk WHERE survey = survey.id AND chunk.phase = 1))`).Scan(&work)
	})
	return work, err
}
