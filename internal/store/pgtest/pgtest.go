package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
)

var (
	shared = sync.OnceValues(func() (*server, error) {
		started.Store(true)
		return start()
	})
	started atomic.Bool
)

// Main runs a package's tests, and returns after the server they used is gone:
//
//	func TestMain(m *testing.M) { os.Exit(pgtest.Main(m)) }
//
// Without it the server goes a moment after the process.
func Main(m *testing.M) int {
	code := m.Run()
	if !started.Load() {
		return code
	}
	s, err := shared()
	if err == nil {
		err = s.stop()
	}
	if err != nil && !errors.Is(err, errNone) {
		fmt.Fprintln(os.Stderr, "pgtest:", err)
		return max(code, 1)
	}
	return code
}

// New returns the URL of an empty database. Its user may do anything on the
// server. It is for the test alone until that has ended.
func New(t testing.TB) (url string) {
	t.Helper()
	s, err := shared()
	if errors.Is(err, errNone) && os.Getenv("TFOFLEET_REQUIRE_KERNEL") != "1" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	name, err := s.take()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.giveBack(name); err != nil {
			t.Errorf("pgtest: %v", err)
		}
	})
	return s.url(name)
}

// take finds a database that is empty again, or makes one, which takes many
// times as long.
func (s *server) take() (name string, err error) {
	s.mu.Lock()
	if n := len(s.empty); n > 0 {
		name, s.empty = s.empty[n-1], s.empty[:n-1]
		s.mu.Unlock()
		return name, nil
	}
	s.databases++
	name = fmt.Sprint("test", s.databases)
	s.mu.Unlock()
	return name, s.exec("postgres", "CREATE DATABASE "+name)
}

// giveBack empties a database.
func (s *server) giveBack(name string) error {
	err := s.exec(name, `SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE datname = current_database() AND pid != pg_backend_pid();
		DO $$ DECLARE name text; BEGIN
			FOR name IN SELECT nspname FROM pg_namespace WHERE nspname !~ '^pg_' AND nspname != 'information_schema' LOOP
				EXECUTE format('DROP SCHEMA %I CASCADE', name);
			END LOOP;
		END $$;
		CREATE SCHEMA public;
		ALTER DATABASE `+name+` RESET ALL`)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.empty = append(s.empty, name)
	return nil
}

func (s *server) exec(database, script string) error {
	ctx := context.Background()
	c, err := pgx.Connect(ctx, s.url(database))
	if err != nil {
		return err
	}
	defer c.Close(ctx)
	_, err = c.Exec(ctx, script)
	return err
}
