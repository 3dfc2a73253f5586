package controller

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"tfofleet/internal/store"
)

// trouble is what keeps the controller from storing. While there is any, no
// work is handed out: its results could not be taken.
type trouble struct {
	changed  func()
	now      func() time.Time
	mu       sync.Mutex
	troubles map[string]failure // by what failed
}

type failure struct {
	reason string
	at     time.Time
}

// A failure counts for some time after it was last seen. What this controller
// tries again by itself is known to go well soon after it does. Results are
// tried again by probes, which wait longer; not for ever, for the one that would
// try again may be gone.
const (
	troubleLasts        = 2 * time.Second
	troubleLastsResults = 30 * time.Second
)

// The kinds of writes.
const (
	writeLeases  = "leases"
	writeResults = "results"
	writeDataset = "dataset"
)

// set notes the outcome of a write of some kind.
func (t *trouble) set(what string, err error) {
	if err != nil {
		t.failed(what, err)
		return
	}
	t.mu.Lock()
	_, was := t.troubles[what]
	delete(t.troubles, what)
	t.mu.Unlock()
	if was {
		t.changed()
	}
}

// failed notes a failure. That a call was cut short by its caller, or that there
// is nothing, is none.
func (t *trouble) failed(what string, err error) {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, store.ErrNotFound) {
		return
	}
	t.mu.Lock()
	was := t.troubles[what].reason
	if t.troubles == nil {
		t.troubles = make(map[string]failure)
	}
	t.troubles[what] = failure{err.Error(), t.now()}
	t.mu.Unlock()
	if was != err.Error() {
		t.changed()
	}
}

// forget drops failures that were not seen for long.
func (t *trouble) forget() {
	t.mu.Lock()
	n := len(t.troubles)
	maps.DeleteFunc(t.troubles, func(what string, f failure) bool {
		lasts := troubleLasts
		if what == writeResults {
			lasts = troubleLastsResults
		}
		return t.now().Sub(f.at) > lasts
	})
	changed := len(t.troubles) != n
	t.mu.Unlock()
	if changed {
		t.changed()
	}
}

// reason is empty when there is no trouble.
func (t *trouble) reason() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, what := range slices.Sorted(maps.Keys(t.troubles)) {
		return t.troubles[what].reason
	}
	return ""
}

// Trouble is why nothing can be stored at the moment; empty when all is well.
func (s *Server) Trouble() string { return s.trouble.reason() }
