package store

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"tfofleet/internal/lease"
)

// chunkTx is the part of a transaction that is about chunks. They are locked
// and loaded at once, changed in memory, and saved at once.
type chunkTx struct {
	now     time.Time
	rows    map[Key]*pgRow
	tallies map[string]*lease.Tally // changes
	batches map[batchKey]bool       // that are stored
	kept    []keptBatch             // to be stored, in the order of arrival
	spools  map[string]uint64       // how far they came
	frozen  time.Time               // until when no TTL lapses, where that was asked for
	// requeued are the surveys of copies of which a chunk became pending.
	requeued map[string]bool
	claimed  []claimed
}

// claimed is that a probe was offered a copy of a source.
type claimed struct {
	survey, probe string
	source, copy  int64
	mode          Mode
}

type pgRow struct {
	row
	items []byte // as they are stored
}

type batchKey struct {
	chunk, epoch int64
	spool        string
	sequence     int64
}

type keptBatch struct {
	key  batchKey
	late int16
	*Batch
}

func newChunkTx() *chunkTx {
	return &chunkTx{rows: make(map[Key]*pgRow), tallies: make(map[string]*lease.Tally), batches: make(map[batchKey]bool),
		spools: make(map[string]uint64), requeued: make(map[string]bool)}
}

// chunkColumns are what scan reads.
const chunkColumns = `chunk.id, chunk.survey, chunk.chunk, chunk.source, chunk.copy, chunk.pin, chunk.size, chunk.phase, chunk.written, chunk.late, chunk.deadline, chunk.lease, chunk.items`

// scan reads a row of chunkColumns.
func (t *chunkTx) scan(rows pgx.CollectableRow) (*pgRow, error) {
	var (
		r        pgRow
		size     int
		deadline sql.NullTime
		rest     sql.NullString
	)
	err := rows.Scan(&r.id, &r.Survey, &r.Chunk.Chunk, &r.Source, &r.Copy, &r.Pin, &size, &r.Phase, &r.written, &r.late, &deadline, &rest, &r.items)
	if err != nil {
		return nil, err
	}
	if deadline.Valid {
		r.Deadline = deadline.Time.UTC()
	}
	if err := r.decode(rest.String, size, r.items); err != nil {
		return nil, fmt.Errorf("survey %s chunk %d: %w", r.Survey, r.Chunk.Chunk, err)
	}
	t.rows[r.Key] = &r
	return &r, nil
}

// lock locks and loads chunks, finds out which of the batches are stored, and
// then looks at the clock.
func (t *chunkTx) lock(ctx context.Context, q pgConn, clock *time.Time, calls []*applying) error {
	var surveys, spools []string
	var chunks, epochs, sequences []int64
	expire := false
	for _, a := range calls {
		epoch, spool, sequence := int64(-1), "", int64(-1) // no batch has it
		if a.batch != nil {
			epoch, spool, sequence = int64(a.batch.Epoch), a.batch.Spool, int64(a.batch.Sequence)
		}
		spools = append(spools, spool)
		_, ok := a.event.(lease.Expire)
		expire = expire || ok
		surveys, chunks = append(surveys, a.key.Survey), append(chunks, int64(a.key.Chunk))
		epochs, sequences = append(epochs, epoch), append(sequences, sequence)
	}
	var b pgx.Batch
	b.Queue(`SELECT `+chunkColumns+` FROM chunk
		JOIN (SELECT DISTINCT * FROM unnest($1::text[], $2::bigint[])) AS k(survey, chunk) ON chunk.survey = k.survey AND chunk.chunk = k.chunk
		ORDER BY chunk.id FOR UPDATE OF chunk`, surveys, chunks).Query(func(rows pgx.Rows) error {
		_, err := pgx.CollectRows(rows, t.scan)
		return err
	})
	b.Queue(`SELECT batch.chunk, batch.epoch, batch.spool, batch.sequence
		FROM unnest($1::text[], $2::bigint[], $3::bigint[], $4::text[], $5::bigint[]) AS k(survey, chunk, epoch, spool, sequence)
		JOIN chunk ON chunk.survey = k.survey AND chunk.chunk = k.chunk
		JOIN batch ON batch.chunk = chunk.id AND batch.epoch = k.epoch AND batch.spool = k.spool AND batch.sequence = k.sequence`,
		surveys, chunks, epochs, spools, sequences).Query(func(rows pgx.Rows) error {
		var k batchKey
		_, err := pgx.ForEachRow(rows, []any{&k.chunk, &k.epoch, &k.spool, &k.sequence}, func() error {
			t.batches[k] = true
			return nil
		})
		return err
	})
	if expire {
		b.Queue(`SELECT until FROM frozen`).Query(func(rows pgx.Rows) error {
			_, err := pgx.ForEachRow(rows, []any{&t.frozen}, func() error { return nil })
			return err
		})
	}
	t.queueNow(&b, clock)
	return q.SendBatch(ctx, &b).Close()
}

