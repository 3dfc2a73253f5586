package spool

import (
	"errors"
	"maps"
	"time"

	bolt "go.etcd.io/bbolt"
	berrors "go.etcd.io/bbolt/errors"
)

// op is a change that somebody waits for.
type op struct {
	do     func(*txn) error // an error refuses the change, before anything of it was made
	behind bool             // waits for the records that were appended before it, too
	err    error            // of do, or of its transaction
	done   chan error       // gets err; has room for one
}

// group is what one transaction makes durable.
type group struct {
	acks  map[uint64]ID
	ops   []*op
	fresh []*pending
}

func (g *group) empty() bool { return len(g.acks)+len(g.ops)+len(g.fresh) == 0 }

// write is the writer: the only goroutine that changes the file. While it is at
// it, the next group gathers.
func (s *Spool) write() {
	defer close(s.done)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		wait, closing := s.due()
		switch {
		case closing:
			s.flush(&op{behind: true, do: func(t *txn) error { t.endRun(); return nil }, done: make(chan error, 1)})
			return
		case wait <= 0:
			s.flush()
			continue
		}
		timer.Reset(wait)
		select {
		case <-timer.C:
		case <-s.wake:
		}
	}
}

func (s *Spool) poke() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// due says how long the next group may still gather.
func (s *Spool) due() (wait time.Duration, closing bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closing || len(s.ops) > 0:
		return 0, s.closing
	case s.broken != nil:
		return time.Hour, false
	case s.trouble != nil:
		return time.Until(s.retry), false
	case len(s.fresh) >= groupRecords:
		return 0, false
	}
	wait = time.Hour
	if len(s.fresh) > 0 {
		wait = time.Until(s.fresh[0].time.Add(groupTime))
	}
	if len(s.acks) > 0 {
		wait = min(wait, time.Until(s.ackedSince.Add(groupTime)))
	}
	return wait, false
}

// flush makes durable what has gathered, and the ops given.
func (s *Spool) flush(more ...*op) {
	s.mu.Lock()
	g := &group{acks: maps.Clone(s.acks), ops: append(s.ops, more...), fresh: s.fresh}
	s.ops = nil
	inTrouble := s.trouble != nil
	s.mu.Unlock()

	err := errors.New("not tried")
	if !inTrouble {
		err = s.commit(g)
	}
	if err != nil {
		err = s.flushInParts(g)
	}
	s.mu.Lock()
	s.note(err)
	s.mu.Unlock()
	// Who is told that the disk is full finds that the status says so.
	for _, o := range g.ops {
		o.done <- o.err
	}
}

// flushInParts writes little at a time. What was acknowledged goes first, for
// it makes room for the rest; a lease or a start does not wait behind records
// that do not fit.
func (s *Spool) flushInParts(g *group) error {
	var alone, behind []*op
	for _, o := range g.ops {
		if o.behind {
			behind = append(behind, o)
		} else {
			alone = append(alone, o)
		}
	}
	first := s.commit(&group{acks: g.acks})
	first = orElse(first, s.commit(&group{ops: alone}))
	var err error
	for rest := g.fresh; len(rest) > 0 && err == nil; {
		n := min(len(rest), groupRecords)
		err = s.commit(&group{fresh: rest[:n]})
		rest = rest[n:]
	}
	if err == nil {
		err = s.commit(&group{ops: behind})
	}
	for _, o := range behind {
		o.err = orElse(err, o.err)
	}
	if first = orElse(first, err); first != nil {
		return first
	}
	return s.breathe()
}

// ballast is how much more has to fit before the disk counts as writable again:
// else every second a lease would be asked for, and found to have no place.
const ballast = 256 << 10

// breathe writes the ballast and takes it back. Its pages stay in the file.
func (s *Spool) breathe() error {
	change := func(f func(*txn)) error {
		return s.commit(&group{ops: []*op{{do: func(t *txn) error { f(t); return nil }}}})
	}
	if err := change(func(t *txn) { t.put(bucketState, ballastKey, make([]byte, ballast)) }); err != nil {
		return err
	}
	return change(func(t *txn) { t.remove(bucketState, ballastKey) })
}

