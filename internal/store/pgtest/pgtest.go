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
	started   atomic.Bool
	databases atomic.Int64
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

// New makes an empty database and returns its URL. Its user may do anything on
// the server.
func New(t testing.TB) (url string) {
	t.Helper()
	s, err := shared()
	if errors.Is(err, errNone) && os.Getenv("TFOFLEET_REQUIRE_KERNEL") != "1" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	c, err := pgx.Connect(ctx, s.url("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close(ctx)
	name := fmt.Sprint("test", databases.Add(1))
	if _, err := c.Exec(ctx, "CREATE DATABASE "+name); err != nil {
		t.Fatal(err)
	}
	return s.url(name)
}
