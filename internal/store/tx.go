package store

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"google.golang.org/protobuf/proto"

	"tfofleet/internal/lease"
	pb "tfofleet/proto/tfofleet/v1"
)

// tx is a transaction that several calls share. Chunks and counts are kept in
// it and written when it ends, or before a query that has to see them.
type tx struct {
	s       *SQLite
	now     time.Time
	chunks  map[Key]*row
	tallies map[string]*lease.Tally // changes
	spools  map[string]uint64       // how far they came
	err     error                   // of the database; the transaction is lost
}

// ctx is for the driver: the calls of a transaction come from many callers,
// and none of them may cut it short.
var background = context.Background()

func (s *SQLite) begin() *tx {
	t := &tx{s: s, now: s.opts.Now(), chunks: make(map[Key]*row), tallies: make(map[string]*lease.Tally), spools: make(map[string]uint64)}
	t.exec("BEGIN IMMEDIATE")
	return t
}

// run is one call's part. An error that is not the database's is the call's
// own, and nothing was written then.
func (t *tx) run(do func(*tx) error) error {
	if t.err != nil {
		return t.err
	}
	return do(t)
}

func (t *tx) commit() error {
	t.flush()
	t.exec("COMMIT")
	if t.err != nil {
		// SQLite may have rolled back by itself.
		_, _ = t.s.conn.ExecContext(background, "ROLLBACK")
		clear(t.s.looked)
		return classify(t.err)
	}
	return nil
}

func (t *tx) stmt(query string) *sql.Stmt {
	if t.err != nil {
		return nil
	}
	stmt, ok := t.s.stmts[query]
	if !ok {
		var err error
		if stmt, err = t.s.conn.PrepareContext(background, query); err != nil {
			t.err = err
			return nil
		}
		t.s.stmts[query] = stmt
	}
	return stmt
}

// exec returns how many rows it changed.
func (t *tx) exec(query string, args ...any) int64 {
	stmt := t.stmt(query)
	if stmt == nil {
		return 0
	}
	r, err := stmt.ExecContext(background, args...)
	if err != nil {
		t.err = err
		return 0
	}
	n, _ := r.RowsAffected() // the driver always knows
	return n
}

// get scans the only row of a query; false when there is none.
func (t *tx) get(query string, args []any, dest ...any) bool {
	stmt := t.stmt(query)
	if stmt == nil {
		return false
	}
	err := stmt.QueryRowContext(background, args...).Scan(dest...)
	if err != nil && !errors.Is(err, sql.ErrNoRows) {
		t.err = err
	}
	return err == nil
}

// each calls scan for every row.
func (t *tx) each(query string, args []any, scan func(scan func(dest ...any))) {
	stmt := t.stmt(query)
	if stmt == nil {
		return
	}
	rows, err := stmt.QueryContext(background, args...)
	if err != nil {
		t.err = err
		return
	}
	defer rows.Close()
	for rows.Next() && t.err == nil {
		scan(func(dest ...any) {
			if err := rows.Scan(dest...); err != nil {
				t.err = err
			}
		})
	}
	if err := rows.Err(); err != nil && t.err == nil {
		t.err = err
	}
}

// chunk loads a chunk, or returns ErrNotFound.
func (t *tx) chunk(k Key) (*row, error) {
	if r, ok := t.chunks[k]; ok {
		return r, nil
	}
	var (
		r        = &row{Chunk: Chunk{Key: k}}
		size     int
		deadline sql.NullInt64
		rest     sql.NullString
		items    []byte
	)
	found := t.get(`SELECT id, source, copy, pin, size, phase, written, late, deadline, lease, items FROM chunk WHERE survey = ? AND chunk = ?`,
		[]any{k.Survey, k.Chunk}, &r.id, &r.Source, &r.Copy, &r.Pin, &size, &r.Phase, &r.written, &r.late, &deadline, &rest, &items)
	if t.err != nil {
		return nil, t.err
	}
	if !found {
		return nil, fmt.Errorf("survey %s chunk %d: %w", k.Survey, k.Chunk, ErrNotFound)
	}
	if deadline.Valid {
		r.Deadline = time.Unix(0, deadline.Int64).UTC()
	}
	if t.err = r.decode(rest.String, size, items); t.err != nil {
		return nil, t.err
	}
	t.chunks[k] = r
	return r, nil
}

