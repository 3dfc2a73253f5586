package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"time"

	"modernc.org/sqlite"
	sqlite3 "modernc.org/sqlite/lib"
)

// SQLite is a Store in one file, for one controller.
//
// One goroutine owns the only connection. Calls that arrive while it waits for
// the disk share the next transaction, and so one fsync: that, not the
// database, is what a batch costs.
type SQLite struct {
	opts  Options
	db    *sql.DB
	conn  *sql.Conn
	stmts map[string]*sql.Stmt
	terms map[string]terms
	// looked has, by survey of copies and probe, the first source of which there
	// may be something for the probe, until a chunk becomes pending again.
	looked   map[string]map[string]uint32
	requests chan *request
	bulk     chan *request // batches: they come after all others
	closing  chan struct{}
	closed   chan struct{}
}

// request is one call, and the answer once it is durable.
type request struct {
	do   func(*tx) error
	done chan error
}

// maxGroup bounds the calls of one transaction: while it runs, nobody is
// answered. Batches are large, so that it takes fewer of them: a heartbeat must
// not wait long behind results.
const (
	maxGroup = 256
	maxBulk  = 64
)

// OpenSQLite opens the store in the file, and makes it if it is not there. It
// is ErrInUse while another process has it open.
func OpenSQLite(ctx context.Context, path string, opts Options) (*SQLite, error) {
	if opts.Now == nil {
		opts.Now = time.Now
	}
	s := &SQLite{
		opts: opts, stmts: make(map[string]*sql.Stmt), terms: make(map[string]terms), looked: make(map[string]map[string]uint32),
		requests: make(chan *request), bulk: make(chan *request), closing: make(chan struct{}), closed: make(chan struct{}),
	}
	if err := s.open(ctx, path); err != nil {
		s.release()
		return nil, fmt.Errorf("store %s: %w", path, classify(err))
	}
	go s.run()
	return s, nil
}

func (s *SQLite) open(ctx context.Context, path string) (err error) {
	// A new file is its owner's alone, wherever it is, and the WAL takes after it.
	// One that is there is not touched: closing it would drop the locks that this
	// process has on it.
	switch f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600); {
	case err == nil:
		if err := f.Close(); err != nil {
			return err
		}
	case !errors.Is(err, fs.ErrExist):
		return err
	}
	// EXCLUSIVE comes before WAL: then a second controller is kept out for as long
	// as this one lives, and the WAL needs no shared memory.
	// FULL, not NORMAL: in WAL mode NORMAL does not sync at a commit, and what
	// was acknowledged would be gone after a loss of power.
	// The WAL holds every batch once. A checkpoint copies it into the file,
	// where most pages are free again soon: the later it comes, the fewer.
	q := url.Values{"_pragma": {
		"busy_timeout(0)", "locking_mode(EXCLUSIVE)", "journal_mode(WAL)", "synchronous(FULL)",
		"wal_autocheckpoint(2000)", "journal_size_limit(67108864)", "cache_size(-16384)", "foreign_keys(ON)",
	}}
	if s.db, err = sql.Open("sqlite", "file:"+(&url.URL{Path: path}).EscapedPath()+"?"+q.Encode()); err != nil {
		return err
	}
	if s.conn, err = s.db.Conn(ctx); err != nil {
		return err
	}
	return migrate(ctx, s.conn)
}

func (s *SQLite) release() error {
	var errs []error
	for _, stmt := range s.stmts {
		errs = append(errs, stmt.Close())
	}
	if s.conn != nil {
		errs = append(errs, s.conn.Close())
	}
	if s.db != nil {
		errs = append(errs, s.db.Close())
	}
	return errors.Join(errs...)
}

// Close waits for the calls under way.
func (s *SQLite) Close() error {
	close(s.closing)
	<-s.closed
	return s.release()
}

var errClosed = errors.New("store: closed")

// ask runs do in a transaction and returns its answer after it is durable. Do
// may run more than once; the last run counts.
func ask[T any](ctx context.Context, s *SQLite, do func(*tx) (T, error)) (T, error) {
	return askIn(ctx, s, s.requests, do)
}

// askIn is ask, by one of the two ways in.
func askIn[T any](ctx context.Context, s *SQLite, way chan<- *request, do func(*tx) (T, error)) (T, error) {
	var answer, none T
	r := &request{
		do: func(t *tx) (err error) {
			answer, err = do(t)
			return err
		},
		done: make(chan error, 1),
	}
	select {
	case way <- r:
	case <-ctx.Done():
		return none, ctx.Err()
	case <-s.closing:
		return none, errClosed
	}
	select {
	case err := <-r.done:
		return answer, err
	case <-ctx.Done():
		return none, ctx.Err() // answer may still be written to
	}
}

// call is ask for what has no answer.
func (s *SQLite) call(ctx context.Context, do func(*tx) error) error {
	_, err := ask(ctx, s, func(t *tx) (struct{}, error) { return struct{}{}, do(t) })
	return err
}

func (s *SQLite) run() {
	defer close(s.closed)
	for {
		select {
		case r := <-s.requests:
			s.group(r, 0)
		case r := <-s.bulk:
			s.group(r, 1)
		case <-s.closing:
			return
		}
	}
}

// waiting is a call that waits, batches last; nil when there is none. Bulk is
// how many batches the transaction has.
func (s *SQLite) waiting(bulk *int) *request {
	select {
	case r := <-s.requests:
		return r
	default:
	}
	if *bulk >= maxBulk {
		return nil
	}
	select {
	case r := <-s.bulk:
		*bulk++
		return r
	default:
	}
	return nil
}

// group runs a call, and those that wait, in one transaction.
func (s *SQLite) group(first *request, bulk int) {
	t := s.begin()
	group := []*request{first}
	results := []error{t.run(first.do)}
	for t.err == nil && len(group) < maxGroup {
		r := s.waiting(&bulk)
		if r == nil {
			break
		}
		group = append(group, r)
		results = append(results, t.run(r.do))
	}
	err := t.commit()
	if err != nil && len(group) > 1 {
		// One that needs no space must not fail with one that does.
		for _, r := range group {
			r.done <- s.alone(r.do)
		}
		return
	}
	for i, r := range group {
		if err != nil {
			r.done <- err
		} else {
			r.done <- results[i]
		}
	}
}

func (s *SQLite) alone(do func(*tx) error) error {
	t := s.begin()
	result := t.run(do)
	if err := t.commit(); err != nil {
		return err
	}
	return result
}

// classify gives an error of the database the name that callers know.
func classify(err error) error {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code() & 0xff {
	case sqlite3.SQLITE_FULL:
		return fmt.Errorf("%w (%w)", ErrFull, err)
	case sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED:
		return fmt.Errorf("%w (%w)", ErrInUse, err)
	}
	return err
}
