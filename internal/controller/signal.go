package controller

import "sync"

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
