package agent

import "sync"

// turns lets one survey at a time begin targets, in the order in which they
// came: the rate and the number at a time that an operator allows hold for the
// probe, not for each of its surveys.
type turns struct {
	mu    sync.Mutex
	owner *executor
	freed chan struct{} // closed by the next leave
}

// take waits for the executor's turn, or until it is stopped.
func (t *turns) take(e *executor) {
	for {
		t.mu.Lock()
		if t.owner == nil && e.ctx.Err() == nil {
			t.owner = e
		}
		mine, freed := t.owner == e, t.freed
		t.mu.Unlock()
		if mine {
			return
		}
		select {
		case <-freed:
		case <-e.ctx.Done():
			return
		}
	}
}

// leave ends the turn of an executor that has no lease left.
func (t *turns) leave(e *executor) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.owner != e {
		return
	}
	t.owner = nil
	close(t.freed)
	t.freed = make(chan struct{})
}
