package store_test

import (
	"context"
	"path/filepath"
	"sync/atomic"
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

// TestPostgresIdentity: with two controllers, who take turns.
func TestPostgresIdentity(t *testing.T) {
	identitytest.RunStoreTests(t, func(t testing.TB) identitytest.Opener {
		url := pgtest.New(t)
		var last [2]*store.Postgres
		t.Cleanup(func() { last[0].Close(); last[1].Close() })
		return func() identity.Store {
			var s turns
			for i := range last {
				if last[i] != nil {
					last[i].Close()
				}
				last[i] = openPostgres(t, url, store.Options{})
				s.stores[i] = last[i].Identity()
			}
			return &s
		}
	})
}

// turns is two controllers' stores, one call to this one, one to that.
type turns struct {
	stores [2]identity.Store
	n      atomic.Uint64
}

func (s *turns) View(ctx context.Context, do func(identity.Reader) error) error {
	return s.stores[s.n.Add(1)%2].View(ctx, do)
}

func (s *turns) Update(ctx context.Context, do func(identity.Tx) error) error {
	return s.stores[s.n.Add(1)%2].Update(ctx, do)
}
