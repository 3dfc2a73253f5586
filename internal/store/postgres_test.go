package store_test

import (
	"context"
	"testing"

	"tfofleet/internal/store"
	"tfofleet/internal/store/pgtest"
	"tfofleet/internal/store/storetest"
)

func openPostgres(t testing.TB, url string, opts store.Options) *store.Postgres {
	t.Helper()
	s, err := store.OpenPostgres(context.Background(), url, opts)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestPostgres(t *testing.T) {
	storetest.Run(t, func(t testing.TB) storetest.Opener {
		url := pgtest.New(t)
		return func(t testing.TB, opts store.Options) store.Store { return openPostgres(t, url, opts) }
	})
}
