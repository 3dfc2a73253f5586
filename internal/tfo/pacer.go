package tfo

import (
	"sync/atomic"
	"time"
)

// pacer hands out start times so that connections leave at an even rate,
// shared by all shards. A slot taken is a slot used: nothing waits inside.
type pacer struct {
	interval int64        // ns between slots; 0 = no limit
	burst    int64        // ns of unused slots that may be caught up
	next     atomic.Int64 // ns since the clock's base
}

func newPacer(rate float64) *pacer {
	if rate <= 0 {
		return &pacer{}
	}
	// 10 ms of slots may be caught up: without any, a loop that is late once
	// stays below the rate for ever.
	return &pacer{interval: max(1, int64(float64(time.Second)/rate)), burst: int64(10 * time.Millisecond)}
}

// backlog is how far ahead of now the slots are taken, in ns.
func (p *pacer) backlog(now int64) int64 { return p.next.Load() - now }

// slot returns when the next connection may start; never before now.
func (p *pacer) slot(now int64) int64 {
	if p.interval == 0 {
		return now
	}
	for {
		old := p.next.Load()
		at := max(old, now-p.burst)
		if p.next.CompareAndSwap(old, at+p.interval) {
			return max(at, now)
		}
	}
}
