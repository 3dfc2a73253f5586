package store

import (
	"context"
	"strings"
	"time"

	"tfofleet/internal/lease"
)

// Claim implements Store.
func (s *SQLite) Claim(ctx context.Context, probe, instance string) (Chunk, error) {
	return ask(ctx, s, func(t *tx) (Chunk, error) {
		t.flush()
		k, terms, err := t.next(probe)
		if err != nil {
			return Chunk{}, err
		}
		r, _, err := t.apply(k, lease.Offer{Probe: probe, Instance: instance}, nil)
		if err != nil {
			return Chunk{}, err
		}
		t.exec(`INSERT INTO survey_probe (survey, probe) VALUES (?, ?) ON CONFLICT DO NOTHING`, k.Survey, probe)
		if terms.mode == Copies {
			t.exec(`INSERT INTO taken (survey, source, probe, copy) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING`, k.Survey, r.Source, probe, r.Copy)
		}
		return r.Chunk, nil
	})
}

// next is the chunk that a probe gets, or ErrNotFound.
func (t *tx) next(probe string) (Key, terms, error) {
	var drained bool
	if t.get(`SELECT drained FROM probe WHERE name = ?`, []any{probe}, &drained); drained {
		return Key{}, terms{}, ErrNotFound
	}
	// One look at the index for every survey that runs: a join would sort all
	// chunks that are pending, for each claim.
	var open []string
	t.each(`SELECT id FROM survey WHERE phase = 2 AND cancel = 0 AND paused = 0
		AND EXISTS (SELECT 1 FROM chunk WHERE survey = survey.id AND chunk.phase = 1 AND pin IN ('', ?)) ORDER BY created, id`, []any{probe}, func(scan func(...any)) {
		var id string
		scan(&id)
		open = append(open, id)
	})
	for _, id := range open {
		survey, err := t.terms(id)
		if err != nil {
			return Key{}, terms{}, err
		}
		if !survey.selects(probe) {
			continue
		}
		if n, ok := t.nextOf(id, survey, probe); ok {
			return Key{id, n}, survey, nil
		}
	}
	return Key{}, terms{}, ErrNotFound
}

// nextOf is the chunk that a probe gets of a survey.
func (t *tx) nextOf(id string, survey terms, probe string) (n uint32, ok bool) {
	if survey.mode == Copies {
		return t.nextCopy(id, survey, probe)
	}
	pin := ""
	if survey.mode == Every {
		pin = probe
	}
	return n, t.get(`SELECT chunk FROM chunk WHERE survey = ? AND pin = ? AND phase = 1 ORDER BY chunk LIMIT 1`, []any{id, pin}, &n)
}

func (t *tx) nextCopy(id string, survey terms, probe string) (n uint32, ok bool) {
	looked := t.s.looked[id]
	if looked == nil {
		looked = make(map[string]uint32)
		t.s.looked[id] = looked
	}
	var source uint32
	query := strings.ReplaceAll(nextOfCopies, "$", "?")
	ok = looked[probe] < survey.chunks && t.get(query, []any{id, looked[probe], survey.chunks, probe}, &source, &n)
	if !ok {
		source = survey.chunks
	}
	looked[probe] = source
	return n, ok
}

// HasWork implements Store.
func (s *SQLite) HasWork(ctx context.Context) (bool, error) {
	return ask(ctx, s, func(t *tx) (bool, error) {
		t.flush()
		var one int
		return t.get(`SELECT 1 FROM survey WHERE phase = 2 AND cancel = 0 AND paused = 0
			AND EXISTS (SELECT 1 FROM chunk WHERE survey = survey.id AND chunk.phase = 1) LIMIT 1`, nil, &one), nil
	})
}

// Missing implements Store.
func (s *SQLite) Missing(ctx context.Context, survey string, n int) ([]string, error) {
	return ask(ctx, s, func(t *tx) ([]string, error) {
		terms, err := t.terms(survey)
		if err != nil || len(terms.probes) == 0 {
			return nil, err
		}
		live := make(map[string]bool)
		t.each(`SELECT probe FROM session WHERE heard + stale > ?`, []any{t.now.UnixNano()}, func(scan func(...any)) {
			var probe string
			scan(&probe)
			live[probe] = true
		})
		parts, takers := t.parts(survey)
		return terms.missing(parts, takers, live, n), nil
	})
}

// Pinned implements Store.
func (s *SQLite) Pinned(ctx context.Context, probe string) ([]Key, error) {
	return ask(ctx, s, func(t *tx) (keys []Key, err error) {
		banned := make(map[string]bool)
		t.each(bannedProbes, []any{kindProbe}, func(scan func(...any)) {
			var name string
			scan(&name)
			banned[name] = true
		})
		for _, s := range t.surveys(`phase < ?`, Done) {
			parts, takers := t.parts(s.ID)
			keys = append(keys, termsOf(s).pinned(s.ID, probe, parts, takers, banned)...)
		}
		return keys, nil
	})
}

// parts are the chunks of a survey that are not over.
func (t *tx) parts(survey string) (parts []part, ts takers) {
	t.flush()
	t.each(`SELECT chunk, source, copy, pin FROM chunk WHERE survey = ? AND written = 0 AND phase < 5 ORDER BY chunk`, []any{survey}, func(scan func(...any)) {
		var p part
		scan(&p.chunk, &p.source, &p.copy, &p.pin)
		parts = append(parts, p)
	})
	ts = make(takers)
	t.each(`SELECT source, copy, probe FROM taken WHERE survey = ?`, []any{survey}, func(scan func(...any)) {
		var source, copy uint32
		var probe string
		scan(&source, &copy, &probe)
		ts.add(source, copy, probe)
	})
	return parts, ts
}

// TakeUnwritten implements Store.
func (s *SQLite) TakeUnwritten(ctx context.Context, writer string, d time.Duration, limit int) ([]Key, error) {
	return ask(ctx, s, func(t *tx) (keys []Key, err error) {
		t.flush()
		now := t.now.UnixNano()
		t.each(`UPDATE chunk SET writer = ?1, writing = ?2 WHERE id IN (SELECT id FROM chunk
			WHERE written = 0 AND phase >= 5 AND (writing IS NULL OR writing <= ?3 OR writer = ?1) ORDER BY survey, chunk LIMIT ?4)
			RETURNING survey, chunk`, []any{writer, now + int64(d), now, limit}, func(scan func(...any)) {
			var k Key
			scan(&k.Survey, &k.Chunk)
			keys = append(keys, k)
		})
		sortKeys(keys)
		return keys, nil
	})
}

// Finished implements Store.
func (s *SQLite) Finished(ctx context.Context) ([]string, error) {
	return ask(ctx, s, func(t *tx) (ids []string, err error) {
		t.flush()
		t.each(`SELECT id FROM survey WHERE phase = 2 AND NOT EXISTS (SELECT 1 FROM chunk WHERE survey = survey.id AND written = 0) ORDER BY created, id`, nil, func(scan func(...any)) {
			var id string
			scan(&id)
			ids = append(ids, id)
		})
		return ids, nil
	})
}
