package spool

import (
	"slices"
	"time"

	bolt "go.etcd.io/bbolt"
)

// put and remove keep the first error; the transaction ends with it.
func (t *txn) put(bucket, k, v []byte) {
	if t.err == nil {
		t.err = t.tx.Bucket(bucket).Put(k, v)
	}
}

func (t *txn) remove(bucket, k []byte) {
	if t.err == nil {
		t.err = t.tx.Bucket(bucket).Delete(k)
	}
}

// lease is a lease to be changed, nil when there is none.
func (t *txn) lease(name Lease) *lease {
	if l, ok := t.touched[name]; ok {
		return l
	}
	l := t.state.leases[name]
	if l != nil {
		l = l.clone()
		t.touched[name] = l
	}
	return l
}

// append gives a record its number and queues it.
func (t *txn) append(p *pending) {
	if t.err != nil {
		return
	}
	queue := t.tx.Bucket(bucketQueue)
	queue.FillPercent = 1 // it only grows at its end
	n, err := queue.NextSequence()
	if err != nil {
		t.err = err
		return
	}
	t.put(bucketQueue, sequenceKey(n), p.value)
	t.state.last = n
	if t.state.depth == 0 {
		t.state.first, t.state.oldest = n, p.time
	}
	t.state.depth++
	t.state.bytes += p.size()
	t.queued[p.lease]++
	if l := t.lease(p.lease); l != nil {
		for _, i := range p.items {
			if l.targets.has(i) && !l.settled.has(i) {
				l.settled.add(i)
				l.dirty = true
			}
		}
	}
}

// take removes a record from the queue; ok is false when it is not there, or
// is not the one that is meant.
func (t *txn) take(key Key) (r Record, value []byte, ok bool) {
	k := sequenceKey(key.Sequence)
	value = t.tx.Bucket(bucketQueue).Get(k)
	if t.err != nil || value == nil || t.state.idOf(key.Sequence) != key.Spool {
		return Record{}, nil, false
	}
	value = slices.Clone(value)
	r, err := recordOf(k, value)
	if err != nil {
		t.err = &badValue{bucketQueue, k, err}
		return Record{}, nil, false
	}
	t.remove(bucketQueue, k)
	t.state.depth--
	t.state.bytes -= int64(size(k, value))
	t.queued[r.Lease]--
	t.lease(r.Lease) // it may be over
	return r, value, true
}

func (t *txn) ack(key Key) {
	if _, _, ok := t.take(key); ok {
		t.state.counters.Acked = max(t.state.counters.Acked, key.Sequence)
	}
}

// end does what follows from the rest of the transaction.
func (t *txn) end() {
	if t.spool.cfg.OnFull == DropOldest && t.state.bytes > t.spool.cfg.Limit {
		t.drop()
	}
	for name, l := range t.touched {
		switch {
		case l == nil:
		case l.settled.covers(l.targets) && t.state.queued[name]+t.queued[name] == 0:
			t.forget(name, l)
			t.over = append(t.over, name)
		case l.dirty:
			t.put(bucketMarks, name.key(), l.marks())
			l.dirty = false
		}
	}
	if t.state.counters != t.spool.durable.counters {
		t.put(bucketState, counterKey, sealJSON(t.state.counters))
	}
	t.findFirst()
}

func (t *txn) forget(name Lease, l *lease) {
	t.remove(bucketLeases, name.key())
	t.remove(bucketMarks, name.key())
	t.state.bytes -= int64(l.bytes)
	t.touched[name] = nil
}

// findFirst looks for the oldest record, if it has gone.
func (t *txn) findFirst() {
	_, k, v := first(t.tx.Bucket(bucketQueue))
	switch {
	case t.err != nil:
		return
	case k == nil:
		t.state.first = 0
		return
	case sequenceOf(k) == t.state.first:
		return
	}
	if r, err := recordOf(k, v); err != nil {
		t.err = &badValue{bucketQueue, slices.Clone(k), err}
	} else {
		t.state.first, t.state.oldest = r.Key.Sequence, r.Time
	}
}

// beginRun gives the records from here on a new id.
func (t *txn) beginRun() {
	t.rename(t.state.last + 1)
	// Runs that no key is known of any more.
	keep := t.state.counters.Acked
	for _, bucket := range [][]byte{bucketQueue, bucketQuarantine} {
		if _, k, _ := first(t.tx.Bucket(bucket)); k != nil {
			keep = min(keep, sequenceOf(k))
		}
	}
	for len(t.state.runs) > 1 && t.state.runs[1].First <= keep {
		t.remove(bucketRuns, sequenceKey(t.state.runs[0].First))
		t.state.runs = t.state.runs[1:]
	}
}

// rename gives the records from first on a new id.
func (t *txn) rename(first uint64) {
	r := run{First: first, ID: newID(), Boot: t.spool.cfg.BootID}
	n := len(t.state.runs)
	if n > 0 && t.state.runs[n-1].First == first {
		n-- // it has no records
	}
	t.state.runs = append(slices.Clone(t.state.runs[:n]), r)
	t.put(bucketRuns, sequenceKey(first), sealJSON(r))
}

// endRun notes that the spool was closed.
func (t *txn) endRun() {
	n := len(t.state.runs)
	t.state.runs = slices.Clone(t.state.runs)
	t.state.runs[n-1].Closed = true
	t.put(bucketRuns, sequenceKey(t.state.runs[n-1].First), sealJSON(t.state.runs[n-1]))
}

// dropAtMost bounds what goes in one transaction.
const dropAtMost = 16 << 20

// drop makes room: the oldest records go until a tenth of the limit is free, so
// that this is not done for every record. A gap stays for each lease, and one
// for all together.
func (t *txn) drop() {
	limit := t.spool.cfg.Limit
	excess := t.state.bytes - limit + min(limit/10, dropAtMost)
	var old []uint64
	for c, k, v := first(t.tx.Bucket(bucketQueue)); k != nil && excess > 0; k, v = c.Next() {
		old = append(old, sequenceOf(k))
		excess -= int64(size(k, v))
	}
	all := &Record{Kind: KindGap, Time: time.Now()}
	gaps := make(map[Lease]*Record)
	order := []*Record{all}
	for _, n := range old {
		r, _, ok := t.take(Key{t.state.idOf(n), n})
		if !ok {
			return
		}
		all.Lost += r.Lost
		if r.Kind != KindGap {
			all.Lost++
			t.state.counters.Dropped++
		}
		if r.Lease == (Lease{}) {
			continue
		}
		g := gaps[r.Lease]
		if g == nil {
			g = &Record{Kind: KindGap, Time: all.Time, Lease: r.Lease}
			gaps[r.Lease] = g
			order = append(order, g)
		}
		g.Items = append(g.Items, r.Items...)
	}
	for _, g := range order {
		g.Items = ordered(g.Items)
		t.append(newPending(*g))
	}
}

func first(b *bolt.Bucket) (c *bolt.Cursor, k, v []byte) {
	c = b.Cursor()
	k, v = c.First()
	return c, k, v
}
