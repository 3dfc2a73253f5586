package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/proto"

	"tfofleet/internal/lease"
	pb "tfofleet/proto/tfofleet/v1"
)

// PutList implements Store.
func (p *Postgres) PutList(ctx context.Context, l List) error {
	return p.exec(ctx, `INSERT INTO list (id, targets, chunk_size) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING`, l.ID, int64(l.Targets), l.ChunkSize)
}

// List implements Store.
func (p *Postgres) List(ctx context.Context, id string) (List, error) {
	l := List{ID: id}
	err := p.transact(ctx, single, func(ctx context.Context, q pgConn) error {
		err := q.QueryRow(ctx, `SELECT targets, chunk_size FROM list WHERE id = $1`, id).Scan(&l.Targets, &l.ChunkSize)
		if errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("target list %s: %w", id, ErrNotFound)
		}
		return err
	})
	return l, err
}

// CreateSurvey implements Store. Created is by the database's clock, whatever it
// is in v: controllers offer surveys in that order.
func (p *Postgres) CreateSurvey(ctx context.Context, v Survey) (created Survey, err error) {
	v, err = v.complete()
	if err != nil {
		return v, err
	}
	spec, err := proto.Marshal(v.Spec)
	if err != nil {
		return Survey{}, err
	}
	err = p.transact(ctx, writing, func(ctx context.Context, q pgConn) error {
		tag, err := q.Exec(ctx, `INSERT INTO survey (created, id, request, name, list, spec, mode, copies, probes, phase)
			VALUES (`+now+`, $2, $3, $4, $5, $6, $7, $8, coalesce($9::text[], '{}'), $10) ON CONFLICT (request) DO NOTHING`,
			p.clock(), v.ID, v.Request, v.Name, v.List.ID, notNil(spec), int16(v.Mode), v.Copies, v.Probes, int16(Creating))
		if err != nil {
			return err
		}
		if tag.RowsAffected() == 1 {
			if _, err := q.Exec(ctx, `INSERT INTO chunk (survey, chunk, source, copy, pin, shared, size, phase)
				SELECT $1::text, (n - 1) * $5 + i, i, n - 1, pin, CASE WHEN $7 THEN $1::text || '/' || i END, least($2, $3 - i * $2), $4
				FROM unnest($6::text[]) WITH ORDINALITY AS copy(pin, n) CROSS JOIN generate_series(0, $5::bigint - 1) AS i ORDER BY n, i`,
				v.ID, int64(v.List.ChunkSize), int64(v.List.Targets), int16(lease.Pending), int64(v.List.Chunks()), v.pins(), v.Mode == Copies); err != nil {
				return err
			}
			if _, err := q.Exec(ctx, `INSERT INTO tally (survey, item, n) VALUES ($1, 0, $2)`, v.ID, int64(v.List.Targets)*int64(v.Copies)); err != nil {
				return err
			}
		}
		created, err = surveyBy(ctx, q, `survey.request`, v.Request)
		return err
	})
	return created, err
}

// Survey implements Store.
func (p *Postgres) Survey(ctx context.Context, id string) (s Survey, err error) {
	err = p.transact(ctx, single, func(ctx context.Context, q pgConn) (err error) {
		s, err = surveyBy(ctx, q, `survey.id`, id)
		return err
	})
	return s, err
}

// Surveys implements Store.
func (p *Postgres) Surveys(ctx context.Context) (found []Survey, err error) {
	err = p.transact(ctx, single, func(ctx context.Context, q pgConn) (err error) {
		found, err = surveys(ctx, q, `phase < $1`, Done)
		return err
	})
	return found, err
}

// AllSurveys implements Store.
func (p *Postgres) AllSurveys(ctx context.Context) (found []Survey, err error) {
	err = p.transact(ctx, single, func(ctx context.Context, q pgConn) (err error) {
		found, err = surveys(ctx, q, `phase <= $1`, Failed)
		return err
	})
	return found, err
}

// SetPhase implements Store.
func (p *Postgres) SetPhase(ctx context.Context, id string, phase Phase, reason string) (s Survey, err error) {
	err = p.transact(ctx, writing, func(ctx context.Context, q pgConn) error {
		if _, err := q.Exec(ctx, `UPDATE survey SET phase = $3, reason = coalesce(nullif($4, ''), reason), ended = CASE WHEN $3 >= $5 THEN `+now+` END
			WHERE id = $2 AND phase < $5`, p.clock(), id, int16(phase), reason, int16(Done)); err != nil {
			return err
		}
		s, err = surveyBy(ctx, q, `survey.id`, id)
		return err
	})
	return s, err
}

