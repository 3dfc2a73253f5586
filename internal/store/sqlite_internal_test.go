package store

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"tfofleet/internal/lease"
	pb "tfofleet/proto/tfofleet/v1"
)

func open(t *testing.T, path string) *SQLite {
	t.Helper()
	s, err := OpenSQLite(context.Background(), path, Options{Rules: lease.DefaultRules(time.Second)})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestDurability: what the loss of power leaves is up to these settings, and
// nothing else here would notice if one of them were not in force.
func TestDurability(t *testing.T) {
	s := open(t, filepath.Join(t.TempDir(), "state.db"))
	defer s.Close()
	for pragma, want := range map[string]string{
		"journal_mode": "wal", "synchronous": "2", "locking_mode": "exclusive", "foreign_keys": "1",
	} {
		var got string
		err := s.call(context.Background(), func(t *tx) error {
			t.get("PRAGMA "+pragma, nil, &got)
			return nil
		})
		if err != nil || got != want {
			t.Errorf("%s is %q, want %q (%v)", pragma, got, want, err)
		}
	}
}

func TestSecondControllerIsKeptOut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.db")
	s := open(t, path)
	if _, err := OpenSQLite(context.Background(), path, Options{}); !errors.Is(err, ErrInUse) {
		t.Errorf("a second one: %v, want ErrInUse", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := open(t, path).Close(); err != nil {
		t.Error(err)
	}
}

// TestDiskFull: a batch that does not fit is refused whole; calls that may share
// its transaction and fit are not; and with room again all goes on.
func TestDiskFull(t *testing.T) {
	ctx := context.Background()
	s := open(t, filepath.Join(t.TempDir(), "state.db"))
	defer s.Close()
	limit := func(pages int) {
		t.Helper()
		if err := s.call(ctx, func(t *tx) error {
			var n int
			t.get(fmt.Sprintf("PRAGMA max_page_count = %d", pages), nil, &n)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	l := List{ID: "l", Targets: 2, ChunkSize: 2}
	if err := s.PutList(ctx, l); err != nil {
		t.Fatal(err)
	}
	if _, err := s.CreateSurvey(ctx, Survey{ID: "s", Request: "s", List: l, Spec: &pb.SurveySpec{}}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.SetPhase(ctx, "s", Running, ""); err != nil {
		t.Fatal(err)
	}
	c, err := s.Claim(ctx, "p", "1")
	if err != nil {
		t.Fatal(err)
	}
	limit(1) // SQLite takes it as: no more than there are

	e := lease.Results{Probe: "p", Epoch: 1, Items: []lease.ItemResult{{Index: 0, Result: lease.Result(lease.Measured, 1)}}}
	big := &Batch{Epoch: 1, Probe: "p", Body: make([]byte, 1<<20)}
	hold, held := make(chan struct{}), make(chan struct{})
	var once sync.Once
	go s.call(ctx, func(*tx) error { once.Do(func() { close(held) }); <-hold; return nil })
	<-held
	full, small := make(chan error, 1), make(chan error, 1)
	go func() { _, _, err := s.Apply(ctx, c.Key, e, big); full <- err }()
	go func() { _, err := s.Tally(ctx, "s"); small <- err }()
	close(hold)
	if err := <-full; !errors.Is(err, ErrFull) {
		t.Errorf("a batch on a full disk: %v, want ErrFull", err)
	}
	if err := <-small; err != nil {
		t.Errorf("a question on a full disk: %v", err)
	}
	tally, err := s.Tally(ctx, "s")
	if err != nil {
		t.Fatal(err)
	}
	if tally[0] != 2 || tally.Total() != 2 {
		t.Errorf("something of a batch that was refused was counted: %v", tally)
	}
	limit(1 << 30)
	if _, effects, err := s.Apply(ctx, c.Key, e, big); err != nil || len(effects) != 1 || effects[0] != lease.Keep {
		t.Errorf("with room again: %v, %v", effects, err)
	}
}
