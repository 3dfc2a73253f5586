package tfo

import (
	"sync/atomic"
	"time"
)

// pacer hands out start times so that connections leave at an even rate,
// shared by all shards. A slot taken is a slot used: nothing waits inside.
type pacer struct {
	interval atomic.Int64 // ns between slots; 0 = no limit
	next     atomic.Int64 // ns since the clock's base
}

// pacerBurst is how many ns of unused slots may be caught up: without any, a
// loop that is late once stays below the rate for ever.
const pacerBurst = int64(10 * time.Millisecond)

func newPacer(rate float64) *pacer {
	p := &pacer{}
	p.set(rate)
	return p
}

// set changes the rate, and forgets which slots were taken: who waits for one
// takes another. It reports whether that is so.
func (p *pacer) set(rate float64) bool {
	interval := int64(0)
	if rate > 0 {
		interval = int64(min(max(1, float64(time.Second)/rate), float64(time.Hour)))
	}
	if p.interval.Swap(interval) == interval {
		return false
	}
	p.next.Store(0)
	return true
}

// backlog is how far ahead of now the slots are taken, in ns.
func (p *pacer) backlog(now int64) int64 { return p.next.Load() - now }

// slot returns when the next connection may start; never before now.
func (p *pacer) slot(now int64) int64 {
	interval := p.interval.Load()
	if interval == 0 {
		return now
	}
	for {
		old := p.next.Load()
		at := max(old, now-pacerBurst)
		if p.next.CompareAndSwap(old, at+interval) {
			return max(at, now)
		}
	}
}