// CancelSurvey implements Store.
func (p *Postgres) CancelSurvey(ctx context.Context, id string) error {
	return p.transact(ctx, single, func(ctx context.Context, q pgConn) error {
		tag, err := q.Exec(ctx, `UPDATE survey SET cancel = true WHERE id = $1`, id)
		if err == nil && tag.RowsAffected() == 0 {
			err = fmt.Errorf("survey %s: %w", id, ErrNotFound)
		}
		return err
	})
}

// PauseSurvey implements Store.
func (p *Postgres) PauseSurvey(ctx context.Context, id string, paused bool) error {
	return p.transact(ctx, single, func(ctx context.Context, q pgConn) error {
		tag, err := q.Exec(ctx, `UPDATE survey SET paused = $2 WHERE id = $1`, id, paused)
		if err == nil && tag.RowsAffected() == 0 {
			err = fmt.Errorf("survey %s: %w", id, ErrNotFound)
		}
		return err
	})
}

// Tally implements Store.
func (p *Postgres) Tally(ctx context.Context, id string) (tally lease.Tally, err error) {
	err = p.transact(ctx, single, func(ctx context.Context, q pgConn) error {
		tally = lease.Tally{}
		rows, err := q.Query(ctx, `SELECT item, n FROM tally WHERE survey = $1`, id)
		if err != nil {
			return err
		}
		var item uint8
		var n int64
		_, err = pgx.ForEachRow(rows, []any{&item, &n}, func() error {
			tally[item] = n
			return nil
		})
		return err
	})
	return tally, err
}

// Due implements Store.
func (p *Postgres) Due(ctx context.Context) ([]Key, error) {
	return p.keys(ctx, `phase IN (2, 3, 4) AND deadline <= `+now, p.clock())
}

// HeldBy implements Store.
func (p *Postgres) HeldBy(ctx context.Context, probe string) (chunks []Chunk, err error) {
	err = p.transact(ctx, single, func(ctx context.Context, q pgConn) error {
		t := newChunkTx()
		rows, err := q.Query(ctx, `SELECT `+chunkColumns+` FROM chunk WHERE holder = $1`, probe)
		if err != nil {
			return err
		}
		if _, err := pgx.CollectRows(rows, t.scan); err != nil {
			return err
		}
		chunks = nil
		for _, r := range t.sorted() {
			chunks = append(chunks, r.Chunk)
		}
		return nil
	})
	return chunks, err
}

// Open implements Store.
func (p *Postgres) Open(ctx context.Context, survey string) ([]Key, error) {
	return p.keys(ctx, `survey = $1 AND phase < 5 AND NOT written`, survey)
}

// Unwritten implements Store.
func (p *Postgres) Unwritten(ctx context.Context) ([]Key, error) {
	return p.keys(ctx, `NOT written AND phase >= 5`)
}

// Batches implements Store.
func (p *Postgres) Batches(ctx context.Context, k Key) (c Chunk, bs []Batch, err error) {
	err = p.transact(ctx, reading, func(ctx context.Context, q pgConn) error {
		r, err := newChunkTx().one(ctx, q, k, "")
		if err != nil {
			return err
		}
		c = r.Chunk
		bs, err = batches(ctx, q, &r.row, `late < 2`)
		return err
	})
	return c, bs, err
}

// batches are those of a chunk that meet a condition, in the order of arrival.
func batches(ctx context.Context, q querier, r *row, where string) ([]Batch, error) {
	rows, err := q.Query(ctx, `SELECT epoch, spool, sequence, probe, late > 0, address, body FROM batch WHERE chunk = $1 AND `+where+` ORDER BY id`, r.id)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (b Batch, err error) {
		var epoch, sequence int64
		err = row.Scan(&epoch, &b.Spool, &sequence, &b.Probe, &b.Late, &b.Address, &b.Body)
		b.Epoch, b.Sequence = uint64(epoch), uint64(sequence)
		return b, err
	})
}

// Written implements Store.
func (p *Postgres) Written(ctx context.Context, k Key, items []lease.Item) (last bool, err error) {
	err = p.transact(ctx, writing, func(ctx context.Context, q pgConn) error {
		// Of two that write the last two chunks, one has to see the other.
		if err := lockSurvey(ctx, q, k.Survey); err != nil {
			return err
		}
		t := newChunkTx()
		r, err := t.one(ctx, q, k, "FOR UPDATE")
		if err != nil {
			return err
		}
		if !r.Phase.Over() || len(items) != len(r.Items) {
			return fmt.Errorf("survey %s chunk %d is %v with %d targets: not to be written with %d", k.Survey, k.Chunk, r.Phase, len(r.Items), len(items))
		}
		if !r.written {
			next := r.State
			next.Items = slices.Clone(items)
			t.set(r, next)
			r.written = true
			if _, err := q.Exec(ctx, `DELETE FROM batch WHERE chunk = $1 AND late < 2`, r.id); err != nil {
				return err
			}
			if err := t.save(ctx, q); err != nil {
				return err
			}
		}
		return q.QueryRow(ctx, `SELECT NOT EXISTS (SELECT FROM chunk WHERE survey = $1 AND NOT written)`, k.Survey).Scan(&last)
	})
	return last, err
}

