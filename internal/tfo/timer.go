package tfo

import (
	"container/heap"
	"math"
	"net/netip"
	"time"
)

// flowTimer is a deadline of a flow, or the rest of an address, or without
// either the time to look for sequences that wait.
type flowTimer struct {
	at    int64 // ns on the shard's clock
	index int   // place in the heap; -1 when not running
	flow  *flow
	line  *line
	addr  netip.Addr
}

// timerHeap holds the running timers of a shard, the earliest first.
type timerHeap []*flowTimer

func (h timerHeap) Len() int           { return len(h) }
func (h timerHeap) Less(i, j int) bool { return h[i].at < h[j].at }
func (h timerHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i]; h[i].index, h[j].index = i, j }
func (h *timerHeap) Push(x any)        { t := x.(*flowTimer); t.index = len(*h); *h = append(*h, t) }
func (h *timerHeap) Pop() any {
	old := *h
	t := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	t.index = -1
	return t
}

// set starts the timer, or moves it.
func (h *timerHeap) set(t *flowTimer, at int64) {
	t.at = at
	if t.index >= 0 {
		heap.Fix(h, t.index)
		return
	}
	heap.Push(h, t)
}

// clear stops the timer if it runs.
func (h *timerHeap) clear(t *flowTimer) {
	if t.index >= 0 {
		heap.Remove(h, t.index)
	}
}

// expired pops a timer whose time has come; nil when there is none.
func (h *timerHeap) expired(now int64) *flowTimer {
	if len(*h) == 0 || (*h)[0].at > now {
		return nil
	}
	return heap.Pop(h).(*flowTimer)
}

// waitMS is how long epoll_wait may sleep: -1 for ever. It rounds up, lest the
// loop spin through the last millisecond.
func (h timerHeap) waitMS(now int64) int {
	if len(h) == 0 {
		return -1
	}
	d := max(0, h[0].at-now)
	return int(min((d+int64(time.Millisecond)-1)/int64(time.Millisecond), math.MaxInt32))
}
