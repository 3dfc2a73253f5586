package spool

import (
	"errors"
	"fmt"
	"slices"
)

// Accept makes a lease durable; LeaseAccepted may be sent when it returns.
// Targets are the indexes of its targets, offer is whatever is needed to go on
// with it after a restart. A lease that is in the journal is accepted again.
func (s *Spool) Accept(name Lease, targets []uint32, offer []byte) error {
	if len(targets) == 0 {
		return fmt.Errorf("lease %v has no targets", name)
	}
	if top := slices.Max(targets); top >= maxIndex {
		return fmt.Errorf("lease %v: index %d is out of range", name, top)
	}
	if len(offer) > MaxData || len(name.Survey) > maxName {
		return fmt.Errorf("lease %v: %w", name, ErrTooLarge)
	}
	l := &lease{targets: newSet(int(slices.Max(targets)) + 1)}
	for _, i := range targets {
		l.targets.add(i)
	}
	l.started, l.settled = newSet(8*len(l.targets)), newSet(8*len(l.targets))
	k, v, marks := name.key(), offerBytes(l.targets, offer), l.marks()
	l.bytes = size(k, v) + size(k, marks)
	err := s.do(&op{do: func(t *txn) error {
		switch {
		case t.lease(name) != nil:
			return nil
		case t.state.bytes+int64(l.bytes) > s.cfg.Limit:
			return ErrFull
		}
		t.put(bucketLeases, k, v)
		t.put(bucketMarks, k, marks)
		t.state.bytes += int64(l.bytes)
		t.touched[name] = l.clone()
		return nil
	}})
	if errors.Is(err, ErrFull) {
		s.mu.Lock()
		s.refused++
		s.mu.Unlock()
	}
	return err
}

// Start marks targets as started; their first SYN may be sent when it returns
// nil, and not otherwise. Concurrent calls share a transaction. The error is
// [ErrStarted] when one of them was started before, by this process or an
// earlier one; then none is marked.
func (s *Spool) Start(name Lease, items ...uint32) error {
	return s.do(&op{do: func(t *txn) error {
		if s.cfg.OnFull == Keep && t.state.bytes >= s.cfg.Limit {
			return ErrFull
		}
		l := t.lease(name)
		if l == nil {
			return fmt.Errorf("%v: %w", name, ErrUnknownLease)
		}
		for _, i := range items {
			switch {
			case !l.targets.has(i):
				return fmt.Errorf("%v: target %d is not of this lease", name, i)
			case l.started.has(i) || l.settled.has(i):
				return fmt.Errorf("%v: target %d: %w", name, i, ErrStarted)
			}
		}
		for _, i := range items {
			l.started.add(i)
			l.dirty = true
		}
		return nil
	}})
}

// Forget removes a lease that is somebody else's by now. Its records stay, and
// are sent.
func (s *Spool) Forget(name Lease) error {
	return s.do(&op{do: func(t *txn) error {
		if l := t.lease(name); l != nil {
			t.forget(name, l)
		}
		return nil
	}})
}

// Reconcile compares the spool with the newest record that the controller has
// of this probe. restored is true when that is a record this file knows nothing
// of: the file is an older copy of what it was, or the machine is. Then what
// recovered leases have not started may have been started before the copy was
// put back, and is to be reported as interrupted.
//
// It notes this as an event. If the record is of the present run, the process
// itself was put back in time, and everything unsent of it gets a new key.
func (s *Spool) Reconcile(last Key) (restored bool, err error) {
	if last == (Key{}) {
		return false, nil
	}
	err = s.do(&op{do: func(t *txn) error {
		restored = false
		runs := t.state.runs
		i := slices.IndexFunc(runs, func(r run) bool { return r.ID == last.Spool })
		if i >= 0 {
			end := t.state.last + 1
			if i+1 < len(runs) {
				end = runs[i+1].First
			}
			if last.Sequence < end {
				return nil
			}
		}
		restored = true
		if i >= 0 && i == len(runs)-1 {
			from := t.state.last + 1
			c := t.tx.Bucket(bucketQueue).Cursor()
			if k, _ := c.Seek(sequenceKey(runs[i].First)); k != nil {
				from = sequenceOf(k)
			}
			t.rename(from)
		}
		t.append(newEvent(EventRestored, fmt.Sprintf("the controller has record %v/%d, which is not of this file", last.Spool, last.Sequence)))
		return nil
	}})
	return restored, err
}