// Settle implements Store.
func (p *Postgres) Settle(ctx context.Context, survey string) error {
	return p.transact(ctx, writing, func(ctx context.Context, q pgConn) error {
		if err := lockSurvey(ctx, q, survey); err != nil { // new chunks are numbered
			return err
		}
		t := newChunkTx()
		found, err := q.Query(ctx, `SELECT `+chunkColumns+` FROM chunk WHERE survey = $1 AND phase = 1 AND items IS NOT NULL ORDER BY id FOR UPDATE`, survey)
		if err != nil {
			return err
		}
		if _, err := pgx.CollectRows(found, t.scan); err != nil {
			return err
		}
		for _, r := range t.sorted() {
			head, rest, ok := r.Split()
			if !ok {
				continue
			}
			t.set(r, head)
			t.count(survey, nil, rest.Items)
			t.requeued[survey] = true
			if err := insertRest(ctx, q, r.id, rest); err != nil {
				return err
			}
		}
		return t.save(ctx, q)
	})
}

// insertRest adds the rest of a chunk under the next free number.
func insertRest(ctx context.Context, q pgConn, id int64, s lease.State) error {
	r := row{Chunk: Chunk{State: s}}
	rest, items, err := r.encode()
	if err != nil {
		return err
	}
	_, err = q.Exec(ctx, `INSERT INTO chunk (survey, chunk, source, copy, pin, shared, size, phase, lease, items)
		SELECT survey, (SELECT max(chunk) + 1 FROM chunk AS all_of_it WHERE survey = head.survey), source, copy, pin, shared, size, $2, $3, $4 FROM chunk AS head WHERE id = $1`,
		id, int16(s.Phase), rest, items)
	return err
}

// lockSurvey keeps others from doing the same to the survey, and nothing else
// out.
func lockSurvey(ctx context.Context, q pgConn, survey string) error {
	_, err := q.Exec(ctx, `SELECT FROM survey WHERE id = $1 FOR NO KEY UPDATE`, survey)
	return err
}

// one loads a chunk, or returns ErrNotFound.
func (t *chunkTx) one(ctx context.Context, q pgConn, k Key, lock string) (*pgRow, error) {
	rows, err := q.Query(ctx, `SELECT `+chunkColumns+` FROM chunk WHERE survey = $1 AND chunk = $2 `+lock, k.Survey, int64(k.Chunk))
	if err != nil {
		return nil, err
	}
	r, err := pgx.CollectExactlyOneRow(rows, t.scan)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, fmt.Errorf("survey %s chunk %d: %w", k.Survey, k.Chunk, ErrNotFound)
	}
	return r, err
}

// keys are the chunks that meet a condition.
func (p *Postgres) keys(ctx context.Context, where string, args ...any) (keys []Key, err error) {
	err = p.transact(ctx, single, func(ctx context.Context, q pgConn) error {
		rows, err := q.Query(ctx, `SELECT survey, chunk FROM chunk WHERE `+where+` ORDER BY survey, chunk`, args...)
		if err != nil {
			return err
		}
		keys, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Key])
		return err
	})
	return keys, err
}

// surveys are the surveys that meet a condition, oldest first.
func surveys(ctx context.Context, q querier, where string, args ...any) ([]Survey, error) {
	rows, err := q.Query(ctx, `SELECT survey.id, request, name, list.id, targets, chunk_size, spec, mode, copies, probes, paused, phase, cancel, reason, created, ended
		FROM survey JOIN list ON list.id = survey.list WHERE `+where+` ORDER BY created, survey.id`, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (s Survey, err error) {
		var spec []byte
		var ended sql.NullTime
		err = row.Scan(&s.ID, &s.Request, &s.Name, &s.List.ID, &s.List.Targets, &s.List.ChunkSize, &spec, &s.Mode, &s.Copies, &s.Probes, &s.Paused, &s.Phase, &s.Cancel, &s.Reason, &s.Created, &ended)
		if err != nil {
			return s, err
		}
		if len(s.Probes) == 0 {
			s.Probes = nil
		}
		s.Created = s.Created.UTC()
		if ended.Valid {
			s.Ended = ended.Time.UTC()
		}
		s.Spec = new(pb.SurveySpec)
		return s, proto.Unmarshal(spec, s.Spec)
	})
}

