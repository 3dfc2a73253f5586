package controller_test

import (
	"database/sql"
	"errors"
	"math"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	_ "modernc.org/sqlite"
)

type addrPort = netip.AddrPort

var (
	addrPortFrom = netip.AddrPortFrom
	nan          = math.NaN()
	negative     = durationpb.New(-time.Second)
)

// rawDB opens the state of a controller that is not running.
func rawDB(t *testing.T, dir string) *sql.DB {
	t.Helper()
	db, err := sql.Open("sqlite", filepath.Join(dir, "state.db"))
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func lists(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(filepath.Join(dir, "lists"))
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// orphan is what crashes leave of uploads: in the middle of sorting, of writing,
// and before the list was known to the store.
func orphan(t *testing.T, dir string) {
	t.Helper()
	for _, name := range []string{"sorting/1/run", "lists/half/.tmp-1", "lists/whole/targets.parquet"} {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
}
