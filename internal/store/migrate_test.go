package store

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"google.golang.org/protobuf/testing/protocmp"

	"tfofleet/internal/identity"
	"tfofleet/internal/lease"
	"tfofleet/internal/measure"
	"tfofleet/internal/store/pgtest"
	pb "tfofleet/proto/tfofleet/v1"
)

// database is a way to make one, for tests of both stores.
type database interface {
	exec(t *testing.T, script string)
	open(t *testing.T, opts Options) (identityStore, error)
	// schema is all tables, columns and indexes.
	schema(t *testing.T) []string
}

type identityStore interface {
	Store
	Identity() identity.Store
}

type sqliteDatabase struct{ path string }

func newSQLiteDatabase(t *testing.T) database {
	return sqliteDatabase{filepath.Join(t.TempDir(), "state.db")}
}

func (d sqliteDatabase) open(_ *testing.T, opts Options) (identityStore, error) {
	return OpenSQLite(context.Background(), d.path, opts)
}

func (d sqliteDatabase) db(t *testing.T) *sql.DB {
	db, err := sql.Open("sqlite", d.path)
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func (d sqliteDatabase) exec(t *testing.T, script string) {
	t.Helper()
	db := d.db(t)
	defer db.Close()
	if _, err := db.Exec(script); err != nil {
		t.Fatal(err)
	}
}

func (d sqliteDatabase) schema(t *testing.T) (all []string) {
	db := d.db(t)
	defer db.Close()
	rows, err := db.Query(`SELECT coalesce(sql, name) FROM sqlite_schema ORDER BY 1`)
	if err != nil {
		t.Fatal(err)
	}
	defer rows.Close()
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			t.Fatal(err)
		}
		all = append(all, s)
	}
	return all
}

type postgresDatabase struct{ url string }

func newPostgresDatabase(t *testing.T) database { return postgresDatabase{pgtest.New(t)} }

func (d postgresDatabase) open(_ *testing.T, opts Options) (identityStore, error) {
	return OpenPostgres(context.Background(), d.url, opts)
}

func (d postgresDatabase) exec(t *testing.T, script string) {
	t.Helper()
	if _, err := connect(t, d.url).Exec(context.Background(), script); err != nil {
		t.Fatal(err)
	}
}