// queueNow asks for the time.
func (t *chunkTx) queueNow(b *pgx.Batch, clock *time.Time) {
	b.Queue(`SELECT `+now, clock).QueryRow(func(row pgx.Row) error {
		err := row.Scan(&t.now)
		t.now = t.now.UTC()
		return err
	})
}

// step runs an event through the lease machine of a chunk.
func (t *chunkTx) step(r *pgRow, mode Mode, rules lease.Rules, e lease.Event, b *Batch) []lease.Effect {
	var key batchKey
	if b != nil {
		key = batchKey{r.id, int64(b.Epoch), b.Spool, int64(b.Sequence)}
		if t.batches[key] {
			return nil
		}
	}
	if x, ok := e.(lease.Expire); ok && t.frozen.After(x.FrozenUntil) {
		e = lease.Expire{FrozenUntil: t.frozen}
	}
	next, effects := rules.Step(r.State, t.now, e)
	if mode == Copies && next.Phase == lease.Pending && r.Phase != lease.Pending {
		t.requeued[r.Survey] = true
	}
	t.set(r, next)
	if b != nil && b.Spool != "" && !slices.Contains(effects, lease.Reject) {
		t.spools[b.Spool] = max(t.spools[b.Spool], b.Sequence)
	}
	for _, f := range effects {
		switch f {
		case lease.Keep:
			t.keep(key, b, 0)
		case lease.KeepLate:
			t.keep(key, b, 1)
		case lease.KeepAside:
			t.keep(key, b, 2)
		case lease.Finish:
			tally := lease.Count(next.Items)
			r.written = tally.Of(lease.Measured)+tally.Of(lease.Refused)+tally.Of(lease.Interrupted) == 0
		}
	}
	return effects
}

func (t *chunkTx) keep(key batchKey, b *Batch, late int16) {
	if b != nil {
		t.batches[key] = true
		t.kept = append(t.kept, keptBatch{key, late, b})
	}
}

// set gives a chunk its next state.
func (t *chunkTx) set(r *pgRow, s lease.State) {
	t.count(r.Survey, r.Items, s.Items)
	r.State, r.dirty = s, true
}

// count moves targets from what they were to what they are.
func (t *chunkTx) count(survey string, were, are []lease.Item) {
	d, ok := t.tallies[survey]
	if !ok {
		d = new(lease.Tally)
		t.tallies[survey] = d
	}
	was, is := lease.Count(were), lease.Count(are)
	for i := range d {
		d[i] += is[i] - was[i]
	}
}

// save writes what was changed.
func (t *chunkTx) save(ctx context.Context, q pgConn) error {
	var b pgx.Batch
	if err := t.queueChunks(&b); err != nil {
		return err
	}
	t.queueBatches(&b)
	t.queueClaimed(&b)
	t.queueSpools(&b)
	t.queueTallies(&b)
	if b.Len() == 0 {
		return nil
	}
	t.clean()
	return q.SendBatch(ctx, &b).Close()
}

// clean forgets the changes, which are on their way.
func (t *chunkTx) clean() {
	for _, r := range t.rows {
		r.dirty = false
	}
	clear(t.tallies)
	clear(t.spools)
	clear(t.requeued)
	t.kept, t.claimed = nil, nil
}

func (t *chunkTx) queueChunks(b *pgx.Batch) error {
	var (
		ids       []int64
		phases    []int16
		written   []bool
		holders   []sql.NullString
		deadlines []*time.Time
		rests     []string
		items     [][]byte
	)
	for _, r := range t.rows {
		if !r.dirty {
			continue
		}
		rest, now, err := r.encode()
		if err != nil {
			return err
		}
		if bytes.Equal(now, r.items) {
			now = nil // a heartbeat changes none of up to 8192 of them
		}
		ids, phases, written = append(ids, r.id), append(phases, int16(r.Phase)), append(written, r.written)
		holders, deadlines = append(holders, null(r.Newest())), append(deadlines, timeOrNull(r.Deadline))
		rests, items = append(rests, rest), append(items, now)
	}
	if len(ids) > 0 {
		b.Queue(`UPDATE chunk SET phase = u.phase, written = u.written, holder = u.holder, deadline = u.deadline, lease = u.lease, items = coalesce(u.items, chunk.items)
			FROM unnest($1::bigint[], $2::smallint[], $3::boolean[], $4::text[], $5::timestamptz[], $6::text[], $7::bytea[])
				AS u(id, phase, written, holder, deadline, lease, items)
			WHERE chunk.id = u.id`, ids, phases, written, holders, deadlines, rests, items)
	}
	return nil
}

