package store

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"tfofleet/internal/lease"
)

// Postgres is a Store in a PostgreSQL database, for any number of controllers:
// whatever one of them was told, any other one goes on with.
//
// A chunk is locked while an event is applied to it, so that its events come
// one after the other, whoever they come from. Locks are taken in one order:
// survey, chunks by id, spools, counts by survey and item.
//
// Every deadline is by the database's clock. Those of the controllers differ.
type Postgres struct {
	opts     Options
	pool     *pgxpool.Pool
	patience time.Duration // of one call with all its repetitions
	known    sync.Map      // survey -> terms
	looked   looked        // of the one goroutine that claims

	applies *group[*applying]
	claims  *group[*claiming]
	beats   *group[*beating]

	// enrolling is held over an identity update, see postgresIdentity.
	enrolling chan struct{}
}

var _ Store = (*Postgres)(nil)

const (
	// appliers is how many transactions with results are under way at once: one
	// is computed while the other waits for the disk.
	appliers = 2
	// minConns is what the groups, the calls of their own and identity need to
	// not wait for each other.
	minConns = 10
	// defaultPatience is for a database that does not answer: no other call takes
	// that long.
	defaultPatience = 30 * time.Second
)

// OpenPostgres opens the store in the database at the URL, and makes its tables
// if they are not there. The URL is as libpq has it, with the parameters of
// pgxpool (pool_max_conns) in addition. A pooler between has to keep sessions.
func OpenPostgres(ctx context.Context, url string, opts Options) (*Postgres, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err) // without the password
	}
	return openPostgres(ctx, cfg, opts)
}

func openPostgres(ctx context.Context, cfg *pgxpool.Config, opts Options) (*Postgres, error) {
	cfg.MaxConns = max(cfg.MaxConns, minConns)
	cfg.AfterConnect = settle
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	p := &Postgres{opts: opts, pool: pool, patience: defaultPatience, looked: make(looked), enrolling: make(chan struct{}, 1)}
	if err := p.prepare(ctx); err != nil {
		pool.Close()
		return nil, fmt.Errorf("store %s: %w", cfg.ConnConfig.Database, postgresError(err))
	}
	p.applies = newGroup(appliers, p.applyAll)
	p.claims = newGroup(1, p.claimAll)
	p.beats = newGroup(1, p.beatAll)
	return p, nil
}

// settle makes a session what the store relies on.
func settle(ctx context.Context, c *pgx.Conn) error {
	// A controller that hangs or is cut off in the middle of a transaction must
	// not keep its locks.
	// Off is the only level at which a commit is answered before it is on the
	// disk; it is fit for other users of the server.
	// Plans are made for the tables as they are now: a plan from when they were
	// empty reads all of them, and statements are few and large.
	_, err := c.Exec(ctx, `SELECT set_config('idle_in_transaction_session_timeout', '10s', false),
		set_config('synchronous_commit', replace(current_setting('synchronous_commit'), 'off', 'on'), false),
		set_config('plan_cache_mode', 'force_custom_plan', false)`)
	return err
}

func (p *Postgres) prepare(ctx context.Context) error {
	var fsync string
	if err := p.pool.QueryRow(ctx, `SELECT current_setting('fsync')`).Scan(&fsync); err != nil {
		return err
	}
	if fsync != "on" {
		return errors.New("the server runs with fsync off: what it says is stored is lost with the power")
	}
	return migratePostgres(ctx, p.pool)
}

// Close waits for the calls under way.
func (p *Postgres) Close() error {
	p.applies.close()
	p.claims.close()
	p.beats.close()
	p.pool.Close()
	return nil
}

// clock is the argument of now; null means the database's own.
func (p *Postgres) clock() *time.Time {
	if p.opts.Now == nil {
		return nil
	}
	t := p.opts.Now()
	return &t
}

// now is the time by SQL. It goes on inside a transaction: what waited for a
// lock comes after what it waited for.
const now = `coalesce($1::timestamptz, clock_timestamp())`

// terms are those of a survey.
func (p *Postgres) terms(ctx context.Context, q querier, survey string) (terms, error) {
	if known, ok := p.known.Load(survey); ok {
		return known.(terms), nil
	}
	s, err := surveyBy(ctx, q, `survey.id`, survey)
	if err != nil {
		return terms{}, err
	}
	p.known.Store(survey, termsOf(s))
	return termsOf(s), nil
}

// rules are those of a survey's leases.
func (p *Postgres) rules(s terms) lease.Rules {
	rules := p.opts.Rules
	rules.Repeat = s.repeat
	return rules
}