func (d postgresDatabase) schema(t *testing.T) []string {
	rows, err := connect(t, d.url).Query(context.Background(), `
		SELECT concat_ws(' ', table_name, column_name, data_type, is_nullable, column_default, collation_name, is_identity) FROM information_schema.columns WHERE table_schema = 'public'
		UNION ALL SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'
		UNION ALL SELECT conrelid::regclass || ' ' || pg_get_constraintdef(oid) FROM pg_constraint WHERE connamespace = 'public'::regnamespace
		UNION ALL SELECT relname || array_to_string(reloptions, ' ') FROM pg_class WHERE relnamespace = 'public'::regnamespace AND reloptions IS NOT NULL
		UNION ALL SELECT attrelid::regclass || ' ' || attname || ' ' || attstorage::text FROM pg_attribute JOIN pg_class ON attrelid = pg_class.oid
			WHERE relnamespace = 'public'::regnamespace AND relkind = 'r' AND attnum > 0
		ORDER BY 1`)
	if err != nil {
		t.Fatal(err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// connect is a connection of the test's own.
func connect(t testing.TB, url string) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(context.Background(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(context.Background()) })
	return c
}

// migrating runs f with both stores.
func migrating(t *testing.T, f func(t *testing.T, dialect string, scripts []string, create func(*testing.T) database)) {
	t.Run("sqlite", func(t *testing.T) { f(t, "sqlite", sqliteScripts, newSQLiteDatabase) })
	t.Run("postgres", func(t *testing.T) { f(t, "postgres", postgresScripts, newPostgresDatabase) })
}

// TestScripts: what they are called is the version they lead to.
func TestScripts(t *testing.T) {
	var versions [2]int
	for i, dialect := range []string{"sqlite", "postgres"} {
		files, err := fs.ReadDir(migrations, "migrations/"+dialect)
		if err != nil {
			t.Fatal(err)
		}
		for n, f := range files {
			if !regexp.MustCompile(fmt.Sprintf(`^%04d_[a-z_]+\.sql$`, n+1)).MatchString(f.Name()) {
				t.Errorf("%s is script %d of %s", f.Name(), n+1, dialect)
			}
		}
		versions[i] = len(files)
	}
	if versions[0] != versions[1] {
		t.Errorf("%d scripts for one and %d for the other: a version is the same of both", versions[0], versions[1])
	}
}

// TestUpgrade: databases of all older versions, kept as they were then with a
// survey under way, are brought up to date, and the survey goes on.
func TestUpgrade(t *testing.T) {
	migrating(t, func(t *testing.T, dialect string, scripts []string, create func(*testing.T) database) {
		fresh := create(t)
		s, err := fresh.open(t, Options{})
		if err != nil {
			t.Fatal(err)
		}
		s.Close()
		want := fresh.schema(t)
		for version := 1; version < len(scripts); version++ {
			t.Run(fmt.Sprint("from version ", version), func(t *testing.T) {
				fixture, err := os.ReadFile(fmt.Sprintf("testdata/%s_v%d.sql", dialect, version))
				if err != nil {
					t.Fatal(err) // a new script needs the fixture of the version before
				}
				d := create(t)
				d.exec(t, string(fixture))
				now := time.Date(2026, 11, 21, 0, 0, 30, 0, time.UTC)
				s, err := d.open(t, Options{Rules: lease.DefaultRules(10 * time.Second), Now: func() time.Time { return now }})
				if err != nil {
					t.Fatal(err)
				}
				goOn(t, s)
				if version >= 2 {
					stillMembers(t, s)
				}
				if version >= 3 {
					stillAside(t, s)
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
				if diff := cmp.Diff(want, d.schema(t)); diff != "" {
					t.Errorf("a schema that was brought up to date (+) is not that of a new database (-):\n%s", diff)
				}
			})
		}
	})
}

// goOn takes up the survey of the fixtures: chunk 0 is to be written, 1 is held
// by q with a late result of p, 2 is offered to q, 3 is pending.
func goOn(t *testing.T, s identityStore) {
	ctx := context.Background()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	key := func(n uint32) Key { return Key{"running", n} }
	same := func(what string, got, want any) {
		t.Helper()
		if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	good := lease.Result(lease.Measured, measure.Supported)

	failed, err := s.Survey(ctx, "failed")
	must(err)
	if failed.Phase != Failed || failed.Reason != "no room" || failed.Name != "it's failed" || failed.Ended.Sub(failed.Created) <= 0 {
		t.Errorf("the survey that failed: %+v", failed)
	}
	open, err := s.Surveys(ctx)
	must(err)
	if len(open) != 1 || open[0].ID != "running" || open[0].List != (List{"list1", 11, 3}) || !open[0].Spec.RepeatInterrupted || open[0].Spec.Seed != 7 {
		t.Errorf("surveys that have not ended: %+v", open)
	}
	counted := func(pending, measured int64) {
		t.Helper()
		got, err := s.Tally(ctx, "running")
		must(err)
		want := lease.Tally{0: pending}
		want[good] = measured
		same("tally", got, want)
	}
	counted(7, 4)
	probes, err := s.Probes(ctx, "running")
	must(err)
	host := &pb.Host{Kernel: "6.18", TcpFastopen: 1}
	same("probes", probes, []Probe{{Name: "p", Version: "0.1", Host: host}, {Name: "q", Version: "0.1", Host: host}})
	held, err := s.HeldBy(ctx, "q")
	must(err)
	if len(held) != 2 || held[0].Key != key(1) || held[0].Phase != lease.Held || held[1].Key != key(2) || held[1].Phase != lease.Offered {
		t.Errorf("q holds %+v", held)
	}
	bodies := func(n uint32, want ...string) {
		t.Helper()
		_, bs, err := s.Batches(ctx, key(n))
		must(err)
		var got []string
		for _, b := range bs {
			got = append(got, fmt.Sprintf("%s from %s, late %v", b.Body, b.Probe, b.Late))
		}
		same("batches", got, want)
	}
	// What came since then has the values that the old program knew of.
	if v := open[0]; v.Mode != Shard || v.Copies != 1 || len(v.Probes) != 0 || v.Paused {
		t.Errorf("the running survey: %+v", v)
	}
	if c := held[0]; c.Pin != "" || c.Copy != 0 || c.TTL != 0 {
		t.Errorf("a chunk of it: %+v", c)
	}
	work, err := s.HasWork(ctx)
	must(err)
	same("has work", work, true)
	missing, err := s.Missing(ctx, "running", 9)
	must(err)
	same("missing", missing, []string(nil))
	// What an old probe sends again is known, from a spool with a name it is
	// another batch.
	for spool, want := range map[string][]lease.Effect{"": nil, "s": {lease.Keep}} {
		e := lease.Results{Probe: "q", Epoch: 2}
		_, effects, err := s.Apply(ctx, key(1), e, &Batch{Epoch: 2, Spool: spool, Sequence: 0, Probe: "q", Body: []byte("fourth")})
		must(err)
		same("effects of a batch with spool "+spool, effects, want)
	}
	bodies(0, "first from p, late false", "second\x00 from p, late false")
	bodies(1, "late from p, late true", "third from q, late false", "fourth from q, late false")

	report := func(n uint32, e lease.Results, want ...lease.Effect) {
		t.Helper()
		_, effects, err := s.Apply(ctx, key(n), e, &Batch{Epoch: e.Epoch, Sequence: 9, Probe: e.Probe, Body: []byte("new")})
		must(err)
		if !slices.Equal(effects, want) {
			t.Errorf("chunk %d: effects %v, want %v", n, effects, want)
		}
	}
	report(1, lease.Results{Probe: "q", Epoch: 2, Items: []lease.ItemResult{{Index: 2, Result: good}}, Returned: []uint32{0}}, lease.Keep, lease.Finish)
	report(2, lease.Results{Probe: "q", Epoch: 1, Items: []lease.ItemResult{{Index: 0, Result: good}, {Index: 1, Result: good}, {Index: 2, Result: good}}}, lease.Keep, lease.Finish)
	c, err := s.Claim(ctx, "p", "2")
	must(err)
	if c.Key != key(3) || len(c.Items) != 2 {
		t.Fatalf("claimed %+v", c)
	}
	report(3, lease.Results{Probe: "p", Epoch: 1, Items: []lease.ItemResult{{Index: 0, Result: good}, {Index: 1, Result: good}}}, lease.Keep, lease.Finish)
	keys, err := s.TakeUnwritten(ctx, "c", time.Minute, 9)
	must(err)
	same("unwritten", keys, []Key{key(0), key(1), key(2), key(3)})
	for i, k := range keys {
		c, _, err := s.Batches(ctx, k)
		must(err)
		last, err := s.Written(ctx, k, c.Items)
		must(err)
		if last != (i == len(keys)-1) {
			t.Errorf("chunk %d written: last %v", k.Chunk, last)
		}
	}
	counted(0, 11)
	finished, err := s.Finished(ctx)
	must(err)
	same("finished", finished, []string{"running"})
	must(s.Identity().Update(ctx, func(tx identity.Tx) error { return tx.PutFleet("fleet") }))
}

// stillMembers: who may do what is as it was in version 2.
func stillMembers(t *testing.T, s identityStore) {
	err := s.Identity().View(context.Background(), func(r identity.Reader) error {
		v, err := r.Token("t")
		if err != nil || v.Uses != 2 || v.Used != 1 || v.Labels["region"] != "fra" {
			t.Errorf("token %+v, %v", v, err)
		}
		m, err := r.Member(identity.KindProbe, "q")
		if err != nil || m.Banned.IsZero() || m.BanReason != "lost" {
			t.Errorf("member %+v, %v", m, err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

// stillAside: what version 3 kept aside, and had no use for, can be written.
func stillAside(t *testing.T, s identityStore) {
	ctx := context.Background()
	keys, err := s.Late(ctx)
	if err != nil || !slices.Equal(keys, []Key{{"running", 0}}) {
		t.Fatalf("late: %v, %v", keys, err)
	}
	_, n, bs, err := s.LateBatches(ctx, keys[0])
	if err != nil || n != 1 || len(bs) != 1 || string(bs[0].Body) != "aside" {
		t.Errorf("late file %d of %+v, %v", n, bs, err)
	}
}

// TestPinnedWithoutBanned: what only those might measure who are banned, nobody
// might.
func TestPinnedWithoutBanned(t *testing.T) {
	migrating(t, func(t *testing.T, _ string, _ []string, create func(*testing.T) database) {
		ctx := context.Background()
		s, err := create(t).open(t, Options{Rules: lease.DefaultRules(time.Hour)})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		must := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		l := List{ID: "l", Targets: 2, ChunkSize: 1}
		must(s.PutList(ctx, l))
		_, err = s.CreateSurvey(ctx, Survey{ID: "s", Request: "s", List: l, Spec: &pb.SurveySpec{}, Probes: []string{"p", "q"}})
		must(err)
		pinned := func(n int) {
			t.Helper()
			keys, err := s.Pinned(ctx, "p")
			must(err)
			if len(keys) != n {
				t.Errorf("pinned to p: %v, want %d", keys, n)
			}
		}
		pinned(0)
		must(s.Identity().Update(ctx, func(tx identity.Tx) error {
			return tx.PutMember(identity.Member{Kind: identity.KindOperator, Name: "q", Banned: tx.Now()}) // somebody else
		}))
		pinned(0)
		must(s.Identity().Update(ctx, func(tx identity.Tx) error {
			return tx.PutMember(identity.Member{Kind: identity.KindProbe, Name: "q", Banned: tx.Now()})
		}))
		pinned(2)
	})
}

// TestNewer: what a newer program has made is not touched.
func TestNewer(t *testing.T) {
	migrating(t, func(t *testing.T, dialect string, scripts []string, create func(*testing.T) database) {
		d := create(t)
		s, err := d.open(t, Options{})
		if err != nil {
			t.Fatal(err)
		}
		s.Close()
		newer := len(scripts) + 1
		d.exec(t, map[string]string{
			"sqlite":   fmt.Sprintf("PRAGMA user_version = %d", newer),
			"postgres": fmt.Sprintf("UPDATE schema_version SET version = %d", newer),
		}[dialect])
		before := d.schema(t)
		s, err = d.open(t, Options{})
		if err == nil {
			s.Close()
		}
		want := fmt.Sprintf("schema version %d: made by a newer version of this program, this one knows up to %d", newer, len(scripts))
		if !errors.Is(err, ErrNewer) || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
		if diff := cmp.Diff(before, d.schema(t)); diff != "" {
			t.Error(diff)
		}
	})
}

// TestScriptFails: half of a script is none.
func TestScriptFails(t *testing.T) {
	migrating(t, func(t *testing.T, dialect string, scripts []string, create func(*testing.T) database) {
		d := create(t)
		// The last table of each script, in their order: what an earlier script makes
		// stays.
		for _, c := range []struct{ name, version string }{{"certificate", "schema version 2"}, {"frozen", "schema version 3"}} {
			name, version := c.name, c.version
			d.exec(t, `CREATE TABLE `+name+` (n integer)`)
			if s, err := d.open(t, Options{}); err == nil {
				s.Close()
				t.Fatal("opened")
			} else if !strings.Contains(err.Error(), version) {
				t.Error(err)
			}
			d.exec(t, `DROP TABLE `+name)
		}
		s, err := d.open(t, Options{})
		if err != nil {
			t.Fatal(err)
		}
		s.Close()
	})
}
