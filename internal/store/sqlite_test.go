package store_test

import (
	"context"
	"path/filepath"
	"testing"

	"tfofleet/internal/store"
	"tfofleet/internal/store/storetest"
)

func TestSQLite(t *testing.T) {
	storetest.Run(t, func(t testing.TB) storetest.Opener {
		path := filepath.Join(t.TempDir(), "state.db")
		return func(t testing.TB, opts store.Options) store.Store {
			t.Helper()
			s, err := store.OpenSQLite(context.Background(), path, opts)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
	})
}
