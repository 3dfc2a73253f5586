package controller

import (
	"context"
	"sync"

	"tfofleet/internal/store"
)

// signal wakes all who wait. Who looks for something takes the channel first
// and looks then: a notice in between is not missed.
type signal struct {
	mu sync.Mutex
	ch chan struct{}
}

// next is closed by the next notify.
func (s *signal) next() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch == nil {
		s.ch = make(chan struct{})
	}
	return s.ch
}

func (s *signal) notify() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ch != nil {
		close(s.ch)
		s.ch = nil
	}
}

// queue holds each chunk once. It is as long as there are chunks to write,
// which are few: a survey has some thousand at the most.
type queue struct {
	added signal
	mu    sync.Mutex
	keys  []store.Key
	has   map[store.Key]bool
}

func (q *queue) put(k store.Key) {
	q.mu.Lock()
	if !q.has[k] {
		if q.has == nil {
			q.has = make(map[store.Key]bool)
		}
		q.has[k] = true
		q.keys = append(q.keys, k)
	}
	q.mu.Unlock()
	q.added.notify()
}

// take waits for a key; false when ctx is over.
func (q *queue) take(ctx context.Context) (store.Key, bool) {
	for {
		added := q.added.next()
		if k, ok := q.try(); ok {
			return k, true
		}
		select {
		case <-added:
		case <-ctx.Done():
			return store.Key{}, false
		}
	}
}

func (q *queue) try() (store.Key, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.keys) == 0 {
		return store.Key{}, false
	}
	k := q.keys[0]
	q.keys = q.keys[1:]
	delete(q.has, k)
	return k, true
}