func orElse(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// note keeps the result of a flush, and tells the log when it is another than
// before. It is called with the lock held.
func (s *Spool) note(err error) {
	switch {
	case s.broken != nil:
	case err != nil && s.trouble == nil:
		s.log.Error("the spool cannot be written", "reason", err, "waiting", len(s.fresh))
	case err == nil && s.trouble != nil:
		s.log.Info("the spool can be written again")
	}
	s.trouble, s.retry = err, time.Now().Add(retryAfter)
}

// sorted says what an error of the file means. If nothing can come after it,
// nothing does.
func (s *Spool) sorted(err error) error {
	var corrupt *CorruptError
	var bad *badValue
	switch {
	case errors.As(err, &corrupt):
		err = corrupt
	case errors.As(err, &bad):
		err = &CorruptError{s.cfg.Path, bad.Error()}
	default:
		disk := diskError(err)
		if !disk.Final {
			return disk
		}
		err = disk
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closing && errors.Is(err, berrors.ErrDatabaseNotOpen):
		return ErrClosed
	case s.broken == nil:
		s.log.Error("the spool works no more", "reason", err)
		s.broken = err
		s.announce()
	}
	return err
}

// do hands an op to the writer and waits for it.
func (s *Spool) do(o *op) error {
	o.done = make(chan error, 1)
	s.mu.Lock()
	if err := s.unusable(); err != nil {
		s.mu.Unlock()
		return err
	}
	s.ops = append(s.ops, o)
	s.mu.Unlock()
	s.poke()
	return <-o.done
}

// unusable says why nothing can be written any more. It is called with the lock
// held.
func (s *Spool) unusable() error {
	if s.closing {
		return ErrClosed
	}
	return s.broken
}

// txn is one transaction, and the state as it will be after it.
type txn struct {
	spool   *Spool
	tx      *bolt.Tx
	state   state            // but for the maps, which are shared
	touched map[Lease]*lease // as they will be; nil: gone
	over    []Lease          // of these, the ones that came to their end
	queued  map[Lease]int    // how many more there are in the queue
	err     error            // the first of any write
}

// commit makes a group durable in one transaction, or nothing of it. The error
// is a *DiskError or a *CorruptError.
func (s *Spool) commit(g *group) error {
	if g.empty() {
		return nil
	}
	s.mu.Lock()
	broken, begun := s.broken, s.begun
	t := &txn{spool: s, state: *s.durable, touched: make(map[Lease]*lease), queued: make(map[Lease]int)}
	t.state.counters.Refused += s.refused
	counted := s.refused
	s.mu.Unlock()
	if broken != nil {
		for _, o := range g.ops {
			o.err = broken
		}
		return broken
	}
	err := guard(s.cfg.Path, func() (err error) {
		if t.tx, err = s.db.Begin(true); err != nil {
			return err
		}
		defer t.tx.Rollback() // nothing after the commit
		if !begun {
			t.beginRun()
		}
		for sequence, id := range g.acks {
			t.ack(Key{id, sequence})
		}
		for _, o := range g.ops {
			o.err = o.do(t)
		}
		for _, p := range g.fresh {
			t.append(p)
		}
		t.end()
		if t.err != nil {
			return t.err
		}
		if s.fault != nil {
			if err := s.fault(); err != nil {
				return err
			}
		}
		return t.tx.Commit()
	})
	if err != nil {
		err = s.sorted(err)
		for _, o := range g.ops {
			o.err = err
		}
		return err
	}
	s.apply(t, g, counted)
	return nil
}

// apply makes the state of a committed transaction the present one.
func (s *Spool) apply(t *txn, g *group, counted uint64) {
	s.mu.Lock()
	for name, l := range t.touched {
		if l == nil {
			delete(s.durable.leases, name)
		} else {
			s.durable.leases[name] = l
		}
	}
	for name, n := range t.queued {
		if s.durable.queued[name] += n; s.durable.queued[name] == 0 {
			delete(s.durable.queued, name)
		}
	}
	more := t.state.last > s.durable.last
	s.durable = &t.state
	s.begun = true
	s.refused -= counted
	for sequence := range g.acks {
		delete(s.acks, sequence)
	}
	if s.fresh = s.fresh[len(g.fresh):]; len(s.fresh) == 0 {
		s.fresh = nil
	}
	for _, p := range g.fresh {
		s.weight -= p.size()
	}
	s.ackedSince = time.Now()
	if more {
		s.announce()
	}
	finished := s.finished
	s.mu.Unlock()
	if finished != nil {
		for _, name := range t.over {
			finished(name)
		}
	}
}

// announce tells those who wait in Next. It is called with the lock held.
func (s *Spool) announce() {
	close(s.changed)
	s.changed = make(chan struct{})
}
