package store_test

import (
	"context"
	"os"
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

// TestSQLiteIsPrivate: nobody else reads a fleet's state, wherever it is.
func TestSQLiteIsPrivate(t *testing.T) {
	dir := t.TempDir()
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	s, err := store.OpenSQLite(t.Context(), filepath.Join(dir, "state.db"), store.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(files) < 2 {
		t.Fatal(files, err)
	}
	for _, f := range files {
		if st, err := os.Stat(f); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s is %v, %v", filepath.Base(f), st.Mode(), err)
		}
	}
}
