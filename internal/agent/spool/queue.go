package spool

import (
	"context"
	"fmt"
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
)

// maxName bounds the name of a survey.
const maxName = 256

// Append queues a record; its Key and Time are set here. It becomes durable
// with 64 others or after 200 ms, and only then does Next return it. Append
// does not wait, and does not fail because the disk does: what cannot be
// written yet is kept in memory and tried again.
func (s *Spool) Append(r Record) error {
	r.Items = ordered(slices.Clone(r.Items))
	if n := len(r.Items); n > 0 && r.Items[n-1] >= maxIndex {
		return fmt.Errorf("%v: index %d is out of range", r.Lease, r.Items[n-1])
	}
	if len(r.Data) > MaxData || len(r.Lease.Survey) > maxName {
		return fmt.Errorf("a record of %d bytes: %w", len(r.Data), ErrTooLarge)
	}
	r.Time = time.Now()
	p := newPending(r)
	s.mu.Lock()
	if err := s.unusable(); err != nil {
		s.mu.Unlock()
		return err
	}
	s.put(p)
	due := len(s.fresh) == 1 || len(s.fresh) == groupRecords
	s.mu.Unlock()
	if due {
		s.poke()
	}
	return nil
}

// pending is a record on its way into the file.
type pending struct {
	time  time.Time
	lease Lease
	items []uint32
	value []byte
}

func newPending(r Record) *pending {
	return &pending{time: r.Time, lease: r.Lease, items: r.Items, value: r.marshal()}
}

// size is what it counts for in the file.
func (p *pending) size() int64 { return int64(8 + len(p.value)) }

// put is called with the lock held.
func (s *Spool) put(p *pending) {
	s.fresh = append(s.fresh, p)
	s.weight += p.size()
}

// Event queues an event of the probe itself.
func (s *Spool) Event(kind EventKind, detail string) error {
	return s.Append(Record{Kind: KindEvent, Data: Event{kind, detail}.Data()})
}

// Sync waits until all that was appended before is durable, or says why it is
// not.
func (s *Spool) Sync() error {
	return s.do(&op{behind: true, do: func(*txn) error { return nil }})
}

// Next returns durable records that come after a sequence number, oldest first:
// as many as limit bytes hold, but at least one. It waits for one until ctx is
// over. What was sent over a stream that broke is found again from 0.
func (s *Spool) Next(ctx context.Context, after uint64, limit int) ([]Record, error) {
	for {
		s.mu.Lock()
		err, changed, some := s.unusable(), s.changed, s.durable.depth > 0 && s.durable.last > after
		s.mu.Unlock()
		if err != nil {
			return nil, err
		}
		if some {
			if rs, err := s.read(after, limit); err != nil || len(rs) > 0 {
				return rs, err
			}
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-changed:
		}
	}
}

func (s *Spool) read(after uint64, limit int) (rs []Record, err error) {
	err = s.view(func(tx *bolt.Tx) error {
		c := tx.Bucket(bucketQueue).Cursor()
		for k, v := c.Seek(sequenceKey(after + 1)); k != nil && (limit > 0 || len(rs) == 0); k, v = c.Next() {
			n := sequenceOf(k)
			s.mu.Lock()
			id := s.durable.idOf(n)
			_, acked := s.acks[n]
			s.mu.Unlock()
			if acked {
				continue
			}
			r, err := recordOf(k, v)
			if err != nil {
				return &badValue{bucketQueue, slices.Clone(k), err}
			}
			if limit -= len(v); limit < 0 && len(rs) > 0 {
				return nil
			}
			r.Key.Spool = id
			rs = append(rs, r)
		}
		return nil
	})
	return rs, err
}

// view reads the file. An error other than f's own is final.
func (s *Spool) view(f func(*bolt.Tx) error) error {
	err := guard(s.cfg.Path, func() error { return s.db.View(f) })
	if err != nil {
		err = s.sorted(err)
	}
	return err
}

// Ack removes records that the controller has made durable. That is not
// durable at once: after a crash they may be sent again, under the same key.
// Keys that are not in the queue are passed over.
func (s *Spool) Ack(keys ...Key) {
	s.mu.Lock()
	if len(s.acks) == 0 {
		s.ackedSince = time.Now()
		s.poke()
	}
	for _, k := range keys {
		s.acks[k.Sequence] = k.Spool
	}
	s.mu.Unlock()
}

// Reject puts a record aside that the controller will never take, and says why.
// The queue goes on without it. A key that is not in the queue is passed over.
func (s *Spool) Reject(key Key, reason string) error {
	return s.do(&op{do: func(t *txn) error {
		_, value, ok := t.take(key)
		if !ok {
			return nil
		}
		k, v := sequenceKey(key.Sequence), rejectedBytes(time.Now(), reason, value)
		t.put(bucketQuarantine, k, v)
		t.state.quarantined++
		t.state.bytes += int64(size(k, v))
		return nil
	}})
}

// Retry queues every rejected record again, under its old key: for after the
// controller's fault was mended. It returns how many there were.
func (s *Spool) Retry() (n int, err error) {
	err = s.do(&op{do: func(t *txn) error {
		n = 0
		var all []Rejected
		for c, k, v := first(t.tx.Bucket(bucketQuarantine)); k != nil; k, v = c.Next() {
			r, err := rejectedOf(k, v)
			if err != nil {
				t.err = &badValue{bucketQuarantine, slices.Clone(k), err}
				return nil
			}
			t.state.bytes -= int64(size(k, v))
			all = append(all, r)
		}
		for _, r := range all {
			k, v := sequenceKey(r.Record.Key.Sequence), r.Record.marshal()
			t.remove(bucketQuarantine, k)
			t.put(bucketQueue, k, v)
			t.state.bytes += int64(size(k, v))
			t.queued[r.Record.Lease]++
		}
		n = len(all)
		t.state.quarantined -= n
		t.state.depth += n
		return nil
	}})
	if n > 0 {
		s.mu.Lock()
		s.announce()
		s.mu.Unlock()
	}
	return n, err
}

// ordered sorts items and drops duplicates.
func ordered(items []uint32) []uint32 {
	slices.Sort(items)
	return slices.Compact(items)
}