// queueBatches has a statement for each: in one for all, with arrays, every byte
// would be copied twice more.
func (t *chunkTx) queueBatches(b *pgx.Batch) {
	for _, k := range t.kept {
		b.Queue(`INSERT INTO batch (chunk, epoch, spool, sequence, probe, late, address, body) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)`,
			k.key.chunk, k.key.epoch, k.key.spool, k.key.sequence, k.Probe, k.late, k.Address, notNil(k.Body))
	}
}

func (t *chunkTx) queueClaimed(b *pgx.Batch) {
	var surveys, probes, copiesOf, copiesBy []string
	var sources, copies []int64
	for _, c := range t.claimed {
		surveys, probes = append(surveys, c.survey), append(probes, c.probe)
		if c.mode == Copies {
			copiesOf, copiesBy = append(copiesOf, c.survey), append(copiesBy, c.probe)
			sources, copies = append(sources, c.source), append(copies, c.copy)
		}
	}
	if len(surveys) > 0 {
		b.Queue(`INSERT INTO survey_probe (survey, probe) SELECT DISTINCT survey, probe FROM unnest($1::text[], $2::text[]) AS u(survey, probe)
			ORDER BY survey, probe ON CONFLICT DO NOTHING`, surveys, probes)
	}
	if len(sources) > 0 {
		b.Queue(`INSERT INTO taken (survey, probe, source, copy) SELECT * FROM unnest($1::text[], $2::text[], $3::bigint[], $4::bigint[])
			ON CONFLICT DO NOTHING`, copiesOf, copiesBy, sources, copies)
	}
}

// queueSpools: a probe's batches may come through two controllers.
func (t *chunkTx) queueSpools(b *pgx.Batch) {
	var throughs []int64
	ids := slices.Sorted(maps.Keys(t.spools))
	for _, id := range ids {
		throughs = append(throughs, int64(t.spools[id]))
	}
	if len(ids) > 0 {
		b.Queue(`INSERT INTO spool (id, through) SELECT id, through FROM unnest($1::text[], $2::bigint[]) WITH ORDINALITY AS u(id, through, i) ORDER BY i
			ON CONFLICT (id) DO UPDATE SET through = greatest(spool.through, excluded.through)`, ids, throughs)
	}
}

// queueTallies comes last: the rows are the same for all controllers, and are
// locked from here until the commit.
func (t *chunkTx) queueTallies(b *pgx.Batch) {
	var (
		surveys []string
		items   []int16
		ns      []int64
	)
	for _, survey := range slices.Sorted(maps.Keys(t.tallies)) {
		for item, n := range t.tallies[survey] {
			if n != 0 {
				surveys, items, ns = append(surveys, survey), append(items, int16(item)), append(ns, n)
			}
		}
	}
	if len(surveys) > 0 {
		b.Queue(`INSERT INTO tally (survey, item, n) SELECT survey, item, n FROM unnest($1::text[], $2::smallint[], $3::bigint[])
			WITH ORDINALITY AS u(survey, item, n, i) ORDER BY i
			ON CONFLICT (survey, item) DO UPDATE SET n = tally.n + excluded.n`, surveys, items, ns)
	}
	if requeued := slices.Sorted(maps.Keys(t.requeued)); len(requeued) > 0 {
		b.Queue(`INSERT INTO requeued (survey, n) SELECT survey, 1 FROM unnest($1::text[]) WITH ORDINALITY AS u(survey, i) ORDER BY i
			ON CONFLICT (survey) DO UPDATE SET n = requeued.n + 1`, requeued)
	}
}

// sorted is the chunks by name.
func (t *chunkTx) sorted() []*pgRow {
	return slices.SortedFunc(maps.Values(t.rows), func(a, b *pgRow) int {
		return cmp.Or(cmp.Compare(a.Survey, b.Survey), cmp.Compare(a.Chunk.Chunk, b.Chunk.Chunk))
	})
}

func timeOrNull(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	return &t
}
