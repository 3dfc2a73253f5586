package policy

import (
	"hash/maphash"
	"net/netip"
	"sync"
	"time"

	"tfofleet/internal/targets"
)

// maxTracked is for how many addresses attempts are counted at a time: 64 MB at
// most, while a window holds that many. A policy whose rate could reach more
// within its window is not accepted.
const maxTracked = 2 << 20

// budget counts attempts per address. The rule is strict, and needs 16 bytes
// for an address: its count begins anew only when a whole window went by without
// an attempt. So no window whatever holds more attempts than were allowed, at the
// price that who comes back steadily, but slowly, gets less than that.
//
// Addresses are told apart by a 64-bit hash with a random seed. Two that share
// one share a budget.
type budget struct {
	seed   maphash.Seed
	base   time.Time
	shards [64]shard
}

// shard is an open hash table.
type shard struct {
	mu      sync.Mutex
	entries []entry
	used    int   // entries that are not zero, run out or not
	limit   int   // of len(entries), a power of two
	looked  int64 // when a table of full size was last searched for what has run out
}

type entry struct {
	hash uint64 // 0: empty
	// last is when the last attempt was, in ms since base, and count the
	// attempts of this window: 48 and 16 bits.
	packed uint64
}

func (e entry) last() int64 { return int64(e.packed >> 16) }
func (e entry) count() int  { return int(e.packed & 0xffff) }

const (
	maxCount   = 1<<16 - 1
	firstShard = 64 // entries
)

// newBudget counts from base on for so many addresses at least, a power of two.
func newBudget(base time.Time, tracked int) *budget {
	b := &budget{seed: maphash.MakeSeed(), base: base}
	for i := range b.shards {
		b.shards[i].limit = 2 * tracked / len(b.shards) // half full at most
	}
	return b
}

// destination is the address that an attempt burdens.
func destination(addr netip.Addr) netip.Addr {
	addr = addr.WithZone("").Unmap()
	if inner := targets.Embedded(addr); inner.IsValid() {
		return inner
	}
	return addr
}

// take charges an attempt to an address, if it has one left.
func (b *budget) take(addr netip.Addr, a Attempts, now time.Time) bool {
	s, hash, at := b.at(addr, now)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.find(hash, at, a.Window.Milliseconds())
	if e == nil {
		return false
	}
	count := e.spent(hash, at, a)
	if count >= min(a.Number, maxCount) {
		return false
	}
	if e.hash == 0 {
		s.used++
	}
	// A clock that was set back shortens no window.
	last := at
	if e.hash == hash {
		last = max(last, e.last())
	}
	*e = entry{hash, uint64(last)<<16 | uint64(count+1)}
	return true
}

// has reports whether an address has an attempt left, as far as is known, and
// charges nothing.
func (b *budget) has(addr netip.Addr, a Attempts, now time.Time) bool {
	s, hash, at := b.at(addr, now)
	s.mu.Lock()
	defer s.mu.Unlock()
	e := s.probe(hash, at, a.Window.Milliseconds())
	return e == nil || e.spent(hash, at, a) < a.Number
}

// at is where and when an attempt is counted.
func (b *budget) at(addr netip.Addr, now time.Time) (s *shard, hash uint64, at int64) {
	bytes := destination(addr).As16()
	hash = max(1, maphash.Bytes(b.seed, bytes[:]))
	return &b.shards[hash>>58], hash, max(0, now.Sub(b.base).Milliseconds())
}

// spent is how many attempts of this window the entry has for a hash.
func (e *entry) spent(hash uint64, at int64, a Attempts) int {
	if e.hash != hash || at-e.last() > a.Window.Milliseconds() {
		return 0
	}
	return e.count()
}

// find returns the entry of a hash, or one that it may have: nil when there is
// no room.
func (s *shard) find(hash uint64, at, window int64) *entry {
	if 4*(s.used+1) > 3*len(s.entries) && !s.room(at, window) {
		// Full; but it may be there.
		if e := s.probe(hash, at, window); e != nil && e.hash != 0 {
			return e
		}
		return nil
	}
	return s.probe(hash, at, window)
}

// probe returns the entry of a hash, or the first that is free or has run out.
func (s *shard) probe(hash uint64, at, window int64) *entry {
	if len(s.entries) == 0 {
		return nil
	}
	mask := uint64(len(s.entries) - 1)
	var free *entry
	for i := hash & mask; ; i = (i + 1) & mask {
		e := &s.entries[i]
		switch {
		case e.hash == hash:
			return e
		case e.hash == 0 && free != nil:
			return free
		case e.hash == 0:
			return e
		case free == nil && at-e.last() > window:
			free = e
		}
	}
}

// room makes room; false when there is none. The largest table is not searched
// for every attempt.
func (s *shard) room(at, window int64) bool {
	if len(s.entries) == s.limit {
		if at-s.looked < 1000 {
			return false
		}
		s.looked = at
	}
	return s.rebuild(at, window)
}

// rebuild drops what has run out, and grows.
func (s *shard) rebuild(at, window int64) bool {
	old := s.entries
	live := 0
	for _, e := range old {
		if e.hash != 0 && at-e.last() <= window {
			live++
		}
	}
	size := max(firstShard, len(old))
	for 2*(live+1) > size {
		size *= 2
	}
	if size > s.limit {
		if size = s.limit; 4*(live+1) > 3*size {
			return false
		}
	}
	s.entries, s.used = make([]entry, size), live
	mask := uint64(size - 1)
	for _, e := range old {
		if e.hash == 0 || at-e.last() > window {
			continue
		}
		i := e.hash & mask
		for s.entries[i].hash != 0 {
			i = (i + 1) & mask
		}
		s.entries[i] = e
	}
	return true
}