// surveyBy is the survey with a value that no other one has, or ErrNotFound.
func surveyBy(ctx context.Context, q querier, column, value string) (Survey, error) {
	found, err := surveys(ctx, q, column+` = $1`, value)
	if err != nil {
		return Survey{}, err
	}
	if len(found) == 0 {
		return Survey{}, fmt.Errorf("survey %s: %w", value, ErrNotFound)
	}
	return found[0], nil
}

// TakeUnwritten implements Store.
func (p *Postgres) TakeUnwritten(ctx context.Context, writer string, d time.Duration, limit int) (keys []Key, err error) {
	err = p.transact(ctx, single, func(ctx context.Context, q pgConn) error {
		rows, err := q.Query(ctx, `WITH at AS MATERIALIZED (SELECT `+now+` AS now)
			UPDATE chunk SET writer = $2, writing = at.now + $3::interval FROM at, (SELECT id FROM chunk, at
				WHERE NOT written AND phase >= 5 AND (writing IS NULL OR writing <= at.now OR writer = $2)
				ORDER BY survey, chunk LIMIT $4 FOR UPDATE OF chunk SKIP LOCKED) AS free
			WHERE chunk.id = free.id RETURNING survey, chunk`, p.clock(), writer, d, limit)
		if err != nil {
			return err
		}
		keys, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Key])
		sortKeys(keys)
		return err
	})
	return keys, err
}

// Finished implements Store.
func (p *Postgres) Finished(ctx context.Context) (ids []string, err error) {
	err = p.transact(ctx, single, func(ctx context.Context, q pgConn) error {
		rows, err := q.Query(ctx, `SELECT id FROM survey WHERE phase = 2 AND NOT EXISTS (SELECT FROM chunk WHERE survey = survey.id AND NOT written) ORDER BY created, id`)
		if err != nil {
			return err
		}
		ids, err = pgx.CollectRows(rows, pgx.RowTo[string])
		return err
	})
	return ids, err
}

// Missing implements Store.
func (p *Postgres) Missing(ctx context.Context, survey string, n int) (names []string, err error) {
	err = p.transact(ctx, reading, func(ctx context.Context, q pgConn) error {
		names = nil
		terms, err := p.terms(ctx, q, survey)
		if err != nil || len(terms.probes) == 0 {
			return err
		}
		live, err := nameSet(ctx, q, `SELECT probe FROM session WHERE heard + stale > `+now, p.clock())
		if err != nil {
			return err
		}
		parts, takers, err := parts(ctx, q, survey)
		names = terms.missing(parts, takers, live, n)
		return err
	})
	return names, err
}

// Pinned implements Store.
func (p *Postgres) Pinned(ctx context.Context, probe string) (keys []Key, err error) {
	err = p.transact(ctx, reading, func(ctx context.Context, q pgConn) error {
		keys = nil
		banned, err := nameSet(ctx, q, bannedProbes, kindProbe)
		if err != nil {
			return err
		}
		open, err := surveys(ctx, q, `phase < $1`, Done)
		if err != nil {
			return err
		}
		for _, s := range open {
			parts, takers, err := parts(ctx, q, s.ID)
			if err != nil {
				return err
			}
			keys = append(keys, termsOf(s).pinned(s.ID, probe, parts, takers, banned)...)
		}
		return nil
	})
	return keys, err
}

// parts are the chunks of a survey that are not over.
func parts(ctx context.Context, q querier, survey string) ([]part, takers, error) {
	rows, err := q.Query(ctx, `SELECT chunk, source, copy, pin FROM chunk WHERE survey = $1 AND NOT written AND phase < 5 ORDER BY chunk`, survey)
	if err != nil {
		return nil, nil, err
	}
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (p part, err error) {
		return p, row.Scan(&p.chunk, &p.source, &p.copy, &p.pin)
	})
	if err != nil {
		return nil, nil, err
	}
	if rows, err = q.Query(ctx, `SELECT source, copy, probe FROM taken WHERE survey = $1`, survey); err != nil {
		return nil, nil, err
	}
	ts := make(takers)
	var source, copy uint32
	var probe string
	_, err = pgx.ForEachRow(rows, []any{&source, &copy, &probe}, func() error {
		ts.add(source, copy, probe)
		return nil
	})
	return found, ts, err
}

func nameSet(ctx context.Context, q querier, sql string, args ...any) (map[string]bool, error) {
	rows, err := q.Query(ctx, sql, args...)
	if err != nil {
		return nil, err
	}
	set := make(map[string]bool)
	var name string
	_, err = pgx.ForEachRow(rows, []any{&name}, func() error {
		set[name] = true
		return nil
	})
	return set, err
}
