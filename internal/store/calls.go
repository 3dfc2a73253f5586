package store

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	"tfofleet/internal/lease"
)

var _ Store = (*SQLite)(nil)

// PutList implements Store.
func (s *SQLite) PutList(ctx context.Context, l List) error {
	return s.call(ctx, func(t *tx) error {
		t.exec(`INSERT INTO list (id, targets, chunk_size) VALUES (?, ?, ?) ON CONFLICT DO NOTHING`, l.ID, int64(l.Targets), l.ChunkSize)
		return nil
	})
}

// List implements Store.
func (s *SQLite) List(ctx context.Context, id string) (List, error) {
	return ask(ctx, s, func(t *tx) (List, error) {
		l := List{ID: id}
		if !t.get(`SELECT targets, chunk_size FROM list WHERE id = ?`, []any{id}, &l.Targets, &l.ChunkSize) {
			return l, fmt.Errorf("target list %s: %w", id, ErrNotFound)
		}
		return l, nil
	})
}

// CreateSurvey implements Store.
func (s *SQLite) CreateSurvey(ctx context.Context, v Survey) (Survey, error) {
	v, err := v.complete()
	if err != nil {
		return v, err
	}
	spec, err := proto.Marshal(v.Spec)
	if err != nil {
		return Survey{}, err
	}
	probes, err := json.Marshal(v.Probes)
	if err != nil {
		return Survey{}, err
	}
	pins, err := json.Marshal(v.pins())
	if err != nil {
		return Survey{}, err
	}
	return ask(ctx, s, func(t *tx) (Survey, error) {
		if found := t.surveys(`request = ?`, v.Request); len(found) > 0 {
			return found[0], nil
		}
		t.exec(`INSERT INTO survey (id, request, name, list, spec, mode, copies, probes, phase, created) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			v.ID, v.Request, v.Name, v.List.ID, spec, v.Mode, v.Copies, string(probes), Creating, v.Created.UnixNano())
		t.exec(`INSERT INTO chunk (survey, chunk, source, copy, pin, shared, size, phase)
			WITH RECURSIVE c(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM c WHERE i + 1 < ?1)
			SELECT ?2, copy.key * ?1 + i, i, copy.key, copy.value, iif(?7, ?2 || '/' || i, NULL), min(?3, ?4 - i * ?3), ?5 FROM json_each(?6) AS copy CROSS JOIN c WHERE i < ?1`,
			v.List.Chunks(), v.ID, v.List.ChunkSize, int64(v.List.Targets), lease.Pending, string(pins), v.Mode == Copies)
		t.delta(v.ID)[0] += int64(v.List.Targets) * int64(v.Copies)
		t.flush()
		return t.survey(`id = ?`, v.ID)
	})
}

// Survey implements Store.
func (s *SQLite) Survey(ctx context.Context, id string) (Survey, error) {
	return ask(ctx, s, func(t *tx) (Survey, error) { return t.survey(`id = ?`, id) })
}

// Surveys implements Store.
func (s *SQLite) Surveys(ctx context.Context) ([]Survey, error) {
	return ask(ctx, s, func(t *tx) ([]Survey, error) { return t.surveys(`phase < ?`, Done), nil })
}

// AllSurveys implements Store.
func (s *SQLite) AllSurveys(ctx context.Context) ([]Survey, error) {
	return ask(ctx, s, func(t *tx) ([]Survey, error) { return t.surveys(`phase <= ?`, Failed), nil })
}

// SetPhase implements Store.
func (s *SQLite) SetPhase(ctx context.Context, id string, p Phase, reason string) (Survey, error) {
	return ask(ctx, s, func(t *tx) (Survey, error) {
		ended := nanos(t.now)
		ended.Valid = p >= Done
		t.exec(`UPDATE survey SET phase = ?, reason = iif(? = '', reason, ?), ended = ? WHERE id = ? AND phase < ?`, p, reason, reason, ended, id, Done)
		return t.survey(`id = ?`, id)
	})
}

// CancelSurvey implements Store.
func (s *SQLite) CancelSurvey(ctx context.Context, id string) error {
	return s.call(ctx, func(t *tx) error {
		if t.exec(`UPDATE survey SET cancel = 1 WHERE id = ?`, id) == 0 {
			return fmt.Errorf("survey %s: %w", id, ErrNotFound)
		}
		return nil
	})
}

// PauseSurvey implements Store.
func (s *SQLite) PauseSurvey(ctx context.Context, id string, paused bool) error {
	return s.call(ctx, func(t *tx) error {
		if t.exec(`UPDATE survey SET paused = ? WHERE id = ?`, paused, id) == 0 {
			return fmt.Errorf("survey %s: %w", id, ErrNotFound)
		}
		return nil
	})
}

// Tally implements Store.
func (s *SQLite) Tally(ctx context.Context, id string) (lease.Tally, error) {
	return ask(ctx, s, func(t *tx) (tally lease.Tally, err error) {
		t.flush()
		t.each(`SELECT item, n FROM tally WHERE survey = ?`, []any{id}, func(scan func(...any)) {
			var item uint8
			var n int64
			scan(&item, &n)
			tally[item] = n
		})
		return tally, nil
	})
}

// Apply implements Store.
func (s *SQLite) Apply(ctx context.Context, k Key, e lease.Event, b *Batch) (Chunk, []lease.Effect, error) {
	type applied struct {
		c       Chunk
		effects []lease.Effect
	}
	way := s.requests
	if b != nil {
		way = s.bulk
	}
	a, err := askIn(ctx, s, way, func(t *tx) (applied, error) {
		r, effects, err := t.apply(k, e, b)
		if err != nil {
			return applied{}, err
		}
		return applied{r.Chunk, effects}, nil
	})
	return a.c, a.effects, err
}

func (t *tx) apply(k Key, e lease.Event, b *Batch) (*row, []lease.Effect, error) {
	r, err := t.chunk(k)
	if err != nil {
		return nil, nil, err
	}
	terms, err := t.terms(k.Survey)
	if err != nil {
		return nil, nil, err
	}
	if b != nil {
		var one int
		if t.get(`SELECT 1 FROM batch WHERE chunk = ? AND epoch = ? AND spool = ? AND sequence = ?`, []any{r.id, int64(b.Epoch), b.Spool, int64(b.Sequence)}, &one) {
			return r, nil, nil
		}
	}
	if x, ok := e.(lease.Expire); ok {
		if frozen := t.frozen(); frozen.After(x.FrozenUntil) {
			e = lease.Expire{FrozenUntil: frozen}
		}
	}
	rules := t.s.opts.Rules
	rules.Repeat = terms.repeat
	next, effects := rules.Step(r.State, t.now, e)
	t.set(r, next)
	if b != nil && !slices.Contains(effects, lease.Reject) {
		t.through(b.Spool, b.Sequence)
	}
	for _, f := range effects {
		switch f {
		case lease.Keep:
			t.keep(r, b, 0)
		case lease.KeepLate:
			t.keep(r, b, 1)
		case lease.KeepAside:
			t.keep(r, b, 2)
		case lease.Finish:
			tally := lease.Count(next.Items)
			r.written = tally.Of(lease.Measured)+tally.Of(lease.Refused)+tally.Of(lease.Interrupted) == 0
		}
	}
	return r, effects, t.err
}

func (t *tx) keep(r *row, b *Batch, late int) {
	if b == nil {
		return
	}
	t.exec(`INSERT INTO batch (chunk, epoch, spool, sequence, probe, late, address, body) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`,
		r.id, int64(b.Epoch), b.Spool, int64(b.Sequence), b.Probe, late, b.Address, notNil(b.Body))
}

// Due implements Store.
func (s *SQLite) Due(ctx context.Context) ([]Key, error) {
	return ask(ctx, s, func(t *tx) ([]Key, error) { return t.keys(`deadline <= ?`, t.now.UnixNano()), nil })
}

// HeldBy implements Store.
func (s *SQLite) HeldBy(ctx context.Context, probe string) ([]Chunk, error) {
	return ask(ctx, s, func(t *tx) (chunks []Chunk, err error) {
		for _, k := range t.keys(`holder = ?`, probe) {
			r, err := t.chunk(k)
			if err != nil {
				return nil, err
			}
			chunks = append(chunks, r.Chunk)
		}
		return chunks, nil
	})
}

// Open implements Store.
func (s *SQLite) Open(ctx context.Context, survey string) ([]Key, error) {
	return ask(ctx, s, func(t *tx) ([]Key, error) { return t.keys(`survey = ? AND phase < ?`, survey, lease.Done), nil })
}

// Unwritten implements Store.
func (s *SQLite) Unwritten(ctx context.Context) ([]Key, error) {
	return ask(ctx, s, func(t *tx) ([]Key, error) { return t.keys(`written = 0 AND phase >= 5`), nil })
}

// Batches implements Store.
func (s *SQLite) Batches(ctx context.Context, k Key) (Chunk, []Batch, error) {
	type kept struct {
		c  Chunk
		bs []Batch
	}
	all, err := ask(ctx, s, func(t *tx) (kept, error) {
		r, err := t.chunk(k)
		if err != nil {
			return kept{}, err
		}
		return kept{r.Chunk, t.batches(r, `late < 2`)}, nil
	})
	return all.c, all.bs, err
}

// batches are those of a chunk that meet a condition, in the order of arrival.
func (t *tx) batches(r *row, where string) (bs []Batch) {
	t.each(`SELECT epoch, spool, sequence, probe, late > 0, address, body FROM batch WHERE chunk = ? AND `+where+` ORDER BY id`, []any{r.id}, func(scan func(...any)) {
		var b Batch
		scan(&b.Epoch, &b.Spool, &b.Sequence, &b.Probe, &b.Late, &b.Address, &b.Body)
		bs = append(bs, b)
	})
	return bs
}

// Written implements Store.
func (s *SQLite) Written(ctx context.Context, k Key, items []lease.Item) (last bool, err error) {
	return ask(ctx, s, func(t *tx) (bool, error) {
		r, err := t.chunk(k)
		if err != nil {
			return false, err
		}
		if !r.Phase.Over() || len(items) != len(r.Items) {
			return false, fmt.Errorf("survey %s chunk %d is %v with %d targets: not to be written with %d", k.Survey, k.Chunk, r.Phase, len(r.Items), len(items))
		}
		if !r.written {
			next := r.State
			next.Items = slices.Clone(items)
			t.set(r, next)
			r.written = true
			t.exec(`DELETE FROM batch WHERE chunk = ? AND late < 2`, r.id)
		}
		t.flush()
		var one int
		return !t.get(`SELECT 1 FROM chunk WHERE survey = ? AND written = 0 LIMIT 1`, []any{k.Survey}, &one), nil
	})
}

// Settle implements Store.
func (s *SQLite) Settle(ctx context.Context, survey string) error {
	return s.call(ctx, func(t *tx) error {
		for _, k := range t.keys(`survey = ? AND phase = 1 AND items IS NOT NULL`, survey) {
			r, err := t.chunk(k)
			if err != nil {
				return err
			}
			head, rest, ok := r.Split()
			if !ok {
				continue
			}
			t.set(r, head)
			t.exec(`INSERT INTO chunk (survey, chunk, source, copy, pin, shared, size, phase)
				SELECT survey, (SELECT max(chunk) + 1 FROM chunk WHERE survey = ?1), source, copy, pin, shared, size, ?2 FROM chunk WHERE id = ?3`, survey, rest.Phase, r.id)
			var n uint32
			if !t.get(`SELECT max(chunk) FROM chunk WHERE survey = ?`, []any{survey}, &n) {
				return t.err
			}
			part, err := t.chunk(Key{survey, n})
			if err != nil {
				return err
			}
			// The new row was never counted, the head is without these now.
			part.Items = make([]lease.Item, len(rest.Items))
			for i := range part.Items {
				part.Items[i] = lease.Result(lease.Moved, 0)
			}
			t.set(part, rest)
			t.flush()
			delete(t.s.looked, survey)
		}
		return t.err
	})
}

// notNil is for columns that are never null: an empty blob is nil to the driver
// otherwise.
func notNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
