package store_test

import (
	"context"
	"path/filepath"
	"testing"

	"tfofleet/internal/identity"
	"tfofleet/internal/identity/identitytest"
	"tfofleet/internal/store"
	"tfofleet/internal/store/pgtest"
)

func TestSQLiteIdentity(t *testing.T) {
	identitytest.RunStoreTests(t, func(t testing.TB) identitytest.Opener {
		path := filepath.Join(t.TempDir(), "state.db")
		var last *store.SQLite
		t.Cleanup(func() { last.Close() })
		return func() identity.Store {
			if last != nil {
				last.Close()
			}
			var err error
			if last, err = store.OpenSQLite(context.Background(), path, store.Options{}); err != nil {
				t.Fatal(err)
			}
			return last.Identity()
		}
	})
}

// TestPostgresIdentity: with two controllers.
func TestPostgresIdentity(t *testing.T) {
	identitytest.RunStoreTests(t, func(t testing.TB) identitytest.Opener {
		url := pgtest.New(t)
		var last *turns
		t.Cleanup(func() { last.Close() })
		return func() identity.Store {
			if last != nil {
				last.Close()
			}
			last = openTwo(t, url, store.Options{})
			return identityTurns{last}
		}
	})
}
