package store_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"tfofleet/internal/lease"
	"tfofleet/internal/measure"
	"tfofleet/internal/store"
	"tfofleet/internal/store/pgtest"
	"tfofleet/internal/store/storetest"
	pb "tfofleet/proto/tfofleet/v1"
)

var (
	ctx  = context.Background()
	good = lease.Result(lease.Measured, measure.Supported)
)

func openPostgres(t testing.TB, url string, opts store.Options) *store.Postgres {
	t.Helper()
	s, err := store.OpenPostgres(ctx, url, opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func openTwo(t testing.TB, url string, opts store.Options) *turns {
	t.Helper()
	return &turns{stores: [2]*store.Postgres{openPostgres(t, url, opts), openPostgres(t, url, opts)}}
}

func TestPostgres(t *testing.T) {
	storetest.Run(t, func(t testing.TB) storetest.Opener {
		url := pgtest.New(t)
		return func(t testing.TB, opts store.Options) store.Store { return openPostgres(t, url, opts) }
	})
}

// TestPostgresTwoControllers: all that holds with one holds with two, whichever
// of them is asked.
func TestPostgresTwoControllers(t *testing.T) {
	storetest.Run(t, func(t testing.TB) storetest.Opener {
		url := pgtest.New(t)
		return func(t testing.TB, opts store.Options) store.Store { return openTwo(t, url, opts) }
	})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func start(t testing.TB, s store.Store, id string, targets, size int) {
	t.Helper()
	l := store.List{ID: fmt.Sprintf("%d in %d", targets, size), Targets: uint64(targets), ChunkSize: size}
	must(t, s.PutList(ctx, l))
	_, err := s.CreateSurvey(ctx, store.Survey{ID: id, Request: id, List: l, Spec: &pb.SurveySpec{}})
	must(t, err)
	_, err = s.SetPhase(ctx, id, store.Running, "")
	must(t, err)
}

func connect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(ctx, url)
	must(t, err)
	t.Cleanup(func() { c.Close(ctx) })
	return c
}

// TestPostgresClaims: two controllers hand out every chunk, and none twice.
func TestPostgresClaims(t *testing.T) {
	const chunks, probes = 300, 16
	s := openTwo(t, pgtest.New(t), store.Options{Rules: lease.DefaultRules(time.Hour)})
	defer s.Close()
	start(t, s, "a", chunks/2, 1)
	start(t, s, "b", chunks/2, 1)
	var mu sync.Mutex
	claimed := map[store.Key]int{}
	var wg sync.WaitGroup
	for p := range probes {
		wg.Go(func() {
			for {
				c, err := s.stores[p%2].Claim(ctx, fmt.Sprint("p", p), "1")
				if errors.Is(err, store.ErrNotFound) {
					return
				}
				if err != nil {
					t.Error(err)
					return
				}
				if c.Epoch != 1 {
					t.Errorf("%v has epoch %d", c.Key, c.Epoch)
				}
				mu.Lock()
				claimed[c.Key]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for k, n := range claimed {
		if n != 1 {
			t.Errorf("%v was claimed %d times", k, n)
		}
	}
	if len(claimed) != chunks {
		t.Errorf("%d of %d chunks were claimed", len(claimed), chunks)
	}
}

// TestPostgresEitherController: what one controller offered, the other one takes
// the results of, at the same time and twice.
func TestPostgresEitherController(t *testing.T) {
	const size = 64
	s := openTwo(t, pgtest.New(t), store.Options{Rules: lease.DefaultRules(time.Hour)})
	defer s.Close()
	start(t, s, "a", size, size)
	c, err := s.stores[0].Claim(ctx, "p", "1")
	must(t, err)
	var wg sync.WaitGroup
	var mu sync.Mutex
	effects := map[lease.Effect]int{}
	for i := range size {
		for _, one := range s.stores {
			wg.Go(func() {
				e := lease.Results{Probe: "p", Epoch: 1, Items: []lease.ItemResult{{Index: uint32(i), Result: good}}}
				_, es, err := one.Apply(ctx, c.Key, e, &store.Batch{Epoch: 1, Sequence: uint64(i), Probe: "p", Body: fmt.Append(nil, i)})
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				defer mu.Unlock()
				for _, e := range es {
					effects[e]++
				}
			})
		}
	}
	wg.Wait()
	if effects[lease.Keep] != size || effects[lease.Finish] != 1 || len(effects) != 2 {
		t.Errorf("effects %v, want %d times keep and 1 finish", effects, size)
	}
	full, bs, err := s.Batches(ctx, c.Key)
	must(t, err)
	tally, err := s.Tally(ctx, "a")
	must(t, err)
	if full.Phase != lease.Done || len(bs) != size || tally[good] != size || tally.Total() != size {
		t.Errorf("%v with %d batches, %d of %d counted", full.Phase, len(bs), tally[good], tally.Total())
	}
}

// TestPostgresLastChunks: two controllers write the last two chunks at once, and
// one of them is told that it was the last.
func TestPostgresLastChunks(t *testing.T) {
	s := openTwo(t, pgtest.New(t), store.Options{Rules: lease.DefaultRules(time.Hour)})
	defer s.Close()
	for round := range 10 {
		id := fmt.Sprint("survey ", round)
		start(t, s, id, 2, 1)
		for range 2 {
			c, err := s.Claim(ctx, "p", "1")
			must(t, err)
			_, _, err = s.Apply(ctx, c.Key, lease.Results{Probe: "p", Epoch: 1, Items: []lease.ItemResult{{Index: 0, Result: good}}}, nil)
			must(t, err)
		}
		var last [2]bool
		var wg sync.WaitGroup
		for i, one := range s.stores {
			wg.Go(func() {
				var err error
				if last[i], err = one.Written(ctx, store.Key{Survey: id, Chunk: uint32(i)}, []lease.Item{good}); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if last[0] == last[1] {
			t.Fatalf("round %d: last %v", round, last)
		}
	}
}

// TestPostgresOpenTogether: controllers that start together make the schema
// once.
func TestPostgresOpenTogether(t *testing.T) {
	url := pgtest.New(t)
	var wg sync.WaitGroup
	for range 6 {
		wg.Go(func() {
			s, err := store.OpenPostgres(ctx, url, store.Options{})
			if err != nil {
				t.Error(err)
				return
			}
			s.Close()
		})
	}
	wg.Wait()
}

// TestPostgresClock: with a database whose clock is an hour ahead, all times are
// the database's.
func TestPostgresClock(t *testing.T) {
	url := pgtest.New(t)
	c := connect(t, url)
	_, err := c.Exec(ctx, `CREATE SCHEMA ahead;
		CREATE FUNCTION ahead.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS $$ SELECT pg_catalog.clock_timestamp() + interval '1 hour' $$`)
	must(t, err)
	rules := lease.DefaultRules(10 * time.Second)
	s := openPostgres(t, url+"&search_path="+"ahead,pg_catalog,public", store.Options{Rules: rules})
	defer s.Close()

	begun := time.Now().Add(time.Hour)
	within := func(what string, at, from time.Time) {
		t.Helper()
		if at.Before(from.Add(-time.Microsecond)) || at.After(from.Add(30*time.Minute)) {
			t.Errorf("%s: %v, want %v", what, at, from)
		}
	}
	l := store.List{ID: "l", Targets: 1, ChunkSize: 1}
	must(t, s.PutList(ctx, l))
	v, err := s.CreateSurvey(ctx, store.Survey{ID: "a", Request: "a", List: l, Spec: &pb.SurveySpec{}, Created: time.Unix(1, 0)})
	must(t, err)
	within("created", v.Created, begun)
	_, err = s.SetPhase(ctx, "a", store.Running, "")
	must(t, err)
	chunk, err := s.Claim(ctx, "p", "1")
	must(t, err)
	within("the offer's deadline", chunk.Deadline, begun.Add(rules.OfferTimeout))
	chunk, _, err = s.Apply(ctx, chunk.Key, lease.Accept{Probe: "p", Epoch: 1}, nil)
	must(t, err)
	within("the TTL", chunk.Deadline, begun.Add(rules.TTL))

	due := func(n int) {
		t.Helper()
		keys, err := s.Due(ctx)
		must(t, err)
		if len(keys) != n {
			t.Errorf("%d chunks are due, want %d", len(keys), n)
		}
	}
	due(0)
	_, err = c.Exec(ctx, `CREATE OR REPLACE FUNCTION ahead.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS $$ SELECT pg_catalog.clock_timestamp() + interval '2 hours' $$`)
	must(t, err)
	due(1)
	// A freeze is what this machine decides, by its own clock.
	chunk, _, err = s.Apply(ctx, chunk.Key, lease.Expire{FrozenUntil: time.Now().Add(time.Minute)}, nil)
	must(t, err)
	if chunk.Phase != lease.Held {
		t.Errorf("a frozen lease is %v", chunk.Phase)
	}
	within("the end of the freeze", chunk.Deadline, begun.Add(time.Hour+time.Minute))
	_, err = c.Exec(ctx, `CREATE OR REPLACE FUNCTION ahead.clock_timestamp() RETURNS timestamptz LANGUAGE sql AS $$ SELECT pg_catalog.clock_timestamp() + interval '3 hours' $$`)
	must(t, err)
	chunk, _, err = s.Apply(ctx, chunk.Key, lease.Expire{}, nil)
	must(t, err)
	if chunk.Phase != lease.Suspect {
		t.Errorf("a lease that lapsed is %v", chunk.Phase)
	}
	v, err = s.SetPhase(ctx, "a", store.Done, "")
	must(t, err)
	within("ended", v.Ended, begun.Add(2*time.Hour))
}

// TestPostgresLockedChunk: a chunk that somebody looks at while it is claimed is
// waited for, when there is no other.
func TestPostgresLockedChunk(t *testing.T) {
	url := pgtest.New(t)
	s := openPostgres(t, url, store.Options{Rules: lease.DefaultRules(time.Hour)})
	defer s.Close()
	start(t, s, "a", 3, 1)
	other, watch := connect(t, url), connect(t, url)

	claim := func() <-chan string {
		said := make(chan string, 1)
		go func() {
			c, err := s.Claim(ctx, "p", "1")
			if err != nil {
				said <- err.Error()
				return
			}
			said <- fmt.Sprint("chunk ", c.Chunk)
		}()
		return said
	}
	lock := func(where string) pgx.Tx {
		t.Helper()
		tx, err := other.Begin(ctx)
		must(t, err)
		_, err = tx.Exec(ctx, `SELECT FROM chunk WHERE `+where+` FOR UPDATE`)
		must(t, err)
		return tx
	}
	says := func(said <-chan string, want string) {
		t.Helper()
		if got := <-said; got != want {
			t.Errorf("%s, want %s", got, want)
		}
	}

	tx := lock(`chunk = 0`)
	says(claim(), "chunk 1")
	must(t, tx.Rollback(ctx))

	tx = lock(`true`)
	said := claim()
	waiting(t, watch, 1)
	must(t, tx.Rollback(ctx))
	says(said, "chunk 0")

	tx = lock(`true`)
	said = claim()
	waiting(t, watch, 1)
	_, err := tx.Exec(ctx, `UPDATE chunk SET phase = 2`)
	must(t, err)
	must(t, tx.Commit(ctx))
	says(said, "not found")
}

// waiting returns when n sessions wait for a lock.
func waiting(t testing.TB, c *pgx.Conn, n int) {
	t.Helper()
	for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		var got int
		must(t, c.QueryRow(ctx, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`).Scan(&got))
		if got == n {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d sessions wait for a lock, want %d", got, n)
		}
	}
}

// TestPostgresDeadlock: a transaction that the database gives up is run again.
func TestPostgresDeadlock(t *testing.T) {
	url := pgtest.New(t)
	// Who looks first is given up, and looks once: that is the store, when the
	// other one waits as well by then.
	s := openPostgres(t, url+"&deadlock_timeout=2s", store.Options{Rules: lease.DefaultRules(time.Hour)})
	defer s.Close()
	start(t, s, "a", 2, 2)
	c, err := s.Claim(ctx, "p", "1")
	must(t, err)

	other, watch := connect(t, url+"&deadlock_timeout=1min"), connect(t, url)
	tx, err := other.Begin(ctx)
	must(t, err)
	_, err = tx.Exec(ctx, `SELECT FROM tally WHERE survey = 'a' FOR UPDATE`)
	must(t, err)
	said := make(chan error, 1)
	go func() {
		_, effects, err := s.Apply(ctx, c.Key, lease.Results{Probe: "p", Epoch: 1, Items: []lease.ItemResult{{Index: 0, Result: good}}}, &store.Batch{Epoch: 1, Probe: "p"})
		if err == nil && !slices.Equal(effects, []lease.Effect{lease.Keep}) {
			err = fmt.Errorf("effects %v", effects)
		}
		said <- err
	}()
	waiting(t, watch, 1)
	_, err = tx.Exec(ctx, `SELECT FROM chunk WHERE survey = 'a' FOR UPDATE`) // the wrong way round
	must(t, err)
	must(t, tx.Commit(ctx))
	must(t, <-said)
	tally, err := s.Tally(ctx, "a")
	must(t, err)
	if tally[good] != 1 || tally.Total() != 2 {
		t.Errorf("%d counted of %d", tally[good], tally.Total())
	}
}

// TestPostgresDurability: what the loss of power leaves is up to these settings,
// whatever the server's defaults are.
func TestPostgresDurability(t *testing.T) {
	url := pgtest.New(t)
	c := connect(t, url)
	_, err := c.Exec(ctx, `DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET synchronous_commit = off', current_database()); 
		EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation = serializable', current_database()); END $$`)
	must(t, err)
	s := openPostgres(t, url, store.Options{Rules: lease.DefaultRules(time.Hour)})
	defer s.Close()
	_, err = c.Exec(ctx, `CREATE TABLE seen AS SELECT ''::text AS level, ''::text AS isolation;
		CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS
			$$ BEGIN UPDATE seen SET level = current_setting('synchronous_commit'), isolation = current_setting('transaction_isolation'); RETURN new; END $$;
		CREATE TRIGGER see BEFORE INSERT ON batch FOR EACH ROW EXECUTE FUNCTION see()`)
	must(t, err)
	start(t, s, "a", 1, 1)
	chunk, err := s.Claim(ctx, "p", "1")
	must(t, err)
	_, _, err = s.Apply(ctx, chunk.Key, lease.Results{Probe: "p", Epoch: 1, Items: []lease.ItemResult{{Index: 0, Result: good}}}, &store.Batch{Epoch: 1, Probe: "p"})
	must(t, err)
	var level, isolation string
	must(t, c.QueryRow(ctx, `SELECT level, isolation FROM seen`).Scan(&level, &isolation))
	if level != "on" || isolation != "read committed" {
		t.Errorf("a batch was stored with synchronous_commit %s, isolation %s", level, isolation)
	}
}

// TestPostgresWithoutFsync: a server that keeps nothing is none.
func TestPostgresWithoutFsync(t *testing.T) {
	url := pgtest.New(t)
	_, err := connect(t, url).Exec(ctx, `CREATE SCHEMA unsafe; CREATE FUNCTION unsafe.current_setting(name text) RETURNS text LANGUAGE sql AS
		$$ SELECT CASE name WHEN 'fsync' THEN 'off' ELSE pg_catalog.current_setting(name) END $$`)
	must(t, err)
	s, err := store.OpenPostgres(ctx, url+"&search_path=unsafe,pg_catalog,public", store.Options{})
	if err == nil {
		s.Close()
	}
	if err == nil || !strings.Contains(err.Error(), "fsync off") {
		t.Errorf("opened: %v", err)
	}
}

// TestPostgresPassword: it is in no error.
func TestPostgresPassword(t *testing.T) {
	for _, url := range []string{"postgres://anna:geheim@127.0.0.1:1/x?sslmode=disable", "postgres://anna:geheim@127.0.0.1:x/x", "postgres://anna:geheim@/x?connect_timeout=y"} {
		s, err := store.OpenPostgres(ctx, url, store.Options{})
		if err == nil {
			s.Close()
		}
		if err == nil || strings.Contains(err.Error(), "geheim") {
			t.Errorf("%v", err)
		}
	}
}