// set gives a chunk its next state.
func (t *tx) set(r *row, s lease.State) {
	d := t.delta(r.Survey)
	was, is := lease.Count(r.Items), lease.Count(s.Items)
	for i := range d {
		d[i] += is[i] - was[i]
	}
	if s.Phase == lease.Pending && r.Phase != lease.Pending {
		delete(t.s.looked, r.Survey)
	}
	r.State, r.dirty = s, true
}

func (t *tx) delta(survey string) *lease.Tally {
	d, ok := t.tallies[survey]
	if !ok {
		d = new(lease.Tally)
		t.tallies[survey] = d
	}
	return d
}

// flush writes what is kept in the transaction.
func (t *tx) flush() {
	for _, r := range t.chunks {
		if r.dirty {
			t.put(r)
			r.dirty = false
		}
	}
	for survey, d := range t.tallies {
		for item, n := range d {
			if n != 0 {
				t.exec(`INSERT INTO tally (survey, item, n) VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET n = n + excluded.n`, survey, item, n)
			}
		}
		delete(t.tallies, survey)
	}
	for spool, through := range t.spools {
		t.exec(`INSERT INTO spool (id, through) VALUES (?, ?) ON CONFLICT DO UPDATE SET through = max(through, excluded.through)`, spool, int64(through))
		delete(t.spools, spool)
	}
}

func (t *tx) put(r *row) {
	rest, items, err := r.encode()
	if err != nil {
		t.err = err
		return
	}
	t.exec(`UPDATE chunk SET phase = ?, written = ?, holder = ?, deadline = ?, lease = ?, items = ? WHERE id = ?`,
		r.Phase, r.written, null(r.Newest()), nanos(r.Deadline), rest, items, r.id)
}

// terms are those of a survey.
func (t *tx) terms(survey string) (terms, error) {
	if known, ok := t.s.terms[survey]; ok {
		return known, nil
	}
	s, err := t.survey(`id = ?`, survey)
	if err != nil {
		return terms{}, err
	}
	t.s.terms[survey] = termsOf(s)
	return t.s.terms[survey], nil
}

// surveys are the surveys that meet a condition, oldest first.
func (t *tx) surveys(where string, args ...any) (found []Survey) {
	t.each(`SELECT survey.id, request, name, list.id, targets, chunk_size, spec, mode, copies, probes, paused, phase, cancel, reason, created, ended
		FROM survey JOIN list ON list.id = survey.list WHERE `+where+` ORDER BY created, survey.id`, args, func(scan func(...any)) {
		var (
			s       Survey
			spec    []byte
			probes  []byte
			created int64
			ended   sql.NullInt64
		)
		scan(&s.ID, &s.Request, &s.Name, &s.List.ID, &s.List.Targets, &s.List.ChunkSize, &spec, &s.Mode, &s.Copies, &probes, &s.Paused, &s.Phase, &s.Cancel, &s.Reason, &created, &ended)
		s.Created = time.Unix(0, created).UTC()
		if ended.Valid {
			s.Ended = time.Unix(0, ended.Int64).UTC()
		}
		s.Spec = new(pb.SurveySpec)
		if t.err == nil {
			t.err = errors.Join(proto.Unmarshal(spec, s.Spec), json.Unmarshal(probes, &s.Probes))
		}
		if len(s.Probes) == 0 {
			s.Probes = nil
		}
		found = append(found, s)
	})
	return found
}

func (t *tx) survey(where, arg string) (Survey, error) {
	found := t.surveys("survey."+where, arg)
	if t.err != nil {
		return Survey{}, t.err
	}
	if len(found) == 0 {
		return Survey{}, fmt.Errorf("survey %s: %w", arg, ErrNotFound)
	}
	return found[0], nil
}

// keys are the chunks that meet a condition.
func (t *tx) keys(where string, args ...any) (keys []Key) {
	t.flush()
	t.each(`SELECT survey, chunk FROM chunk WHERE `+where+` ORDER BY survey, chunk`, args, func(scan func(...any)) {
		var k Key
		scan(&k.Survey, &k.Chunk)
		keys = append(keys, k)
	})
	return keys
}

func null(s string) sql.NullString { return sql.NullString{String: s, Valid: s != ""} }

func nanos(t time.Time) sql.NullInt64 {
	if t.IsZero() {
		return sql.NullInt64{}
	}
	return sql.NullInt64{Int64: t.UnixNano(), Valid: true}
}
