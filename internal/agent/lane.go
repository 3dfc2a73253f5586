package agent

import (
	"context"
	"sync"
)

// lane bounds how many targets are ahead of the runner: marked as started, or
// about to be, and not begun by it. There are enough of them that the runner does
// not wait for the disk, and not many more, for all of them are in the log of
// contacts, a pause comes too late for them, and a crash interrupts them.
type lane struct {
	most int // whatever the rate

	mu      sync.Mutex
	limit   int
	used    int
	waiting int
	free    chan struct{} // closed when there may be room, if somebody waits
}

// leastAhead is how many targets may be ahead at the lowest rate.
const leastAhead = 8

func newLane(concurrency uint32) *lane {
	n := int(concurrency)/2 + 16
	return &lane{most: n, limit: n, free: make(chan struct{})}
}

// pace takes the rate of new connections per second: what half a second can begin
// may be ahead; 0 is no rate.
func (l *lane) pace(rate float64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.limit = l.most
	if rate > 0 {
		l.limit = min(l.most, max(leastAhead, int(min(rate/2, float64(l.most)))))
	}
	l.wake()
}

// enter takes a place; false when ctx is over.
func (l *lane) enter(ctx context.Context) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.used >= l.limit {
		free := l.free
		l.waiting++
		l.mu.Unlock()
		select {
		case <-free:
		case <-ctx.Done():
		}
		l.mu.Lock()
		l.waiting--
		if ctx.Err() != nil {
			return false
		}
	}
	l.used++
	return true
}

// leave gives a place back.
func (l *lane) leave() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.used--
	l.wake()
}

// wake wakes who waits; it is called with the lock held.
func (l *lane) wake() {
	if l.waiting > 0 && l.used < l.limit {
		close(l.free)
		l.free = make(chan struct{})
	}
}

// size is how many places there are.
func (l *lane) size() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.limit
}
